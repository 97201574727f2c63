//! Checkpoints: the state of the table at one version in one Parquet file, as every Delta reader knows it. Opening the log
//! then costs what came since, and not its history.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use deltalake::kernel::{Action, Add, Remove};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::claims::Claims;
use crate::entry::{self, RemovedFile, Table};
use crate::error::{Error, Result};
use crate::files::DataFile;
use crate::layout;
use crate::schema;
use crate::store::Store;

/// How many actions are encoded or decoded at once.
const ROWS: usize = 8192;

/// The tag of `_last_checkpoint` that names the checkpoint before it.
const PREVIOUS: &str = "lakebed.previous";

/// The table at one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    /// The version.
    pub version: u64,
    /// Its columns.
    pub claims: Claims,
    /// Its data files.
    pub active: Vec<DataFile>,
    /// Files that were removed not long ago.
    pub removed: Vec<RemovedFile>,
    /// Where the lanes stand.
    pub lanes: BTreeMap<String, String>,
}

/// Delta's pointer to the newest checkpoint. It is a hint: a newer checkpoint may be there, and of writers who overtake each
/// other a slow one may point to one that is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LastCheckpoint {
    version: u64,
    size: u64,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// The version of the newest checkpoint, if there is one.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn newest(store: &Store) -> Result<Option<u64>> {
    Ok(last(store).await?.map(|last| last.version))
}

/// The newest checkpoint. One that is not there or cannot be read is none: the versions hold everything.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn newest_readable(store: &Store) -> Result<Option<Checkpoint>> {
    let Some(version) = newest(store).await? else { return Ok(None) };
    unless_corrupt(read(store, version).await.map(Some))
}

async fn last(store: &Store) -> Result<Option<LastCheckpoint>> {
    unless_corrupt(store.get_json(&layout::last_checkpoint()).await)
}

fn unless_corrupt<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    if let Err(Error::Corrupt { path, reason }) = &read {
        tracing::warn!("'{path}' is not used: {reason}");
        return Ok(None);
    }
    read
}

/// Writes a checkpoint, reads it back, and only then points to it; the one before the last is deleted after that.
///
/// Two processes may write the same one: both write the same state. One that was overtaken is deleted.
///
/// # Errors
/// [`Error::Corrupt`] where what was read back is not what was written; any failure of the store.
pub(crate) async fn write(store: &Store, checkpoint: Checkpoint, table: &Table, at: DateTime<Utc>) -> Result<()> {
    let path = layout::checkpoint(checkpoint.version);
    let (version, files) = (checkpoint.version, checkpoint.active.len());
    let table = table.clone();
    let (parquet, size) = tokio::task::spawn_blocking(move || encode(&checkpoint, &table, at)).await??;
    store.put(&path, parquet).await?;
    let there = read(store, version).await?;
    if there.active.len() != files {
        let reason = format!("{} of its {files} files were read back", there.active.len());
        return Err(Error::Corrupt { path, reason });
    }
    let before = last(store).await?;
    match before.as_ref().map(|before| before.version) {
        Some(newer) if newer > version => return store.delete(&path).await,
        Some(same) if same == version => return Ok(()),
        _ => {}
    }
    let tags = before.iter().map(|before| (PREVIOUS.to_owned(), before.version.to_string())).collect();
    store.put_json(&layout::last_checkpoint(), &LastCheckpoint { version, size, tags }).await?;
    let two_ago = before.as_ref().and_then(|before| before.tags.get(PREVIOUS)?.parse().ok());
    match two_ago {
        Some(old) => store.delete(&layout::checkpoint(old)).await,
        None => Ok(()),
    }
}

/// Reads the checkpoint of a version.
///
/// # Errors
/// [`Error::Corrupt`] where it is not there or not ours; any failure of the store.
pub(crate) async fn read(store: &Store, version: u64) -> Result<Checkpoint> {
    let path = layout::checkpoint(version);
    let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
    let bytes = store.get(&path).await?.ok_or_else(|| corrupt("it is gone".to_owned()))?;
    let decoded = tokio::task::spawn_blocking(move || decode(version, bytes)).await?;
    decoded.map_err(|reason| corrupt(reason.to_string()))
}

