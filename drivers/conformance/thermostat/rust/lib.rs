//! The thermostat is the example driver of all SDKs, here in Rust. What it does is in drivers/conformance/README.md.

mod line;

use twin::{Change, Discovery, Driver, Error, HttpRequest, Quality, Refusal, Reply, Result, Value, Webhook, WebhookAnswer};

twin::record! {
    pub struct Settings {
        /// PIN
        pin: String = "" => { "writeOnly": true, "maxLength": 16 },
        /// Seconds between two looks
        poll_s: u32 = 30 => { "minimum": 1, "maximum": 3600 },
        /// Time zone of the night
        zone: String = "UTC",
        /// Twin that knows the outdoor temperature
        outdoor: String = "",
        /// Twin that shows texts
        display: String = "",
        /// URL of a weather service
        weather: String = "",
    }
}

twin::record! {
    pub struct Memory {
        boosts: u32 = 0,
        /// The command that waits for the device: power, setpoint, boost, vacation
        asked: String = "",
        minutes: u32 = 0,
        until: u64 = 0,
        back: f64 = 0.0,
    }
}

twin::record! {
    pub struct Boost {
        minutes: u32 => { "minimum": 1, "maximum": 120 },
    }
}

twin::record! {
    pub struct Boosted { minutes: u32, boosts: u32 }
}

twin::record! {
    pub struct Vacation {
        /// Milliseconds since 1970
        until: u64 => { "minimum": 1 },
    }
}

twin::record! {
    pub struct Home { setpoint: f64 }
}

twin::record! {
    pub struct Text {
        text: String => { "maxLength": 200 },
    }
}

pub struct Thermostat;
pub type Twin = twin::Twin<Thermostat>;

twin::driver! {
    Thermostat,
    manifest {
        "name": "thermostat",
        "version": "1.0.0",
        "title": "TH-1 thermostat",
        "description": "The example that every SDK has: a made-up thermostat that talks in lines over TCP.",
        "capabilities": ["send", "state_get", "state_set", "schedule", "emit", "log", "setting", "describe", "discover", "http", "call", "subscribe"],
        "transport": {"scheme": "tcp", "default_port": 4070, "tokenizer": {"delimiter": "\r\n", "max_frame": 1024}},
        "http": {"hosts": ["{weather}"]}
    }
    properties {
        /// Power
        power: bool {} = |t, on| ask(t, "power", if on { "POWER ON" } else { "POWER OFF" });
        /// Temperature
        temperature: f64 { "unit": "Cel" };
        /// Setpoint
        setpoint: f64 { "unit": "Cel", "minimum": 5, "maximum": 30 } = |t, to| ask(t, "setpoint", &format!("SET {:.1}", to));
        /// Outdoor temperature
        outdoor: f64 { "unit": "Cel" };
        /// Forecast
        forecast: f64 { "unit": "Cel" };
        /// Boosts
        boosts: u32 {};
    }
    actions {
        /// Heat up for some minutes
        boost(Boost) -> Boosted {} = |t, input| {
            t.memory().minutes = input.minutes;
            ask(t, "boost", &format!("BOOST {}", input.minutes))
        };
        /// Keep it cool until then
        vacation(Vacation) -> () {} = vacation;
        /// Ask the weather service
        forecast(()) -> f64 {} = forecast;
        /// Show a text on the display
        announce(Text) -> () {} = announce;
    }
    events {
        /// Alarm
        alarm(Text);
        /// A boost is over
        boosted(Boost);
    }
}

impl Driver for Thermostat {
    type Settings = Settings;
    type Memory = Memory;

    fn load(t: &mut Twin, _: &str) -> Result {
        let s = t.settings();
        t.every("poll", s.poll_s as u64 * 1000, &())?;
        t.cron("night", "0 22 * * *", &s.zone, &())?;
        if s.outdoor.is_empty() {
            return Ok(());
        }
        t.subscribe(s.outdoor.as_str(), "temperature")
    }

    fn connected(t: &mut Twin) -> Result {
        let s = t.settings();
        if !s.pin.is_empty() {
            say(t, &format!("LOGIN {}", s.pin))?;
        }
        say(t, "STATUS?")
    }

    fn received(t: &mut Twin, frame: &[u8]) -> Result {
        line::take(t, &String::from_utf8_lossy(frame))
    }

    fn answer(t: &mut Twin, frame: &[u8]) -> Result<Reply<String>> {
        let text = String::from_utf8_lossy(frame);
        let asked = t.memory().asked.clone();
        if let Some(rest) = text.strip_prefix("ERR ") {
            t.memory().asked.clear();
            return Err(refused(rest));
        }
        if asked == "boost" {
            if let Some(number) = text.strip_prefix("CONFIRM ") {
                let minutes = t.memory().minutes;
                say(t, &format!("BOOST {} {}", minutes, number))?;
                return Ok(Reply::Pending);
            }
        }
        line::take(t, &text)?;
        let awaited = match asked.as_str() {
            "power" => "OK POWER ",
            "boost" => "OK BOOST ",
            _ => "OK SET ",
        };
        if !text.starts_with(awaited) {
            return Ok(Reply::Pending);
        }
        t.memory().asked.clear();
        match asked.as_str() {
            "boost" => boosted(t).map(|b| Reply::Done(b).erased()),
            "vacation" => {
                let (until, setpoint) = (t.memory().until, t.memory().back);
                t.at("home", until, &Home { setpoint })?;
                Ok(Reply::Done(()).erased())
            }
            _ => Ok(Reply::Done(()).erased()),
        }
    }

