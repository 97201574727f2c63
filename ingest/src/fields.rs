//! Where in an event its id, type and time are: by default at the keys `event_id`, `event_type` and `event_time`.

use std::fmt;

use lakebed_project::{EventsConfig, IdField};
use serde_json::value::RawValue;

use crate::json::{self, Entries, Kind};

/// Where the required fields of an event are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Its id; without one, the hash of its text is the id.
    pub(crate) id: Option<Path>,
    pub(crate) event_type: Path,
    pub(crate) event_time: Path,
}

/// Keys from the event's root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    /// Whether the path is a key of the event itself, and this one.
    pub(crate) fn is(&self, key: &str) -> bool {
        matches!(self.0.as_slice(), [only] if only == key)
    }

    /// The value there, if the event has one.
    pub(crate) fn find<'a>(&self, entries: &Entries<'a>) -> Option<&'a RawValue> {
        let (first, rest) = self.0.split_first()?;
        let mut value = entries.iter().find(|(key, _)| key == first)?.1;
        for key in rest {
            if Kind::of(value) != Kind::Object {
                return None;
            }
            // Cannot fail: the value was checked with the event around it.
            let inner = json::object(value.get()).ok()?;
            value = inner.into_iter().find(|(name, _)| name == key)?.1;
        }
        Some(value)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Fields {
    /// As a project has set it.
    pub fn of(config: &EventsConfig) -> Self {
        let id = match &config.id {
            IdField::At(path) => Some(Path::of(path)),
            IdField::OfContent => None,
        };
        Self { id, event_type: Path::of(&config.event_type), event_time: Path::of(&config.event_time) }
    }

    /// Whether one of them is at this key of the event itself.
    pub(crate) fn are_at(&self, key: &str) -> bool {
        self.id.as_ref().is_some_and(|id| id.is(key)) || self.event_type.is(key) || self.event_time.is(key)
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::of(&EventsConfig::default())
    }
}
