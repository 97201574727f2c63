//! Batches that come at the same moment: they share their files, come into the log together, and each is there once.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use lakebed_log::{Ack, Appended, Batch, Compaction, Log, layout, schema};
use lakebed_tests::batches::{at, batch, event, in_lane, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Gate, Storm, Strike};

use super::faults::odd_batch;

over_every_store!(
    they_share_their_files,
    what_was_sent_before_comes_alone,
    a_unit_that_waits_has_its_batches,
    a_unit_that_was_not_announced_does_not_come,
    a_unit_that_is_void_comes_one_by_one,
    a_unit_that_is_put_again_deletes_nothing,
    every_write_may_fail_once,
    a_sender_may_die_at_any_write,
);

/// More writes than a unit makes.
const WRITES: usize = 24;

/// Four batches over two days, with columns that only some of them have, one without an event that can be read.
fn some() -> Vec<Arc<Batch>> {
    vec![numbered("a", 3), odd_batch(), batch("bad", &["broken"]), numbered("c", 2)]
}

fn versions(appended: Vec<Result<Appended, lakebed_log::Error>>) -> Vec<(u64, bool)> {
    let version = |appended| match appended {
        Ok(Appended::Committed { version }) => (version, true),
        Ok(Appended::Duplicate { version }) => (version, false),
        other => panic!("{other:?}"),
    };
    appended.into_iter().map(version).collect()
}

/// That the batches are there once and whole, whatever came before; and that nothing is left of how they came.
async fn assert_once(lake: &Lake, what: &str) {
    let log = lake.open().await;
    let sent = some();
    for appended in log.append_together(&sent, Ack::Committed, at(50)).await {
        let told = appended.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!matches!(told, Appended::Durable), "{what}");
    }
    let again = versions(lake.open().await.append_together(&sent, Ack::Committed, at(51)).await);
    assert!(again.iter().all(|(_, is_new)| !is_new), "{what}: {again:?}");
    let snapshot = log.snapshot().await.unwrap();
    let read = rows(&log, &snapshot).await;
    assert_eq!(read.iter().map(|row| row.offset).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>(), "{what}");
    let entries = log.versions(u64::MAX).await.unwrap();
    let lines: Vec<_> = entries.into_iter().flat_map(|(_, entry)| entry.record.batches).collect();
    assert_eq!(lines.len(), sent.len(), "{what}");
    for (batch, (version, _)) in sent.iter().zip(again) {
        let line = lines.iter().find(|line| line.id == batch.id).unwrap();
        assert!(version <= snapshot.version, "{what}");
        assert_eq!((line.rows, line.quarantined), (batch.events.len() as u64, batch.quarantine.len() as u64));
        let of_it = read.iter().filter(|row| row.batch_id == batch.id.as_str());
        let places: Vec<_> = of_it.map(|row| (row.offset, row.row)).collect();
        assert_eq!(places, (0..line.rows).map(|row| (line.base + row, row)).collect::<Vec<_>>(), "{what}: {}", line.id);
    }
    assert_eq!(lake.open().await.drain(at(52)).await.unwrap().left, [""; 0], "{what}");
    log.vacuum(TimeDelta::days(7), Utc::now() + TimeDelta::days(31)).await.unwrap();
    assert!(lake.store().list(&layout::inbox()).await.unwrap().is_empty(), "{what}: the inbox is clean");
}

