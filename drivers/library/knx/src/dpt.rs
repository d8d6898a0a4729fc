//! Datapoint types: what the bytes of a telegram mean. KNX standard 03.07.02 "Datapoint Types".

use twin::Value;

/// The bytes of a telegram. What is no longer than 6 bits travels in the byte of the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    pub bytes: Vec<u8>,
    pub short: bool,
}

/// The JSON type of a property of this datapoint type; None where the type is not known.
pub fn kind(dpt: &str) -> Option<&'static str> {
    match main(dpt)? {
        1 => Some("boolean"),
        2 | 5..=9 | 12..=14 | 17 | 18 | 20 => Some("number"),
        16 | 232 => Some("string"),
        _ => None,
    }
}

fn main(dpt: &str) -> Option<u32> {
    dpt.split('.').next()?.parse().ok()
}

fn number(b: &[u8], signed: bool) -> f64 {
    let n = b.iter().fold(0u32, |n, x| n << 8 | *x as u32);
    let bits = 32 - 8 * b.len() as u32;
    if signed {
        ((n << bits) as i32 >> bits) as f64
    } else {
        n as f64
    }
}

/// How many bytes a type has; 0: it is short.
fn size(dpt: &str) -> usize {
    match main(dpt) {
        Some(1 | 2) => 0,
        Some(5 | 6 | 17 | 18 | 20) => 1,
        Some(7..=9) => 2,
        Some(232) => 3,
        Some(12..=14) => 4,
        Some(16) => 14,
        _ => usize::MAX,
    }
}

/// None where the payload is none of this type.
pub fn decode(dpt: &str, p: &Payload) -> Option<Value> {
    let b = &p.bytes;
    if p.short != (size(dpt) == 0) || !p.short && b.len() != size(dpt) {
        return None;
    }
    let v = match main(dpt)? {
        1 => return Some(Value::Bool(b[0] & 1 == 1)),
        2 => (b[0] & 3) as f64,
        5 if dpt == "5.001" => (b[0] as f64 * 1000.0 / 255.0).round() / 10.0,
        5 if dpt == "5.003" => (b[0] as f64 * 3600.0 / 255.0).round() / 10.0,
        17 | 18 => (b[0] & 0x3f) as f64,
        5 | 20 | 7 | 12 => number(b, false),
        6 | 8 | 13 => number(b, true),
        9 => {
            if b[..] == [0x7f, 0xff] {
                return Some(Value::Null);
            }
            let mantissa = ((b[0] as i32 & 0x80) << 4 | (b[0] as i32 & 7) << 8 | b[1] as i32) << 20 >> 20;
            let v = mantissa as f64 * (1u32 << (b[0] >> 3 & 15)) as f64;
            (v / 100.0 * 100.0).round() / 100.0
        }
        14 => f32::from_bits(number(b, false) as u32).to_string().parse().ok().filter(|v: &f64| v.is_finite())?,
        16 => return Some(Value::Text(b.iter().take_while(|c| **c != 0).map(|c| *c as char).collect())),
        232 => return Some(Value::Text(format!("#{:02x}{:02x}{:02x}", b[0], b[1], b[2]))),
        _ => return None,
    };
    Some(Value::Float(v))
}

/// None where the value does not fit the type.
pub fn encode(dpt: &str, v: &Value) -> Option<Payload> {
    let long = |bytes: Vec<u8>| Some(Payload { bytes, short: false });
    let within = |low: f64, high: f64| v.as_f64().map(f64::round).filter(|n| *n >= low && *n <= high);
    match main(dpt)? {
        1 => Some(Payload { bytes: vec![v.as_bool()? as u8], short: true }),
        2 => Some(Payload { bytes: vec![within(0.0, 3.0)? as u8], short: true }),
        5 if dpt == "5.001" => long(vec![(within(0.0, 100.0).and(v.as_f64())? * 2.55).round() as u8]),
        5 if dpt == "5.003" => long(vec![(within(0.0, 360.0).and(v.as_f64())? * 255.0 / 360.0).round() as u8]),
        5 | 20 => long(vec![within(0.0, 255.0)? as u8]),
        17 | 18 => long(vec![within(0.0, 63.0)? as u8]),
        6 => long(vec![within(-128.0, 127.0)? as i8 as u8]),
        7 => long((within(0.0, 65535.0)? as u16).to_be_bytes().to_vec()),
        8 => long((within(-32768.0, 32767.0)? as i16).to_be_bytes().to_vec()),
        9 => {
            let mut n = within(-671_088.0, 670_760.0).and(v.as_f64())? * 100.0;
            let mut exponent = 0;
            while n.round() > 2047.0 || n.round() < -2048.0 {
                n /= 2.0;
                exponent += 1;
            }
            let m = n.round() as i32;
            long(vec![(m >> 4 & 0x80) as u8 | exponent << 3 | (m >> 8 & 7) as u8, m as u8])
        }
        12 => long((within(0.0, u32::MAX as f64)? as u32).to_be_bytes().to_vec()),
        13 => long((within(i32::MIN as f64, i32::MAX as f64)? as i32).to_be_bytes().to_vec()),
        14 => long((v.as_f64()? as f32).to_bits().to_be_bytes().to_vec()),
        16 => {
            let mut b: Vec<u8> = v.as_str()?.chars().map(|c| u8::try_from(c as u32).ok()).collect::<Option<_>>()?;
            if b.len() > 14 {
                return None;
            }
            b.resize(14, 0);
            long(b)
        }
        232 => {
            let n = u32::from_str_radix(v.as_str()?.strip_prefix('#').filter(|s| s.len() == 6)?, 16).ok()?;
            long(n.to_be_bytes()[1..].to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_standard() {
        let long = |b: &[u8]| Payload { bytes: b.to_vec(), short: false };
        // 03.07.02, chapter 3.10: 01 of a switch; 3.5: 5.001; 3.9: 9.001 with -30.00 as 8a 24, 21.00 as 0c 1a.
        for (dpt, v, p) in [
            ("1.001", Value::Bool(true), Payload { bytes: vec![1], short: true }),
            ("5.001", Value::Float(100.0), long(&[255])),
            ("9.001", Value::Float(-30.0), long(&[0x8a, 0x24])),
            ("9.001", Value::Float(21.0), long(&[0x0c, 0x1a])),
            ("8.001", Value::Float(-2.0), long(&[0xff, 0xfe])),
            ("14.056", Value::Float(1.5), long(&[0x3f, 0xc0, 0, 0])),
            ("232.600", Value::Text("#ff8000".into()), long(&[255, 128, 0])),
        ] {
            assert_eq!(encode(dpt, &v), Some(p.clone()), "{}", dpt);
            assert_eq!(decode(dpt, &p), Some(v), "{}", dpt);
        }
        assert_eq!(decode("9.001", &long(&[1])), None);
        assert_eq!(encode("5.001", &Value::Float(101.0)), None);
    }
}
