//! What a driver asks of others than its device, and what it hears from them.

use crate::json::{write_text, ToJson, Value};
use crate::{host, Driver, Error, Quality, Result, Twin};

/// A request to a host that the manifest and the twin's binding allow.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest<'a> {
    /// GET where it is empty.
    pub method: &'a str,
    /// Absolute, or relative to the twin's address.
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a [u8]>,
    /// Of the whole request; 0: 5 s.
    pub timeout_ms: u32,
}

/// The answer. Names of headers are in lower case.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Names another twin of the same project: by its id or name or, with a system, by its name there, such as Display_1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Other<'a> {
    pub twin: &'a str,
    pub system: &'a str,
}

impl<'a> From<&'a str> for Other<'a> {
    fn from(twin: &'a str) -> Self {
        Other { twin, system: "" }
    }
}

/// Why another twin did not do what it was asked. The code is not_found, invalid, denied, loop, timeout, unavailable or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct CallError {
    pub code: String,
    pub message: String,
}

impl From<CallError> for Error {
    fn from(e: CallError) -> Error {
        let later = e.code == "timeout" || e.code == "unavailable";
        Error::new(1, e.message).retryable(later)
    }
}

/// Whom a message that a logic's run is given is about, and who gives it.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The id of the twin that it is about; empty: none.
    pub twin: String,
    /// Who gives it, such as route/default/alerts, topic/default/orders, notifier/default/desk or detector/default/spikes.
    pub by: String,
    /// In milliseconds since 1970.
    pub time: u64,
    /// By which a repetition is known; empty: there is none.
    pub id: String,
    /// Of a topic's message.
    pub key: String,
    /// Of a topic's message.
    pub headers: Vec<(String, String)>,
    /// Of a topic's message: how often it has been given, 1 for the first time.
    pub attempt: u32,
}

impl Context {
    pub(crate) fn of(doc: &Value) -> Result<Context> {
        if !matches!(doc, Value::Object(_)) {
            return Err(Error::new(101, "context: want an object"));
        }
        let text = |name: &str| doc.get(name).as_str().unwrap_or("").to_string();
        let headers = match doc.get("headers") {
            Value::Object(all) => all.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_string())).collect(),
            _ => Vec::new(),
        };
        Ok(Context {
            twin: text("twin"),
            by: text("by"),
            time: doc.get("time").as_i64().unwrap_or(0).max(0) as u64,
            id: text("id"),
            key: text("key"),
            headers,
            attempt: doc.get("attempt").as_i64().unwrap_or(1).max(1) as u32,
        })
    }
}

/// What a logic's run says of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// Another goes on instead, or this is the answer: JSON text, see [`Verdict::replace`].
    Replace(String),
    /// Its way ends.
    Stop,
}

impl Verdict {
    pub fn replace(message: &impl ToJson) -> Verdict {
        Verdict::Replace(message.json())
    }

    pub(crate) fn json(self) -> String {
        match self {
            Verdict::Pass => "null".into(),
            Verdict::Replace(message) => format!("{{\"replace\":{}}}", message),
            Verdict::Stop => "{\"stop\":true}".into(),
        }
    }
}

/// A property that was subscribed to.
#[derive(Clone, Debug)]
pub struct Change {
    /// The id of the twin that changed; name and system are what it was subscribed by.
    pub twin: String,
    pub name: String,
    pub system: String,
    pub property: String,
    /// Null where it is not known.
    pub value: Value,
    pub quality: Quality,
    /// When it was measured, in milliseconds since 1970.
    pub time: u64,
    /// Changes before this one that were not told.
    pub missed: u64,
}

impl Change {
    pub(crate) fn of(doc: &Value) -> Change {
        let text = |name: &str| doc.get(name).as_str().unwrap_or("").to_string();
        let number = |name: &str| doc.get(name).as_i64().unwrap_or(0).max(0) as u64;
        Change {
            twin: text("twin"),
            name: text("name"),
            system: text("system"),
            property: text("property"),
            value: doc.get("value").clone(),
            quality: Quality::of(&text("quality")),
            time: number("time"),
            missed: number("missed"),
        }
    }
}

/// An HTTP request that came for the twin. Names of headers are in lower case.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub method: String,
    pub path: String,
    /// query, headers, body and body_base64 as in the contract.
    pub doc: Value,
}

impl Webhook {
    pub(crate) fn of(doc: &Value) -> Webhook {
        let text = |name: &str| doc.get(name).as_str().unwrap_or("").to_string();
        Webhook { method: text("method"), path: text("path"), doc: doc.clone() }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.doc.get("query").get(name).as_str()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.doc.get("headers").get(name).as_str()
    }

    /// The body where it is text; empty otherwise.
    pub fn body(&self) -> &str {
        self.doc.get("body").as_str().unwrap_or("")
    }
}

