//! Data files: what the log says of each, and where its rows stand.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::schema;

/// A data file as it is staged, before it has offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Relative to the table's root.
    pub path: String,
    /// The partition, where the log has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_date: Option<NaiveDate>,
    /// Size of the object.
    pub bytes: u64,
    /// Events in it.
    pub rows: u64,
    /// Smallest and largest `_row`.
    pub row_range: (u64, u64),
    /// Smallest and largest place in the unit, of a file with events of several batches; a batch's own is its `_row`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<(u64, u64)>,
    /// Smallest and largest `event_time`, µs since the epoch.
    pub time_range: (i64, i64),
}

/// Where the rows of a data file stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// The event at the place `p` of the file's unit has the offset `base + p`: a file as it was staged. The place in a batch that
    /// is its own unit is the row.
    Base(u64),
    /// Each row has its offset in the column `_offset`, from the first to the last of these: a file that was compacted.
    Stored(u64, u64),
}

/// A data file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Where its rows stand.
    pub offsets: Offsets,
    /// The file.
    pub staged: StagedFile,
}

impl DataFile {
    /// The column of the file that says where its rows stand, and the offset from which it counts; none where it says offsets.
    pub fn numbers(&self) -> (&'static str, Option<u64>) {
        match (self.offsets, self.staged.places) {
            (Offsets::Base(base), None) => (schema::ROW, Some(base)),
            (Offsets::Base(base), Some(_)) => (schema::PLACE, Some(base)),
            (Offsets::Stored(..), _) => (schema::OFFSET, None),
        }
    }

    /// Smallest and largest offset in the file.
    pub fn offset_range(&self) -> (u64, u64) {
        match self.offsets {
            Offsets::Base(base) => {
                let (first, last) = self.staged.places.unwrap_or(self.staged.row_range);
                (base + first, base + last)
            }
            Offsets::Stored(first, last) => (first, last),
        }
    }

    /// Delta's per-file statistics. Delta keeps times in whole milliseconds: the smallest is cut, the largest raised.
    pub fn delta_stats(&self) -> Value {
        let staged = &self.staged;
        let millis = |micros: i64| {
            DateTime::<Utc>::from_timestamp_millis(micros).map(|time| time.format("%FT%T%.3fZ").to_string())
        };
        let mut stats = json!({
            "numRecords": staged.rows,
            "minValues": {schema::EVENT_TIME: millis(staged.time_range.0.div_euclid(1000)), schema::ROW: staged.row_range.0},
            "maxValues": {schema::EVENT_TIME: millis(-(-staged.time_range.1).div_euclid(1000)), schema::ROW: staged.row_range.1},
            "nullCount": {schema::EVENT_TIME: 0, schema::ROW: 0},
        });
        if let Offsets::Stored(first, last) = self.offsets {
            stats["minValues"][schema::OFFSET] = json!(first);
            stats["maxValues"][schema::OFFSET] = json!(last);
            stats["nullCount"][schema::OFFSET] = json!(0);
        }
        stats
    }
}

impl StagedFile {
    /// The file behind an Add; what its statistics say to the millisecond is widened to them.
    ///
    /// # Errors
    /// What its statistics do not say, though rows are chosen by it.
    pub(crate) fn from_delta(
        path: String,
        event_date: Option<NaiveDate>,
        bytes: u64,
        stats: &str,
    ) -> Result<Self, String> {
        let stats: Value =
            serde_json::from_str(stats).map_err(|error| format!("the statistics of '{path}': {error}"))?;
        let missing = |what: &str| format!("the statistics of '{path}' have no {what}");
        let row = |bound: &str| stats[bound][schema::ROW].as_u64().ok_or_else(|| missing(&format!("{bound} of _row")));
        let time = |bound: &str, unknown: i64| {
            let text = stats[bound][schema::EVENT_TIME].as_str().unwrap_or_default();
            DateTime::parse_from_rfc3339(text).map_or(unknown, |time| time.timestamp_micros())
        };
        Ok(Self {
            event_date,
            bytes,
            rows: stats["numRecords"].as_u64().ok_or_else(|| missing("numRecords"))?,
            row_range: (row("minValues")?, row("maxValues")?),
            places: None,
            time_range: (time("minValues", i64::MIN), time("maxValues", i64::MAX)),
            path,
        })
    }
}
