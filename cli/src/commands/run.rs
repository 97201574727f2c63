//! `lakebed run`: the models, brought up to the log's newest version.

pub(crate) mod behind;

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use lakebed_log::Thresholds;
use lakebed_query::{Lakehouse, Refreshed, Replay, models};

use self::behind::Behind;
use crate::arguments::RunArguments;
use crate::columns::{numbers, texts};
use crate::commands::replay;
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::progress::ModelBar;
use crate::signals;
use crate::system;

/// How often `--watch` looks at the log.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Refreshes once, or with `--watch` whenever the log has moved.
pub(crate) async fn run(invocation: &Invocation, arguments: &RunArguments) -> Result<()> {
    system::keep_freed_memory(64 << 20);
    // As they are before the models are read: what changes meanwhile is seen.
    let files = models::stamp(&invocation.directory);
    let lakehouse = invocation.lakehouse_or_new().await?;
    if arguments.full_refresh {
        let replay = Replay { models: arguments.models.clone(), ..Replay::default() };
        return replay::report(invocation, &lakehouse, &replay).await;
    }
    if let Some(version) = arguments.to {
        let bar = ModelBar::new(&invocation.output);
        return report(invocation, &lakehouse.run_to(version, &arguments.models, &bar).await?);
    }
    let refreshed = refresh(invocation, &lakehouse, &arguments.models).await?;
    report(invocation, &refreshed)?;
    match arguments.watch {
        true => go_on(invocation, lakehouse, &arguments.models, (refreshed.version, files)).await,
        false => Ok(()),
    }
}

/// Refreshes whenever the log has moved, until it is told to stop. What fails is told, and tried again: a model with the
/// SQL that its file has then.
async fn go_on(
    invocation: &Invocation,
    mut lakehouse: Lakehouse,
    named: &[String],
    (mut seen, mut files): (u64, models::Stamp),
) -> Result<()> {
    let stopped = signals::stop()?;
    tokio::pin!(stopped);
    let mut behind = Behind::default();
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = tokio::time::sleep(behind.pause()) => {}
        }
        // A model that failed may have been put right.
        let there = behind.is_stuck().then(|| models::stamp(&invocation.directory)).filter(|there| *there != files);
        let edited = there.is_some();
        let looked = async {
            if let Some(there) = there {
                files = there;
                lakehouse = reloaded(invocation, &lakehouse)?;
            }
            let (head, _) = lakehouse.log().head().await?;
            Ok::<_, Error>(head)
        };
        let looked = looked.await;
        let worked = match looked {
            Ok(head) if edited || behind.is_due(head > seen, Instant::now()) => {
                seen = head;
                let refreshed = refresh(invocation, &lakehouse, named).await;
                refreshed.and_then(|refreshed| report(invocation, &refreshed))
            }
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        behind.refreshed(invocation, worked, false)?;
    }
}

/// A refresh with a progress bar; then the maintenance that is due.
pub(crate) async fn refresh(invocation: &Invocation, lakehouse: &Lakehouse, models: &[String]) -> Result<Refreshed> {
    let began = Instant::now();
    let refreshed = lakehouse.refresh(models, &ModelBar::new(&invocation.output)).await?;
    tracing::info!("version {} refreshed in {} ms", refreshed.version, began.elapsed().as_millis());
    keep_up(invocation, lakehouse).await;
    Ok(refreshed)
}

/// A refresh that leaves the sinks to whoever publishes; then the maintenance that is due.
pub(crate) async fn refresh_models(invocation: &Invocation, lakehouse: &Lakehouse) -> Result<()> {
    lakehouse.refresh_models(&ModelBar::new(&invocation.output)).await?;
    keep_up(invocation, lakehouse).await;
    Ok(())
}

/// The maintenance that is due. The tables are new, whatever becomes of it.
async fn keep_up(invocation: &Invocation, lakehouse: &Lakehouse) {
    if let Err(error) = maintain(invocation, lakehouse).await {
        tracing::warn!("the upkeep of the log failed: {error}");
    }
}

/// The lake with the models and seeds as their files are now, and their pins in lakebed.toml.
pub(crate) fn reloaded(invocation: &Invocation, lakehouse: &Lakehouse) -> Result<Lakehouse> {
    Ok(lakehouse.reloaded(invocation.config()?.seeds)?)
}

/// Compacts the log, writes a checkpoint, and thins old epochs, where the time has come.
pub(crate) async fn maintain(invocation: &Invocation, lakehouse: &Lakehouse) -> Result<()> {
    let maintained = lakehouse.log().maintain(&Thresholds::default(), invocation.now()).await?;
    if maintained.compacted.before.0 > 0 {
        let (before, after) = (maintained.compacted.before.0, maintained.compacted.after.0);
        tracing::info!("compacted {before} files of the log into {after}");
    }
    if maintained.vacuumed.objects > 0 {
        tracing::info!("deleted {} files of the log that were replaced long ago", maintained.vacuumed.objects);
    }
    if let Some(version) = maintained.checkpoint {
        tracing::info!("checkpoint of the log at version {version}");
    }
    let (thinned, runs) = lakehouse.tidy(invocation.now()).await?;
    if thinned.gone + runs.objects > 0 {
        tracing::info!("{} old epochs are gone, and {} files of models that none lists", thinned.gone, runs.objects);
    }
    Ok(())
}

fn report(invocation: &Invocation, refreshed: &Refreshed) -> Result<()> {
    let version = refreshed.version;
    if let Some(published) = refreshed.published.postgres.as_ref().filter(|published| !published.unchanged) {
        let (rows, anew) = (published.rows_written, published.tables_rebuilt);
        invocation.output.say(&format!("postgres at {}: {rows} rows, {anew} tables from nothing", published.server));
    }
    if let Some(published) = refreshed.published.delta.as_ref().filter(|published| !published.unchanged) {
        let (rows, anew) = (published.rows_written, published.tables_rebuilt);
        invocation.output.say(&format!("delta at {}: {rows} rows, {anew} tables from nothing", published.place));
    }
    if refreshed.unchanged {
        invocation.output.say(&format!("every model is at version {version} already"));
    } else {
        for model in &refreshed.models {
            invocation.output.say(&format!(
                "{:28} {:9} {:>9} rows came {:>9} went {:>9} rows",
                model.name, model.strategy, model.rows_written, model.rows_gone, model.rows
            ));
        }
        invocation.output.say(&format!("{} models at version {version}", refreshed.models.len()));
    }
    if !invocation.output.wants_rows() {
        return Ok(());
    }
    let models = &refreshed.models;
    invocation.output.rows(&RecordBatch::try_from_iter([
        ("model", texts(models.iter().map(|model| model.name.as_str()))),
        ("strategy", texts(models.iter().map(|model| model.strategy))),
        ("rows_written", numbers(models.iter().map(|model| model.rows_written))),
        ("rows_gone", numbers(models.iter().map(|model| model.rows_gone))),
        ("rows", numbers(models.iter().map(|model| model.rows))),
        ("version", numbers(vec![version; models.len()])),
    ])?)
}
