//! A column's text, as the server prints it, into JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

/// What a value becomes. The server prints with `DateStyle` ISO, in UTC, bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// true or false.
    Bool,
    /// A JSON number; what JSON has no number for is a text: `NaN`, `Infinity`.
    Number,
    /// The JSON itself.
    Json,
    /// A text of base64.
    Bytes,
    /// RFC 3339, `2026-01-02T03:04:05.678Z`.
    Instant,
    /// The same without a zone.
    LocalTime,
    /// As it is printed.
    Text,
    /// A JSON array, or arrays in it; between the elements there is this byte.
    Array(Box<Kind>, u8),
}

impl Kind {
    /// What values of one of PostgreSQL's own types become, by its id in `pg_type`; `None` where the catalog has to be asked.
    pub(crate) fn of_type(id: u32) -> Option<Self> {
        Some(match id {
            16 => Self::Bool,
            // int8, int2, int4, oid; float4, float8. A numeric has more digits than readers of JSON keep.
            20 | 21 | 23 | 26 | 700 | 701 => Self::Number,
            114 | 3802 => Self::Json,
            17 => Self::Bytes,
            1184 => Self::Instant,
            1114 => Self::LocalTime,
            // char, name, text, bpchar, varchar, date, time, timetz, interval, numeric, uuid, inet, money, …
            18 | 19 | 22 | 25 | 30 | 142 | 650 | 790 | 829 | 869 | 1042 | 1043 | 1082 | 1083 | 1186 | 1266 | 1560
            | 1562 | 1700 | 2950 => Self::Text,
            _ => return None,
        })
    }

    /// Writes a value.
    pub(crate) fn write(&self, text: &[u8], to: &mut Vec<u8>) {
        match self {
            Self::Bool => to.extend_from_slice(if text == b"t" { b"true" } else { b"false" }),
            Self::Number if is_number(text) => to.extend_from_slice(text),
            // A line is an event wherever it is shown: blanks between the parts are no part of the value.
            Self::Json if serde_json::from_slice::<IgnoredAny>(text).is_ok() => {
                to.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
            }
            Self::Bytes => match text.strip_prefix(b"\\x").and_then(of_hex) {
                Some(bytes) => string(STANDARD.encode(bytes).as_bytes(), to),
                None => string(text, to),
            },
            Self::Instant => match text.strip_suffix(b"+00").and_then(local_time) {
                Some(local) => string(&[local.as_slice(), b"Z"].concat(), to),
                None => string(text, to),
            },
            Self::LocalTime => match local_time(text) {
                Some(local) => string(&local, to),
                None => string(text, to),
            },
            Self::Array(element, delimiter) => {
                let start = to.len();
                if array(text, element, *delimiter, to).is_none() {
                    to.truncate(start);
                    string(text, to);
                }
            }
            Self::Number | Self::Json | Self::Text => string(text, to),
        }
    }
}

/// Writes a text as JSON has it. A database whose encoding is none may hold what is no UTF-8.
pub(crate) fn string(text: &[u8], to: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(text);
    // Writing into memory does not fail.
    let _ = serde_json::to_writer(to, text.as_ref());
}

/// Whether what the server prints is a number to JSON as well: all but `NaN` and `Infinity` are.
fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => true,
        [first, ..] => first.is_ascii_digit() && serde_json::from_slice::<IgnoredAny>(text).is_ok(),
        [] => false,
    }
}

/// `2026-01-02 03:04:05` with a T in between; `None` for years before 1 and after 9999, and for `infinity`.
fn local_time(text: &[u8]) -> Option<Vec<u8>> {
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    let is_date = date
        .iter()
        .enumerate()
        .all(|(at, byte)| if at == 4 || at == 7 { *byte == b'-' } else { byte.is_ascii_digit() });
    let is_time = time.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
    (is_date && text[10] == b' ' && is_time).then(|| [date, b"T", time].concat())
}

fn of_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?) as u8);
    text.chunks(2).map(byte).collect()
}

