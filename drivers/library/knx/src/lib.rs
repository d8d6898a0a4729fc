//! KNX by a KNXnet/IP tunnel: a gateway, whose groups are named by the twin's settings. See README.md.

mod dpt;
mod ip;
mod settings;

use ip::{Service, Telegram};
use settings::*;
use twin::{Discovery, Driver, Error, Quality, Refusal, Reply, Result, ToJson, Value};

pub struct Knx;
pub type Twin = twin::Twin<Knx>;

twin::driver! {
    Knx,
    manifest {
        "name": "knx",
        "version": "1.0.0",
        "title": "KNX/IP",
        "description": "A KNX installation by a tunnel of its IP gateway: groups become properties by the twin's settings.",
        "memory_mb": 4,
        "capabilities": ["send", "state_get", "state_set", "schedule", "emit", "log", "setting", "describe", "discover"],
        "transport": {"scheme": "udp", "default_port": 3671},
        "scan": {"over": "udp", "port": 3671, "group": "224.0.23.12"}
    }
    properties {
        /// Tunnel
        tunnel: bool {};
        /// Own address
        address: String {};
    }
    actions {
        /// Send a value to a group
        write(Write) -> () {} = |t, w| {
            let to = address(&w.address)?;
            let p = dpt::encode(&w.dpt, &w.value).ok_or_else(|| Error::new(20, format!("value: no {}", w.dpt)))?;
            command(t, to, Service::Write, &p)
        };
        /// Ask a group for its value
        read(Read) -> Value { "safe": true } = |t, r| {
            let to = address(&r.address)?;
            t.memory().dpt = r.dpt;
            let pending = command(t, to, Service::Read, &nothing())?;
            t.memory().reads = true;
            Ok(pending)
        };
    }
    events {
        /// A telegram was heard
        telegram(Heard);
    }
}

const TUNNEL_CLOSED: i32 = 21;
const MAX_QUEUE: usize = 500;

impl Driver for Knx {
    type Settings = Settings;
    type Memory = Memory;

    fn load(t: &mut Twin, reason: &str) -> Result {
        let s = t.settings();
        let mut parts: Vec<String> = Vec::new();
        for g in &s.groups {
            match g.schema() {
                Some(schema) => parts.push(format!("{}:{}", g.name.json(), schema)),
                None => t.log("error", &format!("group {}: datapoint type {} is not known", g.name, g.dpt)),
            }
        }
        let names: Vec<String> = s.groups.iter().map(|g| g.name.clone()).collect();
        let m = t.memory();
        parts.extend(m.described.iter().filter(|n| !names.contains(n)).map(|n| format!("{}:null", n.json())));
        m.described = names;
        let open = m.channel != 0;
        if !parts.is_empty() {
            t.describe(&format!("{{\"properties\":{{{}}}}}", parts.join(",")))?;
        }
        if reason == "settings" && open {
            read_all(t)?;
        }
        Ok(())
    }

    fn connected(t: &mut Twin) -> Result {
        let old = std::mem::take(&mut t.memory().channel);
        if old != 0 {
            // A gateway has few tunnels: the one of the last life is given back.
            t.send(&ip::frame(ip::DISCONNECT, &[&[old, 0], &ip::HERE]))?;
        }
        dial(t)
    }

    fn disconnected(t: &mut Twin, _: &str) -> Result {
        closed(t);
        Ok(())
    }

    fn timer(t: &mut Twin, name: &str, _: &Value) -> Result {
        let r = match name {
            "dial" => dial(t),
            "ack" => no_ack(t),
            "alive" => alive(t),
            _ => Ok(()),
        };
        match r {
            Err(e) if e.is(Refusal::Disconnected) => Ok(()),
            other => other,
        }
    }

    fn received(t: &mut Twin, frame: &[u8]) -> Result {
        take(t, frame).map(|_| ())
    }

