//! The local state cache: what a model has to know of its history, by key, as of a writing of its rows. Rebuildable, never the truth.
//!
//! Each shelf of a model is a stack of [layers](layer), sorted files of entries, the newest on top. A commit writes one file,
//! with one layer for each shelf that it changes, and then `layers.json`, which lists every layer and where each model
//! stands, under another name that is then given the right one: it is there whole or not at all. The new layer takes up those
//! below it that are not much larger, so that a shelf has few layers and an entry is seldom written again.
//!
//! Nothing is synced. Each block has a checksum: what a power cut or a disk makes of a file is noticed, and the cache is made
//! anew, which is always allowed.

mod directory;
mod entries;
mod layer;
mod merging;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::directory::Directory;
use self::entries::Sorted;
pub(crate) use self::entries::{Entries, Shelf};
use self::layer::{Cursor, Layer, Writer};
use self::merging::{Ascending, Entry, merge};
use crate::error::{Error, Result};

/// A layer takes up the one below it unless that is more than so many times as large.
const APART: u64 = 4;

/// The keys that a model which keeps first rows has seen.
pub(crate) const SEEN: Shelf = 0;

/// Where the rows are: the hash of each and its address.
pub(crate) const ADDRESSES: Shelf = 1;

/// The first shelf of the operators of a query.
pub(crate) const OPERATORS: Shelf = 2;

/// The cache of one lake, held by this process alone until the last handle is dropped. Clones are handles.
#[derive(Clone, Debug)]
pub(crate) struct StateCache(Arc<Held>);

#[derive(Debug)]
struct Held {
    directory: Directory,
    models: Mutex<BTreeMap<String, Kept>>,
    /// Held while a commit is put together from what is stored.
    writing: Mutex<()>,
    _lock: File,
}

/// What is kept of a model.
#[derive(Clone, Debug, Default)]
struct Kept {
    fingerprint: String,
    /// [`ModelCache::stand`].
    stand: Option<u64>,
    /// The layers of each shelf, the newest first.
    shelves: BTreeMap<Shelf, Vec<Arc<Layer>>>,
}

impl StateCache {
    /// Opens the cache in `directory`, which is made if absent, or `None` when somebody else has it: then work without.
    ///
    /// One that cannot be read, or of another format, is deleted and made anew.
    ///
    /// # Errors
    /// [`Error::Cache`] where the directory cannot be read or written.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>> {
        let failed = |error: io::Error| Error::Cache { path: directory.to_owned(), reason: error.to_string() };
        let Some(lock) = directory::lock(directory).map_err(failed)? else { return Ok(None) };
        let (directory, models) = Directory::open(directory).map_err(failed)?;
        Ok(Some(Self(Arc::new(Held { directory, models: Mutex::new(models), writing: Mutex::new(()), _lock: lock }))))
    }

    /// What is held for `model` under `fingerprint`. Under another fingerprint than the stored one that is nothing; what is
    /// stored stays until the first entry.
    pub(crate) fn model(&self, model: &str, fingerprint: &str) -> ModelCache {
        ModelCache { held: Arc::clone(&self.0), model: model.to_owned(), fingerprint: fingerprint.to_owned() }
    }
}

/// What one model has to know, bound to its fingerprint.
#[derive(Clone, Debug)]
pub(crate) struct ModelCache {
    held: Arc<Held>,
    model: String,
    fingerprint: String,
}

impl ModelCache {
    /// Of which writing of the model's rows it knows the history ([`crate::epoch::ModelState::stand`]); `None`: it is empty and to be
    /// rebuilt from the model's runs.
    pub(crate) fn stand(&self) -> Option<u64> {
        self.stored(|kept| kept.stand)
    }

    /// Opens a shelf as it is now.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub(crate) fn read(&self, shelf: Shelf) -> Result<Reader> {
        let layers = self.stored(|kept| kept.shelves.get(&shelf).cloned()).unwrap_or_default();
        let layers = layers.iter().map(Cursor::open).collect::<io::Result<_>>();
        let path = self.held.directory.path.clone();
        Ok(Reader { layers: layers.map_err(|error| failed(&path, &error))?, path })
    }

    /// Keeps what is said and moves to `stand` if there is one: one commit. Until there is one, what is held is not whole.
    ///
    /// # Errors
    /// As [`Self::put_together`].
    pub(crate) fn put(&self, entries: Entries, stand: Option<u64>) -> Result<()> {
        Self::put_together(vec![(self, entries, stand)])
    }

    /// The same for several models of one cache, in one commit.
    ///
    /// # Errors
    /// [`Error::Cache`], or [`Error::CacheBroken`] where what is stored is damaged; nothing was kept.
    pub(crate) fn put_together(puts: Vec<(&Self, Entries, Option<u64>)>) -> Result<()> {
        let Some(held) = puts.first().map(|(model, ..)| Arc::clone(&model.held)) else { return Ok(()) };
        let puts: Vec<_> = puts.into_iter().map(|(model, entries, stand)| (model, entries.sorted(), stand)).collect();
        held.change(|models| {
            let mut writer = None;
            for (model, shelves, stand) in puts {
                let kept = models.entry(model.model.clone()).or_default();
                if kept.fingerprint != model.fingerprint {
                    *kept = Kept { fingerprint: model.fingerprint.clone(), ..Kept::default() };
                }
                kept.stand = stand.or(kept.stand);
                for (shelf, entries) in shelves {
                    let writer = match &mut writer {
                        Some(writer) => writer,
                        None => writer.insert(held.directory.create()?),
                    };
                    put_on(kept.shelves.entry(shelf).or_default(), entries, writer)?;
                }
            }
            writer.map_or(Ok(()), Writer::finish)
        })
    }

    /// Takes away all that is on a shelf.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(crate) fn empty(&self, shelf: Shelf) -> Result<()> {
        self.held.change(|models| {
            let kept = models.get_mut(&self.model).filter(|kept| kept.fingerprint == self.fingerprint);
            kept.map(|kept| kept.shelves.remove(&shelf));
            Ok(())
        })
    }

    /// Empties it: no key, no stand. What the model held under another fingerprint goes too.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(crate) fn clear(&self) -> Result<()> {
        self.held.change(|models| {
            models.remove(&self.model);
            Ok(())
        })
    }

    /// Empties it, but leaves alone what the model held under another fingerprint.
    ///
    /// # Errors
    /// [`Error::Cache`].
    pub(crate) fn restart(&self) -> Result<()> {
        match self.stored(|_| Some(())) {
            Some(()) => self.clear(),
            None => Ok(()),
        }
    }

    fn stored<T>(&self, read: impl FnOnce(&Kept) -> Option<T>) -> Option<T> {
        let models = self.held.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(&self.model).filter(|kept| kept.fingerprint == self.fingerprint).and_then(read)
    }
}

