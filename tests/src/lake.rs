//! The lakes that a contract is run over: one for each kind of store.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::path::Path;
use std::sync::Arc;

use lakebed_log::{Log, PartitionBy, S3Settings, Store};
use object_store::ObjectStore;
use tempfile::TempDir;

use crate::batches::at;
use crate::s3::Bucket;

/// The project that all test lakes belong to.
pub const PROJECT: &str = "shop";

/// The store at a [`Lake::place`] of another process, by its environment.
///
/// # Panics
/// Where it cannot be opened.
pub fn store_at(place: &str) -> Store {
    let store = match place.starts_with("s3://") {
        true => Store::s3(place, &S3Settings::default()),
        false => Store::local(place),
    };
    store.expect("the lake is there")
}

/// A place for a lake, gone with this value.
#[derive(Debug)]
pub struct Lake {
    store: Store,
    directory: Option<TempDir>,
    bucket: Option<Bucket>,
}

impl Lake {
    /// In this process's memory.
    pub fn memory() -> Self {
        Self { store: Store::memory(), directory: None, bucket: None }
    }

    /// In a directory of its own on local disk.
    pub fn local() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let store = Store::local(directory.path()).expect("a lake can be made in it");
        Self { store, directory: Some(directory), bucket: None }
    }

    /// On an S3 server, at a place of its own.
    pub fn s3() -> Self {
        let bucket = Bucket::new();
        Self { store: bucket.store(), directory: None, bucket: Some(bucket) }
    }

    /// Another lake on the same kind of store.
    pub fn another(&self) -> Self {
        match (&self.directory, &self.bucket) {
            (Some(_), _) => Self::local(),
            (_, Some(_)) => Self::s3(),
            _ => Self::memory(),
        }
    }

    /// The store.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The same objects behind another store.
    pub fn behind<S: ObjectStore>(&self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> S) -> Store {
        Store::of(Arc::new(wrap(self.store.objects())), self.store.place())
    }

    /// Another handle on the lake's log, as another process would have it.
    pub async fn open(&self) -> Log {
        self.open_by(PartitionBy::EventDate).await
    }

    /// The same; a log that is made is partitioned by this.
    pub async fn open_by(&self, partition_by: PartitionBy) -> Log {
        Log::open_or_create_by(self.store(), PROJECT, partition_by, at(0)).await.expect("the log opens")
    }

    /// The lake's place on an S3 server, if it is there.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Its place in words that a command line takes, for another process: a directory or a URL.
    ///
    /// # Panics
    /// For a lake in memory.
    pub fn place(&self) -> String {
        match &self.bucket {
            Some(bucket) => bucket.url(),
            None => self.directory().expect("a lake in memory is this process's alone").display().to_string(),
        }
    }

    /// What another process needs in its environment to get there.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = self.bucket.as_ref().map(Bucket::settings).unwrap_or_default();
        let set = [
            ("AWS_ENDPOINT_URL", settings.endpoint),
            ("AWS_REGION", settings.region),
            ("AWS_ACCESS_KEY_ID", settings.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", settings.secret_access_key),
        ];
        set.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The lake's directory, if it has one.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_ref().map(TempDir::path)
    }
}
