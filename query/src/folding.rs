//! Upkeep of runs. Folding: the small runs at the end of a table become one, every row with its address; no reader sees a
//! difference, nor does a sink. Renewal: a table of mostly deleted rows is written anew. Vacuum: objects that no epoch lists go.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use lakebed_log::{Store, Vacuumed, layout};

use crate::epoch::{self, Chain, Manifest, ModelState, new_mark};
use crate::error::{Error, Result};
use crate::models::TableName;
use crate::rows::{self, Deletion, Run};
use crate::run_files::{NewRuns, StoredRuns};
use crate::sinks::ReadRun;

/// So many runs at the end of a table are folded …
const MANY: usize = 32;

/// … which have no more bytes than this together, so that one run comes of them. A run of that size is left alone for ever.
const TOGETHER: u64 = 32 << 20;

/// Runs of no more bytes than this are alike.
const SMALL: u64 = 64 << 10;

/// How many runs at the end are to be folded; none if there are fewer than `least`. While refreshes go on, a run is folded with
/// those after it once they have as many bytes: what a row costs to be folded grows with the logarithm of the table at most, and
/// no refresh waits for a large run to be written for the sake of a few small ones.
fn tail(runs: &[Run], least: usize) -> usize {
    let (mut bytes, mut count) = (0, 0);
    for run in runs.iter().rev() {
        let is_alike = least < MANY || count == 0 || run.bytes <= bytes.max(SMALL);
        if !is_alike || bytes + run.bytes > TOGETHER {
            break;
        }
        (bytes, count) = (bytes + run.bytes, count + 1);
    }
    Some(count).filter(|count| *count >= least).unwrap_or(0)
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
        let (mut before, mut written) = (0, Vec::new());
        for (name, state) in &mut manifest.models {
            let Some((schema, table)) = name.split_once('.') else { continue };
            let name = TableName { schema: schema.to_owned(), name: table.to_owned() };
            let folded = fold(store, &name, state, 2).await?;
            before += folded.runs;
            written.extend(folded.written);
        }
        if written.is_empty() {
            return Ok((0, 0));
        }
        manifest.epoch += 1;
        if Chain::default().put(store, &manifest).await? {
            return Ok((before, written.len()));
        }
        for path in written {
            store.delete(&layout::stored(&path)).await?;
        }
    }
    Err(Error::Overtaken { tries: TRIES })
}

/// What folding did to a table.
#[derive(Debug, Default)]
pub(crate) struct FoldedEnd {
    /// So many objects are listed no more.
    pub(crate) runs: usize,
    /// The objects that are listed instead.
    pub(crate) written: Vec<String>,
}

/// Folds the end of a table, if it has many small runs, and its deletions, if they are many.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn fold_if_many(store: &Store, name: &TableName, state: &mut ModelState) -> Result<FoldedEnd> {
    fold(store, name, state, MANY).await
}

/// Folds the end of a table, if it has so many small runs: every row keeps its address, the deleted ones too. Deletions become
/// one that has those of them that are of rows which are still written.
async fn fold(store: &Store, name: &TableName, state: &mut ModelState, least: usize) -> Result<FoldedEnd> {
    let mut folded = FoldedEnd::default();
    if state.deletions.len() >= least {
        let mut addresses = state.stored(store).await?.deleted.as_ref().clone();
        addresses.remove_range(..state.start);
        folded.runs += state.deletions.iter().flat_map(Deletion::objects).count();
        // The images of so many epochs are as good as the runs.
        state.deletions = vec![rows::put_deletion(store, name, &state.fingerprint, &addresses, None).await?];
        folded.written.extend(state.deletions.iter().map(|deletion| deletion.path.clone()));
    }
    let count = tail(&state.runs, least);
    if count == 0 {
        return Ok(folded);
    }
    let (schema, stored) = (state.schema()?, StoredRuns(store.clone()));
    let small = state.runs.split_off(state.runs.len() - count);
    let (first, count) = (small[0].first, small.iter().map(|run| run.rows).sum::<u64>());
    let reads = small.iter().map(|run| stored.read(run, None)).collect::<Vec<_>>();
    let read = futures::stream::iter(reads).flatten().map_err(|error| DataFusionError::External(Box::new(error)));
    let read = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), read));
    let (store, name, fingerprint) = (store.clone(), name.clone(), state.fingerprint.clone());
    let mut written = NewRuns { store, name, fingerprint, schema, hashes: 0 }.write(first, read).await?;
    match written.runs.pop().filter(|run| written.runs.is_empty() && run.rows == count) {
        Some(run) => {
            folded.runs += small.len();
            folded.written.push(run.path.clone());
            state.runs.push(run);
        }
        // Rows that need more room together than apart: they stay as they are, and what was written is nobody's.
        None => state.runs.extend(small),
    }
    Ok(folded)
}

