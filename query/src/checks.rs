//! Checks: what a model's header says of every row, and what becomes of one that does not pass.
//!
//! `check: revenue >= 0` holds for rows where the expression is true or null, as SQL's CHECK does; `not_null(a, b)` for rows
//! where all of them have a value; `unique(a, b)` where no other row has the same values; `relationships(a, silver.b.c)`
//! where the value is null or there in the other table.
//!
//! Those that warn or fail are asked of the table as it is. Those that drop or quarantine are a part of the model's query, and
//! nothing is left to ask but what is in its quarantine.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakebed_project::split;

use crate::error::Result;
use crate::lakehouse::Lakehouse;
use crate::models::row_checks::{BETWEEN, FAILED, RowCheck, Wrong};
use crate::models::{Model, TableName};
use crate::quoting::literal;
use crate::session::ReadSession;

/// What becomes of rows that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// They are told of.
    Warn,
    /// They fail `lakebed test`.
    Fail,
    /// They are in no table.
    Drop,
    /// They are in a table of their own.
    Quarantine,
}

impl Severity {
    /// As a header writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Drop => "drop",
            Self::Quarantine => "quarantine",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Warn, Self::Fail, Self::Drop, Self::Quarantine].into_iter().find(|severity| severity.name() == name)
    }

    /// Whether rows that do not pass are not in the model.
    fn keeps_out(self) -> bool {
        matches!(self, Self::Drop | Self::Quarantine)
    }
}

/// A check as a header writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked, without its severity.
    pub text: String,
    /// What becomes of rows that do not pass.
    pub severity: Severity,
    /// What each row is asked, where rows that do not pass are not in the model.
    pub(crate) of_rows: Option<RowCheck>,
}

/// What became of a check.
#[derive(Debug)]
pub struct Checked {
    /// `schema.name`.
    pub model: String,
    /// The check.
    pub check: String,
    /// What becomes of rows that do not pass.
    pub severity: Severity,
    /// How many rows do not pass, `None` where they were dropped; or why it cannot be asked.
    pub failures: Result<Option<u64>>,
}

impl Check {
    /// Reads `EXPRESSION`, or with two blanks before it a severity: `warn` (the default), `fail`, `drop` or `quarantine`.
    ///
    /// # Errors
    /// [`Wrong`] where it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let (text, word) = match text.rsplit_once("  ") {
            Some((check, severity)) => (check.trim(), severity.trim()),
            None => (text.trim(), Severity::Warn.name()),
        };
        let Some(severity) = Severity::of(word) else {
            let hint = "write warn, fail, drop or quarantine, two blanks after the check";
            return Err(Wrong::new(format!("'{word}' is no severity"), hint));
        };
        let mut check = Self { text: text.to_owned(), severity, of_rows: None };
        if text.is_empty() {
            let hint = "write check: revenue >= 0, or check: not_null(day)";
            return Err(Wrong::new("a check is an expression over the model's columns".to_owned(), hint));
        }
        if let Some((_, last)) = text.rsplit_once(char::is_whitespace)
            && Severity::of(last).is_some_and(Severity::keeps_out)
            && RowCheck::parse(text).is_err()
        {
            let hint = format!("write two blanks before {last}, and nowhere else in the check");
            return Err(Wrong::new(format!("'{last}' is taken for a part of the check"), hint));
        }
        if severity.keeps_out() {
            if let Some(name) = ["unique", "relationships"].into_iter().find(|name| check.call(name).is_some()) {
                let hint = "let it warn or fail; to keep one row of each key, write row_number() in the model";
                let message = format!("{name}(…) is asked of a whole table, and cannot {word} rows of it");
                return Err(Wrong::new(message, hint));
            }
            let of_rows = RowCheck::parse(text)?;
            check.text.clone_from(&of_rows.label);
            check.of_rows = Some(of_rows);
        }
        Ok(check)
    }

    /// The arguments of a check that is written as a call.
    fn call(&self, name: &str) -> Option<Vec<&str>> {
        let rest = self.text.strip_prefix(name)?.trim_start();
        Some(split(rest.strip_prefix('(')?.strip_suffix(')')?, ','))
    }

    /// The column whose values are to be there in another table's, and that one as `schema.table.column`.
    pub(crate) fn relationship(&self) -> Option<(&str, &str)> {
        match self.call("relationships")?.as_slice() {
            [column, to] => Some((column, to)),
            _ => None,
        }
    }

    /// The SELECT that counts the rows that do not pass; `None` where they are nowhere.
    fn sql(&self, of: &TableName) -> Option<String> {
        match self.severity {
            Severity::Drop => return None,
            Severity::Quarantine => {
                let (table, text) = (of.quarantine().quoted(), literal(&format!("{BETWEEN}{}{BETWEEN}", self.text)));
                let (failed, between) = (FAILED, literal(BETWEEN));
                return Some(format!(
                    "SELECT count(*) FROM {table} WHERE strpos(concat({between}, {failed}, {between}), {text}) > 0"
                ));
            }
            Severity::Warn | Severity::Fail => {}
        }
        let table = of.to_string();
        if let Some(columns) = self.call("not_null") {
            let nulls = columns.iter().map(|column| format!("{column} IS NULL")).collect::<Vec<_>>();
            return Some(format!("SELECT count(*) FROM {table} WHERE {}", nulls.join(" OR ")));
        }
        if let Some(columns) = self.call("unique") {
            let columns = columns.join(", ");
            return Some(format!(
                "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {table} GROUP BY {columns}) WHERE n > 1"
            ));
        }
        if let Some((own, (of, column))) = self.relationship().and_then(|(own, to)| Some((own, to.rsplit_once('.')?))) {
            return Some(format!(
                "SELECT count(*) FROM {table} WHERE {own} IS NOT NULL AND {own} NOT IN (SELECT {column} FROM {of} WHERE {column} IS NOT NULL)"
            ));
        }
        Some(format!("SELECT count(*) FROM {table} WHERE NOT ({})", self.text))
    }
}

