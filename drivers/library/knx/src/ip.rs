//! KNXnet/IP frames and the telegrams in them. KNX standard 03.08.02 (core), 03.08.04 (tunnelling), 03.06.03 (cEMI).

use crate::dpt::Payload;

pub const SEARCH: u16 = 0x0201;
pub const SEARCH_ANSWER: u16 = 0x0202;
pub const CONNECT: u16 = 0x0205;
pub const CONNECT_ANSWER: u16 = 0x0206;
pub const ALIVE: u16 = 0x0207;
pub const ALIVE_ANSWER: u16 = 0x0208;
pub const DISCONNECT: u16 = 0x0209;
pub const DISCONNECT_ANSWER: u16 = 0x020a;
pub const TUNNEL: u16 = 0x0420;
pub const ACK: u16 = 0x0421;

/// The endpoint that means: answer to where this came from. It works through address translation, too.
pub const HERE: [u8; 8] = [8, 1, 0, 0, 0, 0, 0, 0];

pub fn frame(service: u16, parts: &[&[u8]]) -> Vec<u8> {
    let length = 6 + parts.iter().map(|p| p.len()).sum::<usize>();
    let mut out = vec![6, 0x10, (service >> 8) as u8, service as u8, (length >> 8) as u8, length as u8];
    parts.iter().for_each(|p| out.extend(*p));
    out
}

/// The service and what is behind the header.
pub fn parse(b: &[u8]) -> Option<(u16, &[u8])> {
    if b.len() < 6 || b[0] != 6 || b[1] != 0x10 || (b[4] as usize) << 8 | b[5] as usize != b.len() {
        return None;
    }
    Some(((b[2] as u16) << 8 | b[3] as u16, &b[6..]))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Service {
    Read,
    Response,
    Write,
}

/// A telegram of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Telegram {
    /// 0x11 to be sent, 0x29 heard, 0x2e sent (or, with failed, not).
    pub code: u8,
    pub failed: bool,
    pub from: u16,
    pub to: u16,
    pub service: Service,
    pub payload: Payload,
}

/// A telegram to a group, to be sent.
pub fn telegram(to: u16, service: Service, p: &Payload) -> Vec<u8> {
    let apci = match service {
        Service::Read => 0,
        Service::Response => 0x40,
        Service::Write => 0x80,
    };
    let extra: &[u8] = if p.short { &[] } else { &p.bytes };
    let short = if p.short { p.bytes[0] & 0x3f } else { 0 };
    let mut out = vec![0x11, 0, 0xbc, 0xe0, 0, 0, (to >> 8) as u8, to as u8, extra.len() as u8 + 1, 0, apci | short];
    out.extend(extra);
    out
}

/// None where it is no telegram of a group's value.
pub fn parse_telegram(b: &[u8]) -> Option<Telegram> {
    let code = *b.first()?;
    let b = b.get(2 + *b.get(1)? as usize..)?;
    if !matches!(code, 0x11 | 0x29 | 0x2e) || b.len() < 9 || b[1] & 0x80 == 0 || b.len() != 8 + b[6] as usize {
        return None;
    }
    let service = match (b[7] & 3, b[8] & 0xc0) {
        (0, 0) => Service::Read,
        (0, 0x40) => Service::Response,
        (0, 0x80) => Service::Write,
        _ => return None,
    };
    let payload = match b.len() {
        9 => Payload { bytes: vec![b[8] & 0x3f], short: true },
        _ => Payload { bytes: b[9..].to_vec(), short: false },
    };
    let word = |i: usize| (b[i] as u16) << 8 | b[i + 1] as u16;
    Some(Telegram { code, failed: code == 0x2e && b[0] & 1 == 1, from: word(2), to: word(4), service, payload })
}

/// Reads 1/2/3, 1/515 or 2563.
pub fn group(text: &str) -> Option<u16> {
    let parts: Vec<u16> = text.split('/').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    match parts[..] {
        [a, b, c] if a < 32 && b < 8 && c < 256 => Some(a << 11 | b << 8 | c),
        [a, b] if a < 32 && b < 2048 => Some(a << 11 | b),
        [a] if a > 0 => Some(a),
        _ => None,
    }
}

pub fn group_text(a: u16) -> String {
    format!("{}/{}/{}", a >> 11, a >> 8 & 7, a & 255)
}

pub fn individual_text(a: u16) -> String {
    format!("{}.{}.{}", a >> 12, a >> 8 & 15, a & 255)
}

/// What a device says of itself in the answer to a search: its address as IP:PORT, its name, its serial number.
pub fn searched(b: &[u8]) -> Option<(String, String, String)> {
    if b.len() < 8 + 54 || b[0] != 8 || b[8] < 54 || b[9] != 1 {
        return None;
    }
    let address = format!("{}.{}.{}.{}:{}", b[2], b[3], b[4], b[5], (b[6] as u16) << 8 | b[7] as u16);
    let device = &b[8..];
    let name: String = device[24..54].iter().take_while(|c| **c != 0).map(|c| *c as char).collect();
    let serial = device[8..14].iter().map(|x| format!("{:02x}", x)).collect();
    Some((address, name, serial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_standard() {
        let connect = frame(CONNECT, &[&HERE, &HERE, &[4, 4, 2, 0]]);
        assert_eq!(connect[..6], [6, 0x10, 2, 5, 0, 0x1a]);
        assert_eq!(parse(&connect).map(|p| p.0), Some(CONNECT));
        for n in 0..connect.len() {
            assert_eq!(parse(&connect[..n]), None);
        }
        let on = telegram(group("1/2/3").unwrap(), Service::Write, &Payload { bytes: vec![1], short: true });
        assert_eq!(on, [0x11, 0, 0xbc, 0xe0, 0, 0, 0x0a, 0x03, 1, 0, 0x81]);
        let t = parse_telegram(&on).unwrap();
        assert_eq!((t.to, t.service, t.payload.bytes[0]), (0x0a03, Service::Write, 1));
        let warm = telegram(group("31/7/255").unwrap(), Service::Write, &Payload { bytes: vec![0x0c, 0x1a], short: false });
        assert_eq!(parse_telegram(&warm).unwrap().payload.bytes, [0x0c, 0x1a]);
        for n in 0..warm.len() {
            assert_eq!(parse_telegram(&warm[..n]), None);
        }
        assert_eq!(group_text(group("1/515").unwrap()), "1/2/3");
        assert_eq!(group("32/0/0"), None);
    }
}
