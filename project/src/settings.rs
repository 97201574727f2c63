//! The sections of lakebed.toml, as types.

use std::net::SocketAddr;
use std::path::PathBuf;

use lakebed_log::Ack;

/// `[events]`: where an event's required fields are. Paths are dotted: `context.event.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Its id.
    pub id: IdField,
    /// Its type.
    pub event_type: String,
    /// Its time: a text, or a number of seconds, milliseconds, microseconds or nanoseconds.
    pub event_time: String,
}

/// What tells events apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdField {
    /// The value at a path.
    At(String),
    /// The hash of the event's text: sent twice, it is the same event.
    OfContent,
}

impl EventsConfig {
    pub(crate) fn at(id: &str, event_type: &str, event_time: &str) -> Self {
        let [event_type, event_time] = [event_type, event_time].map(str::to_owned);
        Self { id: IdField::At(id.to_owned()), event_type, event_time }
    }

    /// Where well-known senders put the fields.
    ///
    /// CloudEvents 1.0 (JSON format), Segment's spec of common fields, Amazon EventBridge's event structure.
    pub fn preset(name: &str) -> Option<Self> {
        Some(match name {
            "lakebed" => Self::default(),
            "cloudevents" => Self::at("id", "type", "time"),
            "segment" => Self::at("messageId", "type", "timestamp"),
            "eventbridge" => Self::at("id", "detail-type", "time"),
            _ => return None,
        })
    }
}

/// The names of [`EventsConfig::preset`].
pub(crate) const PRESETS: [&str; 4] = ["lakebed", "cloudevents", "segment", "eventbridge"];

impl Default for EventsConfig {
    fn default() -> Self {
        Self::at("event_id", "event_type", "event_time")
    }
}

/// `[ingest]`: how events are read and appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestConfig {
    /// When an append may return.
    pub ack: Ack,
    /// A longer event goes to quarantine. Bytes.
    pub max_event_bytes: usize,
    /// How many keys a flattened path has at most.
    pub max_depth: usize,
    /// How many flattened columns a batch gets at most.
    pub max_columns: usize,
    /// A batch is cut after this many events, …
    pub batch_events: usize,
    /// … or after this many bytes of text, whichever comes first.
    pub batch_bytes: usize,
}

/// `[refresh]`: how models are refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshConfig {
    /// What changed is held in memory: a refresh, or a replay, with more new events than this goes in several epochs.
    pub events_at_once: u64,
}

/// `[duckdb]`: where the DuckDB file is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuckDbConfig {
    /// Relative to the project's directory; `published` in the lake where it is not set.
    pub directory: Option<PathBuf>,
    /// How many published versions are kept, the newest included. At least 1.
    pub keep: usize,
}

/// `[postgres]`: the database that models are kept in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresConfig {
    /// `postgres://user@host:5432/database`; a password in it may come from the environment alone.
    pub url: Option<Secret>,
    /// From the environment alone.
    pub password: Option<Secret>,
    /// A file with the password in it, relative to the project's directory.
    pub password_file: Option<PathBuf>,
    /// Whether the log is a table there as well.
    pub events: bool,
}

/// `[delta]`: where models are kept as Delta tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeltaConfig {
    /// A directory relative to the project's, or `s3://bucket/prefix`; `delta` in the lake where it is not set.
    pub url: Option<String>,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A text to keep.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// `[serve]`: where to listen; `None` where it is set to "off".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Flight SQL.
    pub flight: Option<SocketAddr>,
    /// Events, health and metrics.
    pub http: Option<SocketAddr>,
    /// A longer body of events is refused. Bytes, decompressed.
    pub max_body_bytes: usize,
    /// How much of the bodies of events is held in memory at once; whoever comes then is asked to come again. Bytes.
    pub ingest_memory: usize,
}
