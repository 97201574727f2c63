//! Which groupings merge, and what feeds them.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate as Grouping, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column as ColumnAt;

use super::states::Aggregate;
use crate::sql::exact;

/// The aggregates whose states merge, the same for every order and every split of the rows, besides those that are exact.
const MERGEABLE: [&str; 7] = ["approx_distinct", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count"];

/// What is in the way of merging a grouping's states, in the words of SQL.
///
/// # Errors
/// That, and what DataFusion says of an expression that it has accepted before.
pub(super) fn mergeable(grouping: &Grouping) -> Result<(), String> {
    let schema = grouping.input.schema();
    let is_float = |expr: &Expr| {
        let kind = expr.to_field(schema).map(|(_, field)| field.data_type().clone());
        kind.map_err(|error: DataFusionError| error.strip_backtrace()).map(|kind| has_floats(&kind))
    };
    for expr in &grouping.group_expr {
        // −0 and 0 are one value and two groups.
        match expr {
            Expr::GroupingSet(_) => return Err("GROUPING SETS".to_owned()),
            expr if is_float(expr)? => return Err("GROUP BY of a float".to_owned()),
            _ => {}
        }
    }
    for expr in &grouping.aggr_expr {
        let AggregateFunction { func, params } = aggregate_of(expr).ok_or("an aggregate of another kind")?;
        let name = func.name();
        if !(MERGEABLE.contains(&name) || exact::merges(name)) || !params.order_by.is_empty() {
            return Err(format!("{name}()"));
        }
        let floats = params.args.iter().map(is_float).collect::<Result<Vec<_>, _>>()?;
        if params.distinct && (name != "count" || floats.contains(&true)) {
            return Err(format!("{name}(DISTINCT …)"));
        }
    }
    Ok(())
}

/// Whether there are floats among values of a type, or in what they are made of.
fn has_floats(kind: &DataType) -> bool {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, RunEndEncoded, Struct, Union,
    };
    match kind {
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            has_floats(item.data_type())
        }
        Map(item, _) | RunEndEncoded(_, item) => has_floats(item.data_type()),
        Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        Union(fields, _) => fields.iter().any(|(_, field)| has_floats(field.data_type())),
        Dictionary(_, values) => has_floats(values),
        plain => plain.is_floating(),
    }
}

/// The aggregate below an alias.
pub(super) fn aggregate_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => Some(function),
        Expr::Alias(alias) => aggregate_of(&alias.expr),
        _ => None,
    }
}

/// What feeds a grouping: a column for each expression that it groups by, then for each aggregate its arguments, and its
/// filter if it has one.
pub(super) fn feed(grouping: &Grouping, input: LogicalPlan) -> PlanResult<LogicalPlan> {
    let mut columns = grouping.group_expr.clone();
    for AggregateFunctionParams { args, filter, .. } in params(grouping) {
        columns.extend(args.iter().cloned());
        columns.extend(filter.as_deref().cloned());
    }
    let named = columns.into_iter().enumerate().map(|(at, column)| column.alias(format!("c{at}")));
    LogicalPlanBuilder::from(input).project(named)?.build()
}

fn params(grouping: &Grouping) -> impl Iterator<Item = &AggregateFunctionParams> {
    grouping.aggr_expr.iter().filter_map(|expr| aggregate_of(expr).map(|function| &function.params))
}

/// The aggregates of a grouping over the columns of its [`feed`].
pub(super) fn aggregates(grouping: &Grouping, fed: &SchemaRef) -> PlanResult<Vec<Aggregate>> {
    let mut next = grouping.group_expr.len();
    let functions = grouping.aggr_expr.iter().filter_map(aggregate_of);
    let aggregate = |AggregateFunction { func, params }: &AggregateFunction| {
        let arguments = next..next + params.args.len();
        let filter = params.filter.as_ref().map(|_| arguments.end);
        next = arguments.end + usize::from(filter.is_some());
        let columns =
            arguments.clone().map(|at| -> Arc<dyn PhysicalExpr> { Arc::new(ColumnAt::new(&format!("c{at}"), at)) });
        // Which arguments count is decided before: the function itself is the plain one.
        let function = AggregateExprBuilder::new(Arc::clone(func), columns.collect())
            .schema(Arc::clone(fed))
            .alias(format!("c{}", arguments.start))
            .build()?;
        Ok(Aggregate { function: Arc::new(function), arguments, filter, distinct: params.distinct })
    };
    functions.map(aggregate).collect()
}
