//! Which queries are no function of the log, and what to write instead. Only models have to be one.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility, Window, WindowFunctionDefinition};

use super::aggregates::{self, COLLECTING, ORDERED, ordered_aggregate};
use super::{keeps_order, ties_of_distinct_on, ties_of_sort, windows, with_offset};
use crate::strategy::window_function;

/// Why a query is refused: as a model, for it is no function of the log, or everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// One sentence.
    pub message: String,
    /// A word of the SQL that it is about, for the line.
    pub word: String,
    /// What to write instead.
    pub hint: String,
}

impl Refused {
    fn new(word: &str, message: &str, hint: &str) -> Self {
        let message = format!("{word}{message}, so the table is no function of the log");
        Self { message, word: word.trim_end_matches("()").to_owned(), hint: hint.to_owned() }
    }
}

/// The aggregates that are the same for every order of the rows.
const EXACT: [&str; 30] = [
    "approx_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "grouping",
    "max",
    "median",
    "min",
    "percentile_cont",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// Refuses a query whose answer hangs on anything but the log: plans as they were parsed, analyzed or not.
///
/// # Errors
/// [`Refused`], with the reason.
pub(crate) fn refuse(plan: &LogicalPlan) -> Result<(), Refused> {
    let mut found = None;
    let walked = plan.apply_with_subqueries(|node| {
        found = refused(node);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (walked, found) {
        (_, Some(refused)) => Err(refused),
        (Ok(_), None) => Ok(()),
        (Err(error), None) => {
            let hint = "try the SELECT by itself with `lakebed query`".to_owned();
            Err(Refused { message: error.strip_backtrace(), word: String::new(), hint })
        }
    }
}

fn refused(node: &LogicalPlan) -> Option<Refused> {
    let mut found = None;
    // The closure fails nowhere, so neither does the walk.
    let _ = node.apply_expressions(|expr| {
        expr.apply(|expr| {
            found = found.take().or_else(|| volatile(expr)).or_else(|| inexact(expr));
            Ok(TreeNodeRecursion::Continue)
        })
    });
    found.or_else(|| match node {
        LogicalPlan::Limit(limit) if limit.input.max_rows().is_none_or(|rows| rows > 1) => {
            unordered_limit(if limit.fetch.is_some() { "LIMIT" } else { "OFFSET" }, &limit.input)
        }
        LogicalPlan::Window(window) => undecided_window(window),
        LogicalPlan::Aggregate(aggregate) => {
            aggregate.aggr_expr.iter().filter_map(ordered_aggregate).find_map(|function| {
                (!aggregates::ties_of(function, aggregate).total)
                    .then(|| unsortable(&format!("{}()", function.func.name())))
            })
        }
        LogicalPlan::Distinct(Distinct::On(distinct)) => {
            (!ties_of_distinct_on(distinct).total).then(|| unsortable("DISTINCT ON"))
        }
        _ => None,
    })
}

fn volatile(expr: &Expr) -> Option<Refused> {
    let (name, volatility) = match expr {
        Expr::ScalarFunction(function) => (function.func.name(), function.func.signature().volatility),
        Expr::AggregateFunction(function) => (function.func.name(), function.func.signature().volatility),
        Expr::WindowFunction(function) => (function.fun.name(), function.fun.signature().volatility),
        _ => return None,
    };
    let hint = "take it from the events: event_id is an id, and md5(event_id) looks as random as any number";
    let refused = || Refused::new(&format!("{name}()"), " gives another answer each time", hint);
    (volatility == Volatility::Volatile).then(refused)
}

/// An aggregate that is not known to be the same for every order of the rows, nor made so by an order.
fn inexact(expr: &Expr) -> Option<Refused> {
    let name = match expr {
        Expr::AggregateFunction(function) => function.func.name(),
        Expr::WindowFunction(function) => match &function.fun {
            WindowFunctionDefinition::AggregateUDF(aggregate) => aggregate.name(),
            WindowFunctionDefinition::WindowUDF(_) => return None,
        },
        _ => return None,
    };
    let hint = match name {
        "approx_median" => "write median(…), which is exact",
        "approx_percentile_cont" => "write percentile_cont(…) WITHIN GROUP (ORDER BY …), which is exact",
        "approx_percentile_cont_with_weight" => "add up the weights with sum(…) OVER (ORDER BY …) and compare",
        _ => "write it with count, sum, min, max, or array_agg with an ORDER BY",
    };
    let known = EXACT.contains(&name) || ORDERED.contains(&name);
    (!known).then(|| Refused::new(&format!("{name}()"), " comes out as the order in which rows are read has it", hint))
}

fn unordered_limit(word: &str, input: &LogicalPlan) -> Option<Refused> {
    match input {
        LogicalPlan::Sort(sort) => {
            let carried = with_offset(&sort.input).ok().flatten();
            let ties = ties_of_sort(carried.as_ref().unwrap_or(&sort.input), &sort.expr);
            (!ties.total).then(|| unsortable(word))
        }
        plan if keeps_order(plan) => plan.inputs().into_iter().find_map(|input| unordered_limit(word, input)),
        _ => {
            let hint = "say which rows by an ORDER BY; those that tie in it go by offset";
            Some(Refused::new(word, " without ORDER BY takes any rows", hint))
        }
    }
}

fn undecided_window(window: &Window) -> Option<Refused> {
    let undecided = |function: &WindowFunction| {
        let name = format!("{}()", function.fun.name());
        if windows::is_undecided(function, &window.input) {
            let message = " over a frame of RANGE or GROUPS goes by the order of rows that tie";
            let hint = "write the frame in ROWS, where ties go by offset, or order by columns that tell the rows apart";
            return Some(Refused::new(&name, message, hint));
        }
        if function.params.distinct && COLLECTING.contains(&function.fun.name()) {
            let hint = "collect the values with GROUP BY in a subquery, and join it";
            return Some(Refused::new(&name, " of DISTINCT values has no order in a window", hint));
        }
        let unordered =
            windows::needs_ties(function, &window.input) && !windows::ties_of(&function.params, &window.input).total;
        unordered.then(|| unsortable(&name))
    };
    window.window_expr.iter().filter_map(window_function).find_map(undecided)
}

/// The rows have a column that cannot be sorted by, and no offset or key that tells them apart without it.
fn unsortable(what: &str) -> Refused {
    let hint = "keep _offset in the rows, or order by columns that tell them apart";
    Refused::new(what, " takes rows that tie in any order, as they have a column that cannot be sorted by", hint)
}