/// Puts a layer on a stack, which takes up those below it that are not much larger.
fn put_on(layers: &mut Vec<Arc<Layer>>, entries: Sorted, writer: &mut Writer) -> io::Result<()> {
    let (mut size, mut taken) = (entries.size(), 0);
    while let Some(below) = layers.get(taken).filter(|below| below.bytes() <= size * APART) {
        size += below.bytes();
        taken += 1;
    }
    let mut sources: Vec<Box<dyn Ascending>> = vec![Box::new(entries)];
    for layer in &layers[..taken] {
        let mut cursor = Cursor::open(layer)?;
        cursor.seek(0, &[])?;
        sources.push(Box::new(cursor));
    }
    let layer = writer.layer(&mut sources, taken == layers.len())?;
    layers.splice(..taken, layer.map(Arc::new));
    Ok(())
}

impl Held {
    /// Changes what is kept, for this process and for those after it.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Kept>) -> io::Result<()>) -> Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.models.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut after = before.clone();
        let changed = change(&mut after).and_then(|()| self.directory.list(&after));
        changed.map_err(|error| failed(&self.directory.path, &error))?;
        let files: HashSet<u64> = layers(&after).map(|layer| layer.place.file).collect();
        layers(&before).for_each(|layer| layer.file().set_listed(files.contains(&layer.place.file)));
        layers(&after).for_each(|layer| layer.file().set_listed(true));
        *self.models.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }
}

fn layers(models: &BTreeMap<String, Kept>) -> impl Iterator<Item = &Layer> {
    models.values().flat_map(|kept| kept.shelves.values()).flatten().map(Arc::as_ref)
}

/// A shelf that is read. Ascending keys find their neighbours in memory; any order is right.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The newest first.
    layers: Vec<Cursor>,
    path: PathBuf,
}

impl Reader {
    /// For each key, without a rest, whether something is kept for it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn has(&mut self, keys: &[u128]) -> Result<Vec<bool>> {
        let mut has = vec![false; keys.len()];
        self.each(keys, |at, value| has[at] = value.is_some())?;
        Ok(has)
    }

    /// For each key, without a rest, what is kept for it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn values(&mut self, keys: &[u128]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut values = vec![None; keys.len()];
        self.each(keys, |at, value| values[at] = value.map(<[u8]>::to_vec))?;
        Ok(values)
    }

    fn each(&mut self, keys: &[u128], mut take: impl FnMut(usize, Option<&[u8]>)) -> Result<()> {
        // In the order of the keys each block is read once.
        let mut order: Vec<(u128, usize)> = keys.iter().copied().zip(0..).collect();
        order.sort_unstable();
        for (key, at) in order {
            take(at, self.get(key, &[])?);
        }
        Ok(())
    }

    /// What is kept for a key.
    ///
    /// # Errors
    /// [`Error::CacheBroken`] where what is stored is damaged; [`Error::Cache`] where it cannot be read.
    pub(crate) fn get(&mut self, key: u128, rest: &[u8]) -> Result<Option<&[u8]>> {
        for at in 0..self.layers.len() {
            if self.layers[at].finds(key, rest).map_err(|error| failed(&self.path, &error))? {
                return Ok(self.layers[at].value());
            }
        }
        Ok(None)
    }

    /// Gives the first `most` entries of a key, ascending by the rest of it, to `each`: that, and what is kept.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn under(&mut self, key: u128, most: usize, mut each: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let mut found = 0;
        let mut take = |entry: Entry<'_>| {
            if let Some(value) = entry.value.filter(|_| entry.key == key) {
                each(entry.rest, value);
                found += 1;
            }
            Ok(entry.key == key && found < most)
        };
        let read = self.layers.iter_mut().try_for_each(|layer| layer.seek(key, &[]));
        read.and_then(|()| merge(&mut self.layers, &mut take)).map_err(|error| failed(&self.path, &error))
    }
}

/// Damage is no reason to give up: what was written can be made again.
fn failed(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::NotFound => Error::CacheBroken,
        _ => Error::Cache { path: path.to_owned(), reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
