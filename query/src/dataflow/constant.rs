//! Parts of a query that read nothing which changes: seeds, and rows that the query makes by itself.
//!
//! Their rows are the same as long as a model's fingerprint is, for what a seed says is part of it. So a join of changing rows
//! with them goes row by row, as a projection does: `(A + ΔA) ⋈ S = (A ⋈ S) + (ΔA ⋈ S)`, by whatever condition, and nothing is
//! to be kept of either side. It holds where each row of the changing side gives its rows by itself; not where rows of the constant
//! side are kept for what is found, or is not found, among all the others.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result, TableReference};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Subquery, TableScanBuilder};

use crate::seeds::{ALL_OF_SEEDS, SEEDS};
use crate::strategy::is_subquery;

/// The side of a join whose rows each give theirs by itself, whatever the others of that side are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// The side of a join that changes, where the other one is constant and its rows go one by one.
///
/// # Errors
/// None: what looks at the plan refuses nothing.
pub(super) fn changing_side(join: &Join) -> Result<Option<Side>> {
    use JoinType::{Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
    let by_left = matches!(join.join_type, Inner | Left | LeftSemi | LeftAnti | LeftMark);
    let by_right = matches!(join.join_type, Inner | Right | RightSemi | RightAnti | RightMark);
    Ok(match (is_constant(&join.left)?, is_constant(&join.right)?) {
        (false, true) if by_left => Some(Side::Left),
        (true, false) if by_right => Some(Side::Right),
        _ => None,
    })
}

/// Whether no table below a part of a query changes; one without a schema is a step of a recursion.
fn is_constant(plan: &LogicalPlan) -> Result<bool> {
    let mut constant = true;
    plan.apply_with_subqueries(|node| {
        constant &= !matches!(node, LogicalPlan::TableScan(scan) if scan.table_name.schema() != Some(SEEDS));
        Ok(if constant { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(constant)
}

/// A node whose subqueries all read nothing that changes, over all rows of their seeds: each is a constant. `None` where one is not,
/// or refers to the rows of the node.
///
/// # Errors
/// As [`over_all`].
pub(super) fn with_constants(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let mut constant = true;
    let node = plan.clone().map_expressions(|expr| {
        expr.transform_down(|expr| match expr {
            Expr::ScalarSubquery(subquery)
                if subquery.outer_ref_columns.is_empty() && is_constant(&subquery.subquery)? =>
            {
                let all = Arc::new(over_all(&subquery.subquery)?);
                let subquery = Expr::ScalarSubquery(Subquery { subquery: all, ..subquery });
                Ok(Transformed::new(subquery, true, TreeNodeRecursion::Jump))
            }
            other => {
                constant &= !is_subquery(&other);
                Ok(Transformed::no(other))
            }
        })
    })?;
    Ok(constant.then_some(node.data))
}

/// The part over the slots that hold all of its seeds' rows whenever it runs, and not over what came to them.
///
/// # Errors
/// None for a part of a query.
pub(super) fn over_all(plan: &LogicalPlan) -> Result<LogicalPlan> {
    let over_all = plan.clone().transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let table = TableReference::partial(ALL_OF_SEEDS, scan.table_name.table());
        let all = TableScanBuilder::new(table, Arc::clone(&scan.source)).with_projection(scan.projection.clone());
        let all = LogicalPlanBuilder::from(LogicalPlan::TableScan(all.with_fetch(scan.fetch).build()?));
        Ok(Transformed::yes(all.alias(scan.table_name.clone())?.build()?))
    })?;
    Ok(over_all.data)
}
