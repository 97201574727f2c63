//! The published file, its kept versions, and the file in work: which name is which, and the renames between them.
//!
//! ```text
//! DIR/lakebed.duckdb               what people open: the newest version, under its public name
//! DIR/versions/lakebed-42.duckdb   a kept version; the newest one and the public name are one file (a hard link)
//! DIR/versions/.lakebed.work       the file being brought up to date; no reader knows its name
//! DIR/versions/.lakebed.copy       a copy on its way to become `.work`
//! DIR/.lakebed.next                the second name of a new version, on its way to become the public one
//! DIR/.lakebed.lock                held by the one who publishes
//! ```
//!
//! A file under a public name is whole and is never written again; it changes only once it was taken out of those names
//! and nobody holds it. DuckDB marks a file that it reads with a lock of its process, which its own process does not
//! see; the readers of this room mark theirs with a second lock, of the file handle (`flock`), which everyone sees.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The names around one published database.
#[derive(Clone, Debug)]
pub(super) struct Files {
    directory: PathBuf,
    name: String,
    keep: usize,
}

/// A kept version that was taken out to be brought up to date. Holds the lock that says so to the readers of this room:
/// it must live until DuckDB has closed the file, since closing any handle of a file ends all of a process's locks on it.
#[derive(Debug)]
pub(super) struct Taken {
    version: u64,
    _held: File,
}

impl Files {
    pub(super) fn new(directory: PathBuf, name: &str, keep: usize) -> Self {
        Self { directory, name: name.to_owned(), keep: keep.max(1) }
    }

    /// The same directory under another name.
    pub(super) fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self.clone() }
    }

    /// The name that people open.
    pub(super) fn public(&self) -> PathBuf {
        self.directory.join(format!("{}.duckdb", self.name))
    }

    /// The file being brought up to date.
    pub(super) fn work(&self) -> PathBuf {
        self.versions().join(format!(".{}.work", self.name))
    }

    /// Where DuckDB puts what does not fit into memory.
    pub(super) fn spill(&self) -> PathBuf {
        self.versions().join(format!(".{}.spill", self.name))
    }

    fn versions(&self) -> PathBuf {
        self.directory.join("versions")
    }

    fn version(&self, version: u64) -> PathBuf {
        self.versions().join(format!("{}-{version}.duckdb", self.name))
    }

    fn copy(&self) -> PathBuf {
        self.versions().join(format!(".{}.copy", self.name))
    }

    fn next(&self) -> PathBuf {
        self.directory.join(format!(".{}.next", self.name))
    }

    /// Waits until nobody else publishes here. The lock ends with the handle, so a kill cannot leave it behind.
    pub(super) fn lock(&self) -> Result<File> {
        let versions = self.versions();
        fs::create_dir_all(&versions).map_err(at(&versions))?;
        let path = self.directory.join(format!(".{}.lock", self.name));
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        file.lock().map_err(at(&path))?;
        Ok(file)
    }

    /// Finishes what a killed publisher left: a version that was not yet public becomes so, half copies go. The file in
    /// work stays; it is whole (see [`super::database`]) and the next to be brought up to date.
    pub(super) fn recover(&self) -> Result<()> {
        // Someone opened the public file for writing, against what the documentation says. What they left beside it need
        // not belong to the file that has the name now, and would then keep DuckDB from opening it.
        for path in [self.copy(), self.next(), write_ahead(&self.public())] {
            remove(&path)?;
        }
        if let Some(newest) = self.kept()?.last()
            && !same_file(&self.version(*newest), &self.public())?
        {
            self.make_public(*newest)?;
        }
        Ok(())
    }

    /// The versions that are kept, oldest first.
    pub(super) fn kept(&self) -> Result<Vec<u64>> {
        let directory = self.versions();
        let mut kept = Vec::new();
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let name = entry.map_err(at(&directory))?.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(&self.name)?.strip_prefix('-'));
            kept.extend(version.and_then(|rest| rest.strip_suffix(".duckdb")?.parse::<u64>().ok()));
        }
        kept.sort_unstable();
        Ok(kept)
    }

    /// Takes the oldest kept version out of its public name, to be the file in work. `None` where a copy of the newest
    /// is needed instead: fewer versions than asked for, a single one, or a reader of this room holds the oldest.
    pub(super) fn take_oldest(&self) -> Result<Option<Taken>> {
        let kept = self.kept()?;
        let [oldest, _, ..] = kept.as_slice() else { return Ok(None) };
        let path = self.version(*oldest);
        if kept.len() < self.keep || fs::exists(write_ahead(&path)).map_err(at(&path))? {
            return Ok(None);
        }
        let held = File::open(&path).map_err(at(&path))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        fs::rename(&path, self.work()).map_err(at(&path))?;
        Ok(Some(Taken { version: *oldest, _held: held }))
    }

    /// Gives a version back to its readers: one of another process holds it.
    pub(super) fn give_back(&self, taken: &Taken) -> Result<()> {
        let path = self.version(taken.version);
        fs::rename(self.work(), &path).map_err(at(&path))
    }

    /// Makes the file in work a copy of the published one, at once or not at all. `false` where nothing is published.
    pub(super) fn copy_public(&self) -> Result<bool> {
        let (public, copy, work) = (self.public(), self.copy(), self.work());
        match fs::copy(&public, &copy) {
            Ok(_) => fs::rename(&copy, &work).map_err(at(&work)).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => {
                remove(&copy)?;
                Err(at(&copy)(error))
            }
        }
    }

    /// Removes the file in work.
    pub(super) fn discard_work(&self) -> Result<()> {
        remove(&write_ahead(&self.work()))?;
        remove(&self.work())
    }

    /// Publishes the file in work as `version` and forgets versions beyond the last ones that are kept.
    pub(super) fn publish(&self, version: u64) -> Result<()> {
        let path = self.version(version);
        remove(&write_ahead(&path))?;
        fs::rename(self.work(), &path).map_err(at(&path))?;
        // Before the public name moves: a later version is of another lake, and must not be taken for the newest.
        for later in self.kept()?.into_iter().filter(|kept| *kept > version) {
            self.forget(later)?;
        }
        self.make_public(version)?;
        let kept = self.kept()?;
        kept.iter().take(kept.len().saturating_sub(self.keep)).try_for_each(|old| self.forget(*old))
    }

    /// A reader that has the file open keeps it until it closes it; only the name goes.
    fn forget(&self, version: u64) -> Result<()> {
        remove(&write_ahead(&self.version(version)))?;
        remove(&self.version(version))
    }

    fn make_public(&self, version: u64) -> Result<()> {
        let (path, next, public) = (self.version(version), self.next(), self.public());
        remove(&next)?;
        if let Err(error) = fs::hard_link(&path, &next) {
            tracing::debug!(%error, path = %path.display(), "no hard links here: the public file is a copy");
            copy_with_times(&path, &next).map_err(at(&next))?;
        }
        remove(&write_ahead(&public))?;
        fs::rename(&next, &public).map_err(at(&public))
    }
}

