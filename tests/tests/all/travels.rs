//! Earlier versions: exact at every one, wherever refreshes stopped and whatever became of the SQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use lakebed_log::Ack;
use lakebed_query::{AsOf, Lakehouse, Statement, Versions};
use lakebed_tests::batches::{at, batch};
use tempfile::TempDir;

use crate::grouped::shown;
use crate::models::lake_of;
use crate::pipeline::number;

/// One of every strategy that reads another model.
const MODELS: &[(&str, &str)] = &[
    ("silver/seen.sql", "SELECT event_id, event_type, _offset AS at FROM bronze.events"),
    (
        "silver/first.sql",
        "-- key: event_id\nSELECT DISTINCT ON (event_id) event_id, event_type, _offset AS at FROM bronze.events ORDER BY event_id, _offset",
    ),
    ("gold/types.sql", "SELECT event_type, count(*) AS events, max(at) AS last FROM silver.first GROUP BY 1"),
    ("gold/odd.sql", "SELECT event_type, events % 2 AS odd FROM gold.types"),
    ("gold/far.sql", "SELECT event_id, sum(at) OVER (ORDER BY at) AS far FROM silver.seen"),
    ("gold/today.sql", "SELECT now() AS today, count(*) AS events FROM silver.seen"),
];

const TABLES: [&str; 6] = ["silver.seen", "silver.first", "gold.types", "gold.odd", "gold.far", "gold.today"];

