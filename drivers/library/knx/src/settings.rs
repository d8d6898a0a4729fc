//! What settings, memory and commands hold, and what a group of the settings is.

use crate::dpt;
use twin::{ToJson, Value};

twin::record! {
    pub struct Settings {
        /// The groups that matter
        groups: Vec<Group> => {
            "maxItems": 400, "default": [],
            "items": {
                "type": "object", "additionalProperties": false, "required": ["name", "address"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"},
                    "title": {"type": "string", "maxLength": 100, "default": ""},
                    "address": {"type": "string", "pattern": "^[0-9]+(/[0-9]+){0,2}$", "description": "where its value is told"},
                    "send": {"type": "string", "pattern": "^([0-9]+(/[0-9]+){0,2})?$", "default": "", "description": "where it is set; empty: at its address"},
                    "dpt": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$", "default": "1.001"},
                    "unit": {"type": "string", "maxLength": 32, "default": ""},
                    "writable": {"type": "boolean", "default": false},
                    "read": {"type": "boolean", "default": true, "description": "ask for it when the tunnel is open"}
                }
            }
        },
        /// Every telegram becomes an event
        monitor: bool = false,
    }
}

twin::record! {
    pub struct Group {
        name: String,
        title: String = "",
        address: String,
        send: String = "",
        dpt: String = "1.001",
        unit: String = "",
        writable: bool = false,
        read: bool = true,
    }
}

twin::record! {
    pub struct Memory {
        described: Vec<String>,
        /// The tunnel; 0: none
        channel: u8 = 0,
        /// Numbers of the next request to the gateway, and of the next one from it
        sends: u8 = 0,
        hears: u8 = 0,
        /// Telegrams that wait to be sent, hexadecimal; the first is on its way
        queue: Vec<String>,
        tries: u8 = 0,
        /// Heartbeats in a row that were not answered
        silent: u8 = 0,
        /// The command that waits: for the confirmation of a telegram to a group, or with reads for its answer
        waits: bool = false,
        group: u16 = 0,
        reads: bool = false,
        dpt: String = "",
        property: String = "",
        value: String = "",
    }
}

twin::record! {
    pub struct Write {
        address: String,
        dpt: String = "1.001",
        value: Value,
    }
}

twin::record! {
    pub struct Read {
        address: String,
        dpt: String = "1.001",
    }
}

twin::record! {
    pub struct Heard { from: String, to: String, service: String, data: String }
}

impl Group {
    pub fn schema(&self) -> Option<String> {
        let title = if self.title.is_empty() { &self.name } else { &self.title };
        let mut out = format!("{{\"type\":\"{}\",\"title\":{}", dpt::kind(&self.dpt)?, title.json());
        let unit = match (self.unit.as_str(), self.dpt.as_str()) {
            ("", "9.001") => "Cel",
            ("", "5.001" | "9.007") => "%",
            ("", "9.004") => "lx",
            (unit, _) => unit,
        };
        if !unit.is_empty() {
            out.push_str(&format!(",\"unit\":{}", unit.json()));
        }
        out.push_str(if self.writable { ",\"readOnly\":false}" } else { ",\"readOnly\":true}" });
        Some(out)
    }
}
