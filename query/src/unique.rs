//! Columns of a query that no two of its rows share, where its shape says so.

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

/// The columns of the model that no two of its rows share: where each column of the grouping is shown as it is.
pub(crate) fn unique_columns(plan: &LogicalPlan) -> Vec<String> {
    let Some(groups) = groups(plan) else { return Vec::new() };
    let shown = |group: Column| {
        let all = plan.schema().columns();
        all.into_iter().find(|column| traced(plan, column.clone()).as_ref() == Some(&group)).map(|column| column.name)
    };
    groups.into_iter().map(shown).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// What a query groups by, with nothing above it but what goes row by row.
fn groups(plan: &LogicalPlan) -> Option<Vec<Column>> {
    match plan {
        LogicalPlan::Projection(projection) => groups(&projection.input),
        LogicalPlan::Filter(filter) => groups(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => groups(&alias.input),
        LogicalPlan::Sort(sort) => groups(&sort.input),
        LogicalPlan::Aggregate(grouping) if !matches!(grouping.group_expr.as_slice(), [Expr::GroupingSet(_)]) => {
            values(&grouping.schema, grouping.group_expr.len())
        }
        LogicalPlan::Distinct(Distinct::All(input)) => values(input.schema(), usize::MAX),
        _ => None,
    }
}

/// The first columns, unless one is a float: −0 and 0 are two groups and one value.
fn values(schema: &DFSchema, count: usize) -> Option<Vec<Column>> {
    let floats = schema.fields().iter().take(count).any(|field| field.data_type().is_floating());
    (!floats).then(|| schema.columns().into_iter().take(count).collect())
}

/// The column of the grouping that a column of the plan is, unchanged.
fn traced(plan: &LogicalPlan, column: Column) -> Option<Column> {
    let at = plan.schema().maybe_index_of_column(&column)?;
    match plan {
        LogicalPlan::Projection(projection) => match projection.expr.get(at)?.clone().unalias() {
            Expr::Column(column) => traced(&projection.input, column),
            _ => None,
        },
        LogicalPlan::Filter(filter) => traced(&filter.input, column),
        LogicalPlan::Sort(sort) => traced(&sort.input, column),
        LogicalPlan::SubqueryAlias(alias) => traced(&alias.input, alias.input.schema().columns().get(at)?.clone()),
        // A grouping's own columns, or those of the DISTINCT that stands for it, in their order.
        other => other.schema().columns().get(at).cloned(),
    }
}
