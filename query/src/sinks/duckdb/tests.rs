//! What a publication does to the public file, its kept versions and its readers.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use chrono::{DateTime, TimeDelta};
use futures::stream::{BoxStream, StreamExt, iter, pending};

use super::database::Database;
use super::{DuckDbSink, Published};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::sinks::{Folded, Image, ReadRun, Run, TableImage};

/// What a child process of a test is to do; without it, its test does nothing.
const ROLE: &str = "LAKEBED_TEST_ROLE";
/// The file or directory that a child process works on.
const PLACE: &str = "LAKEBED_TEST_PLACE";

/// Runs held in memory.
#[derive(Default)]
struct MemoryRuns {
    runs: HashMap<String, RecordBatch>,
    /// Says so and never ends after the rows of this run.
    hangs_in: Option<String>,
}

impl ReadRun for MemoryRuns {
    fn read(&self, run: &Run) -> BoxStream<'static, Result<RecordBatch>> {
        let Some(batch) = self.runs.get(&run.path) else {
            let source = std::io::Error::other("the store is away");
            return iter([Err(Error::File { path: run.path.clone().into(), source })]).boxed();
        };
        let half = batch.num_rows() / 2;
        let rows = iter([Ok(batch.slice(0, half)), Ok(batch.slice(half, batch.num_rows() - half))]);
        if self.hangs_in.as_ref() == Some(&run.path) {
            println!("\nhanging");
            return rows.chain(pending()).boxed();
        }
        rows.boxed()
    }
}

/// A lake of one-column tables, and a directory to publish it in.
struct Lake {
    directory: tempfile::TempDir,
    keep: usize,
    runs: MemoryRuns,
}

impl Lake {
    fn new(keep: usize) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), keep, runs: MemoryRuns::default() }
    }

    fn sink(&self) -> DuckDbSink {
        DuckDbSink::new(self.directory.path().to_owned(), "lakebed", self.keep)
    }

    /// A run of `gold.NAME` with these rows.
    fn run(&mut self, path: &str, rows: impl IntoIterator<Item = i64>) -> Run {
        self.run_of(path, RecordBatch::try_from_iter([("n", int64(rows))]).unwrap())
    }

    fn run_of(&mut self, path: &str, batch: RecordBatch) -> Run {
        let rows = batch.num_rows() as u64;
        self.runs.runs.insert(path.to_owned(), batch);
        Run { path: path.to_owned(), rows, bytes: 0, folded: Vec::new() }
    }

    async fn publish(&self, version: u64, tables: Vec<TableImage>) -> Result<Published> {
        self.sink().publish(&image(version, tables), &self.runs).await
    }

    /// A lake with versions 1 to `version` published, each with one run of one row more in `gold.t`.
    async fn grown(keep: usize, version: u64) -> (Self, Vec<Run>) {
        let mut lake = Self::new(keep);
        let mut runs = Vec::new();
        for version in 1..=version {
            lake.grow(version, &mut runs).await.unwrap();
        }
        (lake, runs)
    }

    async fn grow(&mut self, version: u64, runs: &mut Vec<Run>) -> Result<Published> {
        runs.push(self.run(&format!("t/{version}"), [version as i64]));
        self.publish(version, vec![table("t", "f", runs)]).await
    }

    fn rows(&self, name: &str) -> Vec<i64> {
        rows(&self.sink(), name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn versions(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.file("versions"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn int64(rows: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows))
}

fn image(version: u64, tables: Vec<TableImage>) -> Image {
    let as_of = DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::seconds(version as i64);
    Image { version, as_of, tables }
}

fn table(name: &str, fingerprint: &str, runs: &[Run]) -> TableImage {
    let columns = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    let hash: String = runs.iter().flat_map(|run| run.path.bytes()).map(|byte| format!("{byte:02x}")).collect();
    TableImage {
        schema: "gold".to_owned(),
        name: name.to_owned(),
        description: Some(format!("The table '{name}'.")),
        columns: Arc::new(columns),
        fingerprint: fingerprint.to_owned(),
        runs: runs.to_vec(),
        rows: runs.iter().map(|run| run.rows).sum(),
        content_hash: format!("{hash:0>64}")[..64].parse().unwrap(),
    }
}

fn rows(sink: &DuckDbSink, name: &str) -> Vec<i64> {
    let mut rows = Vec::new();
    sink.read_table("gold", name, &mut |batch| {
        rows.extend(batch.column(0).as_primitive::<Int64Type>().values());
        Ok(())
    })
    .unwrap();
    rows.sort_unstable();
    rows
}

fn query(path: &Path, sql: &str) -> Vec<String> {
    let database = Database::open_for_reading(path.to_owned(), Path::new("")).unwrap();
    let mut answers = Vec::new();
    database
        .query(sql, &mut |batch| {
            let text = cast(batch.column(0), &DataType::Utf8).unwrap();
            answers.extend(text.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()));
            Ok(())
        })
        .unwrap();
    answers
}

/// Another process: DuckDB's locks do not count within one.
struct Other {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn start(role: &str, place: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sinks::duckdb::tests::another_process", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the other process ended before it said '{word}'");
        }
        line
    }

    fn finish(mut self, word: &str) -> String {
        self.process.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        let line = self.wait_for(word);
        assert!(self.process.wait().unwrap().success());
        line
    }
}

