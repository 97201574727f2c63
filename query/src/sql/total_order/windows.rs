//! Window functions that go by the place of a row in an order, or by a frame of rows in it.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_window::nth_value::{first_value_udwf, last_value_udwf};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::utils::generate_sort_key;
use datafusion::logical_expr::{
    Expr, LogicalPlan, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, WindowUDF,
};

use super::aggregates::ORDERED;
use super::ties::{Ties, ties};
use super::{renamed, under_columns_of};
use crate::strategy::window_function;

/// What of its rows a window function takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// How many come before, where those that tie are alike.
    Peers,
    /// Their places.
    Places,
    /// Which are in the frame, in their order.
    Frame,
    /// Which are in the frame, in any order.
    Set,
}

pub(super) fn takes(function: &WindowFunction) -> Takes {
    match (&function.fun, function.fun.name()) {
        (WindowFunctionDefinition::WindowUDF(_), "rank" | "dense_rank" | "percent_rank" | "cume_dist") => Takes::Peers,
        (WindowFunctionDefinition::WindowUDF(_), "first_value" | "last_value" | "nth_value") => Takes::Frame,
        (WindowFunctionDefinition::WindowUDF(_), _) => Takes::Places,
        (WindowFunctionDefinition::AggregateUDF(_), name) if ORDERED.contains(&name) => Takes::Frame,
        (WindowFunctionDefinition::AggregateUDF(_), _) => Takes::Set,
    }
}

/// Makes the orders total that the functions of a window need so; peers stay peers where they count.
pub(super) fn total(window: Window) -> Result<Transformed<LogicalPlan>> {
    let (mut exprs, mut over_peers) = (Vec::new(), Vec::new());
    for expr in &window.window_expr {
        let (expr, of_peers) = by_rows(expr, &window.input);
        exprs.push(expr);
        over_peers.extend(of_peers);
    }
    let plan = stacked(window.input.as_ref().clone(), exprs)?;
    let plan = stacked(plan, over_peers)?;
    if matches!(&plan, LogicalPlan::Window(new) if new.window_expr == window.window_expr) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    under_columns_of(&window.schema, plan).map(Transformed::yes)
}

/// A window for each order that the functions have, the finest at the bottom, as one sort then does for others.
fn stacked(mut plan: LogicalPlan, mut exprs: Vec<Expr>) -> Result<LogicalPlan> {
    while !exprs.is_empty() {
        let total: Vec<Expr> = exprs.iter().map(|expr| ordered(expr, &plan)).collect();
        let sort_key = |expr: &Expr| match window_function(expr) {
            Some(function) => generate_sort_key(&function.params.partition_by, &function.params.order_by),
            None => Ok(Vec::new()),
        };
        let keys = total.iter().map(sort_key).collect::<Result<Vec<_>>>()?;
        let finest = keys.iter().map(Vec::len).max();
        let finest = keys.iter().find(|key| Some(key.len()) == finest).cloned();
        let (mut here, mut above) = (Vec::new(), Vec::new());
        for ((expr, total), key) in exprs.into_iter().zip(total).zip(keys) {
            match Some(key) == finest {
                true => here.push(total),
                false => above.push(expr),
            }
        }
        plan = LogicalPlan::Window(Window::try_new(here, Arc::new(plan))?);
        exprs = above;
    }
    Ok(plan)
}

/// A window function with a total order, if it needs one over the rows of `input`.
fn ordered(expr: &Expr, input: &LogicalPlan) -> Expr {
    let Some(function) = window_function(expr).filter(|function| needs_total_order(function)) else {
        return expr.clone();
    };
    let sorts = ties_of(&function.params, input).sorts;
    if sorts.is_empty() {
        return expr.clone();
    }
    let mut total = function.clone();
    total.params.order_by.extend(sorts);
    if takes(function) == Takes::Places {
        // These have no use for a frame, and one of RANGE may stand for an order by one column alone.
        total.params.window_frame = rows(unbounded_preceding(), WindowFrameBound::CurrentRow);
    }
    renamed(Expr::WindowFunction(Box::new(total)), expr)
}

fn needs_total_order(function: &WindowFunction) -> bool {
    let frame = &function.params.window_frame;
    let by_rows = frame.units == WindowFrameUnits::Rows;
    match takes(function) {
        Takes::Peers => false,
        Takes::Places => true,
        Takes::Frame => by_rows,
        Takes::Set => by_rows && !(frame.start_bound.is_unbounded() && frame.end_bound.is_unbounded()),
    }
}

/// What breaks the ties in the order of a window function.
pub(super) fn ties_of(params: &WindowFunctionParams, input: &LogicalPlan) -> Ties {
    ties(input, params.order_by.iter().map(|sort| &sort.expr).chain(&params.partition_by))
}

