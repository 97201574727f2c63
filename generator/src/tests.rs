//! What a feed promises: the same bytes from anywhere, the agreed shape, sessions that make sense, faults as asked for.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{BLOCK_EVENTS, Error, Generator, Settings, calendar, json};

mod mishaps;
mod shape;
mod slices;
mod visits;

/// Every path of a clean event and the JSON kinds it may have, with `[]` for the elements of an array.
/// SQL models rely on it; it is the shape of the events other engines are compared on.
const SHAPE: [(&str, &[&str]); 45] = [
    ("event_id", &["string"]),
    ("event_type", &["string"]),
    ("event_time", &["string"]),
    ("source", &["string"]),
    ("schema_version", &["integer"]),
    ("user", &["object"]),
    ("user.user_id", &["string"]),
    ("user.anonymous_id", &["string"]),
    ("user.is_new", &["boolean"]),
    ("user.plan", &["string"]),
    ("session", &["object"]),
    ("session.session_id", &["string"]),
    ("session.sequence", &["integer"]),
    ("session.started_at", &["string"]),
    ("user_agent", &["object"]),
    ("user_agent.browser", &["string"]),
    ("user_agent.browser_version", &["string"]),
    ("user_agent.os", &["string"]),
    ("user_agent.device", &["string"]),
    ("user_agent.raw", &["string"]),
    ("location", &["object"]),
    ("location.country", &["string"]),
    ("location.region", &["string"]),
    ("location.city", &["string"]),
    ("location.latitude", &["float"]),
    ("location.longitude", &["float"]),
    ("location.timezone", &["string"]),
    ("location.ip", &["string"]),
    ("page", &["object"]),
    ("page.url", &["string"]),
    ("page.referrer", &["null", "string"]),
    ("page.title", &["string"]),
    ("engagement", &["object"]),
    ("engagement.duration_ms", &["integer"]),
    ("engagement.scroll_depth", &["float"]),
    ("engagement.clicks", &["integer"]),
    ("engagement.interactions", &["array"]),
    ("engagement.interactions[]", &["object"]),
    ("engagement.interactions[].type", &["string"]),
    ("engagement.interactions[].at_ms", &["integer"]),
    ("properties", &["object"]),
    ("properties.experiment", &["string"]),
    ("properties.price", &["float", "null"]),
    ("properties.currency", &["string"]),
    ("properties.quantity", &["integer"]),
];

fn feed(settings: Settings) -> Generator {
    Generator::new(settings).unwrap()
}

fn bytes(settings: Settings, first: u64, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    feed(settings).write(first, count, &mut out);
    out
}

/// The lines of a stretch, without their ends.
fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    assert_eq!(bytes.last(), Some(&b'\n'));
    bytes[..bytes.len() - 1].split(|byte| *byte == b'\n').collect()
}

fn events(bytes: &[u8]) -> Vec<Value> {
    lines(bytes).into_iter().map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn clean(first: u64, count: u64) -> Vec<Value> {
    events(&bytes(Settings::default(), first, count))
}

fn string<'a>(event: &'a Value, pointer: &str) -> &'a str {
    event.pointer(pointer).and_then(Value::as_str).unwrap()
}

fn moment(text: &str) -> DateTime<Utc> {
    let time = DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    assert_eq!(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(), text);
    time
}

fn time(event: &Value) -> DateTime<Utc> {
    moment(string(event, "/event_time"))
}

fn everything_wrong() -> Settings {
    Settings { late: 0.05, duplicates: 0.1, malformed: 0.1, drift: true, ..Settings::default() }
}

/// Sessions by their id, each in the order of its sequence.
fn sessions(events: &[Value]) -> HashMap<&str, Vec<&Value>> {
    let mut sessions: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in events {
        sessions.entry(string(event, "/session/session_id")).or_default().push(event);
    }
    for session in sessions.values_mut() {
        session.sort_by_key(|event| event.pointer("/session/sequence").and_then(Value::as_u64));
    }
    sessions
}

/// Notes the kind of `value` and of all that is in it.
fn walk(path: &str, value: &Value, seen: &mut BTreeMap<String, Vec<String>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = seen.entry(path.to_owned()).or_default();
    if !kinds.iter().any(|known| known == kind) {
        kinds.push(kind.to_owned());
        kinds.sort();
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, seen)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| walk(&format!("{path}.{name}"), field, seen)),
        _ => {}
    }
}
