//! SNMP v2c messages in BER: RFC 1901 (message), RFC 3416 (PDUs), RFC 2578 (types).

use twin::Value;

pub const GET: u8 = 0xa0;
pub const GET_NEXT: u8 = 0xa1;
pub const RESPONSE: u8 = 0xa2;
pub const SET: u8 = 0xa3;
pub const GET_BULK: u8 = 0xa5;
pub const INFORM: u8 = 0xa6;
pub const TRAP: u8 = 0xa7;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const IP: u8 = 0x40;
const COUNTER: u8 = 0x41;
const GAUGE: u8 = 0x42;
const TICKS: u8 = 0x43;
const COUNTER64: u8 = 0x46;
const NOTHING: std::ops::RangeInclusive<u8> = 0x80..=0x82; // noSuchObject, noSuchInstance, endOfMibView

/// What an object holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Integer(i64),
    /// Counters, gauges and ticks, with their tag.
    Unsigned(u8, u64),
    Octets(Vec<u8>),
    Oid(Vec<u32>),
    Ip([u8; 4]),
    Null,
    /// There is no such object, or it has no value. At the end of a walk, too.
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub community: Vec<u8>,
    pub pdu: u8,
    pub id: i32,
    /// Error status and index; GETBULK: non-repeaters and repetitions.
    pub status: i32,
    pub index: i32,
    pub binds: Vec<(Vec<u32>, Data)>,
}

pub fn parse_oid(text: &str) -> Option<Vec<u32>> {
    let oid: Option<Vec<u32>> = text.trim_start_matches('.').split('.').map(|p| p.parse().ok()).collect();
    oid.filter(|o| o.len() >= 2 && o.len() <= 128 && o[0] <= 2 && (o[0] == 2 || o[1] < 40))
}

