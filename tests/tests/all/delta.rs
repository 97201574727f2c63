//! The Delta sink: tables that follow the models, as engines read them that know nothing of lakebed.

use std::path::Path;
use std::process::Command;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use lakebed_log::layout;
use lakebed_project::{Config, Flags, SinkKind};
use lakebed_query::{Error, Lakehouse, Project, sinks};
use lakebed_tests::batches::{at, settings_of};
use lakebed_tests::long;
use lakebed_tests::python::{python, spark};
use lakebed_tests::s3::{Bucket, Faults};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipeline::{append, bring, number, project_over, query, write};

/// A project whose models are kept as Delta tables.
async fn kept(directory: &Path) -> Lakehouse {
    project_over(directory, |config| config.sinks = vec![SinkKind::Delta]).await
}

/// A project as its files say.
async fn open(directory: &Path) -> Lakehouse {
    let config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    Lakehouse::open_or_create(Project::load(directory, config).unwrap(), at(0)).await.unwrap()
}

async fn refreshed(lakehouse: &Lakehouse) -> sinks::delta::Published {
    lakehouse.refresh(&[], &()).await.unwrap().published.delta.unwrap()
}

async fn holds(lakehouse: &Lakehouse) {
    for verified in lakehouse.verify(&[]).await.unwrap() {
        assert!(verified.holds() && verified.sinks.get(&SinkKind::Delta) == Some(&true), "{verified:?}");
    }
}

/// How many versions a table has had.
fn versions(directory: &Path, table: &str) -> usize {
    let log = directory.join("lake/delta").join(table).join("_delta_log");
    let names = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".json")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_follow_the_models_at_the_cost_of_the_change() {
    let directory = TempDir::new().unwrap();
    let lakehouse = kept(directory.path()).await;
    append(&lakehouse, 0).await;
    let published = refreshed(&lakehouse).await;
    assert_eq!((published.tables_rebuilt, published.tables_changed, published.unchanged), (12, 0, false));
    holds(&lakehouse).await;
    append(&lakehouse, 1).await;
    append(&lakehouse, 2).await;
    let published = refreshed(&lakehouse).await;
    assert!(published.tables_rebuilt == 0 && published.tables_changed > 6, "{published:?}");
    holds(&lakehouse).await;
    assert!(refreshed(&lakehouse).await.unchanged, "I6");
    assert_eq!(versions(directory.path(), "silver/events"), 2);
    drop(lakehouse);
    // Another process knows what the tables have from the tables alone.
    let lakehouse = kept(directory.path()).await;
    assert!(refreshed(&lakehouse).await.unchanged);
    append(&lakehouse, 3).await;
    assert_eq!(refreshed(&lakehouse).await.tables_rebuilt, 0);
    holds(&lakehouse).await;
}

