//! How a model is kept up to date, derived from its plan. A plan that is not understood is recomputed, never guessed.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, SortExpr, Window, WindowFunctionDefinition};
use lakebed_log::schema;

use crate::catalog::{BRONZE, EVENTS};
use crate::dataflow::cut::{Uncut, columns_of_the_log, cut, joined};
use crate::dataflow::ranked::ranked;
use crate::dataflow::{By, Dataflow};
use crate::slots::slot_name;
pub(crate) use crate::sql::total_order::Refused;
use crate::sql::total_order::refuse;

/// How a refresh brings a model from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The query over the new rows is what is added. With `first_wins`, rows whose key was seen before are left out.
    Append {
        /// The model keeps the first row of each key.
        first_wins: bool,
    },
    /// One row of each key is kept, and another comes in its place.
    Latest,
    /// The states of the groups that changed rows touch take them in, and give up those that went.
    Merge,
    /// What touched keys give is computed again from their rows.
    Recompute,
    /// The rows are those of a file, and others are another table.
    Seed,
    /// The query over everything is compared with what was there.
    Full {
        /// Why nothing cheaper is right.
        because: Reason,
    },
}

impl Strategy {
    /// The strategy's word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::Latest => "latest",
            Self::Merge => "merge",
            Self::Recompute => "recompute",
            Self::Seed => "seed",
            Self::Full { .. } => "full",
        }
    }

    /// Whether rows of such a model only ever come, and never change or go.
    pub(crate) fn only_adds(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::Seed)
    }
}

/// A strategy, and the operators that carry it out where it has any.
#[derive(Debug)]
pub(crate) struct Derived {
    pub(crate) strategy: Strategy,
    pub(crate) flow: Option<Dataflow>,
    /// What gives the new rows of the new rows below, where it is not the query as it is.
    pub(crate) appending: Option<LogicalPlan>,
    /// The columns of the log that the query goes by, each with its type.
    pub(crate) log_columns: BTreeMap<String, DataType>,
}

/// Derives the strategy from an analyzed plan; `only_adds` says of a table whether its rows never go.
///
/// # Errors
/// [`NotDerived`].
pub(crate) fn derive(
    state: &SessionState,
    plan: &LogicalPlan,
    only_adds: &dyn Fn(&str) -> bool,
) -> Result<Derived, NotDerived> {
    refuse(plan).map_err(NotDerived::Refused)?;
    let joined = joined(state, plan.clone());
    // What cannot be taken apart goes by all columns that there are.
    let log_columns = columns_of_the_log(joined.as_ref().unwrap_or(plan)).map_err(NotDerived::Failed)?;
    let (mut first_wins, mut appending) = (0, None);
    let (strategy, flow) = if appends(plan, only_adds, &mut first_wins) && first_wins <= 1 {
        (Strategy::Append { first_wins: first_wins == 1 }, None)
    } else if shows_time(plan) {
        (Strategy::Full { because: Reason::time() }, None)
    } else {
        match joined.map_err(Uncut::from).and_then(|joined| cut(&joined, only_adds)) {
            Ok(flow) => match flow.rows().cloned() {
                Some(rows) => {
                    appending = Some(rows);
                    (Strategy::Append { first_wins: false }, None)
                }
                None => (word_for(&flow), Some(flow)),
            },
            Err(Uncut::Because(because)) => (Strategy::Full { because }, None),
            Err(Uncut::Failed(error)) => return Err(NotDerived::Failed(error)),
        }
    };
    Ok(Derived { strategy, flow, appending, log_columns })
}

/// Why there is no strategy at all.
#[derive(Debug)]
pub(crate) enum NotDerived {
    /// The query is no function of the log.
    Refused(Refused),
    /// DataFusion refused a part of what it had accepted whole.
    Failed(DataFusionError),
}

