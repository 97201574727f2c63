//! Where DataFusion takes other types than SQL does, and loses digits, hours or rows by it.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::sql::arrows::{arrow, as_value, found, of_json, text_of};
use crate::sql::conditions::is_comparison;
use crate::sql::decimals::{Shortened, alike, loses_digits, read_numbers};

/// The types of SQL. What it changes when a statement is planned decides what type an expression has; what it changes later does not.
#[derive(Debug)]
pub(crate) struct SqlTypes;

impl ExprPlanner for SqlTypes {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, mut left, mut right } = raw;
        if let Some(arrow) = arrow(&op, &left, &right) {
            return Ok(PlannerResult::Planned(arrow));
        }
        let kinds = (left.get_type(schema), right.get_type(schema));
        let (Ok(of_left), Ok(of_right)) = kinds else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let is_boolean = of_left == DataType::Boolean || of_right == DataType::Boolean;
        let planned = match op {
            // What is taken from a count or a rank may be more than that is.
            BinaryOperator::Minus if of_left.is_unsigned_integer() && of_right.is_unsigned_integer() => {
                cast(left, DataType::Int64) - cast(right, DataType::Int64)
            }
            BinaryOperator::Minus if is_day_and_hours(&of_left, &of_right, &right) => instant(left) - right,
            BinaryOperator::Plus if is_day_and_hours(&of_left, &of_right, &right) => instant(left) + right,
            BinaryOperator::Plus if is_day_and_hours(&of_right, &of_left, &left) => left + instant(right),
            // A text and a truth value have no type together: later is too late.
            BinaryOperator::Eq if is_boolean && of_json(&mut [&mut left, &mut right], schema) => left.eq(right),
            BinaryOperator::NotEq if is_boolean && of_json(&mut [&mut left, &mut right], schema) => left.not_eq(right),
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// Whether a day is moved by more or less than whole days, or by who knows what.
fn is_day_and_hours(day: &DataType, interval: &DataType, by: &Expr) -> bool {
    let is_of_days = match by {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(by)), _) => by.nanoseconds == 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(by)), _) => by.milliseconds == 0,
        Expr::Literal(ScalarValue::IntervalYearMonth(_), _) => true,
        _ => false,
    };
    *day == DataType::Date32 && matches!(interval, DataType::Interval(_)) && !is_of_days
}

fn instant(day: Expr) -> Expr {
    cast(day, DataType::Timestamp(TimeUnit::Microsecond, None))
}

impl FunctionRewrite for SqlTypes {
    fn name(&self) -> &'static str {
        "sql_types"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::ScalarFunction(mut call) => {
                let takes_alike = ["coalesce", "greatest", "least", "nullif", "nvl"].contains(&call.func.name());
                let mut values: Vec<_> = call.args.iter_mut().collect();
                let changed = takes_alike && (as_durations(&mut values, schema) || alike(&mut values, schema));
                Transformed::new_transformed(Expr::ScalarFunction(call), changed)
            }
            Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) => {
                let changed = is_comparison(op) && coerce_operands(vec![&mut left, &mut right], schema);
                Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
            }
            Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
                let changed = coerce_operands(vec![&mut expr, &mut low, &mut high], schema);
                Transformed::new_transformed(Expr::Between(Between { expr, negated, low, high }), changed)
            }
            Expr::InList(InList { mut expr, mut list, negated }) => {
                let changed = coerce_operands(std::iter::once(expr.as_mut()).chain(&mut list).collect(), schema);
                Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), changed)
            }
            Expr::Case(mut case) => {
                let changed = alike(&mut results(&mut case), schema);
                Transformed::new_transformed(Expr::Case(case), changed)
            }
            Expr::IsNull(of) => {
                text_of(&of).map_or_else(|| Transformed::no(Expr::IsNull(of)), |text| Transformed::yes(text.is_null()))
            }
            Expr::IsNotNull(of) => text_of(&of)
                .map_or_else(|| Transformed::no(Expr::IsNotNull(of)), |text| Transformed::yes(text.is_not_null())),
            Expr::Cast(Cast { expr, field }) => converted(expr, field, false, schema),
            Expr::TryCast(TryCast { expr, field }) => converted(expr, field, true, schema),
            other => Transformed::no(other),
        })
    }
}

/// A CAST, or a TRY_CAST, which is `or_null`.
fn converted(expr: Box<Expr>, field: FieldRef, or_null: bool, schema: &DFSchema) -> Transformed<Expr> {
    let kind = field.data_type();
    if let Some(value) = found(&expr).and_then(|found| as_value(found, kind)) {
        // A decimal is exact by its text, which may be that of another value.
        let or_null = or_null || kind.is_decimal();
        return Transformed::yes(plain_cast(Box::new(value), field, or_null));
    }
    match loses_digits(&expr, kind, schema) {
        true => Transformed::yes(Shortened::function(kind.clone(), or_null).call(vec![*expr])),
        false => Transformed::no(plain_cast(expr, field, or_null)),
    }
}

