//! Where models are kept for readers. A sink is a follower: it is given whole epochs and brings itself up to them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use parquet::arrow::arrow_reader::RowSelection;

use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{Rows, Run};

pub(crate) mod change;
pub mod delta;
pub mod duckdb;
pub mod postgres;

/// All tables of one sink at one epoch.
#[derive(Clone, Debug)]
pub struct Image {
    /// Delta's id of the log's table: what tells this lake from every other.
    pub lake: String,
    /// Whose lake it is, as the project's settings say it.
    pub owner: String,
    /// The log version.
    pub version: u64,
    /// The time of that version.
    pub as_of: DateTime<Utc>,
    /// The tables, parents before children.
    pub tables: Vec<TableImage>,
}

/// One table at one epoch.
#[derive(Clone, Debug)]
pub struct TableImage {
    /// `silver` or `gold`.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// The text of the model's header, up to its first setting.
    pub description: Option<String>,
    /// Column names and types; every run has these.
    pub columns: SchemaRef,
    /// What the rows depend on besides the log; another fingerprint is another table.
    pub fingerprint: String,
    /// Columns that no two rows have the same values in; empty where none are known.
    pub key: Vec<String>,
    /// Where the rows are.
    pub rows: Rows,
    /// Order-free hash over the rows.
    pub content_hash: TableHash,
}

impl TableImage {
    /// The table's name with its schema, as `gold.daily`.
    pub fn model(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Its columns, each with how a sink keeps its type.
    ///
    /// # Errors
    /// [`Error::UnsupportedColumn`] for a type that the sink has nothing for.
    pub(crate) fn kept<S>(&self, stored: impl Fn(&DataType) -> Option<S>) -> Result<Vec<(String, S)>> {
        let kept = |field: &FieldRef| match stored(field.data_type()) {
            Some(kept) => Ok((field.name().clone(), kept)),
            None => Err(Error::UnsupportedColumn {
                table: self.model(),
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
            }),
        };
        self.columns.fields().iter().map(kept).collect()
    }
}

/// The most digits that a sink's decimals have.
const DECIMAL_DIGITS: u8 = 38;

/// Precision and scale with which a sink keeps a decimal: of 38 digits at most, and without a negative scale, for which digits
/// before the point are written out. `None` where the digits after the point alone are too many.
pub(crate) fn decimal(precision: u8, scale: i8) -> Option<(u8, i8)> {
    let precision = if scale < 0 { precision.saturating_add(scale.unsigned_abs()) } else { precision };
    let (precision, scale) = (precision.min(DECIMAL_DIGITS), scale.max(0));
    (scale.unsigned_abs() <= precision).then_some((precision, scale))
}

/// The log itself as a table of a sink, at one epoch: events are only ever added.
#[derive(Clone)]
pub struct EventsImage {
    /// Delta's id of the table: another log is another table.
    pub table_id: String,
    /// Its columns.
    pub columns: SchemaRef,
    /// The events are those before this offset.
    pub next_offset: u64,
    /// Where they are.
    pub source: Arc<dyn ReadEvents>,
}

/// Reads the events of the log.
pub trait ReadEvents: Send + Sync {
    /// Those with an offset in the range, in any order.
    fn read(&self, offsets: Range<u64>) -> BoxStream<'static, Result<RecordBatch>>;
}

/// What a sink holds of one model, written in the same transaction as its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// The table's name with its schema.
    pub model: String,
    /// The model's fingerprint.
    pub fingerprint: String,
    /// The log version that the rows are of.
    pub version: u64,
    /// How many they are.
    pub rows: u64,
    /// Order-free hash over them.
    pub content_hash: TableHash,
    /// The time of that version.
    pub as_of: DateTime<Utc>,
}

/// Reads the rows of a run.
pub trait ReadRun: Send + Sync {
    /// Its rows, or those that are selected, in the order of their addresses.
    fn read(&self, run: &Run, rows: Option<RowSelection>) -> BoxStream<'static, Result<RecordBatch>>;
}
