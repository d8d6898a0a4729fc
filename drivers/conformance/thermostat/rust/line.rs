//! What the device says, asked or not.

use crate::{neighbour, temperature, Text, Twin};
use twin::{Quality, Result};

pub fn take(t: &mut Twin, text: &str) -> Result {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let understood = match word {
        "STATUS" => status(t, rest).is_some(),
        "TEMP" => report_temperature(t, rest).is_some(),
        "OK" => done(t, rest).is_some(),
        "ALARM" => return t.emit("alarm", &Text { text: rest.into() }),
        "HELLO" => return hello(t, rest),
        "NEIGHBOUR" if !rest.is_empty() && rest.len() <= 64 => return neighbour(t, rest),
        "ERR" => {
            if let Some((_, why)) = rest.split_once(' ') {
                t.log("warn", &format!("device: {}", why));
                return Ok(());
            }
            false
        }
        _ => false,
    };
    if !understood {
        let short: String = text.chars().take(80).collect();
        t.log("warn", &format!("not understood: {}", short));
    }
    Ok(())
}

/// Takes power=on temp=21.5 set=20.0 hum=45, all of it or nothing.
fn status(t: &mut Twin, text: &str) -> Option<()> {
    let field = |name: &str| text.split(' ').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    let on = on_off(field("power")?)?;
    let temp = temperature(field("temp")?)?;
    let set = number(field("set")?)?;
    if let Some(text) = field("hum") {
        let humidity: i64 = text.parse().ok()?;
        t.report("humidity", &humidity);
    }
    t.report("power", &on);
    t.report_as("temperature", &temp.0, temp.1, 0);
    t.report("setpoint", &set);
    Some(())
}

fn report_temperature(t: &mut Twin, text: &str) -> Option<()> {
    let (value, quality): (Option<f64>, Quality) = temperature(text)?;
    t.report_as("temperature", &value, quality, 0);
    Some(())
}

/// Takes what is behind OK.
fn done(t: &mut Twin, text: &str) -> Option<()> {
    let (what, value) = text.split_once(' ').unwrap_or((text, ""));
    match what {
        "LOGIN" | "BOOST" => {}
        "POWER" => t.report("power", &on_off(value)?),
        "SET" => t.report("setpoint", &number(value)?),
        _ => return None,
    }
    Some(())
}

fn hello(t: &mut Twin, rest: &str) -> Result {
    if rest.split(' ').skip(1).any(|option| option == "humidity") {
        return t.describe(
            "{\"properties\":{\"humidity\":{\"type\":\"integer\",\"title\":\"Humidity\",\"unit\":\"%\",\"readOnly\":true}}}",
        );
    }
    Ok(())
}

fn on_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// Reads what is written as 21.5 or -3; nothing fancier is one.
pub fn number(text: &str) -> Option<f64> {
    if text.chars().any(|c| !matches!(c, '0'..='9' | '-' | '.')) {
        return None;
    }
    text.parse().ok()
}
