//! Any part of a query whose answer for a key depends on that key's rows alone: what touched keys gave before goes, and what
//! they give now comes. A join is asked only about the rows that came, as long as no row of its other side has changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::arrangement::{Arrangement, Bag, Delta, after, first};
use super::changes::Changes;
use super::run::Applied;
use super::slot_of_input;
use crate::error::Result;
use crate::runner::Runner;
use crate::slots::Filling;
use crate::state_cache::{Entries, ModelCache, Reader};

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

impl Arranged {
    /// Whether rows that are never asked for again are kept no more.
    fn forgets(&self) -> bool {
        self.only_adds && self.rows.most().is_some()
    }
}

/// Rows to ask about, for each input.
type Asked = Vec<Vec<(i64, Vec<u8>)>>;

impl Keyed {
    /// What the changed rows of its inputs do to the answer, if that is wanted.
    pub(super) async fn apply(
        &self,
        runner: &Runner,
        fed: &[Changes],
        cache: &ModelCache,
        wanted: bool,
    ) -> Result<Applied> {
        let mut deltas = vec![Delta::new(); self.inputs.len()];
        for ((input, fed), delta) in self.inputs.iter().zip(fed).zip(&mut deltas) {
            fed.added.iter().try_for_each(|batch| input.rows.count(batch, false, delta))?;
            fed.gone.iter().try_for_each(|batch| input.rows.count(batch, true, delta))?;
            for bag in delta.values_mut() {
                bag.retain(|_, (count, _)| *count != 0);
            }
            delta.retain(|_, bag| !bag.is_empty());
        }
        let mut touched: BTreeSet<u128> = deltas.iter().flat_map(|delta| delta.keys().copied()).collect();
        if !wanted && !self.inputs.iter().any(Arranged::forgets) {
            touched.clear();
        }
        let (mut old, mut new) = (self.nothing(), self.nothing());
        let (mut changes, mut asked, mut forgotten) = (Changes::default(), 0, Entries::default());
        let mut kept = self.inputs.iter().map(|input| input.rows.read(cache)).collect::<Result<Vec<_>>>()?;
        for key in touched {
            self.ask_about(key, &deltas, &mut kept, (&mut old, &mut new), &mut forgotten)?;
            let rows = old.iter().chain(&new).map(Vec::len).sum::<usize>();
            if rows > ROWS_AT_ONCE {
                asked += rows;
                let rows = [&mut old, &mut new].map(|rows| std::mem::replace(rows, self.nothing()));
                self.answer(runner, rows, wanted, &mut changes).await?;
            }
        }
        asked += old.iter().chain(&new).map(Vec::len).sum::<usize>();
        self.answer(runner, [old, new], wanted, &mut changes).await?;
        let mut entries = Entries::default();
        for ((input, delta), kept) in self.inputs.iter().zip(&deltas).zip(&mut kept) {
            input.rows.entries(kept, delta, &mut entries)?;
        }
        entries.extend(forgotten);
        Ok(Applied { changes: changes.cancelled(&self.output)?, entries, rows: asked })
    }

    fn nothing(&self) -> Asked {
        vec![Vec::new(); self.inputs.len()]
    }

    /// Adds the rows of a touched key, as they were and as they are.
    fn ask_about(
        &self,
        key: u128,
        deltas: &[Delta],
        kept: &mut [Reader],
        (old, new): (&mut Asked, &mut Asked),
        forgotten: &mut Entries,
    ) -> Result<()> {
        let changed: Vec<usize> = (0..self.inputs.len()).filter(|at| deltas[*at].contains_key(&key)).collect();
        if let [only] = changed.as_slice()
            && self.inputs[*only].linear
        {
            return self.ask_about_changed(key, *only, &deltas[*only][&key], kept, (old, new));
        }
        for (at, input) in self.inputs.iter().enumerate() {
            let changes = deltas[at].get(&key);
            let before = input.rows.before(&mut kept[at], key, changes)?;
            let (now, beyond) = first(after(&before, changes), input.rows.most());
            if input.forgets() && changes.is_some() {
                input.rows.forget(key, &beyond, forgotten);
            }
            let (before, _) = first(before, input.rows.most());
            old[at].extend(before.into_values());
            new[at].extend(now.into_values());
        }
        Ok(())
    }

    /// The same for a key with changes of one input alone, over whose rows the answer is a sum: only these are asked about.
    fn ask_about_changed(
        &self,
        key: u128,
        only: usize,
        changes: &Bag,
        kept: &mut [Reader],
        (old, new): (&mut Asked, &mut Asked),
    ) -> Result<()> {
        for (count, row) in changes.values() {
            let side = if *count > 0 { &mut *new } else { &mut *old };
            side[only].push((count.abs(), row.clone()));
        }
        let [come, go] = [1, -1].map(|sign| changes.values().any(|(count, _)| count.signum() == sign));
        for (at, input) in self.inputs.iter().enumerate().filter(|(at, _)| *at != only) {
            let rows = input.rows.before(&mut kept[at], key, None)?;
            if go {
                old[at].extend(rows.values().cloned());
            }
            if come {
                new[at].extend(rows.into_values());
            }
        }
        Ok(())
    }

    async fn answer(&self, runner: &Runner, [old, new]: [Asked; 2], wanted: bool, changes: &mut Changes) -> Result<()> {
        if wanted {
            changes.gone.extend(self.answer_of(runner, old).await?);
            changes.added.extend(self.answer_of(runner, new).await?);
        }
        Ok(())
    }

    async fn answer_of(&self, runner: &Runner, rows: Asked) -> Result<Vec<RecordBatch>> {
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
