//! Batch → log, on local disk: one appender, many of one process, and the retry of a batch that is in the log.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput};
use futures::future::join_all;
use lakebed_benches::batch;
use lakebed_log::{Ack, Appended, Batch, BatchId, Log, Store};
use tokio::runtime::Runtime;

/// Batches of one round of appenders at once.
const APPENDERS: u64 = 16;

/// A log with all of the generator's columns in it, so that no round pays for their claims.
fn log(runtime: &Runtime, directory: &tempfile::TempDir, first: &Arc<Batch>) -> Log {
    runtime.block_on(async {
        let store = Store::local(directory.path()).unwrap();
        let log = Log::open_or_create(store, "bench", SystemTime::now().into()).await.unwrap();
        log.append(first, Ack::Committed, SystemTime::now().into()).await.unwrap();
        log
    })
}

/// The same events under an id that the log has not seen.
fn renamed(batch: &Batch, count: &AtomicU64) -> Arc<Batch> {
    let id = BatchId::new(count.fetch_add(1, Ordering::Relaxed).to_string());
    Arc::new(Batch { id, ..batch.clone() })
}

async fn append(log: Log, batch: Arc<Batch>) {
    let appended = log.append(&batch, Ack::Committed, SystemTime::now().into()).await.unwrap();
    assert!(matches!(appended, Appended::Committed { .. }), "{appended:?}");
}

fn appends(criterion: &mut Criterion) {
    let (runtime, directory) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let count = AtomicU64::new(0);
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10).measurement_time(Duration::from_secs(10));

    for events in [100, 10_000] {
        let events_of = batch(format!("first of {events}"), 0, events, &BTreeMap::new()).unwrap();
        let log = log(&runtime, &directory, &events_of);
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("one batch of {events}"), |bencher| {
            let next = || renamed(&events_of, &count);
            let append = |batch| append(log.clone(), batch);
            bencher.to_async(&runtime).iter_batched(next, append, BatchSize::PerIteration);
        });
    }

    let small = batch("small".to_owned(), 0, 100, &BTreeMap::new()).unwrap();
    let log = log(&runtime, &directory, &small);
    group.throughput(Throughput::Elements(100 * APPENDERS));
    group.bench_function(format!("{APPENDERS} batches of 100 at once"), |bencher| {
        let next = || (0..APPENDERS).map(|_| renamed(&small, &count)).collect::<Vec<_>>();
        let append_all = |batches: Vec<Arc<Batch>>| {
            let log = log.clone();
            async move {
                join_all(batches.into_iter().map(|batch| append(log.clone(), batch))).await;
            }
        };
        bencher.to_async(&runtime).iter_batched(next, append_all, BatchSize::PerIteration);
    });

    group.throughput(Throughput::Elements(1));
    group.bench_function("retry", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let appended = log.append(&small, Ack::Committed, SystemTime::now().into()).await.unwrap();
            assert!(matches!(appended, Appended::Duplicate { .. }), "{appended:?}");
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    appends(&mut criterion);
    criterion.final_summary();
}
