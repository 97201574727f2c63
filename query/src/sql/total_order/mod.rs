//! Every order in SQL made total: rows that tie go by offset and, where they carry none, by the values of their columns, so
//! that what still ties is equal in every column. A table is then the same for every order in which its rows were read.

mod aggregates;
mod dependencies;
mod refusal;
mod string_agg;
mod ties;
mod windows;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Distinct, DistinctOn, Expr, LogicalPlan, Projection, Sort, SortExpr};
use datafusion::optimizer::AnalyzerRule;

pub(crate) use self::dependencies::{ForgetDependencies, RelationsForget, optimizer_rules};
pub(crate) use self::refusal::Refused;
pub(crate) use self::refusal::refuse;
pub(crate) use self::string_agg::string_agg;
pub(crate) use self::ties::unique_columns;
use self::ties::{Ties, ascending, columns, offset, ties};

/// Appends what breaks ties to the orders on which rows hang: those below LIMIT, of windows, of DISTINCT ON, and of
/// aggregates that go by the order of their rows. Names and types of all columns stay; a second pass changes nothing.
/// It goes after type coercion, and leaves alone what is a total order as it was written.
#[derive(Debug)]
pub(crate) struct TotalOrder;

impl AnalyzerRule for TotalOrder {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Limit(_) => node.map_children(sorts_below),
            LogicalPlan::Sort(sort) if sort.fetch.is_some() => total_sort(sort),
            LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(total_distinct_on(distinct)),
            LogicalPlan::Window(window) => windows::total(window),
            LogicalPlan::Aggregate(aggregate) => aggregates::total(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "total_order"
    }
}

/// Whether a LIMIT above a node takes its rows by an order below it. Not so above a filter: it is spread over threads.
fn keeps_order(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Limit(_))
}

/// Makes the sort total by which a LIMIT above takes its rows.
fn sorts_below(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match plan {
        LogicalPlan::Sort(sort) => total_sort(sort),
        plan if keeps_order(&plan) => plan.map_children(sorts_below),
        other => Ok(Transformed::no(other)),
    }
}

fn total_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    if ties_of_sort(&sort.input, &sort.expr).sorts.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let visible = columns(sort.input.schema());
    let carried = with_offset(&sort.input)?;
    let is_carried = carried.is_some();
    let input = carried.map_or(sort.input, Arc::new);
    let mut expr = sort.expr;
    expr.extend(ties_of_sort(&input, &expr).sorts);
    let sorted = LogicalPlan::Sort(Sort { expr, input, fetch: sort.fetch });
    Ok(Transformed::yes(match is_carried {
        true => LogicalPlan::Projection(Projection::try_new(visible, Arc::new(sorted))?),
        false => sorted,
    }))
}

fn ties_of_sort(input: &LogicalPlan, sorts: &[SortExpr]) -> Ties {
    ties(input, sorts.iter().map(|sort| &sort.expr))
}

/// A projection that leaves the offset out, with the offset.
fn with_offset(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Projection(Projection { expr, input, schema, .. }) = plan else { return Ok(None) };
    let Some(at) = offset(input.schema()).filter(|_| schema.fields().find(lakebed_log::schema::OFFSET).is_none())
    else {
        return Ok(None);
    };
    let expr = expr.iter().cloned().chain(columns(input.schema()).into_iter().nth(at));
    Ok(Some(LogicalPlan::Projection(Projection::try_new(expr.collect(), Arc::clone(input))?)))
}

fn total_distinct_on(mut distinct: DistinctOn) -> Transformed<LogicalPlan> {
    let ties = ties_of_distinct_on(&distinct);
    let rewritten = !ties.sorts.is_empty();
    if rewritten {
        // An order that is written begins with what is distinct; one that is not has to.
        let by_key = || distinct.on_expr.iter().cloned().map(ascending).collect();
        let mut sorts: Vec<SortExpr> = distinct.sort_expr.take().unwrap_or_else(by_key);
        sorts.extend(ties.sorts);
        distinct.sort_expr = Some(sorts);
    }
    Transformed::new_transformed(LogicalPlan::Distinct(Distinct::On(distinct)), rewritten)
}

fn ties_of_distinct_on(distinct: &DistinctOn) -> Ties {
    let sorts = distinct.sort_expr.iter().flatten().map(|sort| &sort.expr);
    ties(&distinct.input, sorts.chain(&distinct.on_expr))
}

/// A plan with the columns of a schema, which are some of its own, in that order.
pub(crate) fn under_columns_of(schema: &DFSchema, plan: LogicalPlan) -> Result<LogicalPlan> {
    if plan.schema().columns() == schema.columns() {
        return Ok(plan);
    }
    Ok(LogicalPlan::Projection(Projection::try_new(columns(schema), Arc::new(plan))?))
}

/// An expression in place of another, under the other's name.
pub(crate) fn renamed(expr: Expr, old: &Expr) -> Expr {
    match old {
        Expr::Alias(alias) => {
            let mut alias = alias.clone();
            alias.expr = Box::new(expr);
            Expr::Alias(alias)
        }
        _ if expr.schema_name().to_string() == old.schema_name().to_string() => expr,
        _ => expr.alias(old.schema_name().to_string()),
    }
}

#[cfg(test)]
mod tests;