/// What somebody did to a table by hand is told with its key, and put right by the next run that brings something to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_changed_by_hand_are_put_right() {
    let directory = TempDir::new().unwrap();
    let lakehouse = kept(directory.path()).await;
    append(&lakehouse, 0).await;
    refreshed(&lakehouse).await;
    std::fs::remove_dir_all(directory.path().join("lake/delta/gold/revenue")).unwrap();
    let wrong: Vec<_> = lakehouse.verify(&[]).await.unwrap().into_iter().filter(|model| !model.holds()).collect();
    let told: Vec<_> = wrong.iter().map(|model| (model.model.as_str(), model.differences[0].to_string())).collect();
    assert_eq!(told, [("gold.revenue", "delta: the table, or a part of it, is not there".to_owned())]);
    assert_eq!(refreshed(&lakehouse).await.tables_rebuilt, 1, "without an event more");
    holds(&lakehouse).await;

    let script = "import sys, deltalake\n\
                  table = deltalake.DeltaTable(sys.argv[1])\n\
                  row = table.to_pyarrow_table().slice(0, 1)\n\
                  deltalake.write_deltalake(sys.argv[1], row, mode='append')\n\
                  print(row['user_id'][0].as_py())";
    let table = directory.path().join("lake/delta/gold/user_activity");
    let said = Command::new(python().unwrap()).args(["-c", script]).arg(&table).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let user = String::from_utf8(said.stdout).unwrap();
    let wrong: Vec<_> = lakehouse.verify(&[]).await.unwrap().into_iter().filter(|model| !model.holds()).collect();
    let told: Vec<_> = wrong.iter().map(|model| model.differences[0].to_string()).collect();
    assert_eq!(told, [format!("delta: user_id={} has other values", user.trim())]);
    refreshed(&lakehouse).await;
    holds(&lakehouse).await;

    // A file of a table that is gone is told, and written again by a replay.
    let table = directory.path().join("lake/delta/gold/daily_activity");
    let is_data = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    let mut files = std::fs::read_dir(&table).unwrap().map(|entry| entry.unwrap().path()).filter(is_data);
    std::fs::write(files.next().unwrap(), "no parquet").unwrap();
    let wrong: Vec<_> = lakehouse.verify(&[]).await.unwrap().into_iter().filter(|model| !model.holds()).collect();
    assert_eq!(wrong.iter().map(|model| model.model.as_str()).collect::<Vec<_>>(), ["gold.daily_activity"]);
    lakehouse.replay(&lakebed_query::Replay::default(), &()).await.unwrap();
    holds(&lakehouse).await;

    // A table that another process made anew is not taken for the one that was seen.
    std::fs::remove_dir_all(&table).unwrap();
    refreshed(&kept(directory.path()).await).await;
    append(&lakehouse, 1).await;
    refreshed(&lakehouse).await;
    holds(&lakehouse).await;

    // A table of somebody else's, and one of another lake, are left alone.
    let other = TempDir::new().unwrap();
    let stranger = kept(other.path()).await;
    append(&stranger, 0).await;
    let there = other.path().join("lake/delta/gold/revenue");
    std::fs::create_dir_all(there.parent().unwrap()).unwrap();
    let copied =
        Command::new("cp").arg("-r").arg(directory.path().join("lake/delta/gold/revenue")).arg(&there).status();
    assert!(copied.unwrap().success());
    let error = stranger.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(error, Error::DeltaTaken { .. }) && error.is_of_a_sink() && error.hint().is_some(), "{error}");
    std::fs::remove_dir_all(&there).unwrap();
    let script = "import sys, deltalake, pyarrow\n\
                  deltalake.write_deltalake(sys.argv[1], pyarrow.table({'x': [7]}))";
    let made = Command::new(python().unwrap()).args(["-c", script]).arg(&there).status().unwrap();
    assert!(made.success());
    let error = stranger.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(&error, Error::TableTaken { table } if table == "gold.revenue"), "{error}");
    std::fs::remove_dir_all(&there).unwrap();
    refreshed(&stranger).await;
    holds(&stranger).await;
}

