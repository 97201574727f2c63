//! `round(decimal, 2)`, whose type follows from the 2. DataFusion puts a cast around it, so that a statement has the type of any number
//! of digits until it is folded, and another one from there on.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::sql::forwarded::forwarded;

/// Puts this `round` in the place of a session's.
///
/// # Errors
/// Where the session takes no functions.
pub(crate) fn round_by_literals(functions: &mut impl FunctionRegistry) -> Result<()> {
    let round = Round { inner: functions.udf("round")?, signature: Signature::user_defined(Volatility::Immutable) };
    functions.register_udf(Arc::new(ScalarUDF::from(round))).map(drop)
}

/// DataFusion's, with digits of any integer type: a literal stays one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Round {
    forwarded!(inner);

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let digits = arguments.get(1).filter(|digits| digits.is_integer());
        let asked = arguments.iter().enumerate().map(|(at, kind)| match (at, digits) {
            (1, Some(_)) => DataType::Int32,
            _ => kind.clone(),
        });
        let asked: Vec<FieldRef> = asked.map(|kind| Arc::new(Field::new("", kind, true))).collect();
        let mut kinds: Vec<DataType> =
            fields_with_udf(&asked, self.inner.as_ref())?.iter().map(|field| field.data_type().clone()).collect();
        if let (Some(kind), Some(digits)) = (kinds.get_mut(1), digits) {
            digits.clone_into(kind);
        }
        Ok(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [_, digits] = arguments.args.as_mut_slice() {
            let Ok(narrow) = digits.cast_to(&DataType::Int32, None) else {
                return exec_err!("round() takes no more digits than a 32-bit integer has");
            };
            *digits = narrow;
            arguments.arg_fields[1] =
                Arc::new(arguments.arg_fields[1].as_ref().clone().with_data_type(DataType::Int32));
        }
        self.inner.invoke_with_args(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::shown::{context_with, shown};

    #[tokio::test]
    async fn its_type_is_that_of_its_digits() {
        let context = context_with(|state| round_by_literals(state).unwrap());
        let rows = "(SELECT id, CAST(p AS DECIMAL(18, 2)) AS p FROM (VALUES (1, '129.99'), (2, '25.80'), (3, '-0.50')) AS v(id, p)) AS t";
        for (sql, expected) in [
            ("SELECT round(avg(p), 2) FROM ROWS", "51.76"),
            ("SELECT max(y) FROM (SELECT round(p, 1) AS y FROM ROWS) WHERE y < 100", "25.8"),
            ("SELECT round(sum(p), -1) FROM ROWS WHERE id < 3", "160"),
            (
                "SELECT round(1234.567), round(1234.567, 2), round(5, -1), round(CAST(2.5 AS REAL))",
                "1235.0|1234.57|10|3.0",
            ),
            (
                "SELECT round(p, 1) AS r, count(*) FROM ROWS WHERE id = 1 GROUP BY ROLLUP(round(p, 1)) ORDER BY r",
                "130.0|1 |1",
            ),
            ("SELECT max(round(p, id)) FROM ROWS", "130.00"),
            ("SELECT round(p, NULL) FROM ROWS WHERE id = 1", ""),
        ] {
            let sql = sql.replace("ROWS", rows);
            let answered = shown(&context, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(answered, expected, "{sql}");
        }
    }
}
