//! Modbus TCP: a device whose registers and coils are named by the twin's settings. See README.md.
//!
//! Protocol: "MODBUS Application Protocol Specification V1.1b3" and "MODBUS Messaging on TCP/IP Implementation Guide V1.0b",
//! modbus.org.

mod map;
mod pdu;

use map::{Block, Register};
use pdu::Answer;
use twin::{Discovery, Driver, Error, Refusal, Reply, Result, ToJson, Value};

twin::record! {
    pub struct Settings {
        /// Unit identifier
        unit: u8 = 1,
        /// Seconds between two looks
        poll_s: u32 = 10 => { "minimum": 1, "maximum": 86400 },
        /// Write single registers by function 16 as well
        write_multiple: bool = false,
        /// What the device has
        registers: Vec<Register> => {
            "maxItems": 200, "default": [],
            "items": {
                "type": "object", "additionalProperties": false, "required": ["name", "address"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"},
                    "title": {"type": "string", "maxLength": 100, "default": ""},
                    "kind": {"enum": ["holding", "input", "coil", "discrete"], "default": "holding"},
                    "address": {"type": "integer", "minimum": 0, "maximum": 65535, "description": "as it goes over the wire: 40001 of a manual is 0"},
                    "format": {"enum": ["u16", "i16", "u32", "i32", "f32", "u64", "i64", "f64", "bit"], "default": "u16"},
                    "bit": {"type": "integer", "minimum": 0, "maximum": 15, "default": 0},
                    "words": {"enum": ["big", "little"], "default": "big", "description": "which word of a long value comes first"},
                    "scale": {"type": "number", "default": 1},
                    "offset": {"type": "number", "default": 0},
                    "unit": {"type": "string", "maxLength": 32, "default": ""},
                    "writable": {"type": "boolean", "default": false}
                }
            }
        },
    }
}

twin::record! {
    pub struct Memory {
        /// What was described, so that it can be taken back
        described: Vec<String>,
        /// Number of the request for a block that is not answered yet; 0: none
        asked: u16 = 0,
        /// The block that it is for
        block: u32 = 0,
        /// Requests so far
        count: u16 = 0,
        /// Looks in a row that were not answered
        silent: u32 = 0,
        /// The command that waits for the device: its request, its property or empty for an action, its value as JSON
        waits: u16 = 0,
        waits_for: String = "",
        value: String = "",
    }
}

twin::record! {
    pub struct Read {
        kind: String = "holding" => { "enum": ["holding", "input", "coil", "discrete"] },
        address: u16,
        count: u16 = 1 => { "minimum": 1, "maximum": 125 },
    }
}

twin::record! {
    pub struct Write {
        kind: String = "holding" => { "enum": ["holding", "coil"] },
        address: u16,
        /// Registers, or 0 and 1 for coils
        values: Vec<u16> => { "items": {"type": "integer", "minimum": 0, "maximum": 65535}, "minItems": 1, "maxItems": 100 },
    }
}

pub struct Modbus;
pub type Twin = twin::Twin<Modbus>;

twin::driver! {
    Modbus,
    manifest {
        "name": "modbus",
        "version": "1.0.0",
        "title": "Modbus TCP",
        "description": "Meters, drives, controllers: registers and coils become properties by the twin's settings.",
        "memory_mb": 4,
        "capabilities": ["send", "state_get", "state_set", "schedule", "log", "setting", "describe", "discover", "connection"],
        "transport": {"scheme": "tcp", "default_port": 502, "tokenizer": {"length_bytes": 2, "length_offset": 4, "max_frame": 512}},
        "scan": {"over": "tcp", "port": 502, "tokenizer": {"length_bytes": 2, "length_offset": 4, "max_frame": 512},
            "options": {"type": "object", "additionalProperties": false, "properties": {
                "units": {"type": "array", "maxItems": 32, "items": {"type": "integer", "minimum": 0, "maximum": 255}}}}}
    }
    properties {}
    actions {
        /// Read registers or coils as they are
        read(Read) -> Value { "safe": true } = |t, r| {
            let kind = map::kind(&r.kind);
            command(t, "", "", &pdu::read(kind, r.address, r.count))
        };
        /// Write registers or coils as they are
        write(Write) -> () {} = |t, w| {
            command(t, "", "", &pdu::write(map::kind(&w.kind), w.address, &w.values, true))
        };
    }
    events {}
}

impl Driver for Modbus {
    type Settings = Settings;
    type Memory = Memory;

    fn load(t: &mut Twin, _: &str) -> Result {
        let s = t.settings();
        let names: Vec<String> = s.registers.iter().map(|r| r.name.clone()).collect();
        let gone: Vec<String> = t.memory().described.iter().filter(|n| !names.contains(n)).cloned().collect();
        let mut parts: Vec<String> = s.registers.iter().map(|r| format!("{}:{}", r.name.json(), r.schema())).collect();
        parts.extend(gone.iter().map(|n| format!("{}:null", n.json())));
        if !parts.is_empty() {
            t.describe(&format!("{{\"properties\":{{{}}}}}", parts.join(",")))?;
        }
        t.memory().described = names;
        t.every("poll", s.poll_s as u64 * 1000, &())
    }

    fn connected(t: &mut Twin) -> Result {
        let m = t.memory();
        m.asked = 0;
        m.silent = 0;
        look(t)
    }

