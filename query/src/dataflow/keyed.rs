//! Any part of a query whose answer for a key depends on that key's rows alone: what touched keys gave before goes, and what
//! they give now comes. A join is asked only about the rows that came, as long as no row of its other side has changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::arrangement::{Arrangement, Bag, Delta, after, first};
use super::changes::Changes;
use super::slot_of_input;
use crate::error::Result;
use crate::runner::Runner;
use crate::slots::Filling;
use crate::state_cache::{CacheEntry, ModelCache};

/// So many rows are asked about at once.
const ROWS_AT_ONCE: usize = 500_000;

/// What is asked, and of which rows.
#[derive(Debug)]
pub(super) struct Keyed {
    /// The part of the query, over the slots of its inputs.
    pub(super) plan: LogicalPlan,
    pub(super) inputs: Vec<Arranged>,
    pub(super) output: SchemaRef,
}

/// An input of the part.
#[derive(Debug)]
pub(super) struct Arranged {
    pub(super) rows: Arrangement,
    /// The answer over rows of this input is the sum of the answers over each, as long as the others stay what they are.
    pub(super) linear: bool,
    /// Its rows never go.
    pub(super) only_adds: bool,
}

/// Rows to ask about, for each input.
type Asked = Vec<Vec<(i64, Vec<u8>)>>;

impl Keyed {
    /// What the changed rows of its inputs do to the answer, and how many rows it asked about.
    pub(super) async fn apply(
        &self,
        runner: &Runner,
        fed: &[Changes],
        cache: &ModelCache,
        entries: &mut Vec<CacheEntry>,
    ) -> Result<(Changes, usize)> {
        let mut deltas = vec![Delta::new(); self.inputs.len()];
        for ((input, fed), delta) in self.inputs.iter().zip(fed).zip(&mut deltas) {
            fed.added.iter().try_for_each(|batch| input.rows.count(batch, false, delta))?;
            fed.gone.iter().try_for_each(|batch| input.rows.count(batch, true, delta))?;
            for bag in delta.values_mut() {
                bag.retain(|_, (count, _)| *count != 0);
            }
            delta.retain(|_, bag| !bag.is_empty());
        }
        let touched: BTreeSet<u128> = deltas.iter().flat_map(|delta| delta.keys().copied()).collect();
        let (mut old, mut new) = (self.nothing(), self.nothing());
        let (mut changes, mut asked) = (Changes::default(), 0);
        for key in touched {
            self.ask_about(key, &deltas, cache, (&mut old, &mut new), entries)?;
            let rows = old.iter().chain(&new).map(Vec::len).sum::<usize>();
            if rows > ROWS_AT_ONCE {
                asked += rows;
                changes.gone.extend(self.answer(runner, std::mem::replace(&mut old, self.nothing())).await?);
                changes.added.extend(self.answer(runner, std::mem::replace(&mut new, self.nothing())).await?);
            }
        }
        asked += old.iter().chain(&new).map(Vec::len).sum::<usize>();
        changes.gone.extend(self.answer(runner, old).await?);
        changes.added.extend(self.answer(runner, new).await?);
        let mut kept = Vec::new();
        for (input, delta) in self.inputs.iter().zip(&deltas) {
            input.rows.entries(cache, delta, &mut kept)?;
        }
        // What was forgotten on the way is kept by nobody.
        kept.append(entries);
        *entries = kept;
        Ok((changes.cancelled(&self.output)?, asked))
    }

    fn nothing(&self) -> Asked {
        vec![Vec::new(); self.inputs.len()]
    }

    /// Adds the rows of a touched key, as they were and as they are.
    fn ask_about(
        &self,
        key: u128,
        deltas: &[Delta],
        cache: &ModelCache,
        (old, new): (&mut Asked, &mut Asked),
        entries: &mut Vec<CacheEntry>,
    ) -> Result<()> {
        let changed: Vec<usize> = (0..self.inputs.len()).filter(|at| deltas[*at].contains_key(&key)).collect();
        let alone = match changed.as_slice() {
            [only] if self.inputs[*only].linear => Some(*only),
            _ => None,
        };
        for (at, input) in self.inputs.iter().enumerate() {
            let changes = deltas[at].get(&key);
            if alone == Some(at) {
                for (count, row) in changes.into_iter().flat_map(Bag::values) {
                    let side = if *count > 0 { &mut new[at] } else { &mut old[at] };
                    side.push((count.abs(), row.clone()));
                }
                continue;
            }
            let before = input.rows.before(cache, key, changes)?;
            let (now, beyond) = first(after(&before, changes), input.rows.most());
            if input.only_adds && changes.is_some() {
                input.rows.forget(key, &beyond, entries);
            }
            let (before, _) = first(before, input.rows.most());
            old[at].extend(before.into_values());
            new[at].extend(now.into_values());
        }
        Ok(())
    }

    async fn answer(&self, runner: &Runner, rows: Asked) -> Result<Vec<arrow::array::RecordBatch>> {
        if rows.iter().all(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let mut filling = Filling::default();
        for (at, (input, rows)) in self.inputs.iter().zip(&rows).enumerate() {
            let batch = input.rows.batch(rows.iter().map(|(count, row)| (*count, row.as_slice())))?;
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
            filling.put(slot_of_input(at), Arc::new(table));
        }
        runner.collected(&filling.bind(&self.plan)?, &self.output).await
    }
}
