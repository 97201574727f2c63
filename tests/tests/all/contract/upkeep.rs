//! Compaction, checkpoint, vacuum: a version stays what it is, and a batch is in the log once, whatever became of its files.

use std::collections::BTreeSet;

use arrow::array::Int64Array;
use chrono::{TimeDelta, Utc};
use lakebed_log::maintenance::Thresholds;
use lakebed_log::{Ack, Appended, Compaction, Log, layout, schema};
use lakebed_tests::batches::{at, in_lane, numbered};
use lakebed_tests::lake::Lake;
use lakebed_tests::rows::{column, file, rows};

over_every_store!(
    a_retry_after_compaction_vacuum_and_a_month_is_a_duplicate,
    a_version_is_what_it_was,
    a_compacted_file_is_in_the_order_of_offsets,
    upkeep_is_done_when_it_is_due,
);

/// Batches `0` to `count`, a version each.
async fn filled(lake: &Lake, count: i64) -> Log {
    let log = lake.open().await;
    for number in 0..count {
        log.append(&numbered(&format!("b{number}"), 3), Ack::Committed, at(number)).await.unwrap();
    }
    log
}

/// The data files that the log names.
async fn named(log: &Log) -> BTreeSet<String> {
    log.snapshot().await.unwrap().files.iter().map(|file| file.staged.path.clone()).collect()
}

/// Deletes what was replaced: by the store's clock it was replaced just now, so the time is one in eight days.
async fn vacuum(log: &Log) -> u64 {
    log.vacuum(TimeDelta::days(7), Utc::now() + TimeDelta::days(8)).await.unwrap().objects
}

async fn a_retry_after_compaction_vacuum_and_a_month_is_a_duplicate(lake: Lake) {
    let log = filled(&lake, 4).await;
    let lane = in_lane("lane", "shard", None, "1");
    log.append(&lane, Ack::Committed, at(5)).await.unwrap();
    let replaced = named(&log).await;
    log.compact(&Compaction::default(), at(10)).await.unwrap();
    log.checkpoint(at(11)).await.unwrap();
    assert_eq!(vacuum(&log).await, 5);
    for path in &replaced {
        assert!(!lake.store().exists(&layout::in_table(path)).await.unwrap(), "{path} is gone");
    }
    let month = at(30 * 24 * 3600);
    for again in [log, lake.open().await] {
        for number in 0..4 {
            let appended = again.append(&numbered(&format!("b{number}"), 3), Ack::Committed, month).await.unwrap();
            assert_eq!(appended, Appended::Duplicate { version: number + 1 });
        }
        assert_eq!(again.append(&lane, Ack::Committed, month).await.unwrap(), Appended::Duplicate { version: 5 });
        assert_eq!(again.snapshot().await.unwrap().next_offset, 13);
    }
}

/// What a put leaves on local disk that was killed before its rename.
#[tokio::test]
async fn a_vacuum_takes_what_killed_puts_left() {
    let lake = Lake::local();
    let log = filled(&lake, 1).await;
    let days = lake.directory().unwrap().join("events/event_date=2026-11-01");
    std::fs::write(days.join("cut.parquet#1"), "half a file").unwrap();
    let now = log.vacuum(TimeDelta::days(7), Utc::now()).await.unwrap();
    assert_eq!((now.objects, vacuum(&log).await), (0, 1), "not before its time");
    assert_eq!(std::fs::read_dir(days).unwrap().count(), 1);
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 3);
}

async fn a_version_is_what_it_was(lake: Lake) {
    let log = filled(&lake, 5).await;
    let mut before = Vec::new();
    for version in 0..=5 {
        before.push(rows(&log, &log.snapshot_at(version).await.unwrap()).await);
    }
    log.compact(&Compaction::default(), at(10)).await.unwrap();
    log.checkpoint(at(11)).await.unwrap();
    assert_eq!(vacuum(&log).await, 5);
    for reader in [log, lake.open().await] {
        for (version, before) in (0..).zip(&before) {
            assert_eq!(rows(&reader, &reader.snapshot_at(version).await.unwrap()).await, *before, "version {version}");
            let soon_after = at(version as i64) + TimeDelta::milliseconds(500);
            assert_eq!(reader.version_at(soon_after).await.unwrap(), (version + 1).min(5));
        }
    }
}

async fn a_compacted_file_is_in_the_order_of_offsets(lake: Lake) {
    let log = filled(&lake, 6).await;
    log.compact(&Compaction::default(), at(10)).await.unwrap();
    let snapshot = log.snapshot().await.unwrap();
    let [data] = &snapshot.files[..] else { panic!("one day, one file: {:?}", snapshot.files) };
    assert_eq!(data.offset_range(), (0, 17));
    let read = file(&log, data).await;
    let offsets: &Int64Array = column(&read, schema::OFFSET);
    assert_eq!(offsets.values().to_vec(), (0..18).collect::<Vec<_>>(), "in the file as it is, before anybody sorts");
}

async fn upkeep_is_done_when_it_is_due(lake: Lake) {
    let due = Thresholds { checkpoint_versions: 6, compact_files: 4, vacuum_files: 4, ..Thresholds::default() };
    let log = filled(&lake, 3).await;
    assert_eq!(log.maintain(&due, at(10)).await.unwrap(), Default::default(), "nothing is due");
    log.append(&numbered("b3", 3), Ack::Committed, at(11)).await.unwrap();
    let done = log.maintain(&due, at(12)).await.unwrap();
    assert_eq!((done.compacted.before.0, done.compacted.after.0, done.checkpoint), (4, 1, None));
    log.append(&numbered("b4", 3), Ack::Committed, at(13)).await.unwrap();
    let done = log.maintain(&due, at(14)).await.unwrap();
    assert_eq!((done.compacted.before.0, done.checkpoint, done.vacuumed.objects), (0, Some(6), 0));
    // The files were removed by the test's clock, weeks ago; no file is deleted before its time by the store's.
    let done = log.maintain(&due, Utc::now() + TimeDelta::days(40)).await.unwrap();
    assert_eq!(done.vacuumed.objects, 4);
    assert_eq!(log.maintain(&due, Utc::now() + TimeDelta::days(40)).await.unwrap(), Default::default(), "once");
    assert_eq!(rows(&log, &log.snapshot().await.unwrap()).await.len(), 15);
}
