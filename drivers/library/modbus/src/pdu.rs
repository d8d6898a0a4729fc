//! Frames of Modbus TCP: number of the request, protocol 0, length, unit, function, data; all big-endian.

use crate::map::Kind;
use twin::Error;

/// What a device answered. Bits are 0 or 1.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub number: u16,
    pub unit: u8,
    pub values: Option<Vec<u16>>,
    pub exception: Option<u8>,
}

pub fn frame(number: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut out = number.to_be_bytes().to_vec();
    out.extend([0, 0]);
    out.extend((pdu.len() as u16 + 1).to_be_bytes());
    out.push(unit);
    out.extend(pdu);
    out
}

pub fn read(kind: Kind, address: u16, count: u16) -> Vec<u8> {
    let mut out = vec![kind.function()];
    out.extend(address.to_be_bytes());
    out.extend(count.to_be_bytes());
    out
}

/// Functions 5, 6, 15 and 16; one value goes by 5 or 6 unless `multiple`.
pub fn write(kind: Kind, address: u16, values: &[u16], multiple: bool) -> Vec<u8> {
    let coils = kind == Kind::Coil;
    let mut out = Vec::new();
    if values.len() == 1 && !multiple {
        out.push(if coils { 5 } else { 6 });
        out.extend(address.to_be_bytes());
        out.extend(if coils { values[0].min(1) * 0xff00 } else { values[0] }.to_be_bytes());
        return out;
    }
    out.push(if coils { 15 } else { 16 });
    out.extend(address.to_be_bytes());
    out.extend((values.len() as u16).to_be_bytes());
    if coils {
        let bytes: Vec<u8> =
            values.chunks(8).map(|c| c.iter().enumerate().fold(0, |b, (i, v)| b | (v.min(&1) << i) as u8)).collect();
        out.push(bytes.len() as u8);
        out.extend(bytes);
    } else {
        out.push(values.len() as u8 * 2);
        values.iter().for_each(|v| out.extend(v.to_be_bytes()));
    }
    out
}

/// None where it is no answer of Modbus TCP.
pub fn parse(b: &[u8]) -> Option<Answer> {
    if b.len() < 9 || b[2..4] != [0, 0] || u16::from_be_bytes([b[4], b[5]]) as usize != b.len() - 6 {
        return None;
    }
    let mut a = Answer { number: u16::from_be_bytes([b[0], b[1]]), unit: b[6], values: None, exception: None };
    let (function, data) = (b[7], &b[8..]);
    match function {
        1..=4 => {
            let bytes = data.get(1..1 + data[0] as usize)?;
            a.values = Some(if function < 3 {
                bytes.iter().flat_map(|b| (0..8).map(move |i| (b >> i & 1) as u16)).collect()
            } else {
                bytes.chunks_exact(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect()
            });
        }
        5 | 6 | 15 | 16 => {}
        129..=255 => a.exception = Some(data[0]),
        _ => return None,
    }
    Some(a)
}

/// Reads an answer to a scan: ADDRESS:PORT, a zero byte, the frame.
pub fn with_peer(b: &[u8]) -> Option<(&str, Answer)> {
    let zero = b.iter().position(|c| *c == 0)?;
    let peer = std::str::from_utf8(&b[..zero]).ok().filter(|p| p.contains(':'))?;
    Some((peer, parse(&b[zero + 1..])?))
}

/// Exception codes, Application Protocol V1.1b3, chapter 7.
pub fn refusal(code: u8) -> Error {
    let text = match code {
        1 => "the device does not know this function",
        2 => "the device has no such address",
        3 => "the device does not take this value",
        4 => "the device failed",
        5 => "the device needs more time",
        6 => "the device is busy",
        8 => "the device found a parity error in its memory",
        10 => "the gateway has no path to the device",
        11 => "the device behind the gateway does not answer",
        _ => "the device refuses",
    };
    Error::new(code.max(1) as i32, text).retryable(matches!(code, 5 | 6 | 10 | 11))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Application Protocol V1.1b3: the examples of 6.3 (page 15), 6.1 (page 12), 6.5 (page 17), 6.6 (page 19), 6.11 (page 29), 6.12 (page 31).
    #[test]
    fn examples_of_the_specification() {
        assert_eq!(read(Kind::Holding, 107, 3), [0x03, 0x00, 0x6b, 0x00, 0x03]);
        let a = parse(&frame(1, 1, &[0x03, 0x06, 0x02, 0x2b, 0x00, 0x00, 0x00, 0x64])).unwrap();
        assert_eq!(a.values, Some(vec![0x022b, 0, 0x64]));
        assert_eq!(read(Kind::Coil, 19, 19), [0x01, 0x00, 0x13, 0x00, 0x13]);
        let a = parse(&frame(1, 1, &[0x01, 0x03, 0xcd, 0x6b, 0x05])).unwrap();
        assert_eq!(&a.values.unwrap()[..8], [1, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!(write(Kind::Coil, 172, &[1], false), [0x05, 0x00, 0xac, 0xff, 0x00]);
        assert_eq!(write(Kind::Holding, 1, &[3], false), [0x06, 0x00, 0x01, 0x00, 0x03]);
        let bits = [1, 0, 1, 1, 0, 0, 1, 1, 1, 0];
        assert_eq!(write(Kind::Coil, 19, &bits, false), [0x0f, 0x00, 0x13, 0x00, 0x0a, 0x02, 0xcd, 0x01]);
        assert_eq!(write(Kind::Holding, 1, &[10, 0x0102], false), [0x10, 0, 1, 0, 2, 4, 0, 10, 1, 2]);
    }

    #[test]
    fn garbage_is_no_answer() {
        let exception = frame(7, 1, &[0x83, 2]);
        assert_eq!(parse(&exception).unwrap().exception, Some(2));
        for n in 0..exception.len() {
            assert_eq!(parse(&exception[..n]), None);
        }
        assert_eq!(parse(&frame(7, 1, &[3, 200, 1])), None);
        assert_eq!(with_peer(&exception), None);
        let mut found = b"10.0.0.7:502\0".to_vec();
        found.extend(&exception);
        assert_eq!(with_peer(&found).unwrap().0, "10.0.0.7:502");
    }
}
