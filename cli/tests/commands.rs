//! The binary as people use it: what each mistake says and exits with, and what a kill or a full disk leaves behind.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expects by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const LAKEBED: &str = env!("CARGO_BIN_EXE_lakebed");

/// A directory with a fresh project in it.
struct Shop(TempDir);

impl Shop {
    fn new() -> Self {
        let shop = Self(tempfile::tempdir().unwrap());
        let init = Command::new(LAKEBED).args(["init", "shop"]).current_dir(shop.0.path()).output().unwrap();
        assert!(init.status.success(), "{}", stderr(&init));
        shop
    }

    /// A project whose log has 300 events and whose tables are refreshed.
    fn with_tables() -> Self {
        let shop = Self::new();
        let events = shop.events(300);
        shop.done(&["ingest", events.to_str().unwrap()]);
        shop.done(&["run"]);
        shop
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("shop")
    }

    fn events(&self, count: u64) -> PathBuf {
        let file = self.0.path().join(format!("{count}.ndjson"));
        self.done(&["generate", "--events", &count.to_string(), "--to", file.to_str().unwrap()]);
        file
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LAKEBED);
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must fail with this exit code, one sentence and, with a hint, what to do; gives both lines.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
        assert!(said.starts_with("error: "), "{arguments:?}: {said}");
        assert!(said.lines().count() <= 2 || code == 2, "{arguments:?} says too much: {said}");
        said
    }

    fn count(&self) -> String {
        self.done(&["query", "SELECT count(*) AS n FROM bronze.events", "-o", "json"]).trim().to_owned()
    }

    fn edit(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All of `parts` are in what was said.
#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}

#[test]
fn a_wrong_command_line_exits_2() {
    let shop = Shop::new();
    says(&shop.fails(&["qurey", "SELECT 1"], 2), &["qurey", "similar subcommand", "query"]);
    says(&shop.fails(&["ingest", "--sorce", "x"], 2), &["--sorce"]);
    says(&shop.fails(&["query", "SELECT 1", "--as-of", "yesterday"], 2), &["neither a version nor a time"]);
    says(&shop.fails(&["ingest", "a", "b", "--batch-id", "x"], 2), &["hint: "]);
}

#[test]
fn what_is_missing_is_named() {
    let shop = Shop::new();
    let nowhere = shop.0.path().join("nowhere");
    let said = shop.fails(&["--project", nowhere.to_str().unwrap(), "run"], 1);
    says(&said, &["is not a lakebed project", "hint: ", "lakebed init"]);
    says(&shop.fails(&["query", "SELECT 1"], 1), &["there is no log", "lakebed ingest"]);
    says(&shop.fails(&["ingest", "missing.ndjson"], 1), &["missing.ndjson", "hint: "]);
    assert!(!shop.path().join("lake/events").exists() || shop.count() == r#"[{"n":0}]"#, "nothing half-written");
}

#[test]
fn a_wrong_setting_is_named_with_its_line() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[lake]\nurll = \"./lake\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:4", "urll", "did you mean", "url"]);
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[columns]\nprice = \"DECIMALS(3)\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:4", "DECIMALS(3)"]);
    shop.edit("lakebed.toml", "[project\nname = \"shop\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:1"]);
}

#[test]
fn a_wrong_model_is_named_with_its_line() {
    let shop = Shop::new();
    shop.edit("sql/gold/extra.sql", "SELECT user_id\nFROM silver.evnts");
    says(&shop.fails(&["run"], 1), &["extra.sql:2", "silver.evnts", "did you mean 'silver.events'?"]);
    shop.edit("sql/gold/extra.sql", "SELECT\n    contry\nFROM silver.events");
    says(&shop.fails(&["run"], 1), &["extra.sql:2", "contry", "did you mean 'country'?"]);
    shop.edit("sql/gold/extra.sql", "SELECT * FROM gold.circle");
    shop.edit("sql/gold/circle.sql", "SELECT * FROM gold.extra");
    says(&shop.fails(&["run"], 1), &["circle", "gold.circle → gold.extra → gold.circle"]);
    fs::remove_file(shop.path().join("sql/gold/circle.sql")).unwrap();
    shop.edit("sql/gold/extra.sql", "SELECT random() AS r FROM silver.events");
    says(&shop.fails(&["run"], 1), &["extra.sql", "random()", "no function of the log"]);
}

