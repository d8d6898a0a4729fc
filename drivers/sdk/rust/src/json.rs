//! A small JSON: values, reading and writing. It nests 64 levels at most, as the contract does.

use std::fmt::Write;

/// A JSON value. Members of an object keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// A number that is written as an integer and fits.
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

/// How deep a value may nest.
pub const MAX_DEPTH: usize = 64;

impl Default for Value {
    fn default() -> Self {
        Value::Null
    }
}

static NULL: Value = Value::Null;

impl Value {
    /// Reads a document; None where it is not valid JSON.
    pub fn parse(text: &[u8]) -> Option<Value> {
        let mut p = Parser { b: text, at: 0 };
        let v = p.value(0)?;
        p.space();
        if p.at == text.len() {
            Some(v)
        } else {
            None
        }
    }

    /// The member of that name; null where there is none.
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Value::Object(members) => members.iter().find(|m| m.0 == name).map_or(&NULL, |m| &m.1),
            _ => &NULL,
        }
    }

    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A number, whole or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// A whole number, also where it is written as 2.0.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) => Some(*n),
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(*f as i64),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// What can be written as JSON.
pub trait ToJson {
    fn write(&self, out: &mut String);

    fn json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

/// What can be read from JSON. The error says what it was instead, with the path to it in front.
pub trait FromJson: Sized {
    fn from_json(v: &Value) -> Result<Self, String>;
}

pub fn write_text(s: &str, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl ToJson for Value {
    fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(b) => b.write(out),
            Value::Int(n) => n.write(out),
            Value::Float(f) => f.write(out),
            Value::Text(s) => write_text(s, out),
            Value::List(l) => l.write(out),
            Value::Object(members) => {
                out.push('{');
                for (i, (name, v)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_text(name, out);
                    out.push(':');
                    v.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl FromJson for Value {
    fn from_json(v: &Value) -> Result<Self, String> {
        Ok(v.clone())
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl FromJson for bool {
    fn from_json(v: &Value) -> Result<Self, String> {
        v.as_bool().ok_or_else(|| wrong(v, "boolean"))
    }
}

impl ToJson for f64 {
    fn write(&self, out: &mut String) {
        if self.is_finite() {
            let _ = write!(out, "{}", self);
        } else {
            out.push_str("null");
        }
    }
}

impl FromJson for f64 {
    fn from_json(v: &Value) -> Result<Self, String> {
        v.as_f64().ok_or_else(|| wrong(v, "number"))
    }
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl ToJson for $t {
            fn write(&self, out: &mut String) {
                let _ = write!(out, "{}", self);
            }
        }
        impl FromJson for $t {
            fn from_json(v: &Value) -> Result<Self, String> {
                let n = v.as_i64().ok_or_else(|| wrong(v, "integer"))?;
                <$t>::try_from(n).map_err(|_| format!(": {} is out of range", n))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64, usize);

impl ToJson for str {
    fn write(&self, out: &mut String) {
        write_text(self, out);
    }
}

impl ToJson for String {
    fn write(&self, out: &mut String) {
        write_text(self, out);
    }
}

impl FromJson for String {
    fn from_json(v: &Value) -> Result<Self, String> {
        v.as_str().map(String::from).ok_or_else(|| wrong(v, "text"))
    }
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(v) => v.write(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(v: &Value) -> Result<Self, String> {
        if v.is_null() {
            Ok(None)
        } else {
            T::from_json(v).map(Some)
        }
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut String) {
        out.push('[');
        for (i, v) in self.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            v.write(out);
        }
        out.push(']');
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(v: &Value) -> Result<Self, String> {
        match v {
            Value::Null => Ok(Vec::new()),
            Value::List(l) => l.iter().enumerate().map(|(i, v)| T::from_json(v).map_err(|e| format!("/{}{}", i, e))).collect(),
            _ => Err(wrong(v, "list")),
        }
    }
}

impl ToJson for () {
    fn write(&self, out: &mut String) {
        out.push_str("null");
    }
}

impl FromJson for () {
    fn from_json(_: &Value) -> Result<Self, String> {
        Ok(())
    }
}

fn wrong(v: &Value, want: &str) -> String {
    format!(": {} is no {}", v.kind(), want)
}

struct Parser<'a> {
    b: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn space(&mut self) {
        while self.at < self.b.len() && matches!(self.b[self.at], b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.b.get(self.at).copied()
    }

    fn take(&mut self, c: u8) -> Option<()> {
        if self.peek()? == c {
            self.at += 1;
            return Some(());
        }
        None
    }

    fn word(&mut self, word: &str, v: Value) -> Option<Value> {
        if self.b[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Some(v);
        }
        None
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.space();
        match self.peek()? {
            b'n' => self.word("null", Value::Null),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'"' => self.text().map(Value::Text),
            b'[' => self.list(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut out = Vec::new();
        self.space();
        if self.take(b']').is_some() {
            return Some(Value::List(out));
        }
        loop {
            out.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']').is_some() {
                return Some(Value::List(out));
            }
            self.take(b',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.at += 1;
        let mut out = Vec::new();
        self.space();
        if self.take(b'}').is_some() {
            return Some(Value::Object(out));
        }
        loop {
            self.space();
            let name = self.text()?;
            self.space();
            self.take(b':')?;
            out.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b'}').is_some() {
                return Some(Value::Object(out));
            }
            self.take(b',')?;
        }
    }

    fn number(&mut self) -> Option<Value> {
        let start = self.at;
        let _ = self.take(b'-');
        let digits = |p: &mut Self| {
            let from = p.at;
            while matches!(p.peek(), Some(b'0'..=b'9')) {
                p.at += 1;
            }
            p.at - from
        };
        let first = self.at;
        let whole = digits(self);
        if whole == 0 || whole > 1 && self.b[first] == b'0' {
            return None;
        }
        let mut integer = true;
        if self.take(b'.').is_some() {
            integer = false;
            if digits(self) == 0 {
                return None;
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return None;
            }
        }
        let text = std::str::from_utf8(&self.b[start..self.at]).ok()?;
        if integer {
            if let Ok(n) = text.parse() {
                return Some(Value::Int(n));
            }
        }
        text.parse().ok().map(Value::Float)
    }

    fn text(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..=31) {
                self.at += 1;
            }
            out.push_str(std::str::from_utf8(&self.b[start..self.at]).ok()?);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(out);
                }
                b'\\' => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex()?;
                if (0xd800..0xdc00).contains(&high) && self.b[self.at..].starts_with(b"\\u") {
                    let back = self.at;
                    self.at += 2;
                    let low = self.hex()?;
                    if (0xdc00..0xe000).contains(&low) {
                        return char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                    }
                    self.at = back;
                }
                char::from_u32(high).unwrap_or('\u{fffd}')
            }
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.b.get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}
