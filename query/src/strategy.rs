//! How a model is kept up to date, derived from its plan. A plan that is not understood is recomputed, never guessed.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Volatility, Window, WindowFunctionDefinition};
use lakebed_log::schema;

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

/// Derives the strategy from the plan as it was parsed; `parents` are the strategies of the models that it reads.
///
/// # Errors
/// One sentence, where the query is no function of the log.
pub fn derive(plan: &LogicalPlan, parents: &BTreeMap<TableName, Strategy>) -> Result<Strategy, String> {
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
            Some(window) => {
                *first_wins += 1;
                appends(&window.input, parents, first_wins)
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

/// The window below a filter `occurrence = 1`, where `occurrence` is the place of a row among those of its key, in the
/// order of the log: the filter keeps the first row of each key, and later rows never win.
pub(crate) fn first_of_each_key<'a>(predicate: &Expr, input: &'a LogicalPlan) -> Option<&'a Window> {
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
                let source = projection.expr.iter().find(|expr| expr.qualified_name().1 == column.name)?;
                let Expr::Column(source) = source.clone().unalias() else { return None };
                column = source;
                input = &projection.input;
            }
            LogicalPlan::Window(window) => {
                let numbered =
                    matches!(window.window_expr.as_slice(), [only] if only.qualified_name().1 == column.name);
                return (numbered && numbers_in_log_order(window)).then_some(window);
            }
            _ => return None,
        }
    }
}

fn is_one(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Int64(Some(1)) | ScalarValue::UInt64(Some(1)), _))
}

/// `row_number() OVER (PARTITION BY key ORDER BY _offset)`
pub(crate) fn numbers_in_log_order(window: &Window) -> bool {
    let [expr] = window.window_expr.as_slice() else { return false };
    let Some(function) = window_function(expr) else { return false };
    let row_number = matches!(&function.fun, WindowFunctionDefinition::WindowUDF(udf) if udf.name() == "row_number");
    let by_offset = matches!(function.params.order_by.as_slice(),
        [order] if order.asc && matches!(&order.expr, Expr::Column(column) if column.name == schema::OFFSET));
    row_number && by_offset && !function.params.partition_by.is_empty() && function.params.filter.is_none()
}

/// The window function below an alias.
pub(crate) fn window_function(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => window_function(&alias.expr),
        _ => None,
    }
}

/// The functions that stand for the time of the version, see [`crate::refresh`].
pub(crate) fn time_function(expr: &Expr) -> Option<&str> {
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

fn refuse_volatile(plan: &LogicalPlan) -> Result<(), String> {
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
        (Ok(_), Some(name)) => {
            Err(format!("{name}() gives another answer each time, so the table is no function of the log"))
        }
        (Err(error), _) => Err(error.strip_backtrace()),
    }
}

fn refuse_unordered_limit(plan: &LogicalPlan) -> Result<(), String> {
    let unordered = plan.exists(|node| {
        Ok(matches!(node, LogicalPlan::Limit(limit) if !matches!(limit.input.as_ref(), LogicalPlan::Sort(_))))
    });
    match unordered {
        Ok(false) => Ok(()),
        Ok(true) => Err("LIMIT without ORDER BY takes any rows, so the table is no function of the log".to_owned()),
        Err(error) => Err(error.strip_backtrace()),
    }
}
