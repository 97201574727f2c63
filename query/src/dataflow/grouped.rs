//! Groups whose aggregates merge: the state of each group takes in the rows that came, and gives up those that went.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::arrangement::unknown_row;
use super::changes::Changes;
use super::run::Applied;
use super::states::{Aggregate, StateCodec, accumulators, needs_count, outputs, subtract};
use crate::error::Result;
use crate::keys::{KeyMap, KeySet, row_keys};
use crate::state_cache::{Entries, ModelCache, Reader, Shelf};

/// The key of the one group of a GROUP BY without columns.
const WHOLE: u128 = 0;

/// What a grouping is of, and where its states are kept.
#[derive(Debug)]
pub(super) struct Grouped {
    /// The first columns of each batch are the key of its groups.
    pub(super) keyed_by: usize,
    pub(super) aggregates: Vec<Aggregate>,
    /// Rows go, too: then the state says how many each group has.
    pub(super) retracts: bool,
    pub(super) states: Shelf,
    /// The arguments that distinct aggregates have had.
    pub(super) seen: Shelf,
    /// Key columns and aggregates.
    pub(super) output: SchemaRef,
}

/// What came, or what went.
struct Side {
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// How many groups they know.
    groups: usize,
}

/// Groups that rows were added to or taken from.
struct Touched<'a> {
    grouped: &'a Grouped,
    places: KeyMap<usize>,
    keys: Vec<u128>,
    /// The key columns of the groups, in pieces, by place.
    values: Vec<Vec<ArrayRef>>,
    added: Side,
    gone: Side,
    rows: SchemaRef,
    /// For each place the rows that came less those that went; then the same of the values of each sum that needs it.
    counts: Vec<Vec<i64>>,
}

impl Grouped {
    /// What the rows do to the groups.
    pub(super) fn apply(&self, fed: &Changes, rows: &SchemaRef, cache: &ModelCache, wanted: bool) -> Result<Applied> {
        let mut touched = Touched::new(self, rows)?;
        let (mut seen, mut before) = (KeySet::default(), cache.read(self.seen)?);
        for batch in &fed.added {
            let firsts = self.firsts(batch, &mut seen, &mut before)?;
            touched.take(batch, &firsts, false)?;
        }
        for batch in &fed.gone {
            touched.take(batch, &[], true)?;
        }
        let mut entries = Entries::default();
        let kept = entries.on(self.seen);
        seen.into_iter().for_each(|key| kept.keep(key, &[], &[]));
        let changes = touched.close(cache, &mut entries, wanted)?;
        Ok(Applied { changes, entries, rows: 0 })
    }

    /// How many counts a state has before those of the aggregates.
    pub(super) fn counts(&self) -> usize {
        match self.retracts {
            true => 1 + self.aggregates.iter().filter(|aggregate| needs_count(aggregate)).count(),
            false => 0,
        }
    }

    /// For each distinct aggregate the rows whose arguments its group had not; they are added to `seen`.
    fn firsts(&self, rows: &RecordBatch, seen: &mut KeySet, before: &mut Reader) -> Result<Vec<BooleanArray>> {
        let mut firsts = Vec::new();
        for (number, aggregate) in self.aggregates.iter().enumerate().filter(|(_, aggregate)| aggregate.distinct) {
            let keys = distinct_keys(rows, self.keyed_by, number, aggregate)?;
            let mut first_here = vec![false; keys.len()];
            let mut new = Vec::new();
            for (row, key) in keys.iter().enumerate().filter_map(|(row, key)| Some((row, (*key)?))) {
                if seen.insert(key) {
                    first_here[row] = true;
                    new.push((key, row));
                }
            }
            let asked: Vec<u128> = new.iter().map(|(key, _)| *key).collect();
            for ((key, row), known) in new.into_iter().zip(before.has(&asked)?) {
                if known {
                    seen.remove(&key);
                    first_here[row] = false;
                }
            }
            firsts.push(BooleanArray::from(first_here));
        }
        Ok(firsts)
    }
}

impl<'a> Touched<'a> {
    /// No group yet, but the one that is always there where rows are not grouped by anything.
    fn new(grouped: &'a Grouped, rows: &SchemaRef) -> PlanResult<Self> {
        let side = || Ok::<_, DataFusionError>(Side { accumulators: accumulators(&grouped.aggregates)?, groups: 0 });
        let (added, gone, rows) = (side()?, side()?, Arc::clone(rows));
        let (mut places, mut keys, values) = (KeyMap::default(), Vec::new(), Vec::new());
        if grouped.keyed_by == 0 {
            places.insert(WHOLE, 0);
            keys.push(WHOLE);
        }
        let counts = vec![vec![0; keys.len()]; grouped.counts()];
        Ok(Self { grouped, places, keys, values, added, gone, rows, counts })
    }

