//! Functional dependencies, kept to where they hold. From `GROUP BY k` DataFusion infers that a row is the only one of its
//! `k`, and goes on to believe so of the rows that UNNEST makes of it: it leaves out what an ORDER BY, a GROUP BY or a
//! DISTINCT has besides `k`, and answers wrongly, or with rows that tie.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{DFSchema, FunctionalDependencies, Result};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::optimizer::{Optimizer, OptimizerConfig, OptimizerRule};
use datafusion::sql::sqlparser::ast::TableFactor;

/// The rules that go by functional dependencies.
const GO_BY_DEPENDENCIES: [&str; 4] =
    ["replace_distinct_aggregate", "eliminate_join", "eliminate_duplicated_expr", "optimize_projections"];

/// DataFusion's rules; before each of these, what does not hold is forgotten, as any rule may infer it anew.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::new();
    for rule in Optimizer::new().rules {
        if GO_BY_DEPENDENCIES.contains(&rule.name()) {
            rules.push(Arc::new(ForgetDependencies));
        }
        rules.push(rule);
    }
    rules
}

/// Takes away the dependencies that are inferred for the rows of UNNEST.
#[derive(Debug)]
pub(crate) struct ForgetDependencies;

impl OptimizerRule for ForgetDependencies {
    fn name(&self) -> &str {
        "forget_dependencies"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        forget(plan)
    }
}

/// Takes them away from what stands in FROM, too: a GROUP BY over that gets all columns that seem to be determined by its own.
#[derive(Debug)]
pub(crate) struct RelationsForget;

thread_local! {
    /// Whether the relation that is planned next comes from [`RelationsForget`] itself, and is DataFusion's to plan.
    static IS_HANDED_ON: Cell<bool> = const { Cell::new(false) };
}

impl RelationPlanner for RelationsForget {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        if IS_HANDED_ON.replace(false) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        IS_HANDED_ON.set(true);
        let plan = forget(context.plan(relation)?)?.data;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

fn forget(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut inferred = false;
    plan.apply_with_subqueries(|node| {
        let unnests = matches!(node, LogicalPlan::Unnest(_));
        inferred |= unnests && !node.schema().functional_dependencies().is_empty();
        Ok(if inferred { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !inferred {
        return Ok(Transformed::no(plan));
    }
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Unnest(mut unnest) => {
            let schema = DFSchema::clone(&unnest.schema);
            unnest.schema = Arc::new(schema.with_functional_dependencies(FunctionalDependencies::empty())?);
            Ok(Transformed::yes(LogicalPlan::Unnest(unnest)))
        }
        // Every schema above was inferred from that one.
        node => node.recompute_schema().map(Transformed::yes),
    })
}
