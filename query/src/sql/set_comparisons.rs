//! Comparisons with the rows of a subquery that DataFusion answers otherwise than SQL.
//!
//! - `x >= ALL (SELECT x FROM t)` over `t` itself: it makes an EXISTS of it that compares a column of the outer query with one of the
//!   same name of the inner one, and then takes both for the inner one's. Under a name of its own the inner one is another.
//! - `x NOT IN (SELECT y FROM u) OR …`: where it is not a condition by itself, it makes false of what is unknown: whether a value is
//!   among others of which one is NULL.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, when,
};
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

/// What the one column is called by which [`ThreeValued`] knows its own.
const OF_NULLS: &str = "lakebed_of_nulls";

/// Makes of an IN below a NOT or an OR `x IN (…) OR unknown`, where that is so. A second pass changes nothing.
#[derive(Debug)]
pub(crate) struct ThreeValued;

impl AnalyzerRule for ThreeValued {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Filter(filter) => {
                let schema = Arc::clone(filter.input.schema());
                let conditions = split_conjunction_owned(filter.predicate);
                let (mut changed, mut completed) = (false, Vec::new());
                for condition in conditions {
                    let of_one = match condition {
                        // These DataFusion answers as it should.
                        Expr::InSubquery(_) => Transformed::no(condition),
                        Expr::Not(of) if matches!(*of, Expr::InSubquery(_)) => Transformed::no(Expr::Not(of)),
                        other => complete(other, true, &schema)?,
                    };
                    changed |= of_one.transformed;
                    completed.push(of_one.data);
                }
                let predicate = conjunction(completed).unwrap_or_else(|| lit(true));
                let filter = LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?);
                Ok(Transformed::new_transformed(filter, changed))
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "three_valued"
    }
}

/// An expression whose INs are unknown where SQL says so; `as_false` says that unknown is as good as false in its place.
fn complete(expr: Expr, as_false: bool, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) if is_complete(&left, &right) => {
            Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right })))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (complete(*left, as_false, schema)?, complete(*right, as_false, schema)?);
            let changed = left.transformed || right.transformed;
            let both = BinaryExpr::new(Box::new(left.data), op, Box::new(right.data));
            Ok(Transformed::new_transformed(Expr::BinaryExpr(both), changed))
        }
        Expr::InSubquery(asked) if (as_false && !asked.negated) || is_always_known(&asked, schema)? => {
            Ok(Transformed::no(Expr::InSubquery(asked)))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let unknown = is_unknown(&expr, &subquery)?;
            let found = Expr::InSubquery(InSubquery { expr, subquery, negated: false });
            let complete = found.or(unknown);
            Ok(Transformed::yes(if negated { Expr::Not(Box::new(complete)) } else { complete }))
        }
        other => other.map_children(|child| complete(child, false, schema)),
    }
}

fn is_complete(found: &Expr, unknown: &Expr) -> bool {
    let is_ours = |expr: &Expr| match expr {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) => {
            Ok(subquery.subquery.schema().field(0).name() == OF_NULLS)
        }
        _ => Ok(false),
    };
    matches!(found, Expr::InSubquery(_)) && unknown.exists(is_ours).unwrap_or(false)
}

fn is_always_known(asked: &InSubquery, schema: &DFSchema) -> Result<bool> {
    Ok(!asked.expr.nullable(schema)? && !asked.subquery.subquery.schema().field(0).is_nullable())
}

/// NULL where a value that is not found may be there after all: it is NULL and there are rows, or one of these is.
fn is_unknown(value: &Expr, subquery: &Subquery) -> Result<Expr> {
    let unknown = is_there(subquery, true)?.or(value.clone().is_null().and(is_there(subquery, false)?));
    when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))
}

/// Whether a subquery has rows, or has a NULL.
fn is_there(subquery: &Subquery, null: bool) -> Result<Expr> {
    let asked = subquery.subquery.schema().columns().into_iter().next().map_or_else(|| lit(true), Expr::Column);
    let rows = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
    let rows = if null { rows.filter(asked.is_null())? } else { rows };
    let of = |rows: LogicalPlan| Subquery { subquery: Arc::new(rows), ..subquery.clone() };
    // What is counted once for all rows is not looked for with each.
    Ok(match subquery.outer_ref_columns.is_empty() {
        true => {
            let counted = rows.aggregate(Vec::<Expr>::new(), [count(lit(1_i64)).alias(OF_NULLS)])?.build()?;
            Expr::ScalarSubquery(of(counted)).gt(lit(0_i64))
        }
        false => {
            let subquery = of(rows.project([lit(1_i64).alias(OF_NULLS)])?.build()?);
            Expr::Exists(Exists { subquery, negated: false })
        }
    })
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::sql::shown::{context_with, shown};

    async fn ids(context: &SessionContext, condition: &str) -> String {
        let sql = format!("SELECT id FROM t WHERE {condition} ORDER BY id");
        shown(context, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn context() -> SessionContext {
        context_with(|state| {
            state.add_analyzer_rule(Arc::new(NameCompared));
            state.add_analyzer_rule(Arc::new(ThreeValued));
        })
    }

    #[tokio::test]
    async fn what_may_be_among_others_is_unknown() {
        let context = context();
        for rows in [
            "CREATE TABLE t AS SELECT * FROM (VALUES (1, 1, 0), (2, 2, 0), (3, NULL, 0), (4, 4, 1)) AS t(id, x, f)",
            "CREATE TABLE u AS SELECT * FROM (VALUES (1), (NULL)) AS u(y)",
            "CREATE TABLE w AS SELECT * FROM (VALUES (1), (7)) AS w(y)",
            "CREATE TABLE none AS SELECT * FROM u WHERE y > 100",
        ] {
            context.sql(rows).await.unwrap().collect().await.unwrap();
        }
        for (condition, expected) in [
            ("x NOT IN (SELECT y FROM u) OR f = 1", "4"),
            ("x NOT IN (SELECT y FROM w) OR f = 1", "2 4"),
            ("x NOT IN (SELECT y FROM none) OR f = 1", "1 2 3 4"),
            ("NOT (x IN (SELECT y FROM u) AND f = 0)", "4"),
            ("NOT (x IN (SELECT y FROM w) AND f = 0)", "2 4"),
            ("(x IN (SELECT y FROM u)) IS NULL", "2 3 4"),
            ("(x IN (SELECT y FROM w)) IS NOT TRUE", "2 3 4"),
            ("x IN (SELECT y FROM u) OR f = 1", "1 4"),
            ("x NOT IN (SELECT y FROM u)", ""),
            ("x NOT IN (SELECT y FROM w) AND f = 0", "2"),
            ("x NOT IN (SELECT y FROM u WHERE u.y = t.x) OR f = 1", "2 3 4"),
            ("x NOT IN (SELECT y FROM u WHERE t.id = 3 OR y IS NOT NULL) OR f = 1", "2 4"),
            ("x NOT IN (SELECT y FROM u WHERE t.id < 3) OR f = 1", "3 4"),
            ("CASE WHEN x IN (SELECT y FROM u) THEN f = 0 ELSE f = 1 END", "1 4"),
        ] {
            assert_eq!(ids(&context, condition).await, expected, "{condition}");
        }
    }

    #[tokio::test]
    async fn a_column_is_compared_with_those_of_its_own_table() {
        let context = context();
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
            assert_eq!(ids(&context, condition).await, expected, "{condition}");
        }
    }
}