    /// Takes up rows. `firsts` are, for each distinct aggregate in turn, the rows with arguments that its group had not.
    fn take(&mut self, rows: &RecordBatch, firsts: &[BooleanArray], gone: bool) -> PlanResult<()> {
        let places = self.places_of(rows)?;
        let total = self.keys.len();
        self.counts.iter_mut().for_each(|counts| counts.resize(total, 0));
        let sign = if gone { -1 } else { 1 };
        if let Some(counts) = self.counts.first_mut() {
            places.iter().for_each(|place| counts[*place] += sign);
        }
        let (mut firsts, mut counted_sums) = (firsts.iter(), self.counts.iter_mut().skip(1));
        let side = if gone { &mut self.gone } else { &mut self.added };
        side.know(self.grouped, &self.rows, total)?;
        for (aggregate, accumulator) in self.grouped.aggregates.iter().zip(&mut side.accumulators) {
            let counted = match (aggregate.distinct, aggregate.filter) {
                (true, _) => firsts.next().cloned(),
                (false, Some(column)) => Some(rows.column(column).as_boolean().clone()),
                (false, None) => None,
            };
            let arguments = &rows.columns()[aggregate.arguments.clone()];
            if self.grouped.retracts && needs_count(aggregate) {
                let is_counted = |row: usize| {
                    counted.as_ref().is_none_or(|counted| counted.is_valid(row) && counted.value(row))
                        && arguments.iter().all(|argument| argument.is_valid(row))
                };
                if let Some(counts) = counted_sums.next() {
                    let rows = places.iter().enumerate().filter(|(row, _)| is_counted(*row));
                    rows.for_each(|(_, place)| counts[*place] += sign);
                }
            }
            accumulator.update_batch(arguments, &places, counted.as_ref(), total)?;
        }
        Ok(())
    }

    fn places_of(&mut self, rows: &RecordBatch) -> PlanResult<Vec<usize>> {
        let columns = &rows.columns()[..self.grouped.keyed_by];
        if columns.is_empty() {
            return Ok(vec![0; rows.num_rows()]);
        }
        let (mut places, mut new) = (Vec::with_capacity(rows.num_rows()), Vec::new());
        for (row, key) in (0_u32..).zip(row_keys(columns)?) {
            let next = self.keys.len();
            places.push(match self.places.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    vacant.insert(next);
                    self.keys.push(key);
                    new.push(row);
                    next
                }
            });
        }
        if !new.is_empty() {
            let new = UInt32Array::from(new);
            self.values.push(columns.iter().map(|column| take(column, &new, None)).collect::<Result<_, _>>()?);
        }
        Ok(places)
    }

    /// What the groups come to with what they stood at before.
    fn close(mut self, cache: &ModelCache, entries: &mut Entries, wanted: bool) -> Result<Changes> {
        let (grouped, total) = (self.grouped, self.keys.len());
        let codec = StateCodec::new(&grouped.aggregates, grouped.counts())?;
        let stored = cache.read(grouped.states)?.values(&self.keys)?;
        let had: Vec<usize> = (0..total).filter(|place| stored[*place].is_some()).collect();
        let (old_counts, old) = codec.decode(stored.iter().flatten())?;
        for (counts, old) in self.counts.iter_mut().zip(&old_counts) {
            let old = old.as_primitive::<Int64Type>().values();
            had.iter().zip(old).for_each(|(place, old)| counts[*place] += old);
        }
        let new = self.merged(&old, &had)?;
        let counts: Vec<ArrayRef> = std::mem::take(&mut self.counts).into_iter().map(int64).collect();
        let states = codec.encode(&counts, &new, total)?;
        let is_left = |place: usize| match counts.first() {
            Some(rows) => grouped.keyed_by == 0 || rows.as_primitive::<Int64Type>().value(place) > 0,
            None => true,
        };
        if counts.first().is_some_and(|rows| rows.as_primitive::<Int64Type>().values().iter().any(|rows| *rows < 0)) {
            return Err(unknown_row());
        }
        let left: Vec<usize> = (0..total).filter(|place| is_left(*place)).collect();
        let kept = entries.on(grouped.states);
        for (place, state) in states.iter().enumerate() {
            match &stored[place] {
                stored if !is_left(place) => stored.iter().for_each(|_| kept.take_away(self.keys[place], &[])),
                Some(stored) if *stored == state => {}
                _ => kept.keep(self.keys[place], &[], state),
            }
        }
        if !wanted {
            return Ok(Changes::default());
        }
        let values = self.key_columns()?;
        let rows = |states: Vec<Vec<ArrayRef>>, places: &[usize]| -> PlanResult<RecordBatch> {
            let picked = places_array(places);
            let keys = values.iter().map(|column| take(column, &picked, None)).collect::<Result<Vec<_>, _>>()?;
            let columns = [keys, outputs(&grouped.aggregates, &states, places.len())?].concat();
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(places.len()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&grouped.output), columns, &options)?)
        };
        let picked = places_array(&left);
        let kept = |states: Vec<ArrayRef>| {
            states.iter().map(|state| take(state, &picked, None)).collect::<Result<Vec<_>, _>>()
        };
        let new = new.into_iter().map(kept).collect::<Result<Vec<_>, _>>()?;
        Ok(Changes::between((&had, rows(old, &had)?), (&left, rows(new, &left)?))?)
    }

    /// The states of all groups that were touched.
    fn merged(&mut self, old: &[Vec<ArrayRef>], had: &[usize]) -> PlanResult<Vec<Vec<ArrayRef>>> {
        let (grouped, total) = (self.grouped, self.keys.len());
        let mut states = Vec::new();
        self.added.know(grouped, &self.rows, total)?;
        for (accumulator, old) in self.added.accumulators.iter_mut().zip(old) {
            if !had.is_empty() {
                accumulator.merge_batch(old, had, total)?;
            }
            states.push(accumulator.state(EmitTo::All)?);
        }
        if !grouped.retracts {
            return Ok(states);
        }
        let mut counts = self.counts.iter().skip(1);
        self.gone.know(grouped, &self.rows, total)?;
        for (at, state) in states.iter_mut().enumerate() {
            let gone = self.gone.accumulators[at].state(EmitTo::All)?;
            let left = needs_count(&grouped.aggregates[at]).then(|| counts.next()).flatten();
            let left = left.map(|left| Int64Array::from(left.clone()));
            *state = subtract(state, &gone, left.as_ref())?;
        }
        Ok(states)
    }

    fn key_columns(&mut self) -> PlanResult<Vec<ArrayRef>> {
        let column = |at: usize| {
            let pieces: Vec<_> = self.values.iter().map(|columns| columns[at].as_ref()).collect();
            Ok(concat(&pieces)?)
        };
        match self.values.is_empty() {
            // No group at all: columns without rows, of the right types.
            true => {
                Ok(RecordBatch::new_empty(Arc::clone(&self.grouped.output)).columns()[..self.grouped.keyed_by].into())
            }
            false => (0..self.grouped.keyed_by).map(column).collect(),
        }
    }
}

