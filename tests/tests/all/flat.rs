//! What a refresh costs must follow what is new and not the history: counted in rows decoded and bytes read, model by model.

use std::collections::BTreeMap;

use lakebed_log::Ack;
use lakebed_query::Lakehouse;
use lakebed_query::epoch::{self, Work};
use lakebed_tests::batches::{at, decoded, generated, starter_settings};
use tempfile::TempDir;

use crate::pipeline::project;

/// Events of the one history, and of the other.
const HISTORIES: [u64; 2] = [2_000, 20_000];

/// New events, the same after either.
const NEW: u64 = 200;

/// Besides the starter's models one of every other shape that is kept up to date by what changed.
const SHAPES: &[(&str, &str)] = &[
    (
        "latest",
        "SELECT user_id, event_time, page_url FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY event_time DESC, event_id) AS n FROM silver.events) WHERE n = 1",
    ),
    (
        "windows",
        "SELECT event_id, user_id, sum(duration_ms) OVER (PARTITION BY user_id ORDER BY event_time, event_id) AS ran FROM silver.events",
    ),
    ("medians", "SELECT page_url, median(duration_ms) AS ms FROM silver.events GROUP BY page_url"),
    (
        "joined",
        "SELECT p.event_id, p.amount, s.entry_page FROM silver.purchases p LEFT JOIN silver.sessions s ON p.session_id = s.session_id",
    ),
    ("pages", "SELECT page_url, count(*) AS views, min(event_time) AS since FROM silver.events GROUP BY page_url"),
    ("top", "SELECT page_url, views FROM gold.pages ORDER BY views DESC, page_url LIMIT 10"),
    ("sizes", "SELECT views, count(*) AS pages FROM gold.pages GROUP BY views"),
    (
        "never_bought",
        "SELECT DISTINCT user_id FROM silver.events e WHERE NOT EXISTS (SELECT 1 FROM silver.purchases p WHERE p.user_id = e.user_id)",
    ),
];

async fn lake(directory: &TempDir) -> Lakehouse {
    let gold = directory.path().join("sql/gold");
    std::fs::create_dir_all(&gold).unwrap();
    for (name, sql) in SHAPES {
        std::fs::write(gold.join(format!("{name}.sql")), sql).unwrap();
    }
    project(directory.path()).await
}

async fn append(lake: &Lakehouse, number: u64, first: u64, count: u64) {
    let text = generated(&lakebed_generator::Settings::default(), first, count);
    let batch = decoded(&format!("b{number}"), &text, &starter_settings()).into();
    lake.log().append(&batch, Ack::Committed, at(60 * (number as i64 + 1))).await.unwrap();
}

/// What the refresh of the new events did to each model, after a history of so many.
async fn work(history: u64) -> BTreeMap<String, (String, Work)> {
    let directory = TempDir::new().unwrap();
    let lake = lake(&directory).await;
    // The history ends where the new events begin, so that these are the same.
    append(&lake, 0, HISTORIES[1] - history, history).await;
    lake.refresh(&[], &()).await.unwrap();
    append(&lake, 1, HISTORIES[1], NEW).await;
    lake.refresh(&[], &()).await.unwrap();
    let manifest = epoch::newest(lake.log().store()).await.unwrap().unwrap();
    let of = |(name, state): (String, epoch::ModelState)| (name, (state.strategy.clone(), state.work));
    manifest.models.into_iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_reads_what_is_new_and_not_the_history() {
    let (short, long) = (work(HISTORIES[0]).await, work(HISTORIES[1]).await);
    assert_eq!(short.len(), 12 + SHAPES.len());
    let words: std::collections::BTreeSet<_> = short.values().map(|(strategy, _)| strategy.as_str()).collect();
    assert_eq!(words, ["append", "latest", "merge", "recompute"].into(), "every strategy but full");
    for (name, (strategy, little)) in &short {
        let (_, much) = &long[name];
        let at_most = |little: u64| little + little / 5;
        assert!(much.read.rows <= at_most(little.read.rows), "{name} ({strategy}) decodes: {little:?}, then {much:?}");
        // Statistics of a file are a few bytes more where values are longer.
        assert!(
            much.read.bytes <= at_most(little.read.bytes) + 200,
            "{name} ({strategy}) reads: {little:?}, then {much:?}"
        );
    }
}
