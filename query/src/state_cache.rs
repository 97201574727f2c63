//! The local state cache: what a model has to know of its history, by key, as of an epoch. Rebuildable, never the truth.
//!
//! One fjall keyspace per lake, one ingestion per commit: a commit is there whole or not at all, and no open reads a
//! journal again. Entries, in the order of their bytes, which is the order in which an ingestion must bring them:
//!
//! | key | value |
//! |---|---|
//! | `0u32, 0` | the last number that was given out (`u32`) |
//! | `0u32, 1`, model | the model's number (`u32`), its fingerprint |
//! | `1u32`, number | nothing: what that number holds is to be deleted |
//! | number | the epoch that the model stands at (`u64`) |
//! | number, shelf (`u8`), a key | what is kept for the key on this shelf |
//!
//! All integers are big endian. To empty a model is to forget its number, so that it costs nothing and is one commit;
//! what the number held is deleted afterwards, and by the next opener if that did not come to its end.

mod opening;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::{Database, Keyspace};

use self::opening::{DATABASE, delete_other_formats, is_outer, open_database};
use crate::error::{Error, Result};

const LAST_NUMBER: [u8; 5] = [0, 0, 0, 0, 0];
const MODEL: [u8; 5] = [0, 0, 0, 0, 1];
const FORGOTTEN: [u8; 4] = [0, 0, 0, 1];
const FIRST_NUMBER: u32 = 2;

/// How many deletes go into one ingestion.
const DELETES: usize = 100_000;

/// The cache of one lake, held by this process alone until the last handle is dropped. Clones are handles.
#[derive(Clone)]
pub struct StateCache(Arc<Held>);

struct Held {
    directory: PathBuf,
    keys: Keyspace,
    /// Held while a commit is put together from what is stored.
    writing: Mutex<()>,
    // Dropped in this order: the database is closed when its lock is given up.
    _database: Database,
    _lock: File,
}

impl StateCache {
    /// Opens the cache in `directory`, which is made if absent, or `None` when somebody else has it: then work without.
    ///
    /// A database that cannot be read, or of another format, is deleted and made anew.
    ///
    /// # Errors
    /// [`Error::Cache`] where the directory cannot be read or written.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let failed = |source: &dyn std::fmt::Display| failure(directory, source);
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        // A lock of our own: fjall's goes with its directory, which may have to be deleted while it is held.
        let lock = File::options().create(true).truncate(false).write(true).open(directory.join("lock"));
        let lock = lock.map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        delete_other_formats(directory).map_err(|error| failed(&error))?;
        let path = directory.join(DATABASE);
        let (database, keys) = match open_database(&path) {
            Ok(opened) => opened,
            Err(fjall::Error::Locked) => return Ok(None),
            Err(error) if is_outer(&error) => return Err(failed(&error)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the state cache cannot be read and is made anew");
                fs::remove_dir_all(&path).map_err(|error| failed(&error))?;
                open_database(&path).map_err(|error| failed(&error))?
            }
        };
        let held =
            Held { directory: directory.to_owned(), keys, writing: Mutex::new(()), _database: database, _lock: lock };
        held.delete_forgotten()?;
        Ok(Some(Self(Arc::new(held))))
    }

    /// What is held for `model` under `fingerprint`. Under another fingerprint than the stored one that is nothing; what is
    /// stored stays until the first entry.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn model(&self, model: &str, fingerprint: &str) -> Result<ModelCache> {
        let keys =
            ModelCache { held: Arc::clone(&self.0), model: model.to_owned(), fingerprint: fingerprint.to_owned() };
        keys.number()?;
        Ok(keys)
    }
}

/// One kind of a model's entries: each operator of its query has shelves of its own.
pub type Shelf = u8;

/// The keys that a model which keeps first rows has seen.
pub const SEEN: Shelf = 0;

/// Where the rows are: the hash of each and its address.
pub const ADDRESSES: Shelf = 1;

/// The first shelf of the operators of a query.
pub const OPERATORS: Shelf = 2;

/// Something to be kept for a key, or to be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// Where.
    pub shelf: Shelf,
    /// Any bytes.
    pub key: Vec<u8>,
    /// Any bytes; `None`: nothing is kept any more.
    pub value: Option<Vec<u8>>,
}

/// What one model has to know, bound to its fingerprint.
pub struct ModelCache {
    held: Arc<Held>,
    model: String,
    fingerprint: String,
}

