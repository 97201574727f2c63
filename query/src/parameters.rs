//! Parameters of statements: what type each has, and plans with values in their places.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, Result};
use crate::session::{BoundPlan, ReadSession};
use crate::statement::Statement;

/// The most rows of values that a statement is run for in one go.
const MOST_ROWS: usize = 1_000;

/// A statement that is planned but for the values of its parameters.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The plan before its types are settled; every parameter in it has one.
    unbound: LogicalPlan,
    /// The plan as it comes out, with parameters in it.
    plan: LogicalPlan,
    parameters: SchemaRef,
}

impl Prepared {
    /// The plan, analyzed; where there are parameters, good for its schema only.
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The parameters in order, called `$1`, `$2`, …; one whose type does not follow from its place is a text.
    pub fn parameters(&self) -> &SchemaRef {
        &self.parameters
    }
}

impl ReadSession {
    /// Plans a statement that may have parameters.
    ///
    /// # Errors
    /// As [`Self::plan_statement`].
    pub async fn prepare(&self, statement: &Statement) -> Result<Prepared> {
        let failed = |error| Error::planning(error, self.tables());
        let unbound = typed(self.unbound(statement).await?).map_err(failed)?;
        let types = unbound.get_parameter_types().map_err(failed)?;
        let field = |number: usize| {
            let name = format!("${number}");
            let kind = types.get(&name).cloned().flatten().unwrap_or(DataType::Utf8);
            Field::new(name, kind, true)
        };
        let parameters = Schema::new((1..=statement.parameters()).map(field).collect::<Vec<_>>());
        let plan = self.analyzed(unbound.clone())?;
        Ok(Prepared { unbound, plan, parameters: Arc::new(parameters) })
    }

    /// The plans of a prepared statement with values for its parameters, by position: one for each row of values.
    ///
    /// # Errors
    /// [`Error::Parameters`] where there are more or fewer columns than parameters, or no row; [`Error::Parameter`] for a value
    /// that is not of its parameter's type.
    pub fn bind(&self, prepared: &Prepared, values: &RecordBatch) -> Result<Vec<BoundPlan>> {
        let needed = prepared.parameters.fields().len();
        let given = if values.num_rows() == 0 { 0 } else { values.num_columns() };
        if needed != given {
            return Err(Error::Parameters { needed, given });
        }
        if needed == 0 {
            return Ok(vec![BoundPlan::new(prepared.plan.clone())]);
        }
        if values.num_rows() > MOST_ROWS {
            let message = format!("{} rows of parameters are more than {MOST_ROWS} at once", values.num_rows());
            return Err(Error::Sql { message });
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let cast = |(number, (column, field)): (usize, (&ArrayRef, &Arc<Field>))| {
            cast_with_options(column, field.data_type(), &options).map_err(|error| Error::Parameter {
                number: number + 1,
                needed: field.data_type().to_string(),
                reason: error.to_string(),
            })
        };
        let columns = values.columns().iter().zip(prepared.parameters.fields()).enumerate().map(cast);
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let failed = |error| Error::planning(error, self.tables());
        let bound = |row: usize| -> Result<BoundPlan> {
            let values = columns.iter().map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            let plan = prepared.unbound.clone().with_param_values(values).map_err(failed)?;
            self.analyzed(plan).map(BoundPlan::new)
        };
        (0..values.num_rows()).map(bound).collect()
    }
}

/// Gives every parameter a type that did not get one from its place.
fn typed(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let typed = plan.transform_up_with_subqueries(|plan| {
        let kind = if matches!(plan, LogicalPlan::Limit(_)) { DataType::Int64 } else { DataType::Utf8 };
        let typed = plan.map_expressions(|expression| {
            expression.transform_down(|expression| {
                Ok(match expression {
                    Expr::Placeholder(placeholder) if placeholder.field.is_none() => {
                        Transformed::yes(of_type(placeholder, &kind))
                    }
                    // DataFusion takes the type of what a parameter is compared with, and not of what it is cast to.
                    Expr::Cast(Cast { expr, field }) => {
                        Transformed::yes(Expr::Cast(Cast { expr: Box::new(cast_to(*expr, field.data_type())), field }))
                    }
                    Expr::TryCast(TryCast { expr, field }) => Transformed::yes(Expr::TryCast(TryCast {
                        expr: Box::new(cast_to(*expr, field.data_type())),
                        field,
                    })),
                    other => Transformed::no(other),
                })
            })
        })?;
        // A type that is known below is known above.
        typed.map_data(|plan| plan.recompute_schema())
    })?;
    Ok(typed.data)
}

fn cast_to(expression: Expr, kind: &DataType) -> Expr {
    match expression {
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => of_type(placeholder, kind),
        other => other,
    }
}

fn of_type(Placeholder { id, .. }: Placeholder, kind: &DataType) -> Expr {
    let field = Some(Arc::new(Field::new(&id, kind.clone(), true)));
    Expr::Placeholder(Placeholder { id, field })
}
