//! A store that fails, or loses the answer of any write: nothing is lost and nothing is there twice.

use std::sync::Arc;

use lakebed_log::{Ack, Appended, Batch, Log, Store, layout};
use lakebed_tests::batches::{at, batch, event, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Gate, Storm, Strike};

over_every_store!(
    a_lost_answer_of_a_commit_is_looked_up,
    a_put_that_is_made_again_deletes_nothing,
    every_write_may_fail_once,
    an_appender_may_die_at_any_write,
    a_newer_inbox_entry_is_left,
    an_unreadable_inbox_entry_is_left,
);

/// More writes than an append of one batch makes.
const WRITES: usize = 16;

async fn a_lost_answer_of_a_commit_is_looked_up(lake: Lake) {
    lake.open().await;
    let store = lake.behind(|inner| Storm::strike_once(inner, Strike::AnswerLost, 0, "_delta_log"));
    let log = Log::open(store, PROJECT).await.unwrap();
    let appended = log.append(&numbered("a", 3), Ack::Committed, at(1)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 1 }, "the answer was lost, and the entry is its own");
    let again = log.append(&numbered("a", 3), Ack::Committed, at(2)).await.unwrap();
    assert_eq!(again, Appended::Duplicate { version: 1 });
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 3);
}

/// An appender announces its staging and gets no answer. Until its client library puts the entry again, a third commits it
/// and cleans up, and a second sender of the batch puts its own entry there: what was committed stays.
async fn a_put_that_is_made_again_deletes_nothing(lake: Lake) {
    let log = lake.open().await;
    let held = |again: bool| {
        let gate = Arc::new(Gate::default());
        (lake.behind(|inner| Storm::held(inner, 0, "_inbox", again, &gate)), gate)
    };
    let append = async |(store, gate): (Store, Arc<Gate>), ack| {
        let log = Log::open(store, PROJECT).await.unwrap();
        let appending = tokio::spawn(async move { log.append(&numbered("a", 3), ack, at(1)).await });
        gate.reached().await;
        (appending, gate)
    };
    let (second, before_its_put) = append(held(false), Ack::Durable).await;
    let (first, before_its_second_put) = append(held(true), Ack::Committed).await;
    assert_eq!(log.drain(at(2)).await.unwrap().committed, 1);
    before_its_put.open();
    assert_eq!(second.await.unwrap().unwrap(), Appended::Durable);
    before_its_second_put.open();
    let told = first.await.unwrap().unwrap();
    assert!(matches!(told, Appended::Committed { version: 1 } | Appended::Duplicate { version: 1 }), "{told:?}");
    assert_eq!(log.drain(at(3)).await.unwrap().left, [""; 0]);
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 3);
}

/// Sends the batch again, with another handle, and reads it back once; another sender's batch is there as well.
pub(crate) async fn assert_once_after_a_retry(lake: &Lake, what: &str) {
    let log = lake.open().await;
    let sent = odd_batch();
    let again = log.append(&sent, Ack::Committed, at(5)).await;
    let version = match again.unwrap_or_else(|error| panic!("{what}: {error}")) {
        Appended::Committed { version } | Appended::Duplicate { version } => version,
        Appended::Durable => panic!("{what}: it was to be committed"),
    };
    log.append(&numbered("next", 2), Ack::Committed, at(6)).await.unwrap();
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(&log, &snapshot).await;
    let ids: Vec<_> = read.iter().map(|row| (row.offset, row.event_id.as_str())).collect();
    assert_eq!(ids, [(0, "first-0"), (1, "a"), (2, "b"), (3, "next-0"), (4, "next-1")], "{what}");
    assert!(version <= snapshot.version, "{what}");
    let lines: Vec<_> =
        log.versions(u64::MAX).await.unwrap().into_iter().flat_map(|(_, entry)| entry.record.batches).collect();
    assert_eq!(lines.iter().filter(|line| line.id == sent.id).count(), 1, "{what}");
    let once_more = lake.open().await.append(&sent, Ack::Committed, at(7)).await.unwrap();
    assert_eq!(once_more, Appended::Duplicate { version }, "{what}");
    // What a dead committer did not clean, the next `run` does.
    assert_eq!(lake.open().await.drain(at(8)).await.unwrap().left, [""; 0], "{what}");
    assert!(lake.store().list(&layout::inbox()).await.unwrap().is_empty(), "{what}: the inbox is clean");
}

/// A batch that makes every kind of object: two days, a column, a refused event.
pub(crate) fn odd_batch() -> Arc<Batch> {
    let next_day = r#"{"event_id":"b","event_type":"t","event_time":"2026-11-02T00:00:00Z","x":true}"#;
    batch("odd", &[event("a", r#","x":1"#), next_day.to_owned(), "broken".to_owned()])
}

/// Sweeps the strike over every write of an append; gives how many of the writes there were.
async fn sweep(lake: &Lake, dies: bool) -> usize {
    let mut struck = 0;
    for strike in [Strike::NotDone, Strike::AnswerLost] {
        for write in 0..WRITES {
            let lake = lake.another();
            lake.open().await.append(&numbered("first", 1), Ack::Committed, at(0)).await.unwrap();
            let store = lake.behind(|inner| match dies {
                true => Storm::strike_dead(inner, strike, write),
                false => Storm::strike_once(inner, strike, write, ""),
            });
            let log = Log::open(store, PROJECT).await.unwrap();
            let what = format!("{strike:?} at write {write}, dies: {dies}");
            let first = log.append(&odd_batch(), Ack::Committed, at(1)).await;
            struck += usize::from(first.is_err());
            if !dies {
                // The same handle goes on, as a server's would.
                log.append(&odd_batch(), Ack::Committed, at(2)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            }
            assert_once_after_a_retry(&lake, &what).await;
        }
    }
    struck
}

async fn every_write_may_fail_once(lake: Lake) {
    assert!(sweep(&lake, false).await > WRITES / 2, "the strikes met the append");
}

async fn an_appender_may_die_at_any_write(lake: Lake) {
    assert!(sweep(&lake, true).await > WRITES / 2, "the strikes met the append");
}

async fn a_newer_inbox_entry_is_left(lake: Lake) {
    let log = lake.open().await;
    let path = layout::inbox_entry(&numbered("newer", 1).id.key());
    let newer = r#"{"format":3,"whatever":"a later lakebed keeps here"}"#;
    lake.store().put(&path, newer).await.unwrap();
    let appended = log.append(&numbered("a", 1), Ack::Committed, at(1)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 1 });
    let drained = log.drain(at(2)).await.unwrap();
    assert_eq!(drained.committed, 0);
    assert!(drained.left.len() == 1 && drained.left[0].contains("format is 3"), "{:?}", drained.left);
    assert_eq!(lake.store().get(&path).await.unwrap().unwrap(), newer.as_bytes());
}

async fn an_unreadable_inbox_entry_is_left(lake: Lake) {
    let log = lake.open().await;
    let path = layout::inbox_entry(&numbered("cut", 1).id.key());
    lake.store().put(&path, r#"{"format":1,"unit":"#).await.unwrap();
    log.append(&numbered("a", 1), Ack::Committed, at(1)).await.unwrap();
    assert_eq!(log.drain(at(2)).await.unwrap().left.len(), 1);
    assert!(lake.store().exists(&path).await.unwrap());
}
