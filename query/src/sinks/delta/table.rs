//! One Delta table: what its log says of it, and how the next version comes into it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::errors::DeltaTableError;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitData, TransactionError};
use deltalake::kernel::{Action, Add, MetadataExt, Remove, StructType, Transaction, new_metadata};
use deltalake::logstore::{CommitOrBytes, LogStoreRef, StorageConfig, default_logstore};
use deltalake::operations::vacuum::VacuumMode;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, checkpoints};
use futures::TryStreamExt;
use lakebed_log::Store;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::blocks::Block;
use super::types;
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::Rows;
use crate::sinks::{Image, ReadRun, TableImage};

/// Tags of a file: the addresses of its rows, `from-to`, and the hash over them.
const ADDRESSES: &str = "lakebed.addresses";
const HASH: &str = "lakebed.hash";
/// Properties of the table: the lake that it is of, and the fingerprint of its model.
const LAKE: &str = "lakebed.lake";
const FINGERPRINT: &str = "lakebed.fingerprint";
/// The application whose transaction number is the version of the lake's log.
const APPLICATION: &str = "lakebed";

/// So many rows are held before they are encoded.
const GROUP_ROWS: usize = 1 << 16;

/// Every so many versions there is a checkpoint, and what is no longer needed goes: Delta's own retention says what that is.
const UPKEEP_EVERY: u64 = 50;

/// A table as its log says it is, or the place for one.
pub(super) struct Open {
    store: Store,
    at: Path,
    log: LogStoreRef,
    /// `None` where there is no table.
    table: Option<DeltaTable>,
    version_of_log: Option<u64>,
    /// Its files that are ours.
    pub(super) blocks: Vec<Block>,
    /// What takes each of them out.
    files: Vec<Remove>,
    /// The same for its other files.
    pub(super) foreign: Vec<Remove>,
}

/// A table as it was seen, and what its newest entry looked like from outside: a table that was made anew in the same place has
/// other ones under the same numbers.
#[derive(Clone)]
pub(super) struct Seen {
    table: DeltaTable,
    stamp: Option<String>,
}

/// What tells an object from every other that was or will be in its place.
async fn stamp_of(store: &Store, path: &Path) -> Option<String> {
    let object = store.objects().head(path).await.ok()?;
    Some(format!("{:?} {} {}", object.e_tag, object.size, object.last_modified))
}

fn entry_of(at: &Path, version: u64) -> Path {
    at.clone().join("_delta_log").join(format!("{version:020}.json"))
}

fn failed(at: &Path, source: DeltaTableError) -> Error {
    Error::Delta { table: at.to_string(), source: Box::new(source) }
}

/// The log of a table. A local one goes by its real place: its listings come in no order, and are put in one where the URL
/// says that they are of files. For any other the URL is a name, for the store is given.
fn log_store(store: &Store, at: &Path) -> Result<LogStoreRef, DeltaTableError> {
    let named = |error: url::ParseError| DeltaTableError::Generic(error.to_string());
    let (root, within, url): (Arc<dyn ObjectStore>, _, _) = match store.directory() {
        Some(directory) => {
            let place = directory.join(at.as_ref());
            let no_url = |()| DeltaTableError::Generic(format!("'{}' has no URL", place.display()));
            let url = Url::from_directory_path(&place).map_err(no_url)?;
            let within = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
            (Arc::new(LocalFileSystem::new()), within, url)
        }
        None => (store.objects(), at.clone(), Url::parse(&format!("memory:///{at}/")).map_err(named)?),
    };
    let table = Arc::new(PrefixStore::new(Arc::clone(&root), within));
    Ok(default_logstore(table, root, &url, &StorageConfig::default()))
}

/// Whether there is no directory for the table, which is an error to who looks for a log in it.
fn is_absent(store: &Store, at: &Path) -> bool {
    store.directory().is_some_and(|directory| !directory.join(at.as_ref()).join("_delta_log").is_dir())
}

impl Open {
    /// Reads a table's log, from where `seen` stood if it was seen before.
    pub(super) async fn at(store: &Store, at: Path, seen: Option<Seen>) -> Result<Self> {
        let wrong = |error| failed(&at, error);
        let log = match &seen {
            Some(seen) => seen.table.log_store(),
            None => log_store(store, &at).map_err(wrong)?,
        };
        // What was seen may be gone, or be another table now.
        let seen = match seen {
            Some(Seen { mut table, stamp }) => {
                let there = stamp_of(store, &entry_of(&at, table.version().unwrap_or_default())).await;
                (there == stamp && stamp.is_some() && table.update_state().await.is_ok()).then_some(table)
            }
            None => None,
        };
        let table = match seen {
            Some(table) => Ok(table),
            None if is_absent(store, &at) => Err(DeltaTableError::NotATable(String::new())),
            None => {
                let mut table = DeltaTable::new(Arc::clone(&log));
                table.load().await.map(|()| table)
            }
        };
        let mut open = Self {
            store: store.clone(),
            at: at.clone(),
            log,
            table: None,
            version_of_log: None,
            blocks: Vec::new(),
            files: Vec::new(),
            foreign: Vec::new(),
        };
        let table = match table {
            Err(DeltaTableError::NotATable(_)) => return Ok(open),
            table => table.map_err(wrong)?,
        };
        let state = table.snapshot().map_err(wrong)?;
        let version = state.transaction_version(open.log.as_ref(), APPLICATION).await.map_err(wrong)?;
        open.version_of_log = version.and_then(|version| u64::try_from(version).ok());
        for file in state.log_data().iter() {
            #[allow(deprecated, reason = "there is no other way to a file's tags")]
            let block = block_of(&file.add_action());
            match block {
                Some(block) => {
                    open.blocks.push(block);
                    open.files.push(file.remove_action(true));
                }
                None => open.foreign.push(file.remove_action(true)),
            }
        }
        open.table = Some(table);
        Ok(open)
    }

