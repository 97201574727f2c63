//! The keys of lakebed.toml, and how each of them is set from its text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lakebed_log::Ack;

use crate::config::Config;
use crate::places::{self, Place, Places};
use crate::settings::{EventsConfig, PRESETS, Secret};

/// Every other key, with its section.
pub(crate) const KEYS: [(&str, &str); 48] = [
    ("project", "name"),
    ("lake", "url"),
    ("lake", "fsync"),
    ("s3", "region"),
    ("s3", "endpoint"),
    ("s3", "access_key_id"),
    ("s3", "secret_access_key"),
    ("events", "preset"),
    ("events", "id"),
    ("events", "type"),
    ("events", "time"),
    ("events", "unflattened"),
    ("ingest", "ack"),
    ("ingest", "max_event_bytes"),
    ("ingest", "max_depth"),
    ("ingest", "max_columns"),
    ("ingest", "batch_events"),
    ("ingest", "batch_bytes"),
    ("refresh", "events_at_once"),
    ("duckdb", "directory"),
    ("duckdb", "keep"),
    ("models", "sinks"),
    ("postgres", "url"),
    ("postgres", "password"),
    ("postgres", "password_file"),
    ("postgres", "events"),
    ("delta", "url"),
    ("serve", "flight"),
    ("serve", "http"),
    ("serve", "max_body_bytes"),
    ("serve", "ingest_memory"),
    ("serve", "webhook_secret"),
    ("serve", "secret"),
    ("serve", "tls_cert"),
    ("serve", "tls_key"),
    ("serve", "tls_client_ca"),
    ("serve", "behind_tls_proxy"),
    ("serve", "queries_at_once"),
    ("serve", "queries_waiting"),
    ("serve", "query_memory"),
    ("serve", "queries_memory"),
    ("serve", "tables_memory"),
    ("serve", "query_seconds"),
    ("alerts", "webhook"),
    ("alerts", "command"),
    ("alerts", "stale_after"),
    ("alerts", "quarantine_burst"),
    ("alerts", "check_every"),
];

/// Whether a setting is written as a number.
pub(crate) fn is_number(section: &str, name: &str) -> bool {
    matches!(
        (section, name),
        ("duckdb", "keep")
            | ("refresh", _)
            | (
                "serve",
                "max_body_bytes"
                    | "ingest_memory"
                    | "queries_at_once"
                    | "queries_waiting"
                    | "query_memory"
                    | "queries_memory"
                    | "tables_memory"
                    | "query_seconds"
            )
            | ("alerts", "stale_after" | "quarantine_burst" | "check_every")
    ) || (section == "ingest" && name != "ack")
}