/// A function over the rows of a frame that goes by peers (RANGE or GROUPS), by a frame in ROWS instead.
///
/// What breaks ties would make peers of nobody. Where the frame ends with the peers of its row, the function is asked row by
/// row, and of its answers for the peers the last holds for all of them: that is the second function, over the first. As
/// the mirror image, where it begins with them, the first. A frame that begins or ends at a distance stays as it is, see
/// [`is_undecided`].
fn by_rows(expr: &Expr, input: &LogicalPlan) -> (Expr, Option<Expr>) {
    let function = window_function(expr).filter(|function| goes_by_peers(function, input));
    let Some(function) = function else { return (expr.clone(), None) };
    let params = &function.params;
    let (start, end) = (&params.window_frame.start_bound, &params.window_frame.end_bound);
    let mut by_rows = function.clone();
    by_rows.params.window_frame = rows(start.clone(), end.clone());
    let respects_nulls = params.null_treatment != Some(NullTreatment::IgnoreNulls);
    let of_peers = match (start, end) {
        (start, end) if start.is_unbounded() && end.is_unbounded() => None,
        (WindowFrameBound::CurrentRow, WindowFrameBound::CurrentRow) => {
            by_rows.params.partition_by = with_peers(params);
            by_rows.params.order_by.clear();
            by_rows.params.window_frame = rows(unbounded_preceding(), unbounded_following());
            None
        }
        (start, WindowFrameBound::CurrentRow) if start.is_unbounded() => match function.fun.name() {
            "first_value" if respects_nulls => None,
            _ => Some(last_value_udwf()),
        },
        (WindowFrameBound::CurrentRow, end) if end.is_unbounded() => match function.fun.name() {
            "last_value" if respects_nulls => None,
            _ => Some(first_value_udwf()),
        },
        _ => return (expr.clone(), None),
    };
    let by_rows = Expr::WindowFunction(Box::new(by_rows));
    match of_peers {
        None => (renamed(by_rows, expr), None),
        Some(of_peers) => {
            let name = format!("{} by rows", expr.schema_name());
            let of_peers = renamed(over_peers(of_peers, &name, params), expr);
            (by_rows.alias(name), Some(of_peers))
        }
    }
}

/// Whether the answer hangs on the order of rows that tie, and the frame on that they do.
fn goes_by_peers(function: &WindowFunction, input: &LogicalPlan) -> bool {
    takes(function) == Takes::Frame
        && function.params.window_frame.units != WindowFrameUnits::Rows
        && !ties_of(&function.params, input).sorts.is_empty()
}

/// The first or the last value of a column among the rows that tie.
fn over_peers(function: Arc<WindowUDF>, column: &str, params: &WindowFunctionParams) -> Expr {
    let mut over = WindowFunction::new(function, vec![Expr::Column(Column::new_unqualified(column))]);
    over.params.partition_by = with_peers(params);
    over.params.window_frame = rows(unbounded_preceding(), unbounded_following());
    Expr::WindowFunction(Box::new(over))
}

/// A partition's rows that tie, as a partition.
fn with_peers(params: &WindowFunctionParams) -> Vec<Expr> {
    let order = params.order_by.iter().map(|sort| &sort.expr).filter(|expr| !matches!(expr, Expr::Literal(..)));
    params.partition_by.iter().chain(order).cloned().collect()
}

/// Whether a function goes by the order of rows that tie and nothing can be made of it, the reason being its frame.
pub(super) fn is_undecided(function: &WindowFunction, input: &LogicalPlan) -> bool {
    let frame = &function.params.window_frame;
    let at_a_distance = |bound: &WindowFrameBound| *bound != WindowFrameBound::CurrentRow && !bound.is_unbounded();
    goes_by_peers(function, input) && (at_a_distance(&frame.start_bound) || at_a_distance(&frame.end_bound))
}

/// Whether what breaks the ties of a function has to tell the rows apart.
pub(super) fn needs_ties(function: &WindowFunction, input: &LogicalPlan) -> bool {
    needs_total_order(function) || goes_by_peers(function, input)
}

fn rows(start: WindowFrameBound, end: WindowFrameBound) -> WindowFrame {
    let unbounded = |bound: WindowFrameBound, unbounded| if bound.is_unbounded() { unbounded } else { bound };
    let (start, end) = (unbounded(start, unbounded_preceding()), unbounded(end, unbounded_following()));
    WindowFrame::new_bounds(WindowFrameUnits::Rows, start, end)
}

fn unbounded_preceding() -> WindowFrameBound {
    WindowFrameBound::Preceding(ScalarValue::UInt64(None))
}

fn unbounded_following() -> WindowFrameBound {
    WindowFrameBound::Following(ScalarValue::UInt64(None))
}
