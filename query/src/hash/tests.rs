//! What the content hash must tell apart and what not, with the encoding written out by hand once.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal32Array, Decimal128Array,
    Decimal256Array, DictionaryArray, DurationSecondArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeStringArray, ListArray,
    MapBuilder, NullArray, RecordBatch, RecordBatchOptions, RunArray, StringArray, StringBuilder, StringViewArray,
    StructArray, Time32SecondArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array, UnionArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    DataType, Field, Int32Type, IntervalMonthDayNano, Schema, UInt8Type, UInt64Type, UnionFields, i256,
};

use super::*;

fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns).unwrap()
}

fn hash(columns: Vec<ArrayRef>) -> TableHash {
    TableHash::of_batch(&batch(columns)).unwrap()
}

fn one(column: impl Array + 'static) -> TableHash {
    hash(vec![Arc::new(column)])
}

fn alike(columns: Vec<ArrayRef>) {
    let hashes: Vec<_> = columns.iter().map(|column| hash(vec![Arc::clone(column)])).collect();
    for (column, other) in columns.iter().zip(&hashes) {
        assert_eq!(hashes[0], *other, "{} and {}", columns[0].data_type(), column.data_type());
    }
}

fn all_different(hashes: &[TableHash]) {
    for (i, left) in hashes.iter().enumerate() {
        for (j, right) in hashes.iter().enumerate().skip(i + 1) {
            assert_ne!(left, right, "{i} and {j}");
        }
    }
}

fn sample() -> RecordBatch {
    batch(vec![
        Arc::new(Int64Array::from(vec![Some(7), None, Some(-7)])),
        Arc::new(StringArray::from(vec![Some("käse"), Some(""), None])),
        Arc::new(Decimal128Array::from(vec![1_250, 0, 1]).with_precision_and_scale(10, 3).unwrap()),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
    ])
}

/// The document at the top of `encoding.rs`, by hand.
#[test]
fn a_row_is_hashed_as_the_document_says() {
    let mut bytes = vec![3];
    bytes.extend(7_i64.to_le_bytes());
    bytes.extend([7, 5]);
    bytes.extend("käse".as_bytes());
    bytes.extend([4, 2, 0]);
    bytes.extend(125_i64.to_le_bytes());
    bytes.push(2);
    let expected = TableHash::of_row(*blake3::hash(&bytes).as_bytes());
    assert_eq!(TableHash::of_batch(&sample().slice(0, 1)).unwrap(), expected);
}

/// Published tables and watermarks hold hashes: a change of this literal is a change of their format.
#[test]
fn the_hash_of_known_rows_stays_what_it_is() {
    let literal = "cdb106cdb643a0fad49b70f257b1d85258fbe07c146b1c44402c779c4ef54130";
    assert_eq!(TableHash::of_batch(&sample()).unwrap().to_string(), literal);
    assert_eq!(literal.parse::<TableHash>().unwrap(), TableHash::of_batch(&sample()).unwrap());
}

#[test]
fn the_sum_carries_over_all_limbs_and_wraps() {
    let largest = TableHash([u64::MAX; 4]);
    let one = TableHash([1, 0, 0, 0]);
    assert_eq!(largest.add(one), TableHash::EMPTY);
    assert_eq!(TableHash([u64::MAX, u64::MAX, 0, 0]).add(one), TableHash([0, 0, 1, 0]));
    assert_eq!(largest.add(largest), TableHash([u64::MAX - 1, u64::MAX, u64::MAX, u64::MAX]));
}

#[test]
fn order_and_cut_of_batches_do_not_matter_but_how_often_a_row_is_there_does() {
    let whole = sample();
    let rows: Vec<_> = (0..3).map(|row| whole.slice(row, 1)).collect();
    let expected = TableHash::of_batch(&whole).unwrap();
    let turned = concat_batches(&whole.schema(), [&rows[2], &rows[0], &rows[1]]).unwrap();
    assert_eq!(TableHash::of_batch(&turned).unwrap(), expected);
    let split = rows.iter().fold(TableHash::EMPTY, |sum, row| sum.add(TableHash::of_batch(row).unwrap()));
    assert_eq!(split, expected);
    let again = concat_batches(&whole.schema(), [&whole, &rows[0]]).unwrap();
    assert_ne!(TableHash::of_batch(&again).unwrap(), expected);
    assert_eq!(TableHash::of_batch(&whole.slice(0, 0)).unwrap(), TableHash::EMPTY);
    let bare = |rows| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        TableHash::of_batch(&RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap())
            .unwrap()
    };
    assert_ne!(bare(1), TableHash::EMPTY);
    assert_eq!(bare(2), bare(1).add(bare(1)));
}