/// Opens the published file and marks it as read, so that no publisher of any process takes it for writing. `None` where
/// nothing is published. The mark ends with the handle, which must outlive DuckDB's own.
pub(super) fn mark_as_read(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => file.lock_shared().map_err(at(path)).map(|()| Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Whether the name still stands for the open file.
pub(super) fn still_names(path: &Path, file: &File) -> Result<bool> {
    let file = file.metadata().map_err(at(path))?;
    match fs::metadata(path) {
        Ok(named) => Ok(stamp(&named).map_err(at(path))? == stamp(&file).map_err(at(path))?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path)(error)),
    }
}

/// Whether two names stand for one file, or for a file and its copy.
fn same_file(one: &Path, other: &Path) -> Result<bool> {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => Ok(stamp(&a).map_err(at(one))? == stamp(&b).map_err(at(other))?),
        (Err(error), _) => Err(at(one)(error)),
        (_, Err(error)) if error.kind() == ErrorKind::NotFound => Ok(false),
        (_, Err(error)) => Err(at(other)(error)),
    }
}

/// What a file and its copy have in common, and two versions have not: each is written to the end before it is published.
fn stamp(file: &fs::Metadata) -> std::io::Result<(u64, std::time::SystemTime)> {
    Ok((file.len(), file.modified()?))
}

fn copy_with_times(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to)?;
    File::options().write(true).open(to)?.set_modified(fs::metadata(from)?.modified()?)
}

/// Where DuckDB keeps what it has not yet written into the file.
fn write_ahead(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".wal");
    name.into()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}
