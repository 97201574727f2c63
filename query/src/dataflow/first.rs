//! The first row of each key in the order of the log: later rows never win, so it is enough to know which keys were seen.

use std::collections::hash_map::Entry;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::common::Result as PlanResult;

use crate::error::Result;
use crate::keys::{KeyMap, row_keys};
use crate::state_cache::{Entries, ModelCache, Shelf};

/// The rows of `batches` whose key was not seen before, one of each key: that with the least offset. Batches have the columns
/// of the rows, those of the key, and the offset.
pub(super) fn unseen(
    batches: &[RecordBatch],
    (columns, keys): (usize, usize),
    shelf: Shelf,
    cache: &ModelCache,
) -> Result<(Vec<RecordBatch>, Entries)> {
    let mut firsts: KeyMap<(i64, usize, usize)> = KeyMap::default();
    for (at, batch) in batches.iter().enumerate() {
        for (row, (key, offset)) in keyed(batch, (columns, keys))?.enumerate() {
            match firsts.entry(key) {
                Entry::Vacant(vacant) => drop(vacant.insert((offset, at, row))),
                Entry::Occupied(mut first) if offset < first.get().0 => drop(first.insert((offset, at, row))),
                Entry::Occupied(_) => {}
            }
        }
    }
    let asked: Vec<u128> = firsts.keys().copied().collect();
    let seen = cache.read(shelf)?.has(&asked)?;
    let mut kept: Vec<Vec<bool>> = batches.iter().map(|batch| vec![false; batch.num_rows()]).collect();
    let mut entries = Entries::default();
    let kept_keys = entries.on(shelf);
    for (key, _) in asked.into_iter().zip(seen).filter(|(_, seen)| !seen) {
        if let Some((_, at, row)) = firsts.get(&key) {
            kept[*at][*row] = true;
        }
        kept_keys.keep(key, &[], &[]);
    }
    let visible: Vec<usize> = (0..columns).collect();
    let rows = batches.iter().zip(kept).map(|(batch, kept)| {
        let batch = batch.project(&visible)?;
        Ok(filter_record_batch(&batch, &BooleanArray::from(kept))?)
    });
    Ok((rows.collect::<Result<_>>()?, entries))
}

fn keyed(
    batch: &RecordBatch,
    (columns, keys): (usize, usize),
) -> PlanResult<impl Iterator<Item = (u128, i64)> + use<>> {
    let offsets = batch.column(columns + keys).as_primitive::<Int64Type>().clone();
    let keys = row_keys(&batch.columns()[columns..columns + keys])?;
    Ok(keys.into_iter().zip(offsets.values().to_vec()))
}