#[test]
fn numbers_are_alike_whatever_their_type() {
    let wide = |value: i128, scale| {
        Decimal256Array::from(vec![i256::from_i128(value)]).with_precision_and_scale(76, scale).unwrap()
    };
    let decimal = |value, scale| Decimal128Array::from(vec![value]).with_precision_and_scale(38, scale).unwrap();
    alike(vec![
        Arc::new(Int8Array::from(vec![100])),
        Arc::new(Int64Array::from(vec![100])),
        Arc::new(UInt64Array::from(vec![100])),
        Arc::new(
            DictionaryArray::<UInt8Type>::try_new(vec![0_u8].into(), Arc::new(Int32Array::from(vec![100]))).unwrap(),
        ),
        Arc::new(decimal(100, 0)),
        Arc::new(decimal(10_000, 2)),
        Arc::new(decimal(1, -2)),
        Arc::new(Decimal32Array::from(vec![1_000]).with_precision_and_scale(5, 1).unwrap()),
        Arc::new(wide(100_000, 3)),
        Arc::new(wide(1, -2)),
    ]);
    alike(vec![
        Arc::new(UInt64Array::from(vec![u64::MAX])),
        Arc::new(decimal(u64::MAX.into(), 0)),
        Arc::new(decimal(i128::from(u64::MAX) * 1_000, 3)),
        Arc::new(wide(i128::from(u64::MAX) * 10, 1)),
    ]);
    alike(vec![Arc::new(decimal(-1_250, 3)), Arc::new(decimal(-125, 2)), Arc::new(wide(-12_500, 4))]);
    alike(vec![Arc::new(decimal(0, 5)), Arc::new(decimal(0, -5)), Arc::new(Int32Array::from(vec![0]))]);
    all_different(&[
        one(decimal(125, 2)),
        one(decimal(125, 1)),
        one(decimal(-125, 2)),
        one(decimal(125, 0)),
        one(UInt64Array::from(vec![u64::MAX])),
        one(Int64Array::from(vec![-1])),
        one(Float64Array::from(vec![125.0])),
        one(StringArray::from(vec!["125"])),
    ]);
}

#[test]
fn there_is_one_nan_and_one_zero() {
    let other_nan = f64::from_bits(0xFFF8_0000_0000_0001);
    assert!(other_nan.is_nan() && other_nan.to_bits() != f64::NAN.to_bits());
    assert_eq!(one(Float64Array::from(vec![other_nan])), one(Float64Array::from(vec![f64::NAN])));
    assert_eq!(one(Float32Array::from(vec![-f32::NAN])), one(Float64Array::from(vec![f64::NAN])));
    assert_eq!(one(Float64Array::from(vec![-0.0])), one(Float64Array::from(vec![0.0])));
    assert_eq!(one(Float32Array::from(vec![0.1])), one(Float64Array::from(vec![f64::from(0.1_f32)])));
    let infinite = f64::INFINITY;
    all_different(&[f64::NAN, infinite, -infinite, 0.0, f64::MIN_POSITIVE].map(|v| one(Float64Array::from(vec![v]))));
}

#[test]
fn texts_and_binaries_are_alike_whatever_their_type() {
    let rows = vec![Some("a somewhat longer text"), None, Some(""), Some("a somewhat longer text")];
    alike(vec![
        Arc::new(StringArray::from(rows.clone())),
        Arc::new(LargeStringArray::from(rows.clone())),
        Arc::new(StringViewArray::from(rows.clone())),
        Arc::new(rows.iter().copied().collect::<DictionaryArray<Int32Type>>()),
        Arc::new(rows.iter().copied().collect::<RunArray<Int32Type>>()),
    ]);
    let binary = BinaryArray::from(vec![b"ab".as_slice()]);
    assert_eq!(one(binary.clone()), one(FixedSizeBinaryArray::try_from_iter([b"ab".as_slice()].into_iter()).unwrap()));
    assert_ne!(one(binary), one(StringArray::from(vec!["ab"])));
}

#[test]
fn columns_do_not_run_into_each_other() {
    let pair = |left: Option<&str>, right: Option<&str>| {
        hash(vec![Arc::new(StringArray::from(vec![left])), Arc::new(StringArray::from(vec![right]))])
    };
    let long = "x".repeat(300);
    all_different(&[
        pair(Some("ab"), Some("c")),
        pair(Some("a"), Some("bc")),
        pair(Some("abc"), Some("")),
        pair(Some("abc"), None),
        pair(None, Some("abc")),
        pair(Some(&long), Some("x")),
        pair(Some("x"), Some(&long)),
    ]);
}

