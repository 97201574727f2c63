//! bytes → log, for everybody who brings events: they are framed, decoded, appended and counted.

mod lane;
mod outlet;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Array;
use arrow::buffer::Buffer;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use lakebed_log::{Ack, Appended, Batch, BatchId, ColumnLimit, ContentHash, Day, LaneStep, Log, Quarantined};
use lakebed_project::{Config, EventsConfig};
use serde::de::IgnoredAny;

use crate::decode::{Decoded, decode};
use crate::decompress::text_of;
use crate::error::Error;
use crate::event;
use crate::frame::{frame_events, frame_text};
use crate::json;
use crate::raw_batch::RawBatch;
use crate::settings::Settings;
pub use outlet::Outlet;

/// A log, and how events are read on their way into it. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    log: Log,
    settings: Arc<Settings>,
    clock: fn() -> DateTime<Utc>,
}

/// What a sender says about its events.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The batch's name, if the sender gave it one; else it is the hash of the content.
    pub id: Option<String>,
    /// Where the events come from: `file`, `http`, `lambda`, …
    pub source: String,
    /// The headers that they came with, as far as something of them is there, by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that are in the log by this call; or will be, where a durable one was enough.
    pub accepted: u64,
    /// Events that are in quarantine by this call.
    pub quarantined: u64,
    /// Events, good or bad, of batches that the log had before.
    pub duplicates: u64,
    /// Batches, all of them.
    pub batches: u64,
    /// The newest version that has one of them.
    pub version: Option<u64>,
    /// Decompressed bytes of all events.
    pub bytes: u64,
    /// Values that did not fit their pinned type, or had no column left.
    pub only_in_doc: u64,
}

impl Tally {
    /// Events, all of them.
    pub fn sent(&self) -> u64 {
        self.accepted + self.quarantined + self.duplicates
    }

    /// Counts what another call came to.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.quarantined += other.quarantined;
        self.duplicates += other.duplicates;
        self.batches += other.batches;
        self.version = self.version.max(other.version);
        self.bytes += other.bytes;
        self.only_in_doc += other.only_in_doc;
    }
}

/// A batch that is ready to be appended.
#[derive(Clone, Debug)]
pub struct Prepared {
    batch: Arc<Batch>,
    bytes: u64,
    only_in_doc: u64,
    no_json: u64,
    cut_off: bool,
}

impl Prepared {
    /// Decodes a batch.
    pub fn new(raw: &RawBatch, id: BatchId, source: &str, settings: &Settings) -> Self {
        Self::in_lane(raw, id, source, None, settings)
    }

    /// Decodes a batch that is a stretch of an ordered source.
    pub(crate) fn in_lane(
        raw: &RawBatch,
        id: BatchId,
        source: &str,
        lane: Option<LaneStep>,
        settings: &Settings,
    ) -> Self {
        let Decoded { batch, misfits, over_limit, no_json, cut_off } = decode(raw, id, source, settings);
        let batch = Arc::new(Batch { lane, ..batch });
        let only_in_doc = misfits.values().sum::<u64>() + over_limit;
        Self { batch, bytes: raw.bytes(), only_in_doc, no_json, cut_off }
    }

    /// How many events it has, good or bad.
    pub fn events(&self) -> u64 {
        (self.batch.events.len() + self.batch.quarantine.len()) as u64
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let columns = |day: &Day| day.values.iter().map(|values| values.get_array_memory_size()).sum::<usize>();
        let days = &self.batch.events.days;
        // The documents of all days are views of one text.
        let text = days.first().map_or(0, |day| day.doc.data_buffers().iter().map(Buffer::len).sum());
        days.iter().map(columns).sum::<usize>()
            + text
            + self.batch.quarantine.iter().map(|bad| bad.bytes.len()).sum::<usize>()
    }

    /// Those that went to quarantine.
    pub(crate) fn quarantine(&self) -> &[Quarantined] {
        &self.batch.quarantine
    }

    /// The same under another id.
    pub(crate) fn called(&self, id: BatchId) -> Self {
        Self { batch: Arc::new(Batch { id, ..Batch::clone(&self.batch) }), ..self.clone() }
    }

    /// What is appended.
    pub(crate) fn batch(&self) -> &Arc<Batch> {
        &self.batch
    }

