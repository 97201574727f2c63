//! `lakebed log`: what is in the log, and what keeps it quick and small.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use lakebed_log::{Compacted, Compaction, Entry};

use crate::arguments::{LogCommand, LogShowArguments, LogVacuumArguments};
use crate::columns::{numbers, texts};
use crate::error::Result;
use crate::invocation::Invocation;

/// Runs a command on the log.
pub(crate) async fn log(invocation: &Invocation, command: &LogCommand) -> Result<()> {
    match command {
        LogCommand::Show(arguments) if arguments.objects => objects(invocation).await,
        LogCommand::Show(arguments) => show(invocation, arguments).await,
        LogCommand::Recover => recover(invocation).await,
        LogCommand::Compact => compact(invocation).await,
        LogCommand::Vacuum(arguments) => vacuum(invocation, arguments).await,
    }
}

async fn objects(invocation: &Invocation) -> Result<()> {
    let kinds = invocation.log(&invocation.config()?).await?.census().await?;
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("kind", texts(kinds.iter().map(|kind| kind.name))),
        ("objects", numbers(kinds.iter().map(|kind| kind.objects))),
        ("bytes", numbers(kinds.iter().map(|kind| kind.bytes))),
    ])?)
}

async fn recover(invocation: &Invocation) -> Result<()> {
    let drained = invocation.log(&invocation.config()?).await?.drain(invocation.now()).await?;
    invocation.output.say(&format!("committed {} batches that were waiting", drained.committed));
    for left in &drained.left {
        invocation.output.say(&format!("left in the inbox: {left}"));
    }
    Ok(())
}

async fn compact(invocation: &Invocation) -> Result<()> {
    let log = invocation.log(&invocation.config()?).await?;
    let Compacted { before, after } = log.compact(&Compaction::default(), invocation.now()).await?;
    let checkpoint = log.checkpoint(invocation.now()).await?;
    let (runs, folded) = lakebed_query::fold_runs(log.store()).await?;
    let text = match before.0 {
        0 => "nothing to compact".to_owned(),
        _ => format!("{} files, {} bytes → {} files, {} bytes", before.0, before.1, after.0, after.1),
    };
    let runs = match runs {
        0 => "no model runs to fold".to_owned(),
        _ => format!("{runs} model runs → {folded}"),
    };
    invocation.output.say(&format!("{text}; {runs}; checkpoint at version {checkpoint}"));
    Ok(())
}

async fn vacuum(invocation: &Invocation, arguments: &LogVacuumArguments) -> Result<()> {
    let log = invocation.log(&invocation.config()?).await?;
    // A clock that runs ahead would make files look old that were written just now.
    let now = invocation.now().min(log.store_time().await?);
    let vacuumed = log.vacuum(arguments.retain, now).await?;
    let runs = lakebed_query::vacuum_runs(log.store(), arguments.retain, now).await?;
    let (files, bytes) = (vacuumed.objects + runs.objects, vacuumed.bytes + runs.bytes);
    // After the runs: who has looked an epoch up still reads what it lists.
    let thinned = lakebed_query::thin(log.store(), &lakebed_query::Thinning::default(), now).await?.gone;
    invocation.output.say(&format!("deleted {files} files, {bytes} bytes; {thinned} old epochs are gone"));
    Ok(())
}

/// Lists the newest versions, oldest first.
async fn show(invocation: &Invocation, arguments: &LogShowArguments) -> Result<()> {
    let config = invocation.config()?;
    let versions = invocation.log(&config).await?.versions(arguments.last).await?;
    invocation.output.rows(&table(&versions)?)
}

fn table(versions: &[(u64, Entry)]) -> Result<RecordBatch> {
    let of = |number: fn(&Entry) -> u64| numbers(versions.iter().map(|(_, entry)| number(entry)));
    let times = versions.iter().map(|(_, entry)| entry.time.timestamp_micros());
    let time = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    Ok(RecordBatch::try_from_iter([
        ("version", numbers(versions.iter().map(|(version, _)| *version))),
        ("time", Arc::new(time) as ArrayRef),
        ("rows", of(Entry::events)),
        ("quarantined", of(Entry::quarantined)),
        ("batches", of(|entry| entry.record.batches.len() as u64)),
        ("files", of(|entry| entry.added.len() as u64)),
        ("bytes", of(Entry::bytes)),
    ])?)
}
