//! `->` and `->>`: what they find in JSON, and what that is where it meets a value of another type.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, cast, try_cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use datafusion_functions_json::udfs::{
    json_as_text_udf, json_get_bool_udf, json_get_float_udf, json_get_int_udf, json_get_json_udf,
};

/// `->` gives the text of JSON, as in PostgreSQL and DuckDB, where the functions' own gives a union that few clients take, and that
/// compares with an integer what is an integer alone.
pub(super) fn arrow(op: &BinaryOperator, left: &Expr, right: &Expr) -> Option<Expr> {
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
pub(super) fn found(expr: &Expr) -> Option<&Vec<Expr>> {
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

/// What an arrow finds, as text: of a null it is none.
pub(super) fn text_of(expr: &Expr) -> Option<Expr> {
    found(expr).map(|args| json_as_text_udf().call(args.clone()))
}

/// What an arrow finds is a number where it meets one, true or false where it meets these, and NULL if it is none; where it meets
/// something else it is its text, without quotes. Gives whether anything changed.
pub(super) fn of_json(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
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
pub(super) fn as_value(found: &[Expr], to: &DataType) -> Option<Expr> {
    let func = match to {
        DataType::Boolean => json_get_bool_udf(),
        DataType::Float32 | DataType::Float64 => json_get_float_udf(),
        kind if kind.is_integer() => json_get_int_udf(),
        kind if kind.is_string() || kind.is_decimal() => json_as_text_udf(),
        _ => return None,
    };
    Some(func.call(found.to_vec()))
}
