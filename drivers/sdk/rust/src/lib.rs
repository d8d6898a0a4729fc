//! The SDK for drivers of Pollux in Rust. A driver is a type that implements [`Driver`], and a [`driver!`] that says what its
//! manifest says: name, transport, properties with their setters, actions, events. The schemas of inputs and settings come
//! from the types ([`record!`]). The module that the compiler makes is the driver: its manifest is inside already.
//!
//! ```ignore
//! twin::record! {
//!     pub struct Settings {
//!         /// Seconds between two looks
//!         poll_s: u32 = 30 => { "minimum": 1 },
//!     }
//! }
//! twin::record! { pub struct Memory { asked: u32 = 0 } }
//!
//! struct Lamp;
//!
//! impl twin::Driver for Lamp {
//!     type Settings = Settings;
//!     type Memory = Memory;
//!
//!     fn connected(t: &mut twin::Twin<Self>) -> twin::Result {
//!         t.every("poll", t.settings().poll_s as u64 * 1000, &())?;
//!         t.send(b"POWER?\r\n")
//!     }
//!
//!     fn received(t: &mut twin::Twin<Self>, frame: &[u8]) -> twin::Result {
//!         t.report("power", &(frame == b"POWER=ON"));
//!         Ok(())
//!     }
//! }
//!
//! twin::driver! {
//!     Lamp,
//!     manifest { "name": "lamp", "version": "1.0.0", "capabilities": ["send", "state_get", "state_set", "schedule", "setting", "log"] }
//!     properties { power: bool {} = |t, on| { t.send(if on { b"POWER ON\r\n" } else { b"POWER OFF\r\n" })?; Ok(twin::Reply::Pending) }; }
//!     actions {}
//!     events {}
//! }
//! ```
//!
//! All that one call reports, emits, schedules and remembers takes effect together when it returns Ok, and not at all
//! otherwise. Bytes that were sent cannot be taken back. Nothing may be kept in statics from call to call.

pub mod host;
pub mod json;
mod macros;
mod outside;
pub mod schema;
mod twin;

pub use host::Refusal;
pub use json::{FromJson, ToJson, Value};
pub use outside::{CallError, Change, Context, HttpAnswer, HttpRequest, Other, Verdict, Webhook, WebhookAnswer};
pub use twin::{Discovery, Quality, Twin};

/// A driver's own refusal of a command, or of an event. Codes from 100 on are the SDK's.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub code: i32,
    pub message: String,
    pub retryable: bool,
    /// When trying again makes sense, in milliseconds; 0: it does not say.
    pub after: u64,
    /// What the host refused, where that is the reason.
    pub refusal: Option<Refusal>,
}

impl Error {
    pub fn new(code: i32, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retryable: false, after: 0, refusal: None }
    }

    /// Trying again later makes sense.
    pub fn retryable(mut self, yes: bool) -> Error {
        self.retryable = yes;
        self
    }

    /// Trying again makes sense after so many milliseconds.
    pub fn after(mut self, ms: u64) -> Error {
        self.retryable = true;
        self.after = ms;
        self
    }

    pub fn is(&self, refusal: Refusal) -> bool {
        self.refusal == Some(refusal)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(r: Refusal) -> Error {
        let code = match r {
            Refusal::Denied => 102,
            Refusal::Timeout => 103,
            Refusal::Disconnected => 104,
            Refusal::TooLarge => 105,
            Refusal::RateLimited => 106,
            Refusal::Invalid => 107,
        };
        let retryable = matches!(r, Refusal::Timeout | Refusal::Disconnected | Refusal::RateLimited);
        Error { code, message: r.text().into(), retryable, after: 0, refusal: Some(r) }
    }
}

