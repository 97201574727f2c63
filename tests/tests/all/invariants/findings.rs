//! What a case found: every model that breaks an invariant, with rows that say how.

use std::collections::BTreeSet;

use super::lake::{Content, Lake, content, shown};

/// How many rows a finding shows.
const SHOWN: usize = 3;

/// Differences; a case is right where there is none.
#[derive(Default)]
pub(super) struct Findings(Vec<String>);

impl Findings {
    pub(super) fn add(&mut self, invariant: &str, model: &str, what: &str) {
        self.0.push(format!("{invariant}: {model}: {what}"));
    }

    /// # Panics
    /// Where anything was found.
    pub(super) fn none(self) {
        assert!(self.0.is_empty(), "{} findings\n{}", self.0.len(), self.0.join("\n"));
    }

    /// The newest tables of two lakes are the same, but for the models that may differ.
    pub(super) async fn same(&mut self, invariant: &str, one: &Lake<'_>, other: &Lake<'_>, but: &BTreeSet<&str>) {
        self.same_as_of(invariant, (one, None), other, but).await;
    }

    /// The tables of one lake as of a version are the newest ones of another.
    pub(super) async fn same_as_of(
        &mut self,
        invariant: &str,
        (one, as_of): (&Lake<'_>, Option<u64>),
        other: &Lake<'_>,
        but: &BTreeSet<&str>,
    ) {
        let (then, expected) = (one.tables().await, other.tables().await);
        if !then.keys().eq(expected.keys()) {
            self.add(invariant, "all", "there are other models");
        }
        for (name, expected) in expected.iter().filter(|(name, _)| !but.contains(name.as_str())) {
            let sql = format!("SELECT * FROM {name}");
            // Read back only where the epoch is another than the newest.
            let found = match as_of {
                None => then.get(name).cloned(),
                Some(_) => one.query(as_of, &sql).await.ok().map(|rows| content(&rows)),
            };
            if found.as_ref() != Some(expected) {
                let rows = (one.query(as_of, &sql).await, other.query(None, &sql).await);
                self.add(invariant, name, &difference(found.as_ref(), expected, rows));
            }
        }
    }
}

type Rows = Result<Vec<arrow::array::RecordBatch>, String>;

/// In words how two tables differ.
pub(super) fn difference(found: Option<&Content>, expected: &Content, rows: (Rows, Rows)) -> String {
    let count = found.map_or_else(|| "no".to_owned(), |(rows, _)| rows.to_string());
    let mut words = format!("{count} rows, expected {}", expected.0);
    match rows {
        (Ok(found), Ok(expected)) => {
            let (found, expected) = (shown(&found), shown(&expected));
            words += &format!("\n   only found:    {}", only(&found, &expected));
            words += &format!("\n   only expected: {}", only(&expected, &found));
        }
        (Err(error), _) | (_, Err(error)) => words += &format!("\n   {error}"),
    }
    words
}

/// Some of the sorted rows that the others do not have, or not as often.
fn only(rows: &[String], others: &[String]) -> String {
    let mut rest = others.iter().peekable();
    let mut only = Vec::new();
    for row in rows {
        while rest.next_if(|other| *other < row).is_some() {}
        if rest.next_if(|other| *other == row).is_none() {
            only.push(row.as_str());
        }
    }
    let more = only.len().saturating_sub(SHOWN);
    only.truncate(SHOWN);
    format!("{}{}", only.join("  "), if more > 0 { format!("  and {more} more") } else { String::new() })
}