    fn answer(t: &mut Twin, frame: &[u8]) -> Result<Reply<String>> {
        let heard = take(t, frame)?;
        if t.memory().channel == 0 {
            t.memory().waits = false;
            return Err(Error::new(TUNNEL_CLOSED, "the tunnel was closed").retryable(true));
        }
        let h = match heard {
            Some(h) if t.memory().waits && h.to == t.memory().group => h,
            _ => return Ok(Reply::Pending),
        };
        let m = t.memory();
        let sent = h.code == 0x2e;
        if sent && h.failed {
            m.waits = false;
            return Err(Error::new(22, "no device on the bus took the telegram").retryable(true));
        }
        if m.reads {
            if sent || h.service != Service::Response {
                return Ok(Reply::Pending);
            }
            m.waits = false;
            let v = dpt::decode(&m.dpt, &h.payload).unwrap_or_else(|| Value::Text(hex(&h.payload.bytes)));
            return Ok(Reply::Done(v.json()));
        }
        if !sent {
            return Ok(Reply::Pending);
        }
        m.waits = false;
        let (property, value) = (std::mem::take(&mut m.property), std::mem::take(&mut m.value));
        if !property.is_empty() {
            t.report(&property, &Value::parse(value.as_bytes()).unwrap_or(Value::Null));
        }
        Ok(Reply::Done(String::new()))
    }

    fn write(t: &mut Twin, property: &str, value: &Value) -> Option<Result<Reply>> {
        let s = t.settings();
        let g = s.groups.iter().find(|g| g.name == property && g.writable)?;
        Some(set(t, g, value))
    }

    fn unload(t: &mut Twin) -> Result {
        let channel = t.memory().channel;
        if channel != 0 {
            let _ = t.send(&ip::frame(ip::DISCONNECT, &[&[channel, 0], &ip::HERE]));
            t.memory().channel = 0;
        }
        Ok(())
    }

    fn scan(t: &mut Twin, _: u64, _: &Value) -> Result {
        let mut frame = vec![0];
        frame.extend(ip::frame(ip::SEARCH, &[&ip::HERE]));
        t.send(&frame)
    }
}

fn address(text: &str) -> Result<u16> {
    ip::group(text).ok_or_else(|| Error::new(20, format!("{:?} is no address of a group", text)))
}

fn nothing() -> dpt::Payload {
    dpt::Payload { bytes: vec![0], short: true }
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|x| format!("{:02x}", x)).collect()
}

fn unhex(s: &str) -> Vec<u8> {
    (0..s.len() / 2).filter_map(|i| u8::from_str_radix(s.get(2 * i..2 * i + 2)?, 16).ok()).collect()
}

fn dial(t: &mut Twin) -> Result {
    t.send(&ip::frame(ip::CONNECT, &[&ip::HERE, &ip::HERE, &[4, 4, 2, 0]]))?;
    t.after("dial", 10_000, &())
}

/// Forgets the tunnel. What was told by it is old from now on.
fn closed(t: &mut Twin) {
    let m = t.memory();
    if m.channel == 0 {
        return;
    }
    m.channel = 0;
    m.queue.clear();
    t.report("tunnel", &false);
    let _ = t.cancel("alive");
    let _ = t.cancel("ack");
    for g in &t.settings().groups {
        let v = t.property(&g.name);
        if !v.is_null() {
            t.report_as(&g.name, &v, Quality::Stale, 0);
        }
    }
}

fn redial(t: &mut Twin, why: &str) -> Result {
    t.log("warn", why);
    closed(t);
    dial(t)
}

