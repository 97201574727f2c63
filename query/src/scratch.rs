//! A place for what is computed to be read and not to be kept.

use std::fs::{self, File, Metadata};
#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use async_trait::async_trait;
use futures::stream::BoxStream;
use lakebed_log::Store;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What every name of such a directory begins with.
const PREFIX: &str = "lakebed-replay-";

/// The file in it that is locked for as long as somebody has the directory.
const LOCK: &str = "lock";
/// Its name until it is locked: without a lock that nobody holds, a directory is nobody's to delete.
const NEW_LOCK: &str = "lock.new";

/// A directory of the system's for temporary files, where nobody else looks; gone when it is dropped.
pub(crate) struct Scratch {
    directory: PathBuf,
    store: Store,
    /// Says that it is in use, until the process ends, however it does.
    _lock: File,
}

impl Scratch {
    /// Makes one, and deletes those that were left by processes that ended without a chance to.
    ///
    /// # Errors
    /// Where the directory cannot be made.
    pub(crate) fn new() -> crate::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &FilePath) -> crate::Result<Self> {
        let directory = parent.join(format!("{PREFIX}{}", uuid::Uuid::now_v7().simple()));
        let lock = take(&directory).map_err(|source| crate::Error::File { path: directory.clone(), source })?;
        if let Err(error) = sweep(parent, &directory) {
            tracing::debug!("what may be left in '{}' is left there: {error}", parent.display());
        }
        Ok(Self { store: Store::local(&directory)?, directory, _lock: lock })
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &FilePath {
        &self.directory
    }

    /// The directory as a store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// What is in the directory, and below it what is in `lake`, to which nothing is written.
    pub(crate) fn over(&self, lake: &Store) -> Store {
        Store::of(Arc::new(Over { upper: self.store.objects(), lower: lake.objects() }), lake.place())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a temporary directory of the system's.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Makes a directory that this account alone can enter: what is in it is under no policy. Gives its lock.
fn take(directory: &FilePath) -> io::Result<File> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    make(directory)?;
    let new = directory.join(NEW_LOCK);
    let lock = File::options().create_new(true).write(true).open(&new)?;
    // On a file system without locks it keeps the name under which nobody looks for one.
    if lock.try_lock().is_ok() {
        fs::rename(new, directory.join(LOCK))?;
    }
    Ok(lock)
}

/// Deletes the directories of this account, which `ours` is of, whose lock nobody holds.
fn sweep(parent: &FilePath, ours: &FilePath) -> io::Result<()> {
    let ours = fs::metadata(ours)?;
    for entry in fs::read_dir(parent)?.flatten() {
        let is_named_so = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_named_so || !entry.metadata().is_ok_and(|left| left.is_dir() && is_of_one_account(&left, &ours)) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            // Whoever else sweeps leaves it alone meanwhile. What cannot be deleted is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make(directory: &FilePath) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(directory)
}

#[cfg(unix)]
fn is_of_one_account(one: &Metadata, other: &Metadata) -> bool {
    one.uid() == other.uid()
}

/// Elsewhere the directory for temporary files is one account's, and nobody else enters it.
#[cfg(not(unix))]
fn make(directory: &FilePath) -> io::Result<()> {
    fs::create_dir(directory)
}

#[cfg(not(unix))]
fn is_of_one_account(_: &Metadata, _: &Metadata) -> bool {
    true
}

/// Reads what is in either of two stores, and writes to one of them.
#[derive(Debug)]
struct Over {
    upper: Arc<dyn ObjectStore>,
    lower: Arc<dyn ObjectStore>,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.upper, self.lower)
    }
}

#[async_trait]
impl ObjectStore for Over {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.upper.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.upper.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.upper.get_opts(location, options.clone()).await {
            Err(Error::NotFound { .. }) => self.lower.get_opts(location, options).await,
            got => got,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.upper.delete_stream(locations)
    }

    /// What was written: nobody asks for more.
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.upper.list(prefix)
    }

    /// As [`Self::list`].
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.upper.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.upper.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_swept_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let used = Scratch::within(parent.path()).unwrap();
        // As a process leaves it that is killed, as another has it before it has the lock, and somebody else's.
        drop(take(&at("lakebed-replay-left")).unwrap());
        fs::write(at("lakebed-replay-left/rows.parquet"), "rows").unwrap();
        fs::create_dir(at("lakebed-replay-begun")).unwrap();
        fs::write(at("lakebed-replay-begun/lock.new"), "").unwrap();
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/lock"), "").unwrap();
        let next = Scratch::within(parent.path()).unwrap();
        assert!(!at("lakebed-replay-left").exists());
        for kept in [&used.directory, &next.directory, &at("lakebed-replay-begun"), &at("elsewhere/lock")] {
            assert!(kept.exists(), "{}", kept.display());
        }
        let directory = used.directory.clone();
        drop(used);
        assert!(!directory.exists());
    }

    #[cfg(unix)]
    #[test]
    fn no_other_account_looks_into_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::within(parent.path()).unwrap();
        assert_eq!(fs::metadata(&scratch.directory).unwrap().mode() & 0o777, 0o700);
    }
}