impl From<String> for Error {
    fn from(message: String) -> Error {
        Error::new(1, message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Error {
        Error::new(1, message)
    }
}

pub type Result<T = ()> = std::result::Result<T, Error>;

/// What a command came to: its output, or that a frame of the device will decide it ([`Driver::answer`]).
pub enum Reply<T = ()> {
    Done(T),
    Pending,
}

impl<T: ToJson> Reply<T> {
    /// The same reply with its output as JSON text.
    pub fn erased(self) -> Reply<String> {
        match self {
            Reply::Done(v) => Reply::Done(v.json()),
            Reply::Pending => Reply::Pending,
        }
    }
}

/// What a driver does, for each of its twins. What it does not implement is ignored.
pub trait Driver: Sized + Table {
    type Settings: FromJson + 'static;
    /// What is kept of a twin from call to call.
    type Memory: FromJson + ToJson + Default;

    /// The twin was activated; the reason is start, settings or version.
    fn load(_: &mut Twin<Self>, _reason: &str) -> Result {
        Ok(())
    }

    fn connected(_: &mut Twin<Self>) -> Result {
        Ok(())
    }

    fn disconnected(_: &mut Twin<Self>, _why: &str) -> Result {
        Ok(())
    }

    /// A frame of the device that is no answer of a pending command. MQTT: see [`message`].
    fn received(_: &mut Twin<Self>, _frame: &[u8]) -> Result {
        Ok(())
    }

    /// A frame that came while a command is pending. `Pending` goes on waiting; the output is JSON.
    fn answer(t: &mut Twin<Self>, frame: &[u8]) -> Result<Reply<String>> {
        Self::received(t, frame)?;
        Ok(Reply::Pending)
    }

    /// A value for a property that [`driver!`] does not name, because the driver described it at run time; None where there
    /// is no such property.
    fn write(_: &mut Twin<Self>, _property: &str, _value: &Value) -> Option<Result<Reply>> {
        None
    }

    fn timer(_: &mut Twin<Self>, _name: &str, _data: &Value) -> Result {
        Ok(())
    }

    fn unload(_: &mut Twin<Self>) -> Result {
        Ok(())
    }

    /// The twin's driver was of another version before; what it remembered is `old`.
    fn migrate(_: &mut Twin<Self>, _from: &str, _old: &Value) -> Result {
        Ok(())
    }

    /// A property that was subscribed to.
    fn changed(_: &mut Twin<Self>, _change: &Change) -> Result {
        Ok(())
    }

    fn webhook(_: &mut Twin<Self>, _request: &Webhook) -> Result<WebhookAnswer> {
        Ok(WebhookAnswer { status: 404, ..WebhookAnswer::default() })
    }

    /// Of a logic: a message on its way through a route, of a rule, of a topic that it reads, of a notifier, or a reading to be judged. It runs beside the
    /// logic's other events, wherever the message is: what it remembers there is `twin` and `script`, for the twin that the message is
    /// about and for the logic, and its reports, events and timers are refused.
    fn run(_: &mut Twin<Self>, _message: &Value, _context: &Context) -> Result<Verdict> {
        Ok(Verdict::Pass)
    }

    /// Look for devices on the network and report them by `discover`, within so many milliseconds.
    fn scan(_: &mut Twin<Self>, _timeout: u64, _options: &Value) -> Result {
        Ok(())
    }
}

/// The commands of a driver. [`driver!`] implements it.
pub trait Table: Sized {
    /// None where there is no such action.
    fn action(t: &mut Twin<Self>, name: &str, input: &Value) -> Option<Result<Reply<String>>>
    where
        Self: Driver;
    /// None where there is no such property, or it is read only.
    fn set(t: &mut Twin<Self>, name: &str, value: &Value) -> Option<Result<Reply<String>>>
    where
        Self: Driver;
}

/// Takes an MQTT frame apart: its topic and its payload.
pub fn message(frame: &[u8]) -> (&str, &[u8]) {
    let zero = frame.iter().position(|b| *b == 0).unwrap_or(frame.len());
    let topic = std::str::from_utf8(&frame[..zero]).unwrap_or("");
    (topic, frame.get(zero + 1..).unwrap_or(&[]))
}

/// Reads an input of a command for the code that [`driver!`] makes.
pub fn input_of<T: FromJson>(name: &str, v: &Value) -> Result<T> {
    T::from_json(v).map_err(|e| Error::new(101, format!("{}{}", name, e)))
}

const LOAD: i32 = 1;
const CONNECTED: i32 = 2;
const DISCONNECTED: i32 = 3;
const RECEIVED: i32 = 4;
const COMMAND: i32 = 5;
const TIMER: i32 = 6;
const UNLOAD: i32 = 7;
const MIGRATE: i32 = 8;
const SUBSCRIPTION: i32 = 9;
const WEBHOOK: i32 = 10;
const ANSWER: i32 = 11;
const SCAN: i32 = 12;
const RUN: i32 = 13;

/// One call: what `drv_handle` does.
pub fn handle<D: Driver>(event: i32, len: i32) -> i32 {
    std::panic::set_hook(Box::new(|info| {
        let _ = host::log(format!("\u{3}{}", info).as_bytes());
    }));
    let input = host::input(len as usize);
    let mut t = Twin::<D>::new();
    let outcome = dispatch(&mut t, event, &input).and_then(|reply| t.flush().map(|_| reply));
    match outcome {
        Ok(Reply::Pending) => -1,
        Ok(Reply::Done(output)) => {
            if !output.is_empty() {
                host::output(output.as_bytes());
            }
            0
        }
        Err(e) => {
            let mut out = format!("{{\"code\":{},\"message\":", e.code);
            json::write_text(&e.message, &mut out);
            out.push_str(if e.retryable { ",\"retryable\":true" } else { ",\"retryable\":false" });
            if e.after > 0 {
                out.push_str(&format!(",\"after\":{}", e.after));
            }
            out.push('}');
            host::output(out.as_bytes());
            e.code.max(1)
        }
    }
}

fn dispatch<D: Driver>(t: &mut Twin<D>, event: i32, input: &[u8]) -> Result<Reply<String>> {
    let done = |r: Result| r.map(|_| Reply::Done(String::new()));
    match event {
        CONNECTED => return done(D::connected(t)),
        RECEIVED => return done(D::received(t, input)),
        ANSWER => return D::answer(t, input),
        UNLOAD => return done(D::unload(t)),
        LOAD..=RUN => {}
        _ => return Ok(Reply::Done(String::new())), // of a later version
    }
    let doc = Value::parse(input).ok_or_else(|| Error::new(101, "event: not valid JSON"))?;
    let text = |name: &str| doc.get(name).as_str().unwrap_or("");
    match event {
        LOAD => done(D::load(t, text("reason"))),
        DISCONNECTED => done(D::disconnected(t, text("error"))),
        COMMAND => command(t, &doc),
        TIMER => done(D::timer(t, text("name"), doc.get("data"))),
        MIGRATE => {
            let old = t.old_memory();
            done(D::migrate(t, text("from"), &old))
        }
        SUBSCRIPTION => done(D::changed(t, &Change::of(&doc))),
        WEBHOOK => D::webhook(t, &Webhook::of(&doc)).map(|a| Reply::Done(a.json())),
        SCAN => done(D::scan(t, doc.get("timeout").as_i64().unwrap_or(0).max(0) as u64, doc.get("options"))),
        _ => {
            let context = Context::of(doc.get("context"))?;
            D::run(t, doc.get("message"), &context).map(|v| Reply::Done(v.json()))
        }
    }
}

fn command<D: Driver>(t: &mut Twin<D>, doc: &Value) -> Result<Reply<String>> {
    if let Some(name) = doc.get("property").as_str() {
        let value = doc.get("value");
        return D::set(t, name, value)
            .or_else(|| D::write(t, name, value).map(|r| r.map(Reply::erased)))
            .unwrap_or_else(|| Err(Error::new(100, format!("the driver has no writer for property {}", name))));
    }
    let name = doc.get("action").as_str().unwrap_or("");
    D::action(t, name, doc.get("input")).unwrap_or_else(|| Err(Error::new(100, format!("the driver has no action {}", name))))
}
