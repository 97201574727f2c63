//! Checks that keep rows out: a model is its query with a condition above it, as HAVING is above a GROUP BY, and what it
//! quarantines is a table of the same query with the condition turned round.
//!
//! ```sql
//! -- check: not_null(day)  drop
//! -- check: revenue >= 0   quarantine
//! SELECT day, sum(amount) AS revenue FROM silver.orders GROUP BY day
//! ```
//! is `gold.revenue` of the days with a revenue of at least 0, or of none that is known, and `gold.revenue_quarantine` of the others,
//! each with the checks that it fails.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::{Expr as DataFusionExpr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query, UnaryOperator, Visit,
    Visitor,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::Model;
use crate::checks::Severity;
use crate::error::{Error, type_name};
use crate::quoting::{literal, quoted};
use crate::sql::conditions::is_comparison;
use crate::sql::grammar::put_right;

/// The column of a quarantine that has the checks which a row fails.
pub(crate) const FAILED: &str = "failed_checks";

/// What stands between two of them.
pub(crate) const BETWEEN: &str = "; ";

/// What is wrong with a check: one sentence, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Wrong {
    pub(crate) fn new(message: String, hint: impl Into<String>) -> Self {
        Self { message, hint: hint.into() }
    }
}

/// A check that is asked of each row by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowCheck {
    /// As the header has it.
    written: String,
    /// As it is told, whatever its layout was.
    pub(crate) label: String,
    /// Conditions of which none may be false; of all rows, for they only compare.
    sure: Vec<String>,
    /// The same, that may fail: of those rows only that all that is sure lets pass.
    others: Vec<String>,
}

impl RowCheck {
    /// Reads `not_null(a, b)`, or a condition over the columns of a row.
    ///
    /// # Errors
    /// [`Wrong`] for what is neither.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let columns = "write not_null(…), or a condition over the columns of the model";
        let unread = |error: ParserError| Wrong::new(format!("'{text}' cannot be read: {error}"), columns);
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).map_err(unread)?;
        let mut condition = parser.parse_expr().map_err(unread)?;
        parser.expect_token(&Token::EOF).map_err(unread)?;
        if condition.visit(&mut OfOneRow).is_break() {
            let hint = "a check that drops or quarantines is one over the row's own columns; others warn or fail";
            return Err(Wrong::new(format!("'{text}' reads more than its row"), hint));
        }
        let label = condition.to_string();
        put_right(&mut condition);
        let conditions = match not_null(&condition) {
            Some(arguments) if arguments.is_empty() => {
                return Err(Wrong::new("not_null() names no column".to_owned(), columns));
            }
            Some(arguments) => arguments.into_iter().map(|of| Expr::IsNotNull(Box::new(of))).collect(),
            None => conjuncts(condition),
        };
        let (sure, others): (Vec<_>, Vec<_>) = conditions.into_iter().partition(only_compares);
        let written = |of: Vec<Expr>| of.iter().map(|condition| format!("({condition})")).collect();
        Ok(Self { written: text.to_owned(), label, sure: written(sure), others: written(others) })
    }

    /// Whether a row fails one of some conditions.
    fn fails(conditions: &[String]) -> String {
        conditions.iter().map(|condition| format!("{condition} IS FALSE")).collect::<Vec<_>>().join(" OR ")
    }
}

/// The arguments of `not_null(…)`.
fn not_null(condition: &Expr) -> Option<Vec<Expr>> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = condition else { return None };
    if !name.to_string().eq_ignore_ascii_case("not_null") {
        return None;
    }
    let argument = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) => Some(Expr::Nested(Box::new(of.clone()))),
        _ => None,
    };
    list.args.iter().map(argument).collect()
}

/// What stands between the ANDs of a condition, which is false where one of them is.
fn conjuncts(condition: Expr) -> Vec<Expr> {
    match condition {
        Expr::Nested(inner) => conjuncts(*inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => [conjuncts(*left), conjuncts(*right)].concat(),
        other => vec![other],
    }
}

/// Whether a condition only compares columns and values, which no row makes fail.
fn only_compares(condition: &Expr) -> bool {
    use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
    match condition {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::Nested(of)
        | Expr::IsNull(of)
        | Expr::IsNotNull(of)
        | Expr::IsTrue(of)
        | Expr::IsNotTrue(of)
        | Expr::IsFalse(of)
        | Expr::IsNotFalse(of)
        | Expr::UnaryOp { op: UnaryOperator::Not, expr: of } => only_compares(of),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => matches!(**expr, Expr::Value(_)),
        Expr::BinaryOp { left, op: And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq, right }
        | Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right)
        | Expr::Like { expr: left, pattern: right, .. }
        | Expr::ILike { expr: left, pattern: right, .. } => only_compares(left) && only_compares(right),
        Expr::Between { expr, low, high, .. } => [expr, low, high].into_iter().all(|of| only_compares(of)),
        Expr::InList { expr, list, .. } => only_compares(expr) && list.iter().all(only_compares),
        _ => false,
    }
}

