//! Gold and silver → a Flight SQL client on loopback: a dashboard's question, and a whole table.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

mod serving;

use criterion::{Criterion, Throughput};

use self::serving::{Client, Serving, read};

const EVENTS: u64 = 20_000;

/// Rows of the answer, all of them received.
async fn ask(client: &mut Client, sql: &str) -> usize {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    read(client, info).await
}

fn answers(criterion: &mut Criterion) {
    let mut serving = Serving::start(EVENTS);
    let mut group = criterion.benchmark_group("flight");
    group.sample_size(20);
    for (name, sql) in [
        ("a dashboard's question", "SELECT day, sum(revenue) AS revenue FROM gold.revenue GROUP BY day ORDER BY day"),
        ("all of silver.events", "SELECT * FROM silver.events"),
    ] {
        let Serving { runtime, client, .. } = &mut serving;
        let rows = runtime.block_on(ask(client, sql));
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(ask(client, sql))));
    }
    group.finish();
    serving.stop();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    answers(&mut criterion);
    criterion.final_summary();
}
