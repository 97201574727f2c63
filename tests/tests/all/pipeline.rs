//! The starter's project end to end: events in batches with a refresh after each, against one refresh over all of them,
//! against a replay, and against DuckDB.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt;
use lakebed_ingest::Settings;
use lakebed_log::{Ack, Batch, Compaction, Entry, layout};
use lakebed_project::{Config, Flags};
use lakebed_query::{AsOf, Lakehouse, Progress, Project, Thinning, epoch, fold_runs, thin, vacuum_runs};
use lakebed_tests::batches::{STARTER, at, decoded, generated, numbered, starter_settings};
use lakebed_tests::s3::Bucket;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::models::lake_of;

/// How many lines a batch has.
const LINES: u64 = 1_000;

/// A project as `lakebed init` makes it, in a directory of its own, with its lake in it.
pub(crate) async fn project(directory: &Path) -> Lakehouse {
    project_over(directory, |_| {}).await
}

/// The same with other settings.
pub(crate) async fn project_over(directory: &Path, change: impl FnOnce(&mut Config)) -> Lakehouse {
    std::fs::write(directory.join("lakebed.toml"), STARTER.replace("{name}", "shop")).unwrap();
    for layer in ["silver", "gold"] {
        let (from, to) = (format!("{}/../sql/{layer}", env!("CARGO_MANIFEST_DIR")), directory.join("sql").join(layer));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let mut config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    change(&mut config);
    Lakehouse::open_or_create(Project::load(directory, config).unwrap(), at(0)).await.unwrap()
}

/// The `number`-th batch: late events and repeated lines among them, and the last lines of the batch before once more.
fn batch(number: u64) -> Arc<Batch> {
    let feed = lakebed_generator::Settings { late: 0.05, duplicates: 0.05, malformed: 0.01, ..Default::default() };
    let text = generated(&feed, (number * LINES).saturating_sub(100), LINES);
    Arc::new(decoded(&format!("b{number}"), &text, &starter_settings()))
}

pub(crate) async fn append(lakehouse: &Lakehouse, number: u64) {
    lakehouse.log().append(&batch(number), Ack::Committed, at(60 * (number as i64 + 1))).await.unwrap();
}

pub(crate) fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Appends the events of a text as one batch, a minute after that of the step before; gives how many they are.
pub(crate) async fn bring(lakehouse: &Lakehouse, step: i64, text: &str, settings: &Settings) -> u64 {
    let batch = Arc::new(decoded(&format!("b{step}"), text.as_bytes(), settings));
    lakehouse.log().append(&batch, Ack::Committed, at(60 * (step + 1))).await.unwrap();
    batch.events.len() as u64
}

pub(crate) async fn query(lakehouse: &Lakehouse, as_of: Option<AsOf>, sql: &str) -> Vec<RecordBatch> {
    let session = lakehouse.read(as_of).await.unwrap();
    let plan = session.plan(sql).await.unwrap();
    session.stream(plan).await.unwrap().try_collect().await.unwrap()
}

pub(crate) async fn number(lakehouse: &Lakehouse, as_of: Option<AsOf>, sql: &str) -> i64 {
    query(lakehouse, as_of, sql).await[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// What every model's table is: its rows and their hash.
pub(crate) async fn tables(lakehouse: &Lakehouse) -> Vec<(String, u64, String)> {
    let manifest = epoch::newest(lakehouse.log().store()).await.unwrap().unwrap();
    manifest.models.into_iter().map(|(name, state)| (name, state.rows, state.content_hash.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_steps_come_to_the_same_as_one() {
    let (steps, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (stepped, at_once) = (project(steps.path()).await, project(whole.path()).await);
    for step in 0..3 {
        append(&stepped, step).await;
        let refreshed = stepped.refresh(&[], &()).await.unwrap();
        assert_eq!((refreshed.version, refreshed.epoch, refreshed.unchanged), (step + 1, step + 1, false));
        append(&at_once, step).await;
    }
    at_once.refresh(&[], &()).await.unwrap();
    let found = tables(&stepped).await;
    assert_eq!(found, tables(&at_once).await, "I1: any split of the log gives the same tables");
    assert_eq!(found.len(), 12);
    assert!(found.iter().all(|(_, rows, _)| *rows > 0), "{found:?}");
    assert!(stepped.refresh(&[], &()).await.unwrap().unchanged, "I6: once more changes nothing");
    assert_eq!(tables(&stepped).await, found);

    for verified in stepped.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
    let count = "SELECT count(*) FROM bronze.events";
    let versions = stepped.log().versions(u64::MAX).await.unwrap();
    for (version, entry) in &versions[1..] {
        let rows = i64::try_from(entry.record.next_offset).unwrap();
        assert_eq!(number(&stepped, Some(AsOf::Version(*version)), count).await, rows);
        assert_eq!(number(&stepped, Some(AsOf::Time(entry.time)), count).await, rows);
    }
    let distinct = number(&stepped, None, "SELECT count(DISTINCT event_id) FROM bronze.events").await;
    assert_eq!(number(&stepped, None, "SELECT count(*) FROM silver.events").await, distinct);
    assert!(distinct < number(&stepped, None, count).await, "there were duplicates");
    assert_duckdb_agrees(&stepped, steps.path());
}

/// Two projects with the same events: to one they come batch by batch, to the other together, with files of every kind in its log.
/// Somebody who appends and refreshes whenever the refresh that is watched comes to a model.
struct Busy {
    other: Lakehouse,
    appended: AtomicU64,
}

impl Progress for Busy {
    fn model(&self, _: &str, done: usize, _: usize) {
        if done == 0 {
            let step = self.appended.fetch_add(1, Ordering::Relaxed);
            let overtake = async {
                append(&self.other, step).await;
                self.other.refresh(&[], &()).await.unwrap();
            };
            tokio::task::block_in_place(|| Handle::current().block_on(overtake));
        }
    }

    fn stored(&self, _: u64) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_ends_beside_one_that_is_always_first() {
    let directory = TempDir::new().unwrap();
    let (lakehouse, other) = (project(directory.path()).await, project(directory.path()).await);
    append(&lakehouse, 0).await;
    let busy = Busy { other, appended: AtomicU64::new(1) };
    let refreshed = lakehouse.refresh(&[], &busy).await.unwrap();
    let appended = busy.appended.load(Ordering::Relaxed);
    assert!(appended > 1, "nobody was first");
    assert!((1..=appended).contains(&refreshed.version) && refreshed.unchanged, "{refreshed:?}");
    lakehouse.refresh(&[], &()).await.unwrap();
    for verified in lakehouse.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_come_together_are_read_as_those_that_come_alone() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alone, together) = (project(one.path()).await, project(two.path()).await);
    let mut next = 0;
    for (count, compacts) in [(2, true), (1, false), (3, false)] {
        let batches: Vec<_> = (next..next + count).map(batch).collect();
        for number in next..next + count {
            append(&alone, number).await;
        }
        let moment = at(60 * (next as i64 + 1));
        for appended in together.log().append_together(&batches, Ack::Committed, moment).await {
            appended.unwrap();
        }
        next += count;
        if compacts {
            assert!(
                together.log().compact(&Compaction::default(), moment).await.unwrap().before.0 == 0,
                "one file a day"
            );
            append(&alone, next).await;
            append(&together, next).await;
            assert!(together.log().compact(&Compaction::default(), moment).await.unwrap().before.0 > 0);
            next += 1;
        }
        alone.refresh(&[], &()).await.unwrap();
        together.refresh(&[], &()).await.unwrap();
    }
    assert_eq!(tables(&together).await, tables(&alone).await);
    let rows = "SELECT sha256(string_agg(concat_ws(' ', _offset, _batch_id, _row, _doc), ',' ORDER BY _offset))";
    for bound in [i64::MAX, 6_500, 2_300, 10] {
        let sql = format!("{rows} FROM bronze.events WHERE _offset < {bound}");
        let found = query(&together, None, &sql).await;
        assert_eq!(found, query(&alone, None, &sql).await, "below {bound}");
    }
    for verified in together.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
}

/// A new model learns its history beside others whose changes the state cache takes up at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn models_that_come_later_disturb_none_that_were_there() {
    let directory = TempDir::new().unwrap();
    let mut lake = project(directory.path()).await;
    for round in 0..6 {
        append(&lake, round).await;
        lake.refresh(&[], &()).await.unwrap();
        let sql = format!("SELECT user_id, count(*) + {round} AS events FROM silver.events GROUP BY user_id");
        std::fs::write(directory.path().join(format!("sql/gold/later_{round}.sql")), sql).unwrap();
        // Its state cache is held by one of them at a time.
        drop(lake);
        lake = project(directory.path()).await;
    }
    append(&lake, 6).await;
    lake.refresh(&[], &()).await.unwrap();
    let verified = lake.verify(&[]).await.unwrap();
    assert!(verified.iter().any(|verified| verified.model == "gold.later_5"));
    for verified in verified {
        assert!(verified.holds(), "{verified:?}");
    }
}

/// Two projects with the same events and refreshes: the one's lake is on an S3 server, and between any two of its epochs its
/// files are compacted, a checkpoint is written, and what was replaced is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_and_vacuum_between_any_two_epochs_change_nothing() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let bucket = Bucket::new();
    let in_bucket = |config: &mut Config| (config.lake, config.s3) = (bucket.url(), bucket.settings());
    let (plain, kept_up) = (project(one.path()).await, project_over(two.path(), in_bucket).await);
    let log = kept_up.log();
    for step in 0..3 {
        append(&plain, step).await;
        append(&kept_up, step).await;
        // An epoch between two compactions begins in the middle of a compacted file, and ends after it.
        if step != 1 {
            plain.refresh(&[], &()).await.unwrap();
            kept_up.refresh(&[], &()).await.unwrap();
        }
        let compacted = log.compact(&Compaction::default(), at(60 * (step as i64 + 1) + 1)).await.unwrap();
        assert_eq!(compacted.before.0 > 0, step > 0, "{compacted:?}");
        log.checkpoint(at(60 * (step as i64 + 1) + 2)).await.unwrap();
        // By the store's clock everything was written today.
        let vacuumed = log.vacuum(TimeDelta::days(1), Utc::now() + TimeDelta::days(2)).await.unwrap();
        assert_eq!(vacuumed.objects, compacted.before.0);
    }
    assert_eq!(tables(&kept_up).await, tables(&plain).await, "I9");
    for verified in kept_up.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
    let bounds =
        |versions: Vec<(u64, Entry)>| versions.into_iter().map(|(version, entry)| (version, entry.record.next_offset));
    for (version, events) in bounds(log.versions(u64::MAX).await.unwrap()) {
        let sql = "SELECT count(DISTINCT _offset), coalesce(max(_offset) + 1, 0) FROM bronze.events";
        let found = query(&kept_up, Some(AsOf::Version(version)), sql).await;
        let found = [0, 1].map(|column| found[0].column(column).as_primitive::<Int64Type>().value(0));
        assert_eq!(found, [i64::try_from(events).unwrap(); 2], "as of version {version}");
    }
    assert!(kept_up.duckdb_path().starts_with(two.path().join("published")));
    assert_duckdb_agrees(&kept_up, two.path());
}

/// Forty small epochs: the tables' runs are folded on the way, and the tables are what one refresh gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folding_runs_changes_nothing() {
    const MODELS: &[(&str, &str)] = &[
        ("silver/seen.sql", "SELECT event_id, event_type, _offset AS at FROM bronze.events"),
        ("silver/views.sql", "SELECT event_id, at FROM silver.seen WHERE event_type = 'view'"),
        ("gold/types.sql", "SELECT event_type, count(*) AS events FROM silver.seen GROUP BY 1"),
    ];
    let (steps, whole) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut lakes = Vec::new();
    for directory in [steps.path(), whole.path()] {
        lakes.push(lake_of(directory, MODELS).await);
    }
    for step in 0..40 {
        for (number, lake) in lakes.iter().enumerate() {
            let batch = numbered(&format!("b{step}"), 5 + step as usize % 3);
            lake.log().append(&batch, Ack::Committed, at(step + 1)).await.unwrap();
            if number == 0 || step == 39 {
                lake.refresh(&[], &()).await.unwrap();
            }
        }
    }
    let (stepped, at_once) = (&lakes[0], &lakes[1]);
    assert_eq!(tables(stepped).await, tables(at_once).await);
    let manifest = epoch::newest(stepped.log().store()).await.unwrap().unwrap();
    assert!(manifest.models["silver.seen"].runs.len() < 20, "{} runs", manifest.models["silver.seen"].runs.len());
    let first = &manifest.models["silver.seen"].runs[0];
    assert!(first.rows >= 32 * 5, "{} rows", first.rows);
    for verified in stepped.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
    let (runs, folded) = fold_runs(stepped.log().store()).await.unwrap();
    assert!(runs > folded && folded > 0, "{runs} runs became {folded}");
    assert_eq!(fold_runs(stepped.log().store()).await.unwrap(), (0, 0), "once");
    assert_eq!(tables(stepped).await, tables(at_once).await);
    for lake in [stepped, at_once] {
        lake.log().append(&numbered("last", 4), Ack::Committed, at(50)).await.unwrap();
        lake.refresh(&[], &()).await.unwrap();
    }
    assert_eq!(tables(stepped).await, tables(at_once).await, "the next refresh goes on from what was folded");
    for verified in stepped.verify(&[]).await.unwrap() {
        assert!(verified.holds(), "{verified:?}");
    }
    let count = "SELECT count(*) FROM silver.views";
    assert_eq!(
        number(stepped, Some(AsOf::Version(10)), count).await,
        59,
        "epochs before the folding are what they were"
    );
    let store = stepped.log().store();
    store.put(&layout::run("silver.seen", "of-a-killed-refresh", uuid::Uuid::nil()), "rows").await.unwrap();
    let vacuumed = vacuum_runs(store, TimeDelta::hours(1), Utc::now() + TimeDelta::days(2)).await.unwrap();
    assert_eq!((vacuumed.objects, vacuumed.bytes), (1, 4));
    assert_eq!(number(stepped, Some(AsOf::Version(10)), count).await, 59);
    let (later, thinning) = (Utc::now() + TimeDelta::days(60), Thinning { least: 2, ..Thinning::default() });
    let thinned = thin(store, &thinning, later).await.unwrap();
    assert!(thinned.gone > 20 && (1..=2).contains(&thinned.landmarks), "{thinned:?}");
    assert!(vacuum_runs(store, TimeDelta::hours(1), later).await.unwrap().objects > 20, "of epochs that are gone");
    let reopened = Lakehouse::open(stepped.project().clone()).await.unwrap();
    assert_eq!(number(&reopened, Some(AsOf::Version(10)), count).await, 59, "it is computed");
    assert_eq!(tables(&reopened).await, tables(at_once).await);
}

/// The same SQL, run by DuckDB from its published `silver.events` on, against what is published.
fn assert_duckdb_agrees(lakehouse: &Lakehouse, directory: &Path) {
    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    let published = lakehouse.duckdb_path();
    let attach = format!("ATTACH '{}' AS published (READ_ONLY)", published.display());
    duckdb.execute_batch(&format!("{attach}; CREATE SCHEMA silver; CREATE SCHEMA gold")).unwrap();
    duckdb.execute_batch("CREATE VIEW silver.events AS FROM published.silver.events").unwrap();
    for model in ["silver.purchases", "silver.page_views", "gold.daily_activity", "gold.revenue"] {
        let sql = std::fs::read_to_string(directory.join("sql").join(model.replace('.', "/") + ".sql")).unwrap();
        duckdb.execute_batch(&format!("CREATE TABLE {model} AS {sql}")).unwrap();
        let rows = |sql: &str| duckdb.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(rows(&format!("SELECT count(*) FROM {model}")) > 0);
        let theirs = format!("published.{model}");
        for (one, other) in [(model, theirs.as_str()), (theirs.as_str(), model)] {
            let only = rows(&format!("SELECT count(*) FROM (FROM {one} EXCEPT ALL FROM {other})"));
            assert_eq!(only, 0, "rows of {one} that are not in {other}");
        }
    }
}
