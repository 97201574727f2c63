//! Finds the values of an event's required fields where the project says that they are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use lakebed_project::{EventsConfig, Path, Place, Places};

use crate::json::{self, Entries, Json, Kind};

/// What is said of events beside their text, by the request that brought them and the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// When they came.
    pub arrival: Option<DateTime<Utc>>,
}

/// A value that was found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// In the event; not null.
    Value(Json<'a>, Kind),
    /// Elsewhere, or made of it.
    Text(Cow<'a, str>),
    /// The time of arrival.
    Time(DateTime<Utc>),
}

/// The first of the places that has a value, and the value. `at` gives the one at a path of the event.
pub(crate) fn find<'a>(
    places: &Places,
    text: &[u8],
    given: &'a Given,
    at: impl Fn(&Path) -> Option<Json<'a>>,
) -> Option<Found<'a>> {
    places.0.iter().find_map(|place| match place {
        Place::Path(path) => at(path).map(|value| Found::Value(value, Kind::of(value))),
        Place::Header(name) => given.headers.get(name).map(|text| Found::Text(Cow::Borrowed(text))),
        Place::Arrival => given.arrival.map(Found::Time),
        Place::ContentHash(values) => Some(Found::Text(Cow::Owned(hash(values, text, &at)))),
    })
}

/// The value at a path, if the event has one. JSON's null is none.
pub(crate) fn at<'a>(path: &Path, entries: &Entries<'a>) -> Option<Json<'a>> {
    let (first, rest) = path.split_first()?;
    let mut value = entries.iter().find(|(key, _)| key == first)?.1;
    for key in rest {
        if Kind::of(value) != Kind::Object {
            return None;
        }
        // Cannot fail: the value was checked with the event around it.
        let inner = json::object(value.get()).ok()?;
        value = inner.into_iter().find(|(name, _)| name == key)?.1;
    }
    (Kind::of(value) != Kind::Null).then_some(value)
}

/// The hash of some values as they are written, each with its place; of the whole text, where none is named.
fn hash<'a>(values: &[Vec<Path>], text: &[u8], at: impl Fn(&Path) -> Option<Json<'a>>) -> String {
    if values.is_empty() {
        return blake3::hash(text).to_hex().to_string();
    }
    let mut hasher = blake3::Hasher::new();
    for (place, value) in (0u32..).zip(values) {
        if let Some(value) = value.iter().find_map(&at) {
            hasher.update(&place.to_le_bytes());
            hasher.update(&(value.get().len() as u64).to_le_bytes());
            hasher.update(value.get().as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// The key of an event's own source.
pub(crate) const SOURCE: &str = "source";

/// Whether all of a value at a key of the event itself is in a column of the log's own.
pub(crate) fn is_own(fields: &EventsConfig, key: &str, value: Json<'_>) -> bool {
    let is = |places: &Places| matches!(places.only_path().map(Vec::as_slice), Some([only]) if only == key);
    let id = match fields.id.as_slice() {
        [only] => is(only),
        // What was joined is not the value.
        _ => false,
    };
    id || is(&fields.event_type) || is(&fields.event_time) || (key == SOURCE && Kind::of(value) == Kind::Text)
}

/// Whether a path makes no column, because the project says so.
pub(crate) fn is_unflattened(fields: &EventsConfig, path: &[impl AsRef<str>]) -> bool {
    let is = |left: &Path| left.iter().map(String::as_str).eq(path.iter().map(AsRef::as_ref));
    fields.unflattened.iter().any(is)
}
