//! What settings, memory and commands hold, and what an object of the settings means.

use crate::ber::{data_of, Data};
use twin::{ToJson, Value};

twin::record! {
    pub struct Settings {
        /// Community that may read
        community: String = "public" => { "writeOnly": true, "maxLength": 64 },
        /// Community that may write; empty: the same
        write_community: String = "" => { "writeOnly": true, "maxLength": 64 },
        /// Seconds between two looks; 0: none, traps only
        poll_s: u32 = 60 => { "minimum": 0, "maximum": 86400 },
        /// What the device has
        objects: Vec<Object> => {
            "maxItems": 200, "default": [],
            "items": {
                "type": "object", "additionalProperties": false, "required": ["name", "oid"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"},
                    "title": {"type": "string", "maxLength": 100, "default": ""},
                    "oid": {"type": "string", "pattern": "^\\.?[0-2](\\.[0-9]+)+$", "description": "of the instance: most end with .0, or with an index"},
                    "format": {"enum": ["number", "text", "hex", "oid", "ip", "boolean"], "default": "number"},
                    "is_true": {"type": "integer", "default": 1, "description": "the number that means true"},
                    "is_false": {"type": "integer", "default": 2, "description": "what is written for false"},
                    "scale": {"type": "number", "default": 1},
                    "unit": {"type": "string", "maxLength": 32, "default": ""},
                    "writable": {"type": "boolean", "default": false},
                    "writes": {"enum": ["integer", "gauge", "ticks"], "default": "integer", "description": "the type of numbers that are written"}
                }
            }
        },
    }
}

twin::record! {
    /// One object that a device has.
    pub struct Object {
        name: String,
        title: String = "",
        oid: String,
        format: String = "number",
        is_true: i64 = 1,
        is_false: i64 = 2,
        scale: f64 = 1.0,
        unit: String = "",
        writable: bool = false,
        writes: String = "integer",
    }
}

twin::record! {
    pub struct Memory {
        described: Vec<String>,
        /// Requests so far; each has its number
        count: i32 = 0,
        /// The request of the look that goes on, and which one of it; 0: none
        asked: i32 = 0,
        part: u32 = 0,
        silent: u32 = 0,
        /// The command that waits: its request, what it is, its property and value
        waits: i32 = 0,
        what: String = "",
        property: String = "",
        value: String = "",
        /// Where a walk began, what is left of its limit, what it has found
        root: String = "",
        left: u32 = 0,
        found: Vec<Bind>,
    }
}

twin::record! {
    /// An object with its value.
    pub struct Bind { oid: String, value: Value }
}

twin::record! {
    pub struct Get {
        oids: Vec<String> => { "items": {"type": "string"}, "minItems": 1, "maxItems": 20 },
    }
}

twin::record! {
    pub struct Walk {
        oid: String,
        /// No more than so many
        max: u32 = 100 => { "minimum": 1, "maximum": 300 },
    }
}

twin::record! {
    pub struct Set {
        oid: String,
        format: String = "integer" => { "enum": ["integer", "gauge", "ticks", "text", "hex", "oid", "ip"] },
        value: Value,
    }
}

twin::record! {
    pub struct Trap {
        /// Which trap
        oid: String,
        /// Seconds since the device started
        uptime_s: f64,
        values: Vec<Bind> => { "items": {"type": "object"} },
    }
}

impl Object {
    pub fn schema(&self) -> String {
        let kind = match self.format.as_str() {
            "number" => "number",
            "boolean" => "boolean",
            _ => "string",
        };
        let title = if self.title.is_empty() { &self.name } else { &self.title };
        let mut out = format!("{{\"type\":\"{}\",\"title\":{}", kind, title.json());
        if !self.unit.is_empty() {
            out.push_str(&format!(",\"unit\":{}", self.unit.json()));
        }
        out.push_str(if self.writable { ",\"readOnly\":false}" } else { ",\"readOnly\":true}" });
        out
    }

    /// What a device's data means; null where it is of another kind.
    pub fn value(&self, data: &Data) -> Value {
        let v = data.value();
        match self.format.as_str() {
            "number" => {
                // Many devices give numbers with a point as text.
                let n = v.as_f64().or_else(|| v.as_str()?.trim().parse().ok().filter(|n: &f64| n.is_finite()));
                n.map_or(Value::Null, |n| Value::Float((n * self.scale * 1e9).round() / 1e9))
            }
            "boolean" => v.as_i64().map_or(Value::Null, |n| Value::Bool(n == self.is_true)),
            "hex" => match data {
                Data::Octets(b) => Value::Text(b.iter().map(|x| format!("{:02x}", x)).collect::<Vec<_>>().join(":")),
                _ => Value::Null,
            },
            _ if v.is_null() => Value::Null,
            _ => Value::Text(v.as_str().map_or_else(|| v.json(), String::from)),
        }
    }

    pub fn data(&self, v: &Value) -> Option<Data> {
        match self.format.as_str() {
            "number" => data_of(&self.writes, &Value::Int((v.as_f64()? / self.scale).round() as i64)),
            "boolean" => Some(Data::Integer(if v.as_bool()? { self.is_true } else { self.is_false })),
            other => data_of(other, v),
        }
    }
}
