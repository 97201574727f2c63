//! The floors that the product must never fall below: events a second, size of what is stored, memory.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use lakebed_ingest::{RawBatches, Settings, decode};
use lakebed_log::{Ack, Appended, BatchId};
use lakebed_tests::batches::{at, generated, starter_settings};
use lakebed_tests::lake::Lake;

/// How many events are measured.
const EVENTS: u64 = 10_000;

/// Says to the child process that it is the one to be measured.
const MEASURED: &str = "LAKEBED_TESTS_MEASURED";

/// The first so many events.
fn events(count: u64) -> Vec<u8> {
    generated(&lakebed_generator::Settings::default(), 0, count)
}

/// Bytes → events → a committed version, in batches of at most `batch_events`; gives bytes in and bytes stored.
async fn ingest(text: &[u8], batch_events: usize) -> (u64, u64) {
    let lake = Lake::local();
    let log = lake.open().await;
    let settings = Settings { batch_events, ..starter_settings() };
    for raw in RawBatches::new(text, &settings) {
        let raw = raw.unwrap();
        let batch = Arc::new(decode(&raw, BatchId::of_content(raw.content()), "test", &settings).batch);
        let appended = log.append(&batch, Ack::Committed, at(1)).await.unwrap();
        assert!(matches!(appended, Appended::Committed { .. }));
    }
    let snapshot = log.snapshot().await.unwrap();
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(snapshot.next_offset, lines as u64);
    (text.len() as u64, snapshot.files.iter().map(|file| file.staged.bytes).sum())
}

/// At least 100 events a second from bytes to a committed version, and stored in half the bytes or fewer, with each
/// event's whole text among what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed_and_size() {
    let text = events(EVENTS);
    let began = Instant::now();
    let (sent, stored) = ingest(&text, 1_000).await;
    let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} events/s; {sent} bytes sent, {stored} stored, {:.2} : 1", sent as f64 / stored as f64);
    assert!(rate >= 100.0, "{rate:.0} events/s");
    assert!(stored * 2 <= sent, "{sent} bytes sent, {stored} stored");
}

/// The peak of this process's memory in bytes, as the kernel counts it.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Under 50 MB for 100 events, from bytes to a committed version, measured in a process of its own. What a long run keeps
/// at its peak hangs on how many threads the allocator has seen, and is for a bench to follow.
#[cfg(target_os = "linux")]
#[test]
fn memory() {
    if std::env::var_os(MEASURED).is_none() {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new(this);
        child.args(["--exact", "floors::memory", "--nocapture", "--test-threads", "1"]).env(MEASURED, "1");
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        println!("{said}");
        assert!(output.status.success() && said.contains("bytes more"), "{said}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // What the events take themselves is their sender's.
    let text = events(100);
    let before = peak();
    runtime.block_on(ingest(&text, 100));
    let grown = peak() - before;
    println!("{grown} bytes more at the peak for 100 events");
    assert!(grown < 50_000_000, "{grown} bytes more");
}