    fn timer(t: &mut Twin, name: &str, data: &Value) -> Result {
        match name {
            "poll" => quietly(say(t, "STATUS?")),
            "night" => quietly(say(t, "SET 17.0")),
            "boosted" => {
                t.emit("boosted", data)?;
                quietly(say(t, "STATUS?"))
            }
            "home" => home(t, data),
            _ => Ok(()),
        }
    }

    fn changed(t: &mut Twin, c: &Change) -> Result {
        if c.property == "temperature" && c.name == t.settings().outdoor {
            t.report_as("outdoor", &c.value.as_f64(), c.quality, 0);
        }
        Ok(())
    }

    fn webhook(t: &mut Twin, r: &Webhook) -> Result<WebhookAnswer> {
        if r.method != "GET" {
            return Ok(WebhookAnswer { status: 405, ..WebhookAnswer::default() });
        }
        let known = |v: Value| v.as_f64().map_or("null".to_string(), |v| v.to_string());
        let (temperature, setpoint) = (t.property("temperature"), t.property("setpoint"));
        Ok(WebhookAnswer {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: format!("{{\"temperature\":{},\"setpoint\":{}}}", known(temperature), known(setpoint)),
        })
    }

    fn migrate(t: &mut Twin, from: &str, old: &Value) -> Result {
        if from.starts_with("0.") {
            t.memory().boosts = old.get("boost_count").as_i64().unwrap_or(0).max(0) as u32;
        }
        Ok(())
    }
}

pub fn say(t: &mut Twin, line: &str) -> Result {
    t.send(format!("{}\r\n", line).as_bytes())
}

/// Lets it pass that the device is not there.
fn quietly(r: Result) -> Result {
    match r {
        Err(e) if e.is(Refusal::Disconnected) => Ok(()),
        other => other,
    }
}

/// Sends a command whose answer decides the call.
fn ask<T>(t: &mut Twin, what: &str, line: &str) -> Result<Reply<T>> {
    say(t, line)?;
    t.memory().asked = what.into();
    Ok(Reply::Pending)
}

/// Reads "2 out of range".
fn refused(rest: &str) -> Error {
    let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
    match number.parse() {
        Ok(code @ 1..=9) => Error::new(code, text).retryable(code == 3),
        _ => Error::new(1, rest),
    }
}

fn boosted(t: &mut Twin) -> Result<Boosted> {
    let m = t.memory();
    m.boosts += 1;
    let (minutes, boosts) = (m.minutes, m.boosts);
    t.report("boosts", &boosts);
    t.after("boosted", minutes as u64 * 60_000, &Boost { minutes })?;
    Ok(Boosted { minutes, boosts })
}

fn vacation(t: &mut Twin, input: Vacation) -> Result<Reply> {
    let back = t.property("setpoint").as_f64().ok_or_else(|| Error::new(11, "the setpoint is not known yet"))?;
    let m = t.memory();
    m.until = input.until;
    m.back = back;
    ask(t, "vacation", "SET 12.0")
}

fn home(t: &mut Twin, data: &Value) -> Result {
    let setpoint = data.get("setpoint").as_f64().unwrap_or(20.0);
    match say(t, &format!("SET {:.1}", setpoint)) {
        Err(e) if e.is(Refusal::Disconnected) => t.after("home", 60_000, &Home { setpoint }),
        other => other,
    }
}

fn forecast(t: &mut Twin, _: ()) -> Result<Reply<f64>> {
    let s = t.settings();
    if s.weather.is_empty() {
        return Err(Error::new(13, "no weather service is set"));
    }
    let answer = t.http(&HttpRequest {
        url: &s.weather,
        headers: &[("accept", "application/json")],
        timeout_ms: 3000,
        ..HttpRequest::default()
    })?;
    if answer.status != 200 {
        return Err(Error::new(12, format!("the weather service answers {}", answer.status)).retryable(true));
    }
    let high = Value::parse(&answer.body).and_then(|v| v.get("high").as_f64());
    let high = high.ok_or_else(|| Error::new(14, "the weather service's answer has no number \"high\""))?;
    t.report("forecast", &high);
    Ok(Reply::Done(high))
}

fn announce(t: &mut Twin, input: Text) -> Result<Reply> {
    let s = t.settings();
    if s.display.is_empty() {
        return Err(Error::new(13, "no display is set"));
    }
    match t.call(s.display.as_str(), "show", &input, 0)? {
        Ok(_) => Ok(Reply::Done(())),
        Err(e) => Err(Error { code: 15, ..Error::from(e) }),
    }
}

/// What a temperature in a line says: its value where it has one, and how good it is.
pub fn temperature(text: &str) -> Option<(Option<f64>, Quality)> {
    if text == "--" {
        return Some((None, Quality::Good));
    }
    match text.strip_suffix('?') {
        Some(unsure) => Some((Some(line::number(unsure)?), Quality::Bad)),
        None => Some((Some(line::number(text)?), Quality::Good)),
    }
}

pub fn neighbour(t: &mut Twin, serial: &str) -> Result {
    let name = format!("TH-1 {}", serial);
    t.discover(&Discovery { network: "th1", key: "serial", value: serial, name: &name, driver: "thermostat", ..Discovery::default() })
}
