//! SNMP v2c: a device whose objects are named by the twin's settings, its traps, and the system group that every device has.
//! See README.md. Protocol: RFC 1901, 3416, 3418 (system group).

mod ber;
mod settings;

use ber::{data_of, oid_text, parse_oid, Data, Message};
use settings::*;
use twin::{Discovery, Driver, Error, Quality, Refusal, Reply, Result, ToJson, Value};

pub struct Snmp;
pub type Twin = twin::Twin<Snmp>;

twin::driver! {
    Snmp,
    manifest {
        "name": "snmp",
        "version": "1.0.0",
        "title": "SNMP v2c",
        "description": "Switches, printers, power supplies: objects become properties by the twin's settings, traps become events.",
        "memory_mb": 4,
        "capabilities": ["send", "state_get", "state_set", "schedule", "emit", "log", "setting", "describe", "discover"],
        "transports": [
            {"scheme": "udp", "default_port": 161, "udp": {"with_peer": true}},
            {"scheme": "udp-in", "udp": {"with_peer": true}}
        ],
        "scan": {"over": "udp", "port": 161,
            "options": {"type": "object", "additionalProperties": false, "properties": {"community": {"type": "string", "maxLength": 64}}}}
    }
    properties {
        /// Answers
        reachable: bool {};
        /// Description
        description: String {};
        /// Uptime
        uptime: f64 { "unit": "s" };
        /// Contact
        contact: String {} = |t, v| write_system(t, "contact", v);
        /// Name
        name: String {} = |t, v| write_system(t, "name", v);
        /// Location
        location: String {} = |t, v| write_system(t, "location", v);
    }
    actions {
        /// Read objects
        get(Get) -> Value { "safe": true } = |t, input| {
            let oids = input.oids.iter().map(|o| oid(o).map(|o| (o, Data::Null))).collect::<Result<Vec<_>>>()?;
            command(t, "get", ber::GET, oids)
        };
        /// Read what is below an object
        walk(Walk) -> Value { "safe": true } = |t, input| {
            let root = oid(&input.oid)?;
            let m = t.memory();
            m.root = oid_text(&root);
            m.left = input.max;
            m.found.clear();
            command(t, "walk", ber::GET_BULK, vec![(root, Data::Null)])
        };
        /// Write an object
        set(Set) -> () {} = |t, input| {
            let to = data_of(&input.format, &input.value).ok_or_else(|| Error::new(20, format!("value: no {}", input.format)))?;
            command(t, "set", ber::SET, vec![(oid(&input.oid)?, to)])
        };
    }
    events {
        /// The device sent a trap
        trap(Trap);
    }
}

const SYSTEM: [(&str, &str); 5] = [
    ("description", "1.3.6.1.2.1.1.1.0"),
    ("uptime", "1.3.6.1.2.1.1.3.0"),
    ("contact", "1.3.6.1.2.1.1.4.0"),
    ("name", "1.3.6.1.2.1.1.5.0"),
    ("location", "1.3.6.1.2.1.1.6.0"),
];
const TRAP_OID: &str = "1.3.6.1.6.3.1.1.4.1.0";
/// Objects in one request: with texts of some length it stays within a datagram.
const PER_REQUEST: usize = 20;
/// What a walk finds is kept in the twin's memory until it ends.
const MAX_FOUND: usize = 40_000;
const SCAN: i32 = 0x5343_414e;

impl Driver for Snmp {
    type Settings = Settings;
    type Memory = Memory;

    fn load(t: &mut Twin, _: &str) -> Result {
        let s = t.settings();
        let names: Vec<String> = s.objects.iter().map(|o| o.name.clone()).collect();
        let gone: Vec<String> = t.memory().described.iter().filter(|n| !names.contains(n)).cloned().collect();
        let mut parts: Vec<String> = s.objects.iter().map(|o| format!("{}:{}", o.name.json(), o.schema())).collect();
        parts.extend(gone.iter().map(|n| format!("{}:null", n.json())));
        if !parts.is_empty() {
            t.describe(&format!("{{\"properties\":{{{}}}}}", parts.join(",")))?;
        }
        t.memory().described = names;
        if s.poll_s == 0 {
            return t.cancel("poll");
        }
        t.every("poll", s.poll_s as u64 * 1000, &())
    }

