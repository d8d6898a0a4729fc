// A guest for the tests of the metering, with Rust's collections, formatting, closures and panics.
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

static mut INPUT: Vec<u8> = Vec::new();
static mut OUTPUT: Vec<u8> = Vec::new();

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }
}

#[derive(Default)]
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 { self.0 }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes { self.0 = (self.0 ^ *b as u64).wrapping_mul(0x100000001b3); }
    }
}

#[no_mangle]
pub unsafe extern "C" fn alloc(n: u32) -> *mut u8 {
    INPUT.resize(n as usize, 0);
    INPUT.as_mut_ptr()
}

#[no_mangle]
pub extern "C" fn tight(n: u32) -> u32 {
    let mut x = 1u32;
    for i in 0..n { x = x.wrapping_mul(1664525).wrapping_add(1013904223) ^ i; }
    x
}

#[no_mangle]
pub extern "C" fn recurse(n: u32) -> u32 {
    let mut frame = [0u32; 16];
    unsafe { core::ptr::write_volatile(frame.as_mut_ptr(), n) };
    if n == 0 { return 0; }
    recurse(n - 1) + frame[0] - n + 1
}

fn words(r: &mut Random, n: u32) -> u64 {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..n { *count.entry(format!("w{:03x}", r.next() % 64)).or_default() += 1; }
    let mut list: Vec<_> = count.into_iter().collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    list.iter().take(5).fold(0, |sum, (w, n)| sum * 31 + w.len() as u64 + *n as u64)
}

fn hashed(r: &mut Random, n: u32) -> u64 {
    let mut m: HashMap<u32, f64, BuildHasherDefault<Fnv>> = HashMap::default();
    for _ in 0..n { *m.entry(r.next() % 50).or_insert(0.5) += 1.25; }
    let mut sum = 0.0;
    for i in 0..50 { sum += m.get(&i).copied().unwrap_or(-1.0).sqrt().max(0.0); }
    (sum * 1000.0) as u64
}

fn closures(r: &mut Random) -> u64 {
    let k = r.next() as u64;
    let list: Vec<Box<dyn Fn(u64) -> u64>> = vec![
        Box::new(move |v| v ^ k), Box::new(|v| v.rotate_left(9)), Box::new(move |v| v / (k | 1)),
        Box::new(|v| (0..v % 7).map(|i| i * i).sum()),
    ];
    list.iter().fold(r.next() as u64, |v, f| f(v))
}

fn bytes(r: &mut Random) -> u64 {
    let size = (r.next() % 300_000) as usize;
    let mut v = vec![(size % 251) as u8; size + 1000];
    v.copy_within(0..size, 777);
    v.copy_within(333..size + 333, 0);
    v.iter().step_by(101).fold(0, |s: u64, b| s.wrapping_mul(31).wrapping_add(*b as u64))
}

#[no_mangle]
pub extern "C" fn mix(seed: u32, n: u32) -> u64 {
    let mut r = Random(seed as u64);
    let mut sum = seed as u64;
    for _ in 0..n {
        let v = r.next();
        sum = match v % 9 {
            0 => sum.wrapping_add(words(&mut r, v % 100)),
            1 => sum ^ hashed(&mut r, v % 100),
            2 => sum.wrapping_add(closures(&mut r)),
            3 => sum.wrapping_add(bytes(&mut r)),
            4 => sum.wrapping_add(tight(v % 500) as u64),
            5 => sum.wrapping_add(recurse(v % 100) as u64),
            6 => { if v % 5003 == 0 { panic!("to order") } sum }
            7 => match format!("{}.{}", v % 100, v % 10).parse::<f64>() { Ok(f) => sum.wrapping_add(f.to_bits()), Err(_) => 0 },
            _ => sum.rotate_left(7).wrapping_add(v as u64),
        }
    }
    sum
}

fn member<'a>(s: &'a str, name: &str) -> &'a str {
    let key = format!("\"{}\":", name);
    let rest = match s.find(&key) { Some(i) => &s[i + key.len()..], None => return "null" };
    match rest.strip_prefix('"') {
        Some(text) => &rest[..text.find('"').unwrap() + 2],
        None => &rest[..rest.find(|c| c == ',' || c == '}').unwrap()],
    }
}

#[no_mangle]
pub unsafe extern "C" fn handle(p: *const u8, n: u32) -> u64 {
    let s = std::str::from_utf8(std::slice::from_raw_parts(p, n as usize)).unwrap();
    let level: i32 = member(s, "level").parse().unwrap();
    OUTPUT = format!("{{\"ok\":true,\"id\":{},\"zone\":{},\"level\":{},\"source\":{},\"trace\":{}}}",
        member(s, "id"), member(s, "zone"), level + 1, member(s, "source"), member(s, "trace")).into_bytes();
    (OUTPUT.as_ptr() as u64) << 32 | OUTPUT.len() as u64
}