/// The word for what the operators do: that of the dearest of them.
fn word_for(flow: &Dataflow) -> Strategy {
    let by = |by: By| flow.operators.iter().any(|operator| operator.said.by == by);
    match () {
        () if by(By::Recomputing) => Strategy::Recompute,
        () if flow.only_adds => Strategy::Append { first_wins: by(By::First) },
        () if by(By::Merging) || by(By::Ranking { one: false }) => Strategy::Merge,
        () if by(By::Ranking { one: true }) => Strategy::Latest,
        // Rows of a table whose rows go, one by one.
        () => Strategy::Merge,
    }
}

/// Why a query is computed from everything: what it is, and what could be written instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// The same in every release.
    pub code: &'static str,
    /// The part of the query, in the words of SQL.
    pub node: String,
    /// A word of the SQL that it is about, for the line.
    pub word: String,
    /// What to write instead.
    pub instead: &'static str,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it needs all rows for {}", self.node)
    }
}

impl Reason {
    fn new(code: &'static str, node: &str, word: &str, instead: &'static str) -> Self {
        Self { code, node: node.to_owned(), word: word.to_owned(), instead }
    }

    pub(crate) fn time() -> Self {
        let instead = "compare with a time that is in the events, or let the query that asks add now()";
        Self::new("shows-time", "now(): each version has another time", "now", instead)
    }

    pub(crate) fn subquery() -> Self {
        Self::new("subquery", "a subquery in an expression", "(select", "write it as a JOIN on columns")
    }

    pub(crate) fn too_many() -> Self {
        Self::new("too-many-operators", "more operators than one model may have", "", "split it into several models")
    }

    pub(crate) fn whole_aggregate(node: &str) -> Self {
        let instead = "group by a column, or use aggregates whose states merge (count, sum, avg, min, max, …)";
        let word = node.split('(').next().unwrap_or_default();
        Self::new("aggregate-of-all-rows", node, word, instead)
    }

    pub(crate) fn whole_window() -> Self {
        Self::new("window-of-all-rows", "a window function over all rows", "over", "add PARTITION BY to every window")
    }

    pub(crate) fn join_without_equality() -> Self {
        Self::new("join-without-equality", "JOIN without an equality", "join", "join on a column that is equal")
    }

    pub(crate) fn not_in() -> Self {
        Self::new("not-in", "NOT IN (SELECT …), which one null changes for all", "not in", "write NOT EXISTS")
    }

    pub(crate) fn of_node(plan: &LogicalPlan) -> Self {
        let node = name_of(plan);
        Self::new("unknown-node", node, node, "write it with joins, groups and windows")
    }
}

/// Whether the query over (old rows and new rows) is the query over the old rows and the query over the new rows, once rows
/// are left out whose key came before; counts the places where they are.
fn appends(plan: &LogicalPlan, only_adds: &dyn Fn(&str) -> bool, first_wins: &mut usize) -> bool {
    if plan.expressions().iter().any(|expr| stands_for_now(expr) || has_subquery(expr)) {
        return false;
    }
    match plan {
        LogicalPlan::TableScan(scan) => only_adds(&slot_name(&scan.table_name)),
        LogicalPlan::Filter(filter) => match first_of_each_key(plan) {
            Some((window, offset)) => {
                *first_wins += 1;
                // Later copies are left out by their offset, so it has to be one row's alone.
                rows_of_the_log(&window.input, offset) && appends(&window.input, only_adds, first_wins)
            }
            None => appends(&filter.input, only_adds, first_wins),
        },
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) | LogicalPlan::Union(_) => {
            plan.inputs().into_iter().all(|input| appends(input, only_adds, first_wins))
        }
        _ => false,
    }
}

/// The node in the words of SQL.
pub(crate) fn name_of(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Aggregate(_) => "GROUP BY",
        LogicalPlan::Window(_) => "a window function",
        LogicalPlan::Join(_) => "JOIN",
        LogicalPlan::Distinct(_) => "DISTINCT",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE",
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => "rows that are not from the log",
        _ => "this kind of query",
    }
}

