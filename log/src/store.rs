//! The few object-store operations that the protocol needs, with errors that say what happened to which object.

use std::error::Error as _;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::error::{Error, Result};
use crate::layout;
use crate::synced::SyncedFileSystem;

/// The object store that holds a lake; paths are those of [`crate::layout`].
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: String,
    directory: Option<Directory>,
}

/// A directory, and what tells it from another one in its place.
#[derive(Clone, Debug)]
struct Directory {
    path: PathBuf,
    id: Option<(u64, u64)>,
}

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self { id: id_of(&path), path }
    }

    /// Whether it is the one that was opened: a put would make it anew, where a disk is away for a moment.
    fn is_there(&self) -> bool {
        match cfg!(unix) {
            true => id_of(&self.path) == self.id,
            false => self.path.is_dir(),
        }
    }
}

/// Device and number of a directory, where the system has these.
fn id_of(path: &std::path::Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A request that takes longer has failed: a slow line has this long for the largest file that a compaction puts.
const LONGEST_REQUEST: &str = "180 seconds";

/// Between two looks for an object that is said to be there and is not yet.
pub const ON_ITS_WAY: Duration = Duration::from_millis(10);

/// What a put-if-absent found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was not there, and is now.
    Created,
    /// The object was there before, or a lost answer of ours made it: read it to know.
    Exists,
}

/// How an S3 bucket is reached. What is not set comes from AWS's usual environment variables (`AWS_REGION`,
/// `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, …), and credentials in the end from
/// the machine's role.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket's region.
    pub region: Option<String>,
    /// The server, for stores other than AWS's; one that begins with `http://` is spoken to without TLS.
    pub endpoint: Option<String>,
    /// Who asks.
    pub access_key_id: Option<String>,
    /// The secret to it; never shown.
    pub secret_access_key: Option<String>,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = self.secret_access_key.as_ref().map(|_| "…");
        f.debug_struct("S3Settings")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &secret)
            .finish()
    }
}

