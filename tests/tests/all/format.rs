//! A lake that an earlier lakebed wrote: every later one opens it, reads it, and goes on with it.
//!
//! `fixtures/format-1` was made by `lakebed ingest`, `run` and `log compact`: two batches that were compacted, a checkpoint, a
//! third batch, a second epoch, and a fourth batch that is durable and not committed. It is never made again.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakebed_ingest::Settings;
use lakebed_log::{Ack, Appended, Error, Log, layout};
use lakebed_project::{Config, Flags};
use lakebed_query::{AsOf, Lakehouse, Project};
use lakebed_tests::batches::{at, decoded, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use tempfile::TempDir;

/// What was sent as batch `one`.
const ONE: &str = r#"{"event_id":"a","event_type":"view","event_time":"2026-11-01T00:00:00Z","amount":1.50}
{"event_id":"b","event_type":"buy","event_time":"2026-11-02T00:00:00Z","amount":2.25,"note":"first"}
no event
"#;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The rows of a query as text, a line each.
async fn lines(lakehouse: &Lakehouse, as_of: Option<AsOf>, sql: &str) -> Vec<String> {
    let session = lakehouse.read(as_of).await.unwrap();
    let batches: Vec<_> = session.stream(session.plan(sql).await.unwrap()).await.unwrap().try_collect().await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let (names, counts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        (0..names.len()).map(|row| format!("{} {}", names.value(row), counts.value(row))).collect::<Vec<_>>()
    });
    rows.collect()
}

/// What a later lakebed does to a log that this one must not read past: a version that says what a reader has to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_requires_more_is_refused() {
    let lake = Lake::local();
    let log = lake.open().await;
    log.append(&numbered("a", 1), Ack::Committed, at(1)).await.unwrap();
    let path = layout::commit(1);
    let entry = lake.store().get(&path).await.unwrap().unwrap();
    let entry = String::from_utf8(entry.to_vec()).unwrap();
    let requires = entry.replacen(r#""next_offset""#, r#""requires":["truncation"],"next_offset""#, 1);
    assert_ne!(entry, requires);
    lake.store().put(&path, requires).await.unwrap();
    let error = Log::open(lake.store(), PROJECT).await.err().unwrap();
    let said = error.to_string();
    assert!(matches!(error, Error::Corrupt { .. }) && said.contains("knows of 'truncation'"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_of_format_1_is_read_and_gone_on_with() {
    let directory = TempDir::new().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/format-1"), directory.path());
    let config = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap();
    let lakehouse = Lakehouse::open(Project::load(directory.path(), config).unwrap()).await.unwrap();

    let types = "SELECT event_type, events FROM gold.types ORDER BY 1";
    assert_eq!(lines(&lakehouse, None, types).await, ["buy 2", "view 2"]);
    let events = "SELECT CAST(string_agg(event_id, ',' ORDER BY _offset) AS VARCHAR), count(*) FROM bronze.events";
    assert_eq!(lines(&lakehouse, Some(AsOf::Version(1)), events).await, ["a,b 2"]);
    assert_eq!(lines(&lakehouse, Some(AsOf::Version(4)), events).await, ["a,b,c,d 4"]);
    assert_eq!(lines(&lakehouse, Some(AsOf::Version(2)), types).await, ["buy 1", "view 2"]);

    let log = lakehouse.log();
    let settings = Settings { declared: lakehouse.project().config.columns.clone(), ..Settings::default() };
    let again = Arc::new(decoded("one", ONE.as_bytes(), &settings));
    assert_eq!(log.append(&again, Ack::Committed, at(0)).await.unwrap(), Appended::Duplicate { version: 1 });
    let other = Arc::new(decoded("one", ONE.replace("1.50", "1.51").as_bytes(), &settings));
    assert!(matches!(log.append(&other, Ack::Committed, at(0)).await, Err(Error::BatchConflict { .. })));

    assert_eq!(log.drain(at(0)).await.unwrap().committed, 1, "what was durable is committed");
    lakehouse.refresh(&[], &()).await.unwrap();
    assert_eq!(lines(&lakehouse, None, types).await, ["buy 2", "view 3"]);
    for verified in lakehouse.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}
