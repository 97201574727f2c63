//! Maintenance: what keeps a log quick to open and cheap to keep. Everything here may be done by any process at any time,
//! twice at once, or be killed; nothing of it is ever needed for correctness.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::checkpoint;
use crate::compaction::{Compacted, Compaction};
use crate::error::Result;
use crate::history::TOMBSTONES;
use crate::inbox::{Place, is_void, key_of};
use crate::layout;
use crate::log::Log;

/// How many objects are deleted at once.
const AT_ONCE: usize = 16;

/// The shortest time that a vacuum leaves an object which nobody names: longer than any staging takes.
pub const LEAST_RETENTION: TimeDelta = TimeDelta::hours(1);

/// The longest: what was removed earlier is forgotten.
pub const MOST_RETENTION: TimeDelta = TOMBSTONES;

/// When maintenance is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Versions since the last checkpoint.
    pub checkpoint_versions: u64,
    /// Small files of one day.
    pub compact_files: usize,
    /// Files that were replaced longer than `vacuum_after` ago.
    pub vacuum_files: usize,
    /// How long readers have for a replaced file.
    pub vacuum_after: TimeDelta,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { checkpoint_versions: 100, compact_files: 64, vacuum_files: 64, vacuum_after: TimeDelta::days(7) }
    }
}

/// What maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// The version of the checkpoint that was written.
    pub checkpoint: Option<u64>,
    /// The files that were put together.
    pub compacted: Compacted,
    /// The files that were deleted.
    pub vacuumed: Vacuumed,
}

/// What a vacuum deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// As [`layout::kind_of`] calls it; data files that no version needs any more are a kind of their own.
    pub name: &'static str,
    /// How many there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The kind of the data files that a vacuum will take some day.
const REPLACED: &str = "replaced data file";

/// The kind of the objects that say of a unit that it will not come.
const VOID: &str = "void unit";

/// Deletes the files `NAME#N` below a directory that are older than `cutoff`: a put to local disk writes one and renames it,
/// unless it is killed. No listing of the store shows them. What cannot be looked at or deleted is left to the next vacuum.
fn delete_unfinished(directory: &std::path::Path, cutoff: DateTime<Utc>) -> Vacuumed {
    let mut deleted = Vacuumed::default();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
        if metadata.is_dir() {
            let below = delete_unfinished(&path, cutoff);
            deleted.objects += below.objects;
            deleted.bytes += below.bytes;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_unfinished = name.rsplit_once('#').is_some_and(|(_, number)| number.parse::<u64>().is_ok());
        let is_old = metadata.modified().is_ok_and(|modified| DateTime::<Utc>::from(modified) <= cutoff);
        if is_unfinished && is_old && std::fs::remove_file(&path).is_ok() {
            deleted.objects += 1;
            deleted.bytes += metadata.len();
        }
    }
    deleted
}

