//! Reads one event: its required fields, its document, and what is left to flatten; or why it is refused.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use lakebed_project::{EventsConfig, Path, Places};
use serde_json::value::RawValue;

use crate::fields::{self, Found, SOURCE};
use crate::json::{self, Entries, Json, Kind};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::time;

/// An accepted event.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) required: Required<'a>,
    /// Its own `source`, if that is a text.
    pub(crate) source: Option<Cow<'a, str>>,
    /// The other keys and their values.
    pub(crate) rest: Entries<'a>,
}

/// What every event must have.
#[derive(Debug)]
pub(crate) struct Required<'a> {
    pub(crate) id: Cow<'a, str>,
    pub(crate) event_type: Cow<'a, str>,
    /// µs, UTC
    pub(crate) time: i64,
}

/// Reads an event from its bytes, without blanks around them.
pub(crate) fn read<'a>(bytes: &'a [u8], settings: &'a Settings) -> Result<Event<'a>, Refusal> {
    let doc = std::str::from_utf8(bytes).map_err(|error| Refusal::NotUtf8 { at: error.valid_up_to() + 1 })?;
    let mut entries = entries_of(doc)?;
    if entries.iter().any(|(_, value)| json::nesting(*value) >= json::MAX_NESTING) {
        return Err(Refusal::TooDeep);
    }
    let required = required(bytes, settings, |path| fields::at(path, &entries))?;
    let mut source = None;
    // What is in a column of the log's own needs no second one.
    entries.retain(|(key, value)| {
        if key == SOURCE && Kind::of(*value) == Kind::Text {
            source = Some(json::text(*value));
        }
        !fields::is_own(&settings.fields, key, *value)
    });
    Ok(Event { required, source, rest: entries })
}

/// What is required of an event with this text, where `at` gives the value at a path; or why the event is refused.
pub(crate) fn required<'a>(
    text: &[u8],
    settings: &'a Settings,
    at: impl Fn(&Path) -> Option<Json<'a>>,
) -> Result<Required<'a>, Refusal> {
    let EventsConfig { id, event_type, event_time, .. } = &settings.fields;
    let find = |places: &Places| fields::find(places, text, &settings.given, &at);
    let mut ids = id.iter().map(|part| id_of(part, find(part)));
    let mut id = ids.next().unwrap_or_else(|| Err(Refusal::Missing("id".to_owned())))?;
    for part in ids {
        id = Cow::Owned(format!("{id}/{}", part?));
    }
    let event_type = type_of(event_type, find(event_type))?;
    Ok(Required { id, event_type, time: time_of(event_time, find(event_time), settings)? })
}

fn entries_of(doc: &str) -> Result<Entries<'_>, Refusal> {
    if doc.starts_with('{') {
        return json::object(doc).map_err(|error| Refusal::not_json(doc, &error));
    }
    let value: &RawValue = serde_json::from_str(doc).map_err(|error| Refusal::not_json(doc, &error))?;
    Err(Refusal::NotAnObject(Kind::of(value.into())))
}

/// Events are told apart by their id, so a character that would have to be replaced refuses the event.
fn id_of<'a>(field: &Places, found: Option<Found<'a>>) -> Result<Cow<'a, str>, Refusal> {
    let text = match found {
        None | Some(Found::Time(_)) => return Err(Refusal::Missing(field.to_string())),
        Some(Found::Value(value, Kind::Number)) => return Ok(Cow::Borrowed(value.get())),
        Some(Found::Value(value, Kind::Text)) => {
            let id = json::string(value);
            if id.lossy {
                return Err(Refusal::NotStorable(field.to_string()));
            }
            id.text
        }
        Some(Found::Value(_, kind)) => return Err(Refusal::WrongKind(field.to_string(), kind)),
        Some(Found::Text(text)) => text,
    };
    match text.as_ref() {
        "" => Err(Refusal::Empty(field.to_string())),
        nul if memchr::memchr(0, nul.as_bytes()).is_some() => Err(Refusal::NotStorable(field.to_string())),
        _ => Ok(text),
    }
}

fn type_of<'a>(field: &Places, found: Option<Found<'a>>) -> Result<Cow<'a, str>, Refusal> {
    let text = match found {
        None | Some(Found::Time(_)) => return Err(Refusal::Missing(field.to_string())),
        Some(Found::Value(value, Kind::Text)) => json::string(value).text,
        Some(Found::Value(_, kind)) => return Err(Refusal::WrongKind(field.to_string(), kind)),
        Some(Found::Text(text)) => text,
    };
    if text.is_empty() { Err(Refusal::Empty(field.to_string())) } else { Ok(json::without_nul(text)) }
}

