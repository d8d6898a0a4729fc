/// Declares a struct that is read from JSON and written as JSON, and has a JSON Schema: for settings, memory, inputs and
/// outputs of actions, data of events.
///
/// A member is `name: Type`, then `= literal` where it has a default, then `=> { … }` with more of JSON Schema. A member of
/// type Option may be absent. A doc comment becomes the title.
///
/// ```ignore
/// twin::record! {
///     pub struct Boost {
///         /// For how long
///         minutes: u32 => { "minimum": 1, "maximum": 120 },
///     }
/// }
/// ```
#[macro_export]
macro_rules! record {
    ($(#[doc = $doc:literal])* $vis:vis struct $name:ident {
        $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty $(= $default:literal)? $(=> { $($more:tt)* })?),* $(,)?
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $fdoc])* pub $field: $ty),*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $crate::record!(@default $ty $(, $default)?)),* }
            }
        }

        impl $crate::ToJson for $name {
            fn write(&self, out: &mut String) {
                out.push('{');
                let mut _first = true;
                $(
                    if !_first {
                        out.push(',');
                    }
                    _first = false;
                    out.push_str(concat!("\"", stringify!($field), "\":"));
                    $crate::ToJson::write(&self.$field, out);
                )*
                out.push('}');
            }
        }

        impl $crate::FromJson for $name {
            fn from_json(v: &$crate::Value) -> std::result::Result<Self, String> {
                if !matches!(v, $crate::Value::Object(_)) {
                    return Err(format!(": {} is no object", v.kind()));
                }
                Ok($name { $($field: $crate::record!(@read v, $field, $ty $(, $default)?)),* })
            }
        }

        impl $crate::schema::Schema for $name {
            const MEMBERS: &'static str = {
                const PARTS: &[&str] = &[
                    "\"type\":\"object\",\"additionalProperties\":false,\"required\":[",
                    $($crate::schema::COMMA, $crate::record!(@required $field, $ty $(, $default)?),)*
                    "],\"properties\":{",
                    $(
                        $crate::schema::COMMA, concat!("\"", stringify!($field), "\":{"),
                        <$ty as $crate::schema::Schema>::MEMBERS,
                        $crate::schema::COMMA, $crate::record!(@title $($fdoc)*),
                        $crate::schema::DOC, concat!($($fdoc),*), $crate::record!(@quote $($fdoc)*),
                        $($crate::schema::COMMA, stringify!($($more)*),)?
                        $($crate::schema::COMMA, concat!("\"default\":", stringify!($default)),)?
                        "}",
                    )*
                    "}",
                ];
                const N: usize = $crate::schema::total(PARTS);
                const TEXT: [u8; N] = $crate::schema::join::<N>(PARTS);
                $crate::schema::text(&TEXT)
            };
        }
    };
    (@default $ty:ty) => { <$ty as Default>::default() };
    (@default $ty:ty, $default:literal) => { <$ty as $crate::schema::Literal<_>>::literal($default) };
    (@read $v:ident, $field:ident, $ty:ty) => {
        <$ty as $crate::FromJson>::from_json($v.get(stringify!($field))).map_err(|e| format!(concat!("/", stringify!($field), "{}"), e))?
    };
    (@read $v:ident, $field:ident, $ty:ty, $default:literal) => {
        if $v.get(stringify!($field)).is_null() {
            $crate::record!(@default $ty, $default)
        } else {
            $crate::record!(@read $v, $field, $ty)
        }
    };
    (@required $field:ident, $ty:ty) => {
        if <$ty as $crate::schema::Schema>::OPTIONAL { "" } else { concat!("\"", stringify!($field), "\"") }
    };
    (@required $field:ident, $ty:ty, $default:literal) => { "" };
    (@title) => { "" };
    (@title $($doc:literal)+) => { "\"title\":\"" };
    (@quote) => { "" };
    (@quote $($doc:literal)+) => { "\"" };
}

