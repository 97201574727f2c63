//! Models that group rows: what small epochs merge, what one epoch computes, and what the SQL means by itself are the same.

use std::fmt::Write;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakebed_log::Ack;
use lakebed_query::epoch;
use lakebed_query::{AsOf, Lakehouse};
use lakebed_tests::batches::{at, batch};
use tempfile::TempDir;

use crate::models::{lake_of, reopened};
use crate::pipeline::{query, tables};

/// `gold/…`, and its query over `silver.rows`.
const GROUPED: &[(&str, &str)] = &[
    ("counts", "SELECT kind, count(*) AS rows, count(x) AS xs, count(DISTINCT who) AS whos FROM silver.rows GROUP BY kind"),
    (
        "numbers",
        "SELECT who, kind, sum(n) AS n, avg(n) AS mean, sum(x) AS x, avg(x) AS avg_x, min(note) AS low, max(note) AS high
         FROM silver.rows GROUP BY who, kind",
    ),
    (
        "filtered",
        "SELECT coalesce(kind, '?') AS kind, count(*) FILTER (WHERE n > 3) AS some, sum(x) FILTER (WHERE who = 'a') AS xa,
             count(DISTINCT n) FILTER (WHERE who <> 'a') AS ns, bool_or(n > 8) AS any, bool_and(x > 0) AS every
         FROM silver.rows GROUP BY 1",
    ),
    ("whole", "SELECT count(*) AS rows, sum(x) AS x, count(DISTINCT kind) AS kinds, max(n) - min(n) AS span FROM silver.rows"),
    ("having", "SELECT who, count(*) % 3 AS rest FROM silver.rows GROUP BY who HAVING count(*) % 3 <> 1"),
    ("distinct", "SELECT DISTINCT kind, n % 3 AS third FROM silver.rows"),
    (
        "nested",
        "WITH per AS (SELECT event_date AS day, who, sum(n) AS n FROM silver.rows WHERE x IS NOT NULL GROUP BY 1, 2)
         SELECT concat(who, '!') AS who, n * 2 AS twice FROM per AS p WHERE n > 5 ORDER BY n",
    ),
    ("near", "SELECT kind, approx_distinct(note) AS notes, bit_xor(CAST(n AS BIGINT)) AS bits FROM silver.rows GROUP BY kind"),
    ("unkeyed", "SELECT count(*) AS rows FROM silver.rows GROUP BY who, kind"),
    ("pairs", "SELECT who, count(DISTINCT note) AS notes, count(DISTINCT kind) AS kinds FROM silver.rows GROUP BY who"),
    ("empty", "SELECT kind, count(*) AS rows FROM silver.rows WHERE n > 1000000 GROUP BY kind"),
];

/// Reads `gold.counts`, whose rows change: computed in full.
const OF_GROUPS: (&str, &str) =
    ("of_groups", "SELECT sum(rows) AS rows, max(whos) AS most FROM gold.counts WHERE kind IS NOT NULL");

async fn lake(directory: &TempDir) -> Lakehouse {
    let rows = "SELECT event_id, event_date, kind, who, n, x, note FROM bronze.events".to_owned();
    let mut models = vec![("silver/rows.sql".to_owned(), rows)];
    let gold = GROUPED.iter().chain([&OF_GROUPS]);
    models.extend(gold.map(|(name, sql)| (format!("gold/{name}.sql"), (*sql).to_owned())));
    let models: Vec<_> = models.iter().map(|(file, sql)| (file.as_str(), sql.as_str())).collect();
    std::fs::create_dir_all(directory.path()).unwrap();
    let lake = lake_of(directory.path(), &models).await;
    // Every column is there before the first refresh.
    append(&lake, 0, 5).await;
    lake
}

