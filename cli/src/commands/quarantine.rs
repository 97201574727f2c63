//! `lakebed quarantine`: the events that could not be read.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use lakebed_ingest::retried;
use lakebed_log::{CommittedBatch, Log, Quarantined, quarantine};
use lakebed_query::time_text;

use crate::arguments::QuarantineCommand;
use crate::columns::{numbers, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Lists, shows or retries.
pub(crate) async fn quarantine(invocation: &Invocation, command: &QuarantineCommand) -> Result<()> {
    let config = invocation.config()?;
    let log = invocation.log(&config).await?;
    match command {
        QuarantineCommand::List => list(invocation, &batches(&log, &[]).await?),
        QuarantineCommand::Show(arguments) => {
            for batch in batches(&log, std::slice::from_ref(&arguments.batch)).await? {
                show(invocation, &batch.left)?;
            }
            Ok(())
        }
        QuarantineCommand::Retry(arguments) => {
            let intake = invocation.intake(&log, &config);
            let (mut left, mut read) = (0, 0);
            for batch in batches(&log, &arguments.batches).await? {
                let Batch { committed, left: refused, .. } = batch;
                let taken = intake.retry(&committed.id, &committed.source, &refused, config.ingest.ack).await?;
                read += taken;
                left += refused.len() as u64 - taken;
            }
            invocation.output.say(&format!("{read} events are in the log now, {left} stay in quarantine"));
            Ok(())
        }
    }
}

/// A batch with events that are in quarantine and nowhere else.
struct Batch {
    version: u64,
    time: DateTime<Utc>,
    committed: CommittedBatch,
    left: Vec<Quarantined>,
}

/// All of them, or those that are named.
async fn batches(log: &Log, named: &[String]) -> Result<Vec<Batch>> {
    let versions = log.versions(u64::MAX).await?;
    let all = versions
        .iter()
        .flat_map(|(version, entry)| entry.record.batches.iter().map(move |batch| (*version, entry.time, batch)));
    let mut later: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (batch, positions) in all.clone().filter_map(|(_, _, batch)| retried(&batch.id)) {
        later.entry(batch).or_default().extend(positions);
    }
    let mut found = Vec::new();
    for (version, time, committed) in all {
        let Some(path) = &committed.quarantine else { continue };
        if !named.is_empty() && !named.iter().any(|name| *name == committed.id.as_str()) {
            continue;
        }
        let mut left = quarantine::read(log.store(), path).await?;
        if let Some(later) = later.get(committed.id.as_str()) {
            left.retain(|event| !later.contains(&event.position));
        }
        if !left.is_empty() {
            found.push(Batch { version, time, committed: committed.clone(), left });
        }
    }
    match named.iter().find(|name| !found.iter().any(|batch| batch.committed.id.as_str() == **name)) {
        Some(name) => Err(Error::NoSuchBatch { batch: name.clone() }),
        None => Ok(found),
    }
}

fn list(invocation: &Invocation, batches: &[Batch]) -> Result<()> {
    let times: Vec<String> = batches.iter().map(|batch| time_text(batch.time)).collect();
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("version", numbers(batches.iter().map(|batch| batch.version))),
        ("time", texts(times)),
        ("source", texts(batches.iter().map(|batch| &batch.committed.source))),
        ("events", numbers(batches.iter().map(|batch| batch.left.len() as u64))),
        (
            "first_reason",
            texts(batches.iter().map(|batch| batch.left.first().map_or("", |event| event.reason.as_str()))),
        ),
        ("batch", texts(batches.iter().map(|batch| batch.committed.id.as_str()))),
    ])?)
}

fn show(invocation: &Invocation, events: &[Quarantined]) -> Result<()> {
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("position", numbers(events.iter().map(|event| event.position))),
        ("reason", texts(events.iter().map(|event| &event.reason))),
        ("text", texts(events.iter().map(|event| String::from_utf8_lossy(&event.bytes)))),
    ])?)
}
