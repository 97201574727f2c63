//! Exact sums and means of doubles beside DataFusion's own, over the same rows in memory.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use criterion::{Criterion, Throughput};
use datafusion::catalog::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakebed_log::Store;
use lakebed_query::catalog;
use tokio::runtime::Runtime;

/// Rows of the table.
const ROWS: i64 = 2_000_000;

/// What is summed: without groups, in few groups, and in one group for every two rows.
const QUERIES: [(&str, &str); 3] = [
    ("whole", "SELECT sum(x), avg(x) FROM t"),
    ("1,000 groups", "SELECT few, sum(x), avg(x) FROM t GROUP BY few"),
    ("1,000,000 groups", "SELECT many, sum(x), avg(x) FROM t GROUP BY many"),
];

/// The same table in a session with exact aggregates, and in a plain one.
fn sessions() -> [(&'static str, SessionContext); 2] {
    let store = Store::memory();
    let exact = catalog::session(&store, &store).unwrap();
    let mut config = SessionConfig::new().with_default_catalog_and_schema(catalog::CATALOG, catalog::DEFAULT_SCHEMA);
    config.options_mut().optimizer = exact.state().config_options().optimizer.clone();
    let native = SessionContext::new_with_config(config);
    let table = table();
    for context in [&exact, &native] {
        context.register_table("t", Arc::clone(&table) as _).unwrap();
    }
    [("native", native), ("exact", exact)]
}

fn table() -> Arc<MemTable> {
    let batch = |from: i64| {
        let rows = || from..from + 8_192.min(ROWS - from);
        // Prices: cents, as doubles.
        let prices = rows().map(|row| (row * 7_919 % 1_000_000) as f64 / 100.0);
        RecordBatch::try_from_iter([
            ("few", Arc::new(Int64Array::from_iter_values(rows().map(|row| row * 31 % 1_000))) as _),
            ("many", Arc::new(Int64Array::from_iter_values(rows().map(|row| row * 31 % 1_000_000))) as _),
            ("x", Arc::new(Float64Array::from_iter_values(prices)) as _),
        ])
        .unwrap()
    };
    let batches: Vec<_> = (0..ROWS).step_by(8_192).map(batch).collect();
    let halves = batches.chunks(batches.len().div_ceil(2)).map(<[_]>::to_vec).collect();
    Arc::new(MemTable::try_new(batches[0].schema(), halves).unwrap())
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let sessions = sessions();
    for (name, sql) in QUERIES {
        let mut group = criterion.benchmark_group(format!("sum and avg, {name}"));
        group.throughput(Throughput::Elements(ROWS as u64));
        for (which, context) in &sessions {
            group.bench_function(*which, |bencher| {
                bencher.iter(|| runtime.block_on(async { context.sql(sql).await.unwrap().collect().await.unwrap() }));
            });
        }
    }
    criterion.final_summary();
}
