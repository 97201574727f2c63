//! How the next version comes into a Delta table: files are written, and one entry of its log names them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::errors::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Add, MetadataExt, StructType, Transaction, new_metadata};
use deltalake::logstore::CommitOrBytes;
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, checkpoints};
use futures::TryStreamExt;
use lakebed_log::{ON_ITS_WAY, compression};
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::json;
use uuid::Uuid;

use super::table::{ADDRESSES, APPLICATION, FINGERPRINT, HASH, LAKE, Open, failed};
use super::types;
use crate::error::Result;
use crate::hash::TableHash;
use crate::rows::Rows;
use crate::sinks::{Image, ReadRun, TableImage};

/// So many rows are held before they are encoded.
const GROUP_ROWS: usize = 1 << 16;

/// Every so many versions there is a checkpoint, and what is no longer needed goes: Delta's own retention says what that is.
const UPKEEP_EVERY: u64 = 50;

/// The next version of a table, being written.
pub(super) struct Commit<'c> {
    open: &'c Open,
    table: &'c TableImage,
    schema: &'c SchemaRef,
    version: u64,
    actions: Vec<Action>,
    mode: SaveMode,
    log_version: u64,
    /// The time of that version, in milliseconds: when a file was made is told by it.
    as_of: i64,
    written: Vec<Path>,
    rows: u64,
}