#[test]
fn a_null_is_the_same_in_every_type_and_is_not_empty() {
    let types = [DataType::Null, DataType::Utf8, DataType::Int64, DataType::Float32, DataType::Date32];
    alike(types.iter().map(|data_type| new_null_array(data_type, 2)).collect());
    let texts = |items: Vec<Option<&str>>| {
        ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8, true)),
            arrow::buffer::OffsetBuffer::from_lengths([items.len()]),
            Arc::new(StringArray::from(items)),
            None,
        )
    };
    all_different(&[
        one(NullArray::new(1)),
        one(StringArray::from(vec![""])),
        one(Int32Array::from(vec![0])),
        one(BooleanArray::from(vec![false])),
        one(texts(vec![])),
        one(texts(vec![None])),
        one(texts(vec![Some("")])),
        one(texts(vec![None, None])),
    ]);
}

#[test]
fn days_and_instants_are_alike_whatever_their_unit_and_zone() {
    alike(vec![Arc::new(Date32Array::from(vec![-3])), Arc::new(Date64Array::from(vec![-3 * 86_400_000]))]);
    alike(vec![
        Arc::new(TimestampSecondArray::from(vec![-5])),
        Arc::new(TimestampMicrosecondArray::from(vec![-5_000_000])),
        Arc::new(TimestampMicrosecondArray::from(vec![-5_000_000]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![-5_000_000]).with_timezone("+02:00")),
        Arc::new(TimestampNanosecondArray::from(vec![-5_000_000_000]).with_timezone("UTC")),
    ]);
    alike(vec![Arc::new(Time32SecondArray::from(vec![61])), Arc::new(Time64MicrosecondArray::from(vec![61_000_000]))]);
    alike(vec![
        Arc::new(DurationSecondArray::from(vec![61])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 0, 61_000_000_000)])),
    ]);
    all_different(&[
        one(Date32Array::from(vec![1])),
        one(TimestampMicrosecondArray::from(vec![1])),
        one(Time64MicrosecondArray::from(vec![1])),
        one(Int64Array::from(vec![1])),
    ]);
    let too_far = TableHash::of_batch(&batch(vec![Arc::new(TimestampSecondArray::from(vec![i64::MAX]))]));
    assert!(too_far.is_err(), "{too_far:?}");
}

#[test]
fn lists_and_structs_go_by_what_is_in_them() {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(9)]),
        Some(vec![Some(1), None]),
        None,
        Some(vec![Some(2), Some(3)]),
    ]);
    let wide = ListArray::from_iter_primitive::<UInt64Type, _, _>([Some(vec![Some(1), None]), None]);
    assert_eq!(one(lists.slice(1, 2)), one(wide));
    let item = Arc::new(Field::new("other", DataType::Int32, true));
    let fixed = FixedSizeListArray::new(item, 2, Arc::new(Int32Array::from(vec![2, 3])), None);
    assert_eq!(one(lists.slice(3, 1)), one(fixed));

    let record = |name: &str, values: ArrayRef, valid: bool| {
        let fields = vec![Field::new(name, values.data_type().clone(), true)];
        one(StructArray::new(fields.into(), vec![values], Some(vec![valid].into())))
    };
    let number: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert_eq!(record("a", Arc::clone(&number), true), record("b", Arc::new(Int64Array::from(vec![1])), true));
    assert_eq!(record("a", Arc::clone(&number), false), one(NullArray::new(1)));
    assert_ne!(record("a", Arc::new(NullArray::new(1)), true), one(NullArray::new(1)));

    let map = |pairs: &[(&str, &str)]| {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (key, value) in pairs {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        map.append(true).unwrap();
        one(map.finish())
    };
    all_different(&[map(&[]), map(&[("a", "b")]), map(&[("b", "a")]), map(&[("a", "b"), ("b", "a")])]);
}

#[test]
fn a_union_is_an_error() {
    let fields = UnionFields::from_fields([Field::new("a", DataType::Int32, true)]);
    let union = UnionArray::try_new(fields, vec![0].into(), None, vec![number()]).unwrap();
    let error = TableHash::of_batch(&batch(vec![Arc::new(union)])).unwrap_err();
    assert!(error.to_string().contains("Union"), "{error}");
}

fn number() -> ArrayRef {
    Arc::new(Int32Array::from(vec![1]))
}
