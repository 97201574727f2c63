//! Lanes: an ordered source is taken up in order, and never twice.

use std::sync::Arc;

use lakebed_log::{Ack, Appended, Batch, Error, Log, layout};
use lakebed_tests::batches::{at, in_lane, numbered};
use lakebed_tests::lake::{Lake, PROJECT};
use lakebed_tests::rows::rows;
use lakebed_tests::storm::{Storm, Strike};

over_every_store!(
    a_lane_goes_in_order,
    a_lane_is_read_back_by_another,
    a_lane_needs_no_checkpoint,
    a_lane_waits_for_its_commit,
    waiting_batches_are_put_in_order,
);

/// Kinesis sequence numbers: 56 digits, further than any integer of ours counts.
fn position(last: u8) -> String {
    format!("495903381{last:047}")
}

async fn a_lane_goes_in_order(lake: Lake) {
    let log = lake.open().await;
    let [one, two, three] = [1, 2, 3].map(position);
    assert_eq!(one.len(), 56);
    log.append(&in_lane("a", "shard", None, &one), Ack::Committed, at(1)).await.unwrap();
    log.append(&in_lane("other", "another", None, &three), Ack::Committed, at(1)).await.unwrap();

    let skips = log.append(&in_lane("c", "shard", Some(&two), &three), Ack::Committed, at(2)).await.unwrap_err();
    let said = skips.to_string();
    assert!(matches!(skips, Error::LaneConflict { .. }) && said.contains("shard") && said.contains(&one), "{said}");
    let repeats = log.append(&in_lane("a2", "shard", None, &one), Ack::Committed, at(2)).await.unwrap_err();
    assert!(matches!(repeats, Error::LaneConflict { .. }), "{repeats}");

    let appended = log.append(&in_lane("b", "shard", Some(&one), &two), Ack::Committed, at(3)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 3 });
    let appended = log.append(&in_lane("c", "shard", Some(&two), &three), Ack::Committed, at(4)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 4 }, "what was refused can be sent again in its turn");
    let again = log.append(&in_lane("b", "shard", Some(&one), &two), Ack::Committed, at(5)).await.unwrap();
    assert_eq!(again, Appended::Duplicate { version: 3 });
    let ids: Vec<_> = rows(&log, &log.snapshot().await.unwrap()).await.into_iter().map(|row| row.batch_id).collect();
    assert_eq!(ids, ["a", "other", "b", "c"]);
    let inbox = log.store().list(&lakebed_log::layout::inbox()).await.unwrap();
    assert!(inbox.is_empty(), "what was refused does not wait");
}

async fn a_lane_is_read_back_by_another(lake: Lake) {
    let [one, two] = [1, 2].map(position);
    lake.open().await.append(&in_lane("a", "shard", None, &one), Ack::Committed, at(1)).await.unwrap();
    let another = lake.open().await;
    for number in 0..3 {
        another.append(&numbered(&format!("n{number}"), 1), Ack::Committed, at(2)).await.unwrap();
    }
    let error = another.append(&in_lane("b", "shard", None, &two), Ack::Committed, at(3)).await.unwrap_err();
    assert!(error.to_string().contains(&one), "{error}");
    let entries = another.versions(u64::MAX).await.unwrap();
    assert_eq!(entries[1].1.lanes, [("shard".to_owned(), one.clone())].into());
    another.append(&in_lane("b2", "shard", Some(&one), &two), Ack::Committed, at(4)).await.unwrap();
}

/// Leaves a batch in the inbox, as a sender does that is killed before it can take it back.
async fn leave_in_inbox(lake: &Lake, batch: &Arc<Batch>) {
    let store = lake.behind(|inner| Storm::strike_once(inner, Strike::NotDone, 1, "_inbox"));
    let log = Log::open(store, PROJECT).await.unwrap();
    assert!(log.append(batch, Ack::Committed, at(1)).await.is_err(), "it is out of its lane, and not taken back");
}

async fn waiting_batches_are_put_in_order(lake: Lake) {
    let log = lake.open().await;
    let [one, two, three, far] = [1, 2, 3, 8].map(position);
    let left = [(&two, &three, "c"), (&one, &two, "b"), (&far, &position(9), "z")];
    for (from, to, id) in left {
        leave_in_inbox(&lake, &in_lane(id, "shard", Some(from), to)).await;
    }
    log.append(&in_lane("a", "shard", None, &one), Ack::Committed, at(4)).await.unwrap();
    let ids: Vec<_> = rows(&log, &log.snapshot().await.unwrap()).await.into_iter().map(|row| row.batch_id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    // What does not follow is not looked for in all history by every process that starts from now on.
    let drained = log.drain(at(5)).await.unwrap();
    assert!(drained.left.len() == 1 && drained.left[0].contains("'z' does not follow"), "{:?}", drained.left);
    assert!(log.store().list(&layout::inbox()).await.unwrap().is_empty());
}

async fn a_lane_needs_no_checkpoint(lake: Lake) {
    let [one, two] = [1, 2].map(position);
    let log = lake.open().await;
    log.append(&in_lane("a", "shard", None, &one), Ack::Committed, at(1)).await.unwrap();
    let version = log.checkpoint(at(2)).await.unwrap();
    log.store().delete(&layout::checkpoint(version)).await.unwrap();
    let appended = lake.open().await.append(&in_lane("b", "shard", Some(&one), &two), Ack::Committed, at(3)).await;
    assert_eq!(appended.unwrap(), Appended::Committed { version: 2 });
}

/// Nobody is told that a lane's batch is safe before it is in the log: it may be taken back.
async fn a_lane_waits_for_its_commit(lake: Lake) {
    let log = lake.open().await;
    let appended = log.append(&in_lane("a", "shard", None, &position(1)), Ack::Durable, at(1)).await.unwrap();
    assert_eq!(appended, Appended::Committed { version: 1 });
}
