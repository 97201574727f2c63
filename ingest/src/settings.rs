//! What is configurable about reading events: pinned types, limits, batch size, and the window of accepted times.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_log::{ColumnType, column_name};
use lakebed_project::{Config, EventsConfig, IngestConfig};

use crate::fields::Given;

/// An `event_time` further ahead of the clock than this is a bad clock's, and goes to quarantine.
const AHEAD: TimeDelta = TimeDelta::days(366);

/// The settings of a reader. `Settings::default()` is right for most; `latest` is the caller's, who knows the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where an event's id, type and time are.
    pub fields: EventsConfig,
    /// What is said of the events beside their text.
    pub given: Given,
    /// Pinned types, by flattened column name (`price`, `user_agent_browser`).
    pub declared: BTreeMap<String, ColumnType>,
    /// A longer event goes to quarantine with its first 64 KiB. Bytes, at most 512 MiB.
    pub max_event_bytes: usize,
    /// How many keys a flattened path has at most; an object further down becomes JSON text. At least 1.
    pub max_depth: usize,
    /// How many flattened columns a batch gets at most; values of further ones stay in `_doc` alone.
    pub max_columns: usize,
    /// A batch is cut after this many events, …
    pub batch_events: usize,
    /// … or after this many bytes of text, whichever comes first. Bytes, at most 512 MiB.
    pub batch_bytes: usize,
    /// The earliest accepted `event_time`, inclusive.
    pub earliest: Option<DateTime<Utc>>,
    /// The latest accepted `event_time`, inclusive.
    pub latest: Option<DateTime<Utc>>,
}

impl Settings {
    /// How a project's settings say that events are read.
    pub fn of(config: &Config) -> Self {
        let IngestConfig { max_event_bytes, max_depth, max_columns, batch_events, batch_bytes, .. } = config.ingest;
        let (fields, declared) = (config.events.clone(), config.columns.clone());
        Self { fields, declared, max_event_bytes, max_depth, max_columns, batch_events, batch_bytes, ..Self::default() }
    }

    /// The type that is pinned for a path.
    pub(crate) fn declared_at<K: AsRef<str>>(&self, path: &[K]) -> Option<ColumnType> {
        if self.declared.is_empty() {
            return None;
        }
        let path: Vec<String> = path.iter().map(|key| key.as_ref().to_owned()).collect();
        self.declared.get(&column_name(&path)).copied()
    }

    /// The same for events that come at a time.
    #[must_use]
    pub fn at(self, now: DateTime<Utc>) -> Self {
        let given = Given { arrival: Some(now), ..self.given };
        Self { latest: now.checked_add_signed(AHEAD), given, ..self }
    }

    /// The same for a batch that is never cut.
    #[must_use]
    pub fn uncut(self) -> Self {
        Self { batch_events: usize::MAX, batch_bytes: usize::MAX, ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fields: EventsConfig::default(),
            given: Given::default(),
            declared: BTreeMap::new(),
            max_event_bytes: 16 << 20,
            max_depth: 8,
            max_columns: 1000,
            batch_events: 65_536,
            batch_bytes: 24 << 20,
            earliest: Some(DateTime::UNIX_EPOCH),
            latest: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_sets_nothing_reads_as_the_reader_does_by_default() {
        assert_eq!(Settings::of(&Config::default()), Settings::default());
    }
}
