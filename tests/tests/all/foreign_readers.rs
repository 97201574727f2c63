//! Engines that know nothing of lakebed read the log and see what was written, whatever maintenance did to it; foreign
//! writers are refused.

use std::ops::Range;
use std::sync::Arc;

use chrono::TimeDelta;
use lakebed_log::{Ack, Compaction, Log, PartitionBy};
use lakebed_tests::batches::{at, decoded, generated, starter_settings};
use lakebed_tests::foreign::readers_agree;
use lakebed_tests::lake::Lake;

/// The column whose sum is compared: whole numbers.
const SUMMED: &str = "engagement_duration_ms";

/// Appends these batches of a feed together; from the third on there are columns that were not there before.
async fn append(log: &Log, numbers: Range<u64>) {
    let batch = |number: u64| {
        let feed = lakebed_generator::Settings { drift: number >= 2, ..Default::default() };
        Arc::new(decoded(&format!("b{number}"), &generated(&feed, number * 900, 900), &starter_settings()))
    };
    let moment = at(60 * (numbers.start as i64 + 1));
    let batches: Vec<_> = numbers.map(batch).collect();
    assert!(batches.iter().all(|batch| batch.events.len() == 900));
    for appended in log.append_together(&batches, Ack::Committed, moment).await {
        appended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_see_what_was_written() {
    they_see_it_all(PartitionBy::EventDate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_see_what_was_written_without_partitions() {
    they_see_it_all(PartitionBy::Nothing).await;
}

async fn they_see_it_all(partition_by: PartitionBy) {
    let lake = Lake::local();
    let (log, directory) = (lake.open_by(partition_by).await, lake.directory().unwrap());
    for numbers in [0..1, 1..4, 4..5, 5..6] {
        append(&log, numbers).await;
    }
    let columns = log.snapshot().await.unwrap().claims.iter().count();
    assert!(columns > log.versions(4).await.unwrap()[0].1.claims.as_ref().unwrap().iter().count());
    readers_agree(&log, directory, SUMMED, 1).await;

    let before = log.snapshot().await.unwrap().files.len();
    log.compact(&Compaction::default(), at(600)).await.unwrap();
    log.checkpoint(at(601)).await.unwrap();
    let compacted = log.snapshot().await.unwrap();
    assert!(compacted.files.len() < before);
    readers_agree(&log, directory, SUMMED, 1).await;

    // The clock of the store is today's: by then every replaced file is old.
    let later = chrono::Utc::now() + TimeDelta::days(8);
    assert!(log.vacuum(TimeDelta::days(7), later).await.unwrap().objects > 0);
    append(&log, 6..8).await;
    readers_agree(&log, directory, SUMMED, compacted.version).await;
}