/// Every kind of column, with and without a key; and a changed model, which becomes another table in one version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_through_and_a_changed_model_is_swapped_in() {
    const COLUMNS: &str = "[columns]\nn = \"BIGINT\"\nx = \"DOUBLE\"\nd = \"DECIMAL(20,3)\"\ns = \"VARCHAR\"\n";
    let directory = TempDir::new().unwrap();
    write(directory.path(), "lakebed.toml", &format!("{COLUMNS}[models]\nsinks = \"delta\"\n"));
    write(
        directory.path(),
        "sql/silver/types.sql",
        "SELECT event_id, arrow_cast(n, 'UInt64') AS u, arrow_cast(n, 'UInt8') AS tiny, CAST(n AS INTEGER) AS i, x, \
         CAST(x AS REAL) AS r, d, CAST(d AS DECIMAL(38,3)) AS wide, s, s || chr(0) AS nul, n > 1 AS b, event_date, event_time, \
         arrow_cast(event_time, 'Timestamp(Nanosecond, None)') AS naive, CAST('01:02:03.5' AS TIME) AS t, \
         arrow_cast(s, 'Binary') AS bytes, make_array(n, NULL, 7) AS list, named_struct('a', n, 'b', s) AS pair, \
         map(['k'], [n]) AS map, arrow_cast(s, 'Dictionary(Int32, Utf8)') AS dictionary, \
         x / 0.0 AS infinite, NULL AS nothing FROM bronze.events",
    );
    write(
        directory.path(),
        "sql/gold/by_s.sql",
        "SELECT s, x, count(*) AS events, sum(n) AS n FROM bronze.events GROUP BY s, x",
    );
    write(directory.path(), "sql/gold/no_key.sql", "SELECT s, sum(x) OVER (PARTITION BY s) AS x FROM bronze.events");
    let lakehouse = open(directory.path()).await;
    for step in 0..4i64 {
        let event = |event: i64| {
            let s = ["null", "\"a\"", "\"ä€😀\\u0000'\\\\u0000\""][event as usize % 3];
            let x = ["null", "-0.0", "0.0", "1.5", "1e308", "-2.5e-300"][event as usize % 6];
            let (n, time) = (event % 7 + step, 1_700_000_000 + event);
            format!(
                "{{\"event_id\":\"{step}-{event}\",\"event_type\":\"t\",\"event_time\":{time},\"n\":{n},\"x\":{x},\"d\":{n}.125,\"s\":{s}}}\n"
            )
        };
        bring(&lakehouse, step, &(0..40).map(event).collect::<String>(), &settings_of(COLUMNS)).await;
        refreshed(&lakehouse).await;
        holds(&lakehouse).await;
    }
    drop(lakehouse);
    write(
        directory.path(),
        "sql/gold/by_s.sql",
        "SELECT s, count(*) AS events, 'new' AS kind FROM bronze.events GROUP BY s",
    );
    let lakehouse = open(directory.path()).await;
    let published = refreshed(&lakehouse).await;
    assert_eq!((published.tables_rebuilt, published.tables_changed), (1, 0));
    holds(&lakehouse).await;
    assert_eq!(versions(directory.path(), "gold/by_s"), 5);
    drop(lakehouse);
    // Delta has no intervals.
    write(
        directory.path(),
        "sql/gold/span.sql",
        "SELECT s, max(event_time) - min(event_time) AS span FROM bronze.events GROUP BY s",
    );
    let error = open(directory.path()).await.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(&error, Error::UnsupportedColumn { column, .. } if column == "span"), "{error}");
}

/// Small epochs: few files, a checkpoint after fifty versions, and two publishers at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_small_epochs_by_two_publishers_leave_few_files() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "lakebed.toml", "[columns]\nuser = \"VARCHAR\"\n[models]\nsinks = \"delta\"\n");
    write(directory.path(), "sql/silver/seen.sql", "SELECT event_id, event_type FROM bronze.events");
    write(directory.path(), "sql/gold/types.sql", "SELECT event_type, count(*) AS events FROM silver.seen GROUP BY 1");
    let (one, other) = (open(directory.path()).await, open(directory.path()).await);
    for step in 0..60i64 {
        let event = format!("{{\"event_id\":\"{step}\",\"event_type\":\"t{}\",\"event_time\":{step}}}\n", step % 3);
        bring(&one, step, &event, &settings_of("[columns]\nuser = \"VARCHAR\"\n")).await;
        let (left, right) = tokio::join!(one.refresh(&[], &()), other.refresh(&[], &()));
        left.unwrap();
        right.unwrap();
    }
    holds(&one).await;
    holds(&other).await;
    let table = directory.path().join("lake/delta/silver/seen");
    assert!(table.join("_delta_log/_last_checkpoint").exists());
    let script = "import sys, deltalake\nprint(len(deltalake.DeltaTable(sys.argv[1]).file_uris()))";
    let said = Command::new(python().unwrap()).args(["-c", script]).arg(&table).output().unwrap();
    // Who opens it from its checkpoint finds what it has.
    let third = open(directory.path()).await;
    assert!(refreshed(&third).await.unchanged);
    holds(&third).await;
    let files: usize = String::from_utf8(said.stdout).unwrap().trim().parse().unwrap();
    assert!(files <= 7, "{files} files for 60 epochs of a row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lake_in_a_bucket_has_its_tables_there() {
    let (directory, bucket) = (TempDir::new().unwrap(), Bucket::new());
    let lakehouse = project_over(directory.path(), |config| {
        (config.lake, config.s3) = (bucket.url(), bucket.settings());
        config.sinks = vec![SinkKind::Delta];
    })
    .await;
    for batch in 0..3 {
        append(&lakehouse, batch).await;
        assert_eq!(refreshed(&lakehouse).await.place, format!("{}/delta", bucket.url()));
        holds(&lakehouse).await;
    }
    let objects = lakehouse.log().store().list(&layout::DELTA.into()).await.unwrap();
    assert!(objects.iter().any(|object| object.location.as_ref().starts_with("delta/gold/revenue/_delta_log/")));
}

