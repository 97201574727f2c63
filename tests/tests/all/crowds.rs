//! Very many appenders at the same moment: nobody is refused, and what each costs does not grow with how many they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::try_join_all;
use lakebed_log::{Ack, Appended, Log, Store};
use lakebed_tests::batches::{at, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Storm, Trace, Weather};
use tokio::time::Instant;

const CROWD: usize = 256;

/// Requests that an append may make on average. One alone makes 14; of a crowd each looks into the inbox and at the head some
/// times more, about 19 in all. With every appender reading every entry it would be hundreds.
const REQUESTS: usize = 25;

/// Each of the handles appends a batch of its own at the same moment.
async fn append_at_once(handles: Vec<Log>) -> Vec<Log> {
    let tasks = handles.iter().cloned().enumerate().map(|(number, log)| {
        tokio::spawn(async move { log.append(&numbered(&format!("b{number}"), 2), Ack::Committed, at(1)).await })
    });
    for appended in try_join_all(tasks).await.unwrap() {
        assert!(matches!(appended.unwrap(), Appended::Committed { .. }));
    }
    handles
}

async fn assert_all_there(log: &Log) {
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(log, &snapshot).await;
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), (0..2 * CROWD as u64).collect::<Vec<_>>());
    assert_eq!(read.iter().map(|row| &row.batch_id).collect::<BTreeSet<_>>().len(), CROWD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_one_process_share_commits() {
    let lake = Lake::local();
    let log = lake.open().await;
    append_at_once(vec![log.clone(); CROWD]).await;
    assert_all_there(&log).await;
    let (head, _) = log.head().await.unwrap();
    assert!(head < CROWD as u64 / 4, "{head} commits");
}

/// By the test's clock, which runs while nobody works: what is counted hangs on no machine's load.
#[tokio::test(start_paused = true)]
async fn appenders_do_not_read_each_others_entries_over_and_over() {
    let (lake, trace) = (Lake::memory(), Arc::new(Trace::default()));
    lake.open().await;
    let open = |number: usize| {
        // Requests take a while, as over a network: otherwise nobody would ever meet anybody.
        let weather = Weather { delay_ms: 5, ..Weather::default() };
        let dead = Arc::new(AtomicBool::new(false));
        let view = Storm::new(lake.store().objects(), number, weather, number as u64, Arc::clone(&trace), dead);
        Log::open(Store::of(Arc::new(view), "storm"), PROJECT)
    };
    let handles = try_join_all((0..CROWD).map(open)).await.unwrap();
    let before = trace.requests();
    let handles = append_at_once(handles).await;
    let requests = trace.requests() - before;
    assert_all_there(&lake.open().await).await;
    let (head, _) = handles[0].head().await.unwrap();
    println!("{CROWD} appends in {head} commits, {:.1} requests each", requests as f64 / CROWD as f64);
    assert!(requests <= REQUESTS * CROWD, "{requests} requests for {CROWD} appends");
}

/// Nobody commits what its senders were content to have durable, until somebody comes who does: that one does not wait for each
/// of them. By the test's clock, too.
#[tokio::test(start_paused = true)]
async fn durable_entries_are_not_waited_for_one_by_one() {
    let (lake, weather) = (Lake::memory(), Weather { delay_ms: 5, ..Weather::default() });
    let log = lake.open().await;
    for number in 0..200 {
        log.append(&numbered(&format!("d{number}"), 1), Ack::Durable, at(1)).await.unwrap();
    }
    let view = lake.behind(|inner| Storm::new(inner, 0, weather, 7, Arc::default(), Arc::default()));
    let other = Log::open(view, PROJECT).await.unwrap();
    let began = Instant::now();
    let appended = other.append(&numbered("last", 1), Ack::Committed, at(2)).await.unwrap();
    let took = began.elapsed();
    println!("committed with 200 before it after {took:?}");
    assert_eq!(appended, Appended::Committed { version: 1 });
    assert_eq!(other.snapshot().await.unwrap().next_offset, 201);
    // For each of them it would be a quarter of a second.
    assert!(took < Duration::from_secs(15), "{took:?}");
}