impl ModelCache {
    /// The epoch it stands at; `None`: it is empty and to be rebuilt from the model's runs.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn epoch(&self) -> Result<Option<u64>> {
        let Some(number) = self.number()? else { return Ok(None) };
        self.held.integer(&number.to_be_bytes())?.map(|epoch| Ok(u64::from_be_bytes(epoch))).transpose()
    }

    /// For each key whether something is kept for it. Ascending keys find their neighbours in memory; any order is right.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn has<K: AsRef<[u8]>>(&self, shelf: Shelf, keys: &[K]) -> Result<Vec<bool>> {
        let Some(number) = self.number()? else { return Ok(vec![false; keys.len()]) };
        let has = |key: &K| self.held.keys.contains_key(entry(number, shelf, key.as_ref()));
        keys.iter().map(has).collect::<fjall::Result<_>>().map_err(|error| self.held.failed(&error))
    }

    /// For each key what is kept for it, in any order of keys.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn get<K: AsRef<[u8]>>(&self, shelf: Shelf, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>> {
        let Some(number) = self.number()? else { return Ok(vec![None; keys.len()]) };
        // In the order of the keys, so that neighbours are found in memory.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|a, b| keys[*a].as_ref().cmp(keys[*b].as_ref()));
        let mut values = vec![None; keys.len()];
        for at in order {
            values[at] = self.held.get(&entry(number, shelf, keys[at].as_ref()))?.map(|value| value.to_vec());
        }
        Ok(values)
    }

    /// The first `most` entries whose keys begin with `prefix`, ascending: the rest of each key, and what is kept for it.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn under(&self, shelf: Shelf, prefix: &[u8], most: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some(number) = self.number()? else { return Ok(Vec::new()) };
        let prefix = entry(number, shelf, prefix);
        let found = self.held.keys.prefix(&prefix).take(most).map(|item| {
            let (key, value) = item.into_inner()?;
            Ok((key[prefix.len()..].to_vec(), value.to_vec()))
        });
        found.collect::<fjall::Result<_>>().map_err(|error| self.held.failed(&error))
    }

    /// Keeps entries, in any order, and moves to `epoch` if there is one: one commit, on disk when this returns. Of two
    /// entries for one key the last one counts. Until there is an epoch, what is held is not whole.
    ///
    /// # Errors
    /// [`Error::Cache`]; nothing was kept.
    pub fn put(&self, kept: Vec<CacheEntry>, epoch: Option<u64>) -> Result<()> {
        Self::put_together(vec![(self, kept, epoch)])
    }

    /// The same for several models of one cache, in one commit.
    ///
    /// # Errors
    /// [`Error::Cache`]; nothing was kept.
    pub fn put_together(puts: Vec<(&Self, Vec<CacheEntry>, Option<u64>)>) -> Result<()> {
        let Some(held) = puts.first().map(|(model, ..)| Arc::clone(&model.held)) else { return Ok(()) };
        let mut forgets = false;
        {
            let _writing = held.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut entries, mut given_out): (Vec<Entry>, Option<u32>) = (Vec::new(), None);
            for (model, kept, epoch) in puts {
                let stored = model.stored()?;
                let known = stored.as_ref().filter(|stored| stored.fingerprint == model.fingerprint.as_bytes());
                let number = match known {
                    Some(known) => known.number,
                    None => {
                        let number = given_out.map_or_else(|| held.next_number(), |last| Ok(last + 1))?;
                        given_out = Some(number);
                        let value = [&number.to_be_bytes(), model.fingerprint.as_bytes()].concat();
                        entries.push((model.model_key(), Some(value)));
                        forgets |= stored.is_some();
                        entries.extend(stored.map(|old| (forgotten_key(old.number), Some(Vec::new()))));
                        number
                    }
                };
                entries.extend(epoch.map(|epoch| (number.to_be_bytes().to_vec(), Some(epoch.to_be_bytes().to_vec()))));
                entries.extend(kept.into_iter().map(|kept| (entry(number, kept.shelf, &kept.key), kept.value)));
            }
            entries.extend(given_out.map(|last| (LAST_NUMBER.to_vec(), Some(last.to_be_bytes().to_vec()))));
            held.commit(&in_order(entries))?;
        }
        if forgets { held.delete_forgotten() } else { Ok(()) }
    }

    /// Takes away all that is on a shelf.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn empty(&self, shelf: Shelf) -> Result<()> {
        let _writing = self.held.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = self.number()? else { return Ok(()) };
        self.held.delete_range(entry(number, shelf, &[]), entry(number, shelf + 1, &[]))
    }

    /// Empties it: no key, no epoch. What the model held under another fingerprint goes too.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub fn clear(&self) -> Result<()> {
        {
            let _writing = self.held.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(stored) = self.stored()? else { return Ok(()) };
            let entries = [(self.model_key(), None), (forgotten_key(stored.number), Some(Vec::new()))];
            self.held.commit(&entries)?;
        }
        self.held.delete_forgotten()
    }

    fn model_key(&self) -> Vec<u8> {
        [&MODEL, self.model.as_bytes()].concat()
    }

    fn stored(&self) -> Result<Option<Stored>> {
        let Some(value) = self.held.get(&self.model_key())? else { return Ok(None) };
        let (number, fingerprint) =
            value.split_first_chunk().ok_or_else(|| self.held.failed(&"an entry of a model is too short"))?;
        Ok(Some(Stored { number: u32::from_be_bytes(*number), fingerprint: fingerprint.to_vec() }))
    }

    fn number(&self) -> Result<Option<u32>> {
        let stored = self.stored()?;
        Ok(stored.filter(|stored| stored.fingerprint == self.fingerprint.as_bytes()).map(|stored| stored.number))
    }
}

