//! The log as a reader sees it: versions as offset bounds, and the files that hold the offsets below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::checkpoint::{self, Checkpoint};
use crate::claims::Claims;
use crate::entry::{Entry, RemovedFile};
use crate::error::{Error, Result};
use crate::files::DataFile;
use crate::head;
use crate::schema;
use crate::search::Search;
use crate::store::Store;

/// How long a removed file is remembered: no vacuum leaves it longer.
pub(crate) const TOMBSTONES: TimeDelta = TimeDelta::days(30);

/// A version: when it was, and the offset after its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its time.
    pub time: DateTime<Utc>,
    /// The log as of it is the events below this offset.
    pub next_offset: u64,
}

/// The log up to one version.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The version.
    pub version: u64,
    /// Its time.
    pub time: DateTime<Utc>,
    /// The time of the last version up to this one that brought rows: what `now()` is as of this version. One that only
    /// compacted changes no answer.
    pub filled: DateTime<Utc>,
    /// The events are those below this offset.
    pub next_offset: u64,
    /// The claimed columns of the newest version: a later one reads as null in earlier files.
    pub claims: Arc<Claims>,
    /// The files that hold them, in the order of their offsets; a file may reach beyond the bound.
    pub files: Vec<Arc<DataFile>>,
}

impl Snapshot {
    /// All columns, those that are in no file included.
    pub fn schema(&self) -> SchemaRef {
        schema::table(&self.claims)
    }

    /// The files that hold events from the offset `from` on.
    pub fn files_from(&self, from: u64) -> impl Iterator<Item = &Arc<DataFile>> {
        self.files.iter().filter(move |file| file.offset_range().1 >= from)
    }
}

/// So many versions' bounds are held: a few MB.
const BOUNDS: usize = 65_536;

/// The active files and the bounds of the versions, folded from the newest checkpoint and the entries since; followed,
/// never read twice. A bound from before the checkpoint is read when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The newest version that was read; `None` before the first.
    newest: Option<u64>,
    bounds: BTreeMap<u64, Bound>,
    claims: Arc<Claims>,
    lanes: BTreeMap<String, String>,
    /// By path, so that a removal finds its file.
    active: BTreeMap<String, Arc<DataFile>>,
    removed: BTreeMap<String, RemovedFile>,
}

impl History {
    /// Reads what is new.
    ///
    /// # Errors
    /// Any failure of the store, and an entry that lakebed did not write.
    pub(crate) async fn follow(&mut self, store: &Store) -> Result<()> {
        if self.newest.is_none()
            && let Some(checkpoint) = checkpoint::newest_readable(store).await?
        {
            let entry = head::read(store, checkpoint.version).await?;
            self.start(checkpoint, &entry);
        }
        let next = self.newest.map_or(0, |newest| newest + 1);
        head::follow(store, next, |version, entry| self.apply(version, entry)).await.map(drop)
    }

    fn start(&mut self, checkpoint: Checkpoint, entry: &Entry) {
        self.note(checkpoint.version, entry);
        self.claims = Arc::new(checkpoint.claims);
        self.lanes = checkpoint.lanes;
        let file = |file: DataFile| (file.staged.path.clone(), Arc::new(file));
        self.active = checkpoint.active.into_iter().map(file).collect();
        self.removed = checkpoint.removed.into_iter().map(|file| (file.path.clone(), file)).collect();
    }

    fn note(&mut self, version: u64, entry: &Entry) {
        self.newest = Some(version);
        self.bounds.insert(version, Bound { time: entry.time, next_offset: entry.record.next_offset });
        // One that is older is read again when it is asked for.
        while self.bounds.len() > BOUNDS {
            self.bounds.pop_first();
        }
    }

    fn apply(&mut self, version: u64, entry: Entry) {
        self.note(version, &entry);
        if !entry.removed.is_empty() {
            self.removed.retain(|_, file| entry.time - file.at <= TOMBSTONES);
        }
        for file in entry.removed {
            self.active.remove(&file.path);
            self.removed.insert(file.path.clone(), file);
        }
        for file in entry.added {
            self.active.insert(file.staged.path.clone(), Arc::new(file));
        }
        if let Some(claims) = entry.claims {
            self.claims = Arc::new(claims);
        }
        self.lanes.extend(entry.lanes);
    }

    fn newest_version(&self, store: &Store) -> Result<u64> {
        self.newest.ok_or_else(|| Error::NoLog { place: store.place().to_owned() })
    }

