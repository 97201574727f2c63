//! Engines that know nothing of lakebed, and what they must find in a log: what its Parquet files hold.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, AsArray};
use arrow::compute::{cast, sum};
use arrow::datatypes::{DataType, Float64Type};
use chrono::DateTime;
use lakebed_log::{Claims, Log, layout, schema};
use serde_json::{Value, json};

use crate::long;
use crate::python::{python, spark};
use crate::rows::{file, rows};

/// Asks deltalake, pyarrow, polars and DuckDB for every row and column of the log in `directory`, newest and as of each
/// version from `since` on; `summed` is a column of whole numbers. Before a compaction `_offset` is null for them.
///
/// # Panics
/// Where one of them sees something else, with what it saw.
pub async fn readers_agree(log: &Log, directory: &Path, summed: &str, since: u64) {
    let facts = directory.join("expected.json");
    let expected = expected(log, summed, since).await;
    std::fs::write(&facts, expected.to_string()).expect("a file can be written beside the log");
    let python = python().expect("the python environment of the tests is there");
    ask(&python, "foreign_readers.py", directory, &facts, &[]).await;
    if long() {
        let (python, jars) = spark().expect("the environment with Spark is there");
        ask(&python, "spark_reader.py", directory, &facts, &[jars]).await;
    }
}

async fn ask(python: &Path, script: &str, directory: &Path, facts: &Path, more: &[PathBuf]) {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script));
    command.arg(directory.join(layout::TABLE)).arg(facts).args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the thread lives");
    let output = output.expect("python starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn names(claims: &Claims) -> Vec<String> {
    schema::table(claims).fields().iter().map(|field| field.name().clone()).collect()
}

async fn expected(log: &Log, summed: &str, since: u64) -> Value {
    let snapshot = log.snapshot().await.expect("the log can be read");
    let (mut total, mut by_date) = (0.0, BTreeMap::<String, u64>::new());
    let mut filled: BTreeMap<String, u64> = names(&snapshot.claims).into_iter().map(|name| (name, 0)).collect();
    for data in &snapshot.files {
        let read = file(log, data).await;
        if let Some(numbers) = read.column_by_name(summed) {
            let numbers = cast(numbers, &DataType::Float64).expect("it is a column of numbers");
            total += sum(numbers.as_primitive::<Float64Type>()).unwrap_or_default();
        }
        for (name, filled) in &mut filled {
            *filled += match (name.as_str(), read.column_by_name(name)) {
                (schema::EVENT_DATE, _) => data.staged.rows,
                (_, Some(column)) => (column.len() - column.null_count()) as u64,
                (_, None) => 0,
            };
        }
    }
    let all = rows(log, &snapshot).await;
    for row in &all {
        let time = DateTime::from_timestamp_micros(row.event_time).expect("a time of an event");
        *by_date.entry(time.date_naive().to_string()).or_default() += 1;
    }
    let times = || all.iter().map(|row| row.event_time);
    let (mut claims, mut versions) = (Claims::default(), Vec::new());
    for (version, entry) in log.versions(u64::MAX).await.expect("the log can be read") {
        claims = entry.claims.unwrap_or(claims);
        if version >= since.max(1) {
            let (rows, millis) = (entry.record.next_offset, entry.time.timestamp_millis());
            versions.push(json!({"version": version, "rows": rows, "columns": names(&claims), "time_ms": millis}));
        }
    }
    json!({
        "version": snapshot.version,
        "columns": names(&snapshot.claims),
        "rows": all.len(),
        "rows_by_date": by_date,
        "sum": {"column": summed, "value": total},
        "event_time_us": {"min": times().min(), "max": times().max()},
        "filled": filled,
        "versions": versions,
    })
}