async fn they_share_their_files(lake: Lake) {
    let log = lake.open().await;
    assert_eq!(versions(log.append_together(&some(), Ack::Committed, at(1)).await), [(1, true); 4]);
    let snapshot = log.snapshot().await.unwrap();
    let files: Vec<_> =
        snapshot.files.iter().map(|file| (file.numbers(), file.offset_range(), file.staged.rows)).collect();
    let unit = (schema::PLACE, Some(0));
    assert_eq!(files.len(), 2, "one for each day");
    assert!(files.contains(&(unit, (0, 6), 6)) && files.contains(&(unit, (4, 4), 1)), "{files:?}");
    assert_eq!(
        log.append(&numbered("alone", 2), Ack::Committed, at(2)).await.unwrap(),
        Appended::Committed { version: 2 }
    );
    let before = rows(&log, &log.snapshot().await.unwrap()).await;
    assert_eq!(before.len(), 9);
    log.checkpoint(at(3)).await.unwrap();
    assert_eq!(rows(&log, &lake.open().await.snapshot().await.unwrap()).await, before, "a checkpoint knows it");
    log.compact(&Compaction::default(), at(4)).await.unwrap();
    let snapshot = log.snapshot().await.unwrap();
    assert_eq!(snapshot.files.len(), 2, "the two of a day are one");
    assert_eq!(rows(&log, &snapshot).await, before);
    let read: Vec<_> = before.iter().map(|row| (row.event_id.as_str(), row.row)).collect();
    let expected = [
        ("a-0", 0),
        ("a-1", 1),
        ("a-2", 2),
        ("a", 0),
        ("b", 1),
        ("c-0", 0),
        ("c-1", 1),
        ("alone-0", 0),
        ("alone-1", 1),
    ];
    assert_eq!(read, expected);
}

async fn what_was_sent_before_comes_alone(lake: Lake) {
    let log = lake.open().await;
    log.append(&numbered("a", 3), Ack::Committed, at(1)).await.unwrap();
    log.append(&numbered("c", 2), Ack::Durable, at(2)).await.unwrap();
    let lane = in_lane("lane", "shard", None, "1");
    let other = batch("odd", &[event("other", "")]);
    let sent = [some(), vec![lane, other, numbered("a", 3)]].concat();
    let mut told = log.append_together(&sent, Ack::Committed, at(3)).await;
    let conflict = told.remove(5).unwrap_err();
    assert!(matches!(conflict, lakebed_log::Error::BatchConflict { .. }), "{conflict}");
    let told = versions(told);
    let are_new: Vec<_> = told.iter().map(|(_, is_new)| *is_new).collect();
    assert_eq!(are_new, [false, true, true, false, true, false], "{told:?}");
    assert_eq!((told[0].0, told[5].0), (1, 1));
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 8);
}

async fn a_unit_that_waits_has_its_batches(lake: Lake) {
    let log = lake.open().await;
    for told in log.append_together(&some(), Ack::Durable, at(1)).await {
        assert_eq!(told.unwrap(), Appended::Durable);
    }
    assert_eq!(lake.store().list(&layout::inbox()).await.unwrap().len(), 1);
    let another = lake.open().await;
    assert_eq!(another.append(&odd_batch(), Ack::Durable, at(2)).await.unwrap(), Appended::Durable);
    assert_eq!(lake.store().list(&layout::inbox()).await.unwrap().len(), 1, "it is there already");
    let told = another.append(&odd_batch(), Ack::Committed, at(3)).await.unwrap();
    assert_eq!(told, Appended::Duplicate { version: 1 }, "the unit is the first send");
    assert_once(&lake, "all came with it").await;
}

/// A sender has put the receipts and dies. One of its batches is sent by another: alone, for nobody knows the others; and what
/// is left of the unit does not come later.
async fn a_unit_that_was_not_announced_does_not_come(lake: Lake) {
    lake.open().await;
    let store = lake.behind(|inner| Storm::strike_once(inner, Strike::NotDone, 0, "_inbox"));
    let log = Log::open(store, PROJECT).await.unwrap();
    for told in log.append_together(&some(), Ack::Committed, at(1)).await {
        let error = told.unwrap_err();
        assert!(error.may_pass() && error.to_string().contains("_inbox"), "{error}");
    }
    let another = lake.open().await;
    assert_eq!(another.append(&odd_batch(), Ack::Committed, at(2)).await.unwrap(), Appended::Committed { version: 1 });
    let inbox = lake.store().list(&layout::inbox()).await.unwrap();
    assert!(inbox.len() == 1 && inbox[0].size == 0, "its place is void: {inbox:?}");
    assert_eq!(another.drain(at(3)).await.unwrap(), Default::default(), "which is nothing to do");
    assert_once(&lake, "the others came later").await;
}