impl Log {
    /// Counts every object of the lake. Lists all of them: a thousand a request.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn census(&self) -> Result<Vec<Kind>> {
        let objects = self.store.list(&Path::default()).await?;
        let snapshot = self.snapshot().await?;
        let active: BTreeSet<Path> = snapshot.files.iter().map(|file| layout::in_table(&file.staged.path)).collect();
        let mut kinds: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for object in objects {
            let name = match layout::kind_of(&object.location) {
                "data file" if !active.contains(&object.location) => REPLACED,
                _ if is_void(&object) => VOID,
                name => name,
            };
            let kind = kinds.entry(name).or_default();
            *kind = (kind.0 + 1, kind.1 + object.size);
        }
        Ok(kinds.into_iter().map(|(name, (objects, bytes))| Kind { name, objects, bytes }).collect())
    }

    /// Does what is due. One duty that fails keeps none of the others from being done: a vacuum is what makes room on a full disk.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn maintain(&self, thresholds: &Thresholds, at: DateTime<Utc>) -> Result<Maintained> {
        let compaction =
            Compaction { least_files: thresholds.compact_files, is_patient: true, ..Compaction::default() };
        let compacted = self.compact(&compaction, at).await;
        let checkpoint = self.checkpoint_if_due(thresholds, at).await;
        let vacuumed = self.vacuum_if_due(thresholds, at).await;
        Ok(Maintained { checkpoint: checkpoint?, compacted: compacted?, vacuumed: vacuumed? })
    }

    async fn checkpoint_if_due(&self, thresholds: &Thresholds, at: DateTime<Utc>) -> Result<Option<u64>> {
        let (head, _) = self.head().await?;
        let last = checkpoint::newest(&self.store).await?.unwrap_or(0).min(head);
        match head - last >= thresholds.checkpoint_versions {
            true => self.checkpoint(at).await.map(Some),
            false => Ok(None),
        }
    }

    async fn vacuum_if_due(&self, thresholds: &Thresholds, at: DateTime<Utc>) -> Result<Vacuumed> {
        match self.wants_vacuum(thresholds, at).await? {
            // By the store's clock, where this machine's is fast.
            true => self.vacuum(thresholds.vacuum_after, at.min(self.store_time().await?)).await,
            false => Ok(Vacuumed::default()),
        }
    }

    /// Whether many files were replaced long ago, and the last of them is still there.
    async fn wants_vacuum(&self, thresholds: &Thresholds, at: DateTime<Utc>) -> Result<bool> {
        let old = {
            let mut history = self.history.lock().await;
            history.follow(&self.store).await?;
            history.removed_before(at - thresholds.vacuum_after.clamp(LEAST_RETENTION, MOST_RETENTION))
        };
        match old.last() {
            Some(path) if old.len() >= thresholds.vacuum_files => self.store.exists(&layout::in_table(path)).await,
            _ => Ok(false),
        }
    }

    /// Writes a checkpoint of the newest version, and gives that version.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn checkpoint(&self, at: DateTime<Utc>) -> Result<u64> {
        let table = self.head.lock().await.table.clone();
        let state = {
            let mut history = self.history.lock().await;
            history.follow(&self.store).await?;
            history.checkpoint(at)
        };
        let Some(state) = state else { return Ok(0) };
        let version = state.version;
        checkpoint::write(&self.store, state, &table, at).await?;
        Ok(version)
    }

    /// Deletes data files that no version needs any more and that nobody is about to commit: those that a compaction
    /// replaced, or a killed writer left, longer than `retain` ago, which is taken to be between [`LEAST_RETENTION`] and
    /// [`MOST_RETENTION`]; and what has said for that longest time that a unit is void.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn vacuum(&self, retain: TimeDelta, at: DateTime<Utc>) -> Result<Vacuumed> {
        let cutoff = at - retain.clamp(LEAST_RETENTION, MOST_RETENTION);
        let mut objects = Vec::new();
        for directory in self.store.directories(&layout::table()).await? {
            if directory.filename().is_some_and(layout::has_data_files) {
                objects.extend(self.store.list(&directory).await?);
            }
        }
        // What is named is looked up after what is there: a file that is named since is found here.
        let (void, waiting): (Vec<_>, Vec<_>) = self.store.list(&layout::inbox()).await?.into_iter().partition(is_void);
        let named = self.named_by(waiting).await?;
        let unused = {
            let mut history = self.history.lock().await;
            history.follow(&self.store).await?;
            let root = format!("{}/", layout::table());
            objects.retain(|object| {
                let path = object.location.as_ref().strip_prefix(&root).unwrap_or_default();
                let unused_since = history.removed_at(path).unwrap_or(object.last_modified);
                !history.active().contains_key(path) && !named.contains(path) && unused_since <= cutoff
            });
            objects
        };
        // They are kept as long as anything: a sender that slept may still be about to announce what is void.
        let void = void.into_iter().filter(|object| object.last_modified <= at - MOST_RETENTION);
        let unused: Vec<_> = unused.into_iter().chain(void).collect();
        let mut vacuumed =
            Vacuumed { objects: unused.len() as u64, bytes: unused.iter().map(|object| object.size).sum() };
        let deletions = futures::stream::iter(unused).map(async |object| self.store.delete(&object.location).await);
        deletions.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        if let Some(directory) = self.store.directory() {
            let directory = directory.to_owned();
            let unfinished = tokio::task::spawn_blocking(move || delete_unfinished(&directory, cutoff)).await?;
            vacuumed.objects += unfinished.objects;
            vacuumed.bytes += unfinished.bytes;
        }
        Ok(vacuumed)
    }

    /// The time by the store's clock: that of an object put now.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn store_time(&self) -> Result<DateTime<Utc>> {
        // It stays: of two who ask at once, one would take it away from the other.
        self.store.put(&layout::probe(), Vec::new()).await?;
        self.store.time_of(&layout::probe()).await
    }

    /// The data files of what waits in the inbox. An entry that cannot be read may name anything, so it stops a vacuum.
    async fn named_by(&self, waiting: Vec<ObjectMeta>) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for key in waiting.iter().filter_map(key_of) {
            if let Place::Entry(entry) = self.entry(&key).await? {
                named.extend(entry.files.into_iter().map(|file| file.path));
            }
        }
        Ok(named)
    }
}
