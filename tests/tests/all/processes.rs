//! Many processes append to one log at the same moment, as Lambdas do: each batch is in it once, and nobody is refused.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use lakebed_log::{Ack, Appended, Batch, Log, Snapshot, Store};
use lakebed_tests::batches::{at, batch, event, numbered};
use lakebed_tests::lake::{Lake, PROJECT, store_at};
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Gate, Storm};
use lakebed_tests::{foreign, long};
use object_store::path::Path;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::contract::faults::{assert_once_after_a_retry, odd_batch};

/// Says to a child process which writer it is: `LAKE NUMBER OF BATCHES`.
const WRITER: &str = "LAKEBED_TESTS_WRITER";

/// Writers and the batches of each.
fn load() -> (usize, usize) {
    if long() { (32, 50) } else { (8, 8) }
}

/// The writers invent the same columns and columns of their own at the same moment, with types that clash.
fn invented(writer: usize, number: usize) -> Arc<Batch> {
    let value = match writer % 3 {
        0 => format!("{writer}.5"),
        1 => format!("\"text of {writer}\""),
        _ => "true".to_owned(),
    };
    let line = |row: usize| {
        let rest = format!(r#","value":{value},"common":{number},"own":{{"of_{writer}":{row}}}"#);
        event(&format!("{writer}-{number}-{row}"), &rest)
    };
    batch(&format!("{writer}-{number}"), &(0..=number % 4).map(line).collect::<Vec<_>>())
}

/// The body of a child process: appends its batches one after the other, and one of its neighbour's; prints how many of
/// them it brought into the log.
async fn write(lake: &str, writer: usize, writers: usize, batches: usize) {
    let log = Log::open_or_create(store_at(lake), PROJECT, Utc::now()).await.unwrap();
    let mut committed = 0;
    let own = (0..batches).map(|number| (writer, number));
    // The first is everybody's, at the same moment; the last is the neighbour's, some time ago.
    for (of, number) in [(writers, 0)].into_iter().chain(own).chain([((writer + 1) % writers, batches / 2)]) {
        match log.append(&invented(of, number), Ack::Committed, Utc::now()).await.unwrap() {
            Appended::Committed { .. } => committed += 1,
            Appended::Duplicate { .. } => {}
            Appended::Durable => panic!("it was to be committed"),
        }
    }
    println!("\ncommitted {committed}");
}

fn start(lake: &Lake, writer: usize) -> Child {
    let (writers, batches) = load();
    child(lake, "a_writer", WRITER, &format!("{writer} {writers} {batches}"))
}

/// A process of this binary that runs one of the tests below, told by a variable what to do and where the lake is.
fn child(lake: &Lake, test: &str, variable: &str, told: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("processes::{test}"), "--nocapture", "--test-threads", "1"]);
    child.envs(lake.environment()).env(variable, format!("{} {told}", lake.place()));
    child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// In a child process one writer; by itself nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer() {
    let Ok(told) = std::env::var(WRITER) else { return };
    let told: Vec<_> = told.split(' ').collect();
    let number = |at: usize| told[at].parse().unwrap();
    write(told[0], number(1), number(2), number(3)).await;
}

/// Reads the log: every writer's batches once, offsets dense, the inbox clean.
async fn everything_is_there_once(lake: &Lake) -> (Log, Snapshot) {
    let (writers, batches) = load();
    let log = lake.open().await;
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(&log, &snapshot).await;
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), (0..snapshot.next_offset).collect::<Vec<_>>());
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    for row in &read {
        *sent.entry(row.batch_id.clone()).or_default() += 1;
    }
    assert_eq!(sent.remove(&format!("{writers}-0")), Some(1), "the batch that all of them sent at once");
    for writer in 0..writers {
        for number in 0..batches {
            let rows = sent.remove(&format!("{writer}-{number}"));
            assert_eq!(rows, Some(number as u64 % 4 + 1), "{writer}-{number}");
        }
    }
    assert!(sent.is_empty() && lake.store().list(&lakebed_log::layout::inbox()).await.unwrap().is_empty());
    (log, snapshot)
}