impl Lakehouse {
    /// Asks every check of the models that are named, or of all, of the tables as they are.
    ///
    /// # Errors
    /// [`crate::Error::UnknownTable`] for a name; any failure of the store. What is wrong with one check is told with it.
    pub async fn check(&self, only: &[String]) -> Result<Vec<Checked>> {
        self.check_names(only)?;
        let session = self.read(None).await?;
        let mut checked = Vec::new();
        let is_wanted = |model: &&Arc<Model>| only.is_empty() || only.contains(&model.name.to_string());
        for model in self.project().models.iter().filter(is_wanted) {
            for check in &model.checks {
                let failures = match check.sql(&model.name) {
                    Some(sql) => count(&session, &sql).await.map(Some),
                    None => Ok(None),
                };
                let (model, check, severity) = (model.name.to_string(), check.text.clone(), check.severity);
                checked.push(Checked { model, check, severity, failures });
            }
        }
        Ok(checked)
    }
}

async fn count(session: &ReadSession, sql: &str) -> Result<u64> {
    let plan = session.plan(sql).await?;
    let batches: Vec<_> = session.stream(plan).await?.try_collect().await?;
    let values = batches.iter().filter(|batch| batch.num_rows() > 0);
    let counts =
        values.filter_map(|batch| batch.column(0).as_primitive_opt::<Int64Type>().map(|counts| counts.value(0)));
    Ok(counts.sum::<i64>().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(text: &str) -> String {
        let table = TableName { schema: "gold".to_owned(), name: "t".to_owned() };
        Check::parse(text).unwrap().sql(&table).unwrap_or_default()
    }

    #[test]
    fn a_check_is_an_expression_and_a_severity() {
        assert_eq!(sql("revenue >= 0"), "SELECT count(*) FROM gold.t WHERE NOT (revenue >= 0)");
        assert_eq!(sql("not_null(a, b)  fail"), "SELECT count(*) FROM gold.t WHERE a IS NULL OR b IS NULL");
        assert!(sql("unique(a, b)").contains("GROUP BY a, b"));
        assert!(sql("not_null(coalesce(a, b))").ends_with("WHERE coalesce(a, b) IS NULL"));
        assert!(sql("relationships(a, silver.b.c)").contains("NOT IN (SELECT c FROM silver.b "));
        assert_eq!(sql("a > 0  drop"), "", "what was dropped is not counted");
        assert!(sql("a>0    quarantine").contains("FROM \"gold\".\"t_quarantine\" WHERE strpos("));
        let severity = |text: &str| Check::parse(text).unwrap().severity;
        assert_eq!((severity("a > 0  fail"), severity("a > 0")), (Severity::Fail, Severity::Warn));
        assert_eq!((severity("a > 0  drop"), severity("NOT quarantine")), (Severity::Drop, Severity::Warn));
    }

    #[test]
    fn what_is_none_is_refused_in_a_sentence() {
        for (wrong, says) in [
            ("", "an expression"),
            ("a > 0  sometimes", "'sometimes' is no severity"),
            ("a > 0 quarantine", "'quarantine' is taken for a part of the check"),
            ("unique(a, b)  drop", "unique(…) is asked of a whole table, and cannot drop rows of it"),
            ("relationships(a, silver.b.c)  quarantine", "cannot quarantine rows"),
            ("a >  drop", "'a >' cannot be read"),
            ("a > 0, b > 0  drop", "cannot be read"),
            ("a IN (SELECT b FROM gold.u)  drop", "reads more than its row"),
            ("a > sum(a)  drop", "reads more than its row"),
            ("row_number() OVER (ORDER BY a) = 1  drop", "reads more than its row"),
            ("not_null()  drop", "not_null() names no column"),
        ] {
            let wrong = Check::parse(wrong).unwrap_err();
            assert!(wrong.message.contains(says), "{wrong:?}");
        }
    }
}
