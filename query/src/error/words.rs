//! What messages are made of.

use datafusion::sql::sqlparser::parser::ParserError;

use super::Error;
use crate::session::TableInfo;
use crate::statement::without_version;

impl Error {
    /// A table that a statement names and that is not there, maybe as of a version that it names, too.
    pub(super) fn unknown_table(name: &str, tables: &[TableInfo]) -> Self {
        let versioned = without_version(name);
        let plain = versioned.as_ref().map_or(name, |(plain, _)| plain.as_str());
        let known = tables.iter().map(|table| format!("{}.{}", table.schema, table.name));
        match (nearest(plain, known), &versioned) {
            // It is there now, and was not then.
            (Some(nearest), Some((plain, version))) if nearest == *plain => {
                Self::UnknownTable { name: format!("{plain} AS OF {version}"), nearest: None }
            }
            (nearest, _) => Self::UnknownTable { name: plain.to_owned(), nearest },
        }
    }
}

/// The known name that is most like a wrong one, if any is like it at all.
pub(crate) fn nearest(wrong: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let wrong = wrong.to_lowercase();
    let likeness = |name: &String| strsim::jaro_winkler(&wrong, &name.to_lowercase());
    let scored = known.into_iter().map(|name| (likeness(&name), name)).filter(|(likeness, _)| *likeness > 0.75);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

/// The end of a noun.
pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The verb after so many.
pub(super) fn were(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// A syntax error without the parser's own wrapping: `Expected: an expression, found: FROM at Line: 2, Column: 7`.
pub(super) fn in_words(syntax: &ParserError) -> String {
    match syntax {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
    }
}
