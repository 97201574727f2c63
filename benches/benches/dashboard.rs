//! How long a dashboard waits: a statement that is prepared once and asked 50 times a second, and the first rows of a large result.
//!
//! `cargo bench -p lakebed-benches --bench dashboard -- [EVENTS] [SECONDS]` serves a lake of so many mock events (200,000) and
//! prints the times of so many seconds (20).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its figures, and says what failed by panicking"
)]

mod serving;

use std::time::{Duration, Instant};

use futures::TryStreamExt;

use self::serving::{Client, Serving, read};

/// Statements a second.
const RATE: u32 = 50;

/// Thousands of rows of a gold table, as a chart asks for them.
const STATEMENT: &str = "SELECT hour, device, events, users FROM gold.hourly_traffic WHERE events > 0 ORDER BY hour";

async fn ask_for(client: &mut Client, seconds: u64) -> (usize, Vec<Duration>) {
    let mut statement = client.prepare(STATEMENT.to_owned(), None).await.unwrap();
    let (mut rows, mut times) = (0, Vec::new());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    for _ in 0..seconds * u64::from(RATE) {
        ticks.tick().await;
        let asked = Instant::now();
        let info = statement.execute().await.unwrap();
        rows = read(client, info).await;
        times.push(asked.elapsed());
    }
    (rows, times)
}

async fn first_rows(client: &mut Client, sql: &str) -> Duration {
    let asked = Instant::now();
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint.into_iter().next().unwrap().ticket.unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    asked.elapsed()
}

fn shown(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{name}: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms", at(0.5), at(0.99), at(1.0));
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (events, seconds) = (numbers.next().unwrap_or(200_000), numbers.next().unwrap_or(20));
    let mut serving = Serving::start(events);
    let Serving { runtime, client, .. } = &mut serving;
    // The second time brings the tables into memory.
    runtime.block_on(ask_for(client, 1));
    let (rows, times) = runtime.block_on(ask_for(client, seconds));
    println!("{events} events, {rows} rows an answer, prepared once, {RATE} a second for {seconds} s");
    shown("whole answers", times);
    for (name, sql) in [
        ("first rows of silver.events", "SELECT * FROM silver.events"),
        ("first rows of bronze.events", "SELECT * FROM bronze.events"),
    ] {
        shown(name, (0..20).map(|_| runtime.block_on(first_rows(client, sql))).collect());
    }
    serving.stop();
}
