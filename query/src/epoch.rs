//! Epochs: one manifest for each refresh, put if absent, that lists the runs of every model at one version of the log.

mod chain;
#[cfg(test)]
mod tests;
mod thinning;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use lakebed_log::Store;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{self, Deletion, Rows, Run};
use crate::run_files::Written;
use crate::runner::Reading;

pub use chain::Chain;
pub use thinning::{Thinned, Thinning, thin, wants_thinning};

/// The layout of manifests that this build writes. The first one had no addresses.
pub const LAYOUT: u32 = 2;

/// All models at one version: what is not listed here is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout of this object.
    #[serde(default)]
    pub layout: u32,
    /// The refresh, counted from 1.
    pub epoch: u64,
    /// The log version.
    pub version: u64,
    /// The time of that version.
    pub time: DateTime<Utc>,
    /// The log as of that version is the events below this offset.
    pub next_offset: u64,
    /// The models, by `schema.name`.
    pub models: BTreeMap<String, ModelState>,
}

/// A model's stored form at an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelState {
    /// What the rows depend on besides the log.
    pub fingerprint: String,
    /// The table that this is: the fingerprint under which its rows were first written. Another fingerprint that gave the very
    /// same rows goes on with the table, and nothing that reads it is computed again.
    #[serde(default)]
    pub identity: String,
    /// The hash of the statement alone.
    #[serde(default)]
    pub query: String,
    /// The strategy's word.
    pub strategy: String,
    /// The epoch in which the rows last changed.
    pub changed: u64,
    /// What tells the writing of that epoch from every other: numbers of epochs come again, in a replay that begins anew or a copy
    /// of a lake, and the state cache is to know of which it is. None in what an earlier release wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u64>,
    /// Column names and types, in order.
    pub columns: Vec<StoredColumn>,
    /// Columns that no two rows have the same values in; empty where none are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<String>,
    /// The address of the first row that is the table's; what was written before is gone.
    #[serde(default)]
    pub start: u64,
    /// The runs with its rows, ascending by address from `start` on, without a gap.
    pub runs: Vec<Run>,
    /// Which of these rows are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletions: Vec<Deletion>,
    /// Rows of the table.
    pub rows: u64,
    /// Order-free hash over the rows.
    #[serde(with = "as_text")]
    pub content_hash: TableHash,
    /// What it took to bring the rows to what they are.
    #[serde(default)]
    pub work: Work,
}

/// What the refresh that last changed a model's rows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Rows and bytes that were read of files.
    pub read: Reading,
    /// Rows that operators took in, and rows of touched keys that they asked about.
    pub touched: u64,
    /// Rows that came.
    pub added: u64,
    /// Rows that went.
    pub gone: u64,
}

/// A column of a stored model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as Arrow prints and reads it.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A new [`ModelState::mark`]; a number that JSON's other readers keep as well.
pub(crate) fn new_mark() -> u64 {
    Uuid::new_v4().as_u64_pair().0 >> 11
}

impl ModelState {
    /// Where a state cache stands that knows the history of these rows.
    pub(crate) fn stand(&self) -> u64 {
        self.mark.unwrap_or(self.changed)
    }

    /// The address of the next row that is written.
    pub fn end(&self) -> u64 {
        self.runs.last().map_or(self.start, |run| run.addresses().end)
    }

    /// Takes up rows that were written behind its own.
    pub(crate) fn take(&mut self, added: Written) {
        self.rows += added.rows;
        self.content_hash = self.content_hash.add(added.hash);
        self.runs.extend(added.runs);
    }

    /// The paths of all that it lists.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &str> {
        let runs = self.runs.iter().map(|run| run.path.as_str());
        runs.chain(self.deletions.iter().flat_map(Deletion::objects))
    }

    /// Where its rows are.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn stored(&self, store: &Store) -> Result<Rows> {
        let (mut all, mut images) = (RoaringTreemap::new(), Vec::new());
        for deletion in &self.deletions {
            let deleted = rows::read_deletion(store, deletion).await?;
            all |= &deleted;
            images.extend(deletion.images.clone().map(|run| (Arc::new(deleted), run)));
        }
        Ok(Rows { addresses: self.start..self.end(), deleted: Arc::new(all), runs: self.runs.clone(), images })
    }

    /// The columns as a schema; every column may be null.
    ///
    /// # Errors
    /// [`Error::Manifest`] for a type that this build does not know.
    pub fn schema(&self) -> Result<SchemaRef> {
        let field = |column: &StoredColumn| {
            let unknown = |error: arrow::error::ArrowError| Error::Manifest {
                path: format!("column '{}'", column.name),
                reason: error.to_string(),
            };
            Ok(Field::new(&column.name, DataType::from_str(&column.kind).map_err(unknown)?, true))
        };
        Ok(Arc::new(Schema::new(self.columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }
}

/// The stored spelling of a schema.
pub fn columns_of(schema: &Schema) -> Vec<StoredColumn> {
    let column = |field: &Arc<Field>| StoredColumn { name: field.name().clone(), kind: field.data_type().to_string() };
    schema.fields().iter().map(column).collect()
}

/// An identity for a table that takes the place of one with this identity, in an epoch.
pub(crate) fn another_identity(identity: &str, epoch: u64) -> String {
    blake3::hash(format!("{identity}/{epoch}").as_bytes()).to_hex()[..32].to_owned()
}

/// The newest epoch of the lake, or `None` before the first refresh.
///
/// # Errors
/// As [`Chain::newest`].
pub async fn newest(store: &Store) -> Result<Option<Manifest>> {
    Chain::default().newest(store).await
}

/// Reads a manifest of any layout.
///
/// # Errors
/// As [`Chain::newest`].
pub async fn read(store: &Store, path: &Path) -> Result<Option<Manifest>> {
    let mut manifest: Option<Manifest> = store.get_json(path).await?;
    if let Some(manifest) = manifest.as_mut().filter(|manifest| manifest.layout < LAYOUT) {
        manifest.layout = LAYOUT;
        // In the first layout nothing was ever deleted from a run: the rows stand in the order of their runs.
        for state in manifest.models.values_mut() {
            let mut next = 0;
            state.identity = state.fingerprint.clone();
            for run in &mut state.runs {
                run.first = next;
                next += run.rows;
            }
        }
    }
    Ok(manifest)
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::hash::TableHash;

    pub(super) fn serialize<S: Serializer>(hash: &TableHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TableHash, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