/// Not a test of its own: what [`Other`] runs.
#[test]
fn another_process() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    let place = PathBuf::from(place);
    if role == "publisher" {
        let sink = DuckDbSink::new(place, "lakebed", 2);
        let mut runs = MemoryRuns { hangs_in: Some("t/9".to_owned()), ..MemoryRuns::default() };
        let batch = RecordBatch::try_from_iter([("n", int64(0..5_000))]).unwrap();
        runs.runs.insert("t/9".to_owned(), batch);
        let run = Run { path: "t/9".to_owned(), rows: 5_000, bytes: 0, folded: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(sink.publish(&image(9, vec![table("t", "f", &[run])]), &runs)).unwrap();
        return;
    }
    let database = match role.as_str() {
        "reader" => Database::open_for_reading(place, Path::new("")),
        _ => Database::open(place, Path::new("")),
    }
    .unwrap();
    println!("\nholding");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let mut total = 0;
    database
        .query("SELECT sum(n)::BIGINT FROM published.gold.t", &mut |batch| {
            total = batch.column(0).as_primitive::<Int64Type>().value(0);
            Ok(())
        })
        .unwrap();
    println!("\nsum={total}.");
}

#[tokio::test]
async fn a_first_publication_makes_a_file_with_everything() {
    let mut lake = Lake::new(3);
    let runs = [lake.run("t/1", [1, 2, 3])];
    let published = lake.publish(7, vec![table("t", "f", &runs)]).await.unwrap();
    let path = lake.sink().path();
    assert_eq!(
        published,
        Published {
            version: 7,
            path: path.clone(),
            rows_written: 3,
            tables_rebuilt: 1,
            tables_appended: 0,
            unchanged: false
        }
    );
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    assert_eq!(lake.versions(), ["lakebed-7.duckdb"]);
    assert_eq!(query(&path, "SELECT comment FROM duckdb_tables() WHERE table_name = 't'"), ["The table 't'."]);
    let watermarks = lake.sink().watermarks().unwrap();
    assert_eq!(watermarks.len(), 1);
    assert_eq!((watermarks[0].model.as_str(), watermarks[0].version, watermarks[0].rows), ("gold.t", 7, 3));
    assert_eq!(watermarks[0].as_of, image(7, vec![]).as_of);
    assert_eq!(watermarks[0].content_hash, table("t", "f", &runs).content_hash);
}

#[tokio::test]
async fn only_missing_runs_are_written_into_whichever_file_is_brought_up_to_date() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    // Version 4 goes into the file of version 1, which lacks three runs.
    let published = lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_appended, published.tables_rebuilt), (3, 1, 0));
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    for version in 2..=4 {
        let kept = DuckDbSink::new(lake.directory.path().to_owned(), "lakebed", 3);
        let path = lake.file(&format!("versions/lakebed-{version}.duckdb"));
        let count = query(&path, "SELECT count(*) FROM published.gold.t");
        assert_eq!(count, [version.to_string()], "{:?}", kept.path());
        assert_eq!(query(&path, "SELECT version FROM published.lakebed.watermarks"), [version.to_string()]);
    }
    assert_eq!(lake.versions(), ["lakebed-2.duckdb", "lakebed-3.duckdb", "lakebed-4.duckdb"]);
}