impl<'c> Commit<'c> {
    /// A version that keeps some of the files; with `None` none, and the table is made, or becomes another.
    pub(super) fn new(
        open: &'c Open,
        image: &Image,
        table: &'c TableImage,
        schema: &'c SchemaRef,
        keep: Option<&[usize]>,
    ) -> Result<Self> {
        let wrong = |error| failed(&open.at, error);
        let mut actions = Vec::new();
        let current = open.table.as_ref().map(DeltaTable::snapshot).transpose().map_err(wrong)?;
        if current.is_none() {
            // The base version of the protocol: whatever reads Delta reads this.
            let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 1});
            actions.push(Action::Protocol(serde_json::from_value(protocol).map_err(|error| wrong(error.into()))?));
        }
        if keep.is_none() {
            let columns: StructType =
                schema.as_ref().try_into_kernel().map_err(|error| wrong(DeltaTableError::Arrow { source: error }))?;
            let properties = [(LAKE, image.lake.as_str()), (FINGERPRINT, table.fingerprint.as_str())];
            let metadata = new_metadata(&columns, [""; 0], properties).and_then(|metadata| {
                let metadata = match current {
                    Some(current) => metadata.with_table_id(current.metadata().id().to_owned())?,
                    None => metadata,
                };
                let metadata = metadata.with_name(table.model())?;
                table.description.iter().try_fold(metadata, |of, text| of.with_description(text.clone()))
            });
            actions.push(Action::Metadata(metadata.map_err(|error| wrong(error.into()))?));
        }
        let goes = |at: &usize| keep.is_none_or(|keep| keep.binary_search(at).is_err());
        let gone = (0..open.files.len()).filter(goes).map(|at| &open.files[at]).chain(&open.foreign);
        let before = actions.len();
        actions.extend(gone.map(|file| Action::Remove(file.clone())));
        let appends = keep.is_some() && actions.len() == before;
        let mode = if appends { SaveMode::Append } else { SaveMode::Overwrite };
        let version = current.map_or(0, |current| current.version() + 1);
        let (written, rows) = (Vec::new(), 0);
        let (log_version, as_of) = (image.version, image.as_of.timestamp_millis());
        Ok(Self { open, table, schema, version, actions, mode, log_version, as_of, written, rows })
    }

    /// So many rows were written.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes rows as a file of their own; gives the hash over them.
    ///
    /// # Errors
    /// [`Error::Column`] for a value that cannot be kept, what the reader of runs says, and any failure of the store.
    pub(super) async fn write(&mut self, rows: &Rows, runs: &dyn ReadRun) -> Result<TableHash> {
        let properties = WriterProperties::builder()
            .set_compression(compression(usize::try_from(rows.count()).unwrap_or(usize::MAX)))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(concat!("lakebed ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(self.schema), Some(properties))?;
        let (mut hash, mut count) = (TableHash::EMPTY, 0);
        for (run, selected) in rows.in_runs() {
            let mut batches = runs.read(run, selected);
            while let Some(batch) = batches.try_next().await? {
                count += batch.num_rows() as u64;
                let (schema, model) = (Arc::clone(self.schema), self.table.model());
                // Hashing and compression are work for a thread of their own, not for the one that drives the I/O.
                let encoded = tokio::task::spawn_blocking(move || encode(writer, &batch, &schema, &model));
                let of_batch;
                (writer, of_batch) = encoded.await??;
                hash = hash.add(of_batch);
            }
        }
        let parquet = tokio::task::spawn_blocking(move || writer.into_inner()).await??;
        let name = format!("{}.parquet", Uuid::now_v7().simple());
        let path = self.open.at.clone().join(name.as_str());
        let size = i64::try_from(parquet.len()).unwrap_or(i64::MAX);
        self.open.store.put(&path, parquet).await?;
        self.written.push(path);
        self.rows += count;
        let addresses = format!("{}-{}", rows.addresses.start, rows.addresses.end);
        let tags = [(ADDRESSES, addresses), (HASH, hash.to_string())];
        self.actions.push(Action::Add(Add {
            path: name,
            size,
            modification_time: self.as_of,
            data_change: true,
            stats: Some(json!({"numRecords": count}).to_string()),
            tags: Some(tags.map(|(name, value)| (name.to_owned(), Some(value))).into()),
            ..Add::default()
        }));
        Ok(hash)
    }

    /// Commits; false where another writer was first.
    ///
    /// # Errors
    /// [`Error::Delta`]; whether the version was committed is unknown then, and the next publication finds out.
    pub(super) async fn put(mut self) -> Result<bool> {
        let (open, version) = (self.open, self.version);
        let wrong = |error| failed(&open.at, error);
        let operation = DeltaOperation::Write { mode: self.mode, partition_by: None, predicate: None };
        let number = i64::try_from(self.log_version).unwrap_or(i64::MAX);
        let transaction = Transaction { app_id: APPLICATION.to_owned(), version: number, last_updated: None };
        let engine = concat!("lakebed/", env!("CARGO_PKG_VERSION"));
        let about = HashMap::from([
            ("clientVersion".to_owned(), json!(engine)),
            (
                "lakebed".to_owned(),
                json!({"version": self.log_version, "contentHash": self.table.content_hash.to_string()}),
            ),
        ]);
        let actions = std::mem::take(&mut self.actions);
        let entry = CommitData::new(actions, operation, about, vec![transaction]).get_bytes();
        let bytes = entry.map_err(|error| wrong(error.into()))?;
        loop {
            let entry = CommitOrBytes::LogBytes(bytes.clone());
            match open.log.write_commit_entry(version, entry, Uuid::new_v4()).await {
                Ok(()) => break,
                Err(TransactionError::VersionAlreadyExists(_)) => {}
                Err(error) => return Err(wrong(error.into())),
            }
            match open.store.get(&open.entry(version)).await? {
                // Ours, where the answer to the first try was lost and the store's client tried again.
                Some(there) if there == bytes => break,
                Some(_) => {
                    self.discard().await;
                    return Ok(false);
                }
                // One on its way, which may come to nothing.
                None => tokio::time::sleep(ON_ITS_WAY).await,
            }
        }
        if let Some(table) = open.table.as_ref().filter(|_| version.is_multiple_of(UPKEEP_EVERY)) {
            // The rows are published, and this is no failure of it; the next one tries again.
            if let Err(error) = keep_up(table.clone()).await {
                tracing::warn!("the upkeep of the delta table {} failed: {error}", open.place());
            }
        }
        Ok(true)
    }

    /// Deletes what was written and not committed.
    pub(super) async fn discard(self) {
        for path in self.written {
            // What stays behind goes with the table's next upkeep.
            let _ = self.open.store.delete(&path).await;
        }
    }
}

fn encode(
    mut writer: ArrowWriter<Vec<u8>>,
    batch: &RecordBatch,
    schema: &SchemaRef,
    table: &str,
) -> Result<(ArrowWriter<Vec<u8>>, TableHash)> {
    writer.write(&types::cast(batch, schema, table)?)?;
    Ok((writer, TableHash::of_batch(batch)?))
}

/// A checkpoint; then log entries and files that no version within the retention needs go.
async fn keep_up(mut table: DeltaTable) -> Result<(), DeltaTableError> {
    table.update_state().await?;
    checkpoints::create_checkpoint(&table, None).await?;
    checkpoints::cleanup_metadata(&table, None).await?;
    table.vacuum().with_mode(VacuumMode::Full).await.map(drop)
}
