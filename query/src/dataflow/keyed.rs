//! Any part of a query whose answer for a key depends on that key's rows alone: what touched keys gave before goes, and what
//! they give now comes. A join is asked only about the rows that came, as long as no row of its other side has changed.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result as PlanResult;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;

use super::arrangement::Arrangement;
use super::bag::{Bag, Counted, after, first};
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

/// Rows to ask about, for each input: as they were, and as they are.
struct Asked {
    old: Vec<Bag>,
    new: Vec<Bag>,
}

/// The changes of an input, and where those of the key lie that is looked at.
struct Changing {
    rows: Bag,
    of_key: Range<usize>,
}

impl Asked {
    fn nothing(inputs: usize) -> Self {
        let none = || std::iter::repeat_with(Bag::default).take(inputs).collect();
        Self { old: none(), new: none() }
    }

    fn rows(&self) -> usize {
        self.old.iter().chain(&self.new).map(Bag::len).sum()
    }
}

impl Changing {
    fn of_key(&self) -> impl Iterator<Item = Counted<'_>> + Clone {
        self.rows.rows(self.of_key.clone())
    }
}

/// Adds a row to those that are asked about, in whatever order.
fn ask(rows: &mut Bag, row: Counted<'_>) {
    rows.put(row.key, &[], row.row, row.count);
}

/// Goes on to the next key that has changes of an input.
fn next_key(deltas: &mut [Changing]) -> Option<u128> {
    let key = deltas.iter().filter_map(|delta| delta.rows.key_at(delta.of_key.end)).min()?;
    deltas.iter_mut().for_each(|delta| delta.of_key = delta.rows.span(key, delta.of_key.end));
    Some(key)
}

impl Keyed {
    /// What the changed rows of its inputs do to the answer, if that is wanted.
    pub(super) async fn apply(
        &self,
        runner: &Runner,
        fed: &[Changes],
        cache: &ModelCache,
        wanted: bool,
    ) -> Result<Applied> {
        let changing =
            |(input, fed): (&Arranged, &Changes)| input.rows.delta(fed).map(|rows| Changing { rows, of_key: 0..0 });
        let mut deltas: Vec<_> = self.inputs.iter().zip(fed).map(changing).collect::<PlanResult<_>>()?;
        let mut kept = self.inputs.iter().map(|input| input.rows.read(cache)).collect::<Result<Vec<_>>>()?;
        let (mut asked, mut rows) = (Asked::nothing(self.inputs.len()), 0);
        let (mut changes, mut forgotten, mut before) = (Changes::default(), Entries::default(), Bag::default());
        if wanted || self.inputs.iter().any(Arranged::forgets) {
            while let Some(key) = next_key(&mut deltas) {
                self.ask_about(key, &deltas, (&mut kept, &mut before), &mut asked, &mut forgotten)?;
                if asked.rows() > ROWS_AT_ONCE {
                    rows += asked.rows();
                    let asked = std::mem::replace(&mut asked, Asked::nothing(self.inputs.len()));
                    self.answer(runner, asked, wanted, &mut changes).await?;
                }
            }
        }
        rows += asked.rows();
        self.answer(runner, asked, wanted, &mut changes).await?;
        let mut entries = Entries::default();
        for ((input, delta), kept) in self.inputs.iter().zip(&deltas).zip(&mut kept) {
            input.rows.entries(kept, &delta.rows, &mut entries)?;
        }
        entries.extend(forgotten);
        Ok(Applied { changes: changes.cancelled(&self.output)?, entries, rows })
    }

    /// Adds the rows of a touched key, as they were and as they are.
    fn ask_about(
        &self,
        key: u128,
        deltas: &[Changing],
        (kept, before): (&mut [Reader], &mut Bag),
        asked: &mut Asked,
        forgotten: &mut Entries,
    ) -> Result<()> {
        let mut changed = (0..self.inputs.len()).filter(|at| !deltas[*at].of_key.is_empty());
        if let (Some(only), None) = (changed.next(), changed.next())
            && self.inputs[only].linear
        {
            return self.ask_about_changed(key, (only, &deltas[only]), (kept, before), asked);
        }
        for (at, input) in self.inputs.iter().enumerate() {
            let changes = deltas[at].of_key();
            input.rows.before(&mut kept[at], key, changes.clone(), before)?;
            first(before.iter(), input.rows.most(), |row| ask(&mut asked.old[at], row), |_| {});
            let forgets = input.forgets() && !deltas[at].of_key.is_empty();
            let forget = |row| {
                if forgets {
                    input.rows.forget(row, forgotten);
                }
            };
            first(after(before.iter(), changes), input.rows.most(), |row| ask(&mut asked.new[at], row), forget);
        }
        Ok(())
    }

    /// The same for a key with changes of one input alone, over whose rows the answer is a sum: only these are asked about.
    fn ask_about_changed(
        &self,
        key: u128,
        (only, changing): (usize, &Changing),
        (kept, before): (&mut [Reader], &mut Bag),
        asked: &mut Asked,
    ) -> Result<()> {
        let (mut come, mut go) = (false, false);
        for row in changing.of_key() {
            let (side, is_there) = if row.count > 0 { (&mut asked.new, &mut come) } else { (&mut asked.old, &mut go) };
            ask(&mut side[only], Counted { count: row.count.abs(), ..row });
            *is_there = true;
        }
        for (at, input) in self.inputs.iter().enumerate().filter(|(at, _)| *at != only) {
            input.rows.before(&mut kept[at], key, std::iter::empty(), before)?;
            if go {
                before.iter().for_each(|row| ask(&mut asked.old[at], row));
            }
            if come {
                before.iter().for_each(|row| ask(&mut asked.new[at], row));
            }
        }
        Ok(())
    }

    async fn answer(&self, runner: &Runner, asked: Asked, wanted: bool, changes: &mut Changes) -> Result<()> {
        if wanted {
            changes.gone.extend(self.answer_of(runner, asked.old).await?);
            changes.added.extend(self.answer_of(runner, asked.new).await?);
        }
        Ok(())
    }

    async fn answer_of(&self, runner: &Runner, rows: Vec<Bag>) -> Result<Vec<RecordBatch>> {
        if rows.iter().all(Bag::is_empty) {
            return Ok(Vec::new());
        }
        let mut filling = Filling::default();
        for (at, (input, rows)) in self.inputs.iter().zip(&rows).enumerate() {
            let batch = input.rows.batch(rows)?;
            let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
            filling.put(slot_of_input(at), Arc::new(table));
        }
        runner.collected(&filling.bind(&self.plan)?, &self.output).await
    }
}
