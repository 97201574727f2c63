//! Aggregates that go by the order of their rows.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, SortExpr};
use lakebed_log::schema;

use super::renamed;
use super::ties::{Ties, ascending, by_value, has_grouping_sets, offset, sortable, ties};

/// The aggregates whose value hangs on the order of the rows.
pub(super) const ORDERED: [&str; 6] =
    ["any_value", "array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// Those of them that keep each value.
pub(super) const COLLECTING: [&str; 2] = ["array_agg", "string_agg"];

/// Gives each of them a total order.
pub(super) fn total(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let exprs: Vec<Expr> = aggregate.aggr_expr.iter().map(|expr| ordered(expr, &aggregate)).collect();
    if exprs == aggregate.aggr_expr {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let total = Aggregate::try_new(aggregate.input, aggregate.group_expr, exprs)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(total)))
}

fn ordered(expr: &Expr, aggregate: &Aggregate) -> Expr {
    let Some(function) = ordered_aggregate(expr) else { return expr.clone() };
    let mut total = function.clone();
    total.params.order_by.extend(ties_of(function, aggregate).sorts);
    if function.func.name() == "any_value" {
        // Which takes no heed of an order; the first value in one is one of any.
        total.func = first_value_udaf();
        total.params.null_treatment = Some(NullTreatment::IgnoreNulls);
    }
    match total == *function {
        true => expr.clone(),
        false => renamed(Expr::AggregateFunction(total), expr),
    }
}

/// The aggregate below an alias, if it goes by the order of its rows.
pub(super) fn ordered_aggregate(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) if ORDERED.contains(&function.func.name()) => Some(function),
        Expr::Alias(alias) => ordered_aggregate(&alias.expr),
        _ => None,
    }
}

/// What breaks the ties in the order of an aggregate.
///
/// Which of the rows that tie comes first shows in the arguments alone, so where rows are not told apart by less, these
/// break the ties: those of all such aggregates, so that two aggregates with one order see the rows in one order.
pub(super) fn ties_of(function: &AggregateFunction, aggregate: &Aggregate) -> Ties {
    let params = &function.params;
    if params.distinct && COLLECTING.contains(&function.func.name()) {
        // DataFusion takes no other order here.
        let argument = params.args.first().filter(|_| params.order_by.is_empty());
        let total = argument.is_none_or(|argument| is_sortable(argument, aggregate));
        let sorts = argument.filter(|_| total).cloned().map(ascending).into_iter().collect();
        return Ties { sorts, total, identified: true };
    }
    let mut order: Vec<&Expr> = params.order_by.iter().map(|sort| &sort.expr).collect();
    let groups: &[Expr] = if has_grouping_sets(aggregate) { &[] } else { &aggregate.group_expr };
    let by_columns = ties(&aggregate.input, order.iter().copied().chain(groups));
    if by_columns.identified {
        return by_columns;
    }
    let has_offset = offset(aggregate.input.schema()).is_some();
    let is_offset = |sort: &&SortExpr| matches!(&sort.expr, Expr::Column(column) if column.name == schema::OFFSET);
    let mut sorts: Vec<SortExpr> = by_columns.sorts.iter().filter(is_offset).filter(|_| has_offset).cloned().collect();
    let arguments = aggregate.aggr_expr.iter().filter_map(ordered_aggregate).flat_map(|function| &function.params.args);
    for argument in arguments.filter(|argument| !matches!(argument, Expr::Literal(..))) {
        if !is_sortable(argument, aggregate) {
            return by_columns;
        }
        if !order.contains(&argument) {
            sorts.extend(by_value(argument, aggregate.input.schema(), &order));
            order.push(argument);
        }
    }
    Ties { sorts, total: true, identified: false }
}

fn is_sortable(expr: &Expr, aggregate: &Aggregate) -> bool {
    expr.get_type(aggregate.input.schema()).is_ok_and(|kind| sortable(&kind))
}
