//! The imports of the contract. Each is imported only where a driver uses it: the linker drops the others.

/// A capability's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not within what the manifest or the twin's binding allows.
    Denied,
    Timeout,
    Disconnected,
    TooLarge,
    /// Over a limit of this call or of this twin.
    RateLimited,
    /// The request was malformed.
    Invalid,
}

impl Refusal {
    fn of(code: i32) -> Refusal {
        match code {
            -2 => Refusal::Timeout,
            -3 => Refusal::Disconnected,
            -4 => Refusal::TooLarge,
            -5 => Refusal::RateLimited,
            -6 => Refusal::Invalid,
            _ => Refusal::Denied,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Refusal::Denied => "denied",
            Refusal::Timeout => "timeout",
            Refusal::Disconnected => "not connected",
            Refusal::TooLarge => "too large",
            Refusal::RateLimited => "over a limit",
            Refusal::Invalid => "invalid request",
        }
    }
}

macro_rules! capabilities {
    ($($name:ident)*) => {
        #[cfg(target_arch = "wasm32")]
        mod raw {
            #[link(wasm_import_module = "twin1")]
            extern "C" {
                pub fn input(to: *mut u8);
                pub fn output(from: *const u8, len: usize);
                pub fn reply(to: *mut u8);
                $(pub fn $name(from: *const u8, len: usize) -> i32;)*
            }
        }
        /// Outside of the sandbox there is no host: everything is denied, so that a driver's own functions can be tested.
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(clippy::missing_safety_doc)]
        mod raw {
            pub unsafe fn input(_: *mut u8) {}
            pub unsafe fn output(_: *const u8, _: usize) {}
            pub unsafe fn reply(_: *mut u8) {}
            $(pub unsafe fn $name(_: *const u8, _: usize) -> i32 { -1 })*
        }
        $(
            /// The answer's length, or the refusal.
            pub fn $name(request: &[u8]) -> Result<usize, Refusal> {
                let code = unsafe { raw::$name(request.as_ptr(), request.len()) };
                if code < 0 { Err(Refusal::of(code)) } else { Ok(code as usize) }
            }
        )*
    };
}

capabilities! { send request publish http call subscribe connection state_get state_set schedule emit log setting describe discover }

/// Pulls the answer of the last capability.
pub fn reply(len: usize) -> Vec<u8> {
    let mut b = vec![0; len];
    unsafe { raw::reply(b.as_mut_ptr()) };
    b
}

/// Pulls the event's input.
pub fn input(len: usize) -> Vec<u8> {
    let mut b = vec![0; len];
    unsafe { raw::input(b.as_mut_ptr()) };
    b
}

/// Sets the call's output.
pub fn output(b: &[u8]) {
    unsafe { raw::output(b.as_ptr(), b.len()) };
}