impl Side {
    /// Tells the accumulators of all groups: by a row that does not count, since DataFusion's take a group without any row for
    /// one that has had a value.
    fn know(&mut self, grouped: &Grouped, rows: &SchemaRef, total: usize) -> PlanResult<()> {
        let new: Vec<usize> = (self.groups..total).collect();
        if new.is_empty() {
            return Ok(());
        }
        let uncounted = BooleanArray::from(vec![false; new.len()]);
        for (aggregate, accumulator) in grouped.aggregates.iter().zip(&mut self.accumulators) {
            let fields = &rows.fields()[aggregate.arguments.clone()];
            let nulls: Vec<ArrayRef> =
                fields.iter().map(|field| new_null_array(field.data_type(), new.len())).collect();
            accumulator.update_batch(&nulls, &new, Some(&uncounted), total)?;
        }
        self.groups = total;
        Ok(())
    }
}

fn int64(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn places_array(places: &[usize]) -> UInt32Array {
    UInt32Array::from_iter_values(places.iter().filter_map(|place| u32::try_from(*place).ok()))
}

/// The key of each row of a distinct aggregate: the aggregate, the group and the arguments; `None` where it does not count.
fn distinct_keys(
    rows: &RecordBatch,
    keyed_by: usize,
    number: usize,
    aggregate: &Aggregate,
) -> PlanResult<Vec<Option<u128>>> {
    let arguments = &rows.columns()[aggregate.arguments.clone()];
    let number: ArrayRef =
        Arc::new(UInt32Array::from_value(u32::try_from(number).unwrap_or(u32::MAX), rows.num_rows()));
    let columns: Vec<_> = [number].into_iter().chain(rows.columns()[..keyed_by].iter().cloned()).collect();
    let keys = row_keys(&[columns, arguments.to_vec()].concat())?;
    let filter = aggregate.filter.map(|column| rows.column(column).as_boolean());
    let counts = |row: usize| {
        arguments.iter().all(|argument| *argument.data_type() != DataType::Null && argument.is_valid(row))
            && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
    };
    Ok(keys.into_iter().enumerate().map(|(row, key)| counts(row).then_some(key)).collect())
}
