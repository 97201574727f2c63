//! −0 and 0 are one value to SQL's `=`, to GROUP BY and to the keys of tables, but not to the sorts and hashes below PARTITION BY,
//! ORDER BY, DISTINCT ON and distinct aggregates. Each of these takes its floats with one zero, so that two paths to a table
//! agree on which rows are of one key and which tie; so are NaNs of other bits one.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Distinct, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Sort, SortExpr, Volatility, Window,
};
use datafusion::optimizer::AnalyzerRule;

use crate::hash::encoding::canonical;
use crate::sql::total_order::{renamed, under_columns_of};

/// Puts [`OneZero`] around the floats by which rows are ordered or told apart. Names and types of all columns stay; a second pass
/// changes nothing. It goes after type coercion.
#[derive(Debug)]
pub(crate) struct OneZeroRule;

impl AnalyzerRule for OneZeroRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Sort(sort) => Ok(of_sort(sort)),
            LogicalPlan::Distinct(Distinct::On(mut distinct)) => {
                let mut fold = Fold::over(distinct.input.schema());
                distinct.on_expr.iter_mut().for_each(|expr| fold.one(expr));
                distinct.sort_expr.iter_mut().for_each(|sorts| fold.sorts(sorts));
                let changed = fold.changed;
                Ok(Transformed::new_transformed(LogicalPlan::Distinct(Distinct::On(distinct)), changed))
            }
            LogicalPlan::Window(window) => of_window(window),
            LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "one_zero"
    }
}

fn of_sort(mut sort: Sort) -> Transformed<LogicalPlan> {
    let schema = Arc::clone(sort.input.schema());
    let mut fold = Fold::over(&schema);
    fold.sorts(&mut sort.expr);
    let changed = fold.changed;
    Transformed::new_transformed(LogicalPlan::Sort(sort), changed)
}

fn of_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let mut fold = Fold::over(window.input.schema());
    let exprs: Vec<Expr> = window.window_expr.iter().map(|expr| fold.inside(expr)).collect();
    if !fold.changed {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let plan = LogicalPlan::Window(Window::try_new(exprs, Arc::clone(&window.input))?);
    under_columns_of(&window.schema, plan).map(Transformed::yes)
}

fn of_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut fold = Fold::over(aggregate.input.schema());
    let exprs = aggregate.aggr_expr.iter().map(|expr| fold.inside(expr)).collect();
    if !fold.changed {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let folded = Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), exprs)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(folded)))
}

/// Puts the function around expressions over the columns of a schema.
struct Fold<'a> {
    schema: &'a DFSchema,
    changed: bool,
}

impl<'a> Fold<'a> {
    fn over(schema: &'a DFSchema) -> Self {
        Self { schema, changed: false }
    }

    fn one(&mut self, expr: &mut Expr) {
        if let Some(folded) = with_one_zero(expr, self.schema) {
            *expr = folded;
            self.changed = true;
        }
    }

    /// A float that is there with one zero already stays: it breaks ties.
    fn sorts(&mut self, sorts: &mut [SortExpr]) {
        for at in 0..sorts.len() {
            let (before, rest) = sorts.split_at_mut(at);
            let Some(sort) = rest.first_mut() else { return };
            if let Some(folded) = with_one_zero(&sort.expr, self.schema)
                && before.iter().all(|before| before.expr != folded)
            {
                sort.expr = folded;
                self.changed = true;
            }
        }
    }

    /// What a window function or an aggregate orders its rows by, parts them by, or takes once.
    fn inside(&mut self, expr: &Expr) -> Expr {
        let mut folded = expr.clone().unalias();
        let mut inside = Self::over(self.schema);
        let (args, order_by, distinct) = match &mut folded {
            Expr::WindowFunction(function) => {
                let WindowFunctionParams { args, partition_by, order_by, distinct, .. } = &mut function.params;
                partition_by.iter_mut().for_each(|expr| inside.one(expr));
                (args, order_by, *distinct)
            }
            Expr::AggregateFunction(function) => {
                let AggregateFunctionParams { args, order_by, distinct, .. } = &mut function.params;
                (args, order_by, *distinct)
            }
            _ => return expr.clone(),
        };
        inside.sorts(order_by);
        if distinct {
            args.iter_mut().for_each(|argument| inside.one(argument));
        }
        self.changed |= inside.changed;
        if inside.changed { renamed(folded, expr) } else { expr.clone() }
    }
}

/// What an expression of the function is a float of; `None` for any other expression.
pub(crate) fn as_float(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == NAME => call.args.first().cloned(),
        _ => None,
    }
}

