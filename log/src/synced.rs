//! A local directory in which what was put survives a power cut.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A [`LocalFileSystem`] whose puts wait for the disk, twice each: an object's bytes are there before it has its name, for whoever
/// sees it builds upon it; and its name is there before the put is answered.
#[derive(Debug)]
pub(crate) struct SyncedFileSystem {
    files: LocalFileSystem,
    directories: Arc<Directories>,
}

impl SyncedFileSystem {
    /// # Errors
    /// Where the directory is not there, or cannot be synced.
    pub(crate) fn new(root: &FilePath) -> Result<Self> {
        let files = LocalFileSystem::new_with_prefix(root)?;
        let directories = Directories { root: root.to_owned(), synced: Mutex::default() };
        directories.sync_down_to(root).map_err(failed)?;
        Ok(Self { files, directories: Arc::new(directories) })
    }
}

impl fmt::Display for SyncedFileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, synced", self.files)
    }
}

#[async_trait]
impl ObjectStore for SyncedFileSystem {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_new = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_implemented("a put that updates")),
        };
        let (path, directories) = (self.files.path_to_filesystem(location)?, Arc::clone(&self.directories));
        let put = tokio::task::spawn_blocking(move || directories.put(&path, &payload, is_new)).await?;
        match put {
            Ok(()) => Ok(PutResult { e_tag: None, version: None }),
            Err(source) if is_new && source.kind() == ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: source.into() })
            }
            Err(source) => Err(failed(source)),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("a put in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_implemented("a copy"))
    }
}

/// The directories of a store, and which of them are known to be on the disk.
#[derive(Debug)]
struct Directories {
    root: PathBuf,
    synced: Mutex<HashSet<PathBuf>>,
}

impl Directories {
    /// Writes a file whole: over what is there, or where nothing is.
    fn put(&self, path: &FilePath, payload: &PutPayload, is_new: bool) -> io::Result<()> {
        let parent = path.parent().unwrap_or(&self.root);
        self.make(parent)?;
        let (mut file, staged) = staged(path)?;
        let named = (|| {
            payload.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            if is_new { fs::hard_link(&staged, path) } else { fs::rename(&staged, path) }
        })();
        if is_new || named.is_err() {
            // What stays behind has a name that no listing shows.
            let _ = fs::remove_file(&staged);
        }
        named?;
        sync_directory(parent)
    }

    /// Makes a directory with those above it, unless it is known.
    fn make(&self, directory: &FilePath) -> io::Result<()> {
        if self.synced().contains(directory) && directory.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        self.sync_down_to(directory)
    }

    /// Syncs the names of a directory and of those above it, from the root's on: another process may have made them, and not
    /// be so far.
    fn sync_down_to(&self, directory: &FilePath) -> io::Result<()> {
        let within = directory.ancestors().take_while(|above| above.starts_with(&self.root));
        for named_in in within.filter_map(FilePath::parent) {
            match sync_directory(named_in) {
                // What is above a lake may be there to pass through only; it was there before.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && !named_in.starts_with(&self.root) => {}
                synced => synced?,
            }
        }
        self.synced().insert(directory.to_owned());
        Ok(())
    }

    fn synced(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new file beside the one it becomes, under a name that [`LocalFileSystem`] shows to nobody.
fn staged(path: &FilePath) -> io::Result<(File, PathBuf)> {
    for number in 1_u64.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, name.into())),
        }
    }
    unreachable!("there are fewer files than numbers")
}

/// Has the disk hold the names in a directory.
fn sync_directory(directory: &FilePath) -> io::Result<()> {
    // A system without fsync of directories keeps their names by itself.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn failed(source: io::Error) -> Error {
    Error::Generic { store: "SyncedFileSystem", source: Box::new(source) }
}

fn not_implemented(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "SyncedFileSystem".to_owned() }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[tokio::test]
    async fn an_object_is_put_once_or_over_another_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let store = SyncedFileSystem::new(&root).unwrap();
        let path = Path::from("a/b/c.json");
        let create = || PutOptions { mode: PutMode::Create, ..Default::default() };
        store.put_opts(&path, "one".into(), create()).await.unwrap();
        let again = store.put_opts(&path, "two".into(), create()).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyExists { .. }), "{again}");
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "one");

        // A writer that was killed left its file.
        std::fs::write(root.join("a/b/c.json#1"), "half").unwrap();
        store.put(&path, "three".into()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "three");
        let mut names = std::fs::read_dir(root.join("a/b")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.by_ref().count(), 2, "c.json, and what the killed one left");

        // A directory that went is made again.
        std::fs::remove_dir_all(root.join("a")).unwrap();
        store.put_opts(&path, "four".into(), create()).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "four");
    }

    #[tokio::test]
    async fn of_many_who_put_one_object_one_does() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SyncedFileSystem::new(&directory.path().canonicalize().unwrap()).unwrap());
        let put = |number: usize| {
            let store = Arc::clone(&store);
            async move {
                let options = PutOptions { mode: PutMode::Create, ..Default::default() };
                store.put_opts(&Path::from("one"), number.to_string().into(), options).await.is_ok()
            }
        };
        let puts = futures::future::join_all((0..16).map(|number| tokio::spawn(put(number)))).await;
        assert_eq!(puts.into_iter().filter(|put| *put.as_ref().unwrap()).count(), 1);
    }
}
