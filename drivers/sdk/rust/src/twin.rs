use std::rc::Rc;

use crate::json::{write_text, FromJson, ToJson, Value};
use crate::{host, Driver, Error, Refusal, Result};

/// How good a reported value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    Good,
    /// The last known value; the device could not be asked.
    Stale,
    /// The device itself says that the value is wrong.
    Bad,
}

impl Quality {
    pub fn name(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Stale => "stale",
            Quality::Bad => "bad",
        }
    }

    pub fn of(name: &str) -> Quality {
        match name {
            "stale" => Quality::Stale,
            "bad" => Quality::Bad,
            _ => Quality::Good,
        }
    }
}

/// A device behind or near this one, for the project's inbox.
#[derive(Clone, Debug, Default)]
pub struct Discovery<'a> {
    /// network, key and value are its alias, such as mqtt, topic, plug7.
    pub network: &'a str,
    pub key: &'a str,
    pub value: &'a str,
    pub name: &'a str,
    /// The driver that fits it, if known.
    pub driver: &'a str,
    /// The address that a twin of it would have, such as udp://10.0.0.7.
    pub uri: &'a str,
    /// Settings of its twin, JSON; empty: none.
    pub settings: &'a str,
}

/// The twin that a call is for.
pub struct Twin<D: Driver> {
    settings: Option<Rc<D::Settings>>,
    state: Option<Value>,
    memory: Option<D::Memory>,
    memory_before: String,
    reports: String,
    failed: Option<Error>,
}

impl<D: Driver> Twin<D> {
    pub(crate) fn new() -> Self {
        Twin { settings: None, state: None, memory: None, memory_before: String::new(), reports: String::new(), failed: None }
    }

    /// The twin's settings, with defaults applied.
    pub fn settings(&mut self) -> Rc<D::Settings> {
        if let Some(s) = &self.settings {
            return s.clone();
        }
        let text = host::setting(b"").map(host::reply).unwrap_or_default();
        let read = D::Settings::from_json(&Value::parse(&text).unwrap_or(Value::Null));
        let s = Rc::new(read.unwrap_or_else(|e| panic!("settings{}", e)));
        self.settings = Some(s.clone());
        s
    }

    /// What the driver remembers of this twin. Changes are kept when the call succeeds.
    pub fn memory(&mut self) -> &mut D::Memory {
        if self.memory.is_none() {
            let v = self.state().get("memory").clone();
            self.memory_before = v.json();
            let read = if v.is_null() { Ok(D::Memory::default()) } else { D::Memory::from_json(&v) };
            self.memory = Some(read.unwrap_or_else(|e| {
                self.log("error", &format!("memory{}", e));
                D::Memory::default()
            }));
        }
        self.memory.get_or_insert_with(D::Memory::default)
    }

    pub(crate) fn old_memory(&mut self) -> Value {
        self.state().get("memory").clone()
    }

    /// The value last reported, as it was when the call began; null where there is none.
    pub fn property(&mut self, name: &str) -> Value {
        self.state().get("properties").get(name).clone()
    }

    fn state(&mut self) -> &Value {
        self.state.get_or_insert_with(|| {
            let text = host::state_get(b"").map(host::reply).unwrap_or_default();
            Value::parse(&text).unwrap_or(Value::Null)
        })
    }

    /// Sets a property to what the device says. None means that it is not known any more.
    pub fn report<T: ToJson + ?Sized>(&mut self, name: &str, value: &T) {
        if !self.reports.is_empty() {
            self.reports.push(',');
        }
        write_text(name, &mut self.reports);
        self.reports.push(':');
        value.write(&mut self.reports);
    }

    /// The same with a quality and the time when it was measured, in milliseconds since 1970; 0 is now.
    pub fn report_as<T: ToJson + ?Sized>(&mut self, name: &str, value: &T, quality: Quality, time: u64) {
        let mut b = String::from("{\"set\":{");
        write_text(name, &mut b);
        b.push(':');
        value.write(&mut b);
        b.push_str("},\"quality\":");
        write_text(quality.name(), &mut b);
        if time > 0 {
            b.push_str(&format!(",\"time\":{}", time));
        }
        b.push('}');
        if let Err(r) = host::state_set(b.as_bytes()) {
            self.failed.get_or_insert_with(|| failed(name, r));
        }
    }

    pub(crate) fn flush(&mut self) -> Result {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let mut b = String::from("{");
        if !self.reports.is_empty() {
            b.push_str(&format!("\"set\":{{{}}}", self.reports));
        }
        if let Some(m) = &self.memory {
            let now = m.json();
            if now != self.memory_before {
                b.push_str(if b.len() > 1 { ",\"memory\":" } else { "\"memory\":" });
                b.push_str(&now);
            }
        }
        if b.len() > 1 {
            b.push('}');
            host::state_set(b.as_bytes()).map_err(|r| failed("state", r))?;
        }
        Ok(())
    }

