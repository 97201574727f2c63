//! `x >= ALL (SELECT x FROM t)` over `t` itself. DataFusion makes an EXISTS of it that compares a column of the outer query with one
//! of the same name of the inner one, and then takes both for the inner one's. Under a name of its own the inner one is another.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::SetComparison;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery};
use datafusion::optimizer::AnalyzerRule;

/// What the one column of such a subquery is called.
const NAME: &str = "lakebed_compared";

/// Names the columns of quantified comparisons. A second pass changes nothing.
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
    let compared = subquery.subquery.schema().columns().into_iter().next().unwrap_or_else(|| Column::from_name(NAME));
    let is_named = compared.relation.is_none() && compared.name == NAME;
    let plan = match is_named {
        true => Arc::clone(&subquery.subquery),
        false => {
            let inner = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
            Arc::new(inner.project([Expr::Column(compared).alias(NAME)])?.build()?)
        }
    };
    let subquery = Subquery { subquery: plan, ..subquery };
    let named = Expr::SetComparison(SetComparison::new(expr, subquery, op, quantifier));
    Ok(Transformed::new_transformed(named, !is_named))
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[tokio::test]
    async fn a_column_is_compared_with_those_of_its_own_table() {
        let state = SessionStateBuilder::new_with_default_features().with_analyzer_rule(Arc::new(NameCompared)).build();
        let context = SessionContext::new_with_state(state);
        let rows = "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a', 5), (2, 'a', 7), (3, 'b', 6)) AS t(id, k, x)";
        context.sql(rows).await.unwrap().collect().await.unwrap();
        for (condition, expected) in [
            ("x >= ALL (SELECT x FROM t)", "2"),
            ("x > ANY (SELECT x FROM t)", "2 3"),
            ("x = ALL (SELECT max(x) FROM t)", "2"),
            ("t.x >= ALL (SELECT o.x FROM t AS o WHERE o.k = t.k)", "2 3"),
            ("t.x < ANY (SELECT o.x FROM t AS o WHERE o.k = t.k)", "1"),
            ("t.x > ALL (SELECT o.x FROM t AS o WHERE o.id < t.id)", "1 2"),
        ] {
            let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
            let batches =
                context.sql(&sql).await.unwrap().collect().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            let shown = pretty_format_batches(&batches).unwrap().to_string();
            let cells = shown.lines().filter(|line| line.starts_with('|')).skip(1);
            let found = cells.map(|line| line.replace(['|', ' '], "")).collect::<Vec<_>>().join(" ");
            assert_eq!(found, expected, "{sql}");
        }
    }
}
