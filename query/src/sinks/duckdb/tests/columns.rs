//! Every kind of column that can be published comes back as it went.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;

use super::*;

/// Publishes the columns and reads them back.
async fn round_trip(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let mut lake = Lake::new(1);
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let columns = batch.schema();
    let run = lake.run_of("types", batch);
    lake.publish(1, vec![TableImage { columns, ..table("types", "f", &[run]) }]).await?;
    let mut batches = Vec::new();
    lake.sink().read_table("gold", "types", &mut |batch| {
        batches.push(batch);
        Ok(())
    })?;
    Ok(concat_batches(&batches[0].schema(), &batches).unwrap())
}

fn names() -> StringArray {
    StringArray::from(vec![Some("short"), None, Some("longer than twelve bytes, ö, \u{0} too")])
}

#[tokio::test]
async fn plain_columns_come_back_as_they_went() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)]))),
        ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None, Some(i16::MAX)]))),
        ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]))),
        ("int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("uint8", Arc::new(UInt8Array::from(vec![Some(0), None, Some(u8::MAX)]))),
        ("uint16", Arc::new(UInt16Array::from(vec![Some(0), None, Some(u16::MAX)]))),
        ("uint32", Arc::new(UInt32Array::from(vec![Some(0), None, Some(u32::MAX)]))),
        ("uint64", Arc::new(UInt64Array::from(vec![Some(0), None, Some(u64::MAX)]))),
        ("float32", Arc::new(Float32Array::from(vec![Some(f32::MIN_POSITIVE), None, Some(f32::INFINITY)]))),
        ("float64", Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::MAX)]))),
        ("date", Arc::new(Date32Array::from(vec![Some(-719_162), None, Some(2_932_896)]))),
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(-62_135_596_800_000_000),
                None,
                Some(1_700_000_000_123_456),
            ])),
        ),
        (
            "instant",
            Arc::new(
                TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]).with_timezone("UTC"),
            ),
        ),
        (
            "nanoseconds",
            Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456_789)])),
        ),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), None, Some(86_399_999_999)]))),
        ("utf8", Arc::new(names())),
        ("binary", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None, Some(&[])]))),
    ];
    let expected =
        RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, a)| (*n, a.clone(), true))).unwrap();
    assert_eq!(round_trip(columns).await.unwrap(), expected);
}

/// A key of whatever kind: the rows that go are told by it, and nothing is made anew.
#[tokio::test]
async fn rows_with_keys_of_every_kind_go_by_their_places() {
    let numbers = || [Some(-1_i64), None, Some(0), Some(1), Some(2), Some(3)];
    let texts = || [Some("a"), None, Some(""), Some("longer than twelve bytes, ö, \u{0} too"), Some("b"), Some("'")];
    let cast = |to: &DataType| arrow::compute::cast(&Int64Array::from_iter(numbers()), to).unwrap();
    let unsigned = |to: &DataType| {
        arrow::compute::cast(
            &Int64Array::from_iter(numbers().map(|n| n.map(i64::unsigned_abs).map(|n| n as i64 * 40))),
            to,
        )
        .unwrap()
    };
    let bytes = BinaryArray::from_iter(texts().map(|text| text.map(str::as_bytes)));
    let keys: Vec<ArrayRef> = vec![
        cast(&DataType::Int8),
        cast(&DataType::Int64),
        unsigned(&DataType::UInt8),
        unsigned(&DataType::UInt64),
        cast(&DataType::Float32),
        Arc::new(Float64Array::from(vec![
            Some(f64::NAN),
            None,
            Some(0.0),
            Some(-0.0),
            Some(1e308),
            Some(f64::INFINITY),
        ])),
        cast(&DataType::Decimal128(38, 4)),
        cast(&DataType::Date32),
        unsigned(&DataType::Time64(TimeUnit::Microsecond)),
        cast(&DataType::Timestamp(TimeUnit::Second, None)),
        cast(&DataType::Timestamp(TimeUnit::Nanosecond, None)),
        cast(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        cast(&DataType::Timestamp(TimeUnit::Millisecond, Some("+02:00".into()))),
        Arc::new(StringArray::from_iter(texts())),
        Arc::new(StringViewArray::from_iter(texts())),
        Arc::new(LargeStringArray::from_iter(texts())),
        Arc::new(bytes),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), Some(false), Some(true)])),
    ];
    for column in keys {
        let (mut lake, kind) = (Lake::new(1), column.data_type().clone());
        let batch = RecordBatch::try_from_iter_with_nullable([("key", column, true)]).unwrap();
        let columns = batch.schema();
        let runs = [lake.run_of("types", batch)];
        let image = |rows: Rows| {
            let (columns, key) = (Arc::clone(&columns), vec!["key".to_owned()]);
            TableImage { columns, key, rows, ..table("types", "f", &[]) }
        };
        lake.publish(1, vec![image(of_runs(&runs))]).await.unwrap();
        let rows = Rows { deleted: Arc::new([1, 3, 4].into_iter().collect()), ..of_runs(&runs) };
        let published = lake.publish(2, vec![image(rows)]).await.unwrap();
        assert_eq!((published.tables_changed, published.tables_rebuilt), (1, 0), "{kind}");
        assert_eq!(query(&lake.sink().path(), "SELECT count(*) FROM published.gold.types WHERE key IS NULL"), ["0"]);
    }
}

