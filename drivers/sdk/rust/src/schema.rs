//! Schemas of types, put together by the compiler.

/// The JSON Schema of a type, without its braces.
pub trait Schema {
    const MEMBERS: &'static str;
    /// What begins and ends the schema where it stands for an input, an output, the data of an event; nothing for ().
    const INPUT: &'static str = "\"input\":{";
    const OUTPUT: &'static str = "\"output\":{";
    const DATA: &'static str = "\"data\":{";
    const END: &'static str = "}";
    /// What begins it in a manifest.
    const SETTINGS: &'static str = ",\"settings\":{";
    /// A member of this type may be absent.
    const OPTIONAL: bool = false;
}

macro_rules! schemas {
    ($($t:ty: $members:literal;)*) => {$(
        impl Schema for $t {
            const MEMBERS: &'static str = $members;
        }
    )*};
}
schemas! {
    bool: "\"type\":\"boolean\"";
    f64: "\"type\":\"number\"";
    String: "\"type\":\"string\"";
    i8: "\"type\":\"integer\"";
    i16: "\"type\":\"integer\"";
    i32: "\"type\":\"integer\"";
    i64: "\"type\":\"integer\"";
    u8: "\"type\":\"integer\",\"minimum\":0,\"maximum\":255";
    u16: "\"type\":\"integer\",\"minimum\":0,\"maximum\":65535";
    u32: "\"type\":\"integer\"";
    u64: "\"type\":\"integer\"";
    crate::Value: "";
}

impl Schema for () {
    const MEMBERS: &'static str = "";
    const INPUT: &'static str = "";
    const OUTPUT: &'static str = "";
    const DATA: &'static str = "";
    const END: &'static str = "";
    const SETTINGS: &'static str = "";
}

impl<T: Schema> Schema for Option<T> {
    const MEMBERS: &'static str = T::MEMBERS;
    const OPTIONAL: bool = true;
}

/// What is in it is said by the member's own `items`.
impl<T> Schema for Vec<T> {
    const MEMBERS: &'static str = "\"type\":\"array\"";
    const OPTIONAL: bool = true;
}

/// The part before a doc comment: the comment becomes a JSON string's inside, without its first space.
pub const DOC: &str = "\u{1}";
/// The part before what is left out where the one before it ended with an opening brace or began nothing: a comma.
pub const COMMA: &str = "\u{2}";

/// Runs through the parts byte by byte: `$put` is run for each byte of the text, with its position.
macro_rules! weave {
    ($parts:ident, $n:ident, $byte:ident, $put:block) => {{
        let (mut $n, mut i, mut doc, mut comma, mut last) = (0, 0, false, false, b'{');
        while i < $parts.len() {
            let b = $parts[i].as_bytes();
            i += 1;
            if b.len() == 1 && (b[0] == 1 || b[0] == 2) {
                doc = b[0] == 1;
                comma = comma || b[0] == 2;
                continue;
            }
            let mut j = if doc && b.len() > 0 && b[0] == b' ' { 1 } else { 0 };
            while j < b.len() {
                if comma && last != b'{' && last != b'[' && b[j] != b'}' && b[j] != b']' {
                    let $byte = b',';
                    $put;
                    $n += 1;
                }
                comma = false;
                if doc && (b[j] == b'"' || b[j] == b'\\') {
                    let $byte = b'\\';
                    $put;
                    $n += 1;
                }
                last = b[j];
                let $byte = last;
                $put;
                $n += 1;
                j += 1;
            }
            doc = false;
        }
        $n
    }};
}

/// The length of the parts put together.
pub const fn total(parts: &[&str]) -> usize {
    weave!(parts, n, byte, {
        let _ = byte;
    })
}

/// The parts put together.
pub const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut out = [0; N];
    let _ = weave!(parts, n, byte, {
        out[n] = byte;
    });
    out
}

/// Text that join made.
pub const fn text(b: &'static [u8]) -> &'static str {
    // Parts are text, and only ASCII was put between them.
    unsafe { std::str::from_utf8_unchecked(b) }
}

/// What a literal in a record stands for.
pub trait Literal<L> {
    fn literal(l: L) -> Self;
}

impl Literal<&str> for String {
    fn literal(l: &str) -> String {
        l.into()
    }
}

macro_rules! literals {
    ($($t:ty)*) => {$(
        impl Literal<$t> for $t {
            fn literal(l: $t) -> $t {
                l
            }
        }
    )*};
}
literals! { bool f64 i8 i16 i32 i64 u8 u16 u32 u64 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_docs() {
        const PARTS: &[&str] = &["{", COMMA, "\"a\":1", COMMA, "", COMMA, "\"t\":\"", DOC, " say \"x\"", "\"", COMMA, "}"];
        const N: usize = total(PARTS);
        assert_eq!(std::str::from_utf8(&join::<N>(PARTS)), Ok(r#"{"a":1,"t":"say \"x\""}"#));
    }
}
