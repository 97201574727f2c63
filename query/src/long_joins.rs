//! Joins that compare every row with every other.
//!
//! DataFusion's nested loop joins a batch with all rows of the other side before it pauses. While it does, its thread is nobody
//! else's, and whoever calls the statement off waits. Here it gives its thread away meanwhile, and stops between two steps.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::NestedLoopJoinExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions};
use futures::Stream;
use tokio::runtime::{Handle, RuntimeFlavor};

/// What stops a statement that does not look around by itself.
#[derive(Debug, Default)]
pub struct Interrupt {
    is_called_off: AtomicBool,
    ends: Mutex<Option<Instant>>,
}

impl Interrupt {
    /// Nobody waits for the statement any more.
    pub fn call_off(&self) {
        self.is_called_off.store(true, Ordering::Relaxed);
    }

    /// It is to go on until then at most; with `None`, as long as it takes.
    pub fn end_at(&self, time: Option<Instant>) {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    fn is_over(&self) -> bool {
        let ends = *self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_called_off.load(Ordering::Relaxed) || ends.is_some_and(|ends| ends <= Instant::now())
    }
}

/// Where a plan's joins find what stops them, once it runs.
type Stop = Arc<OnceLock<Arc<Interrupt>>>;

/// Puts every nested loop that has a condition under a [`LongJoinExec`].
#[derive(Debug)]
pub(crate) struct LongJoins;

impl PhysicalOptimizerRule for LongJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match long_join(&node)? {
            Some(join) => Ok(Transformed::yes(Arc::new(join) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "long_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn long_join(node: &Arc<dyn ExecutionPlan>) -> Result<Option<LongJoinExec>> {
    let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() else { return Ok(None) };
    let Some(filter) = join.filter() else { return Ok(None) };
    let stop = Stop::default();
    let condition = Condition { of: Arc::clone(filter.expression()), stop: Arc::clone(&stop) };
    let filter = JoinFilter::new(Arc::new(condition), filter.column_indices().to_vec(), Arc::clone(filter.schema()));
    let projection = join.projection().as_ref().map(|projection| projection.to_vec());
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let join = NestedLoopJoinExec::try_new(left, right, Some(filter), join.join_type(), projection)?;
    Ok(Some(LongJoinExec { join: Arc::new(join), stop }))
}

/// A join that leaves its thread to others while it computes.
#[derive(Debug)]
struct LongJoinExec {
    join: Arc<dyn ExecutionPlan>,
    stop: Stop,
}

impl DisplayAs for LongJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongJoinExec")
    }
}

impl ExecutionPlan for LongJoinExec {
    fn name(&self) -> &'static str {
        "LongJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.join.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.join]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.pop() {
            Some(join) => Ok(Arc::new(Self { join, stop: Arc::clone(&self.stop) })),
            None => Ok(self),
        }
    }

    #[allow(deprecated, reason = "the trait still asks for it")]
    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let how = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(how))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if let Some(interrupt) = context.session_config().get_extension::<Interrupt>() {
            // All partitions of a statement are stopped by one.
            self.stop.get_or_init(|| interrupt);
        }
        let rows = self.join.execute(partition, context)?;
        Ok(Box::pin(Aside { rows }))
    }
}

/// A stream whose polls are long.
struct Aside {
    rows: SendableRecordBatchStream,
}

impl Stream for Aside {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| self.rows.as_mut().poll_next(context)),
            _ => self.rows.as_mut().poll_next(context),
        }
    }
}

impl RecordBatchStream for Aside {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

/// The condition of a join, which fails once the statement is over.
#[derive(Debug)]
struct Condition {
    of: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.of.eq(&other.of)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, columns: &Schema) -> Result<DataType> {
        self.of.data_type(columns)
    }

    fn nullable(&self, columns: &Schema) -> Result<bool> {
        self.of.nullable(columns)
    }

    fn evaluate(&self, pairs: &RecordBatch) -> Result<ColumnarValue> {
        match self.stop.get().is_some_and(|interrupt| interrupt.is_over()) {
            true => Err(DataFusionError::Execution("the statement was called off".to_owned())),
            false => self.of.evaluate(pairs),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.of]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.pop() {
            Some(of) => Ok(Arc::new(Self { of, stop: Arc::clone(&self.stop) })),
            None => Ok(self),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::execution::SessionStateBuilder;
    use datafusion::physical_plan::{collect, displayable};
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn planned(sql: &str, interrupt: &Arc<Interrupt>) -> (Arc<dyn ExecutionPlan>, Arc<TaskContext>) {
        let context = SessionContext::new();
        let state = SessionStateBuilder::new_from_existing(context.state());
        let mut state = state.with_physical_optimizer_rule(Arc::new(LongJoins)).build();
        state.config_mut().set_extension(Arc::clone(interrupt));
        let plan = state.create_logical_plan(sql).await.unwrap();
        (state.create_physical_plan(&plan).await.unwrap(), state.task_ctx())
    }

    const LONG: &str = "SELECT count(*) FROM generate_series(1, 2000000) a(x), generate_series(1, 2000000) b(y) WHERE x % 10 < y % 7 - 9";

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_long_join_leaves_its_thread_and_stops_when_it_is_told_to() {
        let interrupt = Arc::new(Interrupt::default());
        let (plan, context) = planned(LONG, &interrupt).await;
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        assert!(shown.contains("LongJoinExec"), "{shown}");
        let running = tokio::spawn(collect(plan, context));
        // There is one thread, and it takes other work while the join takes hours.
        for _ in 0..10 {
            tokio::spawn(tokio::time::sleep(Duration::from_millis(5))).await.unwrap();
        }
        assert!(!running.is_finished());
        interrupt.call_off();
        let stopped = running.await.unwrap().unwrap_err().to_string();
        assert!(stopped.contains("called off"), "{stopped}");
        let late = Arc::new(Interrupt::default());
        late.end_at(Some(Instant::now() + Duration::from_millis(50)));
        let (plan, context) = planned(LONG, &late).await;
        assert!(collect(plan, context).await.is_err());
    }

    #[tokio::test]
    async fn a_join_gives_what_it_gave() {
        let (plan, context) = planned(
            "SELECT count(*), sum(x * y) FROM generate_series(1, 100) a(x) LEFT JOIN generate_series(1, 90) b(y) ON x < y AND x % 3 > y % 2",
            &Arc::default(),
        )
        .await;
        let rows = collect(plan, context).await.unwrap();
        let expected = SessionContext::new()
            .sql("SELECT count(*), sum(x * y) FROM generate_series(1, 100) a(x) LEFT JOIN generate_series(1, 90) b(y) ON x < y AND x % 3 > y % 2")
            .await;
        assert_eq!(rows, expected.unwrap().collect().await.unwrap());
    }
}
