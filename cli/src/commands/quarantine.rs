//! `lakebed quarantine`: the events that could not be read.

use arrow::array::RecordBatch;
use lakebed_log::quarantine::{self, Left};
use lakebed_log::{Ack, BatchId, Entry, Log, Quarantined};
use lakebed_query::time_text;

use crate::arguments::QuarantineCommand;
use crate::columns::{numbers, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Lists, shows or retries.
pub(crate) async fn quarantine(invocation: &Invocation, command: &QuarantineCommand) -> Result<()> {
    let config = invocation.config()?;
    let log = invocation.log(&config).await?;
    if matches!(command, QuarantineCommand::Retry(_)) {
        // An earlier retry may still wait, and what it brings is not to come again under another id.
        log.drain(invocation.now()).await?;
    }
    let versions = log.versions(u64::MAX).await?;
    match command {
        QuarantineCommand::List => list(invocation, &left(&log, &versions, &[]).await?),
        QuarantineCommand::Show(arguments) => {
            for batch in left(&log, &versions, std::slice::from_ref(&arguments.batch)).await? {
                show(invocation, &batch.events)?;
            }
            Ok(())
        }
        QuarantineCommand::Retry(arguments) => {
            let intake = invocation.intake(&log, &config);
            let (mut stay, mut read) = (0, 0);
            for Left { batch, events, .. } in left(&log, &versions, &arguments.batches).await? {
                let taken = intake.retry(&batch.id, &batch.source, &events, Ack::Committed).await?;
                read += taken;
                stay += events.len() as u64 - taken;
            }
            invocation.output.say(&format!("{read} events are in the log now, {stay} stay in quarantine"));
            Ok(())
        }
    }
}

/// Of all batches, or of those that are named.
async fn left<'v>(log: &Log, versions: &'v [(u64, Entry)], named: &[String]) -> Result<Vec<Left<'v>>> {
    let is_wanted = |id: &BatchId| named.is_empty() || named.iter().any(|name| *name == id.as_str());
    let found = quarantine::left(log.store(), versions, is_wanted).await?;
    match named.iter().find(|name| !found.iter().any(|of| of.batch.id.as_str() == **name)) {
        Some(name) => Err(Error::NoSuchBatch { batch: name.clone() }),
        None => Ok(found),
    }
}

fn list(invocation: &Invocation, batches: &[Left<'_>]) -> Result<()> {
    let times: Vec<String> = batches.iter().map(|batch| time_text(batch.time)).collect();
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("version", numbers(batches.iter().map(|batch| batch.version))),
        ("time", texts(times)),
        ("source", texts(batches.iter().map(|batch| &batch.batch.source))),
        ("events", numbers(batches.iter().map(|batch| batch.events.len() as u64))),
        (
            "first_reason",
            texts(batches.iter().map(|batch| batch.events.first().map_or("", |event| event.reason.as_str()))),
        ),
        ("batch", texts(batches.iter().map(|batch| batch.batch.id.as_str()))),
    ])?)
}

fn show(invocation: &Invocation, events: &[Quarantined]) -> Result<()> {
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("position", numbers(events.iter().map(|event| event.position))),
        ("reason", texts(events.iter().map(|event| &event.reason))),
        ("text", texts(events.iter().map(|event| String::from_utf8_lossy(&event.bytes)))),
    ])?)
}
