//! One value for one typed column: what fits which type, and the arrays that are built of it.
//!
//! | type | takes |
//! |---|---|
//! | BOOLEAN | true, false, and these words as texts |
//! | INTEGER, BIGINT | numbers without a fraction (`1.0`, `1e3`), and texts that are such a number |
//! | DECIMAL(p,s) | numbers with at most p − s digits before the point and, zeros aside, s after it; such texts |
//! | DOUBLE | numbers in the range of a double, and texts that are such a number |
//! | VARCHAR | texts; anything else as its JSON text |
//! | JSON | anything, as its JSON text |
//! | TIMESTAMP | texts and numbers as in [`crate::time`] |
//! | DATE | the same, of which it is the UTC day; and integers below 1,000,000 either way, which are days since 1970 |

use std::borrow::Cow;
use std::sync::Arc;

use crate::json::{self, Json, Kind};
use crate::number::{Below, Number};
use crate::time;
use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder,
    Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use lakebed_log::ColumnType;

/// A value of a column's type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Boolean(bool),
    Integer(i32),
    BigInt(i64),
    Double(f64),
    /// In units of the last digit of the column's scale.
    Decimal(i128),
    Text(Cow<'a, str>),
    /// Days since 1970.
    Date(i32),
    /// µs since 1970.
    Timestamp(i64),
}

impl<'a> Value<'a> {
    /// The value of `json` as `column_type`; `None` if it does not fit. JSON's null is no value and fits nothing.
    pub(crate) fn read(column_type: ColumnType, json: Json<'a>) -> Option<Self> {
        let kind = Kind::of(json);
        match column_type {
            _ if kind == Kind::Null => None,
            ColumnType::Json => Some(Self::Text(Cow::Borrowed(json.get()))),
            ColumnType::Varchar if kind == Kind::Text => Some(Self::Text(json::text(json))),
            ColumnType::Varchar => Some(Self::Text(Cow::Borrowed(json.get()))),
            _ => Self::read_scalar(column_type, kind, &scalar_text(kind, json)?),
        }
    }

    fn read_scalar(column_type: ColumnType, kind: Kind, text: &str) -> Option<Self> {
        let number = |scale| Number::parse(text)?.scaled(scale, Below::Refuse);
        match column_type {
            ColumnType::Boolean => match (kind, text) {
                (Kind::Boolean | Kind::Text, "true") => Some(Self::Boolean(true)),
                (Kind::Boolean | Kind::Text, "false") => Some(Self::Boolean(false)),
                _ => None,
            },
            ColumnType::Integer => number(0)?.try_into().ok().map(Self::Integer),
            ColumnType::BigInt => number(0)?.try_into().ok().map(Self::BigInt),
            ColumnType::Decimal(precision, scale) => {
                let value = number(scale)?;
                (value.unsigned_abs() < 10u128.checked_pow(precision.into())?).then_some(Self::Decimal(value))
            }
            ColumnType::Double => {
                // The notation is JSON's: Rust would also take `inf`, `NaN` and `.5`.
                Number::parse(text)?;
                text.parse().ok().filter(|value: &f64| value.is_finite()).map(Self::Double)
            }
            ColumnType::Date if kind == Kind::Number => time::day_from_number(text).map(Self::Date),
            ColumnType::Date => time::day_of(moment(kind, text)?).map(Self::Date),
            ColumnType::Timestamp => moment(kind, text).map(Self::Timestamp),
            ColumnType::Varchar | ColumnType::Json => None,
        }
    }
}