    /// A version's bound, from memory or from its entry.
    async fn bound(&mut self, version: u64, store: &Store) -> Result<Bound> {
        if let Some(bound) = self.bounds.get(&version) {
            return Ok(*bound);
        }
        let entry = head::read(store, version).await?;
        let bound = Bound { time: entry.time, next_offset: entry.record.next_offset };
        self.bounds.insert(version, bound);
        Ok(bound)
    }

    /// The newest version.
    ///
    /// # Errors
    /// [`Error::NoLog`] where nothing was read.
    pub(crate) async fn newest(&mut self, store: &Store) -> Result<Snapshot> {
        let version = self.newest_version(store)?;
        self.at(version, store).await
    }

    /// A version that the log has.
    ///
    /// # Errors
    /// [`Error::NoVersion`], [`Error::NoLog`]; any failure of the store.
    pub(crate) async fn at(&mut self, version: u64, store: &Store) -> Result<Snapshot> {
        let head = self.newest_version(store)?;
        if version > head {
            return Err(Error::NoVersion { asked: version, head });
        }
        let bound = self.bound(version, store).await?;
        let below = self.active.values().filter(|file| file.offset_range().0 < bound.next_offset).cloned();
        let mut files: Vec<_> = below.collect();
        files.sort_by_key(|file| (file.offset_range(), file.staged.event_date));
        Ok(Snapshot {
            version,
            time: bound.time,
            filled: self.filled(version, bound, store).await?.time,
            next_offset: bound.next_offset,
            claims: Arc::clone(&self.claims),
            files,
        })
    }

    /// The bound of the first version with the rows of this one: of the last that brought any. Most do, so it is looked for
    /// from this end.
    async fn filled(&mut self, version: u64, bound: Bound, store: &Store) -> Result<Bound> {
        let mut search = Search::from(0);
        while let Some(back) = search.next() {
            search.learn(match version.checked_sub(back) {
                Some(earlier) => self.bound(earlier, store).await?.next_offset == bound.next_offset,
                None => false,
            });
        }
        self.bound(version - search.last(), store).await
    }

    /// The newest version at or before a time; times of versions only grow.
    ///
    /// # Errors
    /// [`Error::BeforeTheLog`], [`Error::NoLog`]; any failure of the store.
    pub(crate) async fn version_at(&mut self, time: DateTime<Utc>, store: &Store) -> Result<u64> {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let beyond = self.newest_version(store)? + 1;
        let first = self.bound(0, store).await?;
        if first.time > time {
            return Err(Error::BeforeTheLog { asked: text(time), begin: text(first.time) });
        }
        let mut search = Search::between(0, beyond);
        while let Some(version) = search.next() {
            search.learn(self.bound(version, store).await?.time <= time);
        }
        Ok(search.last())
    }

    /// The version that brought the event of an offset, and the offset after its last; `None` where the log has no such event yet.
    ///
    /// # Errors
    /// [`Error::NoLog`]; any failure of the store.
    pub(crate) async fn brought(&mut self, offset: u64, store: &Store) -> Result<Option<(u64, u64)>> {
        let newest = self.newest_version(store)?;
        if self.bound(newest, store).await?.next_offset <= offset {
            return Ok(None);
        }
        // The version of the table itself brings no event.
        let mut search = Search::between(0, newest);
        while let Some(version) = search.next() {
            search.learn(self.bound(version, store).await?.next_offset <= offset);
        }
        let version = search.last() + 1;
        Ok(Some((version, self.bound(version, store).await?.next_offset)))
    }

    /// The active files, by path.
    pub(crate) fn active(&self) -> &BTreeMap<String, Arc<DataFile>> {
        &self.active
    }

    /// When a file was removed, if that was not long ago.
    pub(crate) fn removed_at(&self, path: &str) -> Option<DateTime<Utc>> {
        self.removed.get(path).map(|file| file.at)
    }

    /// The files that were removed up to a time, the last of them at the end.
    pub(crate) fn removed_before(&self, time: DateTime<Utc>) -> Vec<String> {
        let mut removed: Vec<_> = self.removed.values().filter(|file| file.at <= time).collect();
        removed.sort_by_key(|file| file.at);
        removed.into_iter().map(|file| file.path.clone()).collect()
    }

    /// The newest version as a checkpoint has it; what was removed long before `at` is forgotten.
    pub(crate) fn checkpoint(&mut self, at: DateTime<Utc>) -> Option<Checkpoint> {
        self.removed.retain(|_, file| at - file.at <= TOMBSTONES);
        Some(Checkpoint {
            version: self.newest?,
            claims: Claims::clone(&self.claims),
            active: self.active.values().map(|file| DataFile::clone(file)).collect(),
            removed: self.removed.values().cloned().collect(),
            lanes: self.lanes.clone(),
        })
    }
}
