//! A query over whole tables, and what its operators are to know of them: both in one pass.
//!
//! Tables that fit memory, with what comes of them, are a change as any other: all rows come. Of a query that is one grouping
//! DataFusion aggregates as it does for any query, with every core and a few groups at a time, but for its last step: that
//! hands on the states of the groups. Each is noted, and then made into the group's row:
//!
//! ```text
//! feed ─ AggregateExec(Partial) ─ RepartitionExec(keys) ─ AggregateExec(PartialReduce) ─┬─ what a row comes to ─ top of the query
//!                                                                                       └─ states, by the key's hash
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, SendableRecordBatchStream};
use futures::{StreamExt, TryStreamExt, future, stream};

use super::grouped::Grouped;
use super::run::{Applied, TableChanges};
use super::states::{Aggregate, StateCodec, outputs};
use super::{Dataflow, Kind, Operator, slot_of_operator};
use crate::error::Result;
use crate::keys::{row_keys, told_apart_as_values};
use crate::refresh::{Alone, not_kept};
use crate::runner::Runner;
use crate::slots::Filling;
use crate::state_cache::{Entries, ModelCache, Shelf};

/// A query's rows, and what is noted while they are read.
pub(crate) struct Whole {
    pub(crate) rows: Vec<SendableRecordBatchStream>,
    pub(crate) noted: Noted,
}

/// What operators are to know of the rows that have passed.
#[derive(Clone, Debug)]
pub(crate) struct Noted(Arc<Mutex<Noting>>);

#[derive(Debug)]
struct Noting {
    /// Takes them where they are many; it stands at no epoch until it is told one. `None`: it did not take them, and the
    /// history is to be learnt another time.
    cache: Option<ModelCache>,
    /// Those that are not in the cache.
    entries: Entries,
    /// Streams that have not come to their end.
    open: usize,
    /// One of these may go on for a while after a refresh was given up: nobody else writes to the cache meanwhile.
    _alone: Option<Alone>,
}

/// So many states are held in memory; few where it is to be tried what comes of many.
const IN_MEMORY: usize = if cfg!(debug_assertions) { 100 } else { 1_000_000 };

impl Dataflow {
    /// The query over whole tables of so many rows, in columns of these types, and what its operators are to know then; `None`
    /// where that takes a second pass. The cache is empty.
    ///
    /// # Errors
    /// What goes wrong while it runs.
    pub(crate) async fn whole(
        &self,
        runner: &Runner,
        (tables, rows): (&Filling, u64),
        (cache, alone): (ModelCache, Option<Alone>),
        columns: &SchemaRef,
    ) -> Result<Option<Whole>> {
        let noted = |open| {
            let (entries, alone) = (Entries::default(), alone.clone());
            Noted(Arc::new(Mutex::new(Noting { cache: Some(cache.clone()), entries, open, _alone: alone })))
        };
        if self.operators.is_empty() {
            let rows = runner.streams(&tables.bind_or_empty(&self.top.plan)?).await?;
            return Ok(Some(Whole { rows, noted: noted(0) }));
        }
        if let [Operator { kind: Kind::Grouped { grouped, fed }, feeds, .. }] = self.operators.as_slice()
            && let [feed] = feeds.as_slice()
            && grouped.in_one_pass(fed)
        {
            let feed = runner.physical(&tables.bind_or_empty(&feed.plan)?).await?;
            let noted = noted(runner.state.config().target_partitions());
            let rows = self.aggregated(runner, tables, (grouped, feed), &noted).await?;
            return Ok(Some(Whole { rows, noted }));
        }
        if rows > self.at_once() as u64 || self.may_multiply()? {
            return Ok(None);
        }
        let tables = TableChanges { added: tables.clone(), gone: tables.seeds() };
        let Applied { changes, entries, .. } = self.apply(runner, &tables, &cache, Some(columns)).await?;
        let rows = stream::iter(changes.added.into_iter().map(Ok));
        let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(columns), rows));
        let noted = noted(0);
        noted.0.lock().unwrap_or_else(PoisonError::into_inner).entries = entries;
        Ok(Some(Whole { rows: vec![rows], noted }))
    }

    /// Whether more rows may come of a few than a few: by a join, with a seed too, or from a list.
    fn may_multiply(&self) -> PlanResult<bool> {
        let joins = |operator: &Operator| operator.feeds.len() > 1;
        let segments = self.operators.iter().flat_map(|operator| &operator.feeds).chain([&self.top]);
        let mut multiplies = false;
        for segment in segments {
            let is_one = |node: &LogicalPlan| matches!(node, LogicalPlan::Unnest(_) | LogicalPlan::Join(_));
            multiplies |= segment.plan.exists(|node| Ok(is_one(node)))?;
        }
        Ok(multiplies || self.operators.iter().any(joins))
    }

    async fn aggregated(
        &self,
        runner: &Runner,
        tables: &Filling,
        (grouped, feed): (&Arc<Grouped>, Arc<dyn ExecutionPlan>),
        noted: &Noted,
    ) -> Result<Vec<SendableRecordBatchStream>> {
        let partitions = runner.state.config().target_partitions();
        let states = grouped.states_over(feed, partitions)?;
        let codec = Arc::new(StateCodec::new(&grouped.aggregates, 0)?);
        let passing = |partition| -> Arc<dyn PartitionStream> {
            let (grouped, states, codec) = (Arc::clone(grouped), Arc::clone(&states), Arc::clone(&codec));
            Arc::new(Passing { grouped, states, codec, partition, noted: noted.clone() })
        };
        let groups = StreamingTable::try_new(Arc::clone(&grouped.output), (0..partitions).map(passing).collect())?;
        let mut filled = tables.clone();
        filled.put(slot_of_operator(0), Arc::new(groups));
        runner.streams(&filled.bind_or_empty(&self.top.plan)?).await
    }
}

