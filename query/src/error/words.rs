//! What messages are made of.

use arrow::datatypes::DataType;
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

/// The known name that is most like a wrong one, if any is like it at all: by its last part, for all tables of a schema begin alike.
pub(crate) fn nearest(wrong: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    fn last(name: &str) -> &str {
        name.rsplit('.').next().unwrap_or(name)
    }
    let wrong = wrong.to_lowercase();
    let likeness = |name: &String| {
        let name = name.to_lowercase();
        (strsim::jaro_winkler(last(&wrong), last(&name)), strsim::jaro_winkler(&wrong, &name))
    };
    let scored = known.into_iter().map(|name| (likeness(&name), name)).filter(|((likeness, _), _)| *likeness > 0.75);
    scored.max_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, name)| name)
}

/// What to write in the place of a wrong name: the known one that is most like it, or else which there are.
pub(crate) fn did_you_mean(wrong: &str, known: impl Iterator<Item = String> + Clone) -> String {
    match nearest(wrong, known.clone()) {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// A type as it is called in SQL.
pub(crate) fn type_name(kind: &DataType) -> String {
    let name = match kind {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt64 => "BIGINT that is not negative",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "VARCHAR",
        DataType::Binary => "BYTEA",
        DataType::Date32 => "DATE",
        DataType::Time64(_) => "TIME",
        DataType::Timestamp(..) => "TIMESTAMP",
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            return format!("DECIMAL({precision},{scale})");
        }
        other => return other.to_string(),
    };
    name.to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_one_that_is_like_it() {
        let known = ["bronze.events", "silver.events", "gold.revenue", "gold.funnel"];
        for (wrong, expected) in [
            ("gold.revenu", Some("gold.revenue")),
            ("revenue", Some("gold.revenue")),
            ("silver.revenue", Some("gold.revenue")),
            ("bronze.event", Some("bronze.events")),
            ("silver.Event", Some("silver.events")),
            ("gold.nope", None),
            ("silver.x", None),
        ] {
            assert_eq!(nearest(wrong, known.map(str::to_owned)).as_deref(), expected, "{wrong}");
        }
    }
}
