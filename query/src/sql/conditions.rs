//! Which conditions are asked of which rows: one that may fail is asked of those alone that the others let through, wherever the
//! rows come from. `country = 'DE' AND CAST(code AS INT) > 5` is so the same for a table in files and in memory, and tells nothing of
//! rows of other countries.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::expressions::{
    BinaryExpr as Binary, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};

/// Functions of who reads.
const OF_THE_READER: [&str; 2] = ["current_user", "pg_has_role"];

/// Whether a condition can be evaluated on any row without an error: comparisons, of columns that are shown as they are, with values.
pub(crate) fn cannot_fail(condition: &Expr, is_plain: &dyn Fn(&str) -> bool) -> bool {
    let holds = |expression: &Expr| cannot_fail(expression, is_plain);
    match condition {
        Expr::Column(column) => is_plain(&column.name),
        Expr::Literal(..) => true,
        Expr::Not(of) | Expr::IsNull(of) | Expr::IsNotNull(of) | Expr::IsTrue(of) | Expr::IsFalse(of) => holds(of),
        Expr::Between(Between { expr, low, high, .. }) => holds(expr) && holds(low) && holds(high),
        Expr::InList(InList { expr, list, .. }) => holds(expr) && list.iter().all(holds),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => compares(*op) && holds(left) && holds(right),
        Expr::ScalarFunction(call) => {
            OF_THE_READER.contains(&call.func.name()) && call.args.iter().all(|arg| matches!(arg, Expr::Literal(..)))
        }
        _ => false,
    }
}

/// Whether an operator compares two values by what they are.
pub(crate) fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether an operator compares, or joins what was compared: neither fails.
pub(crate) fn compares(op: Operator) -> bool {
    is_comparison(op) || matches!(op, Operator::And | Operator::Or)
}

/// Conditions with those first that cannot fail.
pub(crate) fn in_order(conditions: &[Expr]) -> Vec<Expr> {
    let mut ordered = conditions.to_vec();
    ordered.sort_by_key(|condition| !cannot_fail(condition, &|_| true));
    ordered
}

/// Takes filters apart: below, what cannot fail, and above it the rest. DataFusion evaluates both sides of an AND on all rows that are in
/// memory, unless the left one lets few of them through.
#[derive(Debug)]
pub(crate) struct SureFirst;

impl PhysicalOptimizerRule for SureFirst {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| match plan.downcast_ref::<FilterExec>() {
            Some(filter) => apart(filter).map(|apart| apart.map_or_else(|| Transformed::no(plan), Transformed::yes)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "sure_first"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn apart(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let conditions = split_conjunction(filter.predicate()).into_iter().cloned();
    let (sure, others): (Vec<_>, Vec<_>) = conditions.partition(is_sure);
    if sure.is_empty() || others.is_empty() {
        return Ok(None);
    }
    let below = FilterExecBuilder::new(conjunction(sure), Arc::clone(filter.input())).build()?;
    let above = FilterExecBuilder::from(filter).with_predicate(conjunction(others)).with_input(Arc::new(below));
    Ok(Some(Arc::new(above.build()?)))
}

/// As [`cannot_fail`], of a condition that is planned.
fn is_sure(condition: &Arc<dyn PhysicalExpr>) -> bool {
    let is_known = condition.is::<Column>()
        || condition.is::<Literal>()
        || condition.is::<NotExpr>()
        || condition.is::<IsNullExpr>()
        || condition.is::<IsNotNullExpr>()
        || condition.is::<InListExpr>();
    let compares = condition.downcast_ref::<Binary>().is_some_and(|binary| compares(*binary.op()));
    (is_known || compares) && condition.children().into_iter().all(is_sure)
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    #[tokio::test]
    async fn what_may_fail_is_asked_of_the_rows_that_are_left() {
        let config = SessionConfig::new().with_target_partitions(1);
        let state = SessionStateBuilder::new_with_default_features().with_config(config);
        let context = SessionContext::new_with_state(state.with_physical_optimizer_rule(Arc::new(SureFirst)).build());
        let rows = "CREATE TABLE t AS SELECT CASE WHEN v % 3 = 0 THEN 'DE' ELSE 'US' END AS country,
                        CASE WHEN v % 3 = 0 THEN '7' ELSE 'x' END AS code, v FROM generate_series(1, 300) AS s(v)";
        context.sql(rows).await.unwrap().collect().await.unwrap();
        for condition in ["country = 'DE' AND CAST(code AS INT) >= 0", "CAST(code AS INT) >= 0 AND country = 'DE'"] {
            let sql = format!("SELECT count(*) AS n FROM t WHERE {condition}");
            let counted = context.sql(&sql).await.unwrap().collect().await.unwrap();
            assert_eq!(counted[0].column(0).to_data().buffers()[0].typed_data::<i64>(), [100], "{condition}");
        }
        // By itself it is asked of all rows.
        let failed = context.sql("SELECT count(*) FROM t WHERE CAST(code AS INT) >= 0").await.unwrap().collect().await;
        assert!(failed.is_err());
        let nothing_kept = context.sql("SELECT v FROM t WHERE country = 'DE' AND CAST(code AS INT) > 6 LIMIT 2").await;
        assert_eq!(nothing_kept.unwrap().collect().await.unwrap()[0].num_rows(), 2);
    }
}
