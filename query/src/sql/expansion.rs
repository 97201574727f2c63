//! How many tables a statement comes to once what it names by WITH stands wherever it is named. Each of a hundred names that joins
//! the one before with itself doubles the plan, and no limit on time or memory interrupts who plans.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Statement, Visit, Visitor};

use crate::sql::total_order::Refused;

/// The most tables of a statement.
const MOST_TABLES: u64 = 1_000;

/// # Errors
/// [`Refused`], for a statement of more.
pub(crate) fn refuse_expanding(statement: &Statement) -> Result<(), Refused> {
    let mut counting = Counting { scopes: vec![Scope::default()] };
    _ = statement.visit(&mut counting);
    let tables = counting.scopes.first().map_or(0, |scope| scope.tables);
    if tables <= MOST_TABLES {
        return Ok(());
    }
    Err(Refused {
        word: "WITH".to_owned(),
        message: format!("the statement reads more than {MOST_TABLES} tables, counted as often as they are named"),
        hint: "name less often what WITH names, or make a model of it".to_owned(),
    })
}

/// A query and what its WITH names.
#[derive(Default)]
struct Scope {
    tables: u64,
    /// How many tables a name comes to.
    named: HashMap<String, u64>,
    /// The queries that have a name, by where they are.
    names: HashMap<*const Query, String>,
}

/// A name as it is looked up.
fn key(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

struct Counting {
    scopes: Vec<Scope>,
}

impl Visitor for Counting {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let names = tables.map(|named| (std::ptr::from_ref(named.query.as_ref()), key(&named.alias.name)));
        self.scopes.push(Scope { names: names.collect(), ..Scope::default() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = self.scopes.pop().map_or(0, |scope| scope.tables);
        if let Some(around) = self.scopes.last_mut() {
            match around.names.get(&std::ptr::from_ref(query)) {
                Some(name) => _ = around.named.insert(name.clone(), tables),
                None => around.tables = around.tables.saturating_add(tables),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = match relation.0.as_slice() {
            [only] => only.as_ident().map(key),
            _ => None,
        };
        let named = name.and_then(|name| self.scopes.iter().rev().find_map(|scope| scope.named.get(&name).copied()));
        if let Some(scope) = self.scopes.last_mut() {
            scope.tables = scope.tables.saturating_add(named.unwrap_or(1).max(1));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn is_refused(sql: &str) -> bool {
        let statement = Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0);
        refuse_expanding(&statement).is_err()
    }

    fn doubling(names: usize) -> String {
        let named = (1..names).map(|at| format!(", c{at} AS (SELECT a.x FROM c{} a, c{} b)", at - 1, at - 1));
        format!("WITH c0 AS (SELECT x FROM t){} SELECT count(*) FROM c{}", named.collect::<String>(), names - 1)
    }

    #[test]
    fn names_count_as_often_as_they_are_named() {
        assert!(!is_refused(&doubling(9)));
        assert!(is_refused(&doubling(12)));
        assert!(is_refused(&doubling(100)));
        assert!(is_refused(&doubling(12).replace(" a,", " AS a,").replace("FROM c", "FROM C")));
        let side_by_side = format!("WITH c AS (SELECT 1) {}", vec!["SELECT * FROM c"; 900].join(" UNION ALL "));
        assert!(!is_refused(&side_by_side));
        assert!(is_refused(&format!("SELECT * FROM ({}) AS a, ({}) AS b", doubling(10), doubling(10))));
        let inside = "WITH c AS (WITH d AS (SELECT * FROM t, t AS u) SELECT * FROM d, d AS e) SELECT * FROM c WHERE x IN (SELECT x FROM c)";
        assert!(!is_refused(inside));
        assert!(!is_refused(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r"
        ));
    }
}