    fn connected(t: &mut Twin) -> Result {
        t.memory().asked = 0;
        look(t)
    }

    fn timer(t: &mut Twin, name: &str, _: &Value) -> Result {
        let r = if name == "again" { again(t) } else { look(t) };
        match r {
            Err(e) if e.is(Refusal::Disconnected) => Ok(()),
            other => other,
        }
    }

    fn received(t: &mut Twin, frame: &[u8]) -> Result {
        let (peer, m) = match read(frame) {
            Some(both) => both,
            None => {
                t.log("warn", "the device sent what is no SNMP v2c");
                return Ok(());
            }
        };
        match m.pdu {
            ber::RESPONSE if m.id == SCAN => found(t, peer, &m),
            ber::RESPONSE if m.id == t.memory().asked && m.id != 0 => looked(t, &m),
            ber::TRAP | ber::INFORM => trapped(t, peer, m),
            _ => Ok(()), // late: nobody waits for it any more
        }
    }

    fn answer(t: &mut Twin, frame: &[u8]) -> Result<Reply<String>> {
        match read(frame) {
            Some((_, m)) if m.pdu == ber::RESPONSE && m.id == t.memory().waits => decide(t, m),
            _ => {
                Self::received(t, frame)?;
                Ok(Reply::Pending)
            }
        }
    }

    fn write(t: &mut Twin, property: &str, value: &Value) -> Option<Result<Reply>> {
        let s = t.settings();
        let o = s.objects.iter().find(|o| o.name == property && o.writable)?;
        Some(match (parse_oid(&o.oid), o.data(value)) {
            (Some(oid), Some(data)) => write(t, property, value, oid, data),
            _ => Err(Error::new(20, format!("{}: this value cannot be written", property))),
        })
    }

    fn scan(t: &mut Twin, _: u64, options: &Value) -> Result {
        let community = options.get("community").as_str().unwrap_or("public").as_bytes().to_vec();
        let binds = [SYSTEM[3].1, SYSTEM[0].1].iter().filter_map(|o| Some((parse_oid(o)?, Data::Null))).collect();
        let m = Message { community, pdu: ber::GET, id: SCAN, status: 0, index: 0, binds };
        send(t, "", &m)
    }
}

/// A frame is ADDRESS:PORT, a zero byte, the message.
fn read(frame: &[u8]) -> Option<(&str, Message)> {
    let zero = frame.iter().position(|c| *c == 0)?;
    Some((std::str::from_utf8(&frame[..zero]).ok()?, Message::parse(&frame[zero + 1..])?))
}

fn send(t: &mut Twin, peer: &str, m: &Message) -> Result {
    let mut frame = peer.as_bytes().to_vec();
    frame.push(0);
    frame.extend(m.encode());
    t.send(&frame)
}

fn request(t: &mut Twin, pdu: u8, binds: Vec<(Vec<u32>, Data)>) -> Result<i32> {
    let s = t.settings();
    let writes = pdu == ber::SET && !s.write_community.is_empty();
    let community = if writes { &s.write_community } else { &s.community };
    let m = t.memory();
    m.count = if m.count >= 1 << 30 { 1 } else { m.count + 1 };
    let id = m.count;
    let index = if pdu == ber::GET_BULK { 20 } else { 0 };
    let m = Message { community: community.as_bytes().to_vec(), pdu, id, status: 0, index, binds };
    send(t, "", &m)?;
    Ok(id)
}

fn oid(text: &str) -> Result<Vec<u32>> {
    parse_oid(text).ok_or_else(|| Error::new(20, format!("{:?} is no OID", text)))
}

