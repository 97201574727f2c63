//! Takes JSON apart one level at a time, so that every value keeps its own text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of objects and arrays that is accepted: the deepest that `serde_json` itself reads.
pub(crate) const MAX_NESTING: usize = 127;

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    Text,
    Number,
    Boolean,
    Null,
}

/// The text of a valid JSON value, without blanks around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// A text that somebody has checked.
    pub(crate) fn checked(text: &'a str) -> Self {
        Self(text)
    }

    pub(crate) fn get(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(value: &'a RawValue) -> Self {
        Self(value.get())
    }
}

impl Kind {
    /// The kind of a value: its first byte says it.
    pub(crate) fn of(value: Json<'_>) -> Self {
        match value.get().as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::Text,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'n') => Self::Null,
            _ => Self::Number,
        }
    }
}

/// The keys and values of one object, without what is inside the values.
pub(crate) type Entries<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Reads an object. All of it is checked, but only its own keys are decoded. Of a key that is there twice, the last
/// value counts, as in most readers of JSON.
pub(crate) fn object(text: &str) -> Result<Entries<'_>, serde_json::Error> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Entries<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Entries::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                entries.push((string(key.into()).text, value.into()));
            }
            Ok(entries)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    let mut entries = reader.deserialize_map(Object)?;
    reader.end()?;
    keep_last(&mut entries);
    Ok(entries)
}

/// Above this many keys, repeated ones are found by hashing.
const FEW: usize = 40;

fn keep_last(entries: &mut Entries<'_>) {
    let repeated: Vec<usize> = if entries.len() <= FEW {
        let again = |at: usize| entries[at + 1..].iter().any(|(key, _)| *key == entries[at].0);
        (0..entries.len()).filter(|&at| again(at)).collect()
    } else {
        let mut seen = HashSet::with_capacity(entries.len());
        (0..entries.len()).rev().filter(|&at| !seen.insert(entries[at].0.as_ref())).collect()
    };
    if !repeated.is_empty() {
        let repeated: HashSet<usize> = repeated.into_iter().collect();
        let mut at = 0..;
        entries.retain(|_| at.next().is_none_or(|at| !repeated.contains(&at)));
    }
}

/// A JSON string as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unescaped<'a> {
    /// The text; halves of surrogate pairs, which no text can hold, are U+FFFD.
    pub(crate) text: Cow<'a, str>,
    /// Whether there was such a half.
    pub(crate) lossy: bool,
}

/// Takes the quotes and escapes off a valid JSON string.
pub(crate) fn string(value: Json<'_>) -> Unescaped<'_> {
    let quoted = value.get();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Unescaped { text: Cow::Borrowed(inner), lossy: false };
    }
    match serde_json::from_str(quoted) {
        Ok(text) => Unescaped { text: Cow::Owned(text), lossy: false },
        // The string is valid as JSON goes, so this is a `\ud800` without its other half.
        Err(_) => Unescaped { text: Cow::Owned(unescape_lossy(inner)), lossy: true },
    }
}

fn unescape_lossy(inner: &str) -> String {
    let mut units = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        units.extend(plain.encode_utf16());
        let mut after = escape.chars();
        let unit = match after.next() {
            Some('u') => {
                let unit = escape.get(1..5).and_then(|hex| u16::from_str_radix(hex, 16).ok());
                after = escape.get(5..).unwrap_or_default().chars();
                unit.unwrap_or(0xFFFD)
            }
            Some('b') => 8,
            Some('t') => 9,
            Some('n') => 10,
            Some('f') => 12,
            Some('r') => 13,
            Some('"') => u16::from(b'"'),
            Some('/') => u16::from(b'/'),
            _ => u16::from(b'\\'),
        };
        units.push(unit);
        rest = after.as_str();
    }
    units.extend(rest.encode_utf16());
    String::from_utf16_lossy(&units)
}

