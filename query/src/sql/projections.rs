//! Where what a statement computes is computed: above the filter that rows have to pass.
//!
//! DataFusion moves a projection that narrows below a filter, with all that it computes: `100 / x` fails then on the rows that
//! `WHERE x <> 0` was to keep away.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, remove_unnecessary_projections};

use crate::sql::conditions::SureFirst;

/// DataFusion's rules, with [`Projections`] in the place of its own, and [`SureFirst`] after them.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let rules = PhysicalOptimizer::new().rules.into_iter();
    let ours = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name() {
        "ProjectionPushdown" => Arc::new(Projections) as _,
        _ => rule,
    };
    rules.map(ours).chain([Arc::new(SureFirst) as _]).collect()
}

/// Moves projections down, and leaves those that compute above the filter below them.
#[derive(Debug)]
struct Projections;

impl PhysicalOptimizerRule for Projections {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let moved = |plan: Arc<dyn ExecutionPlan>| match computes_over_a_filter(plan.as_ref()) {
            true => Ok(Transformed::no(plan)),
            false => remove_unnecessary_projections(plan),
        };
        plan.transform_down(moved).data()
    }

    fn name(&self) -> &str {
        "projections"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn computes_over_a_filter(plan: &dyn ExecutionPlan) -> bool {
    let is_plain = |value: &Arc<dyn PhysicalExpr>| value.is::<Column>() || value.is::<Literal>();
    plan.downcast_ref::<ProjectionExec>().is_some_and(|projection| {
        projection.input().is::<FilterExec>() && !projection.expr().iter().all(|value| is_plain(&value.expr))
    })
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn what_a_filter_keeps_away_is_not_computed() {
        let context = SessionContext::new();
        let state =
            SessionStateBuilder::new_from_existing(context.state()).with_physical_optimizer_rules(physical_rules());
        let context = SessionContext::new_with_state(state.build());
        let made = "CREATE TABLE t AS SELECT value AS x, 'a' AS a, 'b' AS b FROM generate_series(0, 9)";
        context.sql(made).await.unwrap().collect().await.unwrap();
        // It narrows three columns to two.
        let sql = "SELECT x, 100 / x * length(a || b) AS y FROM t WHERE x <> 0";
        let rows: usize = context.sql(sql).await.unwrap().collect().await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(rows, 9);
    }
}