/// Answers of the store are lost, requests refused and connections cut, in the middle of commits: a table is never without a file
/// that it names, and no row is in it twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_a_store_leave_every_table_whole() {
    const COLUMNS: &str = "[columns]\nuser = \"VARCHAR\"\n";
    let (directory, bucket) = (TempDir::new().unwrap(), Bucket::new());
    write(directory.path(), "lakebed.toml", &format!("{COLUMNS}[models]\nsinks = \"delta\"\n"));
    write(directory.path(), "sql/silver/seen.sql", "SELECT event_id, event_type FROM bronze.events");
    write(directory.path(), "sql/gold/types.sql", "SELECT event_type, count(*) AS events FROM silver.seen GROUP BY 1");
    let mut config = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap();
    (config.lake, config.s3) = (bucket.url(), bucket.settings());
    let project = || Project::load(directory.path(), config.clone()).unwrap();
    let lakehouse = Lakehouse::open_or_create(project(), at(0)).await.unwrap();
    for step in 0..12i64 {
        let event = format!("{{\"event_id\":\"{step}\",\"event_type\":\"t{}\",\"event_time\":{step}}}\n", step % 3);
        bring(&lakehouse, step, &event, &settings_of(COLUMNS)).await;
        bucket.set_faults(Faults { seed: step as u64, fail: 0.05, lose: 0.15, cut: 0.1, ..Faults::default() });
        // It may fail: then the next one makes it good.
        let _ = lakehouse.refresh(&[], &()).await;
        bucket.set_faults(Faults::default());
        refreshed(&lakehouse).await;
        holds(&lakehouse).await;
    }
    let fresh = Lakehouse::open_or_create(project(), at(0)).await.unwrap();
    assert!(refreshed(&fresh).await.unchanged);
    holds(&fresh).await;
}

/// deltalake, polars and DuckDB (and Spark, in the long run) read what DataFusion reads: every row, every column.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_know_nothing_of_lakebed_read_them() {
    let directory = TempDir::new().unwrap();
    let lakehouse = kept(directory.path()).await;
    for batch in 0..4 {
        append(&lakehouse, batch).await;
        refreshed(&lakehouse).await;
    }
    let mut expected = serde_json::Map::new();
    for model in &lakehouse.project().models {
        expected.insert(model.name.to_string().replace('.', "/"), facts(&lakehouse, &model.name.to_string()).await);
    }
    let facts = directory.path().join("expected.json");
    std::fs::write(&facts, Value::from(expected).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/published_tables.py");
    let tables = directory.path().join("lake/delta");
    let mut asked = vec![(python().unwrap(), Vec::new())];
    if long() {
        let (python, jars) = spark().unwrap();
        asked.push((python, vec!["--spark".into(), jars]));
    }
    for (python, more) in asked {
        let said = Command::new(python).arg(&script).arg(&tables).arg(&facts).args(&more).output().unwrap();
        let told = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{told}");
    }
}

/// Of a table: its rows, how many values each column has, and the sums of its whole numbers.
async fn facts(lakehouse: &Lakehouse, table: &str) -> Value {
    let rows = number(lakehouse, None, &format!("SELECT count(*) FROM {table}")).await;
    let session = lakehouse.read(None).await.unwrap();
    let about = session.tables().iter().find(|about| format!("{}.{}", about.schema, about.name) == table).unwrap();
    let (mut filled, mut sums) = (serde_json::Map::new(), serde_json::Map::new());
    for field in about.columns.fields() {
        let name = field.name();
        filled.insert(
            name.clone(),
            number(lakehouse, None, &format!("SELECT count(\"{name}\") FROM {table}")).await.into(),
        );
        if *field.data_type() == DataType::Int64 {
            let sum = query(lakehouse, None, &format!("SELECT coalesce(sum(\"{name}\"), 0) FROM {table}")).await;
            let sum = cast(sum[0].column(0), &DataType::Int64).unwrap();
            sums.insert(name.clone(), sum.as_primitive::<Int64Type>().value(0).into());
        }
    }
    json!({"rows": rows, "filled": filled, "sums": sums})
}
