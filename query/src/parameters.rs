//! Parameters of statements: what type each has, and plans with values in their places.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DECIMAL256_MAX_PRECISION, DECIMAL256_MAX_SCALE, DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Cast, Placeholder, TryCast};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
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
        let refused = |number: usize, reason: String| {
            let needed = prepared.parameters.field(number).data_type().to_string();
            Error::Parameter { number: number + 1, needed, reason }
        };
        let columns = values.columns().iter().zip(prepared.parameters.fields()).enumerate();
        let columns = columns.map(|(number, (column, field))| {
            fitted(column, field.data_type()).map_err(|error| refused(number, error.to_string()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let is_other = |(column, field): (&ArrayRef, &Arc<Field>)| column.data_type() != field.data_type();
        let other = columns.iter().zip(prepared.parameters.fields()).position(is_other);
        let failed = |error| Error::planning(error, self.tables());
        let bound = |row: usize| -> Result<BoundPlan> {
            let values = columns.iter().map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            let plan = prepared.unbound.clone().with_param_values(values).map_err(failed)?;
            let plan = self.analyzed(plan)?;
            // The answer has been announced with the types that it has.
            match other {
                Some(number) if !types_of(&plan).eq(types_of(&prepared.plan)) => {
                    Err(refused(number, "the answer would have another type with it".to_owned()))
                }
                _ => Ok(BoundPlan::new(plan)),
            }
        };
        (0..values.num_rows()).map(bound).collect()
    }
}

/// Values of a parameter with its type; as they came, where that has no place for one of them: `quantity > ?` with 1.5 is what it
/// is where 1.5 is written out, and not `quantity > 1`.
pub(crate) fn fitted(given: &ArrayRef, kind: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |values: &ArrayRef, kind: &DataType| cast_with_options(values, kind, &options);
    let given = match (given.data_type(), kind) {
        // A moment is one in UTC.
        (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(_, None) | DataType::Date32) => {
            cast(given, &DataType::Timestamp(*unit, None))?
        }
        _ => Arc::clone(given),
    };
    let fitted = cast(&given, kind);
    if let (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Decimal128(..), Ok(fitted)) =
        (given.data_type(), kind, &fitted)
    {
        // A text says its number with all places, and is read so where it is compared.
        let all_places = DataType::Decimal256(DECIMAL256_MAX_PRECISION, DECIMAL256_MAX_SCALE / 2);
        let (said, fitted) = (cast(&given, &all_places), cast(fitted, &all_places));
        if said.is_ok_and(|said| fitted.is_ok_and(|fitted| *said != *fitted)) {
            return cast(&given, &DataType::Utf8);
        }
    }
    let is_lossless = |fitted: &ArrayRef| cast(fitted, given.data_type()).is_ok_and(|back| *back == *given);
    match is_number_or_day(given.data_type(), kind) && !fitted.as_ref().is_ok_and(is_lossless) {
        true => Ok(given),
        false => fitted,
    }
}

/// The types of a plan's columns.
fn types_of(plan: &LogicalPlan) -> impl Iterator<Item = &DataType> {
    plan.schema().fields().iter().map(|field| field.data_type())
}

/// Whether both are numbers, or both are days or moments: each can be compared with the other.
fn is_number_or_day(one: &DataType, other: &DataType) -> bool {
    let is_day = |kind: &DataType| matches!(kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None));
    one.is_numeric() && other.is_numeric() || is_day(one) && is_day(other)
}

/// Gives every parameter one type: that of its places, or where none has one, a text.
fn typed(plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let mut found: HashMap<String, Vec<DataType>> = HashMap::new();
    plan.apply_with_subqueries(|plan| {
        let is_limit = matches!(plan, LogicalPlan::Limit(_));
        plan.apply_expressions(|expression| {
            expression.apply(|expression| {
                let (placeholder, kind) = match expression {
                    Expr::Placeholder(placeholder) => (placeholder, is_limit.then_some(DataType::Int64)),
                    // DataFusion takes the type of what a parameter is compared with, and not of what it is cast to.
                    Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match expr.as_ref() {
                        Expr::Placeholder(placeholder) => (placeholder, Some(field.data_type().clone())),
                        _ => return Ok(TreeNodeRecursion::Continue),
                    },
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                let of_place = placeholder.field.as_ref().map(|field| field.data_type().clone());
                found.entry(placeholder.id.clone()).or_default().extend(of_place.or(kind));
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    // Of places with several types, the one that all of them can be compared as.
    let kind_of = |kinds: &[DataType]| type_union_resolution(kinds).or_else(|| kinds.first().cloned());
    let kinds: HashMap<&str, DataType> =
        found.iter().map(|(id, kinds)| (id.as_str(), kind_of(kinds).unwrap_or(DataType::Utf8))).collect();
    let typed = plan.transform_up_with_subqueries(|plan| {
        let typed = plan.map_expressions(|expression| {
            expression.transform_down(|expression| match expression {
                Expr::Placeholder(placeholder) => {
                    let kind = kinds.get(placeholder.id.as_str()).cloned().unwrap_or(DataType::Utf8);
                    Ok(Transformed::yes(of_type(placeholder, kind)))
                }
                other => Ok(Transformed::no(other)),
            })
        })?;
        // A type that is known below is known above.
        typed.map_data(|plan| plan.recompute_schema())
    })?;
    Ok(typed.data)
}

fn of_type(Placeholder { id, .. }: Placeholder, kind: DataType) -> Expr {
    let field = Some(Arc::new(Field::new(&id, kind, true)));
    Expr::Placeholder(Placeholder { id, field })
}