impl Config {
    /// Sets one of [`KEYS`] from its text; the error says in one sentence what does not fit.
    pub(crate) fn set(&mut self, section: &str, key: &str, text: &str) -> Result<(), String> {
        const MOST_BYTES: usize = 512 << 20;
        match (section, key) {
            ("project", "name") if text.trim().is_empty() => return Err("a project needs a name".to_owned()),
            ("project", "name") => text.clone_into(&mut self.project),
            ("lake", "url") if text.is_empty() => return Err("a lake needs a place, such as ./lake".to_owned()),
            ("lake", "url") => text.clone_into(&mut self.lake),
            ("lake", "fsync") => self.fsync = switch(text)?,
            ("s3", _) if text.is_empty() => return Err("leave it out rather than empty".to_owned()),
            ("s3", "region") => self.s3.region = Some(text.to_owned()),
            ("s3", "endpoint") => self.s3.endpoint = Some(text.to_owned()),
            ("s3", "access_key_id") => self.s3.access_key_id = Some(text.to_owned()),
            ("s3", "secret_access_key") => self.s3.secret_access_key = Some(text.to_owned()),
            ("events", "preset") => {
                self.events =
                    EventsConfig::preset(text).ok_or_else(|| format!("'{text}' is none of {}", PRESETS.join(", ")))?;
            }
            ("events", "id") => {
                let parts = places::split(text, '+').into_iter().map(Places::parse).collect::<Result<Vec<_>, _>>()?;
                if parts.iter().any(|part| part.0.contains(&Place::Arrival)) {
                    return Err("the time of arrival is another one each time, and no id".to_owned());
                }
                self.events.id = parts;
            }
            ("events", "type") if text.split('|').any(|place| place.trim() == "arrival") => {
                return Err("the time of arrival is no type".to_owned());
            }
            ("events", "type") => self.events.event_type = no_hash(Places::parse(text)?)?,
            ("events", "time") => self.events.event_time = no_hash(Places::parse(text)?)?,
            ("events", "unflattened") => {
                self.events.unflattened =
                    places::split(text, ',').into_iter().map(places::path).collect::<Result<_, _>>()?;
            }
            ("ingest", "ack") => {
                self.ingest.ack = match text {
                    "durable" => Ack::Durable,
                    "committed" => Ack::Committed,
                    _ => return Err(format!("'{text}' is neither \"durable\" nor \"committed\"")),
                };
            }
            ("ingest", "max_event_bytes") => self.ingest.max_event_bytes = number(text, 1, MOST_BYTES)?,
            ("ingest", "max_depth") => self.ingest.max_depth = number(text, 1, 128)?,
            ("ingest", "max_columns") => self.ingest.max_columns = number(text, 0, 100_000)?,
            ("ingest", "batch_events") => self.ingest.batch_events = number(text, 1, 1 << 20)?,
            ("ingest", "batch_bytes") => self.ingest.batch_bytes = number(text, 1, MOST_BYTES)?,
            ("refresh", "events_at_once") => self.refresh.events_at_once = number(text, 1, 1 << 40)? as u64,
            ("duckdb", "directory") if text.is_empty() => return Err("a directory needs a name".to_owned()),
            ("duckdb", "directory") => self.duckdb.directory = Some(PathBuf::from(text)),
            ("duckdb", "keep") => self.duckdb.keep = number(text, 1, 1_000)?,
            ("postgres", _) if text.is_empty() => return Err("leave it out rather than empty".to_owned()),
            ("postgres", "url") => self.postgres.url = Some(Secret::new(text)),
            ("postgres", "password") => self.postgres.password = Some(Secret::new(text)),
            ("postgres", "password_file") => self.postgres.password_file = Some(PathBuf::from(text)),
            ("postgres", "events") => self.postgres.events = switch(text)?,
            ("delta", "url") if text.is_empty() => return Err("a place is such as ./delta".to_owned()),
            ("delta", "url") => self.delta.url = Some(text.to_owned()),
            ("models", "sinks") => {
                self.sinks = text.split(',').map(|sink| sink.trim().parse()).collect::<Result<_, _>>()?;
            }
            ("serve", "flight") => self.serve.flight = address(text)?,
            ("serve", "http") => self.serve.http = address(text)?,
            ("serve", "max_body_bytes") => self.serve.max_body_bytes = number(text, 1, MOST_BYTES)?,
            ("serve", "ingest_memory") => self.serve.ingest_memory = number(text, 1 << 20, 1 << 40)?,
            ("alerts", "webhook") if !text.starts_with("http://") && !text.starts_with("https://") => {
                return Err("a webhook is an http:// or https:// URL".to_owned());
            }
            ("alerts", "webhook") => self.alerts.webhook = Some(Secret::new(text)),
            ("alerts", "command") if text.trim().is_empty() => return Err("leave it out rather than empty".to_owned()),
            ("alerts", "command") => self.alerts.command = Some(text.to_owned()),
            ("alerts", "stale_after") => self.alerts.stale_after = seconds(text)?,
            ("alerts", "check_every") => self.alerts.check_every = seconds(text)?,
            ("alerts", "quarantine_burst") => self.alerts.quarantine_burst = number(text, 1, 1 << 40)? as u64,
            ("serve", "queries_at_once") => self.serve.queries_at_once = number(text, 1, 1 << 16)?,
            ("serve", "queries_waiting") => self.serve.queries_waiting = number(text, 0, 1 << 20)?,
            ("serve", "query_memory") => self.serve.query_memory = number(text, 1 << 20, 1 << 40)?,
            ("serve", "tables_memory") => self.serve.tables_memory = number(text, 0, 1 << 44)?,
            ("serve", "queries_memory") => self.serve.queries_memory = number(text, 1 << 20, 1 << 44)?,
            ("serve", "query_seconds") => self.serve.query_seconds = seconds(text)?,
            ("serve", "tls_cert" | "tls_key" | "tls_client_ca") if text.is_empty() => {
                return Err("leave it out rather than empty".to_owned());
            }
            ("serve", "tls_cert") => self.serve.tls_cert = Some(PathBuf::from(text)),
            ("serve", "tls_key") => self.serve.tls_key = Some(PathBuf::from(text)),
            ("serve", "tls_client_ca") => self.serve.tls_client_ca = Some(PathBuf::from(text)),
            ("serve", "behind_tls_proxy") => self.serve.behind_tls_proxy = switch(text)?,
            ("serve", "secret") if text.len() < 16 => {
                return Err("a secret has 16 characters or more; `openssl rand -hex 32` makes one".to_owned());
            }
            ("serve", "secret") => self.serve.secret = Some(Secret::new(text)),
            ("serve", "webhook_secret") if text.is_empty() => return Err("leave it out rather than empty".to_owned()),
            ("serve", "webhook_secret") => self.serve.webhook_secret = Some(Secret::new(text)),
            _ => return Err("there is no such setting".to_owned()),
        }
        Ok(())
    }
}

/// Places of a type or a time.
fn no_hash(places: Places) -> Result<Places, String> {
    match places.0.iter().any(|place| matches!(place, Place::ContentHash(_))) {
        true => Err("a content-hash is an id, and neither a type nor a time".to_owned()),
        false => Ok(places),
    }
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{text}' is neither \"on\" nor \"off\"")),
    }
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("'{text}' is not a whole number from {least} to {most}"))
}

/// A time in whole seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 1, 1 << 32).map(|seconds| Duration::from_secs(seconds as u64))
}

fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address =
        text.parse().map_err(|_| format!("'{text}' is neither an address such as 127.0.0.1:8080 nor \"off\""));
    address.map(Some)
}
