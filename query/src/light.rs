//! Statements that take less time to answer than to hand to another thread.
//!
//! A dashboard asks for some thousands of rows that are in memory. What that takes is some hundred microseconds; to wake a thread for
//! it, and to be woken by it, takes as long again. A server may therefore begin such a statement on the thread that has received it.
//! So that nobody else waits for that thread, nothing counts as light but what takes a bounded time for each of the few rows that it reads.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use crate::kept_tables::{KeptTable, is_in_memory};
use crate::sql::conditions::compares;
use crate::sql::decimals::SHORTENED;
use crate::sql::integers;
use crate::sql::one_zero;

/// Rows that something is computed of.
const FEW_ROWS: usize = 16_384;

/// Bytes that are read, and held by a plan that is kept: no more than a longer answer holds for a client that reads slowly.
const FEW_BYTES: usize = 4 << 20;

/// Bytes of a constant, which may become one in each row.
const LONGEST_CONSTANT: usize = 256;

/// Nodes of a plan and of its expressions.
const FEW_NODES: usize = 64;

/// Functions whose work is that of one comparison, about.
const LIGHT_FUNCTIONS: [&str; 11] = [
    "avg",
    "coalesce",
    "count",
    "date_part",
    "date_trunc",
    integers::NAME,
    "max",
    "min",
    one_zero::NAME,
    SHORTENED,
    "sum",
];

/// Whether an optimized plan is light: it reads tables in memory, of which it hands on some, or computes a little of a few rows.
pub(crate) fn is_light(plan: &LogicalPlan) -> bool {
    let mut nodes = 0;
    // Nothing but columns of the table itself, in whatever order.
    let mut hands_on = true;
    let looked = plan.apply(|node| {
        hands_on &= matches!(node, LogicalPlan::TableScan(_) | LogicalPlan::Projection(_));
        let mut is_light = is_light_node(node);
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                nodes += 1;
                hands_on &= matches!(expression, Expr::Column(_));
                is_light &= is_light_expression(expression);
                Ok(go_on(is_light && nodes <= FEW_NODES))
            })
        })?;
        nodes += 1;
        Ok(go_on(is_light && nodes <= FEW_NODES))
    });
    matches!(looked, Ok(TreeNodeRecursion::Continue)) && is_little(plan, nodes, hands_on).unwrap_or(false)
}

fn go_on(on: bool) -> TreeNodeRecursion {
    if on { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop }
}

/// Neither joins, which make many rows of few, nor what is not known here.
fn is_light_node(node: &LogicalPlan) -> bool {
    matches!(
        node,
        LogicalPlan::TableScan(_)
            | LogicalPlan::Projection(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
    )
}

/// What takes a bounded time for each row, and makes no large value of a small one.
fn is_light_expression(expression: &Expr) -> bool {
    match expression {
        Expr::Literal(value, _) => value.size() <= LONGEST_CONSTANT,
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Not(_)
        | Expr::Negative(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_) => true,
        Expr::BinaryExpr(binary) => compares(binary.op) || binary.op.is_numerical_operators(),
        Expr::AggregateFunction(function) => LIGHT_FUNCTIONS.contains(&function.func.name()),
        Expr::ScalarFunction(function) => LIGHT_FUNCTIONS.contains(&function.name()),
        _ => false,
    }
}

/// Whether all that is read is in memory now, and little.
fn is_little(plan: &LogicalPlan, nodes: usize, hands_on: bool) -> Result<bool> {
    let (mut size, mut columns) = (Some((0, 0)), 0);
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            columns += scan.source.schema().fields().len();
            size = size.zip(size_in_memory(scan)?).map(|(all, more)| (all.0 + more.0, all.1 + more.1));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // A column may be asked for again and again.
    let copies = nodes.div_ceil(columns.max(1));
    Ok(size.is_some_and(|(rows, bytes)| bytes * copies <= FEW_BYTES && (hands_on || rows <= FEW_ROWS)))
}

/// Rows and bytes of a table that is in memory, if that is little.
fn size_in_memory(scan: &TableScan) -> Result<Option<(usize, usize)>> {
    let table = source_as_provider(&scan.source)?;
    Ok(table.downcast_ref::<KeptTable>().and_then(|kept| kept.size_at_hand(FEW_BYTES)))
}

/// Whether a physical plan reads nothing but memory, and is not divided among threads.
pub(crate) fn is_one_piece(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let children = plan.children();
    match children.is_empty() {
        true => is_in_memory(plan) || plan.is::<PlaceholderRowExec>() || plan.is::<EmptyExec>(),
        false => plan.output_partitioning().partition_count() == 1 && children.into_iter().all(is_one_piece),
    }
}
