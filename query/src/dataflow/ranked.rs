//! Queries that keep the first few rows of each key, or of all: LIMIT of an ORDER BY, DISTINCT ON, and a filter on a
//! row_number().

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, FetchType, LogicalPlan, Operator, SkipType, SortExpr, Window, WindowFunctionDefinition,
};

use crate::strategy::{uncast, window_function};

/// A part of a query that keeps the first rows of each key.
#[derive(Clone, Debug)]
pub(crate) struct Ranked<'a> {
    /// How far below its top the rows come in.
    pub(super) depth: usize,
    /// What it ranks.
    pub(super) input: &'a LogicalPlan,
    pub(super) keys: Vec<Expr>,
    pub(super) order: Vec<SortExpr>,
    pub(crate) most: usize,
    /// The window that numbers the rows, where one does.
    pub(crate) window: Option<&'a Window>,
}

/// What a node ranks, if it does.
pub(crate) fn ranked(plan: &LogicalPlan) -> Option<Ranked<'_>> {
    match plan {
        LogicalPlan::Limit(limit) => {
            let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(Some(fetch)))) =
                (limit.get_skip_type(), limit.get_fetch_type())
            else {
                return None;
            };
            let (sort, depth) = below(&limit.input, 1)?;
            let LogicalPlan::Sort(sort) = sort else { return None };
            let (keys, order, window) = (Vec::new(), sort.expr.clone(), None);
            Some(Ranked { depth: depth + 1, input: &sort.input, keys, order, most: skip + fetch, window })
        }
        LogicalPlan::Sort(sort) => {
            let (keys, order, window) = (Vec::new(), sort.expr.clone(), None);
            sort.fetch.map(|most| Ranked { depth: 1, input: &sort.input, keys, order, most, window })
        }
        LogicalPlan::Distinct(Distinct::On(on)) => {
            let order = on.sort_expr.clone().unwrap_or_default();
            Some(Ranked { depth: 1, input: &on.input, keys: on.on_expr.clone(), order, most: 1, window: None })
        }
        LogicalPlan::Filter(filter) => {
            let bounds = split_conjunction(&filter.predicate).into_iter().filter_map(bound);
            bounds.filter_map(|(column, most)| numbered(&filter.input, column, most)).next()
        }
        _ => None,
    }
}

/// The node below projections and aliases.
fn below(mut plan: &LogicalPlan, mut depth: usize) -> Option<(&LogicalPlan, usize)> {
    loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            other => return Some((other, depth)),
        };
        depth += 1;
    }
}

/// A column and how large it may be, of `column = 1`, `column <= n` or `column < n`.
fn bound(predicate: &Expr) -> Option<(&Column, usize)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = predicate else { return None };
    let (column, op, number) = match (uncast(left), uncast(right)) {
        (Expr::Column(column), number) => (column, *op, number),
        (number, Expr::Column(column)) => (column, op.swap()?, number),
        _ => return None,
    };
    let number = match number {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => usize::try_from(*number).ok()?,
        Expr::Literal(ScalarValue::UInt64(Some(number)), _) => usize::try_from(*number).ok()?,
        _ => return None,
    };
    match op {
        Operator::Eq | Operator::LtEq => Some((column, number)),
        Operator::Lt => Some((column, number.saturating_sub(1))),
        _ => None,
    }
}

/// The window below projections and aliases whose row_number() is the column.
fn numbered<'a>(plan: &'a LogicalPlan, column: &Column, most: usize) -> Option<Ranked<'a>> {
    let (mut plan, mut column, mut depth) = (plan, column.clone(), 1);
    loop {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                column = Column::from_name(column.name);
                plan = &alias.input;
            }
            LogicalPlan::Projection(projection) => {
                let source = projection.expr.iter().find(|expr| expr.qualified_name().1 == column.name)?;
                let Expr::Column(source) = source.clone().unalias() else { return None };
                column = source;
                plan = &projection.input;
            }
            LogicalPlan::Window(window) => {
                let [only] = window.window_expr.as_slice() else { return None };
                let function = window_function(only).filter(|_| only.qualified_name().1 == column.name)?;
                let row_number =
                    matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
                let (keys, order) = (function.params.partition_by.clone(), function.params.order_by.clone());
                let ranks = row_number && function.params.filter.is_none();
                let window_input = &window.input;
                return ranks.then_some(Ranked {
                    depth: depth + 1,
                    input: window_input,
                    keys,
                    order,
                    most,
                    window: Some(window),
                });
            }
            _ => return None,
        }
        depth += 1;
    }
}

/// The plan with another one so far below its top.
///
/// # Errors
/// None for a chain of nodes with one input each.
pub(super) fn with_input(plan: LogicalPlan, depth: usize, input: &LogicalPlan) -> PlanResult<LogicalPlan> {
    if depth == 0 {
        return Ok(input.clone());
    }
    use datafusion::common::tree_node::TreeNode;
    Ok(plan.map_children(|child| Ok(Transformed::yes(with_input(child, depth - 1, input)?)))?.data)
}
