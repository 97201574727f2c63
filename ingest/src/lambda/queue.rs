//! SQS → log. A message is a batch of its own, named after the message, so that it is in the log once, however the queue
//! groups what it delivers again; messages that come together share a commit.

use std::collections::BTreeMap;

use aws_lambda_events::sqs::SqsMessage;
use futures::StreamExt;
use lakebed_log::{Ack, BatchId, S3Settings};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::invocation::Invocation;
use super::objects;
use crate::error::{Error, Result};
use crate::frame::frame_all;
use crate::intake::{Intake, Prepared};

/// The source of events that do not name theirs.
const SOURCE: &str = "sqs";

/// How many messages are appended at once.
const AT_ONCE: usize = 64;

/// Appends messages, and names those that the queue should deliver again.
///
/// Messages of a FIFO queue's group are appended in their order: after one that failed, the rest of its group waits with it.
///
/// # Errors
/// The last failure, where none was appended: then it does not matter whether the queue's mapping reads the answer.
pub(super) async fn answer(intake: &Intake, s3: &S3Settings, messages: Vec<SqsMessage>, ack: Ack) -> Result<Value> {
    let all = messages.len();
    let mut groups: BTreeMap<String, Vec<SqsMessage>> = BTreeMap::new();
    for (number, message) in messages.into_iter().enumerate() {
        let is_fifo = message.event_source_arn.as_deref().is_some_and(|queue| queue.ends_with(".fifo"));
        let group = message.attributes.get("MessageGroupId").filter(|_| is_fifo).map(|group| format!("group {group}"));
        groups.entry(group.unwrap_or_else(|| format!("message {number}"))).or_default().push(message);
    }
    let taking: Vec<_> = groups.into_values().map(|group| take_in_order(intake, s3, group, ack)).collect();
    let mut failures = Vec::new();
    let mut last = None;
    for (failed, error) in futures::stream::iter(taking).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        failures.extend(failed.into_iter().map(|id| json!({ "itemIdentifier": id })));
        last = error.or(last);
    }
    match last {
        Some(error) if failures.len() == all => Err(error),
        _ => Ok(json!({ "batchItemFailures": failures })),
    }
}

/// Appends messages one after the other; gives the ids of those that were not, and why.
async fn take_in_order(
    intake: &Intake,
    s3: &S3Settings,
    messages: Vec<SqsMessage>,
    ack: Ack,
) -> (Vec<String>, Option<Error>) {
    // What waits for its commit may be overtaken.
    let ack = if messages.len() > 1 { Ack::Committed } else { ack };
    for (number, message) in messages.iter().enumerate() {
        if let Err(error) = take(intake, s3, message, ack).await {
            tracing::error!("message {} is left in the queue: {error}", message.message_id.as_deref().unwrap_or("?"));
            let left = messages[number..].iter().filter_map(|message| message.message_id.clone());
            return (left.collect(), Some(error));
        }
    }
    (Vec::new(), None)
}

async fn take(intake: &Intake, s3: &S3Settings, message: &SqsMessage, ack: Ack) -> Result<()> {
    let body = message.body.as_deref().unwrap_or_default();
    // Notifications of S3 often come by a queue.
    if let Ok(payload) = serde_json::from_str::<&RawValue>(body)
        && let Ok(Invocation::Objects(event)) = Invocation::of(payload, |_| false)
    {
        return objects::take_all(intake, s3, &event, ack).await.map(drop);
    }
    // A message is one batch, whatever its size.
    let settings = intake.settings().uncut();
    let Some(raw) = frame_all([body.as_bytes()], &settings) else { return Ok(()) };
    let id = match (&message.event_source_arn, &message.message_id) {
        (Some(queue), Some(message)) => BatchId::new(format!("sqs/{queue}/{message}")),
        _ => BatchId::of_content(raw.content()),
    };
    intake.append_anyhow(&Prepared::new(&raw, id, SOURCE, &settings), ack).await.map(drop)
}
