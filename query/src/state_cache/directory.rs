//! The directory of a state cache: who has it, which files it is of, and the list of their layers.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::Kept;
use super::entries::Shelf;
use super::layer::{Layer, LayerFile, Place, Writer};

/// The directory of the files in the cache's. Another layout of them, of the entries or of the keys' hash gets another number.
pub(super) const FORMAT: &str = "format-6";
const ANY_FORMAT: &str = "format-";
const LIST: &str = "layers.json";
const NEW_LIST: &str = "layers.json.new";

/// Takes the cache for this process, or gives `None` where another has it.
///
/// # Errors
/// What the file system says.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(directory)?;
    let lock = File::options().create(true).truncate(false).write(true).open(directory.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The files of a cache that this process holds.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The number of the next file.
    next: AtomicU64,
}

/// What is listed of a model.
#[derive(Serialize, Deserialize)]
struct Listed {
    fingerprint: String,
    stand: Option<u64>,
    shelves: BTreeMap<Shelf, Vec<Place>>,
}

impl Directory {
    /// Opens it, with what is listed; what is not, or is of another format, is deleted.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(cache: &Path) -> io::Result<(Self, BTreeMap<String, Kept>)> {
        let path = cache.join(FORMAT);
        for entry in fs::read_dir(cache)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(ANY_FORMAT) && name != FORMAT) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        fs::create_dir_all(&path)?;
        let listed = read_list(&path)?;
        let mut files: HashMap<u64, (u64, Arc<LayerFile>)> = HashMap::new();
        let mut next = 0;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let Some(number) = number_of(&entry.path()) else { continue };
            next = next.max(number + 1);
            // Deleted with its last handle, unless a layer says that it is listed.
            files.insert(number, (entry.metadata()?.len(), Arc::new(LayerFile::new(entry.path(), false))));
        }
        let mut models = BTreeMap::new();
        for (name, listed) in listed {
            if let Some(kept) = listed.open(&files) {
                models.insert(name, kept);
            }
        }
        super::layers(&models).for_each(|layer| layer.file().set_listed(true));
        Ok((Self { path, next: AtomicU64::new(next) }, models))
    }

    /// People are told that they may delete it at any time.
    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)
    }

    /// A new file for layers.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn create(&self) -> io::Result<Writer> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.make()?;
        Writer::create(&self.path.join(format!("{number}.layers")), number)
    }

    /// Lists what is kept: from then on that is what the cache holds.
    ///
    /// # Errors
    /// What the file system says; what was listed before still is.
    pub(super) fn list(&self, models: &BTreeMap<String, Kept>) -> io::Result<()> {
        let list: BTreeMap<&String, Listed> = models.iter().map(|(name, kept)| (name, Listed::of(kept))).collect();
        let new = self.path.join(NEW_LIST);
        self.make()?;
        fs::write(&new, serde_json::to_vec_pretty(&list)?)?;
        fs::rename(new, self.path.join(LIST))
    }
}

/// One that cannot be read lists nothing.
fn read_list(path: &Path) -> io::Result<BTreeMap<String, Listed>> {
    let list = path.join(LIST);
    match fs::read(&list) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %list.display(), %error, "the state cache cannot be read and is made anew");
            BTreeMap::new()
        })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".layers")?.parse().ok()
}

impl Listed {
    fn of(kept: &Kept) -> Self {
        let places = |layers: &Vec<Arc<Layer>>| layers.iter().map(|layer| layer.place).collect();
        let shelves = kept.shelves.iter().map(|(shelf, layers)| (*shelf, places(layers))).collect();
        Self { fingerprint: kept.fingerprint.clone(), stand: kept.stand, shelves }
    }

    /// `None` where a file is not there, or shorter than it was.
    fn open(self, files: &HashMap<u64, (u64, Arc<LayerFile>)>) -> Option<Kept> {
        let mut shelves = BTreeMap::new();
        for (shelf, places) in self.shelves {
            let layer = |place: Place| {
                let (_, file) = files.get(&place.file).filter(|(length, _)| place.end <= *length)?;
                Some(Arc::new(Layer::new(place, Arc::clone(file))))
            };
            shelves.insert(shelf, places.into_iter().map(layer).collect::<Option<_>>()?);
        }
        Some(Kept { fingerprint: self.fingerprint, stand: self.stand, shelves })
    }
}