#[tokio::test]
async fn decimals_of_every_width_come_back_as_they_went() {
    for (precision, scale) in [(4, 2), (9, 0), (18, 6), (38, 10)] {
        let largest = 10_i128.pow(u32::from(precision)) - 1;
        let array = Decimal128Array::from(vec![Some(largest), None, Some(-largest)]);
        let column: ArrayRef = Arc::new(array.with_precision_and_scale(precision, scale).unwrap());
        assert_eq!(round_trip(vec![("d", Arc::clone(&column))]).await.unwrap().column(0), &column);
    }
    let wide = Decimal256Array::from(vec![Some(i256::from_i128(12_345))]).with_precision_and_scale(50, 4).unwrap();
    let read = round_trip(vec![("d", Arc::new(wide))]).await.unwrap();
    assert_eq!(read.column(0).as_primitive::<Decimal128Type>().value(0), 12_345);
    let too_wide = Decimal256Array::from(vec![Some(i256::MAX)]).with_precision_and_scale(76, 0).unwrap();
    let failed = round_trip(vec![("d", Arc::new(too_wide))]).await.unwrap_err();
    assert!(failed.to_string().starts_with("column 'd' of gold.types: "), "{failed}");
}

#[tokio::test]
async fn every_layout_of_a_text_is_a_text() {
    let expected: ArrayRef = Arc::new(names());
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for layout in [DataType::LargeUtf8, DataType::Utf8View, dictionary] {
        let column = cast(&expected, &layout).unwrap();
        assert_eq!(round_trip(vec![("t", column)]).await.unwrap().column(0), &expected, "{layout}");
    }
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"abcd"[..]), None, Some(b"efgh")]));
    for layout in [DataType::LargeBinary, DataType::BinaryView, DataType::FixedSizeBinary(4)] {
        let column = cast(&bytes, &layout).unwrap();
        assert_eq!(round_trip(vec![("b", column)]).await.unwrap().column(0), &bytes, "{layout}");
    }
}

#[tokio::test]
async fn columns_of_other_units_come_back_in_microseconds() {
    let seconds = TimestampSecondArray::from(vec![Some(1), None]);
    let zoned = TimestampNanosecondArray::from(vec![Some(1_000), None]).with_timezone("+02:00");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("s", Arc::new(seconds)),
        ("z", Arc::new(zoned)),
        ("null", Arc::new(NullArray::new(2))),
        ("half", Arc::new(Float16Array::from(vec![Some(half(1.5)), None]))),
    ];
    let read = round_trip(columns).await.unwrap();
    assert_eq!(read.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_000_000);
    let zoned = read.column(1).as_primitive::<TimestampMicrosecondType>();
    assert_eq!((zoned.value(0), zoned.timezone(), zoned.null_count()), (1, Some("UTC"), 1));
    assert_eq!((read.column(2).null_count(), read.column(2).data_type()), (2, &DataType::Utf8));
    assert_eq!(read.column(3).as_primitive::<Float32Type>().value(0), 1.5);
}