fn plain_cast(expr: Box<Expr>, field: FieldRef, or_null: bool) -> Expr {
    match or_null {
        true => Expr::TryCast(TryCast { expr, field }),
        false => Expr::Cast(Cast { expr, field }),
    }
}

/// Makes values alike that are compared. Gives whether anything changed.
fn coerce_operands(mut sides: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    if of_json(&mut sides, schema) || as_durations(&mut sides, schema) {
        return true;
    }
    let read = read_numbers(&mut sides, schema);
    alike(&mut sides, schema) || read
}

/// An interval beside a difference of times, which is so many microseconds: it is as many, a day as 24 hours and a month as 30 days, as
/// PostgreSQL and DuckDB compare them. DataFusion compares months first, then days, and a difference has none of both. Gives whether
/// anything changed.
fn as_durations(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    const NANOS_OF_A_DAY: i128 = 86_400_000_000_000;
    let unit = sides.iter().find_map(|side| match side.get_type(schema) {
        Ok(DataType::Duration(unit)) => Some(unit),
        _ => None,
    });
    let Some(unit) = unit else { return false };
    let mut changed = false;
    for side in sides {
        let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = &**side else { continue };
        let days = i128::from(interval.months) * 30 + i128::from(interval.days);
        let nanos = days * NANOS_OF_A_DAY + i128::from(interval.nanoseconds);
        let of = |of_one: i128| i64::try_from(nanos / of_one).ok();
        let duration = match unit {
            TimeUnit::Second => ScalarValue::DurationSecond(of(1_000_000_000)),
            TimeUnit::Millisecond => ScalarValue::DurationMillisecond(of(1_000_000)),
            TimeUnit::Microsecond => ScalarValue::DurationMicrosecond(of(1_000)),
            TimeUnit::Nanosecond => ScalarValue::DurationNanosecond(of(1)),
        };
        if !duration.is_null() {
            (**side, changed) = (Expr::Literal(duration, None), true);
        }
    }
    changed
}

