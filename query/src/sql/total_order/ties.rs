//! What has to be appended to an order so that rows which still tie are equal in every column.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::{Constraint, DFSchema, JoinType, TableReference};
use datafusion::logical_expr::{Aggregate, Distinct, Expr, Join, LogicalPlan, Projection, SortExpr, TableScan};
use lakebed_log::schema;

use crate::catalog::{BRONZE, EVENTS};
use crate::sql::one_zero::with_one_zero;

/// What breaks the ties of an order.
pub(super) struct Ties {
    /// To be appended to it; none where it is total already.
    pub(super) sorts: Vec<SortExpr>,
    /// Whether the order is total with them. It is not where a column that would be needed cannot be sorted.
    pub(super) total: bool,
    /// Whether it is so by columns that are known to tell the rows apart, rather than by the values of all of them.
    pub(super) identified: bool,
}

/// What breaks the ties of an order of the rows of `input` that has the `known` expressions, or among whose rows they are equal:
/// the offset, and what else it takes to tell the rows apart. Where nothing does, these are all other columns.
pub(super) fn ties<'a>(input: &LogicalPlan, known: impl IntoIterator<Item = &'a Expr>) -> Ties {
    let schema = input.schema();
    let given: Vec<&Expr> = known.into_iter().collect();
    let mut known: BTreeSet<usize> = given.iter().filter_map(|expr| place(schema, expr)).collect();
    let identity = identity(input);
    let told_apart = |known: &BTreeSet<usize>| identity.as_ref().is_some_and(|columns| columns.is_subset(known));
    let mut added = Vec::new();
    if !told_apart(&known) {
        added.extend(offset(schema).filter(|offset| known.insert(*offset)));
    }
    let mut total = true;
    if !told_apart(&known) {
        let needed = identity.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
        for column in needed.difference(&known) {
            match sortable(schema.field(*column).data_type()) {
                true => added.push(*column),
                false => total = false,
            }
        }
    }
    let columns = columns(schema);
    let added = added.into_iter().filter_map(|column| columns.get(column));
    let sorts = added.flat_map(|column| by_value(column, schema, &given)).collect();
    Ties { sorts, total, identified: identity.is_some() }
}

/// Names of columns in which no two rows of a plan have the same values; none where none are known, and not with one among them
/// whose values are told apart here and are the same elsewhere: −0 and 0, a month and thirty days, and what has such in it.
pub(crate) fn unique_columns(plan: &LogicalPlan) -> Vec<String> {
    let fields = plan.schema().fields();
    let columns = identity(plan).unwrap_or_default();
    let is_vague = |kind: &DataType| kind.is_floating() || kind.is_nested() || matches!(kind, DataType::Interval(_));
    match columns.iter().any(|column| is_vague(fields[*column].data_type())) {
        true => Vec::new(),
        false => columns.into_iter().map(|column| fields[column].name().clone()).collect(),
    }
}

/// Ascending, nulls last.
pub(super) fn ascending(expr: Expr) -> SortExpr {
    expr.sort(true, false)
}

/// What sorts by an expression, which a float does with one zero first, unless that is given: else −0 would come before what ties
/// with it and goes by what is behind.
pub(super) fn by_value(expr: &Expr, schema: &DFSchema, given: &[&Expr]) -> Vec<SortExpr> {
    let folded = with_one_zero(expr, schema).filter(|folded| !given.contains(&folded));
    folded.into_iter().chain([expr.clone()]).map(ascending).collect()
}

/// The columns of a schema, as expressions over it.
pub(super) fn columns(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

/// Where the log's offset is among the columns, if it is there once.
pub(super) fn offset(schema: &DFSchema) -> Option<usize> {
    let mut named = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == schema::OFFSET);
    match (named.next(), named.next()) {
        (Some((place, field)), None) if *field.data_type() == DataType::Int64 => Some(place),
        _ => None,
    }
}

/// Whether SortExec, and aggregates that compare by themselves, can sort by a column of this type.
pub(super) fn sortable(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) => !item.data_type().is_nested(),
        DataType::Dictionary(_, values) => sortable(values),
        kind => !kind.is_nested(),
    }
}

/// Where a column of the schema is that an expression takes as it is.
fn place(schema: &DFSchema, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => place(schema, &alias.expr),
        _ => None,
    }
}

/// Columns in which no two rows of a plan are equal, by their places; `None` where none are known.
fn identity(plan: &LogicalPlan) -> Option<BTreeSet<usize>> {
    match plan {
        LogicalPlan::TableScan(scan) if is_log(&scan.table_name) => Some([offset(plan.schema())?].into()),
        LogicalPlan::TableScan(scan) => primary_key(scan),
        LogicalPlan::SubqueryAlias(alias) if is_log(&alias.alias) => Some([offset(plan.schema())?].into()),
        LogicalPlan::SubqueryAlias(alias) => identity(&alias.input),
        LogicalPlan::Filter(filter) => identity(&filter.input),
        LogicalPlan::Sort(sort) => identity(&sort.input),
        LogicalPlan::Limit(limit) => identity(&limit.input),
        // A window's own columns come after those of its input.
        LogicalPlan::Window(window) => identity(&window.input),
        LogicalPlan::Projection(projection) => projected(projection),
        LogicalPlan::Aggregate(aggregate) => {
            (!has_grouping_sets(aggregate)).then(|| (0..aggregate.group_expr.len()).collect())
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Some(identity(input).unwrap_or_else(|| (0..input.schema().fields().len()).collect()))
        }
        LogicalPlan::Join(join) => joined(join),
        LogicalPlan::EmptyRelation(_) => Some(BTreeSet::new()),
        _ => None,
    }
}

fn is_log(table: &TableReference) -> bool {
    table.schema() == Some(BRONZE) && table.table() == EVENTS
}

pub(super) fn has_grouping_sets(aggregate: &Aggregate) -> bool {
    aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

fn primary_key(scan: &TableScan) -> Option<BTreeSet<usize>> {
    let keys = scan.source.constraints()?.iter();
    let mut keys = keys.filter_map(|constraint| match constraint {
        Constraint::PrimaryKey(columns) => Some(columns),
        Constraint::Unique(_) => None,
    });
    let scanned = |column: &usize| match &scan.projection {
        Some(scanned) => scanned.iter().position(|scanned| scanned == column),
        None => Some(*column),
    };
    keys.find_map(|key| key.iter().map(scanned).collect())
}

fn projected(projection: &Projection) -> Option<BTreeSet<usize>> {
    let from = projection.input.schema();
    let shown = |column: usize| projection.expr.iter().position(|expr| place(from, expr) == Some(column));
    identity(&projection.input)?.into_iter().map(shown).collect()
}

fn joined(join: &Join) -> Option<BTreeSet<usize>> {
    match join.join_type {
        // A row of the one side and nothing of the other: only once, as it has no pair then.
        JoinType::Inner | JoinType::Left | JoinType::Right => {
            let left = join.left.schema().fields().len();
            let right = identity(&join.right)?.into_iter().map(|column| left + column);
            Some(identity(&join.left)?.into_iter().chain(right).collect())
        }
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => identity(&join.left),
        JoinType::RightSemi | JoinType::RightAnti => identity(&join.right),
        JoinType::Full | JoinType::RightMark => None,
    }
}
