//! Values of any engine, to be compared where sums of doubles are rounded in one way or another.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, TimeUnit, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use duckdb::types::{TimeUnit as DuckUnit, Value};

/// A value, whatever its type is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    /// Of any numeric type.
    Number(f64),
    /// µs since 1970.
    Instant(i64),
    /// Days since 1970.
    Day(i32),
    Text(String),
    List(Vec<Cell>),
}

pub(super) type Row = Vec<Cell>;

impl Cell {
    /// Rows are put in this order before they are compared two by two.
    fn key(&self) -> String {
        match self {
            // One NaN, −0 = 0, and what differs by a rounding is one value, most of the time.
            Self::Number(number) if number.is_nan() => "NaN".to_owned(),
            Self::Number(number) => format!("{:.6e}", number + 0.0),
            Self::List(cells) => cells.iter().map(Self::key).collect::<Vec<_>>().join(","),
            other => format!("{other:?}"),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => {
                let tolerance = 1e-9 * left.abs().max(right.abs()).max(1.0);
                left == right || left.is_nan() && right.is_nan() || (left - right).abs() <= tolerance
            }
            (Self::List(left), Self::List(right)) => same_row(left, right),
            _ => self == other,
        }
    }
}

fn same_row(left: &[Cell], right: &[Cell]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| left.is(right))
}

/// In words how the rows differ from those that are expected, but for roundings and their order.
pub(super) fn difference(mut found: Vec<Row>, mut expected: Vec<Row>) -> Option<String> {
    for rows in [&mut found, &mut expected] {
        rows.sort_by_cached_key(|row| row.iter().map(Cell::key).collect::<Vec<_>>());
    }
    let (count, of) = (found.len(), expected.len());
    let pair = found.into_iter().zip(expected).find(|(found, expected)| !same_row(found, expected));
    match pair {
        Some((found, expected)) => {
            Some(format!("{count} rows, expected {of}\n   found:    {found:?}\n   expected: {expected:?}"))
        }
        None => (count != of).then(|| format!("{count} rows, expected {of}")),
    }
}

/// The rows of Arrow batches.
pub(super) fn of_arrow(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(column).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect::<Row>()));
    }
    rows
}

fn column(array: &ArrayRef) -> Vec<Cell> {
    let cells = |cell: &dyn Fn(usize) -> Cell| -> Vec<Cell> {
        (0..array.len()).map(|at| if array.is_null(at) { Cell::Null } else { cell(at) }).collect()
    };
    match array.data_type() {
        DataType::Null => vec![Cell::Null; array.len()],
        DataType::Boolean => cells(&|at| Cell::Bool(array.as_boolean().value(at))),
        DataType::Date32 => cells(&|at| Cell::Day(array.as_primitive::<Date32Type>().value(at))),
        DataType::Timestamp(..) => {
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap();
            cells(&|at| Cell::Instant(micros.as_primitive::<TimestampMicrosecondType>().value(at)))
        }
        DataType::List(_) => cells(&|at| Cell::List(column(&array.as_list::<i32>().value(at)))),
        DataType::Map(..) => cells(&|at| {
            let entries = array.as_map().value(at);
            pairs(column(entries.column(0)).into_iter().zip(column(entries.column(1))))
        }),
        kind if kind.is_numeric() => {
            let numbers = cast(array, &DataType::Float64).unwrap();
            cells(&|at| Cell::Number(numbers.as_primitive::<Float64Type>().value(at)))
        }
        _ => cells(&|at| Cell::Text(array_value_to_string(array, at).unwrap())),
    }
}

/// A map, as a list of its entries.
fn pairs(entries: impl Iterator<Item = (Cell, Cell)>) -> Cell {
    Cell::List(entries.map(|(key, value)| Cell::List(vec![key, value])).collect())
}

/// A value of DuckDB.
pub(super) fn of_duckdb(value: Value) -> Cell {
    match value {
        Value::Null => Cell::Null,
        Value::Boolean(value) => Cell::Bool(value),
        Value::TinyInt(value) => Cell::Number(value.into()),
        Value::SmallInt(value) => Cell::Number(value.into()),
        Value::Int(value) => Cell::Number(value.into()),
        Value::UInt(value) => Cell::Number(value.into()),
        Value::BigInt(value) => Cell::Number(value as f64),
        Value::UBigInt(value) => Cell::Number(value as f64),
        Value::HugeInt(value) => Cell::Number(value as f64),
        Value::Float(value) => Cell::Number(value.into()),
        Value::Double(value) => Cell::Number(value),
        Value::Decimal(value) => Cell::Number(value.to_string().parse().unwrap()),
        Value::Timestamp(DuckUnit::Microsecond, value) => Cell::Instant(value),
        Value::Date32(value) => Cell::Day(value),
        Value::Text(value) => Cell::Text(value),
        Value::List(values) => Cell::List(values.into_iter().map(of_duckdb).collect()),
        Value::Map(entries) => {
            pairs(entries.iter().map(|(key, value)| (of_duckdb(key.clone()), of_duckdb(value.clone()))))
        }
        other => panic!("no query of the catalogue gives {other:?}"),
    }
}
