//! `x >= ALL (SELECT x FROM t)` over `t` itself. DataFusion makes an EXISTS of it that compares a column of the outer query with one
//! of the same name of the inner one, and then takes both for the inner one's. Under a name of its own the subquery's is another.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::expr::SetComparison;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion::optimizer::AnalyzerRule;

/// What the rows of such a subquery are called.
const NAME: &str = "lakebed_compared";

/// Names the subqueries of quantified comparisons. A second pass changes nothing.
#[derive(Debug)]
pub(crate) struct NameCompared;

impl AnalyzerRule for NameCompared {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(named))).data()
    }

    fn name(&self) -> &str {
        "name_compared"
    }
}

fn named(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) = expr else {
        return Ok(Transformed::no(expr));
    };
    let is_named =
        matches!(subquery.subquery.as_ref(), LogicalPlan::SubqueryAlias(alias) if alias.alias.table() == NAME);
    let plan = match is_named {
        true => Arc::clone(&subquery.subquery),
        false => Arc::new(LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).alias(NAME)?.build()?),
    };
    let subquery = Subquery { subquery: plan, ..subquery };
    let named = Expr::SetComparison(SetComparison::new(expr, subquery, op, quantifier));
    Ok(Transformed::new_transformed(named, !is_named))
}