struct Stored {
    number: u32,
    fingerprint: Vec<u8>,
}

/// A key, and its value or its tombstone.
type Entry = (Vec<u8>, Option<Vec<u8>>);

impl Held {
    fn failed(&self, source: &dyn std::fmt::Display) -> Error {
        failure(&self.directory, source)
    }

    fn get(&self, key: &[u8]) -> Result<Option<fjall::UserValue>> {
        self.keys.get(key).map_err(|error| self.failed(&error))
    }

    fn integer<const BYTES: usize>(&self, key: &[u8]) -> Result<Option<[u8; BYTES]>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let bytes = value.as_ref().try_into().map_err(|_| self.failed(&"an integer has a length of its own"))?;
        Ok(Some(bytes))
    }

    fn next_number(&self) -> Result<u32> {
        let Some(last) = self.integer(&LAST_NUMBER)? else { return Ok(FIRST_NUMBER) };
        u32::from_be_bytes(last).checked_add(1).ok_or_else(|| self.failed(&"all its numbers are given out"))
    }

    /// Writes entries, which are ascending: fjall panics where they are not.
    fn commit(&self, entries: &[Entry]) -> Result<()> {
        debug_assert!(entries.is_sorted_by(|(left, _), (right, _)| left < right), "{entries:?}");
        let write = || {
            let mut ingestion = self.keys.start_ingestion()?;
            for (key, value) in entries {
                match value {
                    Some(value) => ingestion.write(key.as_slice(), value.as_slice())?,
                    None => ingestion.write_tombstone(key.as_slice())?,
                }
            }
            ingestion.finish()
        };
        write().map_err(|error: fjall::Error| self.failed(&error))
    }

    /// Deletes what the forgotten numbers hold. Where it stops halfway, the next call goes on.
    fn delete_forgotten(&self) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.range(FORGOTTEN.to_vec(), FIRST_NUMBER.to_be_bytes().to_vec(), usize::MAX)?;
        for waits in waiting {
            let Some(number) = waits.last_chunk().map(|number| u32::from_be_bytes(*number)) else { continue };
            let end = number.checked_add(1).map_or(vec![0xFF; 24], |next| next.to_be_bytes().to_vec());
            self.delete_range(number.to_be_bytes().to_vec(), end)?;
            self.commit(&[(waits, None)])?;
        }
        Ok(())
    }

    fn delete_range(&self, mut from: Vec<u8>, end: Vec<u8>) -> Result<()> {
        loop {
            let batch = self.range(from, end.clone(), DELETES)?;
            let Some(last) = batch.last() else { return Ok(()) };
            // The least key after the last one, so that the next range does not walk over the tombstones.
            from = [last.as_slice(), &[0]].concat();
            let deletes: Vec<Entry> = batch.into_iter().map(|key| (key, None)).collect();
            self.commit(&deletes)?;
        }
    }

    fn range(&self, from: Vec<u8>, to: Vec<u8>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let keys = self.keys.range(from..to).take(limit).map(|item| item.key().map(|key| key.to_vec()));
        keys.collect::<fjall::Result<_>>().map_err(|error| self.failed(&error))
    }
}

/// Entries ascending by key; of two for one key the last one counts.
fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.reverse();
    // The beginning of a key decides nearly always, and beside the entry it is read without a detour.
    let begin = |key: &[u8]| {
        let mut begin = [0; 16];
        let known = key.len().min(16);
        begin[..known].copy_from_slice(&key[..known]);
        u128::from_be_bytes(begin)
    };
    let mut begun: Vec<(u128, Entry)> = entries.into_iter().map(|entry| (begin(&entry.0), entry)).collect();
    begun.sort_by(|(a_begin, (a, _)), (b_begin, (b, _))| a_begin.cmp(b_begin).then_with(|| a.cmp(b)));
    begun.dedup_by(|(_, a), (_, b)| a.0 == b.0);
    begun.into_iter().map(|(_, entry)| entry).collect()
}

fn entry(number: u32, shelf: Shelf, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(5 + key.len());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.push(shelf);
    bytes.extend_from_slice(key);
    bytes
}

fn forgotten_key(number: u32) -> Vec<u8> {
    [FORGOTTEN, number.to_be_bytes()].concat()
}

fn failure(directory: &Path, source: &dyn std::fmt::Display) -> Error {
    Error::Cache { path: directory.to_owned(), reason: source.to_string() }
}

#[cfg(test)]
mod tests;