#[tokio::test]
async fn the_number_of_kept_versions_is_kept() {
    for keep in [0, 1, 2, 5] {
        let (lake, _) = Lake::grown(keep, 7).await;
        let last = keep.max(1);
        let expected: Vec<String> = (8 - last..=7).map(|version| format!("lakebed-{version}.duckdb")).collect();
        assert_eq!(lake.versions(), expected, "keep = {keep}");
        assert_eq!(lake.rows("t"), [1, 2, 3, 4, 5, 6, 7]);
    }
    let (mut lake, mut runs) = Lake::grown(5, 6).await;
    lake.keep = 2;
    lake.grow(7, &mut runs).await.unwrap();
    assert_eq!(lake.versions(), ["lakebed-6.duckdb", "lakebed-7.duckdb"]);
}

#[tokio::test]
async fn another_fingerprint_or_a_run_that_went_rebuilds_the_table_and_no_other() {
    let mut lake = Lake::new(1);
    let (a, b) = (lake.run("a/1", [1]), lake.run("b/1", [10]));
    lake.publish(1, vec![table("a", "f", std::slice::from_ref(&a)), table("b", "f", std::slice::from_ref(&b))])
        .await
        .unwrap();

    let published =
        lake.publish(2, vec![table("a", "f", &[a]), table("b", "g", std::slice::from_ref(&b))]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt, published.tables_appended), (1, 1, 0));

    let rewritten = [lake.run("a/2", [2, 3])];
    let published = lake.publish(3, vec![table("a", "f", &rewritten), table("b", "g", &[b])]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (2, 1));
    assert_eq!((lake.rows("a"), lake.rows("b")), (vec![2, 3], vec![10]));
}

#[tokio::test]
async fn a_compaction_writes_no_row() {
    let mut lake = Lake::new(1);
    let runs = [lake.run("t/1", [1]), lake.run("t/2", [2])];
    let before = table("t", "f", &runs);
    lake.publish(1, vec![before.clone()]).await.unwrap();

    let folded = lake.run("t/1-2", [1, 2]);
    let after = TableImage { runs: vec![folded.clone()], ..before };
    assert_eq!(lake.publish(2, vec![after.clone()]).await.unwrap().rows_written, 0);

    let next = lake.run("t/3", [3]);
    let grown = TableImage { content_hash: TableHash::EMPTY, ..table("t", "f", &[folded, next]) };
    let published = lake.publish(3, vec![grown]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_appended), (1, 1));
    assert_eq!(lake.rows("t"), [1, 2, 3]);
}

#[tokio::test]
async fn a_folded_run_costs_the_rows_that_were_missed() {
    let mut lake = Lake::new(3);
    let parts: Vec<_> = (1..=4).map(|n| lake.run(&format!("t/{n}"), [n * 10, n * 10 + 1])).collect();
    // Three files in rotation, each with other runs of those that are folded.
    for (version, count) in [(1, 1), (2, 2), (3, 3)] {
        lake.publish(version, vec![table("t", "f", &parts[..count])]).await.unwrap();
    }
    let mut folded = lake.run("t/1-4", [10, 11, 20, 21, 30, 31, 40, 41]);
    folded.folded = parts.iter().map(|run| Folded { path: run.path.clone(), rows: run.rows }).collect();
    let mut runs = vec![folded];
    for (version, missed) in [(4, 6), (5, 4 + 2), (6, 2 + 4)] {
        let published = lake.publish(version, vec![table("t", "f", &runs)]).await.unwrap();
        assert_eq!((published.rows_written, published.tables_rebuilt), (missed, 0), "version {version}");
        runs.push(lake.run(&format!("t/{version}"), [version as i64 * 100, version as i64 * 100 + 1]));
    }
    assert_eq!(lake.rows("t"), [10, 11, 20, 21, 30, 31, 40, 41, 400, 401, 500, 501]);
    // Parts that are not the first ones cannot be told from the rest.
    let mut odd = lake.run("t/odd", [1, 2, 400, 401, 500, 501]);
    odd.folded = vec![Folded { path: "t/0".into(), rows: 2 }, Folded { path: "t/4".into(), rows: 2 }];
    let published = lake.publish(7, vec![table("t", "f", &[odd])]).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (6, 1));
}