/// A float with one zero; `None` for what is none, or has one already.
pub(crate) fn with_one_zero(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let has_one = matches!(expr, Expr::ScalarFunction(call) if call.func.name() == NAME);
    let is_float = || expr.get_type(schema).is_ok_and(|kind| matches!(kind, DataType::Float32 | DataType::Float64));
    (!has_one && is_float()).then(|| ScalarUDF::from(OneZero::default()).call(vec![expr.clone()]))
}

pub(crate) const NAME: &str = "one_zero";

/// `one_zero(float)`: 0 for −0, one NaN for all, and any other float as it is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneZero {
    signature: Signature,
}

impl Default for OneZero {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OneZero {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [floats] = arrays.as_slice() else { return exec_err!("{NAME} takes one float") };
        Ok(ColumnarValue::Array(match floats.data_type() {
            DataType::Float32 => {
                let narrow = |value: f32| canonical(f64::from(value)) as f32;
                Arc::new(floats.as_primitive::<Float32Type>().unary::<_, Float32Type>(narrow))
            }
            DataType::Float64 => Arc::new(floats.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical)),
            other => return exec_err!("{NAME} takes a float, not {other}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, RecordBatch};
    use arrow::datatypes::{Field, Schema};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::sql::shown::{context_with, shown};

    async fn answer(sql: &str) -> String {
        let context = context_with(|state| _ = state.add_analyzer_rule(Arc::new(OneZeroRule)));
        let rows = "(VALUES (1, 0.0), (2, -0.0), (3, 0.0), (4, -0.0), (5, 1.0)) AS t(id, x)";
        shown(&context, &sql.replace("ROWS", rows)).await.unwrap()
    }

    #[tokio::test]
    async fn zeros_are_of_one_partition_one_rank_and_one_distinct_value_under_names_as_before() {
        let ranks = "SELECT rank() OVER (ORDER BY x) FROM ROWS ORDER BY id";
        assert_eq!(answer(ranks).await, "1 1 1 1 5");
        let numbers = "SELECT row_number() OVER (PARTITION BY x ORDER BY id) FROM ROWS ORDER BY id";
        assert_eq!(answer(numbers).await, "1 2 3 4 1");
        let counts = "SELECT count(DISTINCT x), count(DISTINCT id), sum(DISTINCT x) FROM ROWS";
        assert_eq!(answer(counts).await, "2|5|1.0");
        assert_eq!(answer("SELECT id FROM ROWS ORDER BY x DESC, id LIMIT 3").await, "5 1 2");
        assert_eq!(answer("SELECT DISTINCT ON (x) id FROM ROWS ORDER BY x, id").await, "1 5");
        assert_eq!(answer("SELECT array_agg(id ORDER BY x, id DESC) FROM ROWS").await, "[4, 3, 2, 1, 5]");
        let named = r#"SELECT "count(DISTINCT t.x)" FROM (SELECT count(DISTINCT x), count(DISTINCT id) FROM ROWS)"#;
        assert_eq!(answer(named).await, "2");
    }

    #[tokio::test]
    async fn every_other_float_stays_as_it_is() {
        let floats = [-0.0, 0.0, f64::NAN, -f64::NAN, f64::INFINITY, -1e-40, 1.5];
        let schema =
            Schema::new(vec![Field::new("x", DataType::Float64, true), Field::new("y", DataType::Float32, true)]);
        let schema = DFSchema::try_from(schema).unwrap();
        let wide = Float64Array::from_iter(floats.map(Some).into_iter().chain([None]));
        let narrow = Float32Array::from_iter(wide.iter().map(|value| value.map(|value| value as f32)));
        let columns: Vec<ArrayRef> = vec![Arc::new(wide), Arc::new(narrow)];
        let batch = RecordBatch::try_new(Arc::clone(schema.inner()), columns).unwrap();
        let folded = |column: &str| {
            let folded = with_one_zero(&datafusion::prelude::col(column), &schema).unwrap();
            let folded = SessionContext::new().create_physical_expr(folded, &schema).unwrap();
            folded.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap()
        };
        let expected = [0.0, 0.0, f64::NAN, f64::NAN, f64::INFINITY, -1e-40, 1.5];
        let (wide, narrow) = (folded("x"), folded("y"));
        let bits: Vec<u64> = wide.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits).collect();
        assert_eq!(bits, expected.map(f64::to_bits));
        let bits: Vec<u32> = narrow.as_primitive::<Float32Type>().iter().flatten().map(f32::to_bits).collect();
        assert_eq!(bits, expected.map(|value| (value as f32).to_bits()));
        assert!(wide.is_null(floats.len()) && narrow.is_null(floats.len()));
    }
}