#[test]
fn a_wrong_query_is_answered_with_the_nearest_name() {
    let shop = Shop::with_tables();
    says(
        &shop.fails(&["query", "SELECT * FROM gold.revenu"], 1),
        &["no table 'gold.revenu'", "did you mean 'gold.revenue'?"],
    );
    says(
        &shop.fails(&["query", "SELECT contry FROM gold.revenue"], 1),
        &["no column 'contry'", "did you mean 'country'?"],
    );
    says(&shop.fails(&["query", "DROP TABLE gold.revenue"], 1), &["would write"]);
    says(&shop.fails(&["query", "SELECT 1", "--as-of", "99"], 1), &["no version 99", "log show"]);
    says(&shop.fails(&["run", "gold.revenu"], 1), &["did you mean 'gold.revenue'?"]);
}

#[test]
fn another_lake_than_ours_is_left_alone() {
    let (ours, theirs) = (Shop::with_tables(), Shop::new());
    theirs.edit("lakebed.toml", "[project]\nname = \"other\"\n");
    let lake = ours.path().join("lake");
    let said = theirs.fails(&["--lake", lake.to_str().unwrap(), "ingest", "/dev/null"], 1);
    says(&said, &["belongs to the project 'shop', not to 'other'", "hint: "]);
    let identity = fs::read_to_string(lake.join("lake.json")).unwrap();
    fs::write(lake.join("lake.json"), identity.replace("\"format\":1", "\"format\":2")).unwrap();
    says(&ours.fails(&["run"], 1), &["has format 2", "formats up to 1", "newer lakebed"]);
}

