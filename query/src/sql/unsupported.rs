//! What SQL's grammar has and the planner passes over without a word, or with the wrong rows: it is refused before it is planned. So
//! are calls in each other whose planning takes twice as long with each one more.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause, Query, Select, SelectFlavor,
    SetExpr, SetOperator, SetQuantifier, Statement, TableFactor, TableWithJoins, Visit, Visitor,
};

use crate::sql::expansion::refuse_expanding;
use crate::sql::total_order::Refused;

/// So many calls of `coalesce`, or arrows into JSON, may be in each other: 65,536 times the work of one.
const MOST_IN_EACH_OTHER: usize = 16;

/// Of these a sample is no function of the table either.
const SAMPLE: &str = "TABLESAMPLE";

/// # Errors
/// [`Refused`], with the reason.
pub(crate) fn refuse_unsupported(statement: &Statement) -> Result<(), Refused> {
    refuse_expanding(statement)?;
    match statement.visit(&mut Looking { in_each_other: 0, exists: false }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refused) => Err(refused),
    }
}

/// Whether a statement would write, also where the planner knows nothing of it, or refuses first what it is given.
pub(crate) fn writes(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)
            | Statement::Truncate(_)
            | Statement::Copy { .. }
            | Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreateIndex(_)
            | Statement::CreateSchema { .. }
            | Statement::CreateDatabase { .. }
            | Statement::CreateFunction(_)
            | Statement::CreateRole(_)
            | Statement::CreateUser(_)
            | Statement::CreatePolicy(_)
            | Statement::AlterTable(_)
            | Statement::AlterSchema(_)
            | Statement::AlterView { .. }
            | Statement::AlterRole { .. }
            | Statement::AlterUser(_)
            | Statement::AlterPolicy(_)
            | Statement::Drop { .. }
            | Statement::DropFunction(_)
            | Statement::DropPolicy(_)
            | Statement::Comment { .. }
            | Statement::Grant(_)
            | Statement::Revoke(_)
            | Statement::Vacuum(_)
            | Statement::Lock(_)
            | Statement::LockTables { .. }
    )
}

struct Looking {
    in_each_other: usize,
    /// The next SELECT is that of an EXISTS, which may be without columns.
    exists: bool,
}

