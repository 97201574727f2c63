//! The sections of lakebed.toml, as types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lakebed_log::Ack;

use crate::places::{Path, Place, Places, keys};

/// `[events]`: where an event's required fields are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Its id. Of several parts the values are joined with `/`.
    pub id: Vec<Places>,
    /// Its type.
    pub event_type: Places,
    /// Its time: a text, or a number of seconds, milliseconds, microseconds or nanoseconds.
    pub event_time: Places,
    /// What is not flattened: it is in the document alone.
    pub unflattened: Vec<Path>,
}

/// The names of [`EventsConfig::preset`].
pub(crate) const PRESETS: [&str; 7] =
    ["lakebed", "cloudevents", "segment", "snowplow", "github", "debezium", "eventbridge"];

/// What tells a change of Debezium's from every other, and is the same when it is sent again: its place in the log of the
/// database that it is of (Debezium's `source` block: PostgreSQL, MySQL and MariaDB, SQL Server, Oracle, MongoDB), and the row.
const OF_A_CHANGE: [&str; 20] = [
    "source.db",
    "source.schema",
    "source.table",
    "source.collection",
    "source.ts_ms",
    "source.txId",
    "source.lsn",
    "source.gtid",
    "source.file",
    "source.pos",
    "source.row",
    "source.change_lsn",
    "source.commit_lsn",
    "source.event_serial_no",
    "source.scn",
    "source.rs_id",
    "source.ord",
    "op",
    "before",
    "after",
];

impl EventsConfig {
    fn at(id: &str, event_type: &str, event_time: &str) -> Self {
        let [id, event_type, event_time] = [id, event_type, event_time].map(Places::at);
        Self { id: vec![id], event_type, event_time, unflattened: Vec::new() }
    }

    /// Where well-known senders put the fields.
    ///
    /// CloudEvents 1.0 (JSON format; an id is one of its source alone, and a time may be absent), Segment's spec of common
    /// fields, Snowplow's enriched events as its analytics SDKs give them, GitHub's webhooks (id and type are headers, and
    /// there is no time), Debezium's change events with and without their schema, Amazon EventBridge's event structure.
    pub fn preset(name: &str) -> Option<Self> {
        let either = |path: &str| vec![keys(&format!("payload.{path}")), keys(path)];
        let first_of = |paths: &[&str]| Places(paths.iter().map(|path| Place::Path(keys(path))).collect());
        Some(match name {
            "lakebed" => Self::default(),
            "cloudevents" => Self {
                id: vec![Places::at("source"), Places::at("id")],
                event_time: Places(vec![Place::Path(keys("time")), Place::Arrival]),
                ..Self::at("id", "type", "time")
            },
            "segment" => Self::at("messageId", "type", "timestamp"),
            "snowplow" => Self {
                event_type: first_of(&["event_name", "event"]),
                event_time: first_of(&["derived_tstamp", "collector_tstamp"]),
                ..Self::at("event_id", "event", "collector_tstamp")
            },
            "github" => Self {
                id: vec![Places(vec![Place::Header("x-github-delivery".to_owned())])],
                event_type: Places(vec![Place::Header("x-github-event".to_owned())]),
                event_time: Places(vec![Place::Arrival]),
                unflattened: Vec::new(),
            },
            "debezium" => Self {
                id: vec![Places(vec![Place::ContentHash(OF_A_CHANGE.map(either).to_vec())])],
                event_type: first_of(&[
                    "payload.source.table",
                    "source.table",
                    "payload.source.collection",
                    "source.collection",
                ]),
                event_time: first_of(&["payload.source.ts_ms", "source.ts_ms", "payload.ts_ms", "ts_ms"]),
                unflattened: ["schema", "payload.before", "payload.after", "before", "after"].map(keys).to_vec(),
            },
            "eventbridge" => Self::at("id", "detail-type", "time"),
            _ => return None,
        })
    }

    /// The headers in which something of an event may be.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.id.iter().chain([&self.event_type, &self.event_time]).flat_map(Places::headers)
    }
}

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

/// `[capture.NAME]`: a database whose changes become events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// `postgres://user@host:5432/database`; a password in it may come from the environment alone.
    pub url: Option<Secret>,
    /// From the environment alone.
    pub password: Option<Secret>,
    /// A file with the password in it, relative to the project's directory.
    pub password_file: Option<PathBuf>,
    /// The publication that says which tables are captured.
    pub publication: String,
    /// The replication slot; `lakebed_NAME` where it is not set.
    pub slot: Option<String>,
    /// Of the publication's tables these alone, each with its schema; all of them where there is none.
    pub tables: Vec<(String, String)>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            password_file: None,
            publication: "lakebed".to_owned(),
            slot: None,
            tables: Vec::new(),
        }
    }
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

/// `[alerts]`: whom a server calls when something goes wrong, and what counts as that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertsConfig {
    /// A URL to which a JSON object is posted. It may be a secret.
    pub webhook: Option<Secret>,
    /// A command of the shell's that gets the object on its stdin.
    pub command: Option<String>,
    /// Tables that are behind the log for longer are stale.
    pub stale_after: Duration,
    /// So many events in quarantine within a minute are a burst.
    pub quarantine_burst: u64,
    /// Checks are asked of new tables, and not more often than this.
    pub check_every: Duration,
}

/// `[serve]`: where to listen; `None` where it is set to "off".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Flight SQL.
    pub flight: Option<SocketAddr>,
    /// Events, health and metrics.
    pub http: Option<SocketAddr>,
    /// A longer body of events is refused. Bytes, decompressed.
    pub max_body_bytes: usize,
    /// How much of the bodies of events is held in memory at once; whoever comes then is asked to come again. Bytes.
    pub ingest_memory: usize,
    /// What senders of webhooks sign with; from the environment alone.
    pub webhook_secret: Option<Secret>,
    /// What the server signs tickets and prepared statements with; from the environment alone. Without it, what one process signed
    /// is good with that process alone.
    pub secret: Option<Secret>,
    /// The certificate that Flight SQL shows, and the chain behind it: a PEM file.
    pub tls_cert: Option<PathBuf>,
    /// Its private key: a PEM file.
    pub tls_key: Option<PathBuf>,
    /// Who signs the certificates that clients have to show, where they have to: a PEM file.
    pub tls_client_ca: Option<PathBuf>,
    /// A proxy before it speaks TLS with the clients.
    pub behind_tls_proxy: bool,
    /// So many statements are computed at once; others wait.
    pub queries_at_once: usize,
    /// So many wait at most; whoever comes then is asked to come again.
    pub queries_waiting: usize,
    /// What one statement may hold in memory while it is computed; more goes to disk where it can, else it fails. Bytes.
    pub query_memory: usize,
    /// What all statements may hold together. Bytes.
    pub queries_memory: usize,
    /// Bytes of tables that are kept in memory for who asks for them again; 0 keeps none.
    pub tables_memory: usize,
    /// A statement that takes longer is stopped.
    pub query_seconds: Duration,
}
