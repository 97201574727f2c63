//! A dataflow at work: the changes of its tables in, the changes of the query's rows out.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;

use super::changes::Changes;
use super::named::numbered;
use super::{Dataflow, Kind, Operator, Segment, first, slot_of_operator};
use crate::error::Result;
use crate::run_files::cast;
use crate::runner::Runner;
use crate::slots::Filling;
use crate::state_cache::{Entries, ModelCache};

/// The changes of the tables that a query reads. What is not filled has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableChanges {
    pub(crate) added: Filling,
    pub(crate) gone: Filling,
}

/// What an operator made of changes, or all of a dataflow's.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// Of the rows that it gives.
    pub(crate) changes: Changes,
    /// What it is to know from now on.
    pub(crate) entries: Entries,
    /// Rows that were taken in, and rows of touched keys that were asked about.
    pub(crate) rows: usize,
}

impl Dataflow {
    /// Applies the changes of tables: what comes of them, in columns of the types of `visible`. With `None` the operators
    /// take the changes in, and nobody asks what comes of it.
    ///
    /// # Errors
    /// What goes wrong while it runs, and [`Error::CacheBroken`] where the cache is not that of these tables.
    pub(crate) async fn apply(
        &self,
        runner: &Runner,
        tables: &TableChanges,
        cache: &ModelCache,
        visible: Option<&SchemaRef>,
    ) -> Result<Applied> {
        let mut filled = tables.clone();
        let mut applied = Applied::default();
        for (number, operator) in self.operators.iter().enumerate() {
            let mut fed = Vec::new();
            for feed in &operator.feeds {
                fed.push(feed.changes(runner, &filled).await?);
            }
            let slot = slot_of_operator(number);
            let is_read = |operator: &Operator| operator.feeds.iter().any(|feed| feed.reads.contains(&slot));
            let wanted = visible.is_some() || self.operators.iter().any(is_read);
            let Applied { changes, entries, rows } = operator.apply(runner, &fed, cache, wanted).await?;
            applied.rows += rows + fed.iter().map(Changes::rows).sum::<usize>();
            applied.entries.extend(entries);
            let columns = numbered(&operator.schema);
            if changes.added.iter().any(|batch| batch.num_rows() > 0) {
                filled.added.put(slot.clone(), in_memory(&columns, changes.added)?);
            }
            if changes.gone.iter().any(|batch| batch.num_rows() > 0) {
                filled.gone.put(slot, in_memory(&columns, changes.gone)?);
            }
        }
        if let Some(visible) = visible {
            applied.changes = self.top.changes(runner, &filled).await?.in_columns(visible)?.cancelled(visible)?;
        }
        Ok(applied)
    }
}

impl Operator {
    /// What it makes of changes; where nobody wants to know what comes of them, only what is to be kept.
    async fn apply(&self, runner: &Runner, fed: &[Changes], cache: &ModelCache, wanted: bool) -> Result<Applied> {
        match (&self.kind, fed) {
            (Kind::First { columns, keys, shelf }, [fed]) => {
                let (added, entries) = first::unseen(&fed.added, (*columns, *keys), *shelf, cache)?;
                Ok(Applied { changes: Changes { added, gone: Vec::new() }, entries, rows: 0 })
            }
            (Kind::Grouped { grouped, fed: columns }, [fed]) => grouped.apply(fed, columns, cache, wanted),
            (Kind::Keyed(keyed), fed) => keyed.apply(runner, fed, cache, wanted).await,
            _ => Ok(Applied::default()),
        }
    }
}

impl Segment {
    async fn changes(&self, runner: &Runner, tables: &TableChanges) -> Result<Changes> {
        Ok(Changes { added: self.rows(runner, &tables.added).await?, gone: self.rows(runner, &tables.gone).await? })
    }

    /// The segment's rows over the tables that are filled; the others are empty.
    async fn rows(&self, runner: &Runner, tables: &Filling) -> Result<Vec<RecordBatch>> {
        if !self.reads.iter().any(|name| tables.has(name)) {
            return Ok(Vec::new());
        }
        let columns = numbered(self.plan.schema());
        runner.collected(&tables.bind_or_empty(&self.plan)?, &columns).await
    }
}

impl Changes {
    fn in_columns(self, columns: &SchemaRef) -> Result<Self> {
        let in_columns = |batches: Vec<RecordBatch>| {
            batches.iter().map(|batch| cast(batch.columns(), columns)).collect::<Result<Vec<_>>>()
        };
        Ok(Self { added: in_columns(self.added)?, gone: in_columns(self.gone)? })
    }
}

fn in_memory(columns: &SchemaRef, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(Arc::clone(columns), vec![batches])?))
}