fn half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_f32(value)
}

#[tokio::test]
async fn intervals_and_durations_come_back_with_their_nulls() {
    let interval = IntervalMonthDayNanoType::make_value(14, -3, 5_000);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("interval", Arc::new(IntervalMonthDayNanoArray::from(vec![Some(interval), None]))),
        ("duration", Arc::new(DurationMillisecondArray::from(vec![Some(-90_061_001), None]))),
    ];
    let read = round_trip(columns).await.unwrap();
    let intervals = read.column(0).as_primitive::<IntervalMonthDayNanoType>();
    assert_eq!((intervals.value(0), intervals.is_null(1)), (interval, true));
    let durations = read.column(1).as_primitive::<IntervalMonthDayNanoType>();
    let expected = IntervalMonthDayNanoType::make_value(0, 0, -90_061_001_000_000);
    assert_eq!((durations.value(0), durations.is_null(1)), (expected, true));
}

#[tokio::test]
async fn nested_columns_come_back_as_they_went() {
    let numbers = ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..5_000).map(|n| (n % 7 != 0).then(|| vec![Some(n), None, Some(-n)])),
    );
    let count = numbers.len();
    let texts: ArrayRef = Arc::new(StringArray::from_iter((0..count).map(|n| (n % 3 != 0).then(|| n.to_string()))));
    let fields =
        vec![Field::new("item's \"x\"", DataType::Utf8, true), Field::new("list", numbers.data_type().clone(), true)];
    let nulls = NullBuffer::from_iter((0..count).map(|n| n % 5 != 0));
    let record = StructArray::new(fields.into(), vec![texts, Arc::new(numbers.clone())], Some(nulls));
    let columns: Vec<(&str, ArrayRef)> = vec![("list", Arc::new(numbers)), ("struct", Arc::new(record))];
    let read = round_trip(columns.clone()).await.unwrap();
    for (at, (name, expected)) in columns.iter().enumerate() {
        let read = cast(read.column(at), expected.data_type()).unwrap();
        let pairs = (0..count).filter(|row| read.slice(*row, 1).as_ref() != expected.slice(*row, 1).as_ref());
        assert_eq!(pairs.collect::<Vec<_>>(), [0; 0], "{name}");
    }
}

#[tokio::test]
async fn maps_and_fixed_lists_come_back_as_maps_and_lists() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("a");
    map.values().append_value(1);
    map.append(true).unwrap();
    map.append(false).unwrap();
    let fixed = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), Some(2)]), None], 2);
    let columns: Vec<(&str, ArrayRef)> = vec![("map", Arc::new(map.finish())), ("fixed", Arc::new(fixed))];
    let read = round_trip(columns).await.unwrap();
    let map = read.column(0).as_map();
    assert_eq!((map.value_length(0), map.is_null(1)), (1, true));
    assert_eq!(map.value(0).column(1).as_primitive::<Int64Type>().value(0), 1);
    let list = read.column(1).as_list::<i32>();
    assert_eq!((list.value_length(0), list.is_null(1)), (2, true));
}

#[tokio::test]
async fn a_type_that_duckdb_has_not_is_refused_by_name() {
    let ids = arrow::buffer::ScalarBuffer::from(vec![0_i8]);
    let fields = UnionFields::from_iter([(0, Arc::new(Field::new("a", DataType::Int64, true)))]);
    let union = UnionArray::try_new(fields, ids, None, vec![int64([1])]).unwrap();
    let failed = round_trip(vec![("u", Arc::new(union))]).await.unwrap_err();
    assert!(failed.to_string().starts_with("column 'u' of gold.types is of type Union"), "{failed}");
    let intervals: ArrayRef = Arc::new(DurationSecondArray::from(vec![1]));
    let field = Arc::new(Field::new("item", intervals.data_type().clone(), true));
    let list = ListArray::new(field, OffsetBuffer::from_lengths([1]), intervals, None);
    let failed = round_trip(vec![("l", Arc::new(list))]).await.unwrap_err();
    assert!(matches!(failed, Error::UnsupportedColumn { .. }), "{failed}");
}