/// A table with more deleted rows than others, and than this, is written anew.
const DELETED: u64 = 10_000;

/// Writes every table anew that has more deleted rows than others, in an epoch of the same version: what a deletion costs
/// in the end is the writing of one row. Gives the epoch and the names of these tables, if there was anything to do and no
/// other epoch was first.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn renew(store: &Store, chain: &Chain, before: &Manifest) -> Result<Option<(Manifest, Vec<String>)>> {
    let mut manifest = Manifest { epoch: before.epoch + 1, ..before.clone() };
    let (mut renewed, mut paths) = (Vec::new(), Vec::new());
    for (name, state) in &mut manifest.models {
        let deleted = (state.end() - state.start).saturating_sub(state.rows);
        let Some((schema, table)) = name.split_once('.').filter(|_| deleted > state.rows.max(DELETED)) else {
            continue;
        };
        let table = TableName { schema: schema.to_owned(), name: table.to_owned() };
        let (schema, stored) = (state.schema()?, StoredRuns(store.clone()));
        let live = state.stored(store).await?;
        let reads = live.in_runs().map(|(run, rows)| stored.read(run, rows)).collect::<Vec<_>>();
        let read = futures::stream::iter(reads).flatten().map_err(|error| DataFusionError::External(Box::new(error)));
        let read = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), read));
        let (store, fingerprint) = (store.clone(), state.fingerprint.clone());
        let written = NewRuns { store, name: table, fingerprint, schema, hashes: 0 }.write(state.end(), read).await?;
        (state.start, state.changed, state.mark) = (state.end(), manifest.epoch, Some(new_mark()));
        (state.runs, state.deletions) = (written.runs, Vec::new());
        paths.extend(state.runs.iter().map(|run| run.path.clone()));
        renewed.push(name.clone());
    }
    if renewed.is_empty() {
        return Ok(None);
    }
    if chain.put(store, &manifest).await? {
        return Ok(Some((manifest, renewed)));
    }
    for path in paths {
        store.delete(&layout::stored(&path)).await?;
    }
    Ok(None)
}

/// No refresh takes longer: what is younger may be a run of one that is under way.
const LONGEST_REFRESH: TimeDelta = TimeDelta::days(1);

/// Deletes the runs that no epoch lists, left by refreshes that were killed or listed by epochs that were thinned, once they are
/// older than `retain` and than a day. Runs of the older epochs that are there stay: their tables can be asked for.
///
/// # Errors
/// Any failure of the store.
pub async fn vacuum_runs(store: &Store, retain: TimeDelta, at: DateTime<Utc>) -> Result<Vacuumed> {
    let cutoff = at - retain.max(LONGEST_REFRESH);
    let runs = store.list(&layout::models()).await?;
    let mut listed = BTreeSet::new();
    // Read after the runs were listed: what an epoch has taken up since is found here. And the lake's own are listed after those of
    // replays were read: a replay in place hands its runs on to one of them before it goes.
    let mut list = |epoch: Manifest| {
        for model in epoch.models.values() {
            // Most are in the epoch before, too.
            for path in model.objects() {
                if !listed.contains(path) {
                    listed.insert(path.to_owned());
                }
            }
        }
    };
    for object in store.list(&layout::replays()).await? {
        epoch::read(store, &object.location).await?.into_iter().for_each(&mut list);
    }
    let mut epochs = Chain::default().after(store, 0).await?;
    while let Some(epoch) = epochs.try_next().await? {
        list(epoch);
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
        Run { path: String::new(), first: 0, rows: 1, bytes }
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
        let after_one_of_more_bytes = |small_ones| [vec![run(100 << 10)], small(small_ones)].concat();
        assert_eq!(tail(&after_one_of_more_bytes(MANY)), MANY, "it waits until those after it have as many");
        assert_eq!(tail(&after_one_of_more_bytes(100)), 101);
        assert_eq!(super::tail(&after_one_of_more_bytes(1), 2), 2, "but for who asks for it");
    }
}