    fn timer(t: &mut Twin, _: &str, _: &Value) -> Result {
        match look(t) {
            Err(e) if e.is(Refusal::Disconnected) => Ok(()),
            other => other,
        }
    }

    fn received(t: &mut Twin, frame: &[u8]) -> Result {
        if let Some((peer, answer)) = pdu::with_peer(frame) {
            return found(t, peer, answer.unit);
        }
        let m = t.memory();
        match pdu::parse(frame) {
            Some(a) if a.number == m.asked && a.number != 0 => block_answered(t, &a),
            Some(_) => Ok(()), // late: nobody waits for it any more
            None => {
                t.log("warn", "the device sent what is no answer of Modbus TCP");
                Ok(())
            }
        }
    }

    fn answer(t: &mut Twin, frame: &[u8]) -> Result<Reply<String>> {
        let a = match pdu::parse(frame) {
            Some(a) if a.number == t.memory().waits => a,
            _ => {
                Self::received(t, frame)?;
                return Ok(Reply::Pending);
            }
        };
        let m = t.memory();
        m.waits = 0;
        let (property, value) = (std::mem::take(&mut m.waits_for), std::mem::take(&mut m.value));
        if let Some(code) = a.exception {
            return Err(pdu::refusal(code));
        }
        if property.is_empty() {
            return Ok(Reply::Done(a.values.map_or("null".into(), |v| v.json())));
        }
        t.report(&property, &Value::parse(value.as_bytes()).unwrap_or(Value::Null));
        Ok(Reply::Done(String::new()))
    }

    fn write(t: &mut Twin, property: &str, value: &Value) -> Option<Result<Reply>> {
        let s = t.settings();
        let r = s.registers.iter().find(|r| r.name == property && r.writes())?;
        let words = match r.encode(value) {
            Ok(words) => words,
            Err(why) => return Some(Err(Error::new(20, format!("{}: {}", property, why)))),
        };
        let request = pdu::write(r.kind(), r.address, &words, s.write_multiple);
        Some(command(t, property, &value.json(), &request))
    }

    /// Any answer, an exception too, shows that something at that address speaks Modbus.
    fn scan(t: &mut Twin, _: u64, options: &Value) -> Result {
        let units = match options.get("units") {
            Value::List(l) if !l.is_empty() => l.iter().filter_map(Value::as_i64).map(|u| u as u8).collect(),
            _ => vec![1u8],
        };
        for unit in units {
            let mut frame = vec![0];
            frame.extend(pdu::frame(unit as u16 + 1, unit, &pdu::read(map::Kind::Holding, 0, 1)));
            t.send(&frame)?;
        }
        Ok(())
    }
}

/// Begins a look at all registers, unless one goes on.
fn look(t: &mut Twin) -> Result {
    let m = t.memory();
    if m.asked != 0 {
        m.silent += 1;
        if m.silent >= 3 {
            m.asked = 0;
            m.silent = 0;
            t.log("warn", "the device has not answered for three looks; dialling again");
            return t.connection("close");
        }
    }
    ask(t, 0)
}

/// Asks for a block; behind the last one the look is over.
fn ask(t: &mut Twin, index: u32) -> Result {
    let s = t.settings();
    let blocks = map::blocks(&s.registers);
    let number = match blocks.get(index as usize) {
        Some(b) => send(t, &pdu::read(b.kind, b.from, b.count))?,
        None => 0,
    };
    let m = t.memory();
    m.asked = number;
    m.block = index;
    Ok(())
}

fn send(t: &mut Twin, request: &[u8]) -> Result<u16> {
    let s = t.settings();
    let m = t.memory();
    m.count = if m.count == u16::MAX { 1 } else { m.count + 1 };
    let number = m.count;
    t.send(&pdu::frame(number, s.unit, request))?;
    Ok(number)
}

fn command<T>(t: &mut Twin, property: &str, value: &str, request: &[u8]) -> Result<Reply<T>> {
    let number = send(t, request)?;
    let m = t.memory();
    m.waits = number;
    m.waits_for = property.into();
    m.value = value.into();
    Ok(Reply::Pending)
}

fn block_answered(t: &mut Twin, a: &Answer) -> Result {
    let s = t.settings();
    let m = t.memory();
    let index = m.block;
    m.silent = 0;
    if let Some(b) = map::blocks(&s.registers).get(index as usize) {
        take(t, &s.registers, b, a);
    }
    ask(t, index + 1)
}

fn take(t: &mut Twin, registers: &[Register], b: &Block, a: &Answer) {
    if let Some(code) = a.exception {
        let why = pdu::refusal(code).message;
        t.log("warn", &format!("{} {} to {}: {}", b.kind.name(), b.from, b.from + (b.count - 1), why));
    }
    for i in &b.members {
        let r = &registers[*i];
        let v = a.values.as_ref().and_then(|values| r.decode(values, b.from));
        t.report(&r.name, &v);
    }
}

/// A device that answered a scan.
fn found(t: &mut Twin, peer: &str, unit: u8) -> Result {
    let settings = format!("{{\"unit\":{}}}", unit);
    let uri = format!("tcp://{}", peer);
    let value = format!("{}#{}", uri, unit);
    let name = format!("Modbus unit {} at {}", unit, peer);
    t.discover(&Discovery { network: "modbus", key: "address", value: &value, name: &name, driver: "modbus", uri: &uri, settings: &settings })
}
