// A guest that crashes somewhere below its export, for the tests of what a crash shows.
mod room {
    #[inline(never)]
    pub fn share(whole: u32, list: &[u32]) -> u32 {
        let n = list.len();
        whole + list[n + whole as usize] // innermost
    }

    #[inline(never)]
    pub fn deeper(n: u32) -> u32 {
        let list: Vec<u32> = (0..n).collect();
        share(n, &list) + 1 // next
    }
}

#[no_mangle]
pub extern "C" fn crash(n: u32) -> u32 {
    room::deeper(n) + 1 // outermost
}
