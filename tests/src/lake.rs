//! The lakes that a contract is run over: one for each kind of store.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::path::Path;
use std::sync::Arc;

use lakebed_log::{Log, Store};
use object_store::ObjectStore;
use tempfile::TempDir;

use crate::batches::at;

/// The project that all test lakes belong to.
pub const PROJECT: &str = "shop";

/// A place for a lake, gone with this value.
#[derive(Debug)]
pub struct Lake {
    store: Store,
    directory: Option<TempDir>,
}

impl Lake {
    /// In this process's memory.
    pub fn memory() -> Self {
        Self { store: Store::memory(), directory: None }
    }

    /// In a directory of its own on local disk.
    pub fn local() -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let store = Store::local(directory.path()).expect("a lake can be made in it");
        Self { store, directory: Some(directory) }
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
        Log::open_or_create(self.store(), PROJECT, at(0)).await.expect("the log opens")
    }

    /// The lake's directory, if it has one.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_ref().map(TempDir::path)
    }
}
