//! Integers that do not wrap. DataFusion lets `+`, `-` and `*` go round beyond the bits of their type; here that is an error, as in
//! PostgreSQL and DuckDB.

use std::sync::Arc;

use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;

/// Puts [`OfIntegers`] in the place of what would wrap. Names, types and NULLs stay; a second pass changes nothing. It goes after type
/// coercion.
#[derive(Debug)]
pub(crate) struct IntegersRule;

impl AnalyzerRule for IntegersRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            node.map_expressions(|expr| expr.transform_up(|expr| Ok(without_wrapping(expr, &schema))))
        })
        .data()
    }

    fn name(&self) -> &str {
        "integers"
    }
}

fn without_wrapping(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if wraps(op) && are_integers(&left, &right, schema) => {
            let (mut ops, mut args) = match *left {
                Expr::ScalarFunction(call) if call.func.inner().is::<OfIntegers>() => (ops_of(&call), call.args),
                left => (Vec::new(), vec![left]),
            };
            ops.push(op);
            args.push(*right);
            Transformed::yes(ScalarUDF::from(OfIntegers::new(ops)).call(args))
        }
        other => Transformed::no(other),
    }
}

fn wraps(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply)
}

/// Whether both have the same type, and that is one of integers.
fn are_integers(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let kind = left.get_type(schema).ok().filter(DataType::is_integer);
    kind.is_some() && right.get_type(schema).ok() == kind
}

fn ops_of(call: &ScalarFunction) -> Vec<Operator> {
    call.func.inner().downcast_ref::<OfIntegers>().map(|integers| integers.ops.clone()).unwrap_or_default()
}

/// An expression of [`OfIntegers`] as the operators that it stands for.
pub(crate) fn as_operators(expr: &Expr) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    call.func.inner().downcast_ref::<OfIntegers>()?.operators(&call.args)
}

/// The name of [`OfIntegers`].
pub(crate) const NAME: &str = "of_integers";

/// `a + b - c`: integers of one type, and from left to right what is done with them. A chain is one call, since DataFusion plans
/// calls in each other in a time that goes by the third power of how many these are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfIntegers {
    ops: Vec<Operator>,
    signature: Signature,
}

impl OfIntegers {
    fn new(ops: Vec<Operator>) -> Self {
        Self { signature: Signature::any(ops.len() + 1, Volatility::Immutable), ops }
    }

    fn operators(&self, args: &[Expr]) -> Option<Expr> {
        let (first, others) = args.split_first()?;
        let joined = |left, (op, right): (&Operator, &Expr)| {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left), *op, Box::new(right.clone())))
        };
        Some(self.ops.iter().zip(others).fold(first.clone(), joined))
    }
}

impl ScalarUDFImpl for OfIntegers {
    fn name(&self) -> &str {
        NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match self.operators(args) {
            Some(operators) => Ok(operators.schema_name().to_string()),
            None => exec_err!("{NAME} takes integers"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = args.arg_fields.first().map_or(DataType::Null, |field| field.data_type().clone());
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(NAME, kind, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut values = arguments.args.into_iter();
        let Some(first) = values.next() else { return exec_err!("{NAME} takes integers") };
        let computed = self.ops.iter().zip(values).try_fold(first, |left, (op, right)| match op {
            Operator::Minus => apply(&left, &right, numeric::sub),
            Operator::Multiply => apply(&left, &right, numeric::mul),
            _ => apply(&left, &right, numeric::add),
        });
        computed.map_err(|error| match error.find_root() {
            DataFusionError::ArrowError(error, _) if matches!(**error, ArrowError::ArithmeticOverflow(_)) => {
                too_large(arguments.return_field.data_type())
            }
            _ => error,
        })
    }
}

fn too_large(kind: &DataType) -> DataFusionError {
    let bits = kind.primitive_width().unwrap_or_default() * 8;
    let sort = if kind.is_unsigned_integer() { "an unsigned integer" } else { "an integer" };
    let wider = if bits < 64 { "BIGINT" } else { "DECIMAL(38, 0)" };
    DataFusionError::Execution(format!("a result is beyond {sort} of {bits} bits: CAST a side to {wider}"))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::sql::shown::{context_with, shown};

    async fn answer(sql: &str) -> Result<String> {
        let context = context_with(|state| _ = state.add_analyzer_rule(Arc::new(IntegersRule)));
        let rows = "(VALUES (1, 9223372036854775807), (2, -9223372036854775808), (3, NULL)) AS t(id, x)";
        shown(&context, &sql.replace("ROWS", rows)).await
    }

    #[tokio::test]
    async fn what_is_beyond_its_bits_is_an_error_wherever_it_stands() {
        for (sql, wider) in [
            ("SELECT x + 1 FROM ROWS WHERE id = 1", "DECIMAL(38, 0)"),
            ("SELECT x - 1 FROM ROWS WHERE id = 2", "DECIMAL(38, 0)"),
            ("SELECT x * 2 FROM ROWS WHERE id < 3", "DECIMAL(38, 0)"),
            ("SELECT 9223372036854775807 + 1", "DECIMAL(38, 0)"),
            ("SELECT CAST(100 AS TINYINT) * CAST(100 AS TINYINT)", "BIGINT"),
            ("SELECT id FROM ROWS WHERE x + 1 > 0", "DECIMAL(38, 0)"),
            ("SELECT max(x) FROM ROWS GROUP BY x + 1", "DECIMAL(38, 0)"),
            ("SELECT sum(x * 2) OVER (ORDER BY id) FROM ROWS", "DECIMAL(38, 0)"),
            ("SELECT id FROM ROWS WHERE id IN (SELECT x + 1 FROM ROWS)", "DECIMAL(38, 0)"),
            ("SELECT t.id FROM ROWS JOIN (SELECT 1 AS y) AS u ON u.y = t.x + 1", "DECIMAL(38, 0)"),
        ] {
            let error = answer(sql).await.unwrap_err().strip_backtrace();
            assert!(error.contains("is beyond") && error.ends_with(wider), "{sql}: {error}");
        }
    }

    #[tokio::test]
    async fn what_fits_is_as_it_was_under_the_same_name() {
        for (sql, expected) in [
            ("SELECT x - 1, id * 2 + 1 FROM ROWS WHERE id <> 2 ORDER BY id", "9223372036854775806|3 |7"),
            (r#"SELECT max("t.id * Int64(2) + Int64(1)") FROM (SELECT id * 2 + 1 FROM ROWS)"#, "7"),
            ("SELECT id + 1, count(*) FROM ROWS GROUP BY id + 1 ORDER BY id + 1", "2|1 3|1 4|1"),
            ("SELECT arrow_typeof(id + 1), arrow_typeof(id + 0.5) FROM ROWS LIMIT 1", "Int64|Float64"),
            ("SELECT DATE '2026-01-01' + INTERVAL '1 day'", "2026-01-02"),
            ("SELECT id FROM ROWS ORDER BY id LIMIT 1 + 1", "1 2"),
        ] {
            assert_eq!(answer(sql).await.unwrap(), expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn a_chain_is_one_call() {
        let sum = format!("id{}", " + id - 1".repeat(9));
        assert_eq!(answer(&format!("SELECT {sum} FROM ROWS WHERE id = 2")).await.unwrap(), "11");
        let plan = answer(&format!("EXPLAIN SELECT {sum} FROM ROWS WHERE id = 2")).await.unwrap();
        assert_eq!(plan.matches(NAME).count(), 2, "once in the logical and once in the physical plan: {plan}");
    }
}
