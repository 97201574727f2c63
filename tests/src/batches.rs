//! Batches for tests, made the way the product makes them: text → raw batch → decoded batch.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use lakebed_generator::Generator;
use lakebed_ingest::{RawBatches, Settings, decode};
use lakebed_log::{Batch, BatchId, LaneStep};

/// The starter project's settings file, as it is shipped.
pub const STARTER: &str = include_str!("../../cli/starter/lakebed.toml");

/// So many seconds after 2026-11-01T00:00:00Z: the clock of the tests.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_793_491_200 + seconds)
}

/// One event's JSON text, with `rest` (such as `,"x":1`) at its end; its time is the test clock's start.
pub fn event(id: &str, rest: &str) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"view","event_time":"2026-11-01T00:00:00Z"{rest}}}"#)
}

/// A batch of these lines, decoded with nothing pinned.
pub fn batch(id: &str, lines: &[impl AsRef<str>]) -> Arc<Batch> {
    let text = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect::<String>();
    Arc::new(decoded(id, text.as_bytes(), &Settings::default()))
}

/// A batch of `rows` events of its own: `ID-0`, `ID-1`, …
pub fn numbered(id: &str, rows: usize) -> Arc<Batch> {
    batch(id, &(0..rows).map(|row| event(&format!("{id}-{row}"), &format!(r#","n":{row}"#))).collect::<Vec<_>>())
}

/// A batch of one event that moves a lane.
pub fn in_lane(id: &str, lane: &str, from: Option<&str>, to: &str) -> Arc<Batch> {
    let mut batch = Arc::unwrap_or_clone(numbered(id, 1));
    batch.lane = Some(LaneStep { lane: lane.to_owned(), from: from.map(str::to_owned), to: to.to_owned() });
    Arc::new(batch)
}

/// The one batch that this text is.
pub fn decoded(id: &str, text: &[u8], settings: &Settings) -> Batch {
    let mut raw = RawBatches::new(text, settings);
    let first = raw.next().expect("the text holds events").expect("the text can be read");
    assert!(raw.next().is_none(), "the text is one batch");
    decode(&first, BatchId::new(id), "test", settings).batch
}

/// Lines `first` to `first + count` of a feed.
pub fn generated(feed: &lakebed_generator::Settings, first: u64, count: u64) -> Vec<u8> {
    let mut text = Vec::new();
    Generator::new(feed.clone()).expect("the feed's settings are right").write(first, count, &mut text);
    text
}

/// How a project made from the starter reads events.
pub fn starter_settings() -> Settings {
    settings_of(STARTER)
}

/// How a project with this lakebed.toml reads events.
pub fn settings_of(text: &str) -> Settings {
    let document: toml::Table = text.parse().expect("it is TOML");
    let pins = document.get("columns").and_then(toml::Value::as_table).expect("it pins columns");
    let pin = |(name, kind): (&String, &toml::Value)| {
        let kind = kind.as_str().and_then(|kind| kind.parse().ok());
        (name.clone(), kind.unwrap_or_else(|| panic!("the pin of '{name}' is a type")))
    };
    Settings { declared: pins.iter().map(pin).collect::<BTreeMap<_, _>>(), ..Settings::default() }
}