/// Appends the ten events of a version, seven of which the version before had too.
async fn append(lake: &Lakehouse, version: i64) {
    let kinds = ["view", "click", "buy"];
    let events: Vec<_> = (3 * version..3 * version + 10)
        .map(|id| {
            let kind = kinds[id as usize % 3];
            format!(r#"{{"event_id":"e{id}","event_type":"{kind}","event_time":"2026-11-01T00:00:00Z"}}"#)
        })
        .collect();
    lake.log().append(&batch(&format!("b{version}"), &events), Ack::Committed, at(version)).await.unwrap();
}

/// Versions 1 to 8, refreshed at versions 3, 4 and 6.
async fn lake(directory: &TempDir) -> Lakehouse {
    let lake = lake_of(directory.path(), MODELS).await;
    for version in 1..=8 {
        append(&lake, version).await;
        if [3, 4, 6].contains(&version) {
            lake.refresh(&[], &()).await.unwrap();
        }
    }
    lake
}

async fn all(lake: &Lakehouse, as_of: Option<AsOf>) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in TABLES {
        tables.insert(table, shown(lake, as_of, &format!("SELECT * FROM {table} ORDER BY 1, 2")).await);
    }
    tables
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_is_what_a_lake_that_stopped_there_has() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let lake = lake(&directory).await;
    // The same events, refreshed at each version: what was the newest then.
    let stops = lake_of(other.path(), MODELS).await;
    for version in 1..=8 {
        append(&stops, version).await;
        stops.refresh(&[], &()).await.unwrap();
        let then = all(&stops, None).await;
        assert_eq!(all(&lake, Some(AsOf::Version(version as u64))).await, then, "version {version}");
        assert_eq!(all(&lake, Some(AsOf::Time(at(version)))).await, then, "the time of version {version}");
    }
    assert_eq!(number(&lake, Some(AsOf::Version(0)), "SELECT count(*) FROM gold.types").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_version_is_of_the_sql_as_it_is_now() {
    let directory = TempDir::new().unwrap();
    let lake = lake(&directory).await;
    let sql = "SELECT event_type, count(*) * 100 AS hundreds FROM silver.first GROUP BY 1";
    std::fs::write(directory.path().join("sql/gold/types.sql"), sql).unwrap();
    std::fs::write(directory.path().join("sql/gold/odd.sql"), "SELECT event_type, hundreds % 3 AS odd FROM gold.types")
        .unwrap();
    let lake = lake.reloaded(Default::default()).unwrap();
    for version in [2, 3, 5] {
        let as_of = Some(AsOf::Version(version));
        let events = number(&lake, as_of, "SELECT count(*) FROM silver.first").await;
        assert_eq!(number(&lake, as_of, "SELECT CAST(sum(hundreds) AS BIGINT) FROM gold.types").await, events * 100);
    }
    // One that does not plan is in nobody's way.
    std::fs::write(directory.path().join("sql/gold/far.sql"), "SELECT nothing FROM silver.seen").unwrap();
    let lake = lake.reloaded(Default::default()).unwrap();
    for version in [3, 5] {
        let as_of = Some(AsOf::Version(version));
        assert!(number(&lake, as_of, "SELECT CAST(sum(hundreds) AS BIGINT) FROM gold.types").await > 0);
        let stored = lake.read(as_of).await.unwrap().plan("SELECT far FROM gold.far").await;
        assert_eq!(stored.is_ok(), version == 3, "what was stored at version 3 is there");
    }
    // Nothing of it is kept in the lake.
    let epochs = lake.epoch().await.unwrap();
    assert_eq!(epochs, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_statement_reads_several_versions() {
    let directory = TempDir::new().unwrap();
    let lake = lake(&directory).await;
    let newest = Arc::new(lake.read(None).await.unwrap());
    let lines = async |sql: &str| {
        let statement = Statement::parse(sql).unwrap();
        let session = newest.for_statement(&statement, &lake).await.unwrap();
        let plan = session.plan_statement(&statement).await.unwrap();
        let rows: Vec<_> = session.stream(plan).await.unwrap().try_collect().await.unwrap();
        (session.version(), arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string())
    };
    // Between two stops, at one, and after the last.
    let (version, came) = lines(
        "SELECT count(*) AS n FROM silver.seen VERSION AS OF 7 a LEFT JOIN silver.seen VERSION AS OF 5 b ON a.at = b.at WHERE b.at IS NULL",
    )
    .await;
    assert_eq!(version, 6, "two versions: the answer is of neither");
    assert!(came.contains("| 20 |"), "{came}");
    let (version, _) = lines("SELECT count(*) FROM gold.types VERSION AS OF 5 t, silver.first VERSION AS OF 5 f").await;
    assert_eq!(version, 5);
    // Asked again, it is the same session.
    let first = lake.as_of(AsOf::Version(5)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &lake.as_of(AsOf::Version(5)).await.unwrap()));
    let wrong = lake.as_of(AsOf::Version(99)).await.err().unwrap();
    assert!(wrong.to_string().contains("99"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lake_tells_of_itself_as_of_a_version() {
    let directory = TempDir::new().unwrap();
    let lake = lake(&directory).await;
    let at_five = Some(AsOf::Version(5));
    assert_eq!(number(&lake, at_five, "SELECT max(version) FROM lakebed.versions").await, 5);
    assert_eq!(number(&lake, None, "SELECT count(*) FROM lakebed.batches").await, 6);
    assert_eq!(number(&lake, at_five, "SELECT max(version) FROM lakebed.runs").await, 4);
    assert_eq!(number(&lake, None, "SELECT max(version) FROM lakebed.watermarks").await, 6);
    let rows =
        "SELECT w.rows - (SELECT count(*) FROM silver.seen) FROM lakebed.watermarks w WHERE model = 'silver.seen'";
    assert_eq!(number(&lake, None, rows).await, 0);
    assert_eq!(number(&lake, None, "SELECT count(*) FROM lakebed.lineage WHERE model = 'gold.odd'").await, 1);
    let said = "SELECT count(*) FROM lakebed.models WHERE model = 'gold.odd' AND sql LIKE '%gold.types%'";
    assert_eq!(number(&lake, at_five, said).await, 1);
    let listed = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'lakebed'";
    assert_eq!(number(&lake, at_five, listed).await, 9);
    let columns = "SELECT count(*) FROM lakebed.column_lineage WHERE model = 'gold.odd' AND from_table = 'gold.types'";
    assert_eq!(number(&lake, at_five, columns).await, 2);
}