pub fn oid_text(oid: &[u32]) -> String {
    oid.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

impl Data {
    /// As JSON: text where octets are text, else hexadecimal.
    pub fn value(&self) -> Value {
        match self {
            Data::Integer(n) => Value::Int(*n),
            Data::Unsigned(_, n) => i64::try_from(*n).map_or(Value::Float(*n as f64), Value::Int),
            Data::Oid(o) => Value::Text(oid_text(o)),
            Data::Ip(b) => Value::Text(format!("{}.{}.{}.{}", b[0], b[1], b[2], b[3])),
            Data::Null | Data::Nothing => Value::Null,
            Data::Octets(b) => {
                let b = b.strip_suffix(&[0]).unwrap_or(b);
                match std::str::from_utf8(b) {
                    Ok(s) if !s.chars().any(|c| c.is_control() && !c.is_whitespace()) => Value::Text(s.into()),
                    _ => Value::Text(b.iter().map(|x| format!("{:02x}", x)).collect::<Vec<_>>().join(":")),
                }
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Data::Integer(n) => integer(INTEGER, *n, out),
            Data::Unsigned(tag, n) => {
                let mut b = vec![0];
                b.extend(n.to_be_bytes());
                let skip = b.windows(2).take_while(|w| w[0] == 0 && w[1] < 0x80).count();
                tlv(*tag, &b[skip..], out);
            }
            Data::Octets(b) => tlv(OCTETS, b, out),
            Data::Oid(o) => write_oid(o, out),
            Data::Ip(b) => tlv(IP, b, out),
            Data::Null | Data::Nothing => tlv(NULL, &[], out),
        }
    }
}

/// Data of a type that a setting or an action names.
pub fn data_of(kind: &str, v: &Value) -> Option<Data> {
    let number = v.as_i64();
    Some(match kind {
        "text" => Data::Octets(v.as_str()?.as_bytes().to_vec()),
        "hex" => {
            let digits: Option<Vec<u8>> = v.as_str()?.split(':').map(|d| u8::from_str_radix(d, 16).ok()).collect();
            Data::Octets(digits?)
        }
        "oid" => Data::Oid(parse_oid(v.as_str()?)?),
        "ip" => {
            let parts: Vec<u8> = v.as_str()?.split('.').map(|d| d.parse().ok()).collect::<Option<_>>()?;
            Data::Ip(parts.try_into().ok()?)
        }
        "gauge" => Data::Unsigned(GAUGE, u32::try_from(number?).ok()? as u64),
        "ticks" => Data::Unsigned(TICKS, u32::try_from(number?).ok()? as u64),
        _ => Data::Integer(i32::try_from(number?).ok()? as i64),
    })
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut binds = Vec::new();
        for (oid, data) in &self.binds {
            let mut bind = Vec::new();
            write_oid(oid, &mut bind);
            data.write(&mut bind);
            tlv(SEQUENCE, &bind, &mut binds);
        }
        let mut pdu = Vec::new();
        for n in [self.id, self.status, self.index] {
            integer(INTEGER, n as i64, &mut pdu);
        }
        tlv(SEQUENCE, &binds, &mut pdu);
        let mut body = Vec::new();
        integer(INTEGER, 1, &mut body); // version 2c
        tlv(OCTETS, &self.community, &mut body);
        tlv(self.pdu, &pdu, &mut body);
        let mut out = Vec::new();
        tlv(SEQUENCE, &body, &mut out);
        out
    }

    /// None where it is no message of SNMP v2c.
    pub fn parse(b: &[u8]) -> Option<Message> {
        let mut all = Reader(b);
        let mut body = Reader(all.expect(SEQUENCE)?);
        if body.integer()? != 1 {
            return None;
        }
        let community = body.expect(OCTETS)?.to_vec();
        let (tag, content) = body.next()?;
        if !(GET..=0xa8).contains(&tag) || tag == 0xa4 {
            return None;
        }
        let mut pdu = Reader(content);
        let mut number = || pdu.integer().and_then(|n| i32::try_from(n).ok());
        let (id, status, index) = (number()?, number()?, number()?);
        let mut list = Reader(pdu.expect(SEQUENCE)?);
        let mut binds = Vec::new();
        while !list.0.is_empty() {
            let mut bind = Reader(list.expect(SEQUENCE)?);
            let oid = read_oid(bind.expect(OID)?)?;
            let (tag, content) = bind.next()?;
            binds.push((oid, data(tag, content)?));
        }
        Some(Message { community, pdu: tag, id, status, index, binds })
    }
}

fn data(tag: u8, b: &[u8]) -> Option<Data> {
    Some(match tag {
        INTEGER => Data::Integer(signed(b)?),
        OCTETS | 0x44 => Data::Octets(b.to_vec()),
        NULL => Data::Null,
        OID => Data::Oid(read_oid(b)?),
        IP => Data::Ip(b.try_into().ok()?),
        COUNTER | GAUGE | TICKS | COUNTER64 => Data::Unsigned(tag, unsigned(b)?),
        t if NOTHING.contains(&t) => Data::Nothing,
        _ => return None,
    })
}

fn tlv(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    match content.len() {
        n @ 0..=127 => out.push(n as u8),
        n @ 128..=255 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
}

fn integer(tag: u8, n: i64, out: &mut Vec<u8>) {
    let b = n.to_be_bytes();
    let skip = b.windows(2).take_while(|w| w[0] == 0 && w[1] < 0x80 || w[0] == 0xff && w[1] >= 0x80).count();
    tlv(tag, &b[skip..], out);
}

fn signed(b: &[u8]) -> Option<i64> {
    if b.is_empty() || b.len() > 8 {
        return None;
    }
    Some(b[1..].iter().fold(b[0] as i8 as i64, |n, x| n << 8 | *x as i64))
}

fn unsigned(b: &[u8]) -> Option<u64> {
    if b.is_empty() || b.len() > 9 || b.len() == 9 && b[0] != 0 {
        return None;
    }
    Some(b.iter().fold(0, |n, x| n << 8 | *x as u64))
}

fn write_oid(oid: &[u32], out: &mut Vec<u8>) {
    let mut b = Vec::new();
    let first = oid[0] * 40 + oid[1];
    for part in std::iter::once(first).chain(oid[2..].iter().copied()) {
        let digits = (0..5).rev().map(|i| (part >> (7 * i)) as u8 & 0x7f).skip_while(|d| *d == 0).collect::<Vec<_>>();
        let digits = if digits.is_empty() { vec![0] } else { digits };
        for (i, d) in digits.iter().enumerate() {
            b.push(if i + 1 < digits.len() { d | 0x80 } else { *d });
        }
    }
    tlv(OID, &b, out);
}

fn read_oid(b: &[u8]) -> Option<Vec<u32>> {
    let mut out: Vec<u32> = Vec::new();
    let mut part: u64 = 0;
    for x in b {
        part = part << 7 | (*x & 0x7f) as u64;
        if part > u32::MAX as u64 {
            return None;
        }
        if x & 0x80 == 0 {
            let n = part as u32;
            if out.is_empty() {
                let top = (n / 40).min(2);
                out.extend([top, n - top * 40]);
            } else {
                out.push(n);
            }
            part = 0;
        }
    }
    if out.is_empty() || b.last()? & 0x80 != 0 || out.len() > 128 {
        return None;
    }
    Some(out)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, first) = (*self.0.first()?, *self.0.get(1)?);
        let (head, len) = match first {
            0..=127 => (2, first as usize),
            0x81 => (3, *self.0.get(2)? as usize),
            0x82 => (4, (*self.0.get(2)? as usize) << 8 | *self.0.get(3)? as usize),
            _ => return None,
        };
        let content = self.0.get(head..head + len)?;
        self.0 = &self.0[head + len..];
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|t| t.0 == tag).map(|t| t.1)
    }

    fn integer(&mut self) -> Option<i64> {
        signed(self.expect(INTEGER)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_as_net_snmp_sends_it() {
        let m = Message {
            community: b"public".to_vec(),
            pdu: GET,
            id: 0x1234_5678,
            status: 0,
            index: 0,
            binds: vec![(parse_oid(".1.3.6.1.2.1.1.5.0").unwrap(), Data::Null)],
        };
        let b = m.encode();
        assert_eq!(b[..13], [0x30, 0x29, 2, 1, 1, 4, 6, b'p', b'u', b'b', b'l', b'i', b'c']);
        assert_eq!(b[13..], [0xa0, 0x1c, 2, 4, 0x12, 0x34, 0x56, 0x78, 2, 1, 0, 2, 1, 0, 0x30, 0x0e, 0x30, 0x0c, 6, 8, 0x2b, 6, 1, 2, 1, 1, 5, 0, 5, 0]);
        assert_eq!(Message::parse(&b), Some(m));
        for n in 0..b.len() {
            assert_eq!(Message::parse(&b[..n]), None);
        }
    }

    #[test]
    fn values_come_back() {
        for d in [Data::Integer(-129), Data::Integer(0), Data::Unsigned(COUNTER64, u64::MAX), Data::Unsigned(GAUGE, 128),
            Data::Oid(vec![1, 3, 6, 1, 4, 1, 4_294_967_295]), Data::Ip([10, 0, 0, 1]), Data::Octets(vec![7; 300])] {
            let m = Message { community: vec![], pdu: RESPONSE, id: -5, status: 0, index: 0, binds: vec![(vec![2, 100, 3], d)] };
            assert_eq!(Message::parse(&m.encode()), Some(m));
        }
    }
}
