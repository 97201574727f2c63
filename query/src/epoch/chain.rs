//! The line of epochs: how the newest is found, an old one, and all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use futures::stream::BoxStream;
use lakebed_log::search::Search;
use lakebed_log::{Store, layout};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::{Manifest, read};
use crate::error::{Error, Result};

/// So many manifests are asked for at once.
const READ_AT_ONCE: usize = 16;

/// So many epochs are listed at most to find the newest: a page of an object store's listing.
const LISTED: usize = 1_000;

/// So many epochs later it is looked again whether there are old ones.
const LOOK_EVERY: u64 = 64;

/// How often it looks for the newest epoch again because what was listed is gone.
const TRIES: usize = 5;

/// A line of epochs: the lake's own, or that of a replay beside it. They are counted from 1. Of the lake's own the old ones are
/// [thinned](super::thin): those that are left as landmarks have names apart, and those before the oldest of the others are deleted
/// in their order. So these have no gap, and the newest is found by its number, however many there are.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    replay: Option<String>,
    /// The newest number that was seen; 0 before the first look.
    seen: Arc<AtomicU64>,
    /// What it was when somebody last looked for old epochs.
    looked: Arc<AtomicU64>,
}

impl Chain {
    /// The line of a replay.
    pub fn of_replay(name: impl Into<String>) -> Self {
        Self { replay: Some(name.into()), ..Self::default() }
    }

    /// The replay's name, if it is one's.
    pub fn replay(&self) -> Option<&str> {
        self.replay.as_deref()
    }

    /// Whether so many epochs have come that it is time to look for old ones; and then not before as many more have.
    pub(crate) fn wants_look(&self) -> bool {
        let (seen, looked) = (self.seen.load(Ordering::Relaxed), self.looked.load(Ordering::Relaxed));
        let is_time = self.replay.is_none() && seen >= looked + LOOK_EVERY;
        if is_time {
            self.looked.store(seen, Ordering::Relaxed);
        }
        is_time
    }

    fn path(&self, number: u64) -> Path {
        layout::epoch(self.replay(), number)
    }

    /// The newest epoch, or `None` before the first refresh.
    ///
    /// # Errors
    /// Any failure of the store; [`Error::Log`] for a manifest that is no JSON of ours.
    pub async fn newest(&self, store: &Store) -> Result<Option<Manifest>> {
        for _ in 0..TRIES {
            let Some((known, last)) = self.look(store).await? else { return Ok(None) };
            // One that is read is there.
            if (known == last || store.exists(&self.path(known)).await?)
                && let Some(newest) = read(store, &self.path(last)).await?
            {
                self.seen.fetch_max(last, Ordering::Relaxed);
                return Ok(Some(newest));
            }
            self.seen.store(0, Ordering::Relaxed);
        }
        Err(self.unsettled())
    }