fn encode(checkpoint: &Checkpoint, table: &Table, at: DateTime<Utc>) -> Result<(Vec<u8>, u64)> {
    let action = |action: Action| serde_json::to_value(action).unwrap_or_default();
    let head =
        [json!({"protocol": entry::protocol()}), json!({"metaData": entry::metadata(&checkpoint.claims, table)})];
    let lanes = checkpoint.lanes.iter().map(|(lane, position)| action(entry::lane(lane, position)));
    let removed = checkpoint.removed.iter().map(|file| action(Action::Remove(entry::remove(file))));
    // A checkpoint says what is there, not what changed.
    let add = |file| Action::Add(Add { data_change: false, ..entry::add(file, at) });
    let active = checkpoint.active.iter().map(|file| action(add(file)));
    let mut actions = head.into_iter().chain(lanes).chain(removed).chain(active).peekable();

    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
        .set_created_by(concat!("lakebed ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), columns(), Some(properties))?;
    let mut decoder = arrow_json::ReaderBuilder::new(columns()).with_batch_size(ROWS).build_decoder()?;
    let mut size = 0;
    while actions.peek().is_some() {
        let rows: Vec<Value> = actions.by_ref().take(ROWS).collect();
        decoder.serialize(&rows)?;
        if let Some(batch) = decoder.flush()? {
            size += batch.num_rows() as u64;
            writer.write(&batch)?;
        }
    }
    Ok((writer.into_inner()?, size))
}

/// What is wrong with a checkpoint, in the words of whoever found it.
type Unreadable = Box<dyn std::error::Error + Send + Sync>;

fn decode(version: u64, bytes: bytes::Bytes) -> Result<Checkpoint, Unreadable> {
    let mut checkpoint = Checkpoint { version, ..Checkpoint::default() };
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(ROWS).build()? {
        let batch = batch?;
        each(&batch, "metaData", |row, at| {
            let schema = serde_json::from_str(row.text("schemaString", at).unwrap_or_default())?;
            checkpoint.claims = schema::claims_of_delta(&schema)?;
            Ok(())
        })?;
        each(&batch, "domainMetadata", |row, at| {
            let (domain, position) = (row.text("domain", at), row.text("configuration", at));
            checkpoint.lanes.extend(entry::lane_of(domain.unwrap_or_default(), position.unwrap_or_default()));
            Ok(())
        })?;
        each(&batch, "remove", |row, at| {
            let remove = Remove {
                path: row.text("path", at).unwrap_or_default().to_owned(),
                deletion_timestamp: row.number("deletionTimestamp", at),
                partition_values: Some(row.map("partitionValues", at)),
                size: row.number("size", at),
                ..Remove::default()
            };
            checkpoint.removed.push(entry::removed_file(remove)?);
            Ok(())
        })?;
        each(&batch, "add", |row, at| {
            let add = Add {
                path: row.text("path", at).unwrap_or_default().to_owned(),
                partition_values: row.map("partitionValues", at),
                size: row.number("size", at).unwrap_or_default(),
                stats: row.text("stats", at).map(str::to_owned),
                tags: Some(row.map("tags", at)),
                ..Add::default()
            };
            checkpoint.active.push(entry::data_file(add)?);
            Ok(())
        })?;
    }
    Ok(checkpoint)
}

/// One kind of action of a batch of rows.
struct Rows<'b>(&'b StructArray);

/// Calls `take` with the place of every row that is an action of this kind.
fn each(
    batch: &RecordBatch,
    kind: &str,
    mut take: impl FnMut(&Rows<'_>, usize) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let Some(rows) = batch.column_by_name(kind).and_then(|column| column.as_struct_opt()) else { return Ok(()) };
    (0..rows.len()).filter(|at| rows.is_valid(*at)).try_for_each(|at| take(&Rows(rows), at))
}

impl Rows<'_> {
    fn column(&self, name: &str, at: usize) -> Option<&dyn Array> {
        self.0.column_by_name(name).filter(|column| column.is_valid(at)).map(AsRef::as_ref)
    }

    fn text(&self, name: &str, at: usize) -> Option<&str> {
        self.column(name, at)?.as_string_opt::<i32>().map(|texts| texts.value(at))
    }

    fn number(&self, name: &str, at: usize) -> Option<i64> {
        self.column(name, at)?.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(at))
    }

    fn map(&self, name: &str, at: usize) -> HashMap<String, Option<String>> {
        let entries = self.column(name, at).and_then(|column| column.as_any().downcast_ref::<MapArray>());
        let entries = entries.map(|maps| maps.value(at));
        let texts = |number: usize| entries.as_ref()?.column(number).as_string_opt::<i32>();
        let (Some(keys), Some(values)) = (texts(0), texts(1)) else { return HashMap::new() };
        let text = |value: Option<&str>| value.map(str::to_owned);
        keys.iter().flatten().map(str::to_owned).zip(values.iter().map(text)).collect()
    }
}