/// Makes a type that implements [`Driver`](crate::Driver) the driver of this module: its manifest, its commands, `drv_handle`.
///
/// `manifest` holds members of the manifest as they are; `contract`, `model` and `settings` are made. A property is
/// `name: Type { more of its schema } = setter;`, read only where it has no setter; a setter is a
/// `fn(&mut Twin<D>, Type) -> Result<Reply>`. An action is `name(Input) -> Output { more } = function;`, an event `name(Data);`.
/// Doc comments become titles.
#[macro_export]
macro_rules! driver {
    ($driver:ident,
        manifest { $($head:tt)* }
        properties { $($(#[doc = $pdoc:literal])* $property:ident : $pty:ty { $($pmore:tt)* } $(= $setter:expr)?;)* }
        actions { $($(#[doc = $adoc:literal])* $action:ident ($in:ty) -> $out:ty { $($amore:tt)* } = $run:expr;)* }
        events { $($(#[doc = $edoc:literal])* $event:ident ($data:ty);)* }
    ) => {
        impl $crate::Table for $driver {
            fn action(_t: &mut $crate::Twin<Self>, name: &str, _input: &$crate::Value)
                -> Option<$crate::Result<$crate::Reply<String>>> {
                match name {
                    $(stringify!($action) => {
                        let run: fn(&mut $crate::Twin<$driver>, $in) -> $crate::Result<$crate::Reply<$out>> = $run;
                        Some($crate::input_of::<$in>(concat!(stringify!($action), ": input"), _input)
                            .and_then(|v| run(_t, v)).map($crate::Reply::erased))
                    })*
                    _ => None,
                }
            }

            fn set(_t: &mut $crate::Twin<Self>, name: &str, _value: &$crate::Value)
                -> Option<$crate::Result<$crate::Reply<String>>> {
                $($(if name == stringify!($property) {
                    let set: fn(&mut $crate::Twin<$driver>, $pty) -> $crate::Result<$crate::Reply> = $setter;
                    return Some($crate::input_of::<$pty>(concat!(stringify!($property), ": value"), _value)
                        .and_then(|v| set(_t, v)).map($crate::Reply::erased));
                })?)*
                let _ = name;
                None
            }
        }

        const MANIFEST_PARTS: &[&str] = &[
            "{\"contract\":\"twin1\"", $crate::schema::COMMA, stringify!($($head)*),
            ",\"model\":{\"@context\":\"https://www.w3.org/2022/wot/td/v1.1\",\"@type\":\"tm:ThingModel\",\"properties\":{",
            $(
                $crate::schema::COMMA, concat!("\"", stringify!($property), "\":{"),
                <$pty as $crate::schema::Schema>::MEMBERS,
                $crate::schema::COMMA, $crate::record!(@title $($pdoc)*),
                $crate::schema::DOC, concat!($($pdoc),*), $crate::record!(@quote $($pdoc)*),
                $crate::schema::COMMA, stringify!($($pmore)*),
                $crate::schema::COMMA, $crate::driver!(@readonly $($setter)?),
                "}",
            )*
            "},\"actions\":{",
            $(
                $crate::schema::COMMA, concat!("\"", stringify!($action), "\":{"),
                $crate::record!(@title $($adoc)*), $crate::schema::DOC, concat!($($adoc),*), $crate::record!(@quote $($adoc)*),
                $crate::schema::COMMA, stringify!($($amore)*),
                $crate::schema::COMMA, <$in as $crate::schema::Schema>::INPUT,
                <$in as $crate::schema::Schema>::MEMBERS, <$in as $crate::schema::Schema>::END,
                $crate::schema::COMMA, <$out as $crate::schema::Schema>::OUTPUT,
                <$out as $crate::schema::Schema>::MEMBERS, <$out as $crate::schema::Schema>::END,
                "}",
            )*
            "},\"events\":{",
            $(
                $crate::schema::COMMA, concat!("\"", stringify!($event), "\":{"),
                $crate::record!(@title $($edoc)*), $crate::schema::DOC, concat!($($edoc),*), $crate::record!(@quote $($edoc)*),
                $crate::schema::COMMA, <$data as $crate::schema::Schema>::DATA,
                <$data as $crate::schema::Schema>::MEMBERS, <$data as $crate::schema::Schema>::END,
                "}",
            )*
            "}}",
            <<$driver as $crate::Driver>::Settings as $crate::schema::Schema>::SETTINGS,
            <<$driver as $crate::Driver>::Settings as $crate::schema::Schema>::MEMBERS,
            <<$driver as $crate::Driver>::Settings as $crate::schema::Schema>::END,
            "}",
        ];
        const MANIFEST_BYTES: usize = $crate::schema::total(MANIFEST_PARTS);

        /// What the driver says of itself, in the module's section of that name.
        #[cfg_attr(target_arch = "wasm32", link_section = "driver.manifest")]
        #[used]
        pub static MANIFEST: [u8; MANIFEST_BYTES] = $crate::schema::join::<MANIFEST_BYTES>(MANIFEST_PARTS);

        #[no_mangle]
        pub extern "C" fn drv_handle(event: i32, len: i32) -> i32 {
            $crate::handle::<$driver>(event, len)
        }
    };
    (@readonly) => { "\"readOnly\":true" };
    (@readonly $setter:expr) => { "" };
}
