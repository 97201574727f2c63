//! Epochs: one manifest for each refresh, put if absent, that lists the runs of every model at one version of the log.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use lakebed_log::{Put, Store, layout};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::sinks::Run;

/// All models at one version: what is not listed here is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
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
    /// The strategy's word.
    pub strategy: String,
    /// The epoch in which the rows last changed.
    pub changed: u64,
    /// Column names and types, in order.
    pub columns: Vec<StoredColumn>,
    /// The runs whose rows are the table's, oldest first.
    pub runs: Vec<Run>,
    /// Rows in all runs.
    pub rows: u64,
    /// Order-free hash over the rows.
    #[serde(with = "as_text")]
    pub content_hash: TableHash,
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

impl ModelState {
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

/// The newest epoch, or `None` before the first refresh.
///
/// # Errors
/// Any failure of the store; [`Error::Log`] for a manifest that is no JSON of ours.
pub async fn newest(store: &Store) -> Result<Option<Manifest>> {
    let listed = store.list(&layout::epochs()).await?;
    match listed.last() {
        Some(object) => Ok(store.get_json(&object.location).await?),
        None => Ok(None),
    }
}

/// The number of the newest epoch, or `None` before the first refresh.
///
/// # Errors
/// Any failure of the store.
pub async fn newest_number(store: &Store) -> Result<Option<u64>> {
    let listed = store.list(&layout::epochs()).await?;
    let name = listed.last().and_then(|object| object.location.filename()?.strip_suffix(".json"));
    Ok(name.and_then(|number| number.parse().ok()))
}

/// The newest epoch that holds exactly the events below an offset.
///
/// # Errors
/// As [`newest`].
pub async fn at(store: &Store, next_offset: u64) -> Result<Option<Manifest>> {
    for object in store.list(&layout::epochs()).await?.iter().rev() {
        let manifest: Option<Manifest> = store.get_json(&object.location).await?;
        match manifest {
            Some(manifest) if manifest.next_offset == next_offset => return Ok(Some(manifest)),
            Some(manifest) if manifest.next_offset < next_offset => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// Puts an epoch; `false` where another refresh was first.
///
/// # Errors
/// Any failure of the store.
pub async fn put(store: &Store, manifest: &Manifest) -> Result<bool> {
    let path = layout::epoch(manifest.epoch);
    match store.put_json_if_absent(&path, manifest).await? {
        Put::Created => Ok(true),
        // Ours, if only the answer of an earlier try was lost.
        Put::Exists => Ok(store.get_json::<Manifest>(&path).await?.is_some_and(|there| there == *manifest)),
    }
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_schema_survives_its_spelling() {
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let kinds =
            [DataType::Utf8, DataType::Int64, DataType::Decimal128(38, 2), DataType::Date32, utc, DataType::List(item)];
        let fields = kinds.iter().enumerate().map(|(at, kind)| Field::new(format!("c{at}"), kind.clone(), true));
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let state = ModelState {
            fingerprint: String::new(),
            strategy: "full".into(),
            changed: 1,
            columns: columns_of(&schema),
            runs: Vec::new(),
            rows: 0,
            content_hash: TableHash::EMPTY,
        };
        assert_eq!(*state.schema().unwrap(), schema);
    }
}
