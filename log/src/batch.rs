//! What is appended: a batch of decoded events, what was refused of it, and the names it is known by for ever.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, StringViewArray, TimestampMicrosecondArray};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::columns::ColumnType;

/// Between a batch's id and the positions that were refused and are read later: no sender may have it in a name.
pub const RETRY: &str = " retry ";

/// The name a sender gives a batch, so that a retry is the same batch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(String);

impl BatchId {
    /// A batch id as the sender gave it; any text.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id of a batch that nobody named: the hash of its content.
    pub fn of_content(content: ContentHash) -> Self {
        Self(content.to_string())
    }

    /// The id of the batch that brings refused events of this one later, by their positions, ascending.
    pub fn retry(&self, positions: &[u64]) -> Self {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for position in positions {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == *position => *last = *position,
                _ => stretches.push((*position, *position)),
            }
        }
        let stretches = stretches.iter().map(|(first, last)| format!("{first}-{last}")).collect::<Vec<_>>();
        Self(format!("{self}{RETRY}{}", stretches.join(",")))
    }

    /// The id of the batch whose refused events this one brought, and the stretches of their positions in it; `None` where it
    /// brought none.
    pub fn retried(&self) -> Option<(&str, Vec<RangeInclusive<u64>>)> {
        let (batch, stretches) = self.0.rsplit_once(RETRY)?;
        let positions = |stretch: &str| {
            let (first, last) = stretch.split_once('-')?;
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        Some((batch, stretches.split(',').map(positions).collect::<Option<_>>()?))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of this batch's receipt and inbox entry: BLAKE3 of the id, 64 hex digits, safe in any path.
    pub fn key(&self) -> BatchKey {
        BatchKey(blake3::hash(self.0.as_bytes()).to_hex().to_string())
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of a [`BatchId`] as it stands in object paths; or, in the inbox, the name of a unit of several batches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchKey(String);

impl BatchKey {
    /// The key from its text in a path.
    pub fn new(hex: impl Into<String>) -> Self {
        Self(hex.into())
    }

    /// The key of the inbox entry of several batches: the 32 hex digits of their unit.
    pub fn of_unit(unit: Uuid) -> Self {
        Self(unit.simple().to_string())
    }

    /// Whether it is the key of several batches.
    pub fn is_of_unit(&self) -> bool {
        self.0.len() == 32
    }

    /// The key as text: hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// BLAKE3 over a batch's decompressed input: two batches of one id must agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(blake3::Hash);

impl ContentHash {
    /// The hash of the bytes as they were sent, after decompression.
    pub fn of(input: &[u8]) -> Self {
        Self(blake3::hash(input))
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_hex().as_str())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.to_hex().as_str())
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(&hex).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A stretch of an ordered source. It is committed only if the lane stands at `from`, and moves it to `to`.
///
/// Positions are text, compared for equality only: a Kinesis sequence number has 128 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStep {
    /// The lane's name, for example `kinesis/clicks/shardId-000000000000`.
    pub lane: String,
    /// Where the lane must stand; `None` for a lane that was never written.
    pub from: Option<String>,
    /// Where it stands afterwards.
    pub to: String,
}

/// The events of one append.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Given by whoever sends it, or the hash of the content.
    pub id: BatchId,
    /// Hash of the decompressed input.
    pub content: ContentHash,
    /// Where it came in, for the quarantine and the log's commit record: `file`, `http`, `lambda`, …
    pub source: String,
    /// The stretch of an ordered source that it is, if it is one.
    pub lane: Option<LaneStep>,
    /// The events that were read.
    pub events: Events,
    /// The events that were not.
    pub quarantine: Vec<Quarantined>,
}

/// Decoded events: those of each day apart from the others', as they are written.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// The flattened columns, one for each path and type that was seen; in order of first appearance.
    pub columns: Vec<Column>,
    /// The days of their times, ascending; none without an event.
    pub days: Vec<Day>,
}

impl Events {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.days.iter().map(Day::len).sum()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }
}

/// The events of one day, column by column; every array has the same length and the order is the order sent.
#[derive(Clone, Debug)]
pub struct Day {
    /// The day of their times in UTC.
    pub date: NaiveDate,
    /// The place of each among all events of the batch that were read, from 0.
    pub rows: Int64Array,
    /// `event_id`, never null.
    pub event_id: StringArray,
    /// `event_type`, never null.
    pub event_type: StringArray,
    /// `event_time` in µs, UTC, never null.
    pub event_time: TimestampMicrosecondArray,
    /// `source`, never null: the event's own, or the batch's.
    pub source: StringArray,
    /// `_doc`: each event's original JSON text, byte for byte; never null.
    pub doc: StringViewArray,
    /// Those of each of the batch's columns, with the Arrow type of its `kind`; null where an event has none.
    pub values: Vec<ArrayRef>,
}

impl Day {
    /// How many events there are, at least one.
    #[allow(clippy::len_without_is_empty, reason = "there is no day without an event")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A path in the events, and one type of what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The keys from the event's root, as sent.
    pub path: Arc<[String]>,
    /// The declared type, or the default one of the JSON kind that was found there.
    pub kind: ColumnType,
}

/// An event that could not be read, with all that is needed to find out why and to send it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its place in the batch as it was sent, from 0; refused and accepted events share this count.
    pub position: u64,
    /// One sentence.
    pub reason: String,
    /// Its bytes as they came, cut at the configured limit.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_says_which_events_it_brings() {
        let batch = BatchId::new("a b");
        let id = batch.retry(&[0, 1, 2, 7, 9, 10]);
        assert_eq!(id.as_str(), "a b retry 0-2,7-7,9-10");
        assert_eq!(id.retried().unwrap(), ("a b", vec![0..=2, 7..=7, 9..=10]));
        assert_eq!(batch.retried(), None);
        let again = id.retry(&[3]);
        assert_eq!(again.retried().unwrap(), (id.as_str(), vec![3..=3]));
    }
}
