//! The kettle driver speaks to a kettle that talks in lines over TCP. It answers "GET TEMP" with "TEMP 21.5", "SET TARGET 80"
//! with "OK" or "ERR" and a reason, and says "BOILED" by itself.

use twin::{Driver, Error, Reply, Result, Value};

twin::record! {
    pub struct Settings {}
}

twin::record! {
    /// What is kept between calls: the target that the kettle has yet to accept.
    pub struct Memory {
        asked: u32 = 0,
    }
}

pub struct Kettle;
type Twin = twin::Twin<Kettle>;

twin::driver! {
    Kettle,
    manifest {
        "name": "kettle",
        "version": "1.0.0",
        "title": "Kettle",
        "capabilities": ["send", "state_get", "state_set", "schedule", "emit", "log", "setting"],
        "transport": {"scheme": "tcp", "default_port": 4001, "tokenizer": {"delimiter": "\n"}}
    }
    properties {
        /// Temperature
        temperature: f64 { "unit": "degree celsius" };
        /// Target temperature
        target: u32 { "unit": "degree celsius", "minimum": 40, "maximum": 100 } = |t, degrees| {
            t.memory().asked = degrees;
            say(t, &format!("SET TARGET {}", degrees))?;
            Ok(Reply::Pending) // the kettle's answer decides
        };
    }
    actions {}
    events {
        /// The water boils
        boiled(());
    }
}

impl Driver for Kettle {
    type Settings = Settings;
    type Memory = Memory;

    fn connected(t: &mut Twin) -> Result {
        t.every("poll", 5000, &())?;
        say(t, "GET TEMP")
    }

    fn disconnected(t: &mut Twin, _: &str) -> Result {
        t.cancel("poll")
    }

    fn timer(t: &mut Twin, _name: &str, _data: &Value) -> Result {
        say(t, "GET TEMP")
    }

    fn received(t: &mut Twin, frame: &[u8]) -> Result {
        let text = String::from_utf8_lossy(frame);
        let degrees = text.strip_prefix("TEMP ").and_then(|number| number.parse::<f64>().ok());
        match degrees {
            Some(degrees) => t.report("temperature", &degrees),
            None if text == "BOILED" => t.emit("boiled", &())?,
            None => t.log("warn", &format!("not understood: {}", text)),
        }
        Ok(())
    }

    fn answer(t: &mut Twin, frame: &[u8]) -> Result<Reply<String>> {
        if let Some(why) = String::from_utf8_lossy(frame).strip_prefix("ERR ") {
            return Err(Error::new(2, why));
        }
        if frame != b"OK" {
            Self::received(t, frame)?;
            return Ok(Reply::Pending);
        }
        let asked = t.memory().asked;
        t.report("target", &asked);
        Ok(Reply::Done(String::new()))
    }
}

fn say(t: &mut Twin, line: &str) -> Result {
    t.send(format!("{}\n", line).as_bytes())
}