impl Store {
    /// A lake in an S3 bucket, at `s3://bucket` or `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`Error::Place`] where the URL names no bucket, or the settings do not fit together.
    pub fn s3(url: &str, settings: &S3Settings) -> Result<Self> {
        let refused = |reason: String| Error::Place { place: url.to_owned(), reason };
        let within = url.strip_prefix("s3://").unwrap_or_default();
        let (bucket, prefix) = within.split_once('/').unwrap_or((within, ""));
        if bucket.is_empty() {
            return Err(refused("it names no bucket".to_owned()));
        }
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), LONGEST_REQUEST);
        let set = [
            (AmazonS3ConfigKey::Region, &settings.region),
            (AmazonS3ConfigKey::Endpoint, &settings.endpoint),
            (AmazonS3ConfigKey::AccessKeyId, &settings.access_key_id),
            (AmazonS3ConfigKey::SecretAccessKey, &settings.secret_access_key),
        ];
        for (key, value) in set.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            builder = builder.with_config(key, value);
        }
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let builder = if plain { builder.with_allow_http(true) } else { builder };
        let bucket = builder.build().map_err(|error| refused(error.to_string()))?;
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|error| refused(error.to_string()))?;
        let objects: Arc<dyn ObjectStore> = match prefix.as_ref() {
            "" => Arc::new(bucket),
            _ => Arc::new(PrefixStore::new(bucket, prefix)),
        };
        Ok(Self { objects, place: url.trim_end_matches('/').to_owned(), directory: None })
    }

    /// A lake in a local directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Place`] where the directory can neither be made nor entered.
    pub fn local(directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        let place = directory.display().to_string();
        let refused = |error: std::io::Error| {
            let (path, place) = (layout::lake(), place.clone());
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::Permission { path, place },
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Full { path, place },
                _ => Error::Place { place, reason: error.to_string() },
            }
        };
        std::fs::create_dir_all(&directory).map_err(refused)?;
        let directory = directory.canonicalize().map_err(refused)?;
        let objects = LocalFileSystem::new_with_prefix(&directory);
        let objects = objects.map_err(|error| Error::Place { place: place.clone(), reason: error.to_string() })?;
        Ok(Self { objects: Arc::new(objects), place, directory: Some(Directory::new(directory)) })
    }

    /// The same, where whatever was put survives a power cut: each put waits for the disk (fsync).
    ///
    /// # Errors
    /// As [`Self::local`].
    pub fn local_synced(directory: impl Into<PathBuf>) -> Result<Self> {
        let mut store = Self::local(directory)?;
        if let Some(directory) = &store.directory {
            let synced = SyncedFileSystem::new(&directory.path);
            store.objects = Arc::new(synced.map_err(|error| store.failed(&layout::lake(), error))?);
        }
        Ok(store)
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
        self.directory.as_ref().map(|directory| directory.path.as_path())
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

    /// When the object was written, by the store's clock.
    ///
    /// # Errors
    /// Any failure of the store, absence included.
    pub async fn time_of(&self, path: &Path) -> Result<DateTime<Utc>> {
        self.objects.head(path).await.map(|object| object.last_modified).map_err(|error| self.failed(path, error))
    }

    /// Writes the object whole, over what was there.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn put(&self, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
        self.check_directory()?;
        self.objects.put(path, bytes.into()).await.map(drop).map_err(|error| self.failed(path, error))
    }

    /// # Errors
    /// [`Error::Gone`].
    fn check_directory(&self) -> Result<()> {
        match &self.directory {
            Some(directory) if !directory.is_there() => Err(Error::Gone { place: self.place.clone() }),
            _ => Ok(()),
        }
    }

    /// Writes the object whole, unless it is there.
    ///
    /// # Errors
    /// Any failure of the store; whether the object was written is unknown then.
    pub async fn put_if_absent(&self, path: &Path, bytes: impl Into<PutPayload>) -> Result<Put> {
        self.check_directory()?;
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

    /// Writes a value as JSON, unless the object is there; gives what is there then, ours or another's. The answer to a put
    /// may be lost, or a store may answer "exists" while another's put is on its way: what is stored is what counts.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where something else is there; any failure of the store.
    pub async fn put_or_read<T: Serialize + DeserializeOwned>(&self, path: &Path, value: T) -> Result<T> {
        loop {
            if self.put_json_if_absent(path, &value).await? == Put::Created {
                return Ok(value);
            }
            match self.get_json(path).await? {
                Some(there) => return Ok(there),
                None => sleep(ON_ITS_WAY).await,
            }
        }
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

    /// So many of the objects below a prefix, in no order; all of them, where they are fewer.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn list_some(&self, prefix: &Path, most: usize) -> Result<Vec<ObjectMeta>> {
        let listing = self.objects.list(Some(prefix)).take(most).try_collect().await;
        listing.map_err(|error| self.failed(prefix, error))
    }

    /// The directories right below a prefix, by name.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn directories(&self, prefix: &Path) -> Result<Vec<Path>> {
        let listing = self.objects.list_with_delimiter(Some(prefix)).await;
        let mut directories = listing.map_err(|error| self.failed(prefix, error))?.common_prefixes;
        directories.sort();
        Ok(directories)
    }

    fn json(&self, path: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
        serde_json::to_vec(value).map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })
    }

    fn failed(&self, path: &Path, error: object_store::Error) -> Error {
        let (path, place) = (path.clone(), self.place.clone());
        // Absent objects are answers; what is absent here is what they would be in.
        if matches!(error, object_store::Error::NotFound { .. }) && self.directory.is_none() {
            return Error::Place { place, reason: "there is no such bucket".to_owned() };
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_put_into_another_directory_in_the_place_of_the_one_that_was_opened() {
        let parent = tempfile::tempdir().unwrap();
        let (lake, away) = (parent.path().join("lake"), parent.path().join("away"));
        for store in [Store::local(&lake).unwrap(), Store::local_synced(&lake).unwrap()] {
            let put = async || store.put_if_absent(&Path::from("a/b"), "x").await.map_err(|error| error.to_string());
            std::fs::rename(&lake, &away).unwrap();
            assert!(put().await.unwrap_err().contains("is not there any more"));
            assert!(!lake.exists(), "nothing was made");
            std::fs::create_dir(&lake).unwrap();
            assert!(store.put(&Path::from("c"), "x").await.is_err());
            std::fs::remove_dir(&lake).unwrap();
            std::fs::rename(&away, &lake).unwrap();
            put().await.unwrap();
        }
    }
}
