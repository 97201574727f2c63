//! The columns of a plan's inner node as a table: inside it they are `c0`, `c1`, …; outside they have the names, qualified or
//! not, by which the rest of the plan knows them.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, Result};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};

use crate::slots::Slot;

/// A schema's types under the names `c0`, `c1`, …
pub(super) fn numbered(schema: &DFSchema) -> SchemaRef {
    let field = |(at, field): (usize, &Arc<Field>)| {
        Field::new(format!("c{at}"), field.data_type().clone(), field.is_nullable())
    };
    Arc::new(Schema::new(schema.fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// A plan that scans a slot and calls its columns as `schema` does.
///
/// # Errors
/// None for a schema of a plan's node.
pub(super) fn standing_for(name: &str, schema: &DFSchema) -> Result<LogicalPlan> {
    let slot: Arc<dyn TableProvider> = Arc::new(Slot(numbered(schema)));
    let scan = LogicalPlanBuilder::scan(name, provider_as_source(slot), None)?;
    let named = schema
        .iter()
        .enumerate()
        .map(|(at, (qualifier, field))| col(format!("c{at}")).alias_qualified(qualifier.cloned(), field.name()));
    scan.project(named.collect::<Vec<_>>())?.build()
}

/// The columns of a plan, then some expressions over them, under the names `c0`, `c1`, …
///
/// # Errors
/// Where an expression is not one over the plan's columns.
pub(super) fn numbered_columns(input: &LogicalPlan, more: impl IntoIterator<Item = Expr>) -> Result<LogicalPlan> {
    let columns = input.schema().columns().into_iter().map(Expr::Column);
    let named = columns.chain(more).enumerate().map(|(at, column)| column.alias(format!("c{at}")));
    LogicalPlanBuilder::from(input.clone()).project(named.collect::<Vec<_>>())?.build()
}
