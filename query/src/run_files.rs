//! Runs: immutable Parquet files of a model's rows, written once and read by name.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lakebed_log::{Store, layout, plain_properties};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use std::sync::Arc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::hash::{TableHash, row_hashes, short};
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
    /// The first 128 bits of each row's hash, in the order of their addresses; `None` where they are not wanted, or too many.
    pub(crate) hashes: Option<Vec<u128>>,
}

/// Runs of a model that are to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewRuns {
    pub(crate) store: Store,
    pub(crate) name: TableName,
    pub(crate) fingerprint: String,
    pub(crate) schema: SchemaRef,
    /// The hashes of up to so many rows are wanted one by one.
    pub(crate) hashes: usize,
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
        // What is finer than a microsecond is nothing that a sink keeps, or that rows are told apart by.
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        DataType::LargeList(item) | DataType::ListView(item) | DataType::List(item) => {
            DataType::List(Arc::new(Field::new(item.name(), plain(item.data_type()), true)))
        }
        other => other.clone(),
    }
}

impl NewRuns {
    /// Writes a stream's rows, from the address `first` on. While some are encoded, the stream makes the next ones.
    ///
    /// # Errors
    /// What the stream says, and any failure of the store.
    pub(crate) async fn write(&self, first: u64, mut rows: SendableRecordBatchStream) -> Result<Written> {
        let end = |written: &Written| written.runs.last().map_or(first, |run| run.addresses().end);
        let mut written = Written { hashes: (self.hashes > 0).then(Vec::new), ..Written::default() };
        let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
        let mut next = rows.try_next().await.map_err(Error::Execution)?;
        while let Some(batch) = next {
            let (open, schema) = (writer.take(), Arc::clone(&self.schema));
            // Compression and hashing are work for a thread of their own, not for the one that drives the I/O.
            let encoding = tokio::task::spawn_blocking(move || encode(open, &schema, &batch));
            let (encoded, following) = futures::join!(encoding, rows.try_next());
            let (encoded, hashes) = encoded??;
            written.take(&hashes, self.hashes);
            writer = match encoded {
                Some(encoded) if encoded.bytes_written() + encoded.in_progress_size() >= RUN_BYTES => {
                    written.runs.push(self.finish(end(&written), encoded).await?);
                    None
                }
                encoded => encoded,
            };
            next = following.map_err(Error::Execution)?;
        }
        if let Some(writer) = writer {
            written.runs.push(self.finish(end(&written), writer).await?);
        }
        Ok(written)
    }

    /// The same for the rows of several streams, each written by a task of its own; their runs follow one another.
    ///
    /// # Errors
    /// As [`Self::write`], for the first that fails; then the others are given up.
    pub(crate) async fn write_all(&self, first: u64, streams: Vec<SendableRecordBatchStream>) -> Result<Written> {
        let (mut writing, share) = (JoinSet::new(), self.hashes.div_ceil(streams.len().max(1)));
        for (at, rows) in streams.into_iter().enumerate() {
            let new = Self { hashes: share, ..self.clone() };
            writing.spawn(async move { Ok::<_, Error>((at, new.write(0, rows).await?)) });
        }
        let mut parts = Vec::new();
        while let Some(part) = writing.join_next().await {
            parts.push(part??);
        }
        parts.sort_by_key(|(at, _)| *at);
        let hashes = parts.iter().filter_map(|(_, part)| part.hashes.as_ref()).map(Vec::len).sum();
        let hashes = (self.hashes > 0).then(|| Vec::with_capacity(hashes));
        let mut all = Written { hashes, ..Written::default() };
        for (_, part) in parts {
            for run in part.runs {
                let first = all.runs.last().map_or(first, |run: &Run| run.addresses().end);
                all.runs.push(Run { first, ..run });
            }
            all.rows += part.rows;
            all.hash = all.hash.add(part.hash);
            all.hashes = all.hashes.zip(part.hashes).map(|(mut all, hashes)| {
                all.extend(hashes);
                all
            });
        }
        all.hashes = all.hashes.filter(|hashes| hashes.len() <= self.hashes);
        Ok(all)
    }

    async fn finish(&self, first: u64, mut writer: ArrowWriter<Vec<u8>>) -> Result<Run> {
        writer.flush()?;
        let rows = writer.flushed_row_groups().iter().map(|group| group.num_rows()).sum::<i64>();
        let parquet = writer.into_inner()?;
        let path = layout::run(&self.name.to_string(), &self.fingerprint, Uuid::now_v7());
        let (rows, bytes) = (u64::try_from(rows).unwrap_or_default(), parquet.len() as u64);
        let run = Run { path: path.to_string(), first, rows, bytes };
        self.store.put(&path, parquet).await?;
        Ok(run)
    }
}

impl Written {
    fn take(&mut self, hashes: &[[u8; 32]], most: usize) {
        self.rows += hashes.len() as u64;
        self.hash = hashes.iter().fold(self.hash, |sum, hash| sum.add(TableHash::of_row(*hash)));
        if let Some(all) = &mut self.hashes {
            all.extend(hashes.iter().map(short));
        }
        self.hashes = self.hashes.take().filter(|hashes| hashes.len() <= most);
    }
}

/// The writer with a batch more, if there is any row, and the hash of each row.
type Encoded = (Option<ArrowWriter<Vec<u8>>>, Vec<[u8; 32]>);

fn encode(writer: Option<ArrowWriter<Vec<u8>>>, schema: &SchemaRef, batch: &RecordBatch) -> Result<Encoded> {
    if batch.num_rows() == 0 {
        return Ok((writer, Vec::new()));
    }
    let batch = cast(batch.columns(), schema)?;
    let mut writer = match writer {
        Some(writer) => writer,
        None => ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(plain_properties(&batch)))?,
    };
    writer.write(&batch)?;
    Ok((Some(writer), row_hashes(&batch)?))
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

/// Reads runs from the lake's store.
#[derive(Clone, Debug)]
pub(crate) struct StoredRuns(pub(crate) Store);

impl ReadRun for StoredRuns {
    fn read(&self, run: &Run, rows: Option<RowSelection>) -> BoxStream<'static, Result<RecordBatch>> {
        let (store, path) = (self.0.clone(), layout::stored(&run.path));
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
