//! Why an event is in quarantine; each prints as one sentence.

use std::fmt;

use chrono::{DateTime, Utc};
use lakebed_project::Places;

use crate::json::{self, Kind, MAX_NESTING};

/// The reason why an event was refused. Places in its bytes count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLong { bytes: u64, limit: usize },
    CutOff,
    Damaged(String),
    NotUtf8 { at: usize },
    NotJson { why: String, at: usize },
    NotAnObject(Kind),
    TooDeep,
    Missing(String),
    WrongKind(String, Kind),
    Empty(String),
    NotStorable(String),
    NotATime(String, String),
    TooEarly(String, DateTime<Utc>, DateTime<Utc>),
    TooLate(String, DateTime<Utc>, DateTime<Utc>),
}

impl Refusal {
    /// Whether the bytes are no JSON, whatever was meant by them.
    pub(crate) fn is_no_json(&self) -> bool {
        matches!(self, Self::CutOff | Self::Damaged(_) | Self::NotUtf8 { .. } | Self::NotJson { .. })
    }

    /// The refusal for what `serde_json` says about `text`.
    pub(crate) fn not_json(text: &str, error: &serde_json::Error) -> Self {
        let lines_before = text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let at = lines_before.map(str::len).sum::<usize>() + error.column();
        Self::NotJson { why: json::words(error), at: at.max(1) }
    }

    /// The refusal for a time that cannot be read, with the start of its text.
    pub(crate) fn not_a_time(field: &Places, text: &str) -> Self {
        let mut short: String = text.chars().take(80).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        Self::NotATime(field.to_string(), short)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, limit } => write!(f, "{bytes} bytes long, and the limit is {limit}"),
            Self::Damaged(why) => f.write_str(why),
            Self::CutOff => f.write_str("the array ends without ']' in or after this event"),
            Self::NotUtf8 { at } => write!(f, "not UTF-8 at byte {at}"),
            Self::NotJson { why, at } => write!(f, "not JSON: {why} at byte {at}"),
            Self::NotAnObject(kind) => write!(f, "not a JSON object but {kind}"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_NESTING} levels"),
            Self::Missing(field) => write!(f, "no {field}"),
            Self::WrongKind(field, kind) => write!(f, "{field} is {kind}"),
            Self::Empty(field) => write!(f, "{field} is empty"),
            Self::NotStorable(field) => write!(f, "{field} holds U+0000 or half of a surrogate pair"),
            Self::NotATime(field, text) => write!(f, "{field} '{text}' is not a time"),
            Self::TooEarly(field, time, bound) => write!(f, "{field} {time:?} is before {bound:?}"),
            Self::TooLate(field, time, bound) => write!(f, "{field} {time:?} is after {bound:?}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "an object",
            Self::Array => "an array",
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Null => "null",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_counts_bytes_from_the_start() {
        let place = |text: &str| Refusal::not_json(text, &crate::json::object(text).unwrap_err()).to_string();
        assert_eq!(place(r#"{"a":1,"b":nul}"#), "not JSON: expected ident at byte 15");
        assert_eq!(place("{\"a\":\n\n 1 x"), "not JSON: expected `,` or `}` at byte 11");
        assert_eq!(place(r#"{"a":1}}"#), "not JSON: trailing characters at byte 8");
        assert_eq!(place(r#"{"ä":"#), "not JSON: EOF while parsing a value at byte 6");
    }

    #[test]
    fn long_texts_are_shortened() {
        let reason = Refusal::not_a_time(&Places::parse("event_time").unwrap(), &"ä".repeat(1000)).to_string();
        assert_eq!(reason, format!("event_time '{}…' is not a time", "ä".repeat(80)));
    }
}
