//! Which rows are asked about: values of columns, as they are written on a command line.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::functions::math::expr_fn::isnan;
use datafusion::logical_expr::{Expr, lit};

use crate::error::{Error, Result, type_name};
use crate::parameters::fitted;

/// A column and the value that it has in the rows that are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnValue {
    /// The column's name.
    pub column: String,
    /// The value as it is written; `None` is NULL.
    pub value: Option<String>,
}

/// A text that is no column with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no column with its value; write country=DE, day=2026-11-01 or country=NULL")]
pub struct InvalidColumnValue(String);

/// `country=DE`; `country=NULL` is NULL, and `country='NULL'` the text. A value in single quotes is what is between them.
impl FromStr for ColumnValue {
    type Err = InvalidColumnValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (column, value) = text.split_once('=').ok_or_else(|| InvalidColumnValue(text.to_owned()))?;
        let column = column.trim();
        if column.is_empty() {
            return Err(InvalidColumnValue(text.to_owned()));
        }
        let quoted = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let value = match (quoted, value) {
            (Some(quoted), _) => Some(quoted.replace("''", "'")),
            (None, "NULL") => None,
            (None, value) => Some(value.to_owned()),
        };
        Ok(Self { column: column.to_owned(), value })
    }
}

/// As in a condition: `country = 'DE'`, `country IS NULL`.
impl fmt::Display for ColumnValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = '{}'", self.column, value.replace('\'', "''")),
            None => write!(f, "{} IS NULL", self.column),
        }
    }
}

/// Whether a column has a value, as a condition on it.
///
/// # Errors
/// [`Error::Unanswered`] for a text that is no value of the column's type.
pub(super) fn condition(asked: &ColumnValue, field: &Field, column: Expr) -> Result<Expr> {
    match &asked.value {
        None => Ok(column.is_null()),
        Some(text) => Ok(match value(text, field)? {
            // There are many, and they are one value here.
            ScalarValue::Float64(Some(number)) if number.is_nan() => isnan(column),
            ScalarValue::Float32(Some(number)) if number.is_nan() => isnan(column),
            value => column.eq(lit(value)),
        }),
    }
}

/// How values are written.
const WRITTEN: &str =
    "write it as SQL does, such as day=2026-11-01, at=2026-11-01T12:00:00Z, amount=9.99 or country=NULL";

fn value(text: &str, field: &Field) -> Result<ScalarValue> {
    let wrong = |reason: String| {
        let (name, kind) = (field.name(), type_name(field.data_type()));
        let message = format!("'{text}' is no {kind}, which column '{name}' is: {reason}");
        Error::Unanswered { message, hint: WRITTEN.to_owned() }
    };
    let kind = field.data_type();
    if kind.is_nested() {
        return Err(wrong("rows are found by single values".to_owned()));
    }
    let given: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let fitted = fitted(&given, kind).map_err(|error| wrong(error.to_string()))?;
    // A number that its column has no place for comes back as it was, and of a moment the day alone would be left.
    let is_less = *kind == DataType::Date32 && text.contains(':');
    if fitted.data_type() != kind || is_less {
        return Err(wrong("it says more than the column holds".to_owned()));
    }
    Ok(ScalarValue::try_from_array(&fitted, 0)?)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn a_column_and_its_value() {
        let parsed = |text: &str| text.parse::<ColumnValue>().map(|parsed| (parsed.column, parsed.value));
        for (text, column, value) in [
            ("country=DE", "country", Some("DE")),
            ("country=NULL", "country", None),
            ("country='NULL'", "country", Some("NULL")),
            ("country=", "country", Some("")),
            ("country='it''s'", "country", Some("it's")),
            ("country='", "country", Some("'")),
            ("url=/a?b=c", "url", Some("/a?b=c")),
            ("country=null", "country", Some("null")),
        ] {
            assert_eq!(parsed(text), Ok((column.to_owned(), value.map(str::to_owned))), "{text}");
        }
        for text in ["country", "=DE", "", " =x"] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let shown = |text: &str| text.parse::<ColumnValue>().map(|parsed| parsed.to_string());
        assert_eq!(shown("a='it''s'").as_deref(), Ok("a = 'it''s'"));
        assert_eq!(shown("a=NULL").as_deref(), Ok("a IS NULL"));
    }

    #[test]
    fn a_value_is_of_its_columns_type() {
        let moment = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let of = |kind: DataType, text: &str| {
            let asked = format!("c={text}").parse().unwrap();
            condition(&asked, &Field::new("c", kind, true), col("c")).map(|condition| condition.to_string())
        };
        for (kind, text, shown) in [
            (DataType::Date32, "2026-11-01", "c = Date32(\"2026-11-01\")"),
            (DataType::Int64, "-3", "c = Int64(-3)"),
            (DataType::Decimal128(18, 2), "12.3", "c = Decimal128(12.30,18,2)"),
            (DataType::Float64, "0.1", "c = Float64(0.1)"),
            (DataType::Float64, "NaN", "isnan(c)"),
            (DataType::Boolean, "true", "c = Boolean(true)"),
            (DataType::Utf8, "", "c = Utf8(\"\")"),
            (DataType::Utf8, "NULL", "c IS NULL"),
            (moment(), "2026-11-01T00:00:00Z", "c = TimestampMicrosecond(1793491200000000, Some(\"UTC\"))"),
        ] {
            assert_eq!(of(kind, text).unwrap(), shown, "{text}");
        }
        for (kind, text, word) in [
            (DataType::Date32, "soon", "no DATE"),
            (DataType::Date32, "2026-11-01T10:00:00Z", "no DATE"),
            (DataType::Int64, "1.5", "no BIGINT"),
            (DataType::Int64, "", "no BIGINT"),
            (DataType::Decimal128(18, 2), "12.345", "no DECIMAL(18,2)"),
            (DataType::Boolean, "maybe", "no BOOLEAN"),
            (moment(), "noon", "no TIMESTAMP"),
            (DataType::new_list(DataType::Int64, true), "1", "single values"),
        ] {
            let error = of(kind, text).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