/// Appends `count` events of few kinds, with nulls, numbers that no rounded sum adds up, and values that come again.
async fn append(lake: &Lakehouse, step: i64, count: i64) {
    let mut lines = Vec::new();
    for row in 0..count {
        let draw = (step * 7_919 + row * 104_729) % 1_000;
        let mut line = format!(
            r#"{{"event_id":"{step}-{row}","event_type":"t","event_time":"2026-11-0{}T00:00:00Z""#,
            1 + draw % 3
        );
        write!(line, r#","note":"{}","n":{}"#, draw % 23, draw % 11).unwrap();
        if draw % 5 > 0 {
            write!(line, r#","kind":"k{}""#, draw % 4).unwrap();
        }
        if draw % 7 > 0 {
            write!(line, r#","who":"{}""#, ["a", "b", "c", "dé"][draw as usize % 4]).unwrap();
        }
        if draw % 3 > 0 {
            write!(line, r#","x":{}"#, ["1e16", "-1e16", "0.1", "1e-300", "3.5"][draw as usize % 5]).unwrap();
        }
        lines.push(line + "}");
    }
    lake.log().append(&batch(&format!("b{step}"), &lines), Ack::Committed, at(step + 1)).await.unwrap();
}

/// Each row as text, in order.
pub(crate) async fn shown(lake: &Lakehouse, as_of: Option<AsOf>, sql: &str) -> Vec<String> {
    let options = FormatOptions::default().with_null("∅");
    let mut rows = Vec::new();
    for batch in query(lake, as_of, sql).await {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    rows.sort();
    rows
}

async fn assert_right(lake: &Lakehouse) {
    for (name, sql) in GROUPED.iter().chain([&OF_GROUPS]) {
        let stored = shown(lake, None, &format!("SELECT * FROM gold.{name}")).await;
        assert_eq!(stored, shown(lake, None, sql).await, "gold.{name} is not what its SQL says");
    }
    for verified in lake.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_epochs_merge_to_what_one_epoch_computes() {
    let (steps, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut stepped, at_once) = (lake(&steps).await, lake(&whole).await);
    let mut as_of = Vec::new();
    for (step, count) in [(1, 3), (2, 40), (3, 1), (4, 200), (5, 7), (6, 60), (7, 2)] {
        let refreshed = stepped.refresh(&[], &()).await.unwrap();
        let strategies = refreshed.models.iter().map(|model| (model.name.as_str(), model.strategy));
        for (name, strategy) in strategies.filter(|(name, _)| name.starts_with("gold.")) {
            let expected = match name {
                "gold.of_groups" => "full",
                // A number of JSON is a double, and groups or distinct values of doubles are not merged.
                "gold.distinct" | "gold.filtered" => "recompute",
                _ => "merge",
            };
            assert_eq!(strategy, expected, "{name}");
        }
        as_of.push((refreshed.version, shown(&stepped, None, "SELECT * FROM gold.numbers").await));
        append(&stepped, step, count).await;
        append(&at_once, step, count).await;
        if step == 4 {
            // A state cache that is gone is built again.
            drop(stepped);
            std::fs::remove_dir_all(steps.path().join(".lakebed")).unwrap();
            stepped = reopened(steps.path()).await;
        }
    }
    stepped.refresh(&[], &()).await.unwrap();
    at_once.refresh(&[], &()).await.unwrap();
    assert_eq!(tables(&stepped).await, tables(&at_once).await);
    assert_right(&stepped).await;
    assert_right(&at_once).await;
    for (version, numbers) in as_of {
        let then = shown(&stepped, Some(AsOf::Version(version)), "SELECT * FROM gold.numbers").await;
        assert_eq!(then, numbers, "as of version {version}");
    }
}

/// What an epoch costs: the groups that it touched are written, and no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_touched_groups_are_written() {
    let directory = TempDir::new().unwrap();
    let lake = lake(&directory).await;
    append(&lake, 1, 500).await;
    lake.refresh(&[], &()).await.unwrap();
    append(&lake, 2, 1).await;
    let refreshed = lake.refresh(&[], &()).await.unwrap();
    let written = |name: &str| refreshed.models.iter().find(|model| model.name == name).unwrap().rows_written;
    assert_eq!((written("gold.counts"), written("gold.numbers"), written("gold.whole")), (1, 1, 1));
    assert_eq!((written("gold.distinct"), written("gold.empty")), (0, 0), "nothing that was not there");
    assert_right(&lake).await;
}

/// Sixty epochs: runs and deletions are folded on the way, and tables of mostly deleted rows are written anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_epochs_leave_no_heap_of_deleted_rows() {
    const MODELS: &[(&str, &str)] = &[
        ("gold/per.sql", "SELECT n, count(*) AS rows, sum(n) AS sum FROM bronze.events GROUP BY n"),
        (
            "gold/wide.sql",
            "SELECT n AS m, count(*) AS rows FROM bronze.events WHERE n >= 0 GROUP BY n HAVING count(*) > 1",
        ),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    for step in 0..60 {
        // The same groups again and again.
        let events: Vec<_> = (0..400)
            .map(|row| {
                format!(
                    r#"{{"event_id":"{step}-{row}","event_type":"t","event_time":"2026-11-01T00:00:00Z","n":{row}}}"#
                )
            })
            .collect();
        lake.log().append(&batch(&format!("b{step}"), &events), Ack::Committed, at(step + 1)).await.unwrap();
        lake.refresh(&[], &()).await.unwrap();
    }
    let manifest = epoch::newest(lake.log().store()).await.unwrap().unwrap();
    for name in ["gold.per", "gold.wide"] {
        let state = &manifest.models[name];
        assert_eq!(state.rows, 400);
        assert!(state.start > 0, "{name} was never written anew");
        assert!(state.end() - state.start < 12_000, "{} rows are written", state.end() - state.start);
        assert!(state.runs.len() < 40 && state.deletions.len() < 40, "{} runs", state.runs.len());
    }
    let rows = shown(&lake, None, "SELECT count(*), min(rows), max(rows), sum(sum) FROM gold.per").await;
    assert_eq!(rows, [format!("400|60|60|{}.0", 60 * 399 * 200)]);
    for verified in lake.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}
