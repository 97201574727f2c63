//! The log as a reader sees it: versions as offset bounds, and the files that hold the offsets below them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::claims::Claims;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::files::DataFile;
use crate::head;
use crate::layout;
use crate::schema;
use crate::store::Store;

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
        self.files.iter().filter(move |file| file.offsets().1 >= from)
    }
}

/// All versions and the active files, folded from the entries; followed, never read twice.
#[derive(Debug, Default)]
pub struct History {
    bounds: Vec<Bound>,
    claims: Arc<Claims>,
    /// By path, so that a removal finds its file.
    active: BTreeMap<String, Arc<DataFile>>,
}

/// How many entries are asked for at once; the first that is not there ends it.
const STRETCH: u64 = 64;

impl History {
    /// Reads what is new.
    ///
    /// # Errors
    /// Any failure of the store, and an entry that lakebed did not write.
    pub async fn follow(&mut self, store: &Store) -> Result<()> {
        // One probe is enough for the ordinary case, that little or nothing is new.
        while let Some(entry) = head::read_if_there(store, self.bounds.len() as u64).await? {
            self.apply(entry);
            let next = self.bounds.len() as u64;
            if store.exists(&layout::commit(next + STRETCH)).await? {
                for (_, entry) in head::entries(store, next..next + STRETCH).await? {
                    self.apply(entry);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: Entry) {
        self.bounds.push(Bound { time: entry.time, next_offset: entry.record.next_offset });
        for path in entry.removed {
            self.active.remove(&path);
        }
        for file in entry.added {
            self.active.insert(file.staged.path.clone(), Arc::new(file));
        }
        if let Some(claims) = entry.claims {
            self.claims = Arc::new(claims);
        }
    }

    /// The newest version.
    ///
    /// # Errors
    /// [`Error::NoLog`] where nothing was read.
    pub fn newest(&self, store: &Store) -> Result<Snapshot> {
        let version =
            self.bounds.len().checked_sub(1).ok_or_else(|| Error::NoLog { place: store.place().to_owned() })?;
        self.at(version as u64, store)
    }

    /// A version that was read.
    ///
    /// # Errors
    /// [`Error::NoVersion`], [`Error::NoLog`].
    pub fn at(&self, version: u64, store: &Store) -> Result<Snapshot> {
        let head = (self.bounds.len() as u64)
            .checked_sub(1)
            .ok_or_else(|| Error::NoLog { place: store.place().to_owned() })?;
        let at = usize::try_from(version).ok().and_then(|at| self.bounds.get(at));
        let bound = *at.ok_or(Error::NoVersion { asked: version, head })?;
        let below = self.active.values().filter(|file| file.offsets().0 < bound.next_offset).cloned();
        let mut files: Vec<_> = below.collect();
        files.sort_by_key(|file| (file.offsets(), file.staged.event_date));
        Ok(Snapshot {
            version,
            time: bound.time,
            next_offset: bound.next_offset,
            claims: Arc::clone(&self.claims),
            files,
        })
    }

    /// The newest version at or before a time; times of versions only grow.
    ///
    /// # Errors
    /// [`Error::BeforeTheLog`], [`Error::NoLog`].
    pub fn version_at(&self, time: DateTime<Utc>, store: &Store) -> Result<u64> {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let first = self.bounds.first().ok_or_else(|| Error::NoLog { place: store.place().to_owned() })?;
        let after = self.bounds.partition_point(|bound| bound.time <= time) as u64;
        after.checked_sub(1).ok_or_else(|| Error::BeforeTheLog { asked: text(time), begin: text(first.time) })
    }

    /// Every version's bound, by version.
    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }
}