/// All that is looked at: names with their OIDs.
fn wanted(s: &Settings) -> Vec<(String, Vec<u32>)> {
    let system = SYSTEM.iter().map(|(name, oid)| (name.to_string(), oid.to_string()));
    let own = s.objects.iter().map(|o| (o.name.clone(), o.oid.clone()));
    system.chain(own).filter_map(|(name, oid)| Some((name, parse_oid(&oid)?))).collect()
}

/// Begins a look, unless one goes on.
fn look(t: &mut Twin) -> Result {
    if t.settings().poll_s == 0 {
        return Ok(());
    }
    let m = t.memory();
    if m.asked != 0 {
        m.silent += 1;
        if m.silent == 2 {
            silent(t);
        }
    }
    ask(t, 0)
}

fn silent(t: &mut Twin) {
    t.report("reachable", &false);
    t.log("warn", "the device does not answer: its address, its community, its access list?");
    for (name, _) in wanted(&t.settings()) {
        let v = t.property(&name);
        if !v.is_null() {
            t.report_as(&name, &v, Quality::Stale, 0);
        }
    }
}

/// Asks for a part; behind the last one the look is over. Datagrams get lost: what is not answered is asked again once.
fn ask(t: &mut Twin, part: u32) -> Result {
    let all = wanted(&t.settings());
    let asked = match all.chunks(PER_REQUEST).nth(part as usize) {
        Some(chunk) => request(t, ber::GET, chunk.iter().map(|w| (w.1.clone(), Data::Null)).collect())?,
        None => 0,
    };
    let m = t.memory();
    m.asked = asked;
    m.part = part;
    if asked == 0 {
        return t.cancel("again");
    }
    t.after("again", 2000, &())
}

fn again(t: &mut Twin) -> Result {
    let m = t.memory();
    if m.asked == 0 {
        return Ok(());
    }
    let part = m.part;
    ask(t, part)?;
    t.cancel("again")
}

fn looked(t: &mut Twin, m: &Message) -> Result {
    t.memory().silent = 0;
    t.report("reachable", &true);
    if m.status != 0 {
        t.log("warn", &format!("the device refuses a look: {}", status_text(m.status)));
    }
    take(t, &m.binds);
    let part = t.memory().part;
    ask(t, part + 1)
}

/// Reports what has a name.
fn take(t: &mut Twin, binds: &[(Vec<u32>, Data)]) {
    let s = t.settings();
    for (oid, data) in binds {
        let text = oid_text(oid);
        if let Some((name, _)) = SYSTEM.iter().find(|x| x.1 == text) {
            match (*name, data) {
                ("uptime", Data::Unsigned(_, n)) => t.report(name, &(*n as f64 / 100.0)),
                (_, Data::Octets(_)) if *name != "uptime" => t.report(name, &data.value()),
                _ => t.report(name, &Value::Null),
            }
        }
        for o in s.objects.iter().filter(|o| o.oid.trim_start_matches('.') == text) {
            t.report(&o.name, &o.value(data));
        }
    }
}

fn trapped(t: &mut Twin, peer: &str, mut m: Message) -> Result {
    let s = t.settings();
    if m.community != s.community.as_bytes() {
        t.log("warn", "a trap with another community is left out");
        return Ok(());
    }
    if m.pdu == ber::INFORM {
        m.pdu = ber::RESPONSE;
        send(t, peer, &m)?;
    }
    take(t, &m.binds);
    let mut trap = Trap::default();
    for (oid, data) in m.binds.iter().take(64) {
        match (oid_text(oid), data) {
            (o, Data::Unsigned(_, n)) if o == SYSTEM[1].1 => trap.uptime_s = *n as f64 / 100.0,
            (o, Data::Oid(which)) if o == TRAP_OID => trap.oid = oid_text(which),
            (oid, data) => trap.values.push(Bind { oid, value: data.value() }),
        }
    }
    t.emit("trap", &trap)
}

