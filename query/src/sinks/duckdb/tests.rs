//! What a publication does to the public file, its kept versions and its readers.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use chrono::{DateTime, TimeDelta};
use futures::stream::{BoxStream, StreamExt, iter, pending};
use parquet::arrow::arrow_reader::RowSelection;

use super::database::Database;
use super::{DuckDbSink, Published};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{Rows, Run};
use crate::sinks::{Image, ReadRun, TableImage};

mod columns;
mod faults;
mod publishing;

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
    fn read(&self, run: &Run, rows: Option<RowSelection>) -> BoxStream<'static, Result<RecordBatch>> {
        let Some(batch) = self.runs.get(&run.path) else {
            let source = std::io::Error::other("the store is away");
            return iter([Err(Error::File { path: run.path.clone().into(), source })]).boxed();
        };
        let selected = rows.map(|rows| select(batch, &rows));
        let batch = selected.as_ref().unwrap_or(batch);
        let half = batch.num_rows() / 2;
        let rows = iter([Ok(batch.slice(0, half)), Ok(batch.slice(half, batch.num_rows() - half))]);
        if self.hangs_in.as_ref() == Some(&run.path) {
            println!("\nhanging");
            return rows.chain(pending()).boxed();
        }
        rows.boxed()
    }
}

fn select(batch: &RecordBatch, rows: &RowSelection) -> RecordBatch {
    let mut next = 0;
    let pieces: Vec<_> = rows
        .iter()
        .map(|selector| {
            let piece = batch.slice(next, if selector.skip { 0 } else { selector.row_count });
            next += selector.row_count;
            piece
        })
        .collect();
    concat_batches(batch.schema_ref(), &pieces).unwrap()
}

/// A lake of one-column tables, and a directory to publish it in.
struct Lake {
    directory: tempfile::TempDir,
    keep: usize,
    runs: MemoryRuns,
    /// The address of the next row, by table.
    next: HashMap<String, u64>,
}

impl Lake {
    fn new(keep: usize) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), keep, runs: MemoryRuns::default(), next: HashMap::new() }
    }

    fn sink(&self) -> DuckDbSink {
        DuckDbSink::new(self.directory.path().to_owned(), "lakebed", self.keep)
    }

    /// The next run of `gold.NAME`, with these rows; its path is `NAME/…`.
    fn run(&mut self, path: &str, rows: impl IntoIterator<Item = i64>) -> Run {
        self.run_of(path, RecordBatch::try_from_iter([("n", int64(rows))]).unwrap())
    }

    fn run_of(&mut self, path: &str, batch: RecordBatch) -> Run {
        let rows = batch.num_rows() as u64;
        self.runs.runs.insert(path.to_owned(), batch);
        let table = path.split('/').next().unwrap_or_default();
        let next = self.next.entry(table.to_owned()).or_default();
        let first = std::mem::replace(next, *next + rows);
        Run { path: path.to_owned(), first, rows, bytes: 0 }
    }

    async fn publish(&self, version: u64, tables: Vec<TableImage>) -> Result<Published> {
        let tables = tables.into_iter().map(|table| self.hashed(table)).collect();
        self.sink().publish(&image(version, tables), &self.runs).await
    }

    /// The table with the hash of its rows, if they are all there.
    fn hashed(&self, table: TableImage) -> TableImage {
        let hash_of = |(run, selection): (&Run, Option<RowSelection>)| {
            let batch = self.runs.runs.get(&run.path)?;
            let selected = selection.map(|selection| select(batch, &selection));
            TableHash::of_batch(selected.as_ref().unwrap_or(batch)).ok()
        };
        let hashes: Option<Vec<TableHash>> = table.rows.in_runs().map(hash_of).collect();
        match hashes {
            Some(hashes) => {
                TableImage { content_hash: hashes.into_iter().fold(TableHash::EMPTY, TableHash::add), ..table }
            }
            None => table,
        }
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
    Image { lake: "lake".to_owned(), owner: "shop".to_owned(), version, as_of, tables }
}

/// All rows of some runs.
fn of_runs(runs: &[Run]) -> Rows {
    let (first, last) = (runs.first(), runs.last());
    let addresses = first.map_or(0, |run| run.first)..last.map_or(0, |run| run.addresses().end);
    Rows { addresses, deleted: Arc::default(), runs: runs.to_vec(), images: Vec::new() }
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
        key: Vec::new(),
        rows: of_runs(runs),
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
        let run = Run { path: "t/9".to_owned(), first: 0, rows: 5_000, bytes: 0 };
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
