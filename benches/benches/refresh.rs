//! Log → silver, gold and the DuckDB file: a refresh from nothing, and one that brings a few new events.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::{BatchSize, Criterion, Throughput};
use lakebed_benches::{batch, project};
use lakebed_log::Ack;
use lakebed_query::Lakehouse;
use tokio::runtime::Runtime;

/// Events that are in the log before.
const HISTORY: u64 = 20_000;
/// Events that a refresh brings.
const NEW: u64 = 200;

async fn append(lakehouse: &Lakehouse, first: u64, count: u64) {
    let columns = &lakehouse.project().config.columns;
    let batch = batch(format!("from {first}"), first, count, columns).unwrap();
    lakehouse.log().append(&batch, Ack::Committed, SystemTime::now().into()).await.unwrap();
}

/// A lake with the history in it and no table yet.
async fn lake(directory: &Path) -> Lakehouse {
    let lakehouse = Lakehouse::open_or_create(project(directory).unwrap(), SystemTime::now().into()).await.unwrap();
    append(&lakehouse, 0, HISTORY).await;
    lakehouse
}

async fn refresh(lakehouse: &Lakehouse) {
    let refreshed = lakehouse.refresh(&[], &()).await.unwrap();
    assert!(!refreshed.unchanged);
}

fn refreshes(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("refresh");
    group.sample_size(10).measurement_time(Duration::from_secs(20));

    group.throughput(Throughput::Elements(HISTORY));
    group.bench_function(format!("{HISTORY} events from nothing"), |bencher| {
        let new = || {
            let directory = tempfile::tempdir().unwrap();
            let lakehouse = runtime.block_on(lake(directory.path()));
            (directory, lakehouse)
        };
        bencher.iter_batched(
            new,
            |(directory, lakehouse)| {
                runtime.block_on(refresh(&lakehouse));
                // Given back, so that deleting it is not measured.
                (directory, lakehouse)
            },
            BatchSize::PerIteration,
        );
    });

    let directory = tempfile::tempdir().unwrap();
    let lakehouse = runtime.block_on(lake(directory.path()));
    runtime.block_on(refresh(&lakehouse));
    let mut fed = HISTORY;
    group.throughput(Throughput::Elements(NEW));
    group.bench_function(format!("{NEW} new events on {HISTORY}"), |bencher| {
        let new = || {
            runtime.block_on(append(&lakehouse, fed, NEW));
            fed += NEW;
        };
        bencher.iter_batched(new, |()| runtime.block_on(refresh(&lakehouse)), BatchSize::PerIteration);
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    refreshes(&mut criterion);
    criterion.final_summary();
}