fn time_of(field: &Places, found: Option<Found<'_>>, settings: &Settings) -> Result<i64, Refusal> {
    let (text, micros) = match found {
        None => return Err(Refusal::Missing(field.to_string())),
        Some(Found::Value(value, Kind::Text)) => {
            let text = json::string(value).text;
            let micros = time::from_text(&text);
            (text, micros)
        }
        Some(Found::Value(value, Kind::Number)) => (Cow::Borrowed(value.get()), time::from_number(value.get())),
        Some(Found::Value(_, kind)) => return Err(Refusal::WrongKind(field.to_string(), kind)),
        Some(Found::Text(text)) => {
            let micros = time::from_text(&text).or_else(|| time::from_number(&text));
            (text, micros)
        }
        Some(Found::Time(time)) => return Ok(time.timestamp_micros()),
    };
    let no_time = || Refusal::not_a_time(field, &text);
    let micros = micros.ok_or_else(no_time)?;
    let time: DateTime<Utc> = DateTime::from_timestamp_micros(micros).ok_or_else(no_time)?;
    match (settings.earliest, settings.latest) {
        (Some(earliest), _) if time < earliest => Err(Refusal::TooEarly(field.to_string(), time, earliest)),
        (_, Some(latest)) if time > latest => Err(Refusal::TooLate(field.to_string(), time, latest)),
        _ => Ok(micros),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: impl AsRef<[u8]>) -> String {
        let latest = DateTime::from_timestamp(4_000_000_000, 0);
        read(text.as_ref(), &Settings { latest, ..Settings::default() }).unwrap_err().to_string()
    }

    #[test]
    fn required_fields_and_the_rest() {
        let text = r#"{"event_id":"a","x":1,"event_type":"t\u0000","event_time":"2024-05-01","source":"app","y":null}"#;
        let settings = Settings::default();
        let event = read(text.as_bytes(), &settings).unwrap();
        assert_eq!((event.required.id.as_ref(), event.required.event_type.as_ref()), ("a", "t\u{FFFD}"));
        assert_eq!((event.required.time, event.source.as_deref()), (1_714_521_600_000_000, Some("app")));
        assert_eq!(event.rest.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn a_number_is_an_id_and_a_source_that_is_no_text_is_flattened() {
        let text = br#"{"event_id":12345678901234567890,"event_type":"t","event_time":0,"source":{"a":1}}"#;
        let settings = Settings::default();
        let event = read(text, &settings).unwrap();
        assert_eq!((event.required.id.as_ref(), event.required.time, event.source), ("12345678901234567890", 0, None));
        assert_eq!(event.rest[0].0, "source");
    }

    #[test]
    fn what_is_no_event_is_refused_with_its_reason() {
        assert_eq!(refused(b"ab\xff"), "not UTF-8 at byte 3");
        assert_eq!(refused("hello"), "not JSON: expected value at byte 1");
        assert_eq!(refused("{\"event_id\":"), "not JSON: EOF while parsing a value at byte 12");
        assert_eq!(refused("{} {}"), "not JSON: trailing characters at byte 4");
        assert_eq!(refused("[1, 2]"), "not a JSON object but an array");
        assert_eq!(refused("\"a\""), "not a JSON object but a text");
        assert_eq!(refused("{}"), "no event_id");
    }

    #[test]
    fn bad_required_fields_are_refused_with_their_reason() {
        let with = |id: &str, kind: &str, time: &str| {
            refused(format!(r#"{{"event_id":{id},"event_type":{kind},"event_time":{time}}}"#))
        };
        assert_eq!(with("null", "\"t\"", "0"), "no event_id");
        assert_eq!(with("\"\"", "\"t\"", "0"), "event_id is empty");
        assert_eq!(with("true", "\"t\"", "0"), "event_id is a boolean");
        let broken = "event_id holds U+0000 or half of a surrogate pair";
        assert_eq!(with(r#""a\u0000""#, "\"t\"", "0"), broken);
        assert_eq!(with(r#""a\ud800""#, "\"t\"", "0"), broken);
        assert_eq!(with("1", "5", "0"), "event_type is a number");
        assert_eq!(with("1", "\"\"", "0"), "event_type is empty");
        assert_eq!(with("1", "\"t\"", "[]"), "event_time is an array");
        assert_eq!(with("1", "\"t\"", "\"soon\""), "event_time 'soon' is not a time");
        assert_eq!(with("1", "\"t\"", "1e30"), "event_time '1e30' is not a time");
        assert_eq!(with("1", "\"t\"", "-1"), "event_time 1969-12-31T23:59:59Z is before 1970-01-01T00:00:00Z");
        assert_eq!(with("1", "\"t\"", "4000000001"), "event_time 2096-10-02T07:06:41Z is after 2096-10-02T07:06:40Z");
    }

    #[test]
    fn the_fields_are_where_the_project_says() {
        let config = |id: &str, event_type: &str, event_time: &str| {
            let [id, event_type, event_time] = [id, event_type, event_time].map(|text| Places::parse(text).unwrap());
            let fields = EventsConfig { id: vec![id], event_type, event_time, unflattened: Vec::new() };
            Settings { fields, ..Settings::default() }
        };
        let nested = config("meta.id", "kind", "meta.at");
        let text = r#"{"meta":{"id":7,"at":"2024-05-01"},"kind":"view","event_type":"other"}"#;
        let event = read(text.as_bytes(), &nested).unwrap();
        let Required { id, event_type, time } = &event.required;
        assert_eq!((id.as_ref(), event_type.as_ref(), *time), ("7", "view", 1_714_521_600_000_000));
        assert_eq!(event.rest.iter().map(|(key, _)| key.as_ref()).collect::<Vec<_>>(), ["meta", "event_type"]);
        let refused = |text: &str| read(text.as_bytes(), &nested).unwrap_err().to_string();
        assert_eq!(refused(r#"{"meta":5,"kind":"view"}"#), "no meta.id");
        assert_eq!(refused(r#"{"meta":{"id":1,"at":"soon"},"kind":"view"}"#), "meta.at 'soon' is not a time");

        let hashed = config("content-hash", "kind", "at");
        let id = |text: &str| read(text.as_bytes(), &hashed).unwrap().required.id.into_owned();
        let (one, other) = (id(r#"{"kind":"a","at":1}"#), id(r#"{"kind":"a","at":2}"#));
        assert_eq!(one, id(r#"{"kind":"a","at":1}"#));
        assert_ne!(one, other);

        let mut first = config("header:x-id | content-hash(a.b | b, c)", "header:x-type", "at | arrival");
        let read = |text: &str, settings: &Settings| {
            let event = read(text.as_bytes(), settings).map_err(|refusal| refusal.to_string())?;
            let Required { id, event_type, time } = event.required;
            Ok::<_, String>((id.into_owned(), event_type.into_owned(), time))
        };
        assert_eq!(read("{}", &first), Err("no header x-type".to_owned()));
        first.given.headers.insert("x-type".to_owned(), "push".to_owned());
        assert_eq!(read(r#"{"at":null}"#, &first), Err("no at or arrival".to_owned()));
        first.given.arrival = DateTime::from_timestamp(7, 0);
        let (id, kind, time) = read(r#"{"b":1,"at":null}"#, &first).unwrap();
        assert_eq!((kind.as_str(), time), ("push", 7_000_000));
        assert_eq!(read(r#"{"a":{"b":1},"x":2}"#, &first).unwrap().0, id, "the same values in other places");
        assert_ne!(read(r#"{"c":1}"#, &first).unwrap().0, id);
        first.given.headers.insert("x-id".to_owned(), "a b".to_owned());
        assert_eq!(read(r#"{"b":1,"at":3}"#, &first).unwrap(), ("a b".to_owned(), "push".to_owned(), 3_000_000));
        let parts = Settings { fields: EventsConfig::preset("cloudevents").unwrap(), ..Settings::default() };
        let text = r#"{"source":"/s","id":"1","type":"t","time":"2024-05-01"}"#;
        assert_eq!(read(text, &parts).unwrap().0, "/s/1");
    }

    #[test]
    fn an_accepted_event_is_never_too_deep_for_serde_json() {
        let nested = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!(r#"{{"event_id":"a","event_type":"t","event_time":0,"x":{open}{close}}}"#)
        };
        let deepest = nested(json::MAX_NESTING);
        assert!(read(deepest.as_bytes(), &Settings::default()).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&deepest).is_ok());
        assert_eq!(refused(nested(json::MAX_NESTING + 1)), "nested deeper than 127 levels");
        assert_eq!(refused(nested(1_000_000)), "nested deeper than 127 levels");
    }
}