    fn property(&self, name: &str) -> Option<&String> {
        let state = self.table.as_ref()?.snapshot().ok()?;
        state.metadata().configuration().get(name)
    }

    /// The fingerprint of the model that it is of.
    pub(super) fn fingerprint(&self) -> Option<&String> {
        self.property(FINGERPRINT)
    }

    /// The version of the lake's log that its rows are of, or an earlier one with the same rows.
    pub(super) fn version_of_log(&self) -> Option<u64> {
        self.version_of_log
    }

    /// The names of its columns, or `None` where there is no table.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        let state = self.table.as_ref()?.snapshot().ok()?;
        Some(state.schema().fields().map(|field| field.name().clone()).collect())
    }

    /// Its files, as the store sees them.
    pub(super) fn paths(&self) -> impl Iterator<Item = Path> {
        let path =
            |file: &Remove| Path::parse(format!("{}/{}", self.at, file.path)).unwrap_or_else(|_| self.at.clone());
        self.files.iter().chain(&self.foreign).map(path)
    }

    /// Makes sure that the table is this lake's, if there is one.
    ///
    /// # Errors
    /// [`Error::TableTaken`] for somebody else's, [`Error::DeltaTaken`] for another lake's.
    pub(super) fn check_owner(&self, image: &Image, table: &TableImage) -> Result<()> {
        match (&self.table, self.property(LAKE)) {
            (None, _) => Ok(()),
            (Some(_), Some(lake)) if *lake == image.lake => Ok(()),
            (Some(_), Some(_)) => Err(Error::DeltaTaken { table: self.place() }),
            (Some(_), None) => Err(Error::TableTaken { table: table.model() }),
        }
    }

    /// The log's entry of a version.
    fn entry(&self, version: u64) -> Path {
        entry_of(&self.at, version)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.store.place(), self.at)
    }
}

/// The rows that a file was tagged with.
fn block_of(file: &Add) -> Option<Block> {
    // With a deletion vector it has not the rows any more that it was tagged with.
    if file.deletion_vector.is_some() {
        return None;
    }
    let tag = |name: &str| file.tags.as_ref()?.get(name)?.as_deref();
    let (from, to) = tag(ADDRESSES)?.split_once('-')?;
    let stats: serde_json::Value = serde_json::from_str(file.stats.as_deref()?).ok()?;
    Some(Block {
        addresses: from.parse().ok()?..to.parse().ok()?,
        rows: stats.get("numRecords")?.as_u64()?,
        hash: tag(HASH)?.parse().ok()?,
    })
}

/// The next version of a table, being written.
pub(super) struct Commit<'c> {
    open: &'c Open,
    table: &'c TableImage,
    schema: &'c SchemaRef,
    version: u64,
    actions: Vec<Action>,
    mode: SaveMode,
    log_version: u64,
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
        let (written, rows, log_version) = (Vec::new(), 0, image.version);
        Ok(Self { open, table, schema, version, actions, mode, log_version, written, rows })
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
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
        let properties = WriterProperties::builder()
            .set_compression(zstd)
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
        let modification_time = self.open.store.time_of(&path).await?.timestamp_millis();
        self.written.push(path);
        self.rows += count;
        let addresses = format!("{}-{}", rows.addresses.start, rows.addresses.end);
        let tags = [(ADDRESSES, addresses), (HASH, hash.to_string())];
        self.actions.push(Action::Add(Add {
            path: name,
            size,
            modification_time,
            data_change: true,
            stats: Some(json!({"numRecords": count}).to_string()),
            tags: Some(tags.map(|(name, value)| (name.to_owned(), Some(value))).into()),
            ..Add::default()
        }));
        Ok(hash)
    }

    /// Commits; gives the table as it is then, or `None` where another writer was first.
    ///
    /// # Errors
    /// [`Error::Delta`]; whether the version was committed is unknown then, and the next publication finds out.
    pub(super) async fn put(mut self) -> Result<Option<Seen>> {
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
        let entry = CommitOrBytes::LogBytes(bytes.clone());
        match open.log.write_commit_entry(version, entry, Uuid::new_v4()).await {
            Ok(()) => {}
            // Another writer's; or ours, where the answer to the first try was lost and the store's client tried again.
            Err(TransactionError::VersionAlreadyExists(_)) => {
                if open.store.get(&open.entry(version)).await?.as_ref() != Some(&bytes) {
                    self.discard().await;
                    return Ok(None);
                }
            }
            Err(error) => return Err(wrong(error.into())),
        }
        let mut table = open.table.clone().unwrap_or_else(|| DeltaTable::new(Arc::clone(&open.log)));
        let seen = if open.table.is_some() { table.update_state().await } else { table.load().await };
        seen.map_err(wrong)?;
        if version > 0 && version.is_multiple_of(UPKEEP_EVERY) {
            // The rows are published, and this is no failure of it; the next one tries again.
            if let Err(error) = keep_up(&mut table).await {
                tracing::warn!("the upkeep of the delta table {} failed: {error}", open.place());
            }
        }
        let stamp = stamp_of(&open.store, &open.entry(table.version().unwrap_or_default())).await;
        Ok(Some(Seen { table, stamp }))
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
async fn keep_up(table: &mut DeltaTable) -> Result<(), DeltaTableError> {
    checkpoints::create_checkpoint(table, None).await?;
    checkpoints::cleanup_metadata(table, None).await?;
    let (vacuumed, _) = table.clone().vacuum().with_mode(VacuumMode::Full).await?;
    *table = vacuumed;
    Ok(())
}
