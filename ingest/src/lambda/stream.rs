//! Kinesis → log, exactly once: a shard is a lane, and its sequence numbers are the lane's positions.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use aws_lambda_events::kinesis::KinesisEventRecord;
use lakebed_log::{Ack, BatchId, LaneStep};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::frame::frame_all;
use crate::intake::{Intake, Prepared};

/// The source of events that do not name theirs.
const SOURCE: &str = "kinesis";

/// How often a stretch starts again because another delivery of it was first.
const TRIES: usize = 5;

/// Appends records, and names the first that the stream should deliver again with all that follow it.
///
/// # Errors
/// The last failure, where nothing was appended: then it does not matter whether the stream's mapping reads the answer.
pub(super) async fn answer(intake: &Intake, records: Vec<KinesisEventRecord>) -> Result<Value> {
    let mut shards: BTreeMap<String, Vec<KinesisEventRecord>> = BTreeMap::new();
    for record in records {
        shards.entry(lane_of(&record)).or_default().push(record);
    }
    let (all, mut failures, mut last) = (shards.len(), Vec::new(), None);
    for (lane, records) in shards {
        if let Err(error) = take(intake, &lane, &records).await {
            tracing::error!("records of {lane} are left in the stream: {error}");
            let first = records.first().map(|record| &record.kinesis.sequence_number);
            failures.extend(first.map(|number| json!({ "itemIdentifier": number })));
            last = Some(error);
        }
    }
    match last {
        Some(error) if failures.len() == all => Err(error),
        _ => Ok(json!({ "batchItemFailures": failures })),
    }
}

/// `kinesis/STREAM/SHARD`, where the stream is its ARN. An event's id is `shardId-000000000006:4959…`.
fn lane_of(record: &KinesisEventRecord) -> String {
    let stream = record.event_source_arn.as_deref().unwrap_or_default();
    // A consumer of its own (enhanced fan-out) reads the same shards.
    let stream = stream.split("/consumer/").next().unwrap_or_default();
    let shard = record.event_id.as_deref().and_then(|id| id.split_once(':')).map_or("", |(shard, _)| shard);
    format!("kinesis/{stream}/{shard}")
}

/// Appends what a lane has not got yet of a stretch of its records, as one batch.
async fn take(intake: &Intake, lane: &str, records: &[KinesisEventRecord]) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let stands = intake.log().lane(lane).await?;
        let is_new = |record: &&KinesisEventRecord| match &stands {
            Some(stands) => compare(&record.kinesis.sequence_number, stands) == Ordering::Greater,
            None => true,
        };
        let new: Vec<_> = records.iter().filter(is_new).collect();
        if new.len() < records.len() {
            let known = records.len() - new.len();
            tracing::info!(
                "{known} of {} records are before {}, where {lane} stands",
                records.len(),
                stands.as_deref().unwrap_or("?")
            );
        }
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(()) };
        let settings = intake.settings().uncut();
        let raw = frame_all(new.iter().map(|record| record.kinesis.data.0.as_slice()), &settings);
        // Records without a single event need not move the lane: there is nothing of them to repeat.
        let Some(raw) = raw else { return Ok(()) };
        let (first, to) = (&first.kinesis.sequence_number, last.kinesis.sequence_number.clone());
        let id = BatchId::new(format!("{lane}/{first}-{to}"));
        let step = LaneStep { lane: lane.to_owned(), from: stands, to };
        let prepared = Prepared::in_lane(&raw, id, SOURCE, Some(step), &settings);
        match intake.append_anyhow(&prepared, Ack::Committed).await {
            Err(Error::Log(lakebed_log::Error::LaneConflict { .. })) if tries < TRIES => {}
            appended => return appended.map(drop),
        }
    }
}

/// Sequence numbers are decimal and have up to 128 bits and more.
fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_compared_as_numbers() {
        let long = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(compare("9", "10"), Ordering::Less);
        assert_eq!(compare(long, "49590338271490256608559692540925702759324208523137515618"), Ordering::Less);
        assert_eq!(compare(&format!("00{long}"), long), Ordering::Equal);
        assert_eq!(compare("0", ""), Ordering::Equal);
    }
}
