//! Engines that know nothing of lakebed read the log and see what was written; foreign writers are refused.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use arrow::array::Int64Array;
use lakebed_log::{Ack, Log, Snapshot, layout};
use lakebed_tests::batches::{at, decoded, generated, starter_settings};
use lakebed_tests::lake::Lake;
use lakebed_tests::python::python;
use lakebed_tests::rows::{column, file, rows};
use serde_json::{Value, json};

/// The column whose sum is compared: whole numbers.
const SUMMED: &str = "engagement_duration_ms";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_see_what_was_written() {
    let lake = Lake::local();
    let log = lake.open().await;
    let (plain, drifting) = (Default::default(), lakebed_generator::Settings { drift: true, ..Default::default() });
    let mut names = Vec::new();
    // From the third batch on there are columns that were not there before.
    for (number, feed) in (0u64..).zip([&plain, &plain, &drifting, &drifting]) {
        let text = generated(feed, number * 900, 900);
        let batch = Arc::new(decoded(&format!("b{number}"), &text, &starter_settings()));
        assert_eq!(batch.events.len(), 900);
        log.append(&batch, Ack::Committed, at(60 * (number as i64 + 1))).await.unwrap();
        names.push(columns(&log.snapshot().await.unwrap()));
    }
    assert!(names[1].len() < names[3].len(), "a later batch added columns");
    let expected = expected(&log, &names).await;
    let directory = lake.directory().unwrap();
    let facts = directory.join("expected.json");
    std::fs::write(&facts, expected.to_string()).unwrap();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/foreign_readers.py");
    let mut command = Command::new(python().unwrap());
    command.arg(script).arg(directory.join(layout::TABLE)).arg(&facts);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn columns(snapshot: &Snapshot) -> Vec<String> {
    snapshot.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// What the readers must find, from the Parquet files alone.
async fn expected(log: &Log, names: &[Vec<String>]) -> Value {
    let snapshot = log.snapshot().await.unwrap();
    let (mut sum, mut by_date) = (0, BTreeMap::<String, u64>::new());
    for data in &snapshot.files {
        let read = file(log, data).await;
        let numbers: &Int64Array = column(&read, SUMMED);
        sum += numbers.iter().flatten().sum::<i64>();
        *by_date.entry(data.staged.event_date.to_string()).or_default() += data.staged.rows;
    }
    let all = rows(log, &snapshot).await;
    let times = || all.iter().map(|row| row.event_time);
    let versions = log.versions().await.unwrap();
    let versions = versions.iter().filter(|(version, _)| *version > 0).map(|(version, entry)| {
        let (rows, millis) = (entry.record.next_offset, entry.time.timestamp_millis());
        json!({"version": version, "rows": rows, "columns": names[*version as usize - 1], "time_ms": millis})
    });
    json!({
        "version": snapshot.version,
        "columns": columns(&snapshot),
        "rows": all.len(),
        "rows_by_date": by_date,
        "sum": {"column": SUMMED, "value": sum},
        "event_time_us": {"min": times().min(), "max": times().max()},
        "null_columns": ["_offset"],
        "versions": versions.collect::<Vec<_>>(),
    })
}