/// The columns of a checkpoint, as Delta's protocol names them.
fn columns() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let flag = |name: &str| Field::new(name, DataType::Boolean, true);
    let small = |name: &str| Field::new(name, DataType::Int32, true);
    let map = |name: &str| {
        let entry =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
        let entries = Field::new("key_value", DataType::Struct(entry), false);
        Field::new(name, DataType::Map(Arc::new(entries), false), true)
    };
    let list = |name: &str| Field::new_list(name, Field::new("element", DataType::Utf8, true), true);
    let action = |name: &str, fields: Vec<Field>| Field::new_struct(name, fields, true);
    Arc::new(Schema::new(vec![
        action(
            "protocol",
            vec![small("minReaderVersion"), small("minWriterVersion"), list("readerFeatures"), list("writerFeatures")],
        ),
        action(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                Field::new_struct("format", vec![text("provider"), map("options")], true),
                text("schemaString"),
                list("partitionColumns"),
                number("createdTime"),
                map("configuration"),
            ],
        ),
        action("txn", vec![text("appId"), number("version"), number("lastUpdated")]),
        action("domainMetadata", vec![text("domain"), text("configuration"), flag("removed")]),
        action(
            "remove",
            vec![
                text("path"),
                number("deletionTimestamp"),
                flag("dataChange"),
                flag("extendedFileMetadata"),
                map("partitionValues"),
                number("size"),
            ],
        ),
        action(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                number("size"),
                number("modificationTime"),
                flag("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
    ]))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::claims::Claim;
    use crate::columns::ColumnType;
    use crate::entry::PartitionBy;
    use crate::files::{Offsets, StagedFile};

    fn file(number: u64, offsets: Offsets) -> DataFile {
        let staged = StagedFile {
            path: format!("event_date=2026-11-01/{number}.parquet"),
            event_date: "2026-11-01".parse().ok(),
            bytes: 100 + number,
            rows: 10,
            row_range: (0, 9),
            places: None,
            time_range: (1_793_491_200_000_000, 1_793_491_201_000_000),
        };
        DataFile { offsets, staged }
    }

    #[tokio::test]
    async fn a_checkpoint_comes_back_and_the_last_two_are_kept() {
        let store = Store::memory();
        let at = DateTime::from_timestamp_millis(1_793_491_200_123).unwrap();
        let table = Table { id: Uuid::nil(), created: at, partition_by: PartitionBy::EventDate };
        let mut claims = Claims::default();
        let path: Arc<[String]> = ["user".to_owned(), "plan".to_owned()].into();
        claims.insert(Claim { id: 100, path, name: "user_plan".into(), kind: ColumnType::Varchar });
        let removed = RemovedFile {
            path: "event_date=2026-11-01/old.parquet".into(),
            event_date: "2026-11-01".parse().ok(),
            bytes: 7,
            at,
        };
        let active: Vec<_> = (0..2 * ROWS as u64)
            .map(|n| file(n, if n % 2 == 0 { Offsets::Base(n * 10) } else { Offsets::Stored(n * 10, n * 10 + 9) }))
            .collect();
        let lanes = BTreeMap::from([("shard/1".to_owned(), "4959".repeat(14))]);
        let one = Checkpoint { version: 7, claims, active, removed: vec![removed], lanes };
        assert_eq!(newest(&store).await.unwrap(), None);
        for version in [7, 9, 12] {
            write(&store, Checkpoint { version, ..one.clone() }, &table, at).await.unwrap();
        }
        assert_eq!(newest(&store).await.unwrap(), Some(12));
        let there = read(&store, 12).await.unwrap();
        assert_eq!((there.claims, there.removed, there.lanes), (one.claims, one.removed, one.lanes));
        assert_eq!(there.active, one.active);
        let kept: Vec<_> =
            store.list(&"events/_delta_log".into()).await.unwrap().into_iter().map(|object| object.location).collect();
        assert_eq!(kept, [layout::checkpoint(9), layout::checkpoint(12), layout::last_checkpoint()]);
    }
}
