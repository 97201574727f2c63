//! What a statement means where the parser reads it otherwise: `->` and `->>` take the path next to them, as in SQLite, and not all
//! that is compared with it; an integer of more than 64 bits is exact.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Value, VisitMut, VisitorMut,
};

/// The most digits of a decimal.
const MOST_DIGITS: usize = 38;

/// Puts that right. A second time changes nothing.
pub(crate) fn put_right(parsed: &mut impl VisitMut) {
    _ = parsed.visit(&mut PutRight);
}

struct PutRight;

impl VisitorMut for PutRight {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { op, .. } if is_arrow(op) => bind(expr),
            Expr::Value(value) => {
                if let Value::Number(text, _) = &value.value
                    && let Some(exact) = exact(text)
                {
                    *expr = exact;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_arrow(op: &BinaryOperator) -> bool {
    use BinaryOperator::{Arrow, HashArrow, HashLongArrow, LongArrow};
    matches!(op, Arrow | LongArrow | HashArrow | HashLongArrow)
}

/// Makes of `a = b -> (c = d)` what was meant, `a = (b -> c) = d`. What is in parentheses stays: it is another node.
fn bind(expr: &mut Expr) {
    let Expr::BinaryOp { left, op, right } = std::mem::replace(expr, nothing()) else { return };
    let (mut left, mut right) = (*left, *right);
    let mut arrow = Expr::BinaryOp { left: Box::new(nothing()), op, right: Box::new(nothing()) };
    let of = std::mem::replace(last(&mut left), nothing());
    let path = std::mem::replace(first(&mut right), nothing());
    let is_bound = left == nothing() && right == nothing();
    if let Expr::BinaryOp { left, right, .. } = &mut arrow {
        (**left, **right) = (of, path);
    }
    // A model's text is written again from this, and has to say it.
    *last(&mut left) = if is_bound { arrow } else { Expr::Nested(Box::new(arrow)) };
    *first(&mut right) = left;
    *expr = right;
}

/// Stands for an expression that is elsewhere for now. It is a text, of which nothing is computed.
fn nothing() -> Expr {
    Expr::Value(Value::SingleQuotedString(String::new()).into())
}

/// The operand at the end of an expression.
fn last(expr: &mut Expr) -> &mut Expr {
    let is_operand = match &*expr {
        Expr::BinaryOp { op, .. } => is_arrow(op),
        Expr::Like { .. } | Expr::ILike { .. } => false,
        _ => true,
    };
    match expr {
        expr if is_operand => expr,
        Expr::BinaryOp { right, .. } => last(right),
        Expr::Like { pattern, .. } | Expr::ILike { pattern, .. } => last(pattern),
        other => other,
    }
}

/// The operand at the beginning of an expression.
fn first(expr: &mut Expr) -> &mut Expr {
    if is_computed(expr) {
        return expr;
    }
    match expr {
        Expr::BinaryOp { left, .. } => first(left),
        Expr::IsNull(of)
        | Expr::IsNotNull(of)
        | Expr::IsTrue(of)
        | Expr::IsNotTrue(of)
        | Expr::IsFalse(of)
        | Expr::IsNotFalse(of)
        | Expr::IsUnknown(of)
        | Expr::IsNotUnknown(of)
        | Expr::IsDistinctFrom(of, _)
        | Expr::IsNotDistinctFrom(of, _) => first(of),
        Expr::InList { expr, .. }
        | Expr::InSubquery { expr, .. }
        | Expr::InUnnest { expr, .. }
        | Expr::Between { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::ILike { expr, .. }
        | Expr::SimilarTo { expr, .. }
        | Expr::RLike { expr, .. } => first(expr),
        Expr::AnyOp { left, .. } | Expr::AllOp { left, .. } => first(left),
        operand => operand,
    }
}

/// Whether a path is computed, as in `d -> i - 1`: of a text nothing is.
fn is_computed(expr: &Expr) -> bool {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    let Expr::BinaryOp { left, op: Plus | Minus | Multiply | Divide | Modulo, .. } = expr else { return false };
    match left.as_ref() {
        Expr::BinaryOp { .. } => is_computed(left),
        Expr::Value(value) => !matches!(value.value, Value::SingleQuotedString(_)),
        _ => true,
    }
}

/// An integer as a decimal, where it has no place in 64 bits: a double would not keep it.
fn exact(text: &str) -> Option<Expr> {
    let digits = text.trim_start_matches('0').len();
    let is_integer = text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_integer || digits > MOST_DIGITS || text.parse::<u64>().is_ok() {
        return None;
    }
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(text.to_owned()).into())),
        data_type: DataType::Decimal(ExactNumberInfo::PrecisionAndScale(digits as u64, 0)),
        array: false,
        format: None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn read(sql: &str) -> Statement {
        Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0)
    }

    /// Without parentheses, the statement is that with them.
    #[test]
    fn an_arrow_takes_what_is_next_to_it() {
        for (written, meant) in [
            ("d ->> 'a' = 'x'", "(d ->> 'a') = 'x'"),
            ("'x' = d ->> 'a'", "'x' = (d ->> 'a')"),
            ("d ->> 'a' = d ->> 'b'", "(d ->> 'a') = (d ->> 'b')"),
            ("d -> 'a' ->> 'b' = d -> 'c' ->> 'd' AND x", "(d -> 'a' ->> 'b') = (d -> 'c' ->> 'd') AND x"),
            ("d ->> 'a' || 'x' <> 'y'", "(d ->> 'a') || 'x' <> 'y'"),
            ("'x' || d ->> 'a'", "'x' || (d ->> 'a')"),
            ("d -> 'n' + 1 > 2 * d -> 'm'", "(d -> 'n') + 1 > 2 * (d -> 'm')"),
            (
                "NOT d ->> 'a' IS NULL OR d ->> 'b' IN ('x', 'y')",
                "NOT (d ->> 'a') IS NULL OR (d ->> 'b') IN ('x', 'y')",
            ),
            ("d ->> 'a' LIKE d ->> 'b'", "(d ->> 'a') LIKE (d ->> 'b')"),
            ("d ->> 'a' NOT BETWEEN 'b' AND 'c'", "(d ->> 'a') NOT BETWEEN 'b' AND 'c'"),
            ("CASE WHEN d ->> 'a' = 'x' THEN d ->> 'b' END", "CASE WHEN (d ->> 'a') = 'x' THEN d ->> 'b' END"),
            ("d ->> ('a' || 'b') = 'x'", "(d ->> ('a' || 'b')) = 'x'"),
            ("d -> i - 1 = 2", "(d -> (i - 1)) = 2"),
            ("f(d ->> 'a' = 'x', d -> 0 -> 1)", "f((d ->> 'a') = 'x', d -> 0 -> 1)"),
        ] {
            let mut put = read(&format!("SELECT * FROM t WHERE {written}"));
            put_right(&mut put);
            assert_eq!(tree(&put), tree(&read(&format!("SELECT * FROM t WHERE {meant}"))), "{written}");
            let once = put.clone();
            put_right(&mut put);
            assert_eq!(put, once, "{written}");
        }
    }

    /// A statement with parentheses around every operator.
    fn tree(statement: &Statement) -> String {
        struct Parenthesize;
        impl VisitorMut for Parenthesize {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
                *expr = match std::mem::replace(expr, nothing()) {
                    Expr::Nested(of) => *of,
                    operand @ (Expr::Value(_) | Expr::Identifier(_)) => operand,
                    other => Expr::Nested(Box::new(other)),
                };
                ControlFlow::Continue(())
            }
        }
        let mut statement = statement.clone();
        _ = statement.visit(&mut Parenthesize);
        statement.to_string()
    }

    #[test]
    fn a_long_number_is_exact() {
        for (text, exact) in [
            ("129.99", None),
            ("1234567890123456789", None),
            ("18446744073709551615", None),
            ("18446744073709551616", Some("CAST('18446744073709551616' AS DECIMAL(20,0))")),
            ("0.12345678901234567890123", None),
            ("1e400", None),
            ("123456789012345678901234567890123456789", None),
        ] {
            let mut statement = read(&format!("SELECT {text}"));
            put_right(&mut statement);
            assert_eq!(statement.to_string(), format!("SELECT {}", exact.unwrap_or(text)));
        }
    }
}
