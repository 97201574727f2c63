//! The few object-store operations that the protocol needs, with errors that say what happened to which object.

use std::error::Error as _;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The object store that holds a lake; paths are those of [`crate::layout`].
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: String,
    directory: Option<PathBuf>,
}

/// What a put-if-absent found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was not there, and is now.
    Created,
    /// The object was there before, or a lost answer of ours made it: read it to know.
    Exists,
}

impl Store {
    /// A lake in a local directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Place`] where the directory can neither be made nor entered.
    pub fn local(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let place = directory.display().to_string();
        let refused = |reason: String| Error::Place { place: place.clone(), reason };
        std::fs::create_dir_all(&directory).map_err(|error| refused(error.to_string()))?;
        let directory = directory.canonicalize().map_err(|error| refused(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(&directory).map_err(|error| refused(error.to_string()))?;
        Ok(Self { objects: Arc::new(objects), place, directory: Some(directory) })
    }

    /// A lake in this process's memory.
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), place: "memory".to_owned(), directory: None }
    }

    /// A lake in any store, called `place` in messages.
    pub fn of(objects: Arc<dyn ObjectStore>, place: impl Into<String>) -> Self {
        Self { objects, place: place.into(), directory: None }
    }

    /// The lake in the user's words: its URL or directory.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The lake's directory, where it is one.
    pub fn directory(&self) -> Option<&std::path::Path> {
        self.directory.as_deref()
    }

    /// The store itself, for readers of whole data files.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// An object's bytes, or `None` where there is no such object.
    ///
    /// # Errors
    /// Any failure of the store but absence.
    pub async fn get(&self, path: &Path) -> Result<Option<Bytes>> {
        let answer = match self.objects.get(path).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(path, error)),
        };
        answer.bytes().await.map(Some).map_err(|error| self.failed(path, error))
    }

    /// An object of JSON, or `None` where there is no such object.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is something else; any failure of the store.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(bytes) = self.get(path).await? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })
    }

    /// Whether the object is there.
    ///
    /// # Errors
    /// Any failure of the store but absence.
    pub async fn exists(&self, path: &Path) -> Result<bool> {
        match self.objects.head(path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// Writes the object whole, over what was there.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn put(&self, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
        self.objects.put(path, bytes.into()).await.map(drop).map_err(|error| self.failed(path, error))
    }

    /// Writes the object whole, unless it is there.
    ///
    /// # Errors
    /// Any failure of the store; whether the object was written is unknown then.
    pub async fn put_if_absent(&self, path: &Path, bytes: impl Into<PutPayload>) -> Result<Put> {
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        match self.objects.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Put::Exists)
            }
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// The same for a value that is kept as JSON.
    ///
    /// # Errors
    /// As [`Self::put_if_absent`].
    pub async fn put_json_if_absent(&self, path: &Path, value: &impl Serialize) -> Result<Put> {
        self.put_if_absent(path, self.json(path, value)?).await
    }

    /// Writes a value as JSON, over what was there.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_json(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        self.put(path, self.json(path, value)?).await
    }

    /// Deletes an object; one that is not there is no failure.
    ///
    /// # Errors
    /// Any other failure of the store.
    pub async fn delete(&self, path: &Path) -> Result<()> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    /// All objects below a prefix, by name.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let listing = self.objects.list(Some(prefix)).try_collect::<Vec<_>>().await;
        let mut objects = listing.map_err(|error| self.failed(prefix, error))?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    fn json(&self, path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(value).map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })
    }

    fn failed(&self, path: &Path, error: object_store::Error) -> Error {
        let (path, place) = (path.clone(), self.place.clone());
        if matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) {
            return Error::Permission { path, place };
        }
        let mut cause = error.source();
        while let Some(inner) = cause {
            match inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                    return Error::Permission { path, place };
                }
                Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => return Error::Full { path, place },
                _ => cause = inner.source(),
            }
        }
        Error::Store { path, place, source: error }
    }
}