    /// Its id.
    pub(crate) fn id(&self) -> &BatchId {
        &self.batch.id
    }

    /// Counts what became of it.
    pub(crate) fn tally(&self, appended: Appended) -> Tally {
        let (rows, bad) = (self.batch.events.len() as u64, self.batch.quarantine.len() as u64);
        let (accepted, quarantined, duplicates) = match appended {
            Appended::Duplicate { .. } => (0, 0, rows + bad),
            Appended::Committed { .. } | Appended::Durable => (rows, bad, 0),
        };
        let version = match appended {
            Appended::Duplicate { version } | Appended::Committed { version } => Some(version),
            Appended::Durable => None,
        };
        let Self { bytes, only_in_doc, .. } = *self;
        Tally { accepted, quarantined, duplicates, batches: 1, version, bytes, only_in_doc }
    }
}

/// A body as one batch.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// The batch; none where there is no event in it.
    pub prepared: Option<Prepared>,
    /// What is wrong with a body that is no JSON, with its line and column.
    pub flaw: Option<String>,
}

/// What is wrong first in a text that is no JSON, with its line and column.
fn first_flaw(text: &[u8]) -> String {
    let values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
    let wrong = values.filter_map(Result::err).next();
    // What is skipped within a string is not looked at: that it is text is asked by itself.
    let not_text = std::str::from_utf8(text).err().map(|error| place(&text[..error.valid_up_to()]));
    match (wrong, not_text) {
        (Some(error), Some(at)) if (error.line(), error.column()) < at => error.to_string(),
        (_, Some((line, column))) => format!("not UTF-8 at line {line} column {column}"),
        (Some(error), None) => error.to_string(),
        // Each value is JSON, but not where the events are: in lines.
        (None, None) => first_wrong_line(text).unwrap_or_else(|| "an event ends within its line".to_owned()),
    }
}

/// The line and the column, in bytes, of what comes after this.
fn place(before: &[u8]) -> (usize, usize) {
    let mut lines = before.split(|&byte| byte == b'\n');
    (lines.clone().count(), lines.next_back().map_or(0, <[u8]>::len) + 1)
}

/// What is wrong with the first line that is no JSON by itself.
fn first_wrong_line(text: &[u8]) -> Option<String> {
    let lines = (1u64..).zip(text.split(|&byte| byte == b'\n'));
    let mut filled = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let (number, error) =
        filled.find_map(|(number, line)| Some((number, serde_json::from_slice::<IgnoredAny>(line).err()?)))?;
    Some(format!("{} at line {number} column {}", json::words(&error), error.column()))
}

/// What tells a body from every other: with what its headers say of its events, for the same text under another id is another
/// event.
fn with_headers(content: ContentHash, settings: &Settings) -> ContentHash {
    let headers = &settings.given.headers;
    if headers.is_empty() {
        return content;
    }
    let said: String = headers.iter().map(|(name, value)| format!("\n{} {name}:{value}", name.len())).collect();
    ContentHash::of(format!("{content}{said}").as_bytes())
}