/// Handles a frame, and gives the telegram in it where there is a new one.
fn take(t: &mut Twin, frame: &[u8]) -> Result<Option<Telegram>> {
    if frame.first() != Some(&6) {
        return scanned(t, frame).map(|_| None);
    }
    let (service, body) = match ip::parse(frame) {
        Some(both) if both.1.len() >= 2 => both,
        _ => {
            t.log("warn", "the gateway sent what is no KNXnet/IP");
            return Ok(None);
        }
    };
    let channel = t.memory().channel;
    match service {
        ip::CONNECT_ANSWER => connected(t, body)?,
        ip::ALIVE_ANSWER if body[0] == channel && body[1] == 0 => t.memory().silent = 0,
        ip::ALIVE_ANSWER if body[0] == channel => redial(t, "the gateway does not know the tunnel any more")?,
        ip::DISCONNECT => {
            t.send(&ip::frame(ip::DISCONNECT_ANSWER, &[&[body[0], 0]]))?;
            if body[0] == channel {
                redial(t, "the gateway closed the tunnel")?;
            }
        }
        ip::ACK if body.len() >= 4 && body[1] == channel && body[2] == t.memory().sends => acknowledged(t, body[3])?,
        ip::TUNNEL if body.len() > 4 && body[1] == channel && channel != 0 => return tunnelled(t, body),
        _ => {}
    }
    Ok(None)
}

fn connected(t: &mut Twin, body: &[u8]) -> Result {
    if t.memory().channel != 0 {
        return Ok(()); // an answer that came twice
    }
    if body[1] != 0 {
        let why = match body[1] {
            0x24 => "the gateway has no tunnel left",
            0x22 | 0x23 => "the gateway does not offer tunnels",
            _ => "the gateway refuses a tunnel",
        };
        t.log("warn", why);
        return t.after("dial", 30_000, &());
    }
    let m = t.memory();
    m.channel = body[0];
    m.sends = 0;
    m.hears = 0;
    m.silent = 0;
    m.queue.clear();
    t.cancel("dial")?;
    t.every("alive", 60_000, &())?;
    t.report("tunnel", &true);
    if let [.., 4, 4, high, low] = body {
        t.report("address", &ip::individual_text((*high as u16) << 8 | *low as u16));
    }
    read_all(t)
}

fn read_all(t: &mut Twin) -> Result {
    for g in t.settings().groups.iter().filter(|g| g.read) {
        if let Some(to) = ip::group(&g.address) {
            enqueue(t, &ip::telegram(to, Service::Read, &nothing()))?;
        }
    }
    Ok(())
}

/// A gateway takes one telegram at a time.
fn enqueue(t: &mut Twin, telegram: &[u8]) -> Result {
    let m = t.memory();
    if m.channel == 0 {
        return Err(Error::new(TUNNEL_CLOSED, "the tunnel is not open").retryable(true));
    }
    if m.queue.len() >= MAX_QUEUE {
        return Err(Error::new(23, "too many telegrams wait").retryable(true));
    }
    m.queue.push(hex(telegram));
    if m.queue.len() == 1 {
        return push(t);
    }
    Ok(())
}

fn push(t: &mut Twin) -> Result {
    let m = t.memory();
    let first = match m.queue.first() {
        Some(first) => unhex(first),
        None => return t.cancel("ack"),
    };
    m.tries += 1;
    let head = [4, m.channel, m.sends, 0];
    t.send(&ip::frame(ip::TUNNEL, &[&head, &first]))?;
    t.after("ack", 1000, &())
}

fn acknowledged(t: &mut Twin, status: u8) -> Result {
    let m = t.memory();
    if m.queue.is_empty() {
        return Ok(());
    }
    m.sends = m.sends.wrapping_add(1);
    m.tries = 0;
    m.queue.remove(0);
    if status != 0 {
        t.log("warn", &format!("the gateway does not take a telegram: status {:02x}", status));
    }
    push(t)
}

/// 03.08.04, 2.6: a request that is not acknowledged within a second is sent once more, then the tunnel is given up.
fn no_ack(t: &mut Twin) -> Result {
    let m = t.memory();
    if m.channel == 0 || m.queue.is_empty() {
        return Ok(());
    }
    if m.tries < 2 {
        return push(t);
    }
    m.tries = 0;
    redial(t, "the gateway does not acknowledge")
}