/// Answers it; a status of 0 is 200.
#[derive(Clone, Debug, Default)]
pub struct WebhookAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl ToJson for WebhookAnswer {
    fn write(&self, out: &mut String) {
        let status = if self.status == 0 { 200 } else { self.status };
        out.push_str(&format!("{{\"status\":{},\"headers\":{{", status));
        for (i, (name, v)) in self.headers.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_text(name, out);
            out.push(':');
            write_text(v, out);
        }
        out.push_str("},\"body\":");
        write_text(&self.body, out);
        out.push('}');
    }
}

impl<D: Driver> Twin<D> {
    /// Makes a request and waits for its answer. It holds an instance of the driver while it waits.
    pub fn http(&mut self, r: &HttpRequest) -> Result<HttpAnswer> {
        let method = if r.method.is_empty() { "GET" } else { r.method };
        let mut b = format!("{{\"method\":{},\"url\":{},\"timeout\":{},\"headers\":{{", method.json(), r.url.json(), r.timeout_ms);
        for (i, (name, v)) in r.headers.iter().enumerate() {
            b.push_str(&format!("{}{}:{}", if i > 0 { "," } else { "" }, name.json(), v.json()));
        }
        b.push_str("}}");
        let mut b = b.into_bytes();
        if let Some(body) = r.body {
            b.push(0);
            b.extend_from_slice(body);
        }
        let answer = host::http(&b).map(host::reply)?;
        let zero = answer.iter().position(|c| *c == 0).unwrap_or(answer.len());
        let head = Value::parse(&answer[..zero]).unwrap_or(Value::Null);
        let headers = match head.get("headers") {
            Value::Object(all) => all.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or("").to_string())).collect(),
            _ => Vec::new(),
        };
        Ok(HttpAnswer {
            status: head.get("status").as_i64().unwrap_or(0) as u16,
            headers,
            body: answer.get(zero + 1..).unwrap_or(&[]).to_vec(),
        })
    }

    /// Runs an action of another twin and waits for its output; 5 s where the timeout is 0. The outer error is the host's, the
    /// inner one the other twin's.
    pub fn call<'a, T: ToJson + ?Sized>(
        &mut self, whom: impl Into<Other<'a>>, action: &str, input: &T, timeout_ms: u32,
    ) -> Result<std::result::Result<Value, CallError>> {
        self.ask(whom.into(), &format!("\"action\":{},\"input\":{}", action.json(), input.json()), timeout_ms)
    }

    /// Asks another twin for a value of a property. It returns when the other twin took it.
    pub fn set_other<'a, T: ToJson + ?Sized>(
        &mut self, whom: impl Into<Other<'a>>, property: &str, value: &T, timeout_ms: u32,
    ) -> Result<std::result::Result<Value, CallError>> {
        self.ask(whom.into(), &format!("\"property\":{},\"value\":{}", property.json(), value.json()), timeout_ms)
    }

    /// Looks at another twin: {"properties":{NAME:VALUE…},"connected":BOOL}.
    pub fn get_other<'a>(
        &mut self, whom: impl Into<Other<'a>>, timeout_ms: u32,
    ) -> Result<std::result::Result<Value, CallError>> {
        self.ask(whom.into(), "\"get\":true", timeout_ms)
    }

    fn ask(&mut self, whom: Other, what: &str, timeout_ms: u32) -> Result<std::result::Result<Value, CallError>> {
        let b = format!("{{{},{},\"timeout\":{}}}", named(whom), what, timeout_ms);
        let answer = host::call(b.as_bytes()).map(host::reply)?;
        let doc = Value::parse(&answer).unwrap_or(Value::Null);
        let e = doc.get("error");
        if e.is_null() {
            return Ok(Ok(doc.get("output").clone()));
        }
        let text = |name: &str| e.get(name).as_str().unwrap_or("").to_string();
        Ok(Err(CallError { code: text("code"), message: text("message") }))
    }

    /// Lets [`Driver::changed`] hear of a property of another twin, until `unsubscribe`. It survives restarts.
    pub fn subscribe<'a>(&mut self, whom: impl Into<Other<'a>>, property: &str) -> Result {
        let b = format!("{{{},\"property\":{}}}", named(whom.into()), property.json());
        Ok(host::subscribe(b.as_bytes()).map(|_| ())?)
    }

    pub fn unsubscribe<'a>(&mut self, whom: impl Into<Other<'a>>, property: &str) -> Result {
        let b = format!("{{{},\"property\":{},\"cancel\":true}}", named(whom.into()), property.json());
        Ok(host::subscribe(b.as_bytes()).map(|_| ())?)
    }

    /// Acts on the connection: starttls, close (drop it and dial again), sleep, wake.
    pub fn connection(&mut self, what: &str) -> Result {
        Ok(host::connection(format!("{{\"do\":{}}}", what.json()).as_bytes()).map(|_| ())?)
    }
}

fn named(whom: Other) -> String {
    if whom.system.is_empty() {
        return format!("\"twin\":{}", whom.twin.json());
    }
    format!("\"twin\":{},\"system\":{}", whom.twin.json(), whom.system.json())
}
