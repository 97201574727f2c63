//! SQS → log. A message is a batch of its own, named after the message, so that it is in the log once, however the queue
//! groups what it delivers again; messages that come together share a commit.

use std::collections::BTreeMap;

use aws_lambda_events::sqs::SqsMessage;
use futures::StreamExt;
use lakebed_log::{Ack, BatchId};
use serde_json::{Value, json};

use crate::error::Result;
use crate::frame::frame_all;
use crate::intake::{Intake, Prepared};

/// The source of events that do not name theirs.
const SOURCE: &str = "sqs";

/// How many messages are appended at once.
const AT_ONCE: usize = 64;

/// Appends messages, and names those that the queue should deliver again.
///
/// Messages of a FIFO queue's group are appended in their order: after one that failed, the rest of its group waits with it.
pub(super) async fn answer(intake: &Intake, messages: Vec<SqsMessage>, ack: Ack) -> Value {
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for (number, message) in messages.into_iter().enumerate() {
        let group = message.attributes.get("MessageGroupId").map(|group| format!("group {group}"));
        groups.entry(group.unwrap_or_else(|| format!("message {number}"))).or_default().push(message);
    }
    let groups: Vec<_> = groups.into_values().map(|group| take_in_order(intake, group, ack)).collect();
    let failed: Vec<String> = futures::stream::iter(groups).buffer_unordered(AT_ONCE).concat().await;
    let failures: Vec<Value> = failed.into_iter().map(|id| json!({ "itemIdentifier": id })).collect();
    json!({ "batchItemFailures": failures })
}

/// Appends messages one after the other; gives the ids of those that were not.
async fn take_in_order(intake: &Intake, messages: Vec<SqsMessage>, ack: Ack) -> Vec<String> {
    for (number, message) in messages.iter().enumerate() {
        if let Err(error) = take(intake, message, ack).await {
            tracing::error!("message {} is left in the queue: {error}", message.message_id.as_deref().unwrap_or("?"));
            return messages[number..].iter().filter_map(|message| message.message_id.clone()).collect();
        }
    }
    Vec::new()
}

async fn take(intake: &Intake, message: &SqsMessage, ack: Ack) -> Result<()> {
    let body = message.body.as_deref().unwrap_or_default();
    // A message is one batch, whatever its size.
    let settings = intake.settings().uncut();
    let Some(raw) = frame_all([body.as_bytes()], &settings) else { return Ok(()) };
    let id = match (&message.event_source_arn, &message.message_id) {
        (Some(queue), Some(message)) => BatchId::new(format!("sqs/{queue}/{message}")),
        _ => BatchId::of_content(raw.content()),
    };
    intake.append(&Prepared::new(&raw, id, SOURCE, &settings), ack).await.map(drop)
}
