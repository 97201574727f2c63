//! Checks: what a model's header says of every row, asked of the table as it is.
//!
//! `check: revenue >= 0` holds for rows where the expression is true or null, as SQL's CHECK does; `not_null(a, b)` for rows
//! where all of them have a value; `unique(a, b)` where no other row has the same values; `relationships(a, silver.b.c)`
//! where the value is null or there in the other table.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakebed_project::split;

use crate::error::Result;
use crate::lakehouse::Lakehouse;
use crate::models::Model;
use crate::session::ReadSession;

/// A check as a header writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is asked, without its severity.
    pub text: String,
    /// Whether it is a failure of `lakebed test`, rather than a warning.
    pub fails: bool,
}

/// What became of a check.
#[derive(Debug)]
pub struct Checked {
    /// `schema.name`.
    pub model: String,
    /// The check.
    pub check: String,
    /// Whether it fails a test.
    pub fails: bool,
    /// How many rows do not pass; or why it cannot be asked.
    pub failures: Result<u64>,
}

impl Check {
    /// Reads `EXPRESSION`, or with two blanks before it a severity: `warn` (the default) or `fail`.
    ///
    /// # Errors
    /// One sentence where it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (text, severity) = match text.rsplit_once("  ") {
            Some((check, severity)) => (check.trim(), severity.trim()),
            None => (text.trim(), "warn"),
        };
        let fails = match severity {
            "warn" => false,
            "fail" => true,
            "drop" | "quarantine" => {
                return Err(format!(
                    "a check warns or fails; '{severity}' is not there yet: filter the rows in a model"
                ));
            }
            other => return Err(format!("'{other}' is no severity: write warn or fail, two blanks after the check")),
        };
        match text.is_empty() {
            true => Err("a check is an expression over the model's columns".to_owned()),
            false => Ok(Self { text: text.to_owned(), fails }),
        }
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

    /// The SELECT that counts the rows that do not pass.
    fn sql(&self, table: &str) -> String {
        if let Some(columns) = self.call("not_null") {
            let nulls = columns.iter().map(|column| format!("{column} IS NULL")).collect::<Vec<_>>();
            return format!("SELECT count(*) FROM {table} WHERE {}", nulls.join(" OR "));
        }
        if let Some(columns) = self.call("unique") {
            let columns = columns.join(", ");
            return format!(
                "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {table} GROUP BY {columns}) WHERE n > 1"
            );
        }
        if let Some((own, (of, column))) = self.relationship().and_then(|(own, to)| Some((own, to.rsplit_once('.')?))) {
            return format!(
                "SELECT count(*) FROM {table} WHERE {own} IS NOT NULL AND {own} NOT IN (SELECT {column} FROM {of} WHERE {column} IS NOT NULL)"
            );
        }
        format!("SELECT count(*) FROM {table} WHERE NOT ({})", self.text)
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
        let is_wanted = |model: &&std::sync::Arc<Model>| only.is_empty() || only.contains(&model.name.to_string());
        for model in self.project().models.iter().filter(is_wanted) {
            for check in &model.checks {
                let failures = count(&session, &check.sql(&model.name.to_string())).await;
                let (model, check, fails) = (model.name.to_string(), check.text.clone(), check.fails);
                checked.push(Checked { model, check, fails, failures });
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

    #[test]
    fn a_check_is_an_expression_and_a_severity() {
        let sql = |text: &str| Check::parse(text).unwrap().sql("gold.t");
        assert_eq!(sql("revenue >= 0"), "SELECT count(*) FROM gold.t WHERE NOT (revenue >= 0)");
        assert_eq!(sql("not_null(a, b)  fail"), "SELECT count(*) FROM gold.t WHERE a IS NULL OR b IS NULL");
        assert!(sql("unique(a, b)").contains("GROUP BY a, b"));
        assert!(sql("not_null(coalesce(a, b))").ends_with("WHERE coalesce(a, b) IS NULL"));
        assert!(sql("relationships(a, silver.b.c)").contains("NOT IN (SELECT c FROM silver.b "));
        assert!(Check::parse("a > 0  fail").unwrap().fails && !Check::parse("a > 0").unwrap().fails);
        for wrong in ["", "a > 0  sometimes", "a > 0  drop"] {
            assert!(Check::parse(wrong).is_err(), "{wrong}");
        }
    }
}