impl Intake {
    /// The way into a log, as its project has set it.
    pub fn new(log: Log, config: &Config, clock: fn() -> DateTime<Utc>) -> Self {
        let limit = ColumnLimit::new(config.ingest.max_columns, config.columns.keys().cloned());
        Self { log: log.with_columns_up_to(limit), settings: Arc::new(Settings::of(config)), clock }
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where an event's required fields are.
    pub fn fields(&self) -> &EventsConfig {
        &self.settings.fields
    }

    /// The time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// How events are read that come now.
    pub fn settings(&self) -> Settings {
        Settings::clone(&self.settings).at(self.now())
    }

    /// The same log, for events whose id, type and time are elsewhere.
    #[must_use]
    pub fn with_fields(&self, fields: EventsConfig) -> Self {
        let settings = Settings { fields, ..Settings::clone(&self.settings) };
        Self { settings: Arc::new(settings), ..self.clone() }
    }

    /// The same log, for sources that are cut after so many bytes or events, whatever is set.
    #[must_use]
    pub(crate) fn with_cuts(&self, batch_bytes: usize, batch_events: usize) -> Self {
        let settings = Settings { batch_bytes, batch_events, ..Settings::clone(&self.settings) };
        Self { settings: Arc::new(settings), ..self.clone() }
    }

    /// Decodes a body that is held whole into one batch, off the threads that answer requests. `held` is given back when the
    /// work is done, also where nobody waits for it any more.
    ///
    /// # Errors
    /// [`Error::Read`] for damaged compression, [`Error::Parquet`] for Parquet in it, [`Error::TooLarge`] for more than `limit` bytes
    /// without it, [`Error::TooMany`] for more events than a batch has.
    pub async fn prepare(
        &self,
        body: Bytes,
        sent: &Sent,
        limit: usize,
        held: impl Send + 'static,
    ) -> Result<Whole, Error> {
        let (mut settings, Sent { id, source, headers }) = (self.settings(), sent.clone());
        settings.given.headers = headers;
        let decoding = move || {
            // Dropped at the end.
            let _held = held;
            let text =
                text_of(body, "the body", limit).map_err(Error::reading)?.ok_or(Error::TooLarge { most: limit })?;
            let most = settings.batch_events;
            let settings = settings.uncut();
            let Some(raw) = frame_text(&text, &settings) else { return Ok(Whole::default()) };
            if raw.events() > most {
                return Err(Error::TooMany { most });
            }
            let id = id.map_or_else(|| BatchId::of_content(with_headers(raw.content(), &settings)), BatchId::new);
            let prepared = Prepared::new(&raw, id, &source, &settings);
            let no_json = prepared.no_json > 0 && (prepared.no_json == prepared.events() || prepared.cut_off);
            Ok(Whole { prepared: Some(prepared), flaw: no_json.then(|| first_flaw(&text)) })
        };
        tokio::task::spawn_blocking(decoding).await?
    }

    /// Appends a batch that came by its sender's name and may have come before under other settings: where its id stands for
    /// other content, it is appended under an id that says so. Rather twice than never.
    ///
    /// # Errors
    /// As [`Log::append`], but for a conflict of batches.
    pub(crate) async fn append_anyhow(&self, prepared: &Prepared, ack: Ack) -> Result<Tally, Error> {
        match self.append(prepared, ack).await {
            Err(Error::Log(lakebed_log::Error::BatchConflict { ours, .. })) => {
                let id = BatchId::new(format!("{} as {ours}", prepared.id()));
                tracing::warn!("batch '{}' came with other content before; it is appended as '{id}'", prepared.id());
                self.append(&prepared.called(id), ack).await
            }
            appended => appended,
        }
    }

    /// Appends those refused events of a batch that can be read now, under the batch's id and their positions. The others stay where
    /// they are; gives how many were appended.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn retry(&self, batch: &BatchId, source: &str, refused: &[Quarantined], ack: Ack) -> Result<u64, Error> {
        let settings = self.settings().uncut();
        let readable = |event: &&Quarantined| event::read(&event.bytes, &settings).is_ok();
        let readable: Vec<&Quarantined> = refused.iter().filter(readable).collect();
        let Some(raw) = frame_events(readable.iter().map(|event| event.bytes.as_slice()), &settings) else {
            return Ok(0);
        };
        let id = batch.retry(&readable.iter().map(|event| event.position).collect::<Vec<_>>());
        Ok(self.append(&Prepared::new(&raw, id, source, &settings), ack).await?.accepted)
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn append(&self, prepared: &Prepared, ack: Ack) -> Result<Tally, Error> {
        Ok(prepared.tally(self.log.append(&prepared.batch, ack, self.now()).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_first_is_told_with_its_place() {
        let flaws: [(&[u8], &str); 5] = [
            (b"{\"event_id\":\"\xff\"}", "not UTF-8 at line 1 column 14"),
            (b"{}\n{\"a\":\"\xc3\xa4\xe4\"}\n{", "not UTF-8 at line 2 column 9"),
            (b"\xff\xfe{\0}\0", "not UTF-8 at line 1 column 1"),
            (b"{\"a\":nul}\n\"\xff\"", "expected ident at line 1 column 9"),
            (b"{} {}", "trailing characters at line 1 column 4"),
        ];
        for (text, flaw) in flaws {
            assert_eq!(first_flaw(text), flaw, "{}", String::from_utf8_lossy(text));
        }
    }
}