/// Breaks at what reads other rows than the one that is asked.
struct OfOneRow;

impl Visitor for OfOneRow {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase();
        let is_aggregate = |name: &String| {
            let mut aggregates = all_default_aggregate_functions().into_iter();
            aggregates.any(|function| function.name() == name || function.aliases().contains(name))
        };
        match function.over.is_some() || is_aggregate(&name) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// A model without the rows that its checks keep out; and the table of those that it quarantines, if it does that.
pub(super) fn apart(whole: Model) -> (Model, Option<Model>) {
    let checks: Vec<(&RowCheck, Severity)> =
        whole.checks.iter().filter_map(|check| Some((check.of_rows.as_ref()?, check.severity))).collect();
    if checks.is_empty() {
        return (whole, None);
    }
    let quarantines = checks.iter().any(|(_, severity)| *severity == Severity::Quarantine);
    let quarantine = quarantines.then(|| Model {
        name: whole.name.quarantine(),
        description: Some(format!("Rows that checks keep out of {}, each with those that it fails.", whole.name)),
        checks: Vec::new(),
        query: kept_out(&whole, &checks),
        ..whole.clone()
    });
    let kept = Model { query: kept(&whole, &checks), ..whole };
    (kept, quarantine)
}

/// The rows that pass every check. What is sure may be pushed to where the rows come from; what may fail is asked behind it, by a CASE
/// as in [`kept_out`].
fn kept(whole: &Model, checks: &[(&RowCheck, Severity)]) -> String {
    let of = |conditions: fn(&RowCheck) -> &[String]| {
        checks.iter().flat_map(|(check, _)| conditions(check).to_vec()).collect::<Vec<String>>()
    };
    let (sure, others) = (of(|check| &check.sure), of(|check| &check.others));
    let mut passed: Vec<String> = sure.iter().map(|condition| format!("{condition} IS NOT FALSE")).collect();
    match others.as_slice() {
        [] => {}
        [only] if sure.is_empty() => passed.push(format!("{only} IS NOT FALSE")),
        others => {
            let first = Some(RowCheck::fails(&sure)).filter(|fails| !fails.is_empty());
            let each = others.iter().map(|other| format!("{other} IS FALSE"));
            let arms = first.into_iter().chain(each).map(|fails| format!("WHEN {fails} THEN 'fails'"));
            passed.push(format!("length(CASE {} END) IS NULL", arms.collect::<Vec<_>>().join(" ")));
        }
    }
    format!("SELECT * FROM ({}) AS {} WHERE {}", whole.query, quoted(&whole.name.name), passed.join(" AND "))
}

/// The rows that a check quarantines, each with those that it fails. What is asked first decides: what is sure, then what may fail,
/// and of the sure ones those that drop. CASE asks nothing of a row that it has an answer for; compared with a text, the
/// optimizer would make conditions of it that are asked of all rows.
fn kept_out(whole: &Model, checks: &[(&RowCheck, Severity)]) -> String {
    let sure = |of: Severity| {
        let checks = checks.iter().filter(move |(check, severity)| *severity == of && !check.sure.is_empty());
        checks.map(|(check, _)| (RowCheck::fails(&check.sure), literal(&check.label)))
    };
    let any = |fail: Vec<(String, String)>| fail.into_iter().map(|(fails, _)| fails).collect::<Vec<_>>().join(" OR ");
    let (dropped, quarantined) = (any(sure(Severity::Drop).collect()), any(sure(Severity::Quarantine).collect()));
    let each = sure(Severity::Quarantine).map(|(fails, label)| format!("CASE WHEN {fails} THEN {label} END"));
    let labels = format!("concat_ws({}, {})", literal(BETWEEN), each.collect::<Vec<_>>().join(", "));
    let of_sure = [(dropped, literal("")), (quarantined, labels)].into_iter().filter(|(fails, _)| !fails.is_empty());
    let of_others = checks.iter().filter(|(check, _)| !check.others.is_empty()).map(|(check, severity)| {
        let label = if *severity == Severity::Drop { "" } else { &check.label };
        // One after the other: the first may be what keeps the next from failing.
        let each = check.others.iter().map(|other| format!("{other} IS FALSE"));
        (each.collect::<Vec<_>>(), literal(label))
    });
    let mut arms: Vec<String> = of_sure.map(|(fails, then)| format!("WHEN {fails} THEN {then}")).collect();
    for (each, then) in of_others {
        arms.extend(each.into_iter().map(|fails| format!("WHEN {fails} THEN {then}")));
    }
    format!(
        "SELECT * FROM (SELECT *, CASE {} END AS {FAILED} FROM ({}) AS {}) AS {} WHERE length({FAILED}) > 0",
        arms.join(" "),
        whole.query,
        quoted(&whole.name.name),
        quoted(&whole.name.quarantine().name),
    )
}

/// What is wrong with the checks of a model that has these columns: a condition that is neither true nor false, or a column that its
/// quarantine has already.
pub(crate) fn wrong_in(model: &Model, state: &SessionState, columns: &DFSchema) -> Option<Error> {
    let wrong = |line: &str, message: String, hint: &str| {
        let line = model.line_of(line).unwrap_or(1);
        Some(Error::Model { path: model.path.clone(), line, message, hint: Some(hint.to_owned()) })
    };
    for check in &model.checks {
        let Some(of_rows) = &check.of_rows else { continue };
        if check.severity == Severity::Quarantine && columns.has_column_with_unqualified_name(FAILED) {
            let message = format!("'{FAILED}' is the column in which its quarantine has what a row fails");
            return wrong(FAILED, message, "give the model's column another name: AS");
        }
        let sure = of_rows.sure.iter().map(|condition| (condition, true));
        for (condition, is_sure) in sure.chain(of_rows.others.iter().map(|condition| (condition, false))) {
            // What has no type before its parts are brought to one is told of then.
            let Ok(planned) = state.create_logical_expr(condition, columns) else { continue };
            if let Some((text, other)) = is_sure.then(|| text_beside_another(&planned, columns)).flatten() {
                let message = format!("the check '{}' compares {text}, a text, with {other}", of_rows.label);
                let hint = "write the CAST, as in CAST(code AS BIGINT) > 0: what is no number fails, and a check before it can drop that";
                return wrong(&of_rows.written, message, hint);
            }
            let Ok(kind) = planned.get_type(columns) else { continue };
            if !matches!(kind, DataType::Boolean | DataType::Null) {
                let (label, kind) = (&of_rows.label, type_name(&kind));
                let message = format!("the check '{label}' is {kind}, and is to be true or false");
                return wrong(&of_rows.written, message, "write a condition, as in revenue >= 0, or not_null(revenue)");
            }
        }
    }
    None
}

/// A text that is compared with what is none, and is no constant: to compare them each row's is cast, which may fail.
fn text_beside_another(condition: &DataFusionExpr, columns: &DFSchema) -> Option<(String, String)> {
    let is_text = |of: &DataFusionExpr| of.get_type(columns).is_ok_and(|kind| kind.is_string());
    let is_null = |of: &DataFusionExpr| of.get_type(columns).is_ok_and(|kind| kind.is_null());
    let differ = |one: &DataFusionExpr, other: &DataFusionExpr| {
        let casts = is_text(one) && !matches!(one, DataFusionExpr::Literal(..)) && !is_text(other) && !is_null(other);
        let named = |of: &DataFusionExpr| match of {
            DataFusionExpr::Column(column) => column.name.clone(),
            other => other.human_display().to_string(),
        };
        casts.then(|| (named(one), named(other)))
    };
    let either = |one: &DataFusionExpr, other: &DataFusionExpr| differ(one, other).or_else(|| differ(other, one));
    let mut found = None;
    let walked = condition.apply(|expr| {
        let of = match expr {
            DataFusionExpr::BinaryExpr(binary) if is_comparison(binary.op) => either(&binary.left, &binary.right),
            DataFusionExpr::Between(between) => {
                either(&between.expr, &between.low).or_else(|| either(&between.expr, &between.high))
            }
            DataFusionExpr::InList(list) => list.list.iter().find_map(|one| either(&list.expr, one)),
            _ => None,
        };
        found = of;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.ok().and(found)
}

/// Why there is no room for a quarantine: another model has its name.
pub(super) fn taken(quarantine: &Model) -> Error {
    let (path, line) = (quarantine.path.clone(), quarantine.line_of("quarantine").unwrap_or(1));
    let message = format!("its quarantine is called {}, and so is a model", quarantine.name);
    Error::Model { path, line, message, hint: Some("give one of the two models another name".to_owned()) }
}
