//! Runs → the DuckDB file: the first publication of a table, and one that brings it a few rows.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use chrono::{DateTime, TimeDelta};
use criterion::{BatchSize, Criterion, Throughput};
use futures::StreamExt;
use futures::stream::{BoxStream, iter};
use lakebed_query::rows::{Rows, Run};
use lakebed_query::sinks::duckdb::DuckDbSink;
use lakebed_query::sinks::{Image, ReadRun, TableImage};
use lakebed_query::{Result, TableHash};
use parquet::arrow::arrow_reader::RowSelection;
use tokio::runtime::Runtime;

/// Rows of the table before.
const HISTORY: u64 = 200_000;
/// Rows that a publication brings.
const NEW: u64 = 2_000;

/// Runs that are made as they are read.
struct MadeRuns;

impl ReadRun for MadeRuns {
    fn read(&self, run: &Run, _: Option<RowSelection>) -> BoxStream<'static, Result<RecordBatch>> {
        let first = run.first;
        let batches =
            (first..first + run.rows).step_by(8_192).map(move |from| (from, (from + 8_192).min(first + run.rows)));
        iter(batches.map(|(from, to)| rows(from, to)).collect::<Vec<_>>()).map(Ok).boxed()
    }
}

fn rows(from: u64, to: u64) -> RecordBatch {
    let numbers = || from as i64..to as i64;
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(numbers())) as _),
        ("page", Arc::new(StringArray::from_iter_values(numbers().map(|n| format!("/p/{}", n % 5_000)))) as _),
        (
            "country",
            Arc::new(StringArray::from_iter_values(numbers().map(|n| ["DE", "FR", "US"][n as usize % 3]))) as _,
        ),
        ("amount", Arc::new(Float64Array::from_iter_values(numbers().map(|n| n as f64 / 100.0))) as _),
    ])
    .unwrap()
}

/// The hash over the table with so many small runs; the history's is made once.
fn hash(news: u64) -> TableHash {
    static HASH: OnceLock<TableHash> = OnceLock::new();
    let of = |from, to| TableHash::of_batch(&rows(from, to)).unwrap();
    let history = *HASH.get_or_init(|| of(0, HISTORY));
    history.add(of(HISTORY, HISTORY + news * NEW))
}

/// The table with its history and so many small runs.
fn image(news: u64) -> Image {
    let run = |first: u64, rows: u64| Run { path: first.to_string(), first, rows, bytes: 0 };
    let mut runs = vec![run(0, HISTORY)];
    runs.extend((0..news).map(|number| run(HISTORY + number * NEW, NEW)));
    let table = TableImage {
        schema: "silver".to_owned(),
        name: "views".to_owned(),
        description: None,
        columns: rows(0, 0).schema(),
        fingerprint: "1".to_owned(),
        key: Vec::new(),
        rows: Rows { addresses: 0..HISTORY + news * NEW, deleted: Arc::default(), runs, images: Vec::new() },
        content_hash: hash(news),
    };
    let as_of = DateTime::UNIX_EPOCH + TimeDelta::seconds(news as i64);
    Image { lake: "lake".to_owned(), owner: "shop".to_owned(), version: news, as_of, tables: vec![table] }
}

fn sink(directory: &Path) -> DuckDbSink {
    DuckDbSink::new(directory.to_owned(), "bench", 3)
}

fn publications(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("duckdb");
    group.sample_size(10);

    group.throughput(Throughput::Elements(HISTORY));
    group.bench_function(format!("{HISTORY} rows from nothing"), |bencher| {
        let new = || tempfile::tempdir().unwrap();
        bencher.iter_batched(
            new,
            |directory| {
                runtime.block_on(sink(directory.path()).publish(&image(0), &MadeRuns)).unwrap();
                // Given back, so that deleting it is not measured.
                directory
            },
            BatchSize::PerIteration,
        );
    });

    let directory = tempfile::tempdir().unwrap();
    let mut news = 0;
    let mut publish = || {
        news += 1;
        runtime.block_on(sink(directory.path()).publish(&image(news), &MadeRuns)).unwrap()
    };
    // Until every file of the rotation is there, a publication costs a copy.
    for _ in 0..4 {
        publish();
    }
    group.throughput(Throughput::Elements(NEW));
    group.bench_function(format!("{NEW} new rows on {HISTORY}"), |bencher| bencher.iter(&mut publish));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    publications(&mut criterion);
    criterion.final_summary();
}
