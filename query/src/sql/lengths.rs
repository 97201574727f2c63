//! Functions that make as much as they are told to: `repeat('x', 2000000000)` is a short statement, and no memory limit sees what it
//! makes of its row. What they make of one batch is bounded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use crate::sql::forwarded::forwarded;

/// Bytes of text, or eighths of that of values, that one call makes of the rows of a batch.
const MOST: i64 = 256 << 20;

/// Bytes of a value in a list.
const OF_A_VALUE: i64 = 8;

/// Those functions, and which of their arguments says how much they make.
const FUNCTIONS: [(&str, Told); 8] = [
    ("repeat", Told::Times),
    ("lpad", Told::Length),
    ("rpad", Told::Length),
    ("array_repeat", Told::Values),
    ("array_resize", Told::Values),
    ("range", Told::Steps),
    ("generate_series", Told::Steps),
    ("space", Told::Spaces),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    /// So many times the first one.
    Times,
    /// So many characters.
    Length,
    Spaces,
    /// So many values.
    Values,
    /// From the first to the second, by the third.
    Steps,
}

/// Puts these functions in the place of those of a session that have their names.
///
/// # Errors
/// Where the session takes no functions.
pub(crate) fn bound(functions: &mut impl FunctionRegistry) -> Result<()> {
    for (name, told) in FUNCTIONS {
        if let Ok(inner) = functions.udf(name) {
            functions.register_udf(Arc::new(ScalarUDF::from(Bounded { inner, told })))?;
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    told: Told,
}

impl Bounded {
    /// Bytes that are made of some rows, about.
    fn bytes(&self, arguments: &[ColumnarValue], rows: usize) -> Result<i64> {
        let number = |at: usize| -> Result<Option<ArrayRef>> {
            let Some(argument) = arguments.get(at) else { return Ok(None) };
            // Dates and the like have bounds of their own.
            let is_number = argument.data_type().is_integer();
            is_number.then(|| Ok(cast(&argument.to_array(rows)?, &DataType::Int64)?)).transpose()
        };
        let sum = |numbers: Option<ArrayRef>, each: &dyn Fn(usize) -> i64| {
            let Some(numbers) = numbers else { return 0 };
            let numbers = numbers.as_primitive::<Int64Type>();
            let made =
                |row: usize| if numbers.is_null(row) { 0 } else { numbers.value(row).max(0).saturating_mul(each(row)) };
            (0..numbers.len()).map(made).fold(0_i64, i64::saturating_add)
        };
        Ok(match self.told {
            Told::Length => sum(number(1)?, &|_| 1),
            Told::Spaces => sum(number(0)?, &|_| 1),
            Told::Values => {
                // What is repeated may be a list.
                let repeated = arguments[0].to_array(1)?;
                let each = (repeated.get_array_memory_size() / repeated.len().max(1)) as i64;
                sum(number(1)?, &|_| if self.name() == "array_repeat" { each.max(OF_A_VALUE) } else { OF_A_VALUE })
            }
            Told::Times => {
                let texts = cast(&arguments[0].to_array(rows)?, &DataType::Utf8)?;
                let texts = texts.as_string::<i32>();
                sum(number(1)?, &|row| i64::from(texts.value_length(row)))
            }
            Told::Steps => {
                let (start, stop) = if arguments.len() == 1 { (None, number(0)?) } else { (number(0)?, number(1)?) };
                let (step, Some(stop)) = (number(2)?, stop) else { return Ok(0) };
                // `None` where it is NULL, of which nothing is made.
                let at = |numbers: Option<&ArrayRef>, row: usize, otherwise: i64| match numbers {
                    Some(numbers) => numbers.is_valid(row).then(|| numbers.as_primitive::<Int64Type>().value(row)),
                    None => Some(otherwise),
                };
                let values = |row: usize| -> Option<i64> {
                    let (start, stop) = (at(start.as_ref(), row, 0)?, at(Some(&stop), row, 0)?);
                    let steps = stop.saturating_sub(start).checked_div(at(step.as_ref(), row, 1)?)?;
                    Some(steps.max(0).saturating_mul(OF_A_VALUE))
                };
                (0..stop.len()).filter_map(values).fold(0, i64::saturating_add)
            }
        })
    }
}

impl ScalarUDFImpl for Bounded {
    forwarded!(inner);

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.bytes(&arguments.args, arguments.number_rows)? > MOST {
            return exec_err!("{}() would make more than {} MiB at once: ask it for less", self.name(), MOST >> 20);
        }
        self.inner.invoke_with_args(arguments)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::sql::shown::context_with;

    #[tokio::test]
    async fn what_is_told_to_make_much_is_refused() {
        let context = context_with(|state| bound(state).unwrap());
        for sql in [
            "SELECT repeat('xy', 1000000000)",
            "SELECT length(lpad('x', 2000000000, 'y'))",
            "SELECT array_repeat(1, 2000000000)",
            "SELECT array_repeat(array_repeat(1, 1000000), 1000000)",
            "SELECT array_resize([1], 1000000000, 0)",
            "SELECT cardinality(range(0, 100000000))",
            "SELECT cardinality(range(1000000000))",
            "SELECT generate_series(100000000, 1, -1)",
            "SELECT sum(length(repeat(v, 1000000))) FROM (SELECT CAST(value AS VARCHAR) AS v FROM generate_series(1, 1000))",
        ] {
            let answered = match context.sql(sql).await {
                Ok(planned) => planned.collect().await,
                Err(error) => Err(error),
            };
            let error = answered.unwrap_err().to_string();
            assert!(error.contains("would make more than 256 MiB"), "{sql}: {error}");
        }
        for sql in [
            "SELECT repeat('xy', 1000), lpad('x', 10), rpad('x', 5, 'ab'), repeat(NULL, 5), repeat('x', NULL)",
            "SELECT array_repeat(1, 3), array_resize([1], 5, 0), range(5), range(1, 10, 2), generate_series(5, 1, -2)",
            "SELECT range(1700000000, NULL)",
            "SELECT range(1700000000, 0)",
            "SELECT range(0, 1700000000, -1)",
            "SELECT range(DATE '2026-01-01', DATE '2026-02-01', INTERVAL '1 day')",
        ] {
            let plain = SessionContext::new().sql(sql).await.unwrap().collect().await.unwrap();
            let bounded = context.sql(sql).await.unwrap().collect().await;
            assert_eq!(bounded.unwrap_or_else(|error| panic!("{sql}: {error}")), plain);
        }
    }
}
