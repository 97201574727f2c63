//! Upkeep of runs. Folding: the small runs at the end of a table become one, its rows in their order; no reader sees a
//! difference, and a sink that has some of the runs still knows which rows it lacks. Vacuum: runs that no epoch lists go.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use lakebed_log::{Store, Vacuumed, layout};

use crate::epoch::{self, Manifest, ModelState};
use crate::error::{Error, Result};
use crate::models::TableName;
use crate::run_files::{self, StoredRuns};
use crate::sinks::{Folded, ReadRun, Run};

/// So many runs at the end of a table are folded …
const MANY: usize = 32;

/// … which have no more bytes than this together, so that one run comes of them. A run of that size is left alone for ever:
/// what a row costs to be folded grows with the logarithm of the table at most.
const TOGETHER: u64 = 32 << 20;

/// How many runs at the end are to be folded; none if there are fewer than `least`.
fn tail(runs: &[Run], least: usize) -> usize {
    let mut bytes = 0;
    let small = runs.iter().rev().take_while(|run| {
        bytes += run.bytes;
        bytes <= TOGETHER
    });
    Some(small.count()).filter(|count| *count >= least).unwrap_or(0)
}

/// How often folding starts again because a refresh was first.
const TRIES: usize = 5;

/// Folds the end of every table that has two small runs there, in an epoch of the same version; gives how many runs became how
/// many.
///
/// # Errors
/// [`Error::Overtaken`] where refreshes were first each time; any failure of the store.
pub async fn fold_runs(store: &Store) -> Result<(usize, usize)> {
    for _ in 0..TRIES {
        let Some(mut manifest) = epoch::newest(store).await? else { return Ok((0, 0)) };
        let mut written = Vec::new();
        for (name, state) in &mut manifest.models {
            let Some((schema, table)) = name.split_once('.') else { continue };
            let name = TableName { schema: schema.to_owned(), name: table.to_owned() };
            written.extend(fold(store, &name, state, 2).await?);
        }
        if written.is_empty() {
            return Ok((0, 0));
        }
        manifest.epoch += 1;
        if epoch::put(store, &manifest).await? {
            return Ok((written.iter().map(|run| run.folded.len()).sum(), written.len()));
        }
        for run in written {
            store.delete(&run.path.into()).await?;
        }
    }
    Err(Error::Overtaken { tries: TRIES })
}

/// Folds the end of a table, if it has many small runs.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn fold_if_many(store: &Store, name: &TableName, state: &mut ModelState) -> Result<Option<Run>> {
    fold(store, name, state, MANY).await
}

/// Folds the end of a table, if it has so many small runs; gives the run that was written.
async fn fold(store: &Store, name: &TableName, state: &mut ModelState, least: usize) -> Result<Option<Run>> {
    let count = tail(&state.runs, least);
    if count == 0 {
        return Ok(None);
    }
    let (schema, stored) = (state.schema()?, StoredRuns(store.clone()));
    let small = state.runs.split_off(state.runs.len() - count);
    let reads = small.iter().map(|run| stored.read(run)).collect::<Vec<_>>();
    let rows = futures::stream::iter(reads).flatten().map_err(|error| DataFusionError::External(Box::new(error)));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows));
    let mut written = run_files::write(store, name, &state.fingerprint, &schema, rows).await?;
    match written.runs.pop().filter(|_| written.runs.is_empty()) {
        Some(run) => {
            let folded = small.into_iter().map(|run| Folded { path: run.path, rows: run.rows }).collect();
            state.runs.push(Run { folded, ..run });
            Ok(state.runs.last().cloned())
        }
        // Rows that need more room together than apart: they stay as they are, and what was written is nobody's.
        None => {
            state.runs.extend(small);
            Ok(None)
        }
    }
}

/// No refresh takes longer: what is younger may be a run of one that is under way.
const LONGEST_REFRESH: TimeDelta = TimeDelta::days(1);

/// Deletes the runs that no epoch lists, left by refreshes that were killed, once they are older than `retain` and than a day.
/// Runs of older epochs stay: their tables can be asked for.
///
/// # Errors
/// Any failure of the store.
pub async fn vacuum_runs(store: &Store, retain: TimeDelta, at: DateTime<Utc>) -> Result<Vacuumed> {
    let cutoff = at - retain.max(LONGEST_REFRESH);
    let runs = store.list(&layout::models()).await?;
    let mut listed = BTreeSet::new();
    // Read after the runs were listed: what an epoch has taken up since is found here.
    for object in store.list(&layout::epochs()).await? {
        let manifest: Option<Manifest> = store.get_json(&object.location).await?;
        let models = manifest.into_iter().flat_map(|manifest| manifest.models.into_values());
        listed.extend(models.flat_map(|model| model.runs).map(|run| run.path));
    }
    let mut vacuumed = Vacuumed::default();
    for run in runs.iter().filter(|run| !listed.contains(run.location.as_ref()) && run.last_modified <= cutoff) {
        store.delete(&run.location).await?;
        vacuumed.objects += 1;
        vacuumed.bytes += run.size;
    }
    Ok(vacuumed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: u64) -> Run {
        Run { path: String::new(), rows: 1, bytes, folded: Vec::new() }
    }

    #[test]
    fn many_small_runs_at_the_end_are_folded() {
        let small = |count| vec![run(1 << 10); count];
        let tail = |runs: &[Run]| super::tail(runs, MANY);
        assert_eq!(tail(&small(MANY - 1)), 0);
        assert_eq!(tail(&small(MANY)), MANY);
        let after_a_large_one = [vec![run(TOGETHER)], small(MANY)].concat();
        assert_eq!(tail(&after_a_large_one), MANY);
        assert_eq!(tail(&[small(MANY), vec![run(TOGETHER)]].concat()), 0, "a large one ends it");
        assert_eq!(tail(&vec![run(TOGETHER / 4); 40]), 0, "so few of that size become one");
    }
}
