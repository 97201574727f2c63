//! A grouping over whole tables: one pass gives the query's rows and the states that its operator is to know.
//!
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
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, SendableRecordBatchStream};
use futures::{StreamExt, TryStreamExt, future, stream};

use super::grouped::Grouped;
use super::states::{Aggregate, StateCodec, outputs};
use super::{Dataflow, Kind, slot_of_operator};
use crate::error::Result;
use crate::keys::{row_keys, told_apart_as_values};
use crate::runner::Runner;
use crate::slots::Filling;
use crate::state_cache::{Entries, Shelf};

/// A query's rows, and what is noted while they are read.
pub(crate) struct Whole {
    pub(crate) rows: Vec<SendableRecordBatchStream>,
    pub(crate) noted: Noted,
}

/// The states of groups that have passed.
#[derive(Clone, Debug)]
pub(crate) struct Noted(Arc<Mutex<Noting>>);

#[derive(Debug)]
struct Noting {
    /// `None`: they are too many.
    entries: Option<Entries>,
    /// The most that there may be.
    most: usize,
    /// Streams that have not come to their end.
    open: usize,
}

impl Dataflow {
    /// The query over whole tables, where one pass is enough for its rows and for what its operators are to know: it has one,
    /// a grouping whose states merge. Of more than `most` groups nothing is noted.
    ///
    /// # Errors
    /// Where DataFusion refuses a part of what it had accepted whole.
    pub(crate) async fn whole(&self, runner: &Runner, tables: &Filling, most: usize) -> Result<Option<Whole>> {
        let [operator] = self.operators.as_slice() else { return Ok(None) };
        let (Kind::Grouped { grouped, fed }, [feed]) = (&operator.kind, operator.feeds.as_slice()) else {
            return Ok(None);
        };
        if !grouped.in_one_pass(fed) {
            return Ok(None);
        }
        let feed = runner.physical(&tables.bind_or_empty(&feed.plan)?).await?;
        let partitions = runner.state.config().target_partitions();
        let states = grouped.states_over(feed, partitions)?;
        let noted = Noted(Arc::new(Mutex::new(Noting { entries: Some(Entries::default()), most, open: partitions })));
        let passing = |partition| -> Arc<dyn PartitionStream> {
            let (grouped, states, noted) = (Arc::clone(grouped), Arc::clone(&states), noted.clone());
            Arc::new(Passing { grouped, states, partition, noted })
        };
        let groups = StreamingTable::try_new(Arc::clone(&grouped.output), (0..partitions).map(passing).collect())?;
        let mut filled = Filling::default();
        filled.put(slot_of_operator(0), Arc::new(groups));
        let rows = runner.streams(&filled.bind_or_empty(&self.top.plan)?).await?;
        Ok(Some(Whole { rows, noted }))
    }
}

impl Noted {
    fn keep(&self, shelf: Shelf, states: impl Iterator<Item = (u128, impl AsRef<[u8]>)>) {
        let mut noting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = &mut noting.entries {
            let kept = entries.on(shelf);
            states.for_each(|(key, state)| kept.keep(key, &[], state.as_ref()));
        }
        let most = noting.most;
        noting.entries = noting.entries.take().filter(|entries| entries.len() <= most);
    }

    fn ended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }

    /// What the operator is to know, if all groups have passed and are not too many.
    pub(crate) fn entries(self) -> Option<Entries> {
        let mut noting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A query that needs no row of some stream reads none: `HAVING false`.
        let all = noting.open == 0;
        noting.entries.take().filter(|_| all)
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
    fn rows(&self, states: &RecordBatch, noted: &Noted) -> PlanResult<RecordBatch> {
        let codec = StateCodec::new(&self.aggregates, 0)?;
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
    partition: usize,
    noted: Noted,
}

impl PartitionStream for Passing {
    fn schema(&self) -> &SchemaRef {
        &self.grouped.output
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (grouped, noted, ended) = (Arc::clone(&self.grouped), self.noted.clone(), self.noted.clone());
        let states = stream::iter([self.states.execute(self.partition, context)]).try_flatten();
        let rows = states.and_then(move |states| future::ready(grouped.rows(&states, &noted)));
        let end = stream::once(async move { ended.ended() }).filter_map(|()| future::ready(None));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.grouped.output), rows.chain(end)))
    }
}

#[cfg(test)]
mod tests;
