//! The first thing that anybody runs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::shop::{LAKEBED, says, stderr};

fn demo(directory: &Path, events: u64) -> Command {
    let mut demo = Command::new(LAKEBED);
    demo.args(["demo", "--events", &events.to_string()]).current_dir(directory).stdin(Stdio::null());
    demo
}

/// The last line of an answer as CSV.
fn query(directory: &Path, sql: &str) -> String {
    let project = ["--project", "lakebed-demo", "query", sql, "-o", "csv"];
    let output = Command::new(LAKEBED).args(project).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap().lines().last().unwrap_or_default().to_owned()
}

#[test]
fn it_shows_what_came_out_and_what_to_type_next() {
    let directory = tempfile::tempdir().unwrap();
    // Settings of another project change nothing here.
    let elsewhere = directory.path().join("elsewhere");
    let run = || {
        let output = demo(directory.path(), 3_000).env("LAKEBED_LAKE_URL", &elsewhere).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run();
    let tables =
        ["daily_activity", "revenue", "user_activity", "page_engagement", "hourly_traffic", "conversion_funnel"];
    for table in tables.iter().chain(&["cohort_retention"]) {
        says(&first, &[&format!("gold.{table}: ")]);
    }
    says(&first, &["appended    3000 events in ", "events/s (0 quarantined)", "MB of JSON in, ", " to 1\n"]);
    says(&first, &["refreshed   12 models in ", "memory      ", "log         version 1\n"]);
    let published = directory.path().join("lakebed-demo/lake/published/lakebed.duckdb");
    says(&first, &[&format!("ATTACH '{}' AS lake (READ_ONLY)", published.canonicalize().unwrap().display())]);
    says(&first, &["serve --watch", "grpc://127.0.0.1:31337, a console at http://127.0.0.1:8080/", "query --as-of 1 "]);
    assert_eq!(query(directory.path(), "SELECT count(*) FROM silver.events"), "3000");

    // What a maintainer or somebody else's events do to the log is no part of the feed that is missing.
    let own = directory.path().join("own.ndjson");
    std::fs::write(&own, r#"{"event_id":"own","event_type":"t","event_time":"2026-11-01T00:00:00Z"}"#).unwrap();
    let mut ingest = Command::new(LAKEBED);
    ingest.args(["--project", "lakebed-demo", "ingest", "own.ndjson"]).current_dir(directory.path());
    assert!(ingest.status().unwrap().success());
    says(&run(), &["appended    3000 events in "]);
    assert_eq!(query(directory.path(), "SELECT count(*) FROM silver.events"), "6001");
    let in_it: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(in_it.len(), 2, "everything is in ./lakebed-demo: {in_it:?}");
    let refused = demo(directory.path(), 10).args(["--lake", "x"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    says(&stderr(&refused), &["the demo works in ./lakebed-demo", "hint: "]);
}

/// Killed again and again at different moments, then run once to its end: the events are all there, once.
#[test]
fn one_that_is_killed_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let demo = || {
        let mut demo = demo(directory.path(), 30_000);
        demo.arg("-q").stdout(Stdio::null()).stderr(Stdio::piped());
        demo
    };
    for millis in [50, 400, 900, 1500] {
        let mut child = demo().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        // It may have come to its end before; then the next one begins another stretch.
        let _ = child.kill();
        child.wait().unwrap();
    }
    let last = demo().output().unwrap();
    assert!(last.status.success(), "{}", stderr(&last));
    let events =
        query(directory.path(), "SELECT count(*), count(DISTINCT event_id), max(_offset) + 1 FROM bronze.events");
    let counts: Vec<u64> = events.split(',').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 0 && counts[0].is_multiple_of(30_000), "{counts:?}: whole stretches");
    assert_eq!(counts, [counts[0]; 3], "each event once, offsets dense");
    assert_eq!(query(directory.path(), "SELECT count(*) FROM silver.events"), counts[0].to_string());
}