/// Whether the rows are some of those of the log, each at most once, and the column is their offset.
pub(crate) fn rows_of_the_log(plan: &LogicalPlan, offset: &Column) -> bool {
    let is_log = |name: &TableReference| name.schema() == Some(BRONZE) && name.table() == EVENTS;
    match plan {
        LogicalPlan::SubqueryAlias(alias) if is_log(&alias.alias) => offset.name == schema::OFFSET,
        LogicalPlan::TableScan(scan) if is_log(&scan.table_name) => offset.name == schema::OFFSET,
        LogicalPlan::SubqueryAlias(alias) => rows_of_the_log(&alias.input, &Column::from_name(&offset.name)),
        LogicalPlan::Filter(filter) => rows_of_the_log(&filter.input, offset),
        LogicalPlan::Projection(projection) => {
            source(projection, offset).is_some_and(|offset| rows_of_the_log(&projection.input, &offset))
        }
        _ => false,
    }
}

/// The column of its input that a projection gives under this name, where it is one as it is.
fn source(projection: &Projection, column: &Column) -> Option<Column> {
    let source = projection.expr.iter().find(|expr| expr.qualified_name().1 == column.name)?;
    match source.clone().unalias() {
        Expr::Column(source) => Some(source),
        _ => None,
    }
}

/// The window below a filter that keeps the first row of each key in the order of the log, and the offset that it orders by:
/// later rows never win.
fn first_of_each_key(plan: &LogicalPlan) -> Option<(&Window, &Column)> {
    let window = ranked(plan).filter(|ranking| ranking.most == 1)?.window?;
    numbers_in_log_order(window).map(|offset| (window, offset))
}

/// What is compared, without the casts that brought both sides to one type of number.
pub(crate) fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if cast.field.data_type().is_numeric() => uncast(&cast.expr),
        other => other,
    }
}

/// The offset of `row_number() OVER (PARTITION BY key ORDER BY _offset)`.
pub(crate) fn numbers_in_log_order(window: &Window) -> Option<&Column> {
    let [expr] = window.window_expr.as_slice() else { return None };
    let function = window_function(expr)?;
    let row_number = matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
    let keyed = row_number && !function.params.partition_by.is_empty() && function.params.filter.is_none();
    function.params.order_by.first().filter(|_| keyed).and_then(in_log_order)
}

/// The offset that an ordering begins with. What follows it decides nothing where the offset is one row's alone.
pub(crate) fn in_log_order(order: &SortExpr) -> Option<&Column> {
    match &order.expr {
        Expr::Column(column) if order.asc && column.name == schema::OFFSET => Some(column),
        _ => None,
    }
}

/// The window function below an alias.
pub(crate) fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => window_function(&alias.expr),
        _ => None,
    }
}

/// Whether the query's rows hang on the time of the version, wherever in it the time is.
pub(crate) fn shows_time(plan: &LogicalPlan) -> bool {
    let mut shows = false;
    let walked = plan.apply_with_subqueries(|node| {
        shows |= node.expressions().iter().any(stands_for_now);
        Ok(TreeNodeRecursion::Continue)
    });
    shows || walked.is_err()
}

/// The functions that stand for the time of the version, see [`lakebed_log::Snapshot::filled`].
fn time_function(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(function) => ["now", "current_timestamp", "current_date", "current_time", "today"]
            .into_iter()
            .find(|name| function.func.name() == *name),
        _ => None,
    }
}

fn any(expr: &Expr, holds: impl Fn(&Expr) -> bool) -> bool {
    expr.exists(|expr| Ok(holds(expr))).unwrap_or(true)
}

pub(crate) fn stands_for_now(expr: &Expr) -> bool {
    any(expr, |expr| time_function(expr).is_some())
}

pub(crate) fn has_subquery(expr: &Expr) -> bool {
    any(expr, is_subquery)
}

pub(crate) fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
}

#[cfg(test)]
mod tests;
