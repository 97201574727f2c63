//! How a model is kept up to date, derived from its plan. A plan that is not understood is recomputed, never guessed.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue, TableReference};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, Operator, Projection, Volatility, Window, WindowFunctionDefinition,
};
use lakebed_log::schema;

use crate::catalog::{BRONZE, EVENTS};
use crate::models::TableName;

/// How a refresh brings a model from one version to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The query over the new rows is what is added. With `first_wins`, rows whose key was seen before are left out.
    Append {
        /// The model keeps the first row of each key.
        first_wins: bool,
    },
    /// The query over everything replaces what was there.
    Full {
        /// Why nothing cheaper is right.
        because: String,
    },
}

impl Strategy {
    /// The strategy's word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::Full { .. } => "full",
        }
    }

    /// Whether rows of such a model only ever come, and never change or go.
    pub fn only_adds(&self) -> bool {
        matches!(self, Self::Append { .. })
    }
}

/// Why a query is no function of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// One sentence.
    pub message: String,
    /// A word of the SQL that it is about, for the line.
    pub word: String,
}

/// Derives the strategy from the plan as it was parsed; `parents` are the strategies of the models that it reads.
///
/// # Errors
/// [`Refused`], where the query is no function of the log.
pub fn derive(plan: &LogicalPlan, parents: &BTreeMap<TableName, Strategy>) -> Result<Strategy, Refused> {
    refuse_volatile(plan)?;
    refuse_unordered_limit(plan)?;
    let mut first_wins = 0;
    Ok(match appends(plan, parents, &mut first_wins) {
        Ok(()) if first_wins > 1 => {
            Strategy::Full { because: "it keeps the first row per key more than once".to_owned() }
        }
        Ok(()) => Strategy::Append { first_wins: first_wins == 1 },
        Err(because) => Strategy::Full { because },
    })
}

/// Whether the query over (old rows and new rows) is the query over the old rows and the query over the new rows.
fn appends(plan: &LogicalPlan, parents: &BTreeMap<TableName, Strategy>, first_wins: &mut usize) -> Result<(), String> {
    if plan.expressions().iter().any(stands_for_now) {
        return Err("it shows the time".to_owned());
    }
    if plan.expressions().iter().any(has_subquery) {
        return Err("it has a subquery in an expression".to_owned());
    }
    match plan {
        LogicalPlan::TableScan(scan) => {
            let name = TableName {
                schema: scan.table_name.schema().unwrap_or_default().to_owned(),
                name: scan.table_name.table().to_owned(),
            };
            match parents.get(&name) {
                Some(parent) if !parent.only_adds() => Err(format!("{name} is rewritten by a refresh")),
                _ => Ok(()),
            }
        }
        LogicalPlan::Filter(filter) => match first_of_each_key(&filter.predicate, &filter.input) {
            Some((window, offset)) => {
                *first_wins += 1;
                // Later copies are left out by their offset, so it has to be one row's alone.
                match rows_of_the_log(&window.input, offset) {
                    true => appends(&window.input, parents, first_wins),
                    false => Err("it keeps the first row per key of other rows than those of bronze.events".to_owned()),
                }
            }
            None => appends(&filter.input, parents, first_wins),
        },
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Unnest(_) | LogicalPlan::Union(_) => {
            plan.inputs().into_iter().try_for_each(|input| appends(input, parents, first_wins))
        }
        other => Err(format!("it needs all rows for: {}", name_of(other))),
    }
}

/// The node in the words of SQL.
fn name_of(plan: &LogicalPlan) -> &'static str {
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
fn rows_of_the_log(plan: &LogicalPlan, offset: &Column) -> bool {
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

/// The window below a filter `occurrence = 1`, and the offset that it orders by, where `occurrence` is the place of a row among those of its key, in the
/// order of the log: the filter keeps the first row of each key, and later rows never win.
fn first_of_each_key<'a>(predicate: &Expr, input: &'a LogicalPlan) -> Option<(&'a Window, &'a Column)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = predicate else { return None };
    let column = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), one) | (one, Expr::Column(column)) if is_one(one) => column,
        _ => return None,
    };
    let (mut input, mut column) = (input, column.clone());
    loop {
        match input {
            LogicalPlan::SubqueryAlias(alias) => {
                column = Column::from_name(column.name);
                input = &alias.input;
            }
            LogicalPlan::Projection(projection) => {
                column = source(projection, &column)?;
                input = &projection.input;
            }
            LogicalPlan::Window(window) => {
                let numbered =
                    matches!(window.window_expr.as_slice(), [only] if only.qualified_name().1 == column.name);
                return numbers_in_log_order(window).filter(|_| numbered).map(|offset| (window, offset));
            }
            _ => return None,
        }
    }
}

fn is_one(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Int64(Some(1)) | ScalarValue::UInt64(Some(1)), _))
}

/// The offset of `row_number() OVER (PARTITION BY key ORDER BY _offset)`.
pub(crate) fn numbers_in_log_order(window: &Window) -> Option<&Column> {
    let [expr] = window.window_expr.as_slice() else { return None };
    let function = window_function(expr)?;
    let row_number = matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
    let keyed = row_number && !function.params.partition_by.is_empty() && function.params.filter.is_none();
    match function.params.order_by.as_slice() {
        [order] if keyed && order.asc => match &order.expr {
            Expr::Column(column) if column.name == schema::OFFSET => Some(column),
            _ => None,
        },
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

fn stands_for_now(expr: &Expr) -> bool {
    any(expr, |expr| time_function(expr).is_some())
}

fn has_subquery(expr: &Expr) -> bool {
    any(expr, |expr| {
        matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
    })
}

fn refuse_volatile(plan: &LogicalPlan) -> Result<(), Refused> {
    let volatile = |expr: &Expr| match expr {
        Expr::ScalarFunction(function) if function.func.signature().volatility == Volatility::Volatile => {
            Some(function.func.name().to_owned())
        }
        _ => None,
    };
    let mut found = None;
    let walk = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = found.take().or_else(|| volatile(expr));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match (walk, found) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(word)) => {
            let message = format!("{word}() gives another answer each time, so the table is no function of the log");
            Err(Refused { message, word })
        }
        (Err(error), _) => Err(Refused { message: error.strip_backtrace(), word: String::new() }),
    }
}

fn refuse_unordered_limit(plan: &LogicalPlan) -> Result<(), Refused> {
    let unordered = plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Limit(limit) if !matches!(limit.input.as_ref(), LogicalPlan::Sort(_))))
    });
    let message = match unordered {
        Ok(false) => return Ok(()),
        Ok(true) => "LIMIT without ORDER BY takes any rows, so the table is no function of the log".to_owned(),
        Err(error) => error.strip_backtrace(),
    };
    Err(Refused { message, word: "LIMIT".to_owned() })
}

#[cfg(test)]
mod tests;