/// A sender is about to announce its unit, for long; another takes one of its batches meanwhile.
async fn a_unit_that_is_void_comes_one_by_one(lake: Lake) {
    lake.open().await;
    let gate = Arc::new(Gate::default());
    let store = lake.behind(|inner| Storm::held(inner, 0, "_inbox", false, &gate));
    let log = Log::open(store, PROJECT).await.unwrap();
    let sending = tokio::spawn(async move { log.append_together(&some(), Ack::Committed, at(1)).await });
    gate.reached().await;
    let another = lake.open().await;
    assert_eq!(another.append(&odd_batch(), Ack::Committed, at(2)).await.unwrap(), Appended::Committed { version: 1 });
    gate.open();
    let told = versions(sending.await.unwrap());
    let are_new: Vec<_> = told.iter().map(|(_, is_new)| *is_new).collect();
    assert_eq!(are_new, [true, false, true, true], "{told:?}");
    let entries = another.versions(u64::MAX).await.unwrap();
    let mut files = entries.iter().flat_map(|(_, entry)| &entry.added);
    assert!(files.all(|file| file.numbers().0 == schema::ROW), "none of the unit's");
    let inbox = lake.store().list(&layout::inbox()).await.unwrap();
    assert!(inbox.len() == 1 && inbox[0].size == 0, "its place is void: {inbox:?}");
    assert_once(&lake, "one by one").await;
}

/// A sender announces its unit and gets no answer. Until its client library puts the entry again, another commits it and cleans up,
/// and a third, who had seen nothing there, makes its place void: what was committed stays.
async fn a_unit_that_is_put_again_deletes_nothing(lake: Lake) {
    let log = lake.open().await;
    let (put_again, void) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
    let receipts = Arc::new(Gate::default());
    // The sender waits at its first receipt, until the third knows that there is one.
    let store = lake.behind(|inner| {
        let inner = Storm::held(inner, 0, "_inbox", true, &put_again);
        Storm::held(Arc::new(inner), 1, "_receipts", false, &receipts)
    });
    let sender = Log::open(store, PROJECT).await.unwrap();
    let sending = tokio::spawn(async move { sender.append_together(&some(), Ack::Committed, at(1)).await });
    receipts.reached().await;
    let store = lake.behind(|inner| Storm::held(inner, 0, "_inbox", false, &void));
    let third = Log::open(store, PROJECT).await.unwrap();
    let alone = tokio::spawn(async move { third.append(&numbered("a", 3), Ack::Committed, at(2)).await });
    void.reached().await;
    receipts.open();
    put_again.reached().await;
    assert_eq!(log.drain(at(3)).await.unwrap().committed, 4);
    void.open();
    assert_eq!(alone.await.unwrap().unwrap(), Appended::Duplicate { version: 1 });
    put_again.open();
    assert!(versions(sending.await.unwrap()).iter().all(|(version, _)| *version == 1));
    assert_once(&lake, "what was committed stays").await;
}

async fn sweep(lake: &Lake, dies: bool) {
    let mut struck = 0;
    for strike in [Strike::NotDone, Strike::AnswerLost] {
        for write in 0..WRITES {
            let lake = lake.another();
            lake.open().await;
            let store = lake.behind(|inner| match dies {
                true => Storm::strike_dead(inner, strike, write),
                false => Storm::strike_once(inner, strike, write, ""),
            });
            let log = Log::open(store, PROJECT).await.unwrap();
            let first = log.append_together(&some(), Ack::Committed, at(1)).await;
            struck += usize::from(first.iter().any(Result::is_err));
            if !dies {
                // The same handle goes on, as a server's would.
                for told in log.append_together(&some(), Ack::Committed, at(2)).await {
                    told.unwrap();
                }
            }
            assert_once(&lake, &format!("{strike:?} at write {write}, dies: {dies}")).await;
        }
    }
    assert!(struck > WRITES / 2, "the strikes met the unit {struck} times");
}

async fn every_write_may_fail_once(lake: Lake) {
    sweep(&lake, false).await;
}

async fn a_sender_may_die_at_any_write(lake: Lake) {
    sweep(&lake, true).await;
}