/// Writes an array, as `{1,NULL,"a \"b\""}` or `[0:1]={{1,2},{3,4}}`; `None` where it is none.
fn array(text: &[u8], element: &Kind, delimiter: u8, to: &mut Vec<u8>) -> Option<()> {
    // Bounds, where they do not begin at 1, end with an equals sign.
    let start = match text.first()? {
        b'[' => text.iter().position(|byte| *byte == b'=')? + 1,
        _ => 0,
    };
    let (mut at, mut depth, begin) = (start, 0usize, to.len());
    let mut unquoted = Vec::new();
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'{' => {
                to.push(b'[');
                depth += 1;
            }
            b'}' => {
                to.push(b']');
                depth = depth.checked_sub(1)?;
            }
            b'"' => {
                unquoted.clear();
                loop {
                    match *text.get(at)? {
                        b'"' => break,
                        b'\\' => {
                            unquoted.push(*text.get(at + 1)?);
                            at += 2;
                        }
                        other => {
                            unquoted.push(other);
                            at += 1;
                        }
                    }
                }
                at += 1;
                element.write(&unquoted, to);
            }
            byte if byte == delimiter => to.push(b','),
            _ => {
                let rest = &text[at - 1..];
                let end = rest.iter().position(|byte| *byte == delimiter || *byte == b'}')?;
                match &rest[..end] {
                    b"NULL" => to.extend_from_slice(b"null"),
                    value => element.write(value, to),
                }
                at += end - 1;
            }
        }
    }
    // No server prints others, and the event has to stay JSON.
    (depth == 0 && serde_json::from_slice::<serde::de::IgnoredAny>(&to[begin..]).is_ok()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: &Kind, text: &str) -> String {
        let mut to = Vec::new();
        kind.write(text.as_bytes(), &mut to);
        let json = String::from_utf8(to).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        json
    }

    #[test]
    fn values_are_json_of_their_types() {
        let cases = [
            (Kind::Bool, "t", "true"),
            (Kind::Number, "-9223372036854775808", "-9223372036854775808"),
            (Kind::Number, "1e-07", "1e-07"),
            (Kind::Number, "NaN", r#""NaN""#),
            (Kind::Number, "-Infinity", r#""-Infinity""#),
            (Kind::Json, "{\"a\":\n [1]}", r#"{"a":  [1]}"#),
            (Kind::Json, "nonsense", r#""nonsense""#),
            (Kind::Bytes, "\\x00ff10", r#""AP8Q""#),
            (Kind::Bytes, "\\x", r#""""#),
            (Kind::Instant, "2026-01-02 03:04:05.678901+00", r#""2026-01-02T03:04:05.678901Z""#),
            (Kind::Instant, "infinity", r#""infinity""#),
            (Kind::Instant, "0044-03-15 12:00:00+00 BC", r#""0044-03-15 12:00:00+00 BC""#),
            (Kind::LocalTime, "2026-01-02 03:04:05", r#""2026-01-02T03:04:05""#),
            (Kind::LocalTime, "-infinity", r#""-infinity""#),
            (Kind::LocalTime, "12026-01-02 03:04:05", r#""12026-01-02 03:04:05""#),
            (Kind::Text, "a\"b\n\\ä", r#""a\"b\n\\ä""#),
        ];
        for (kind, text, json) in cases {
            assert_eq!(written(&kind, text), json, "{text}");
        }
    }

    #[test]
    fn arrays_are_arrays_in_each_other_too() {
        let of = |kind| Kind::Array(Box::new(kind), b',');
        let cases = [
            (of(Kind::Number), "{}", "[]"),
            (of(Kind::Number), "{1,NULL,-3}", "[1,null,-3]"),
            (of(Kind::Number), "[0:1][2:3]={{1,2},{3,4}}", "[[1,2],[3,4]]"),
            (of(Kind::Text), r#"{a,"b,}{","NULL",NULL,"x\"y\\z",""}"#, r#"["a","b,}{","NULL",null,"x\"y\\z",""]"#),
            (of(Kind::Json), r#"{"{\"a\": [1, 2]}"}"#, r#"[{"a": [1, 2]}]"#),
            (of(Kind::Instant), r#"{"2026-01-02 03:04:05+00"}"#, r#"["2026-01-02T03:04:05Z"]"#),
            (Kind::Array(Box::new(Kind::Text), b';'), "{(2,2),(1,1);(4,4),(3,3)}", r#"["(2,2),(1,1)","(4,4),(3,3)"]"#),
            (of(Kind::Text), "{a", r#""{a""#),
            (of(Kind::Text), "{\"a", r#""{\"a""#),
        ];
        for (kind, text, json) in cases {
            assert_eq!(written(&kind, text), json, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_text_is_it_becomes_json(text in "[\\[\\]{}\",=\\\\a1 NUL\\n-]{0,20}") {
            let arrays = [Kind::Number, Kind::Json, Kind::Text].map(|kind| Kind::Array(Box::new(kind), b','));
            let plain = [Kind::Number, Kind::Json, Kind::Bytes, Kind::Instant, Kind::LocalTime];
            for kind in plain.into_iter().chain(arrays) {
                written(&kind, &text);
            }
        }
    }
}
