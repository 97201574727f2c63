//! A lake for a function, and what came to be in it.

use std::path::Path;

use lakebed_log::{Log, Store};
use lakebed_tests::lambda::{Function, RuntimeApi};
use lakebed_tests::rows::{Row, rows};
use tempfile::TempDir;

pub(crate) const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

/// A lake in a directory, a runtime API, and a way to start functions over them.
pub(crate) struct Place {
    pub(crate) api: RuntimeApi,
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { api: RuntimeApi::start(), directory: TempDir::new().unwrap() }
    }

    pub(crate) fn function(&self) -> Function {
        let lake = self.directory.path().to_str().unwrap();
        self.api.function(
            Path::new(BOOTSTRAP),
            &[("LAKEBED_LAKE_URL", lake), ("LAKEBED_PROJECT_NAME", "lakebed"), ("LAKEBED_LOG", "warn")],
        )
    }

    pub(crate) fn store(&self) -> Store {
        Store::local(self.directory.path()).unwrap()
    }

    pub(crate) async fn log(&self) -> Log {
        let log = Log::open(self.store(), "lakebed").await.unwrap();
        // A function that was killed may have left something that is durable and not yet committed.
        log.drain(lakebed_tests::batches::at(0)).await.unwrap();
        log
    }
}

/// Every event of a log in the order of its offsets, and how many are in quarantine.
pub(crate) async fn content(log: &Log) -> (Vec<Row>, u64) {
    let versions = log.versions(u64::MAX).await.unwrap();
    let batches = versions.iter().flat_map(|(_, entry)| &entry.record.batches);
    let quarantined = batches.map(|batch| batch.quarantined).sum();
    (rows(log, &log.snapshot().await.unwrap()).await, quarantined)
}
