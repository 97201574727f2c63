//! A small lake in memory: three layers, a table of every type, one that never ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray,
    DurationMicrosecondArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, IntervalYearMonthArray, LargeBinaryArray, LargeListArray, LargeStringArray, ListArray,
    MapBuilder, NullArray, RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray,
    Time64MicrosecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Int32Type, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::DateTime;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use lakebed_query::{AsOf, ForeignKey, ReadSession, TableInfo, TableKind, Versions};

use crate::Served;

/// Rows in one batch of `gold.numbers` and `gold.endless`: half a MiB.
const BATCH_ROWS: i64 = 65_536;

/// Counts what `gold.endless` was asked for.
pub(super) type Polls = Arc<AtomicUsize>;

/// A lake at `version`; `gold.numbers` has as many rows of 8 bytes as `numbers` batches hold.
pub(super) fn lake(version: u64, numbers: usize) -> ReadSession {
    lake_with_polls(version, numbers, Polls::default())
}

pub(super) fn lake_with_polls(version: u64, numbers: usize, polls: Polls) -> ReadSession {
    lake_with(version, numbers, polls, Arc::new(Int32Array::from(vec![1])))
}

/// One whose `gold.a_b` has a column of texts.
pub(super) fn lake_with_another_table(version: u64) -> ReadSession {
    lake_with(version, 1, Polls::default(), text(&["one"]))
}

fn lake_with(version: u64, numbers: usize, polls: Polls, a_b: ArrayRef) -> ReadSession {
    let tables: Vec<(TableInfo, Arc<dyn TableProvider>)> = vec![
        table("bronze", "events", &["event_id"], one_batch(&[("event_id", text(&["e1", "e2"]))])),
        table("silver", "orders", &["id"], orders()),
        table("gold", "daily", &["day", "country"], daily()),
        table("gold", "a_b", &[], one_batch(&[("x", a_b)])),
        table("gold", "axb", &[], one_batch(&[("x", Arc::new(Int32Array::from(vec![2])) as ArrayRef)])),
        table("gold", "types", &[], types()),
        table("gold", "numbers", &[], number_batches(version, numbers)),
        endless(polls),
    ];
    let context =
        SessionContext::new_with_config(SessionConfig::new().with_default_catalog_and_schema("lakebed", "none"));
    let catalog = MemoryCatalogProvider::new();
    for schema in ["bronze", "silver", "gold", "none"] {
        catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new())).unwrap();
    }
    context.register_catalog("lakebed", Arc::new(catalog));
    let mut infos = Vec::new();
    for (info, provider) in tables {
        context.register_table(TableReference::partial(info.schema.as_str(), info.name.as_str()), provider).unwrap();
        infos.push(info);
    }
    ReadSession::new(version, DateTime::UNIX_EPOCH, infos, context)
}

fn table(schema: &str, name: &str, key: &[&str], batches: Vec<RecordBatch>) -> (TableInfo, Arc<dyn TableProvider>) {
    let columns = batches[0].schema();
    let info = info(schema, name, key, &columns);
    (info, Arc::new(MemTable::try_new(columns, vec![batches]).unwrap()))
}

fn info(schema: &str, name: &str, key: &[&str], columns: &SchemaRef) -> TableInfo {
    TableInfo {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: TableKind::Table,
        description: None,
        key: key.iter().map(|column| (*column).to_owned()).collect(),
        foreign_keys: foreign_keys(schema, name),
        columns: Arc::clone(columns),
    }
}

/// The days' countries are those of orders.
fn foreign_keys(schema: &str, name: &str) -> Vec<ForeignKey> {
    let column = |name: &str| name.to_owned();
    let key = ForeignKey {
        column: column("country"),
        to_schema: column("silver"),
        to_table: column("orders"),
        to_column: column("id"),
    };
    if (schema, name) == ("gold", "daily") { vec![key] } else { Vec::new() }
}

/// Versions 1 to 9, each with one batch of `gold.numbers`.
struct Nine;

#[async_trait]
impl Versions for Nine {
    async fn as_of(&self, as_of: AsOf) -> lakebed_query::Result<Arc<ReadSession>> {
        match as_of {
            AsOf::Version(version @ 1..=9) => Ok(Arc::new(lake(version, 1))),
            AsOf::Version(version) => Err(lakebed_log::Error::NoVersion { asked: version, head: 9 }.into()),
            AsOf::Time(_) => Ok(Arc::new(lake(5, 1))),
        }
    }
}

/// Versions whose lakes have a hand on what is counted, for as long as anything holds them.
pub(super) struct Held(pub(super) Polls);

#[async_trait]
impl Versions for Held {
    async fn as_of(&self, as_of: AsOf) -> lakebed_query::Result<Arc<ReadSession>> {
        let version = match as_of {
            AsOf::Version(version) => version,
            AsOf::Time(_) => 5,
        };
        Ok(Arc::new(lake_with_polls(version, 1, Arc::clone(&self.0))))
    }
}

/// What a server answers from that has this session as its newest.
pub(super) fn served(session: ReadSession) -> Served {
    Served { session: Arc::new(session), versions: Arc::new(Nine) }
}