/// The text of a JSON string as a column holds it.
pub(crate) fn text(value: Json<'_>) -> Cow<'_, str> {
    without_nul(string(value).text)
}

/// What `serde_json` says is wrong, without the place, which it puts behind it.
pub(crate) fn words(error: &serde_json::Error) -> String {
    let (whole, place) = (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
    whole.strip_suffix(&place).unwrap_or(&whole).to_owned()
}

/// Text as a column holds it: U+0000, which PostgreSQL cannot store, becomes U+FFFD.
pub(crate) fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    match memchr::memchr(0, text.as_bytes()) {
        Some(_) => Cow::Owned(text.replace('\0', "\u{FFFD}")),
        None => text,
    }
}

/// How deep objects and arrays nest in a valid JSON value; 0 for a scalar.
pub(crate) fn nesting(value: Json<'_>) -> usize {
    if !matches!(Kind::of(value), Kind::Object | Kind::Array) {
        return 0;
    }
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in value.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> Json<'_> {
        serde_json::from_str::<&RawValue>(text).unwrap().into()
    }

    fn entries(text: &str) -> Vec<(String, String)> {
        object(text).unwrap().into_iter().map(|(key, value)| (key.into_owned(), value.get().to_owned())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn values_keep_their_text() {
        let text = r#"{"a" : 1.50e+3 ,"b":[1, 2 ],"c\u0041":{"d": 12345678901234567890123}}"#;
        let expected = [("a", "1.50e+3"), ("b", "[1, 2 ]"), ("cA", r#"{"d": 12345678901234567890123}"#)];
        assert_eq!(entries(text), pairs(&expected));
    }

    #[test]
    fn of_a_repeated_key_the_last_value_counts() {
        assert_eq!(entries(r#"{"a":1,"b":2,"\u0061":3,"a":4}"#), pairs(&[("b", "2"), ("a", "4")]));
        let many = (0..200).map(|n| format!(r#""k{}":{n}"#, n % 100)).collect::<Vec<_>>().join(",");
        let kept = entries(&format!("{{{many}}}"));
        assert_eq!(kept.len(), 100);
        assert_eq!(kept[0], ("k0".to_owned(), "100".to_owned()));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for text in ["", "{", "[1]", "{} {}", "{\"a\":1,}", "{\"a\":01}", "{'a':1}", "{\"a\":\"\t\"}", "{\"a\":[1,}]}"]
        {
            assert!(object(text).is_err(), "{text}");
        }
    }

    #[test]
    fn halves_of_pairs_become_the_replacement() {
        assert_eq!(string(raw(r#""a\nb""#)), Unescaped { text: "a\nb".into(), lossy: false });
        assert_eq!(string(raw(r#""\ud83d\ude00""#)), Unescaped { text: "😀".into(), lossy: false });
        let broken = string(raw(r#""ä\ud83d\ude00 \ud800x\"\\\/\b\f\n\r\t\udc00""#));
        assert!(broken.lossy);
        assert_eq!(broken.text, "ä😀 \u{FFFD}x\"\\/\u{8}\u{c}\n\r\t\u{FFFD}");
        assert_eq!(entries(r#"{"\ud800":1}"#), pairs(&[("\u{FFFD}", "1")]));
    }

    #[test]
    fn nesting_counts_brackets_outside_of_strings() {
        for (text, depth) in [("1", 0), ("\"[[\"", 0), ("[]", 1), (r#"[{"a":["]\"[["]}]"#, 3), ("[[],[[]]]", 3)] {
            assert_eq!(nesting(raw(text)), depth, "{text}");
        }
    }

    #[test]
    fn the_nesting_limit_is_that_of_serde_json() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_NESTING)).is_ok());
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_NESTING + 1)).is_err());
    }

    proptest! {
        #[test]
        fn the_lossy_way_agrees_where_nothing_is_lost(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unescape_lossy(&quoted[1..quoted.len() - 1]), text.clone());
            let escaped = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            prop_assert_eq!(unescape_lossy(&escaped), text);
        }
    }
}
