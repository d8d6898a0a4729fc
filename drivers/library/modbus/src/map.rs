//! What the registers of the settings mean.

use twin::{ToJson, Value};

twin::record! {
    /// One thing that a device has.
    pub struct Register {
        name: String,
        title: String = "",
        kind: String = "holding",
        address: u16,
        format: String = "u16",
        bit: u8 = 0,
        words: String = "big",
        scale: f64 = 1.0,
        offset: f64 = 0.0,
        unit: String = "",
        writable: bool = false,
    }
}

/// The four tables of Modbus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Coil,
    Discrete,
    Holding,
    Input,
}

pub fn kind(name: &str) -> Kind {
    match name {
        "coil" => Kind::Coil,
        "discrete" => Kind::Discrete,
        "input" => Kind::Input,
        _ => Kind::Holding,
    }
}

impl Kind {
    /// The function that reads it.
    pub fn function(self) -> u8 {
        match self {
            Kind::Coil => 1,
            Kind::Discrete => 2,
            Kind::Holding => 3,
            Kind::Input => 4,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Coil => "coil",
            Kind::Discrete => "discrete",
            Kind::Holding => "holding",
            Kind::Input => "input",
        }
    }

    pub fn bits(self) -> bool {
        matches!(self, Kind::Coil | Kind::Discrete)
    }
}

impl Register {
    pub fn kind(&self) -> Kind {
        kind(&self.kind)
    }

    fn boolean(&self) -> bool {
        self.kind().bits() || self.format == "bit"
    }

    /// How many registers it takes.
    fn size(&self) -> u16 {
        match self.format.as_str() {
            _ if self.boolean() => 1,
            "u32" | "i32" | "f32" => 2,
            "u64" | "i64" | "f64" => 4,
            _ => 1,
        }
    }

    /// A bit of a register cannot be written: that would write its other bits too.
    pub fn writes(&self) -> bool {
        self.writable && (self.kind() == Kind::Coil || self.kind() == Kind::Holding && self.format != "bit")
    }

    /// Its part of the model.
    pub fn schema(&self) -> String {
        let title = if self.title.is_empty() { &self.name } else { &self.title };
        let mut out = format!("{{\"type\":\"{}\",\"title\":{}", if self.boolean() { "boolean" } else { "number" }, title.json());
        if !self.unit.is_empty() {
            out.push_str(&format!(",\"unit\":{}", self.unit.json()));
        }
        out.push_str(if self.writes() { ",\"readOnly\":false}" } else { ",\"readOnly\":true}" });
        out
    }

    /// Its value in what was read from `from` on.
    pub fn decode(&self, values: &[u16], from: u16) -> Option<Value> {
        let at = self.address.checked_sub(from)? as usize;
        let words = values.get(at..at + self.size() as usize)?;
        if self.boolean() {
            let bit = if self.kind().bits() { 0 } else { self.bit & 15 };
            return Some(Value::Bool(words[0] >> bit & 1 == 1));
        }
        let raw = self.ordered(words).iter().fold(0u64, |n, w| n << 16 | *w as u64);
        let v = match self.format.as_str() {
            "i16" => raw as i16 as f64,
            "i32" => raw as i32 as f64,
            "i64" => raw as i64 as f64,
            "f32" => f32::from_bits(raw as u32).to_string().parse().ok()?,
            "f64" => f64::from_bits(raw),
            _ => raw as f64,
        };
        let v = v * self.scale + self.offset;
        // 213 times 0.1 is 21.3, not 21.300000000000001.
        Some(Value::Float(if v.abs() < 1e6 { (v * 1e9).round() / 1e9 } else { v }))
    }

    /// The registers that say a value, or why there are none.
    pub fn encode(&self, v: &Value) -> Result<Vec<u16>, String> {
        if self.boolean() {
            return v.as_bool().map(|on| vec![on as u16]).ok_or_else(|| "not true or false".into());
        }
        let v = (v.as_f64().ok_or("not a number")? - self.offset) / self.scale;
        let whole = |low: f64, high: f64| {
            let n = v.round();
            if n.is_finite() && n >= low && n <= high {
                Ok(n)
            } else {
                Err(format!("{} does not fit into {}", v, self.format))
            }
        };
        let raw = match self.format.as_str() {
            "i16" => whole(-32768.0, 32767.0)? as i16 as u16 as u64,
            "u32" => whole(0.0, u32::MAX as f64)? as u64,
            "i32" => whole(i32::MIN as f64, i32::MAX as f64)? as i32 as u32 as u64,
            "u64" => whole(0.0, 9e15)? as u64,
            "i64" => whole(-9e15, 9e15)? as i64 as u64,
            "f32" => (v as f32).to_bits() as u64,
            "f64" => v.to_bits(),
            _ => whole(0.0, 65535.0)? as u64,
        };
        let size = self.size();
        let words: Vec<u16> = (0..size).rev().map(|i| (raw >> (16 * i)) as u16).collect();
        Ok(self.ordered(&words))
    }

    fn ordered(&self, words: &[u16]) -> Vec<u16> {
        let mut out = words.to_vec();
        if self.words == "little" {
            out.reverse();
        }
        out
    }
}

/// What is read by one request.
#[derive(Debug, PartialEq)]
pub struct Block {
    pub kind: Kind,
    pub from: u16,
    pub count: u16,
    /// Which of the registers are in it.
    pub members: Vec<usize>,
}

/// Registers that nobody asked for are read along, rather than asking twice, up to so many.
const GAP: u32 = 8;

/// Puts registers together into as few requests as the protocol allows: 125 registers or 2,000 bits each.
pub fn blocks(registers: &[Register]) -> Vec<Block> {
    let mut order: Vec<usize> = (0..registers.len()).collect();
    order.sort_by_key(|i| (registers[*i].kind(), registers[*i].address));
    let mut out: Vec<Block> = Vec::new();
    for i in order {
        let r = &registers[i];
        let (from, end) = (r.address as u32, r.address as u32 + r.size() as u32);
        if end > 65536 {
            continue;
        }
        let most = if r.kind().bits() { 2000 } else { 125 };
        if let Some(b) = out.last_mut() {
            let b_end = b.from as u32 + b.count as u32;
            let grown = end.max(b_end) - b.from as u32;
            if b.kind == r.kind() && from <= b_end + GAP && grown <= most {
                b.count = grown as u16;
                b.members.push(i);
                continue;
            }
        }
        out.push(Block { kind: r.kind(), from: r.address, count: r.size(), members: vec![i] });
    }
    out
}
