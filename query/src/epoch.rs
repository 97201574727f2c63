//! Epochs: one manifest for each refresh, put if absent, that lists the runs of every model at one version of the log.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use lakebed_log::search::Search;
use lakebed_log::{Store, layout};
use object_store::ObjectMeta;
use object_store::path::Path;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{self, Deletion, Rows, Run};
use crate::run_files::Written;
use crate::runner::Reading;

/// The layout of manifests that this build writes. The first one had no addresses.
pub const LAYOUT: u32 = 2;

/// So many manifests are asked for at once.
const READ_AT_ONCE: usize = 16;

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

/// A line of epochs: the lake's own, or that of a replay beside it. They are counted from 1, and of the lake's own none is ever
/// deleted: so the newest is found by its number, however many there are.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    replay: Option<String>,
    /// The newest number that was seen; 0 before the first look.
    seen: Arc<AtomicU64>,
}

/// So many epochs are listed at most to find the newest: a page of an object store's listing.
const LISTED: usize = 1_000;

impl Chain {
    /// The line of a replay.
    pub fn of_replay(name: impl Into<String>) -> Self {
        Self { replay: Some(name.into()), seen: Arc::default() }
    }

    /// The replay's name, if it is one's.
    pub fn replay(&self) -> Option<&str> {
        self.replay.as_deref()
    }

    fn path(&self, number: u64) -> Path {
        layout::epoch(self.replay(), number)
    }

    /// The newest epoch, or `None` before the first refresh.
    ///
    /// # Errors
    /// Any failure of the store; [`Error::Log`] for a manifest that is no JSON of ours.
    pub async fn newest(&self, store: &Store) -> Result<Option<Manifest>> {
        let Some(number) = self.newest_number(store).await? else { return Ok(None) };
        if let Some(newest) = read(store, &self.path(number)).await? {
            return Ok(Some(newest));
        }
        // Another lake has been put into this one's place.
        self.seen.store(0, Ordering::Relaxed);
        match self.newest_number(store).await? {
            Some(number) => read(store, &self.path(number)).await,
            None => Ok(None),
        }
    }

    /// The number of the newest epoch, or `None` before the first refresh.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn newest_number(&self, store: &Store) -> Result<Option<u64>> {
        let known = match self.seen.load(Ordering::Relaxed) {
            0 => {
                let listed = store.list_some(&layout::epochs(self.replay()), LISTED).await?;
                listed.iter().filter_map(number_of).max().unwrap_or(0)
            }
            seen => seen,
        };
        let mut search = Search::from(known);
        while let Some(number) = search.next() {
            search.learn(store.exists(&self.path(number)).await?);
        }
        let last = search.last();
        self.seen.fetch_max(last, Ordering::Relaxed);
        Ok((last > 0).then_some(last))
    }

    /// The newest epoch that holds no event at an offset or beyond it.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn before(&self, store: &Store, next_offset: u64) -> Result<Option<Manifest>> {
        // An epoch never has fewer events than the one before it.
        let newest = self.newest_number(store).await?.unwrap_or(0);
        let (mut search, mut found) = (Search::between(0, newest + 1), None);
        while let Some(number) = search.next() {
            let manifest = read(store, &self.path(number)).await?;
            let before = manifest.filter(|manifest| manifest.next_offset <= next_offset);
            search.learn(before.is_some());
            found = before.or(found);
        }
        Ok(found)
    }

    /// All epochs after one, oldest first; after 0, all that there are.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn after(&self, store: &Store, epoch: u64) -> Result<Vec<Manifest>> {
        let newest = self.newest_number(store).await?.unwrap_or(0);
        let reads = (epoch + 1..=newest).map(|number| {
            let (store, path) = (store.clone(), self.path(number));
            async move { read(&store, &path).await }
        });
        let read: Vec<_> = futures::stream::iter(reads).buffered(READ_AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Puts an epoch; `false` where another refresh was first.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn put(&self, store: &Store, manifest: &Manifest) -> Result<bool> {
        let is_ours = store.put_or_read(&self.path(manifest.epoch), manifest.clone()).await? == *manifest;
        if is_ours {
            self.seen.fetch_max(manifest.epoch, Ordering::Relaxed);
        }
        Ok(is_ours)
    }

    /// Deletes all epochs of a replay; the lake's own stay.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn delete(&self, store: &Store) -> Result<()> {
        if self.replay.is_some() {
            // The newest last, so that what a kill leaves is a replay that is done.
            for object in store.list(&layout::epochs(self.replay())).await? {
                store.delete(&object.location).await?;
            }
            self.seen.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// An identity for a table that takes the place of one with this identity, in an epoch.
pub(crate) fn another_identity(identity: &str, epoch: u64) -> String {
    blake3::hash(format!("{identity}/{epoch}").as_bytes()).to_hex()[..32].to_owned()
}

/// The number in the name of an epoch's object.
fn number_of(object: &ObjectMeta) -> Option<u64> {
    object.location.filename()?.strip_suffix(".json")?.parse().ok()
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
            identity: String::new(),
            query: String::new(),
            strategy: "full".into(),
            changed: 1,
            mark: None,
            columns: columns_of(&schema),
            unique: Vec::new(),
            start: 0,
            runs: Vec::new(),
            deletions: Vec::new(),
            rows: 0,
            content_hash: TableHash::EMPTY,
            work: Work::default(),
        };
        assert_eq!(*state.schema().unwrap(), schema);
    }

    fn manifest(epoch: u64) -> Manifest {
        let time = DateTime::UNIX_EPOCH;
        Manifest { layout: LAYOUT, epoch, version: epoch, time, next_offset: epoch * 10, models: BTreeMap::new() }
    }

    #[tokio::test]
    async fn the_newest_epoch_is_found_however_many_there_are() {
        let (store, chain) = (Store::memory(), Chain::default());
        assert_eq!(chain.newest_number(&store).await.unwrap(), None);
        for many in [1, 2, 7, 2_500] {
            let others = Chain::default();
            for epoch in others.newest_number(&store).await.unwrap().unwrap_or(0) + 1..=many {
                assert!(others.put(&store, &manifest(epoch)).await.unwrap());
            }
            for of in [&chain, &Chain::default()] {
                assert_eq!(of.newest_number(&store).await.unwrap(), Some(many));
                assert_eq!(of.newest(&store).await.unwrap(), Some(manifest(many)));
            }
        }
        assert_eq!(chain.before(&store, 12_345).await.unwrap(), Some(manifest(1_234)));
        assert_eq!(chain.before(&store, 9).await.unwrap(), None);
        assert_eq!(chain.after(&store, 2_498).await.unwrap(), [manifest(2_499), manifest(2_500)]);
        assert_eq!(chain.after(&store, 0).await.unwrap().len(), 2_500);
    }
}