    /// The number of the newest epoch, or `None` before the first refresh.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn newest_number(&self, store: &Store) -> Result<Option<u64>> {
        for _ in 0..TRIES {
            let Some((known, last)) = self.look(store).await? else { return Ok(None) };
            if store.exists(&self.path(known)).await? {
                self.seen.fetch_max(last, Ordering::Relaxed);
                return Ok(Some(last));
            }
            self.seen.store(0, Ordering::Relaxed);
        }
        Err(self.unsettled())
    }

    /// A number that was seen, or else is listed, and the last one that follows it without a gap. That holds only where the first is
    /// there still: otherwise epochs were thinned while nobody looked from here, or another lake has been put into this one's place.
    async fn look(&self, store: &Store) -> Result<Option<(u64, u64)>> {
        let known = match self.seen.load(Ordering::Relaxed) {
            0 => {
                let listed = store.list_some(&layout::epochs(self.replay()), LISTED).await?;
                listed.iter().filter_map(number_of).max().unwrap_or(0)
            }
            seen => seen,
        };
        if known == 0 {
            return Ok(None);
        }
        let mut search = Search::from(known);
        while let Some(number) = search.next() {
            search.learn(store.exists(&self.path(number)).await?);
        }
        Ok(Some((known, search.last())))
    }

    fn unsettled(&self) -> Error {
        let path = layout::epochs(self.replay()).to_string();
        Error::Manifest { path, reason: "what is listed there is gone when it is looked for".to_owned() }
    }

    /// The epoch of a number, or the newest before it that is there.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub(crate) async fn up_to(&self, store: &Store, number: u64) -> Result<Option<Manifest>> {
        if let Some(epoch) = read(store, &self.path(number)).await? {
            return Ok(Some(epoch));
        }
        match self.landmarks(store).await?.range(..=number).next_back() {
            Some((_, object)) => read(store, &object.location).await,
            None => Ok(None),
        }
    }

    /// The newest epoch among those that are there that holds no event at an offset or beyond it.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn before(&self, store: &Store, next_offset: u64) -> Result<Option<Manifest>> {
        // An epoch never has fewer events than the one before it.
        let is_before = |manifest: &Manifest| manifest.next_offset <= next_offset;
        let newest = self.newest_number(store).await?.unwrap_or(0);
        let (mut search, mut found) = (Search::between(0, newest + 1), None);
        while let Some(number) = search.next() {
            let manifest = read(store, &self.path(number)).await?;
            // Those that are not there any more are older than all that are.
            search.learn(manifest.as_ref().is_none_or(is_before));
            found = manifest.filter(is_before).or(found);
        }
        if found.is_some() || newest == 0 {
            return Ok(found);
        }
        let landmarks: Vec<_> = self.landmarks(store).await?.into_values().collect();
        let mut search = Search::between(0, landmarks.len() as u64 + 1);
        while let Some(place) = search.next() {
            let manifest = read(store, &landmarks[place as usize - 1].location).await?;
            search.learn(manifest.as_ref().is_none_or(is_before));
            found = manifest.filter(is_before).or(found);
        }
        Ok(found)
    }

    /// All epochs after one that are there, oldest first; after 0, all of them.
    ///
    /// # Errors
    /// As [`Self::newest`].
    pub async fn after(&self, store: &Store, epoch: u64) -> Result<BoxStream<'static, Result<Manifest>>> {
        let newest = self.newest_number(store).await?.unwrap_or(0);
        let mut places: BTreeMap<u64, Path> = BTreeMap::new();
        if epoch < newest {
            // The landmarks first: what becomes one meanwhile is listed at least once.
            let objects = self.landmarks(store).await?.into_iter();
            places.extend(objects.map(|(number, object)| (number, object.location)));
            let objects = store.list(&layout::epochs(self.replay())).await?.into_iter();
            places.extend(objects.filter_map(|object| Some((number_of(&object)?, object.location))));
        }
        let (chain, store) = (self.clone(), store.clone());
        let reads = places.into_iter().filter(move |(number, _)| *number > epoch).map(move |(number, path)| {
            let (chain, store) = (chain.clone(), store.clone());
            async move {
                match read(&store, &path).await? {
                    // It may have become a landmark since it was listed.
                    None => Ok(chain.up_to(&store, number).await?.filter(|epoch| epoch.epoch == number)),
                    there => Ok(there),
                }
            }
        });
        let read = futures::stream::iter(reads).buffered(READ_AT_ONCE);
        Ok(read.filter_map(async |manifest| manifest.transpose()).boxed())
    }

    /// As if it had looked when that was the newest.
    #[cfg(test)]
    pub(super) fn seen_at(&self, number: u64) {
        self.seen.store(number, Ordering::Relaxed);
    }

    /// The landmarks, by number.
    async fn landmarks(&self, store: &Store) -> Result<BTreeMap<u64, ObjectMeta>> {
        match self.replay {
            Some(_) => Ok(BTreeMap::new()),
            None => landmarks(store).await,
        }
    }

    /// Puts an epoch; `false` where another refresh was first.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn put(&self, store: &Store, manifest: &Manifest) -> Result<bool> {
        let (number, path) = (manifest.epoch, self.path(manifest.epoch));
        if store.put_or_read(&path, manifest.clone()).await? != *manifest {
            return Ok(false);
        }
        // Who slept between the look for the newest epoch and this may have put into the place of one that was deleted since.
        // Then the one before it, which goes first, is not there either.
        let is_in_line = match number {
            0 | 1 => !store
                .list_some(&layout::epochs(self.replay()), LISTED)
                .await?
                .iter()
                .any(|object| number_of(object).is_some_and(|other| other > number + 1)),
            _ => store.exists(&self.path(number - 1)).await?,
        };
        match is_in_line {
            true => drop(self.seen.fetch_max(number, Ordering::Relaxed)),
            false => store.delete(&path).await?,
        }
        Ok(is_in_line)
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

/// The lake's landmarks, by number.
///
/// # Errors
/// Any failure of the store.
pub(super) async fn landmarks(store: &Store) -> Result<BTreeMap<u64, ObjectMeta>> {
    let objects = store.list(&layout::landmarks()).await?.into_iter();
    Ok(objects.filter_map(|object| Some((number_of(&object)?, object))).collect())
}

/// The number of an epoch's object, or a landmark's.
pub(super) fn number_of(object: &ObjectMeta) -> Option<u64> {
    layout::epoch_of(&object.location).map(|(number, _)| number)
}