fn command<T>(t: &mut Twin, what: &str, pdu: u8, binds: Vec<(Vec<u32>, Data)>) -> Result<Reply<T>> {
    let id = request(t, pdu, binds)?;
    let m = t.memory();
    m.waits = id;
    m.what = what.into();
    m.property.clear();
    Ok(Reply::Pending)
}

fn write(t: &mut Twin, property: &str, value: &Value, oid: Vec<u32>, data: Data) -> Result<Reply> {
    let pending = command(t, "set", ber::SET, vec![(oid, data)])?;
    let m = t.memory();
    m.property = property.into();
    m.value = value.json();
    Ok(pending)
}

fn write_system(t: &mut Twin, name: &str, text: String) -> Result<Reply> {
    let to = SYSTEM.iter().find(|x| x.0 == name).map_or("", |x| x.1);
    let data = Data::Octets(text.as_bytes().to_vec());
    write(t, name, &Value::Text(text), oid(to)?, data)
}

fn decide(t: &mut Twin, m: Message) -> Result<Reply<String>> {
    if m.status != 0 {
        t.memory().waits = 0;
        t.memory().found.clear();
        return Err(Error::new(m.status.clamp(1, 99), status_text(m.status)));
    }
    match t.memory().what.as_str() {
        "walk" => return walked(t, m),
        "get" => {
            t.memory().waits = 0;
            take(t, &m.binds);
            let all: Vec<Bind> = m.binds.iter().map(|(o, d)| Bind { oid: oid_text(o), value: d.value() }).collect();
            return Ok(Reply::Done(all.json()));
        }
        _ => {}
    }
    let memory = t.memory();
    memory.waits = 0;
    let (property, value) = (std::mem::take(&mut memory.property), std::mem::take(&mut memory.value));
    if !property.is_empty() {
        t.report(&property, &Value::parse(value.as_bytes()).unwrap_or(Value::Null));
    }
    Ok(Reply::Done(String::new()))
}

/// Takes what an answer has of a walk, and asks for what is behind it.
fn walked(t: &mut Twin, answer: Message) -> Result<Reply<String>> {
    let m = t.memory();
    let root = parse_oid(&m.root).unwrap_or_default();
    let mut next = None;
    let mut last = m.found.last().and_then(|b| parse_oid(&b.oid)).unwrap_or_else(|| root.clone());
    for (oid, data) in answer.binds {
        // A device that goes backwards would be asked for ever.
        let inside = oid.starts_with(&root) && data != Data::Nothing && oid > last;
        if !inside || m.left == 0 || m.found.json().len() > MAX_FOUND {
            next = None;
            break;
        }
        m.left -= 1;
        m.found.push(Bind { oid: oid_text(&oid), value: data.value() });
        last = oid.clone();
        next = Some(oid);
    }
    match next {
        Some(oid) => command(t, "walk", ber::GET_BULK, vec![(oid, Data::Null)]),
        None => {
            m.waits = 0;
            Ok(Reply::Done(std::mem::take(&mut m.found).json()))
        }
    }
}

fn found(t: &mut Twin, peer: &str, m: &Message) -> Result {
    let text = |i: usize| m.binds.get(i).and_then(|b| b.1.value().as_str().map(String::from)).unwrap_or_default();
    let name = if text(0).is_empty() { text(1) } else { text(0) };
    let name: String = name.chars().take(100).collect();
    let uri = format!("udp://{}", peer);
    t.discover(&Discovery { network: "snmp", key: "address", value: &uri, name: &name, driver: "snmp", uri: &uri, settings: "" })
}

/// Error statuses, RFC 3416, chapter 3.
fn status_text(status: i32) -> &'static str {
    match status {
        1 => "the answer would be too large",
        2 => "the device has no such object",
        3 => "the device does not take this value",
        4 => "the object can only be read",
        6 => "the community has no access",
        7 | 8 | 9 | 10 => "the object takes another value",
        11 | 12 | 17 | 18 => "the object cannot be written",
        13 => "the device has no room for it",
        16 => "the community is not allowed to do this",
        _ => "the device failed",
    }
}