/// A lake's objects in a directory, for readers that know nothing of its store.
async fn copy_of(lake: &Lake) -> TempDir {
    let directory = TempDir::new().unwrap();
    for object in lake.store().list(&Path::default()).await.unwrap() {
        let to = directory.path().join(object.location.as_ref());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, lake.store().get(&object.location).await.unwrap().unwrap()).unwrap();
    }
    directory
}

async fn append_once_each(lake: Lake) {
    let (writers, batches) = load();
    let children: Vec<_> = (0..writers).map(|writer| start(&lake, writer)).collect();
    let mut committed = 0;
    for child in children {
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let count = said.lines().find_map(|line| line.strip_prefix("committed ")).unwrap();
        committed += count.parse::<usize>().unwrap();
    }
    assert_eq!(committed, writers * batches + 1, "each batch is one sender's, and a duplicate to everybody else");

    let (log, snapshot) = everything_is_there_once(&lake).await;
    println!("{} batches in {} versions", committed, snapshot.version);
    // Three kinds of values at one path, one column that all share, and one of each writer.
    let claims: Vec<_> = snapshot.claims.iter().map(|claim| claim.name.clone()).collect();
    assert_eq!(claims.len(), 3 + 1 + writers + 1, "{claims:?}");
    let copy = copy_of(&lake).await;
    foreign::readers_agree(&log, copy.path(), "common", snapshot.version).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_local_disk() {
    append_once_each(Lake::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_s3() {
    append_once_each(Lake::s3()).await;
}

/// Says to a child process at which write it stops and waits to be killed: `LAKE WRITE DONE`.
const STOPPER: &str = "LAKEBED_TESTS_STOPPER";

/// In a child process an appender that stops before a write, or after it, and says so; by itself nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopper() {
    let Ok(told) = std::env::var(STOPPER) else { return };
    let told: Vec<_> = told.split(' ').collect();
    let gate = Arc::new(Gate::default());
    let inner = store_at(told[0]);
    let stops = Storm::held(inner.objects(), told[1].parse().unwrap(), "", told[2] == "true", &gate);
    let log = Log::open(Store::of(Arc::new(stops), inner.place()), PROJECT).await.unwrap();
    let batch = odd_batch();
    tokio::select! {
        () = gate.reached() => {
            println!("\nreached");
            std::future::pending().await
        }
        appended = log.append(&batch, Ack::Committed, at(1)) => println!("\ndone {appended:?}"),
    }
}

/// An appender is killed before and after each of its writes, with SIGKILL; then others append, its sender among them.
async fn killed_at_every_write(lake: Lake) {
    for done in [false, true] {
        for write in 0.. {
            let lake = lake.another();
            lake.open().await.append(&numbered("first", 1), Ack::Committed, at(0)).await.unwrap();
            let mut stopper = child(&lake, "a_stopper", STOPPER, &format!("{write} {done}"));
            let mut said = BufReader::new(stopper.stdout.take().unwrap()).lines().map(Result::unwrap);
            let reached = said.find(|line| line == "reached" || line.starts_with("done ")).unwrap();
            stopper.kill().unwrap();
            stopper.wait().unwrap();
            assert_once_after_a_retry(&lake, &format!("killed at write {write}, done: {done}")).await;
            if reached != "reached" {
                assert!(write > 8, "an append makes more than {write} writes");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_write_on_local_disk() {
    killed_at_every_write(Lake::local()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_write_on_s3() {
    killed_at_every_write(Lake::s3()).await;
}

/// Each writer is killed again and again, at any moment, and starts again with the same batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again() {
    let lake = Arc::new(Lake::local());
    let (writers, kills) = (load().0, if long() { 20 } else { 6 });
    let writer = |writer: usize| {
        let lake = Arc::clone(&lake);
        std::thread::spawn(move || {
            let mut dice = ChaCha8Rng::seed_from_u64(writer as u64);
            for _ in 0..kills {
                let mut child = start(&lake, writer);
                std::thread::sleep(Duration::from_millis(dice.random_range(20..600)));
                child.kill().unwrap();
                child.wait().unwrap();
            }
            let output = start(&lake, writer).wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        })
    };
    let threads: Vec<_> = (0..writers).map(writer).collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| thread.join().unwrap())).await.unwrap();
    lake.open().await.drain(Utc::now()).await.unwrap();
    everything_is_there_once(&lake).await;
}
