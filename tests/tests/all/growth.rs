//! What an append costs does not grow with the log behind it, neither for a process that has been there all the time nor for one
//! that has just started.

use std::sync::Arc;

use lakebed_log::{Ack, Appended, Log};
use lakebed_tests::batches::{at, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::long;
use lakebed_tests::storm::{Storm, Trace};

const FEW: u64 = 10;

/// Commits behind the append that is compared with the one behind few.
fn many() -> u64 {
    if long() { 10_000 } else { 1_000 }
}

/// Appends the batch of a version.
async fn append(log: &Log, version: u64) {
    let appended = log.append(&numbered(&format!("b{version}"), 1), Ack::Committed, at(version as i64)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version });
}

/// Requests of the next append by a handle that is there, and of the next one by a process that starts for it.
async fn requests(lake: &Lake, log: &Log, trace: &Trace, version: u64) -> (usize, usize) {
    let before = trace.requests();
    append(log, version).await;
    let there = trace.requests() - before;
    let counted = Arc::new(Trace::default());
    let store = lake.behind(|inner| Storm::calm(inner, Arc::clone(&counted)));
    append(&Log::open(store, PROJECT).await.unwrap(), version + 1).await;
    // It has not seen what the other appended.
    log.head().await.unwrap();
    (there, counted.requests())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_makes_the_same_requests_with_few_and_with_many_commits_behind_it() {
    let (lake, trace) = (Lake::memory(), Arc::new(Trace::default()));
    lake.open().await;
    let store = lake.behind(|inner| Storm::calm(inner, Arc::clone(&trace)));
    let log = Log::open(store, PROJECT).await.unwrap();
    for version in 1..=FEW {
        append(&log, version).await;
    }
    let few = requests(&lake, &log, &trace, FEW + 1).await;
    for version in FEW + 3..=many() {
        append(&log, version).await;
        // As far behind as the first version was.
        if version == many() - FEW {
            log.checkpoint(at(0)).await.unwrap();
        }
    }
    let many = requests(&lake, &log, &trace, many() + 1).await;
    println!("requests of an append, by a process that was there and by one that starts: {few:?}, {many:?}");
    assert_eq!(few, many);
}
