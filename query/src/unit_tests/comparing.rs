//! Which rows are missing and which are too many, where a table is compared with what it is expected to be.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt64Array, make_comparator,
};
use arrow::compute::{SortOptions, cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::error::ArrowError;

/// Two floats are the same if they differ by no more than this, in units of the larger one.
const TOLERANCE: f64 = 1e-9;

/// How a table differs from what it is expected to be.
#[derive(Clone, Debug)]
pub struct Difference {
    /// How many rows are expected and not there.
    pub missing: usize,
    /// How many rows are there and not expected.
    pub too_many: usize,
    /// All of them, in the columns that are compared; before these comes one that says `missing` or `too many`.
    pub rows: RecordBatch,
}

/// Compares rows of the same columns, in no order; `None` where they are the same.
///
/// Each expected row takes the first row that is the same and not taken. Sameness of floats is no equivalence, so another choice
/// might do where this one does not; but only among rows that differ by less than anybody writes down.
///
/// # Errors
/// Where a type cannot be compared.
pub(super) fn difference(expected: &RecordBatch, actual: &RecordBatch) -> Result<Option<Difference>, ArrowError> {
    let columns = expected.columns().iter().zip(actual.columns());
    let same = columns.map(|(expected, actual)| sameness(expected, actual)).collect::<Result<Vec<_>, _>>()?;
    let (mut missing, mut left) = (Vec::new(), (0..actual.num_rows()).collect::<Vec<_>>());
    for row in 0..expected.num_rows() {
        match left.iter().position(|other| same.iter().all(|same| same(row, *other))) {
            Some(taken) => _ = left.remove(taken),
            None => missing.push(row),
        }
    }
    if missing.is_empty() && left.is_empty() {
        return Ok(None);
    }
    let rows = concat_batches(actual.schema_ref(), [&some(expected, &missing)?, &some(actual, &left)?])?;
    let words = missing.iter().map(|_| "missing").chain(left.iter().map(|_| "too many"));
    let mut fields = vec![Arc::new(Field::new("", DataType::Utf8, false))];
    fields.extend(rows.schema_ref().fields().iter().cloned());
    let mut values: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(words))];
    values.extend(rows.columns().iter().cloned());
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?;
    Ok(Some(Difference { missing: missing.len(), too_many: left.len(), rows }))
}

/// Some rows of a table, under the schema that has NULLs everywhere.
fn some(rows: &RecordBatch, which: &[usize]) -> Result<RecordBatch, ArrowError> {
    take_record_batch(rows, &UInt64Array::from_iter_values(which.iter().map(|row| *row as u64)))
}

/// Whether a value of one array is the same as one of another.
type Sameness = Box<dyn Fn(usize, usize) -> bool>;

fn sameness(left: &ArrayRef, right: &ArrayRef) -> Result<Sameness, ArrowError> {
    if !left.data_type().is_floating() {
        let compared = make_comparator(left, right, SortOptions::default())?;
        return Ok(Box::new(move |a, b| compared(a, b) == Ordering::Equal));
    }
    let (left, right) = (cast(left, &DataType::Float64)?, cast(right, &DataType::Float64)?);
    let (left, right) = (left.as_primitive::<Float64Type>().clone(), right.as_primitive::<Float64Type>().clone());
    Ok(Box::new(move |a, b| match (left.is_valid(a), right.is_valid(b)) {
        (true, true) => are_close(left.value(a), right.value(b)),
        (a, b) => a == b,
    }))
}

fn are_close(a: f64, b: f64) -> bool {
    let close = || a.is_finite() && b.is_finite() && (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
    a == b || (a.is_nan() && b.is_nan()) || close()
}

/// The same columns, where every one may have NULLs: what is compared and shown is of one schema.
///
/// # Errors
/// Where the arrays are not as long as each other, or not as many as the names.
pub(super) fn nullable(columns: Vec<(String, ArrayRef)>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let fields = columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns.into_iter().map(|(_, values)| values).collect(), &options)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, TimestampMicrosecondArray};

    use super::*;

    fn rows(cells: &[(Option<&str>, Option<f64>)]) -> RecordBatch {
        let texts: StringArray = cells.iter().map(|(text, _)| *text).collect();
        let floats: Float64Array = cells.iter().map(|(_, float)| *float).collect();
        let columns: Vec<(String, ArrayRef)> =
            vec![("t".to_owned(), Arc::new(texts)), ("f".to_owned(), Arc::new(floats))];
        nullable(columns, cells.len()).unwrap()
    }

    #[test]
    fn rows_are_a_multiset_in_which_nulls_and_near_floats_are_the_same() {
        let tenth = 0.1 + 0.2;
        let actual =
            rows(&[(Some("a"), Some(tenth)), (None, None), (Some("a"), Some(f64::NAN)), (Some("a"), Some(-0.0))]);
        let same = [(Some("a"), Some(0.0)), (Some("a"), Some(f64::NAN)), (Some("a"), Some(0.3)), (None, None)];
        assert!(difference(&rows(&same), &actual).unwrap().is_none());

        let twice = rows(&[(None, None), (None, None), (Some(""), Some(0.300_000_1))]);
        let differs = difference(&twice, &actual).unwrap().unwrap();
        assert_eq!((differs.missing, differs.too_many), (2, 3));
        let words: Vec<_> = differs.rows.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(words, ["missing", "missing", "too many", "too many", "too many"]);
        assert!(differs.rows.column(1).is_null(0));
        assert_eq!(differs.rows.column(1).as_string::<i32>().value(1), "");
        assert_eq!(differs.rows.column(2).as_primitive::<Float64Type>().value(2), tenth);
    }

    #[test]
    fn times_are_instants() {
        let at = |micros: i64| {
            let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
            nullable(vec![("at".to_owned(), times)], 1).unwrap()
        };
        assert!(difference(&at(1), &at(1)).unwrap().is_none());
        assert!(difference(&at(1), &at(2)).unwrap().is_some());
    }
}
