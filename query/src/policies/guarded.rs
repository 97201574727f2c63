//! A table under policies, and the barrier behind which they work.
//!
//! What a statement computes of a row may fail, and so tell of it: `1/(x-5)` says where `x` is 5. No part of a statement is therefore
//! evaluated on a row that its reader does not see. The policies are planned by themselves, below a node that optimizers neither look
//! into nor push anything through, and that shows neither plan nor statistics. Only what cannot fail comes to them: comparisons of
//! columns that are not masked with values, by which files are pruned.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::TryStreamExt;

use crate::sql::conditions::cannot_fail;

/// A table as its reader sees it.
pub(super) struct Guarded {
    /// Its name, for messages.
    pub(super) name: Arc<str>,
    /// The rows and values that are the reader's, over the whole table.
    pub(super) plan: LogicalPlan,
    pub(super) schema: SchemaRef,
    /// Columns whose values are shown as they are.
    pub(super) plain: BTreeSet<String>,
    /// Whether the policies may fail on a row.
    pub(super) may_fail: bool,
    pub(super) kind: TableType,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Guarded {
    /// Whether a filter is evaluated behind the policies.
    fn takes(&self, filter: &Expr) -> bool {
        !self.may_fail && cannot_fail(filter, &|column| self.plain.contains(column))
    }
}

#[async_trait]
impl TableProvider for Guarded {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| match self.takes(filter) {
            // It may prune; the rows are filtered again above.
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut plan = LogicalPlanBuilder::from(self.plan.clone());
        for filter in filters.iter().filter(|filter| self.takes(filter)) {
            plan = plan.filter(filter.clone())?;
        }
        if let Some(projection) = projection {
            let column = |at: &usize| Expr::Column(Column::from(self.plan.schema().qualified_field(*at)));
            plan = plan.project(projection.iter().map(column).collect::<Vec<_>>())?;
        }
        if let Some(limit) = limit.filter(|_| !self.may_fail) {
            plan = plan.limit(0, Some(limit))?;
        }
        let guarded = state.create_physical_plan(&plan.build()?).await.map_err(|error| hushed(&self.name, error))?;
        // How many partitions there are hangs on what is behind the policies, and shows in plans.
        let partitions = state.config().target_partitions();
        let guarded: Arc<dyn ExecutionPlan> = match guarded.output_partitioning().partition_count() {
            count if count == partitions => guarded,
            _ => Arc::new(RepartitionExec::try_new(guarded, Partitioning::RoundRobinBatch(partitions))?),
        };
        Ok(Arc::new(GuardedExec::new(Arc::clone(&self.name), guarded)))
    }
}

/// The rows of a plan that nobody looks into.
#[derive(Debug)]
struct GuardedExec {
    name: Arc<str>,
    guarded: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl GuardedExec {
    fn new(name: Arc<str>, guarded: Arc<dyn ExecutionPlan>) -> Self {
        let partitions = guarded.output_partitioning().partition_count();
        // That a column is constant behind a policy would be told by how a plan sorts.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(guarded.schema()),
            Partitioning::UnknownPartitioning(partitions),
            guarded.pipeline_behavior(),
            guarded.boundedness(),
        );
        Self { name, guarded, properties: Arc::new(properties) }
    }
}

impl DisplayAs for GuardedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedExec: table={}", self.name)
    }
}

impl ExecutionPlan for GuardedExec {
    fn name(&self) -> &'static str {
        "GuardedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// None that anybody is to see.
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// What is behind it is run again as well, where a recursive query does.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.name), reset_plan_states(Arc::clone(&self.guarded))?)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let name = Arc::clone(&self.name);
        let rows = self.guarded.execute(partition, context).map_err(|error| hushed(&name, error))?;
        let schema = rows.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.map_err(move |error| hushed(&name, error)))))
    }
}

/// An error without the values that a policy failed on: they are those of rows that the reader may not see.
fn hushed(table: &str, error: DataFusionError) -> DataFusionError {
    match error.find_root() {
        // Those of Parquet are not told: its reader evaluates policies too.
        DataFusionError::ResourcesExhausted(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => error,
        _ => {
            tracing::error!("{table} or a policy of it: {error}");
            DataFusionError::External(format!("{table} cannot be read now, or a policy of it not be applied").into())
        }
    }
}
