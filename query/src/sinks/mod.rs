//! Where models are kept for readers. A sink is a follower: it is given whole epochs and brings itself up to them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;

use crate::error::Result;
use crate::hash::TableHash;

pub mod duckdb;

/// All tables of one sink at one epoch.
#[derive(Clone, Debug)]
pub struct Image {
    /// The log version.
    pub version: u64,
    /// The time of that version.
    pub as_of: DateTime<Utc>,
    /// The tables, parents before children.
    pub tables: Vec<TableImage>,
}

/// One table at one epoch: the runs whose rows are its rows.
#[derive(Clone, Debug)]
pub struct TableImage {
    /// `silver` or `gold`.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// The first sentence of the model's header.
    pub description: Option<String>,
    /// Column names and types; every run has these.
    pub columns: SchemaRef,
    /// What the rows depend on besides the log; another fingerprint is another table.
    pub fingerprint: String,
    /// The runs, oldest first. A run never changes; a table that is rewritten has another set of runs.
    pub runs: Vec<Run>,
    /// Rows in all runs.
    pub rows: u64,
    /// Order-free hash over the rows.
    pub content_hash: TableHash,
}

impl TableImage {
    /// The table's name with its schema, as `gold.daily`.
    pub fn model(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
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

/// An immutable Parquet file of a model's stored form.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Path below the lake's root; unique for ever, so that it names the content.
    pub path: String,
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The runs whose rows it holds, in their order, if it was made of others: so that who has some of them knows which of
    /// its rows are new. Of those it was made of directly, and none further back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded: Vec<Folded>,
}

/// A run that was folded into another.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Folded {
    /// Its path.
    pub path: String,
    /// Rows of it.
    pub rows: u64,
}

/// Reads the rows of a run.
pub trait ReadRun: Send + Sync {
    /// The rows, in file order.
    fn read(&self, run: &Run) -> BoxStream<'static, Result<RecordBatch>>;
}