/// The text of a text, a number or a boolean.
fn scalar_text(kind: Kind, json: Json<'_>) -> Option<Cow<'_, str>> {
    match kind {
        Kind::Text => Some(json::string(json).text),
        Kind::Number | Kind::Boolean => Some(Cow::Borrowed(json.get())),
        Kind::Object | Kind::Array | Kind::Null => None,
    }
}

fn moment(kind: Kind, text: &str) -> Option<i64> {
    match kind {
        Kind::Text => time::from_text(text),
        Kind::Number => time::from_number(text),
        _ => None,
    }
}

/// The values of one column, as far as they have come.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(BooleanBuilder),
    Integer(Int32Builder),
    BigInt(Int64Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// The same for the builder of every type.
macro_rules! each {
    ($values:expr, $builder:ident => $same:expr) => {
        match $values {
            Self::Boolean($builder) => $same,
            Self::Integer($builder) => $same,
            Self::BigInt($builder) => $same,
            Self::Double($builder) => $same,
            Self::Decimal($builder) => $same,
            Self::Text($builder) => $same,
            Self::Date($builder) => $same,
            Self::Timestamp($builder) => $same,
        }
    };
}

impl Values {
    /// No values yet, of a column type.
    pub(crate) fn of(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Integer => Self::Integer(Int32Builder::new()),
            ColumnType::BigInt => Self::BigInt(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Decimal(..) => Self::Decimal(Decimal128Builder::new().with_data_type(column_type.arrow())),
            ColumnType::Varchar | ColumnType::Json => Self::Text(StringBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    /// No values yet, with room for so many of the most usual types.
    pub(crate) fn with_room(column_type: ColumnType, rows: usize) -> Self {
        match Self::of(column_type) {
            Self::Double(_) => Self::Double(Float64Builder::with_capacity(rows)),
            Self::BigInt(_) => Self::BigInt(Int64Builder::with_capacity(rows)),
            values => values,
        }
    }

    /// Puts `value` into slot `row`; the slots between the last value and it become null. Rows only go up.
    #[inline]
    pub(crate) fn put(&mut self, row: usize, value: &Value<'_>) {
        self.fill(row);
        match (self, value) {
            (Self::Boolean(builder), Value::Boolean(value)) => builder.append_value(*value),
            (Self::Integer(builder), Value::Integer(value)) => builder.append_value(*value),
            (Self::BigInt(builder), Value::BigInt(value)) => builder.append_value(*value),
            (Self::Double(builder), Value::Double(value)) => builder.append_value(*value),
            (Self::Decimal(builder), Value::Decimal(value)) => builder.append_value(*value),
            (Self::Text(builder), Value::Text(value)) => builder.append_value(value),
            (Self::Date(builder), Value::Date(value)) => builder.append_value(*value),
            (Self::Timestamp(builder), Value::Timestamp(value)) => builder.append_value(*value),
            (values, value) => debug_assert!(false, "{value:?} is no value of {values:?}"),
        }
    }

    /// The array of so many rows.
    pub(crate) fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill(rows);
        each!(&mut self, builder => Arc::new(builder.finish()) as ArrayRef)
    }

    #[inline]
    fn fill(&mut self, rows: usize) {
        each!(self, builder => {
            let missing = rows.saturating_sub(builder.len());
            if missing > 0 {
                builder.append_nulls(missing);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use proptest::prelude::*;

    use super::*;

    fn read(column_type: ColumnType, json: &str) -> Option<Value<'_>> {
        Value::read(column_type, serde_json::from_str::<&serde_json::value::RawValue>(json).unwrap().into())
    }

    fn texts(column_type: ColumnType, json: &str) -> Option<String> {
        match read(column_type, json) {
            Some(Value::Text(text)) => Some(text.into_owned()),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn integers_take_what_is_an_integer() {
        let big = |json| read(ColumnType::BigInt, json);
        for json in ["1", "1.0", "1e0", "10e-1", "\"1\"", "\"001.00\"", "\"+1\""] {
            assert_eq!(big(json), Some(Value::BigInt(1)), "{json}");
        }
        assert_eq!(big("9223372036854775807"), Some(Value::BigInt(i64::MAX)));
        assert_eq!(big("-9223372036854775808"), Some(Value::BigInt(i64::MIN)));
        for json in ["9223372036854775808", "1.5", "1e400", "true", "\"\"", "\" 1\"", "\"one\"", "[1]", "{}", "null"] {
            assert_eq!(big(json), None, "{json}");
        }
        assert_eq!(read(ColumnType::Integer, "2147483647"), Some(Value::Integer(i32::MAX)));
        assert_eq!(read(ColumnType::Integer, "2147483648"), None);
    }

    #[test]
    fn decimals_are_exact() {
        let price = |json| read(ColumnType::Decimal(6, 2), json);
        assert_eq!(price("19.9"), Some(Value::Decimal(1990)));
        assert_eq!(price("19.9900"), Some(Value::Decimal(1999)));
        assert_eq!(price("\"-0.01\""), Some(Value::Decimal(-1)));
        assert_eq!(price("1.999e1"), Some(Value::Decimal(1999)));
        assert_eq!(price("9999.99"), Some(Value::Decimal(999_999)));
        for json in ["10000", "0.001", "1e10", "true", "\"x\""] {
            assert_eq!(price(json), None, "{json}");
        }
        let widest = "9".repeat(38);
        let value = 10i128.pow(38) - 1;
        assert_eq!(read(ColumnType::Decimal(38, 0), &widest), Some(Value::Decimal(value)));
    }

    #[test]
    fn doubles_are_finite() {
        let double = |json| read(ColumnType::Double, json);
        assert_eq!(double("0.1"), Some(Value::Double(0.1)));
        assert_eq!(double("12345678901234567890"), Some(Value::Double(12_345_678_901_234_567_890.0)));
        assert_eq!(double("\"1e3\""), Some(Value::Double(1000.0)));
        for json in ["1e999", "\"NaN\"", "\"inf\"", "true", "\"\""] {
            assert_eq!(double(json), None, "{json}");
        }
    }

    #[test]
    fn booleans() {
        assert_eq!(read(ColumnType::Boolean, "true"), Some(Value::Boolean(true)));
        assert_eq!(read(ColumnType::Boolean, "\"false\""), Some(Value::Boolean(false)));
        for json in ["1", "\"yes\"", "\"True\"", "null"] {
            assert_eq!(read(ColumnType::Boolean, json), None, "{json}");
        }
    }

    #[test]
    fn texts_and_json_text() {
        let varchar = |json| texts(ColumnType::Varchar, json);
        assert_eq!(varchar(r#""a\u0000\n""#).as_deref(), Some("a\u{FFFD}\n"));
        assert_eq!(varchar("1.50").as_deref(), Some("1.50"));
        assert_eq!(varchar("true").as_deref(), Some("true"));
        assert_eq!(varchar("[1, 2]").as_deref(), Some("[1, 2]"));
        assert_eq!(varchar("null"), None);
        let json = |json| texts(ColumnType::Json, json);
        assert_eq!(json(r#""a\u0000""#).as_deref(), Some(r#""a\u0000""#));
        assert_eq!(json(r#"{"a": 1}"#).as_deref(), Some(r#"{"a": 1}"#));
        assert_eq!(json("null"), None);
    }

    #[test]
    fn times() {
        assert_eq!(read(ColumnType::Timestamp, "\"1970-01-02\""), Some(Value::Timestamp(86_400_000_000)));
        assert_eq!(read(ColumnType::Timestamp, "86400"), Some(Value::Timestamp(86_400_000_000)));
        assert_eq!(read(ColumnType::Date, "\"1970-01-02T01:00:00+02:00\""), Some(Value::Date(0)));
        assert_eq!(read(ColumnType::Date, "\"2024-05-01\""), Some(Value::Date(19_844)));
        assert_eq!(read(ColumnType::Date, "20758"), Some(Value::Date(20_758)));
        assert_eq!(read(ColumnType::Date, "1714557600"), Some(Value::Date(19_844)));
        assert_eq!(read(ColumnType::Date, "true"), None);
        assert_eq!(read(ColumnType::Timestamp, "\"86400\""), None);
    }

    #[test]
    fn arrays_have_the_type_of_their_column_and_nulls_between() {
        let all = ["BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "DECIMAL(10,2)", "VARCHAR", "JSON", "DATE", "TIMESTAMP"];
        for column_type in all.map(|text| text.parse::<ColumnType>().unwrap()) {
            let json = if column_type == ColumnType::Boolean { "true" } else { "1" };
            let value = read(column_type, json).unwrap();
            let mut values = Values::of(column_type);
            values.put(2, &value);
            values.put(3, &value);
            let array = values.finish(6);
            assert_eq!(array.data_type(), &column_type.arrow());
            assert_eq!(
                (0..6).map(|row| array.is_valid(row)).collect::<Vec<_>>(),
                [false, false, true, true, false, false]
            );
        }
    }

    proptest! {
        #[test]
        fn a_double_reads_back(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            let json = format!("{value:e}");
            prop_assert_eq!(read(ColumnType::Double, &json), Some(Value::Double(value)));
        }

        #[test]
        fn a_decimal_reads_back(units in -9_999_999_999i64..10_000_000_000) {
            let json = format!("{}{}.{:03}", if units < 0 { "-" } else { "" }, units.abs() / 1000, units.abs() % 1000);
            prop_assert_eq!(read(ColumnType::Decimal(10, 3), &json), Some(Value::Decimal(units.into())));
        }
    }
}