impl Visitor for Looking {
    type Break = Refused;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refused> {
        let passed_over = [
            (!query.locks.is_empty(), "FOR", "leave it out: a table does not change while it is read"),
            (query.for_clause.is_some(), "FOR", "another form is asked of the client, or with -o"),
            (query.settings.is_some(), "SETTINGS", "limits are settings of lakebed.toml"),
            (query.format_clause.is_some(), "FORMAT", "another form is asked of the client, or with -o"),
            (limits_by(query), "LIMIT … BY", "number the rows: row_number() OVER (PARTITION BY …), and keep the first"),
        ];
        refuse(passed_over)?;
        let mut waiting = vec![query.body.as_ref()];
        while let Some(set) = waiting.pop() {
            let SetExpr::SetOperation { op, set_quantifier, left, right } = set else { continue };
            let counts = *set_quantifier == SetQuantifier::All;
            let hint = "number equal rows with row_number() OVER (PARTITION BY …), and compare with the number";
            refuse([
                (counts && *op == SetOperator::Except, "EXCEPT ALL", hint),
                (counts && *op == SetOperator::Intersect, "INTERSECT ALL", hint),
            ])?;
            waiting.extend([left.as_ref(), right.as_ref()]);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refused> {
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        let needs_columns = !std::mem::take(&mut self.exists);
        let has_no_columns =
            needs_columns && (select.projection.is_empty() || select.flavor == SelectFlavor::FromFirstNoSelect);
        refuse([
            (has_no_columns, "FROM without columns", "write SELECT * FROM …"),
            (select.prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY", "write WITH RECURSIVE"),
            (!modifiers.is_empty(), "GROUP BY … WITH", "write GROUP BY ROLLUP (…) or CUBE (…)"),
            (!select.sort_by.is_empty(), "SORT BY", "write ORDER BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY", "write ORDER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY", "leave it out"),
        ])?;
        select.from.iter().try_for_each(refuse_joined_keys)
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Refused> {
        let by_value = "keep a part of the rows by a value of theirs: WHERE md5(event_id) < '1' is one in sixteen";
        match table {
            TableFactor::Table { with_hints, partitions, index_hints, sample, .. } => refuse([
                (sample.is_some(), SAMPLE, by_value),
                (!partitions.is_empty(), "PARTITION", "write WHERE"),
                (!with_hints.is_empty() || !index_hints.is_empty(), "a table's hints", "leave them out"),
            ]),
            TableFactor::NestedJoin { table_with_joins, .. } => refuse_joined_keys(table_with_joins),
            TableFactor::Derived { sample, .. } => refuse([(sample.is_some(), SAMPLE, by_value)]),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refused> {
        self.exists = matches!(expr, Expr::Exists { .. });
        self.in_each_other += usize::from(takes_twice_as_long(expr));
        match self.in_each_other > MOST_IN_EACH_OTHER {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(Refused {
                word: "coalesce".to_owned(),
                message: format!("more than {MOST_IN_EACH_OTHER} calls of coalesce, or -> and ->>, are in each other"),
                hint: "give coalesce more arguments, or take the value apart in a subquery".to_owned(),
            }),
        }
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refused> {
        self.in_each_other -= usize::from(takes_twice_as_long(expr));
        ControlFlow::Continue(())
    }
}

/// The key of a row that is of the right side alone is the left side's to the planner, which has none.
fn refuse_joined_keys(tables: &TableWithJoins) -> ControlFlow<Refused> {
    let keeps_right = |join: &Join| match &join.join_operator {
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) | JoinOperator::FullOuter(on) => {
            matches!(on, JoinConstraint::Using(_) | JoinConstraint::Natural)
        }
        _ => false,
    };
    refuse([(
        tables.joins.iter().any(keeps_right),
        "RIGHT or FULL JOIN with USING, or NATURAL",
        "write ON a.key = b.key, and coalesce(a.key, b.key) for the key of both",
    )])
}

fn refuse<const N: usize>(passed_over: [(bool, &'static str, &'static str); N]) -> ControlFlow<Refused> {
    match passed_over.into_iter().find(|(is_there, ..)| *is_there) {
        None => ControlFlow::Continue(()),
        Some((_, word, hint)) => {
            let why = if word == SAMPLE { "takes any rows" } else { "is not answered here" };
            ControlFlow::Break(Refused {
                word: word.to_owned(),
                message: format!("{word} {why}"),
                hint: hint.to_owned(),
            })
        }
    }
}

fn limits_by(query: &Query) -> bool {
    matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty())
}

fn takes_twice_as_long(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryOp { op, .. } => matches!(op, BinaryOperator::Arrow | BinaryOperator::LongArrow),
        Expr::Function(call) => {
            let name = call.name.to_string();
            ["coalesce", "nvl", "ifnull"].iter().any(|known| name.eq_ignore_ascii_case(known))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn refused(sql: &str) -> Option<String> {
        let statements = Parser::parse_sql(&GenericDialect {}, sql).unwrap();
        refuse_unsupported(&statements[0]).err().map(|refused| refused.word)
    }

    #[test]
    fn what_would_be_passed_over_is_refused_wherever_it_is() {
        let wrong = [
            ("SELECT a FROM t PREWHERE a > 1", "PREWHERE"),
            ("SELECT a, count(*) FROM t GROUP BY a WITH ROLLUP", "GROUP BY … WITH"),
            ("SELECT count(*) FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
            ("SELECT x FROM (SELECT * FROM silver.plain TABLESAMPLE BERNOULLI (10))", "TABLESAMPLE"),
            ("SELECT a FROM t WHERE a IN (SELECT a FROM u EXCEPT ALL SELECT a FROM v)", "EXCEPT ALL"),
            ("WITH x AS (SELECT 1 INTERSECT ALL SELECT 1) SELECT * FROM x", "INTERSECT ALL"),
            ("SELECT 1 UNION ALL (SELECT 2 UNION ALL SELECT 3 EXCEPT ALL SELECT 4)", "EXCEPT ALL"),
            ("SELECT a FROM t FOR UPDATE", "FOR"),
            ("FROM t", "FROM without columns"),
            ("SELECT FROM t", "FROM without columns"),
            ("SELECT a FROM t LIMIT 1 BY a", "LIMIT … BY"),
            ("SELECT a FROM t PARTITION (p)", "PARTITION"),
            ("SELECT a, b FROM t FULL JOIN u USING (a)", "RIGHT or FULL JOIN with USING, or NATURAL"),
            ("SELECT a FROM (t RIGHT JOIN u USING (a))", "RIGHT or FULL JOIN with USING, or NATURAL"),
            ("SELECT a FROM v JOIN t USING (a) NATURAL FULL JOIN u", "RIGHT or FULL JOIN with USING, or NATURAL"),
        ];
        for (sql, word) in wrong {
            assert_eq!(refused(sql).as_deref(), Some(word), "{sql}");
        }
        let right = [
            "SELECT x FROM silver.plain",
            "FROM t SELECT a",
            "SELECT a FROM t LEFT JOIN u USING (a)",
            "SELECT coalesce(t.a, u.a) FROM t FULL JOIN u ON t.a = u.a",
            "SELECT a FROM t WHERE EXISTS (SELECT FROM u WHERE u.a = t.a)",
            "SELECT count(*) FROM t GROUP BY ROLLUP (a)",
            "SELECT a FROM t EXCEPT SELECT a FROM u INTERSECT SELECT 1 UNION ALL SELECT 2",
            "SELECT a FROM t ORDER BY a LIMIT 3 OFFSET 2",
        ];
        for sql in right {
            assert_eq!(refused(sql), None, "{sql}");
        }
    }

    #[test]
    fn calls_in_each_other_are_counted_and_calls_beside_each_other_are_not() {
        let nested = |count| (0..count).fold("a".to_owned(), |inner, _| format!("coalesce({inner}, b)"));
        let arrows = |count| format!("SELECT d {} FROM t", "-> 'a' ".repeat(count));
        for sql in
            [format!("SELECT {} FROM t", nested(16)), arrows(16), format!("SELECT {}", ["a -> 'b'"; 99].join(", "))]
        {
            assert_eq!(refused(&sql), None, "{sql}");
        }
        for sql in [format!("SELECT {} FROM t", nested(17)), arrows(17), arrows(400)] {
            assert_eq!(refused(&sql).as_deref(), Some("coalesce"), "{sql}");
        }
    }
}
