//! Plans of statements, what is kept of them from one run to the next, and how they run.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use super::ReadSession;
use crate::error::{Error, Result};
use crate::long_joins::Interrupt;
use crate::{kept_tables, light};

/// A statement's plan, of one session. It may run any number of times: what the optimizer makes of it the first time is kept.
#[derive(Debug)]
pub struct BoundPlan {
    plan: LogicalPlan,
    optimized: OnceLock<LogicalPlan>,
    /// What runs, of one that is light; it holds what it reads. Never run itself, but in copies: a run leaves its traces. `None` for one
    /// that looked light and is not.
    light: OnceLock<Option<Arc<dyn ExecutionPlan>>>,
}

impl BoundPlan {
    pub(crate) fn new(plan: LogicalPlan) -> Self {
        Self { plan, optimized: OnceLock::new(), light: OnceLock::new() }
    }

    /// Whether running it takes less time than handing it to another thread does: it has run before, and what it reads is little and
    /// in memory.
    pub fn is_light(&self) -> bool {
        self.light.get().is_some_and(Option::is_some)
    }
}

/// Bytes of the constants of a plan that is kept. The optimizer computes what it can: `repeat('x', 500000000)`.
const KEPT_CONSTANTS: usize = 64 << 10;

impl ReadSession {
    fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        self.state().optimize(plan).map_err(|error| Error::planning(error, &self.tables))
    }

    /// Runs a plan of this session's; dropping the stream stops the work.
    ///
    /// # Errors
    /// [`Error::Sql`] where the plan cannot be optimized or started.
    pub async fn stream(&self, plan: LogicalPlan) -> Result<SendableRecordBatchStream> {
        let physical = self.physical(&self.optimized(&plan)?).await?;
        self.run(physical, TaskContext::from(self.state()))
    }

    /// Runs a plan of this session's with memory from a pool, and with what stops it where it does not look around by itself.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub async fn stream_within(
        &self,
        bound: &BoundPlan,
        memory: Arc<dyn MemoryPool>,
        interrupt: Arc<Interrupt>,
    ) -> Result<SendableRecordBatchStream> {
        let state = self.state();
        let of_all = state.runtime_env().as_ref();
        let runtime = Arc::new(RuntimeEnv { memory_pool: memory, ..of_all.clone() });
        let config = state.config().clone().with_extension(interrupt);
        // Plans have the functions that they call, so that these need not be copied for each.
        let (none, id) = (HashMap::new(), state.session_id().to_owned());
        let task = TaskContext::new(None, id, config, none, HashMap::new(), HashMap::new(), HashMap::new(), runtime);
        self.run(self.kept_or_planned(bound).await?, task)
    }

    /// What runs of a plan, with all that is worth it kept for the next time.
    async fn kept_or_planned(&self, bound: &BoundPlan) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(Some(light)) = bound.light.get() {
            return Ok(reset_plan_states(Arc::clone(light))?);
        }
        let Some(optimized) = bound.optimized.get() else {
            let optimized = self.optimized(&bound.plan)?;
            return match bytes_of_constants(&optimized)? <= KEPT_CONSTANTS {
                true => self.physical(bound.optimized.get_or_init(|| optimized)).await,
                false => self.physical(&optimized).await,
            };
        };
        if bound.light.get().is_none() && light::is_light(optimized) {
            let mut alone = self.state().clone();
            alone.config_mut().options_mut().execution.target_partitions = 1;
            let physical = self.planned_by(&alone, optimized).await?;
            let kept = bound.light.get_or_init(|| light::is_one_piece(&physical).then_some(physical));
            if let Some(light) = kept {
                return Ok(reset_plan_states(Arc::clone(light))?);
            }
        }
        self.physical(optimized).await
    }

    async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.planned_by(self.state(), plan).await
    }

    async fn planned_by(&self, state: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let physical = state.query_planner().create_physical_plan(plan, state).await;
        physical.map_err(|error| Error::planning(error, &self.tables))
    }

    fn run(&self, physical: Arc<dyn ExecutionPlan>, task: TaskContext) -> Result<SendableRecordBatchStream> {
        let task = match kept_tables::hands_on(&physical) {
            true => {
                let uncut = task.session_config().clone().with_batch_size(usize::MAX);
                task.with_session_config(uncut)
            }
            false => task,
        };
        execute_stream(physical, Arc::new(task)).map_err(|error| Error::planning(error, &self.tables))
    }
}

/// The memory of the constants in a plan.
fn bytes_of_constants(plan: &LogicalPlan) -> Result<usize> {
    let mut bytes = 0;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                if let Expr::Literal(value, _) = expression {
                    bytes += value.size();
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(bytes)
}
