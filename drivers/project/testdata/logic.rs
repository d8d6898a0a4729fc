//! A logic that counts what it is given, of each twin and in all, and says what becomes of it by its value.

use twin::{Context, Driver, Error, Result, Value, Verdict};

twin::record! { pub struct Settings {} }
twin::record! { pub struct Seen { seen: u32 = 0 } }
twin::record! { pub struct Memory { twin: Seen, script: Seen } }

pub struct Counter;

twin::driver! {
    Counter,
    manifest {
        "name": "counter",
        "version": "1.0.0",
        "kind": "logic",
        "capabilities": ["state_get", "state_set", "setting", "log"]
    }
    properties {}
    actions {}
    events {}
}

impl Driver for Counter {
    type Settings = Settings;
    type Memory = Memory;

    fn run(t: &mut twin::Twin<Self>, message: &Value, context: &Context) -> Result<Verdict> {
        t.log("info", &format!("{} {} {} {} {} {} {:?}", context.twin, context.by, context.time, context.id, context.key, context.attempt, context.headers));
        t.memory().twin.seen += 1;
        t.memory().script.seen += 1;
        match message.get("value").as_i64() {
            Some(1) => Ok(Verdict::Pass),
            Some(2) => Ok(Verdict::Stop),
            Some(3) => Err(Error::new(9, "not three")),
            Some(4) => Err(Error::new(9, "busy").after(1500)),
            _ => Ok(Verdict::replace(&Value::Object(vec![("seen".into(), Value::Int(t.memory().twin.seen as i64))]))),
        }
    }
}