#[test]
fn events_that_cannot_be_read_are_counted_and_the_rest_is_kept() {
    let shop = Shop::new();
    shop.edit(
        "mixed.ndjson",
        "{\"event_id\":\"1\",\"event_type\":\"t\",\"event_time\":\"2026-11-01T00:00:00Z\"}\nnot json\n",
    );
    let row = shop.done(&["ingest", "mixed.ndjson", "-o", "json"]);
    says(&row, &["\"accepted\":1", "\"quarantined\":1", "\"duplicates\":0"]);
    assert_eq!(shop.count(), r#"[{"n":1}]"#);
    says(&shop.done(&["ingest", "mixed.ndjson", "-o", "json"]), &["\"accepted\":0", "\"duplicates\":2"]);
    shop.edit("worse.ndjson", "still not json\n");
    says(&shop.fails(&["ingest", "--strict", "worse.ndjson", "-q"], 1), &["1 of 1 events went to quarantine"]);
}

#[test]
fn the_log_is_kept_up_by_commands() {
    let shop = Shop::new();
    for count in [100, 200, 300] {
        shop.done(&["ingest", shop.events(count).to_str().unwrap(), "--ack", "durable"]);
    }
    assert_eq!(shop.count(), r#"[{"n":0}]"#, "durable, and not yet in the log");
    shop.done(&["log", "recover"]);
    assert_eq!(shop.count(), r#"[{"n":600}]"#);
    let compact = shop.command(&["log", "compact"]).output().unwrap();
    says(&stderr(&compact), &["files", "→", "checkpoint at version"]);
    assert_eq!(shop.count(), r#"[{"n":600}]"#);
    let objects = shop.done(&["log", "show", "--objects", "-o", "csv"]);
    says(&objects, &["checkpoint,2,", "replaced data file,", "receipt,3,"]);
    let vacuum = shop.command(&["log", "vacuum", "--retain", "1h"]).output().unwrap();
    assert!(vacuum.status.success() && stderr(&vacuum).contains("deleted 0 files"), "{}", stderr(&vacuum));
    says(&shop.fails(&["log", "vacuum", "--retain", "0h"], 2), &["an hour at least"]);
    says(&shop.fails(&["log", "vacuum", "--retain", "soon"], 2), &["'soon' is not a time such as 7d or 12h"]);
    shop.done(&["run"]);
    shop.done(&["verify"]);
}

#[test]
fn a_lake_at_no_place_is_refused() {
    let shop = Shop::new();
    let said = shop.fails(&["--lake", "s3://", "run"], 1);
    says(&said, &["'s3://' is no place for a lake: it names no bucket", "hint: "]);
    let mut run = shop.command(&["--lake", "gs://bucket", "run"]);
    says(&stderr(&run.output().unwrap()), &["neither a local directory nor s3://", "hint: "]);
}

/// Killed again and again at different moments, then run once to its end: the events are all there, once.
#[test]
fn a_demo_that_is_killed_is_finished_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let demo = || {
        let mut demo = Command::new(LAKEBED);
        demo.args(["demo", "--events", "30000", "-q"]).current_dir(directory.path());
        demo.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
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
    let query = |sql: &str| {
        let project = ["--project", "lakebed-demo", "query", sql, "-o", "csv"];
        let output = Command::new(LAKEBED).args(project).current_dir(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap().lines().last().unwrap_or_default().to_owned()
    };
    let events = query("SELECT count(*), count(DISTINCT event_id), max(_offset) + 1 FROM bronze.events");
    let counts: Vec<u64> = events.split(',').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 0 && counts[0].is_multiple_of(30_000), "{counts:?}: whole stretches");
    assert_eq!(counts, [counts[0]; 3], "each event once, offsets dense");
    assert_eq!(query("SELECT count(*) FROM silver.events"), counts[0].to_string());
}

/// Runs a shell script as root of a user namespace of its own, where a small file system can be mounted; where it cannot, the
/// script exits with 77.
#[cfg(target_os = "linux")]
fn in_namespace(script: &str, directory: &Path) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.args(["--map-root-user", "--mount", "sh", "-euc", script]).current_dir(directory);
    unshare.env("LAKEBED", LAKEBED).stdin(Stdio::null());
    let output = unshare.output().expect("`unshare` of util-linux, to mount a small file system for this test");
    let mounted = output.status.code() != Some(77);
    assert!(mounted, "a file system cannot be mounted here, run this test where it can: {}", stderr(&output));
    output
}

/// A lake on a file system of 3 MiB: the append that no longer fits says so, and what was there is whole.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing() {
    let shop = Shop::new();
    let (small, large) = (shop.events(500), shop.events(60_000));
    fs::create_dir(shop.path().join("full")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=3m tmpfs full || exit 77
         \"$LAKEBED\" --lake full ingest -q '{}'
         code=0; \"$LAKEBED\" --lake full ingest -q '{}' || code=$?
         test $code = 1 || {{ echo \"exit code $code\"; exit 1; }}
         \"$LAKEBED\" --lake full query -o csv 'SELECT count(*), count(DISTINCT _offset), max(_offset) + 1 FROM bronze.events'",
        small.display(),
        large.display(),
    );
    let output = in_namespace(&script, &shop.path());
    let said = stderr(&output);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    says(&said, &["error: no space left for", "hint: free some space"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<u64> = stdout.lines().last().unwrap().split(',').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] >= 500 && counts == [counts[0]; 3], "{counts:?}: what was acknowledged is there, once");
}

/// A lake that may be read and not written.
#[cfg(target_os = "linux")]
#[test]
fn no_permission_is_said_and_changes_nothing() {
    let shop = Shop::with_tables();
    let events = shop.events(400);
    let script = format!(
        "mount --bind lake lake && mount -o remount,ro,bind lake || exit 77
         \"$LAKEBED\" ingest -q '{}'",
        events.display(),
    );
    let output = in_namespace(&script, &shop.path());
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    says(&said, &["error: no permission", "hint: grant"]);
    assert_eq!(shop.count(), r#"[{"n":300}]"#);
}
