//! `lakebed log`: what is in the log, version by version.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use lakebed_log::Entry;

use crate::arguments::{LogCommand, LogShowArguments};
use crate::error::Result;
use crate::invocation::Invocation;

/// Runs a command on the log.
pub(crate) async fn log(invocation: &Invocation, command: &LogCommand) -> Result<()> {
    match command {
        LogCommand::Show(arguments) => show(invocation, arguments).await,
    }
}

/// Lists the newest versions, oldest first.
async fn show(invocation: &Invocation, arguments: &LogShowArguments) -> Result<()> {
    let config = invocation.config()?;
    let versions = invocation.log(&config).await?.versions().await?;
    let from = versions.len().saturating_sub(arguments.last);
    invocation.output.rows(&table(&versions[from..])?)
}

fn table(versions: &[(u64, Entry)]) -> Result<RecordBatch> {
    let numbers = |number: fn(&Entry) -> u64| {
        Arc::new(UInt64Array::from_iter_values(versions.iter().map(|(_, entry)| number(entry)))) as ArrayRef
    };
    let version = UInt64Array::from_iter_values(versions.iter().map(|(version, _)| *version));
    let times = versions.iter().map(|(_, entry)| entry.time.timestamp_micros());
    let time = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    Ok(RecordBatch::try_from_iter([
        ("version", Arc::new(version) as ArrayRef),
        ("time", Arc::new(time) as ArrayRef),
        ("rows", numbers(|entry| entry.record.batches.iter().map(|batch| batch.rows).sum())),
        ("quarantined", numbers(|entry| entry.record.batches.iter().map(|batch| batch.quarantined).sum())),
        ("batches", numbers(|entry| entry.record.batches.len() as u64)),
        ("files", numbers(|entry| entry.added.len() as u64)),
        ("bytes", numbers(|entry| entry.added.iter().map(|file| file.staged.bytes).sum())),
    ])?)
}