#[tokio::test]
async fn a_table_that_went_from_the_image_goes_from_the_file() {
    let mut lake = Lake::new(2);
    let (a, b) = (lake.run("a/1", [1]), lake.run("b/1", [2]));
    lake.publish(1, vec![table("a", "f", std::slice::from_ref(&a)), table("b", "f", std::slice::from_ref(&b))])
        .await
        .unwrap();
    lake.publish(2, vec![table("a", "f", &[a])]).await.unwrap();
    assert_eq!(query(&lake.sink().path(), "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'gold'"), ["a"]);
    let read = lake.sink().read_table("gold", "b", &mut |_| Ok(()));
    assert!(matches!(read, Err(Error::UnknownTable { .. })), "{read:?}");
    // It comes back whole, also in a file that held it once.
    let a = lake.run("a/1", [1]);
    lake.publish(3, vec![table("a", "f", &[a]), table("b", "f", &[b])]).await.unwrap();
    assert_eq!(lake.rows("b"), [2]);
}

#[tokio::test]
async fn tables_without_rows_and_images_without_tables_are_published() {
    let mut lake = Lake::new(2);
    lake.publish(1, vec![]).await.unwrap();
    assert_eq!(lake.sink().watermarks().unwrap(), []);
    lake.publish(2, vec![table("t", "f", &[])]).await.unwrap();
    assert_eq!(lake.rows("t"), [0; 0]);
    let empty = lake.run("t/empty", []);
    let published = lake.publish(3, vec![table("t", "f", &[empty])]).await.unwrap();
    assert_eq!((published.rows_written, lake.rows("t")), (0, vec![]));
}

#[tokio::test]
async fn what_is_published_already_is_not_published_again() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let before = fs::metadata(lake.sink().path()).unwrap().modified().unwrap();
    let again = lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap();
    assert!(again.unchanged && again.version == 3 && again.rows_written == 0);
    let older = lake.publish(2, vec![table("t", "f", &runs[..2])]).await.unwrap();
    assert!(older.unchanged && older.version == 3, "an older image must not replace a later one");
    assert_eq!(fs::metadata(lake.sink().path()).unwrap().modified().unwrap(), before);

    let edited = lake.publish(3, vec![table("t", "g", &runs)]).await.unwrap();
    assert!(!edited.unchanged && edited.tables_rebuilt == 1);
    assert!(!lake.grow(4, &mut runs).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_lake_that_began_anew_replaces_the_old_one() {
    let (mut lake, _) = Lake::grown(3, 4).await;
    let runs = [lake.run("new/1", [100])];
    let mut first = image(1, vec![table("t", "f", &runs)]);
    first.as_of += TimeDelta::days(1);
    let published = lake.sink().publish(&first, &lake.runs).await.unwrap();
    assert!(!published.unchanged);
    assert_eq!((lake.rows("t"), lake.versions()), (vec![100], vec!["lakebed-1.duckdb".to_owned()]));
    assert!(lake.sink().publish(&first, &lake.runs).await.unwrap().unchanged);
}

#[tokio::test]
async fn a_reader_holds_its_version_while_others_are_published() {
    for keep in [1, 2, 3] {
        let (mut lake, mut runs) = Lake::grown(keep, 3).await;
        let mut reader = Other::start("reader", &lake.sink().path());
        reader.wait_for("holding");
        for version in 4..=9 {
            assert!(!lake.grow(version, &mut runs).await.unwrap().unchanged);
            assert_eq!(lake.rows("t"), (1..=version as i64).collect::<Vec<_>>(), "keep = {keep}");
            assert_eq!(lake.versions().len(), keep);
        }
        assert_eq!(reader.finish("sum=").trim(), "sum=6.", "the reader still sees version 3");
    }
}

#[tokio::test]
async fn a_file_that_this_process_reads_is_not_written_either() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let public = lake.sink().open_public().unwrap().unwrap();
    let held = lake.file("held");
    fs::hard_link(lake.sink().path(), &held).unwrap();
    let before = fs::read(&held).unwrap();
    for version in 4..=8 {
        lake.grow(version, &mut runs).await.unwrap();
    }
    assert!(fs::read(&held).unwrap() == before, "the file that is read was written");
    drop(public);
    assert_eq!(query(&held, "SELECT count(*) FROM published.gold.t"), ["3"]);
}

