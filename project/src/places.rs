//! Where a required field of an event is, as `[events]` writes it: `payload.ts_ms | ts_ms | arrival`.

use std::fmt;

/// Keys from the event's root to a value.
pub type Path = Vec<String>;

/// A place where a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the event: `context.event.id`.
    Path(Path),
    /// In a header of the request that brought it, by its name in lower case: `header:X-GitHub-Event`.
    Header(String),
    /// The time at which it came: `arrival`.
    Arrival,
    /// The hash of the event's text: `content-hash`; or of some of its values, the first that is there of each:
    /// `content-hash(payload.op | op, payload.after | after)`.
    ContentHash(Vec<Vec<Path>>),
}

/// Places, of which the first counts that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places(pub Vec<Place>);

impl Places {
    /// Reads them from their text.
    ///
    /// # Errors
    /// One sentence on what is no place.
    pub fn parse(text: &str) -> Result<Self, String> {
        split(text, '|').into_iter().map(place).collect::<Result<_, _>>().map(Self)
    }

    /// The value at one path.
    pub(crate) fn at(path: &str) -> Self {
        Self(vec![Place::Path(keys(path))])
    }

    /// The path, where there is no other place.
    pub fn only_path(&self) -> Option<&Path> {
        match self.0.as_slice() {
            [Place::Path(path)] => Some(path),
            _ => None,
        }
    }

    /// The headers among them.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|place| match place {
            Place::Header(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&places.join(" or "))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&path.join(".")),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Arrival => f.write_str("arrival"),
            Self::ContentHash(_) => f.write_str("content-hash"),
        }
    }
}

/// A path as it is written, `a.b`.
///
/// # Errors
/// One sentence where it is none.
pub(crate) fn path(text: &str) -> Result<Path, String> {
    let path = keys(text);
    let plain = |key: &String| !key.is_empty() && !key.contains(['(', ')', '|', ',', ':']);
    match path.iter().all(plain) {
        true => Ok(path),
        false => Err(format!("'{text}' is no path such as messageId or context.event.id")),
    }
}

/// The keys of a dotted path.
pub(crate) fn keys(text: &str) -> Path {
    text.split('.').map(|key| key.trim().to_owned()).collect()
}

fn place(text: &str) -> Result<Place, String> {
    if let Some(name) = text.strip_prefix("header:") {
        let name = name.trim().to_ascii_lowercase();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        return match plain && !name.is_empty() {
            true => Ok(Place::Header(name)),
            false => Err(format!("'{text}' names no header, such as header:X-GitHub-Event")),
        };
    }
    match text {
        "arrival" => Ok(Place::Arrival),
        "content-hash" => Ok(Place::ContentHash(Vec::new())),
        _ => match text.strip_prefix("content-hash(").and_then(|rest| rest.strip_suffix(')')) {
            Some(values) => {
                let value = |value: &str| split(value, '|').into_iter().map(path).collect::<Result<Vec<_>, _>>();
                split(values, ',').into_iter().map(value).collect::<Result<_, _>>().map(Place::ContentHash)
            }
            None => path(text).map(Place::Path),
        },
    }
}

/// The parts of a text, without blanks around them; what is within parentheses is not parted.
pub fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (place, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if letter == at && depth == 0 => {
                parts.push(text[start..place].trim());
                start = place + letter.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let path = |text: &str| keys(text);
        assert_eq!(Places::parse("a.b").unwrap(), Places::at("a.b"));
        let places = Places::parse("header:X-GitHub-Event | a.b|arrival").unwrap();
        assert_eq!(places.0, [Place::Header("x-github-event".to_owned()), Place::Path(path("a.b")), Place::Arrival]);
        assert_eq!(places.to_string(), "header x-github-event or a.b or arrival");
        assert_eq!(places.headers().collect::<Vec<_>>(), ["x-github-event"]);
        let hash = Places::parse("id | content-hash(p.op|op, after)").unwrap();
        let values = vec![vec![path("p.op"), path("op")], vec![path("after")]];
        assert_eq!(hash.0, [Place::Path(path("id")), Place::ContentHash(values)]);
        for wrong in ["", "a..b", "a|", "header:", "header:a b", "content-hash(", "content-hash()", "a, b", "x(a)"] {
            assert!(Places::parse(wrong).is_err(), "{wrong}");
        }
    }
}
