//! What grows with the log and what must not: an append with few and with many commits behind it, opening a log of 20,000
//! commits and 100,000 files, and the memory of a process that appends for a long time.
//!
//! `cargo bench -p lakebed-benches --bench growth`

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench says what it measured, and what it expects by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use lakebed_log::entry::Table;
use lakebed_log::{Ack, CommitRecord, DataFile, Entry, Log, Offsets, PartitionBy, StagedFile, layout};
use lakebed_tests::batches::numbered;
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::s3::Bucket;
use uuid::Uuid;

/// Commits and files of the large log.
const COMMITS: u64 = 20_000;
const FILES: u64 = 100_000;

/// Appends that one process makes.
const APPENDS: u64 = 20_000;

/// Appends that are timed together.
const TIMED: u64 = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    opening().await;
    appending().await;
    requests().await;
}

/// The entry of a version, with its share of the files, over an entry that the log wrote itself.
fn entry(version: u64, files: u64) -> Entry {
    let day = NaiveDate::from_ymd_opt(2026, 11, 1).expect("a day") + TimeDelta::days((version % 30) as i64);
    let file = |number: u64| {
        let offset = (version * files + number) * 10;
        let path = layout::data_file(Some(day), Uuid::now_v7());
        let times = (offset as i64, offset as i64 + 9);
        let staged = StagedFile {
            path,
            event_date: Some(day),
            bytes: 10_000,
            rows: 10,
            row_range: (0, 9),
            places: None,
            time_range: times,
        };
        DataFile { offsets: Offsets::Base(offset), staged }
    };
    let record = CommitRecord {
        attempt: Uuid::now_v7(),
        next_offset: (version + 1) * files * 10,
        metadata_version: 0,
        batches: Vec::new(),
        requires: Vec::new(),
    };
    let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_793_491_200 + version as i64);
    Entry {
        time,
        record,
        claims: None,
        added: (0..files).map(file).collect(),
        removed: Vec::new(),
        lanes: Default::default(),
    }
}

/// Puts entries up to a version straight into the directory: what is measured is reading them.
fn fill(directory: &Path, to: u64, files: u64) {
    let table = Table { id: Uuid::nil(), created: DateTime::UNIX_EPOCH, partition_by: PartitionBy::EventDate };
    for version in 1..=to {
        let bytes = entry(version, files).encode(version, &table).expect("it can be written");
        std::fs::write(directory.join(layout::commit(version).as_ref()), bytes).expect("there is room");
    }
}

async fn opening() {
    let lake = Lake::local();
    lake.open().await;
    fill(lake.directory().expect("it is local"), COMMITS, FILES / COMMITS);
    let open = async || {
        let began = Instant::now();
        let log = Log::open(lake.store(), PROJECT).await.expect("it opens");
        let snapshot = log.snapshot().await.expect("it can be read");
        assert_eq!((snapshot.version, snapshot.files.len() as u64), (COMMITS, FILES));
        (began.elapsed(), log)
    };
    let (without, log) = open().await;
    let began = Instant::now();
    log.checkpoint(Utc::now()).await.expect("it is written");
    let wrote = began.elapsed();
    let size = lake.store().list(&"events/_delta_log".into()).await.expect("it is listed");
    let size =
        size.iter().find(|object| layout::kind_of(&object.location) == "checkpoint").map_or(0, |object| object.size);
    let (with, _) = open().await;
    println!(
        "a log of {COMMITS} commits and {FILES} files opens in {} without a checkpoint, in {} with one",
        s(without),
        s(with)
    );
    println!("the checkpoint of {:.1} MB was written in {}", size as f64 / 1e6, s(wrote));
    println!();
}

/// The median of what [`TIMED`] appends take, and the memory after each stretch.
async fn appending() {
    let lake = Lake::local();
    let log = lake.open().await;
    println!("| commits before | median of an append | times the first | memory | times the first |");
    println!("|---:|---:|---:|---:|---:|");
    let (mut number, mut first) = (0, None);
    for stretch in [10, 1_000, 10_000, APPENDS - TIMED] {
        while number < stretch {
            append(&log, &mut number).await;
        }
        let mut took = Vec::new();
        for _ in 0..TIMED {
            took.push(append(&log, &mut number).await);
        }
        took.sort();
        let (median, memory) = (took[took.len() / 2].as_secs_f64(), memory() as f64);
        let (first_median, first_memory) = *first.get_or_insert((median, memory));
        println!(
            "| {stretch} | {:.2} ms | {:.2} | {:.1} MB | {:.2} |",
            median * 1e3,
            median / first_median,
            memory / 1e6,
            memory / first_memory
        );
    }
    println!();
}

async fn append(log: &Log, number: &mut u64) -> Duration {
    let batch = numbered(&format!("b{number}"), 10);
    *number += 1;
    let began = Instant::now();
    log.append(&batch, Ack::Committed, Utc::now()).await.expect("it is appended");
    began.elapsed()
}

/// Requests of one append on an S3 server, with few and with many commits behind it.
async fn requests() {
    let bucket = Bucket::new();
    let log = Log::open_or_create(bucket.store(), PROJECT, Utc::now()).await.expect("it opens");
    let mut number = 0;
    for commits in [10, 1_000] {
        while number < commits {
            append(&log, &mut number).await;
        }
        let before = bucket.requests();
        append(&log, &mut number).await;
        println!("an append with {commits} commits before it makes {} requests", bucket.requests() - before);
    }
}

/// What this process has in memory now. Bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

fn s(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
