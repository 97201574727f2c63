//! Engines that know nothing of lakebed read the log and see what was written, whatever maintenance did to it; foreign
//! writers are refused.

use std::sync::Arc;

use chrono::TimeDelta;
use lakebed_log::{Ack, Compaction, Log};
use lakebed_tests::batches::{at, decoded, generated, starter_settings};
use lakebed_tests::foreign::readers_agree;
use lakebed_tests::lake::Lake;

/// The column whose sum is compared: whole numbers.
const SUMMED: &str = "engagement_duration_ms";

/// Appends the `number`-th batch of a feed; from the third on there are columns that were not there before.
async fn append(log: &Log, number: u64) {
    let feed = lakebed_generator::Settings { drift: number >= 2, ..Default::default() };
    let batch = Arc::new(decoded(&format!("b{number}"), &generated(&feed, number * 900, 900), &starter_settings()));
    assert_eq!(batch.events.len(), 900);
    log.append(&batch, Ack::Committed, at(60 * (number as i64 + 1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_see_what_was_written() {
    let lake = Lake::local();
    let (log, directory) = (lake.open().await, lake.directory().unwrap());
    for number in 0..4 {
        append(&log, number).await;
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
    append(&log, 4).await;
    readers_agree(&log, directory, SUMMED, compacted.version).await;
}
