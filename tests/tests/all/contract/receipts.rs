//! A batch is in the log once, for ever: a retry is a duplicate, and other content under its id is refused.

use lakebed_log::{Ack, Appended, Error, layout};
use lakebed_tests::batches::{at, batch, event, numbered};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::rows;

over_every_store!(
    a_retry_is_a_duplicate,
    a_retry_after_many_versions_is_a_duplicate,
    other_content_is_a_conflict,
    a_staged_batch_guards_its_id,
    a_batch_whose_version_is_lost_comes_again,
    a_batch_whose_files_are_gone_is_sent_again,
);

async fn a_retry_is_a_duplicate(lake: Lake) {
    let log = lake.open().await;
    let sent = numbered("once", 5);
    assert_eq!(log.append(&sent, Ack::Committed, at(1)).await.unwrap(), Appended::Committed { version: 1 });
    let objects = lake.store().list(&"events".into()).await.unwrap();
    for again in [log.clone(), lake.open().await] {
        for ack in [Ack::Committed, Ack::Durable] {
            assert_eq!(again.append(&sent, ack, at(2)).await.unwrap(), Appended::Duplicate { version: 1 });
        }
    }
    assert_eq!(lake.store().list(&"events".into()).await.unwrap(), objects, "not a byte was written");
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 5);
}

async fn a_retry_after_many_versions_is_a_duplicate(lake: Lake) {
    let log = lake.open().await;
    for number in 0..70 {
        log.append(&numbered(&format!("b{number}"), 1), Ack::Committed, at(number)).await.unwrap();
    }
    let again = lake.open().await;
    for number in [0, 33, 69] {
        let appended = again.append(&numbered(&format!("b{number}"), 1), Ack::Committed, at(100)).await.unwrap();
        assert_eq!(appended, Appended::Duplicate { version: number + 1 });
    }
    assert_eq!(again.snapshot().await.unwrap().next_offset, 70);
}

/// A power cut took the newest version, and not the receipt that names it.
async fn a_batch_whose_version_is_lost_comes_again(lake: Lake) {
    let (kept, lost) = (numbered("kept", 2), numbered("lost", 3));
    let log = lake.open().await;
    log.append(&kept, Ack::Committed, at(1)).await.unwrap();
    log.append(&lost, Ack::Committed, at(2)).await.unwrap();
    drop(log);
    lake.store().delete(&layout::commit(2)).await.unwrap();
    let log = lake.open().await;
    assert_eq!(log.append(&lost, Ack::Committed, at(3)).await.unwrap(), Appended::Committed { version: 2 });
    assert_eq!(log.append(&lost, Ack::Committed, at(4)).await.unwrap(), Appended::Duplicate { version: 2 });
    assert_eq!(log.append(&kept, Ack::Committed, at(5)).await.unwrap(), Appended::Duplicate { version: 1 });
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 5);
}

async fn other_content_is_a_conflict(lake: Lake) {
    let log = lake.open().await;
    let (first, second) = (batch("id", &[event("a", "")]), batch("id", &[event("b", "")]));
    log.append(&first, Ack::Committed, at(1)).await.unwrap();
    for again in [log.clone(), lake.open().await] {
        let error = again.append(&second, Ack::Committed, at(2)).await.unwrap_err();
        let (said, theirs, ours) = (error.to_string(), first.content.to_string(), second.content.to_string());
        assert!(said.contains(&theirs) && said.contains(&ours) && said.contains("'id'"), "{said}");
        assert!(matches!(error, Error::BatchConflict { .. }) && error.hint().is_some() && !error.may_pass());
    }
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 1);
}

async fn a_staged_batch_guards_its_id(lake: Lake) {
    let log = lake.open().await;
    log.append(&batch("id", &[event("a", "")]), Ack::Durable, at(1)).await.unwrap();
    let error = lake.open().await.append(&batch("id", &[event("b", "")]), Ack::Durable, at(2)).await.unwrap_err();
    assert!(matches!(error, Error::BatchConflict { .. }), "{error}");
    assert_eq!(log.drain(at(3)).await.unwrap().committed, 1);
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await[0].event_id, "a");
}

/// What waits in the inbox and has lost its files is nothing that anybody could commit: its senders' retries are.
async fn a_batch_whose_files_are_gone_is_sent_again(lake: Lake) {
    let log = lake.open().await;
    let together = [numbered("x", 2), numbered("y", 2)];
    log.append(&numbered("a", 3), Ack::Durable, at(1)).await.unwrap();
    log.append(&numbered("b", 3), Ack::Durable, at(1)).await.unwrap();
    for appended in log.append_together(&together, Ack::Durable, at(1)).await {
        assert_eq!(appended.unwrap(), Appended::Durable);
    }
    let objects = lake.store().list(&"events".into()).await.unwrap();
    let files: Vec<_> = objects.iter().filter(|object| object.location.as_ref().ends_with(".parquet")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        lake.store().delete(&file.location).await.unwrap();
    }
    assert_eq!(log.drain(at(2)).await.unwrap().left.len(), 3, "they are told, and stay");
    assert_eq!(log.append(&numbered("a", 3), Ack::Durable, at(3)).await.unwrap(), Appended::Durable);
    for batch in [&numbered("b", 3), &together[0], &together[1], &numbered("a", 3)] {
        let appended = lake.open().await.append(batch, Ack::Committed, at(4)).await.unwrap();
        assert!(matches!(appended, Appended::Committed { .. } | Appended::Duplicate { .. }), "{appended:?}");
    }
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 10);
    assert_eq!(log.drain(at(5)).await.unwrap().left, [""; 0]);
}
