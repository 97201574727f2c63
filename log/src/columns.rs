//! The types a flattened column can have, and the name it gets from its path.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};

/// The type of a flattened column, written in SQL's words: `DOUBLE`, `DECIMAL(18,2)`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnType {
    /// true or false
    Boolean,
    /// 32-bit integer
    Integer,
    /// 64-bit integer
    BigInt,
    /// 64-bit float: an undeclared JSON number
    Double,
    /// exact decimal; precision 1 to 38, scale 0 to precision
    Decimal(u8, i8),
    /// text
    Varchar,
    /// JSON text: an array, or any value that is pinned so
    Json,
    /// calendar day
    Date,
    /// µs, UTC
    Timestamp,
}

/// What a JSON value is, before anybody declared a type for its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JsonKind {
    /// true, false
    Boolean,
    /// any number
    Number,
    /// a string
    Text,
    /// an array, kept as JSON text
    Array,
}

impl JsonKind {
    /// The type of an undeclared value of this kind. It never depends on the value itself.
    pub fn default_type(self) -> ColumnType {
        match self {
            Self::Boolean => ColumnType::Boolean,
            Self::Number => ColumnType::Double,
            Self::Text => ColumnType::Varchar,
            Self::Array => ColumnType::Json,
        }
    }
}

impl ColumnType {
    /// The Arrow type of the values.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Varchar | Self::Json => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The word that tells a second column of one path from the first: `value`, `value_string`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer | Self::BigInt => "integer",
            Self::Double => "double",
            Self::Decimal(..) => "decimal",
            Self::Varchar => "string",
            Self::Json => "json",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::Integer => f.write_str("INTEGER"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(precision, scale) => write!(f, "DECIMAL({precision},{scale})"),
            Self::Varchar => f.write_str("VARCHAR"),
            Self::Json => f.write_str("JSON"),
            Self::Date => f.write_str("DATE"),
            Self::Timestamp => f.write_str("TIMESTAMP"),
        }
    }
}

/// A text that is no column type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a column type; the types are BOOLEAN, INTEGER, BIGINT, DOUBLE, DECIMAL(p,s), VARCHAR, JSON, DATE and TIMESTAMP"
)]
pub struct UnknownColumnType(pub String);

impl FromStr for ColumnType {
    type Err = UnknownColumnType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownColumnType(text.to_owned());
        let word = text.trim().to_ascii_uppercase();
        Ok(match word.as_str() {
            "BOOLEAN" | "BOOL" => Self::Boolean,
            "INTEGER" | "INT" => Self::Integer,
            "BIGINT" => Self::BigInt,
            "DOUBLE" | "DOUBLE PRECISION" => Self::Double,
            "VARCHAR" | "TEXT" | "STRING" => Self::Varchar,
            "JSON" => Self::Json,
            "DATE" => Self::Date,
            "TIMESTAMP" | "TIMESTAMPTZ" => Self::Timestamp,
            _ => {
                let inner =
                    word.strip_prefix("DECIMAL").or_else(|| word.strip_prefix("NUMERIC")).ok_or_else(unknown)?;
                let inner =
                    inner.trim().strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(unknown)?;
                let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
                let precision: u8 = precision.trim().parse().map_err(|_| unknown())?;
                let scale: i8 = scale.trim().parse().map_err(|_| unknown())?;
                if !(1..=38).contains(&precision) || !(0..=precision as i8).contains(&scale) {
                    return Err(unknown());
                }
                Self::Decimal(precision, scale)
            }
        })
    }
}

impl Serialize for ColumnType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The column name of a path: its keys in snake_case, joined by `_`.
///
/// `["userAgent", "browserVersion"]` and `["user_agent", "browser_version"]` both become `user_agent_browser_version`;
/// a letter or digit of any script stays, everything else becomes `_`. Two paths of one name are told apart by their
/// claims, not here.
pub fn column_name(path: &[String]) -> String {
    let name = path.iter().map(|key| snake_case(key)).collect::<Vec<_>>().join("_");
    if name.is_empty() { "_".to_owned() } else { name }
}

fn snake_case(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    let mut previous = None::<char>;
    let mut letters = key.chars().peekable();
    while let Some(letter) = letters.next() {
        let after_lower = previous.is_some_and(|p| p.is_lowercase() || p.is_ascii_digit());
        let ends_acronym =
            previous.is_some_and(char::is_uppercase) && letters.peek().is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || ends_acronym) {
            name.push('_');
        }
        if letter.is_alphanumeric() {
            name.extend(letter.to_lowercase())
        } else {
            name.push('_')
        }
        previous = Some(letter);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_reads_what_it_prints() {
        for text in ["BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL(18,2)", "VARCHAR", "JSON", "DATE", "TIMESTAMP"]
        {
            assert_eq!(text.parse::<ColumnType>().map(|t| t.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("numeric( 10 )".parse(), Ok(ColumnType::Decimal(10, 0)));
        for text in ["", "FLOAT8X", "DECIMAL", "DECIMAL(39,2)", "DECIMAL(4,5)", "DECIMAL(4,-1)"] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_snake_case() {
        let name = |path: &[&str]| column_name(&path.iter().map(|&key| key.to_owned()).collect::<Vec<_>>());
        assert_eq!(name(&["userAgent", "browserVersion"]), "user_agent_browser_version");
        assert_eq!(name(&["user_agent", "browser"]), "user_agent_browser");
        assert_eq!(name(&["HTTPServer"]), "http_server");
        assert_eq!(name(&["a.b", "c d"]), "a_b_c_d");
        assert_eq!(name(&["größe"]), "größe");
        assert_eq!(name(&[""]), "_");
    }
}
