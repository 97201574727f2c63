//! Where DataFusion takes other types than SQL does, and loses digits, hours or rows by it.

use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::{Between, BinaryExpr, Case, Cast, InList, TryCast};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, lit, try_cast,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs::{
    json_as_text_udf, json_get_bool_udf, json_get_float_udf, json_get_int_udf, json_get_json_udf,
};

use crate::sql::conditions::is_comparison;

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

/// `->` gives the text of JSON, as in PostgreSQL and DuckDB, where the functions' own gives a union that few clients take, and that
/// compares with an integer what is an integer alone.
fn arrow(op: &BinaryOperator, left: &Expr, right: &Expr) -> Option<Expr> {
    let func = match op {
        BinaryOperator::Arrow | BinaryOperator::HashArrow => json_get_json_udf(),
        BinaryOperator::LongArrow | BinaryOperator::HashLongArrow => json_as_text_udf(),
        _ => return None,
    };
    let is_literal = |arg: &Expr| matches!(arg, Expr::Literal(..));
    // One look into a text for a whole path.
    let inner = found(left).filter(|args| args.iter().skip(1).all(is_literal) && is_literal(right));
    let mut args = inner.cloned().unwrap_or_else(|| vec![left.clone()]);
    args.push(right.clone());
    let name = format!("{} {op} {}", as_named(left), as_named(right));
    Some(func.call(args).alias(name))
}

