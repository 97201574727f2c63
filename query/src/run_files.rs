//! Runs: immutable Parquet files of a model's rows, written once and read by name.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakebed_log::{Store, compression, layout};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::properties::WriterProperties;
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::models::TableName;
use crate::rows::Run;
use crate::sinks::ReadRun;

/// A run is ended when it has this many encoded bytes.
const RUN_BYTES: usize = 64 << 20;

/// What a query's rows came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) runs: Vec<Run>,
    pub(crate) rows: u64,
    pub(crate) hash: TableHash,
}

/// The columns as they are stored: plain types that every reader has, and every column may be null.
pub(crate) fn stored_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), plain(field.data_type()), true);
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn plain(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::LargeList(item) | DataType::ListView(item) | DataType::List(item) => {
            DataType::List(Arc::new(Field::new(item.name(), plain(item.data_type()), true)))
        }
        other => other.clone(),
    }
}

/// Writes a stream's rows as runs of a model, from the address `first` on.
///
/// # Errors
/// What the stream says, and any failure of the store.
pub(crate) async fn write(
    store: &Store,
    name: &TableName,
    fingerprint: &str,
    schema: &SchemaRef,
    first: u64,
    mut rows: SendableRecordBatchStream,
) -> Result<Written> {
    let next = |written: &Written| written.runs.last().map_or(first, |run| run.addresses().end);
    let mut written = Written::default();
    let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
    while let Some(batch) = rows.try_next().await.map_err(Error::Execution)? {
        if batch.num_rows() == 0 {
            continue;
        }
        let schema = Arc::clone(schema);
        let open = writer.take();
        // Compression and hashing are work for a thread of their own, not for the one that drives the I/O.
        let (encoded, rows, hash) = tokio::task::spawn_blocking(move || encode(open, &schema, &batch)).await??;
        written.rows += rows;
        written.hash = written.hash.add(hash);
        match encoded.bytes_written() + encoded.in_progress_size() {
            bytes if bytes >= RUN_BYTES => {
                written.runs.push(finish(store, name, fingerprint, next(&written), encoded).await?);
            }
            _ => writer = Some(encoded),
        }
    }
    if let Some(writer) = writer {
        written.runs.push(finish(store, name, fingerprint, next(&written), writer).await?);
    }
    Ok(written)
}

/// The same for the rows of several streams, each written by a task of its own; their runs follow one another.
///
/// # Errors
/// As [`write`], for the first that fails; then the others are given up.
pub(crate) async fn write_all(
    store: &Store,
    name: &TableName,
    fingerprint: &str,
    schema: &SchemaRef,
    first: u64,
    streams: Vec<SendableRecordBatchStream>,
) -> Result<Written> {
    let mut writing = JoinSet::new();
    for (at, rows) in streams.into_iter().enumerate() {
        let (store, name, fingerprint) = (store.clone(), name.clone(), fingerprint.to_owned());
        let schema = Arc::clone(schema);
        writing.spawn(async move { Ok::<_, Error>((at, write(&store, &name, &fingerprint, &schema, 0, rows).await?)) });
    }
    let mut parts = Vec::new();
    while let Some(part) = writing.join_next().await {
        parts.push(part??);
    }
    parts.sort_by_key(|(at, _)| *at);
    let mut all = Written::default();
    for (_, part) in parts {
        for run in part.runs {
            let first = all.runs.last().map_or(first, |run: &Run| run.addresses().end);
            all.runs.push(Run { first, ..run });
        }
        all.rows += part.rows;
        all.hash = all.hash.add(part.hash);
    }
    Ok(all)
}

type Encoded = (ArrowWriter<Vec<u8>>, u64, TableHash);

fn encode(writer: Option<ArrowWriter<Vec<u8>>>, schema: &SchemaRef, batch: &RecordBatch) -> Result<Encoded> {
    let batch = cast(batch.columns(), schema)?;
    let mut writer = match writer {
        Some(writer) => writer,
        None => {
            let compression = compression(batch.num_rows());
            ArrowWriter::try_new(
                Vec::new(),
                Arc::clone(schema),
                Some(WriterProperties::builder().set_compression(compression).build()),
            )?
        }
    };
    writer.write(&batch)?;
    Ok((writer, batch.num_rows() as u64, TableHash::of_batch(&batch)?))
}

/// Columns in the types of a schema.
pub(crate) fn cast(columns: &[ArrayRef], schema: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns =
        columns.iter().zip(schema.fields()).map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => cast_with_options(column, field.data_type(), &strict),
        });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>, _>>()?)?)
}

async fn finish(
    store: &Store,
    name: &TableName,
    fingerprint: &str,
    first: u64,
    mut writer: ArrowWriter<Vec<u8>>,
) -> Result<Run> {
    writer.flush()?;
    let rows = writer.flushed_row_groups().iter().map(|group| group.num_rows()).sum::<i64>();
    let parquet = writer.into_inner()?;
    let path = layout::run(&name.to_string(), fingerprint, Uuid::now_v7());
    let (rows, bytes) = (u64::try_from(rows).unwrap_or_default(), parquet.len() as u64);
    let run = Run { path: path.to_string(), first, rows, bytes };
    store.put(&path, parquet).await?;
    Ok(run)
}

/// Reads runs from the lake's store.
#[derive(Clone, Debug)]
pub(crate) struct StoredRuns(pub(crate) Store);

impl ReadRun for StoredRuns {
    fn read(&self, run: &Run, rows: Option<RowSelection>) -> BoxStream<'static, Result<RecordBatch>> {
        let (store, path) = (self.0.clone(), object_store::path::Path::from(run.path.as_str()));
        futures::stream::once(async move {
            // A run is small enough to be held whole while it is decoded batch by batch.
            let gone = || Error::Manifest { path: path.to_string(), reason: "it is gone".to_owned() };
            let parquet = store.get(&path).await?.ok_or_else(gone)?;
            let mut reader = ParquetRecordBatchReaderBuilder::try_new(parquet)?;
            if let Some(rows) = rows {
                reader = reader.with_row_selection(rows);
            }
            let batches = reader.build()?;
            Ok::<_, Error>(futures::stream::iter(batches.map(|batch| batch.map_err(Error::Arrow))))
        })
        .try_flatten()
        .boxed()
    }
}