fn results(case: &mut Case) -> Vec<&mut Expr> {
    let then = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    then.chain(case.else_expr.as_deref_mut()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::FunctionRegistry;

    use super::*;
    use crate::sql::shown::{context_with, shown};

    const ROWS: &str = "(SELECT id, CAST(p AS DECIMAL(18, 2)) AS p, x, DATE '2026-11-01' AS day FROM
        (VALUES (1, '129.99', 129.99), (2, '25.80', 25.8), (3, '-0.50', 1e308), (4, NULL, NULL)) AS v(id, p, x)) AS t";

    async fn answer(sql: &str) -> String {
        let context = context_with(|state| {
            state.register_expr_planner(Arc::new(SqlTypes)).unwrap();
            datafusion_functions_json::register_all(state).unwrap();
            state.register_function_rewrite(Arc::new(SqlTypes)).unwrap();
        });
        let sql = sql.replace("ROWS", ROWS);
        shown(&context, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn ids(condition: &str) -> String {
        answer(&format!("SELECT id FROM ROWS WHERE {condition} ORDER BY id")).await
    }

    #[tokio::test]
    async fn a_decimal_is_the_number_that_is_written() {
        for (condition, expected) in [
            ("p = 129.99", "1"),
            ("p = '129.990'", "1"),
            ("p = '129.994'", ""),
            ("p < '129.991' AND p > '25.795'", "1 2"),
            ("129.99 = p", "1"),
            ("p <> 129.99", "2 3"),
            ("p >= 129.99", "1"),
            ("p <= 25.80", "2 3"),
            ("p IN (129.99, 25.8, 7)", "1 2"),
            ("p NOT IN (129.99, 7.125)", "2 3"),
            ("p BETWEEN 25.8 AND 129.99", "1 2"),
            ("p IS NOT DISTINCT FROM 129.99", "1"),
            ("p > 1e300", ""),
            ("p < 1e300 AND p > -0.51", "1 2 3"),
            ("p < 0.1234567890123456", "3"),
        ] {
            assert_eq!(ids(condition).await, expected, "{condition}");
        }
    }

    #[tokio::test]
    async fn decimals_and_doubles_meet_as_doubles() {
        assert_eq!(ids("p = x").await, "1 2");
        assert_eq!(ids("coalesce(p, x) > x").await, "");
        assert_eq!(answer("SELECT coalesce(x, p), greatest(p, x) FROM ROWS WHERE id = 3").await, "1e308|1e308");
        let types =
            "SELECT arrow_typeof(coalesce(p, x)), arrow_typeof(CASE WHEN id = 1 THEN p ELSE x END) FROM ROWS LIMIT 1";
        assert_eq!(answer(types).await, "Float64|Float64");
        assert_eq!(answer("SELECT arrow_typeof(coalesce(p, 0.5)) FROM ROWS LIMIT 1").await, "Decimal128(18, 2)");
    }

    #[tokio::test]
    async fn a_cast_to_fewer_digits_stays_in_a_condition() {
        for (condition, expected) in [
            ("CAST(p AS INT) = 25", "2"),
            ("CAST(p AS BIGINT) IN (25, 129)", "1 2"),
            ("TRY_CAST(p AS TINYINT) IS NULL", "1 4"),
            ("CAST(p AS DECIMAL(4, 1)) = -0.5", "3"),
            ("CAST(p AS DECIMAL(6, 0)) = 26", "2"),
        ] {
            assert_eq!(ids(condition).await, expected, "{condition}");
        }
        let below = "SELECT id FROM (SELECT id, CAST(p AS INT) AS p FROM ROWS) WHERE p = 25";
        assert_eq!(answer(below).await, "2");
        assert_eq!(
            answer("SELECT CAST(p AS INT), count(*) FROM ROWS GROUP BY CAST(p AS INT) ORDER BY 1").await,
            "0|1 25|1 129|1 |1"
        );
    }

    #[tokio::test]
    async fn a_day_and_hours_are_an_instant() {
        let sql = "SELECT day + INTERVAL '36 hours', day - INTERVAL '1 minute', INTERVAL '90 minutes' + day FROM ROWS LIMIT 1";
        assert_eq!(answer(sql).await, "2026-11-02T12:00:00|2026-10-31T23:59:00|2026-11-01T01:30:00");
        assert_eq!(answer("SELECT day + INTERVAL '1 month' - INTERVAL '1 day' FROM ROWS LIMIT 1").await, "2026-11-30");
        let sql = "SELECT DATE '2026-11-01' + INTERVAL '12 hours' < TIMESTAMP '2026-11-01 11:00:00'";
        assert_eq!(answer(sql).await, "false");
    }

    #[tokio::test]
    async fn an_arrow_gives_text() {
        let document = r#"'{"a":{"b":[1,"x"]},"n":1.5,"null":null,"s":"x"}'"#;
        for (expression, expected) in [
            ("DOC -> 'a'", r#"{"b":[1,"x"]}"#),
            ("DOC -> 'a' -> 'b' -> 1", r#""x""#),
            ("DOC -> 'a' -> 'b' ->> 1", "x"),
            ("(DOC -> 'n') > 1", "true"),
            ("1 = (DOC -> 'n')", "false"),
            ("(DOC ->> 'n') <= 1.5", "true"),
            ("('{\"n\":9007199254740993}' -> 'n') = 9007199254740992", "false"),
            ("CAST(DOC -> 'n' AS DOUBLE)", "1.5"),
            ("DOC -> 'none'", ""),
            ("(DOC -> 'a' ->> 'none') IS NULL", "true"),
            ("arrow_typeof(DOC -> 'n')", "Utf8"),
            ("CAST(DOC -> 'n' AS BIGINT) IS NULL", "true"),
            ("CAST(DOC -> 'null' AS BIGINT) IS NULL", "true"),
            ("(DOC -> 'null') IS NULL", "true"),
            ("('{\"ok\":true}' -> 'ok') = true", "true"),
            ("((DOC -> 's') = true) IS NULL", "true"),
            ("true <> ('{\"ok\":false}' ->> 'ok')", "true"),
            ("CAST(DOC -> 's' AS VARCHAR)", "x"),
            ("(DOC -> 's') = 'x'", "true"),
            ("((DOC -> 's') = 1) IS NULL", "true"),
            ("(DOC -> 'n') BETWEEN 1 AND 2", "true"),
            ("(DOC -> 'n') IN (1, 1.5)", "true"),
            ("(DOC ->> 'n') = CAST('1.5' AS DECIMAL(18, 2))", "true"),
            ("CAST('{\"n\":12345678901234567890}' -> 'n' AS DECIMAL(38, 0))", "12345678901234567890"),
            ("DOC -> 'a' -> k -> 0", "1"),
            ("DOC::VARCHAR -> 'n'", "1.5"),
        ] {
            let sql = format!("SELECT {} FROM (VALUES ('b')) AS t(k)", expression.replace("DOC", document));
            assert_eq!(answer(&sql).await, expected, "{sql}");
        }
    }
}
