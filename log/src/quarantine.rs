//! Quarantine: the events that could not be read, with their bytes and the reason, in one Parquet file a batch.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use crate::batch::{Batch, BatchId, Quarantined};
use crate::entry::{CommittedBatch, Entry};
use crate::error::{Error, Result};
use crate::layout;
use crate::schema;
use crate::store::Store;

/// The columns of a quarantine file.
pub fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(schema::BATCH_ID, DataType::Utf8, false),
        Field::new("position", DataType::Int64, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new(schema::SOURCE, DataType::Utf8, false),
        Field::new(schema::INGESTED_AT, schema::timestamp(), false),
        Field::new("raw", DataType::Binary, false),
    ]))
}

/// Writes a batch's refused events; gives the file's path below the table, or `None` where there are none.
///
/// # Errors
/// Any failure of the store.
pub async fn put(store: &Store, batch: &Batch, at: DateTime<Utc>) -> Result<Option<String>> {
    if batch.quarantine.is_empty() {
        return Ok(None);
    }
    let path = layout::quarantine(Uuid::now_v7());
    store.put(&layout::in_table(&path), encode(batch, at)?).await?;
    Ok(Some(path))
}

/// A batch with events that are in quarantine and nowhere else.
#[derive(Debug)]
pub struct Left<'v> {
    /// The version that brought the batch.
    pub version: u64,
    /// Its time.
    pub time: DateTime<Utc>,
    /// The batch.
    pub batch: &'v CommittedBatch,
    /// Those events, at least one, in the order of their positions.
    pub events: Vec<Quarantined>,
}

/// What is left in quarantine of the wanted batches of some versions, by what these brought.
///
/// # Errors
/// As [`read`].
pub async fn left<'v>(
    store: &Store,
    versions: &'v [(u64, Entry)],
    is_wanted: impl Fn(&BatchId) -> bool,
) -> Result<Vec<Left<'v>>> {
    let mut later: BTreeMap<&str, Vec<RangeInclusive<u64>>> = BTreeMap::new();
    for batch in versions.iter().flat_map(|(_, entry)| &entry.record.batches) {
        if let Some((batch, positions)) = batch.id.retried() {
            later.entry(batch).or_default().extend(positions);
        }
    }
    let mut found = Vec::new();
    for (version, entry) in versions {
        for batch in entry.record.batches.iter().filter(|batch| is_wanted(&batch.id)) {
            let Some(path) = &batch.quarantine else { continue };
            let mut events = read(store, path).await?;
            if let Some(later) = later.get(batch.id.as_str()) {
                events.retain(|event| !later.iter().any(|positions| positions.contains(&event.position)));
            }
            if !events.is_empty() {
                found.push(Left { version: *version, time: entry.time, batch, events });
            }
        }
    }
    Ok(found)
}

/// The refused events of a quarantine file, in the order of their positions.
///
/// # Errors
/// Any failure of the store; [`Error::Corrupt`] where the file is gone or no quarantine file.
pub async fn read(store: &Store, path: &str) -> Result<Vec<Quarantined>> {
    let corrupt = |reason: &str| Error::Corrupt { path: layout::in_table(path), reason: reason.to_owned() };
    let bytes = store.get(&layout::in_table(path)).await?.ok_or_else(|| corrupt("it is gone"))?;
    let mut refused = Vec::new();
    for rows in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let rows = rows?;
        let column = |name: &str| rows.column_by_name(name).ok_or_else(|| corrupt("it lacks a column"));
        let (positions, reasons, raw) = (column("position")?, column("reason")?, column("raw")?);
        let positions =
            positions.as_primitive_opt::<Int64Type>().ok_or_else(|| corrupt("a column is of another type"))?;
        let reasons = reasons.as_string_opt::<i32>().ok_or_else(|| corrupt("a column is of another type"))?;
        let raw = raw.as_binary_opt::<i32>().ok_or_else(|| corrupt("a column is of another type"))?;
        refused.extend((0..rows.num_rows()).map(|row| Quarantined {
            position: positions.value(row).unsigned_abs(),
            reason: reasons.value(row).to_owned(),
            bytes: raw.value(row).to_vec(),
        }));
    }
    Ok(refused)
}

fn encode(batch: &Batch, at: DateTime<Utc>) -> Result<Vec<u8>> {
    let refused = &batch.quarantine;
    let every =
        |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text.to_owned(), refused.len())));
    let rows = RecordBatch::try_new(
        columns(),
        vec![
            every(batch.id.as_str()),
            Arc::new(Int64Array::from_iter_values(refused.iter().map(|event| event.position as i64))),
            Arc::new(StringArray::from_iter_values(refused.iter().map(|event| &event.reason))),
            every(&batch.source),
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(refused.iter().map(|_| at.timestamp_micros()))
                    .with_timezone("UTC"),
            ),
            Arc::new(BinaryArray::from_iter_values(refused.iter().map(|event| &event.bytes))),
        ],
    )?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default());
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties))?;
    writer.write(&rows)?;
    Ok(writer.into_inner()?)
}