/// 03.08.02, 5.4: three heartbeats without an answer, and the tunnel is lost.
fn alive(t: &mut Twin) -> Result {
    let m = t.memory();
    if m.channel == 0 {
        return t.cancel("alive");
    }
    m.silent += 1;
    if m.silent > 3 {
        return redial(t, "the gateway does not answer");
    }
    let channel = m.channel;
    t.send(&ip::frame(ip::ALIVE, &[&[channel, 0], &ip::HERE]))
}

fn tunnelled(t: &mut Twin, body: &[u8]) -> Result<Option<Telegram>> {
    let m = t.memory();
    let (number, fresh) = (body[2], body[2] == m.hears);
    if !fresh && number != m.hears.wrapping_sub(1) {
        return Ok(None);
    }
    if fresh {
        m.hears = m.hears.wrapping_add(1);
    }
    let ack = [4, m.channel, number, 0];
    t.send(&ip::frame(ip::ACK, &[&ack]))?;
    let heard = match ip::parse_telegram(&body[4..]) {
        Some(h) if fresh => h,
        _ => return Ok(None),
    };
    if heard.code == 0x29 {
        told(t, &heard)?;
    }
    Ok(Some(heard))
}

/// A telegram of the bus: a value that its group's property has now.
fn told(t: &mut Twin, h: &Telegram) -> Result {
    let s = t.settings();
    if s.monitor {
        let service = match h.service {
            Service::Read => "read",
            Service::Response => "response",
            Service::Write => "write",
        };
        let heard = Heard {
            from: ip::individual_text(h.from),
            to: ip::group_text(h.to),
            service: service.into(),
            data: hex(&h.payload.bytes),
        };
        t.emit("telegram", &heard)?;
    }
    if h.service == Service::Read {
        return Ok(());
    }
    for g in s.groups.iter().filter(|g| ip::group(&g.address) == Some(h.to)) {
        match dpt::decode(&g.dpt, &h.payload) {
            Some(v) => t.report(&g.name, &v),
            None => t.log("warn", &format!("{}: {} is no {}", g.name, hex(&h.payload.bytes), g.dpt)),
        }
    }
    Ok(())
}

fn command<T>(t: &mut Twin, to: u16, service: Service, p: &dpt::Payload) -> Result<Reply<T>> {
    enqueue(t, &ip::telegram(to, service, p))?;
    let m = t.memory();
    m.waits = true;
    m.group = to;
    m.reads = false;
    m.property.clear();
    Ok(Reply::Pending)
}

fn set(t: &mut Twin, g: &Group, value: &Value) -> Result<Reply> {
    let told_elsewhere = !g.send.is_empty() && g.send != g.address;
    let to = address(if g.send.is_empty() { &g.address } else { &g.send })?;
    let p = dpt::encode(&g.dpt, value).ok_or_else(|| Error::new(20, format!("{}: this is no {}", g.name, g.dpt)))?;
    let pending = command(t, to, Service::Write, &p)?;
    if !told_elsewhere {
        // The device tells no more than its own change: what was sent is what it is.
        let m = t.memory();
        m.property = g.name.clone();
        m.value = dpt::decode(&g.dpt, &p).unwrap_or(Value::Null).json();
    }
    Ok(pending)
}

/// An answer to a scan: ADDRESS:PORT, a zero byte, the frame.
fn scanned(t: &mut Twin, frame: &[u8]) -> Result {
    let zero = frame.iter().position(|b| *b == 0).unwrap_or(frame.len());
    let found = match ip::parse(frame.get(zero + 1..).unwrap_or(&[])) {
        Some((ip::SEARCH_ANSWER, body)) => ip::searched(body),
        _ => None,
    };
    if let Some((at, name, _serial)) = found {
        // A gateway behind another network names an address that cannot be reached: the one that answered can.
        let peer = std::str::from_utf8(&frame[..zero]).unwrap_or(&at);
        let uri = format!("udp://{}", peer);
        return t.discover(&Discovery { network: "knx", key: "address", value: &uri, name: &name, driver: "knx", uri: &uri, settings: "" });
    }
    Ok(())
}