#[tokio::test]
async fn one_who_opened_the_public_file_for_writing_blocks_no_publication() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let mut writer = Other::start("writer", &lake.sink().path());
    writer.wait_for("holding");
    assert!(matches!(lake.sink().watermarks(), Err(Error::Held { .. })));
    assert!(lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 1);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    assert_eq!(writer.finish("sum=").trim(), "sum=6.");
}

#[tokio::test]
async fn what_a_foreign_writer_left_or_damaged_is_healed_by_the_next_publication() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let log = lake.file("lakebed.duckdb.wal");
    fs::write(&log, "of another file").unwrap();
    lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((lake.rows("t"), log.exists()), (vec![1, 2, 3, 4], false));

    let public = fs::read(lake.sink().path()).unwrap();
    let damaged: Vec<u8> = public.iter().enumerate().map(|(at, byte)| if at < 4_096 { *byte } else { !byte }).collect();
    fs::write(lake.sink().path(), damaged).unwrap();
    assert!(matches!(lake.sink().watermarks(), Err(Error::DuckDb { .. })));
    let published = lake.grow(5, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (5, 1));
    assert_eq!(lake.rows("t"), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_the_public_file_and_the_next_publication_whole() {
    let (mut lake, mut runs) = Lake::grown(2, 3).await;
    let mut publisher = Other::start("publisher", lake.directory.path());
    publisher.wait_for("hanging");
    publisher.process.kill().unwrap();
    publisher.process.wait().unwrap();
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    assert_eq!(lake.versions(), [".lakebed.work", "lakebed-3.duckdb"]);

    // The file in work was version 2: it lacks two runs.
    let published = lake.grow(4, &mut runs).await.unwrap();
    assert_eq!((published.rows_written, published.tables_rebuilt), (2, 0));
    assert_eq!(
        (lake.rows("t"), lake.versions()),
        (vec![1, 2, 3, 4], vec!["lakebed-3.duckdb".to_owned(), "lakebed-4.duckdb".to_owned()])
    );
}

#[tokio::test]
async fn what_a_kill_between_the_renames_leaves_is_finished() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    // Version 3 was renamed to its name, and not yet to the public one.
    fs::remove_file(lake.sink().path()).unwrap();
    fs::hard_link(lake.file("versions/lakebed-2.duckdb"), lake.sink().path()).unwrap();
    fs::write(lake.file(".lakebed.next"), "half").unwrap();
    fs::write(lake.file("versions/.lakebed.copy"), "half").unwrap();
    fs::write(lake.file("versions/.lakebed.work"), "no database").unwrap();
    assert!(lake.publish(3, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3]);
    lake.grow(4, &mut runs).await.unwrap();
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
    assert_eq!(lake.versions(), ["lakebed-2.duckdb", "lakebed-3.duckdb", "lakebed-4.duckdb"]);
    assert!(!lake.file(".lakebed.next").exists());
}