fn one_batch(columns: &[(&str, ArrayRef)]) -> Vec<RecordBatch> {
    vec![RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, Arc::clone(column)))).unwrap()]
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn orders() -> Vec<RecordBatch> {
    one_batch(&[
        ("id", text(&["o1", "o2", "o3"])),
        ("amount", Arc::new(Decimal128Array::from(vec![100, 250, 399]).with_precision_and_scale(18, 2).unwrap())),
        ("country", text(&["de", "fr", "de"])),
    ])
}

fn daily() -> Vec<RecordBatch> {
    one_batch(&[
        ("day", Arc::new(Date32Array::from(vec![20_000, 20_001]))),
        ("country", text(&["de", "fr"])),
        ("revenue", Arc::new(Float64Array::from(vec![Some(1.5), None]))),
    ])
}

/// Fields that are not nullable, so that a statement over them shows whether ours always are.
fn number_batches(version: u64, batches: usize) -> Vec<RecordBatch> {
    let schema = Arc::new(Schema::new(vec![Field::new("version", DataType::UInt64, false), number_field()]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(UInt64Array::from(vec![version; BATCH_ROWS as usize])),
            Arc::new(Int64Array::from_iter_values(0..BATCH_ROWS)),
        ],
    );
    let batch = batch.unwrap();
    vec![batch; batches.max(1)]
}

fn number_field() -> Field {
    Field::new("n", DataType::Int64, false)
}

/// A row of values and a row of nulls in every type that a model may have.
fn types() -> Vec<RecordBatch> {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("v");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let struct_fields = vec![Field::new("s", DataType::Utf8View, true), Field::new("u", DataType::UInt32, true)];
    let columns = StructArray::new(
        struct_fields.into(),
        vec![Arc::new(StringViewArray::from(vec![Some("a"), None])), Arc::new(UInt32Array::from(vec![Some(1), None]))],
        None,
    );
    let dictionary: DictionaryArray<Int32Type> = vec![Some("d"), None].into_iter().collect();
    one_batch(&[
        ("utf8view", Arc::new(StringViewArray::from(vec![Some("longer than twelve bytes"), None])) as ArrayRef),
        ("binaryview", Arc::new(BinaryViewArray::from(vec![Some(b"b".as_slice()), None]))),
        ("largeutf8", Arc::new(LargeStringArray::from(vec![Some("l"), None]))),
        ("largebinary", Arc::new(LargeBinaryArray::from(vec![Some(b"b".as_slice()), None]))),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), None]))),
        ("i16", Arc::new(Int16Array::from(vec![Some(i16::MIN), None]))),
        ("u8", Arc::new(UInt8Array::from(vec![Some(u8::MAX), None]))),
        ("u16", Arc::new(UInt16Array::from(vec![Some(u16::MAX), None]))),
        ("u32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None]))),
        ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None]))),
        ("f16", Arc::new(Float16Array::from(vec![None, None]))),
        ("f32", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        ("decimal", Arc::new(Decimal128Array::from(vec![Some(1_234), None]).with_precision_and_scale(10, 3).unwrap())),
        ("date32", Arc::new(Date32Array::from(vec![Some(1), None]))),
        ("date64", Arc::new(Date64Array::from(vec![Some(86_400_000), None]))),
        ("time64", Arc::new(Time64MicrosecondArray::from(vec![Some(1), None]))),
        ("zoned", Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None]).with_timezone("+07:00"))),
        ("seconds", Arc::new(TimestampSecondArray::from(vec![Some(1), None]))),
        ("duration", Arc::new(DurationMicrosecondArray::from(vec![Some(1), None]))),
        ("interval", Arc::new(IntervalYearMonthArray::from(vec![Some(1), None]))),
        ("dictionary", Arc::new(dictionary)),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]))),
        ("largelist", Arc::new(LargeListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)]), None]))),
        (
            "fixed",
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0)]), None], 1)),
        ),
        ("struct", Arc::new(columns)),
        ("map", Arc::new(map.finish())),
        ("nothing", Arc::new(NullArray::new(2))),
    ])
}

#[derive(Debug)]
struct Endless {
    schema: SchemaRef,
    polls: Polls,
}

impl PartitionStream for Endless {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, polls) = (Arc::clone(&self.schema), Arc::clone(&self.polls));
        let batches = futures::stream::repeat_with(move || {
            polls.fetch_add(1, Ordering::SeqCst);
            let numbers = Arc::new(Int64Array::from_iter_values(0..BATCH_ROWS));
            Ok(RecordBatch::try_new(Arc::clone(&schema), vec![numbers])?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

fn endless(polls: Polls) -> (TableInfo, Arc<dyn TableProvider>) {
    let schema = Arc::new(Schema::new(vec![number_field()]));
    let partition = Arc::new(Endless { schema: Arc::clone(&schema), polls });
    let provider = StreamingTable::try_new(Arc::clone(&schema), vec![partition]).unwrap();
    (info("gold", "endless", &[], &schema), Arc::new(provider))
}