/// A side of an arrow in the name of its column.
fn as_named(side: &Expr) -> String {
    match side {
        Expr::Column(column) => column.name.clone(),
        Expr::Cast(cast) => as_named(&cast.expr),
        Expr::Alias(alias) => alias.name.clone(),
        Expr::Literal(value, _) => match value.try_as_str() {
            Some(Some(text)) => format!("'{text}'"),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// The document and the path of what `->` finds; `None` for any other expression.
fn found(expr: &Expr) -> Option<&Vec<Expr>> {
    match expr {
        Expr::Alias(alias) => found(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == "json_get_json" => Some(&call.args),
        _ => None,
    }
}

/// As [`found`], of `->>` as well.
fn found_or_its_text(expr: &Expr) -> Option<&Vec<Expr>> {
    match expr {
        Expr::Alias(alias) => found_or_its_text(&alias.expr),
        Expr::ScalarFunction(call) if call.func.name() == "json_as_text" => Some(&call.args),
        other => found(other),
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
                let changed = takes_alike && alike(&mut call.args.iter_mut().collect::<Vec<_>>(), schema);
                Transformed::new_transformed(Expr::ScalarFunction(call), changed)
            }
            Expr::BinaryExpr(BinaryExpr { mut left, op, mut right }) => {
                let changed = is_comparison(op) && meet(vec![&mut left, &mut right], schema);
                Transformed::new_transformed(Expr::BinaryExpr(BinaryExpr { left, op, right }), changed)
            }
            Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
                let changed = meet(vec![&mut expr, &mut low, &mut high], schema);
                Transformed::new_transformed(Expr::Between(Between { expr, negated, low, high }), changed)
            }
            Expr::InList(InList { mut expr, mut list, negated }) => {
                let changed = meet(std::iter::once(expr.as_mut()).chain(&mut list).collect(), schema);
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

/// What an arrow finds, as text: of a null it is none.
fn text_of(expr: &Expr) -> Option<Expr> {
    found(expr).map(|args| json_as_text_udf().call(args.clone()))
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
fn meet(mut sides: Vec<&mut Expr>, schema: &DFSchema) -> bool {
    if of_json(&mut sides, schema) {
        return true;
    }
    let read = read_numbers(&mut sides, schema);
    alike(&mut sides, schema) || read
}

/// A text that stands beside a decimal is the number that it says, with all its places. Gives whether anything changed.
fn read_numbers(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    if !sides.iter().any(|side| matches!(side.get_type(schema), Ok(DataType::Decimal128(..)))) {
        return false;
    }
    let mut changed = false;
    for side in sides {
        if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &**side
            && let Some(number) = decimal_of(text)
        {
            **side = lit(number);
            changed = true;
        }
    }
    changed
}

fn results(case: &mut Case) -> Vec<&mut Expr> {
    let then = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    then.chain(case.else_expr.as_deref_mut()).collect()
}

/// What an arrow finds is a number where it meets one, true or false where it meets these, and NULL if it is none; where it meets
/// something else it is its text, without quotes. Gives whether anything changed.
fn of_json(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let kinds = sides.iter().filter(|side| found_or_its_text(side).is_none()).map(|side| side.get_type(schema));
    let Ok(kinds) = kinds.collect::<Result<Vec<DataType>>>() else { return false };
    let are_all = |of: fn(&DataType) -> bool| !kinds.is_empty() && kinds.iter().all(of);
    let (is_number, is_boolean) = (are_all(DataType::is_numeric), are_all(|kind| *kind == DataType::Boolean));
    // Doubles tell integers apart up to 2^53.
    let is_long = |side: &&mut Expr| match &**side {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => number.unsigned_abs() >= 1 << 53,
        Expr::Literal(ScalarValue::UInt64(Some(number)), _) => *number >= 1 << 53,
        _ => false,
    };
    let kind = match sides.iter().any(is_long) {
        true => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
        false => DataType::Float64,
    };
    let mut changed = false;
    for side in &mut *sides {
        let args = if is_number || is_boolean { found_or_its_text(side) } else { found(side) };
        let Some(args) = args.cloned() else { continue };
        **side = match (is_number, is_boolean) {
            (true, _) => try_cast(json_as_text_udf().call(args), kind.clone()),
            (_, true) => json_get_bool_udf().call(args),
            _ => json_as_text_udf().call(args),
        };
        changed = true;
    }
    let is_decimal = |kind: Result<DataType>| matches!(kind, Ok(DataType::Decimal128(..)));
    if changed && kind == DataType::Float64 {
        for side in sides {
            if is_decimal(side.get_type(schema)) {
                **side = cast(side.clone(), DataType::Float64);
            }
        }
    }
    changed
}

/// What an arrow finds as a value of a type: NULL where it is none of it, as the functions for JSON have it.
fn as_value(found: &[Expr], to: &DataType) -> Option<Expr> {
    let func = match to {
        DataType::Boolean => json_get_bool_udf(),
        DataType::Float32 | DataType::Float64 => json_get_float_udf(),
        kind if kind.is_integer() => json_get_int_udf(),
        kind if kind.is_string() || kind.is_decimal() => json_as_text_udf(),
        _ => return None,
    };
    Some(func.call(found.to_vec()))
}

/// Makes decimals and doubles that meet alike: a double that is written is the decimal that is written; and other ones meet as
/// doubles, where DataFusion makes decimals of 15 places of all. Gives whether anything changed.
fn alike(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let kinds: Vec<DataType> = sides.iter().filter_map(|side| side.get_type(schema).ok()).collect();
    let (mut floats, mut room, mut is_written) = (0, None, true);
    for (side, kind) in sides.iter().zip(&kinds) {
        let decimal = match kind {
            DataType::Float32 | DataType::Float64 => {
                floats += 1;
                let decimal = written(side).map(|decimal| decimal.data_type());
                is_written &= decimal.is_some();
                decimal
            }
            kind => Some(kind.clone()),
        };
        if let Some(DataType::Decimal128(digits, scale)) = decimal {
            let (whole, places) = (i16::from(digits) - i16::from(scale), i16::from(scale));
            let (most_whole, most_places) = room.unwrap_or((whole, places));
            room = Some((whole.max(most_whole), places.max(most_places)));
        }
    }
    let is_decimal = |kind: &DataType| matches!(kind, DataType::Decimal128(..));
    if kinds.len() < sides.len() || floats == 0 || !kinds.iter().any(is_decimal) {
        return false;
    }
    let fits = room.is_some_and(|(whole, places)| whole + places <= i16::from(DECIMAL128_MAX_PRECISION));
    for (side, kind) in sides.iter_mut().zip(&kinds) {
        match written(side) {
            Some(decimal) if is_written && fits => **side = lit(decimal),
            _ if is_decimal(kind) && !(is_written && fits) => **side = cast(side.clone(), DataType::Float64),
            _ => {}
        }
    }
    true
}

/// A double that stands in a statement, as the decimal that was written.
fn written(side: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::Float64(Some(value)), _) = side else { return None };
    if !value.is_finite() {
        return None;
    }
    // The shortest text that is this double is what was written, up to the digits that a double keeps.
    decimal_of(&value.to_string())
}

/// A number without an exponent, with the places that it is written with.
fn decimal_of(text: &str) -> Option<ScalarValue> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = format!("{whole}{fraction}").parse::<i128>().ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    let digits = u8::try_from(number.unsigned_abs().to_string().len().max(fraction.len())).ok()?;
    (digits <= DECIMAL128_MAX_PRECISION).then_some(ScalarValue::Decimal128(Some(number), digits, scale))
}

/// Whether a cast makes one value of many: DataFusion compares what is in it with a value in its place.
fn loses_digits(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    match (expr.get_type(schema), to) {
        (Ok(DataType::Decimal128(..)), to) if to.is_integer() => true,
        (Ok(DataType::Decimal128(_, scale)), DataType::Decimal128(_, fewer)) => *fewer < scale,
        _ => false,
    }
}

/// The name of [`Shortened`].
pub(crate) const SHORTENED: &str = "shortened";

/// A decimal with fewer places, as CAST and TRY_CAST give it, that no optimizer takes for another cast.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Shortened {
    to: DataType,
    or_null: bool,
    signature: Signature,
}

impl Shortened {
    fn function(to: DataType, or_null: bool) -> ScalarUDF {
        ScalarUDF::from(Self { to, or_null, signature: Signature::any(1, Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Shortened {
    fn name(&self) -> &str {
        SHORTENED
    }

    /// As that of a cast.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|decimal| decimal.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = self.or_null || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(SHORTENED, self.to.clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [decimal] = arguments.args.as_slice() else { return exec_err!("{SHORTENED} takes one decimal") };
        let options = CastOptions { safe: self.or_null, ..CastOptions::default() };
        decimal.cast_to(&self.to, Some(&options))
    }
}

#[cfg(test)]
mod tests {
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