    /// Writes one frame to the device.
    pub fn send(&mut self, frame: &[u8]) -> Result {
        Ok(host::send(frame).map(|_| ())?)
    }

    /// Writes one frame and waits for the next one of the device, 5 s where the timeout is 0. It holds an instance of the driver
    /// while it waits: `Reply::Pending` serves many twins better.
    pub fn request(&mut self, frame: &[u8], timeout_ms: u32) -> Result<Vec<u8>> {
        let mut b = timeout_ms.to_le_bytes().to_vec();
        b.extend_from_slice(frame);
        Ok(host::request(&b).map(host::reply)?)
    }

    /// Sends an MQTT message, within the manifest's topics.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) -> Result {
        let mut b = vec![qos & 3 | if retain { 4 } else { 0 }];
        b.extend_from_slice(topic.as_bytes());
        b.push(0);
        b.extend_from_slice(payload);
        Ok(host::publish(&b).map(|_| ())?)
    }

    /// Announces an event of the model.
    pub fn emit<T: ToJson + ?Sized>(&mut self, name: &str, data: &T) -> Result {
        Ok(host::emit(format!("{{\"name\":{},\"data\":{}}}", name.json(), data.json()).as_bytes()).map(|_| ())?)
    }

    /// Sets the timer of that name, in place of one that is set. It survives restarts of the node.
    pub fn after<T: ToJson + ?Sized>(&mut self, name: &str, ms: u64, data: &T) -> Result {
        self.schedule(name, &format!("\"after\":{}", ms), data)
    }

    /// A timer that repeats.
    pub fn every<T: ToJson + ?Sized>(&mut self, name: &str, ms: u64, data: &T) -> Result {
        self.schedule(name, &format!("\"after\":{0},\"every\":{0}", ms), data)
    }

    /// A timer that is due at a time, in milliseconds since 1970.
    pub fn at<T: ToJson + ?Sized>(&mut self, name: &str, time: u64, data: &T) -> Result {
        self.schedule(name, &format!("\"at\":{}", time), data)
    }

    /// A timer that is due as a schedule of cron says, such as "0 7 * * mon-fri", on the clocks of a zone such as Europe/Berlin;
    /// empty: UTC.
    pub fn cron<T: ToJson + ?Sized>(&mut self, name: &str, spec: &str, zone: &str, data: &T) -> Result {
        let zone = if zone.is_empty() { "UTC" } else { zone };
        self.schedule(name, &format!("\"cron\":{},\"zone\":{}", spec.json(), zone.json()), data)
    }

    /// Removes the timer of that name, if there is one.
    pub fn cancel(&mut self, name: &str) -> Result {
        Ok(host::schedule(format!("{{\"name\":{},\"cancel\":true}}", name.json()).as_bytes()).map(|_| ())?)
    }

    fn schedule<T: ToJson + ?Sized>(&mut self, name: &str, when: &str, data: &T) -> Result {
        let b = format!("{{\"name\":{},{},\"data\":{}}}", name.json(), when, data.json());
        Ok(host::schedule(b.as_bytes()).map(|_| ())?)
    }

    /// Writes a line to the twin's log. The level is debug, info, warn or error.
    pub fn log(&mut self, level: &str, text: &str) {
        let number = match level {
            "debug" => 0,
            "warn" => 2,
            "error" => 3,
            _ => 1,
        };
        let mut b = vec![number];
        b.extend_from_slice(text.as_bytes());
        let _ = host::log(&b);
    }

    /// Narrows or extends the twin's model by what this unit really has: a JSON merge patch.
    pub fn describe(&mut self, patch: &str) -> Result {
        Ok(host::describe(patch.as_bytes()).map(|_| ())?)
    }

    /// Reports a device.
    pub fn discover(&mut self, d: &Discovery) -> Result {
        let mut b = format!("{{\"network\":{},\"key\":{},\"value\":{}", d.network.json(), d.key.json(), d.value.json());
        for (name, v) in [("name", d.name), ("driver", d.driver), ("uri", d.uri)] {
            if !v.is_empty() {
                b.push_str(&format!(",\"{}\":{}", name, v.json()));
            }
        }
        if !d.settings.is_empty() {
            b.push_str(&format!(",\"settings\":{}", d.settings));
        }
        b.push('}');
        Ok(host::discover(b.as_bytes()).map(|_| ())?)
    }
}

fn failed(name: &str, r: Refusal) -> Error {
    let mut e = Error::from(r);
    e.message = format!("report {}: {}", name, e.message);
    e
}