impl Noted {
    fn keep(&self, shelf: Shelf, states: impl Iterator<Item = (u128, impl AsRef<[u8]>)>) {
        let mut noting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Noting { cache: Some(cache), entries, .. } = &mut *noting else { return };
        let kept = entries.on(shelf);
        states.for_each(|(key, state)| kept.keep(key, &[], state.as_ref()));
        if entries.len() >= IN_MEMORY
            && let Err(error) = cache.put(std::mem::take(entries), None)
        {
            not_kept(&error);
            noting.cache = None;
        }
    }

    fn ended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }

    /// What the operators are to know besides what is in the cache by now, if all groups have passed and were kept.
    pub(crate) fn rest(self) -> Option<Entries> {
        let mut noting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A query that needs no row of some stream reads none: `HAVING false`.
        (noting.open == 0 && noting.cache.is_some()).then(|| std::mem::take(&mut noting.entries))
    }
}

impl Grouped {
    /// Whether the states that DataFusion's own aggregation comes to are those that are kept: of groups that are the same to
    /// both, to which rows only ever come.
    fn in_one_pass(&self, fed: &SchemaRef) -> bool {
        let keys = &fed.fields()[..self.keyed_by];
        let distinct = self.aggregates.iter().any(|aggregate| aggregate.distinct);
        let same = keys.iter().all(|key| told_apart_as_values(key.data_type()));
        !keys.is_empty() && same && !distinct && !self.retracts
    }

    /// A plan that gives each group once: its key columns, then its aggregates' states.
    fn states_over(&self, feed: Arc<dyn ExecutionPlan>, partitions: usize) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let columns = feed.schema();
        let column = |at: usize| -> Arc<dyn PhysicalExpr> { Arc::new(Column::new(columns.field(at).name(), at)) };
        let keys: Vec<_> = (0..self.keyed_by).map(column).collect();
        let named = keys.iter().cloned().zip(columns.fields().iter().map(|field| field.name().clone()));
        let groups = PhysicalGroupBy::new_single(named.collect());
        let functions: Vec<_> = self.aggregates.iter().map(|aggregate| Arc::clone(&aggregate.function)).collect();
        let filters = self.aggregates.iter().map(|Aggregate { filter, .. }| filter.map(column)).collect();
        let aggregated = |mode, filters, input: Arc<dyn ExecutionPlan>| {
            let schema = feed.schema();
            AggregateExec::try_new(mode, groups.clone(), functions.clone(), filters, input, schema).map(Arc::new)
        };
        let parts = aggregated(AggregateMode::Partial, filters, Arc::clone(&feed))?;
        let spread = Arc::new(RepartitionExec::try_new(parts, Partitioning::Hash(keys, partitions))?);
        Ok(aggregated(AggregateMode::PartialReduce, vec![None; functions.len()], spread)?)
    }

    /// The row of each group, whose state is noted.
    fn rows(&self, states: &RecordBatch, codec: &StateCodec, noted: &Noted) -> PlanResult<RecordBatch> {
        let (keys, columns) = states.columns().split_at(self.keyed_by);
        let (of_aggregates, count) = (codec.of_aggregates(columns), states.num_rows());
        let encoded = codec.encode(&[], &of_aggregates, count)?;
        noted.keep(self.states, row_keys(keys)?.into_iter().zip(encoded.iter()));
        let columns: Vec<ArrayRef> = [keys.to_vec(), outputs(&self.aggregates, &of_aggregates, count)?].concat();
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// The rows of one partition's groups.
#[derive(Debug)]
struct Passing {
    grouped: Arc<Grouped>,
    states: Arc<dyn ExecutionPlan>,
    codec: Arc<StateCodec>,
    partition: usize,
    noted: Noted,
}

impl PartitionStream for Passing {
    fn schema(&self) -> &SchemaRef {
        &self.grouped.output
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (grouped, codec) = (Arc::clone(&self.grouped), Arc::clone(&self.codec));
        let (noted, ended) = (self.noted.clone(), self.noted.clone());
        let states = stream::iter([self.states.execute(self.partition, context)]).try_flatten();
        let rows = states.and_then(move |states| future::ready(grouped.rows(&states, &codec, &noted)));
        let end = stream::once(async move { ended.ended() }).filter_map(|()| future::ready(None));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.grouped.output), rows.chain(end)))
    }
}

#[cfg(test)]
mod tests;