#[tokio::test]
async fn a_lost_versions_directory_or_public_file_comes_back() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    fs::remove_dir_all(lake.file("versions")).unwrap();
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 1);
    fs::remove_file(lake.sink().path()).unwrap();
    assert!(lake.publish(4, vec![table("t", "f", &runs)]).await.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_store_that_fails_changes_nothing_and_costs_no_version() {
    let (mut lake, mut runs) = Lake::grown(3, 3).await;
    let lost = Run { path: "t/lost".to_owned(), rows: 1, bytes: 0, folded: Vec::new() };
    let missing = [runs.clone(), vec![lost]].concat();
    for _ in 0..3 {
        let failed = lake.publish(4, vec![table("t", "f", &missing)]).await;
        assert!(matches!(&failed, Err(Error::File { path, .. }) if path == Path::new("t/lost")), "{failed:?}");
        assert_eq!(lake.rows("t"), [1, 2, 3]);
        assert_eq!(lake.versions(), [".lakebed.work", "lakebed-2.duckdb", "lakebed-3.duckdb"]);
    }
    assert_eq!(lake.grow(4, &mut runs).await.unwrap().rows_written, 3);
}

#[tokio::test]
async fn a_run_with_other_rows_than_its_epoch_says_is_refused() {
    let mut lake = Lake::new(2);
    let run = Run { rows: 3, ..lake.run("t/1", [1, 2]) };
    let failed = lake.publish(1, vec![table("t", "f", &[run])]).await.unwrap_err();
    assert_eq!(failed.to_string(), "run 't/1' has 2 rows where its epoch says 3");
    assert!(!lake.sink().path().exists());
}

#[tokio::test]
async fn two_publishers_at_once_publish_once() {
    let (mut lake, mut runs) = Lake::grown(3, 2).await;
    runs.push(lake.run("t/3", [3]));
    let image = image(3, vec![table("t", "f", &runs)]);
    let (one, other) = (lake.sink(), lake.sink());
    let (one, other) = futures::join!(one.publish(&image, &lake.runs), other.publish(&image, &lake.runs));
    assert!(one.unwrap().unchanged != other.unwrap().unchanged);
    assert_eq!(lake.rows("t"), [1, 2, 3]);
}

#[tokio::test]
async fn a_file_of_someone_else_is_left_alone() {
    let mut lake = Lake::new(2);
    let runs = [lake.run("t/1", [1])];
    let path = lake.sink().path();
    fs::write(&path, "a letter to my aunt").unwrap();
    let refused = lake.publish(1, vec![table("t", "f", &runs)]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("'{}' is not a DuckDB database", path.display()));
    assert_eq!(fs::read(&path).unwrap(), b"a letter to my aunt");

    fs::remove_file(&path).unwrap();
    let foreign = Database::open(path.clone(), Path::new("")).unwrap();
    foreign.execute("CREATE TABLE published.main.mine (n INTEGER)").unwrap();
    foreign.checkpoint_and_close().unwrap();
    let refused = lake.publish(1, vec![table("t", "f", &runs)]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("'{}' is a DuckDB database that lakebed did not publish", path.display()));
    assert!(refused.hint().is_some());
    assert_eq!(query(&path, "SELECT count(*) FROM published.main.mine"), ["0"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let mut lake = Lake::new(2);
    let runs = [lake.run("t/1", [1])];
    let file = lake.file("file");
    fs::write(&file, "").unwrap();
    let sink = DuckDbSink::new(file.clone(), "lakebed", 2);
    let failed = sink.publish(&image(1, vec![table("t", "f", &runs)]), &lake.runs).await.unwrap_err();
    assert!(failed.to_string().starts_with(&format!("'{}", file.display())), "{failed}");
}

#[tokio::test]
async fn names_with_quotes_and_two_sinks_in_one_directory_keep_apart() {
    let mut lake = Lake::new(2);
    let runs = [lake.run_of("t/1", RecordBatch::try_from_iter([("it's \"n\"", int64([1]))]).unwrap())];
    let columns = Schema::new(vec![Field::new("it's \"n\"", DataType::Int64, true)]);
    let odd = TableImage { columns: Arc::new(columns), ..table("o'\"dd", "f", &runs) };
    let directory = lake.file("it's");
    let (one, two) = (DuckDbSink::new(directory.clone(), "a", 2), DuckDbSink::new(directory, "a-1", 2));
    one.publish(&image(1, vec![odd.clone()]), &lake.runs).await.unwrap();
    two.publish(&image(5, vec![odd]), &lake.runs).await.unwrap();
    assert_eq!((rows(&one, "o'\"dd"), rows(&two, "o'\"dd")), (vec![1], vec![1]));
    assert_eq!(one.watermarks().unwrap()[0].version, 1);
}

/// Publishes the columns and reads them back.
async fn round_trip(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let mut lake = Lake::new(1);
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let columns = batch.schema();
    let run = lake.run_of("types", batch);
    lake.publish(1, vec![TableImage { columns, ..table("types", "f", &[run]) }]).await?;
    let mut batches = Vec::new();
    lake.sink().read_table("gold", "types", &mut |batch| {
        batches.push(batch);
        Ok(())
    })?;
    Ok(concat_batches(&batches[0].schema(), &batches).unwrap())
}

mod columns {
    use arrow::array::*;
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::*;

    use super::*;

    fn names() -> StringArray {
        StringArray::from(vec![Some("short"), None, Some("longer than twelve bytes, ö, \u{0} too")])
    }

    #[tokio::test]
    async fn plain_columns_come_back_as_they_went() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)]))),
            ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
            ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
            ("int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            ("uint8", Arc::new(UInt8Array::from(vec![Some(0), None, Some(u8::MAX)]))),
            ("uint16", Arc::new(UInt16Array::from(vec![Some(0), None, Some(u16::MAX)]))),
            ("uint32", Arc::new(UInt32Array::from(vec![Some(0), None, Some(u32::MAX)]))),
            ("uint64", Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX)]))),
            ("float32", Arc::new(Float32Array::from(vec![Some(f32::MIN_POSITIVE), None, Some(f32::INFINITY)]))),
            ("float64", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::MAX)]))),
            ("date", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]))),
            (
                "timestamp",
                Arc::new(TimestampMicrosecondArray::from(vec![
                    Some(-62_135_596_800_000_000),
                    None,
                    Some(1_700_000_000_123_456),
                ])),
            ),
            (
                "instant",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)])
                        .with_timezone("UTC"),
                ),
            ),
            (
                "nanoseconds",
                Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456_789)])),
            ),
            ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
            ("utf8", Arc::new(names())),
            ("binary", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None, Some(&[])]))),
        ];
        let expected =
            RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, a.clone(), true))).unwrap();
        assert_eq!(round_trip(columns).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn decimals_of_every_width_come_back_as_they_went() {
        for (precision, scale) in [(4, 2), (9, 0), (18, 6), (38, 10)] {
            let largest = 10_i128.pow(u32::from(precision)) - 1;
            let array = Decimal128Array::from(vec![Some(largest), None, Some(-largest)]);
            let column: ArrayRef = Arc::new(array.with_precision_and_scale(precision, scale).unwrap());
            assert_eq!(round_trip(vec![("d", Arc::clone(&column))]).await.unwrap().column(0), &column);
        }
        let wide = Decimal256Array::from(vec![Some(i256::from_i128(12_345))]).with_precision_and_scale(50, 4).unwrap();
        let read = round_trip(vec![("d", Arc::new(wide))]).await.unwrap();
        assert_eq!(read.column(0).as_primitive::<Decimal128Type>().value(0), 12_345);
        let too_wide = Decimal256Array::from(vec![Some(i256::MAX)]).with_precision_and_scale(76, 0).unwrap();
        let failed = round_trip(vec![("d", Arc::new(too_wide))]).await.unwrap_err();
        assert!(failed.to_string().starts_with("column 'd' of gold.types: "), "{failed}");
    }

    #[tokio::test]
    async fn every_layout_of_a_text_is_a_text() {
        let expected: ArrayRef = Arc::new(names());
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for layout in [DataType::LargeUtf8, DataType::Utf8View, dictionary] {
            let column = cast(&expected, &layout).unwrap();
            assert_eq!(round_trip(vec![("t", column)]).await.unwrap().column(0), &expected, "{layout}");
        }
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"abcd"[..]), None, Some(b"efgh")]));
        for layout in [DataType::LargeBinary, DataType::BinaryView, DataType::FixedSizeBinary(4)] {
            let column = cast(&bytes, &layout).unwrap();
            assert_eq!(round_trip(vec![("b", column)]).await.unwrap().column(0), &bytes, "{layout}");
        }
    }

    #[tokio::test]
    async fn columns_of_other_units_come_back_in_microseconds() {
        let seconds = TimestampSecondArray::from(vec![Some(1), None]);
        let zoned = TimestampNanosecondArray::from(vec![Some(1_000), None]).with_timezone("+02:00");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("s", Arc::new(seconds)),
            ("z", Arc::new(zoned)),
            ("null", Arc::new(NullArray::new(2))),
            ("half", Arc::new(Float16Array::from(vec![Some(half(1.5)), None]))),
        ];
        let read = round_trip(columns).await.unwrap();
        assert_eq!(read.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_000_000);
        let zoned = read.column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!((zoned.value(0), zoned.timezone(), zoned.null_count()), (1, Some("UTC"), 1));
        assert_eq!((read.column(2).null_count(), read.column(2).data_type()), (2, &DataType::Utf8));
        assert_eq!(read.column(3).as_primitive::<Float32Type>().value(0), 1.5);
    }

    fn half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native {
        <Float16Type as ArrowPrimitiveType>::Native::from_f32(value)
    }

    #[tokio::test]
    async fn intervals_and_durations_come_back_with_their_nulls() {
        let interval = IntervalMonthDayNanoType::make_value(14, -3, 5_000);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("interval", Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None]))),
            ("duration", Arc::new(DurationMillisecondArray::from(vec![Some(-90_061_001), None]))),
        ];
        let read = round_trip(columns).await.unwrap();
        let intervals = read.column(0).as_primitive::<IntervalMonthDayNanoType>();
        assert_eq!((intervals.value(0), intervals.is_null(1)), (interval, true));
        let durations = read.column(1).as_primitive::<IntervalMonthDayNanoType>();
        let expected = IntervalMonthDayNanoType::make_value(0, 0, -90_061_001_000_000);
        assert_eq!((durations.value(0), durations.is_null(1)), (expected, true));
    }

    #[tokio::test]
    async fn nested_columns_come_back_as_they_went() {
        let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..5_000).map(|n| (n % 7 != 0).then(|| vec![Some(n), None, Some(-n)])),
        );
        let count = numbers.len();
        let texts: ArrayRef = Arc::new(StringArray::from_iter((0..count).map(|n| (n % 3 != 0).then(|| n.to_string()))));
        let fields = vec![
            Field::new("item's \"x\"", DataType::Utf8, true),
            Field::new("list", numbers.data_type().clone(), true),
        ];
        let nulls = NullBuffer::from_iter((0..count).map(|n| n % 5 != 0));
        let record = StructArray::new(fields.into(), vec![texts, Arc::new(numbers.clone())], Some(nulls));
        let columns: Vec<(&str, ArrayRef)> = vec![("list", Arc::new(numbers)), ("struct", Arc::new(record))];
        let read = round_trip(columns.clone()).await.unwrap();
        for (at, (name, expected)) in columns.iter().enumerate() {
            let read = cast(read.column(at), expected.data_type()).unwrap();
            let pairs = (0..count).filter(|row| read.slice(*row, 1).as_ref() != expected.slice(*row, 1).as_ref());
            assert_eq!(pairs.collect::<Vec<_>>(), [0; 0], "{name}");
        }
    }

    #[tokio::test]
    async fn maps_and_fixed_lists_come_back_as_maps_and_lists() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        map.keys().append_value("a");
        map.values().append_value(1);
        map.append(true).unwrap();
        map.append(false).unwrap();
        let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None], 2);
        let columns: Vec<(&str, ArrayRef)> = vec![("map", Arc::new(map.finish())), ("fixed", Arc::new(fixed))];
        let read = round_trip(columns).await.unwrap();
        let map = read.column(0).as_map();
        assert_eq!((map.value_length(0), map.is_null(1)), (1, true));
        assert_eq!(map.value(0).column(1).as_primitive::<Int64Type>().value(0), 1);
        let list = read.column(1).as_list::<i32>();
        assert_eq!((list.value_length(0), list.is_null(1)), (2, true));
    }

    #[tokio::test]
    async fn a_type_that_duckdb_has_not_is_refused_by_name() {
        let ids = arrow::buffer::ScalarBuffer::from(vec![0_i8]);
        let fields = UnionFields::from_iter([(0, Arc::new(Field::new("a", DataType::Int64, true)))]);
        let union = UnionArray::try_new(fields, ids, None, vec![int64([1])]).unwrap();
        let failed = round_trip(vec![("u", Arc::new(union))]).await.unwrap_err();
        assert!(failed.to_string().starts_with("column 'u' of gold.types is of type Union"), "{failed}");
        let intervals: ArrayRef = Arc::new(DurationSecondArray::from(vec![1]));
        let field = Arc::new(Field::new("item", intervals.data_type().clone(), true));
        let list = ListArray::new(field, OffsetBuffer::from_lengths([1]), intervals, None);
        let failed = round_trip(vec![("l", Arc::new(list))]).await.unwrap_err();
        assert!(matches!(failed, Error::UnsupportedColumn { .. }), "{failed}");
    }
}
