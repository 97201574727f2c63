//! What the queries mean by themselves: each over all events, in DataFusion as it comes and in DuckDB.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, TimestampMicrosecondType};
use arrow::util::display::array_value_to_string;
use datafusion::catalog::MemTable;
use datafusion::prelude::SessionContext;

use super::catalogue::Query;
use super::cells::{self, Row};
use super::findings::Findings;
use super::lake::Lake;

/// The log's columns that the catalogue reads.
const EVENTS: &str = "SELECT event_id, event_type, event_time, event_date, kind, who, n, x, y, price, flag, tags, \
                      path, late, id, seq, op, city, _doc, _offset FROM bronze.events ORDER BY _offset";

/// Compares every model of the lake with what its SQL gives elsewhere.
pub(super) async fn compare(lake: &Lake<'_>, queries: &[Query], findings: &mut Findings) {
    let events = lake.query(None, EVENTS).await.unwrap();
    assert!(!events.is_empty(), "a case has events");
    let datafusion = datafusion(&events).await;
    let duckdb = duckdb(&events);
    // What an oracle has no table of.
    let mut lacks = [BTreeSet::new(), BTreeSet::new()];
    for query in queries {
        let stored = lake.query(None, &format!("SELECT * FROM {}", query.name)).await;
        let stored = cells::of_arrow(&stored.unwrap());
        if query.not_in_datafusion.is_none() && !query.reads_any(&lacks[0]) {
            match in_datafusion(&datafusion, query).await {
                Ok(expected) => note(findings, "DataFusion", query, stored.clone(), expected),
                Err(error) => findings.add("DataFusion", query.name, &error),
            }
        } else {
            lacks[0].insert(query.name);
        }
        if query.not_in_duckdb.is_none() && !query.reads_any(&lacks[1]) {
            match in_duckdb(&duckdb, query) {
                Ok(expected) => note(findings, "DuckDB", query, stored, expected),
                Err(error) => findings.add("DuckDB", query.name, &error.to_string()),
            }
        } else {
            lacks[1].insert(query.name);
        }
    }
}

fn note(findings: &mut Findings, oracle: &str, query: &Query, stored: Vec<Row>, expected: Vec<Row>) {
    if let Some(difference) = cells::difference(stored, expected) {
        findings.add(oracle, query.name, &difference);
    }
}

async fn datafusion(events: &[RecordBatch]) -> SessionContext {
    let context = SessionContext::new();
    for schema in ["bronze", "silver", "gold", "seeds"] {
        context.sql(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    }
    let table = MemTable::try_new(events[0].schema(), vec![events.to_vec()]).unwrap();
    context.register_table("bronze.events", Arc::new(table)).unwrap();
    context
}

async fn in_datafusion(context: &SessionContext, query: &Query) -> Result<Vec<Row>, String> {
    let words = |error: datafusion::common::DataFusionError| error.strip_backtrace();
    let rows = context.sql(query.sql).await.map_err(words)?;
    let schema = Arc::new(rows.schema().as_arrow().clone());
    let batches = rows.collect().await.map_err(words)?;
    // What a plan says of nulls is not always what its rows say.
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    let found = cells::of_arrow(&batches);
    let table = MemTable::try_new(schema, vec![batches]).map_err(words)?;
    context.register_table(query.name, Arc::new(table)).map_err(words)?;
    Ok(found)
}

fn duckdb(events: &[RecordBatch]) -> duckdb::Connection {
    let connection = duckdb::Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE SCHEMA bronze; CREATE SCHEMA silver; CREATE SCHEMA gold; CREATE SCHEMA seeds")
        .unwrap();
    let first = &events[0];
    let column = |(field, array): (&Arc<Field>, &ArrayRef)| format!("{} {}", field.name(), kind(array));
    let columns: Vec<_> = first.schema_ref().fields().iter().zip(first.columns()).map(column).collect();
    connection.execute_batch(&format!("CREATE TABLE bronze.events ({})", columns.join(", "))).unwrap();
    for batch in events.iter().filter(|batch| batch.num_rows() > 0) {
        let row = |row: usize| {
            let values: Vec<_> = batch.columns().iter().map(|array| literal(array, row)).collect();
            format!("({})", values.join(", "))
        };
        let rows: Vec<_> = (0..batch.num_rows()).map(row).collect();
        connection.execute_batch(&format!("INSERT INTO bronze.events VALUES {}", rows.join(", "))).unwrap();
    }
    connection
}

/// DuckDB's type for the values of a column. Instants are without a zone: zones are an extension's.
fn kind(array: &ArrayRef) -> String {
    match array.data_type() {
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(..) => "TIMESTAMP".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => panic!("no column of the events is a {other}"),
    }
}

/// A value as text that DuckDB casts to its column's type.
fn literal(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    match array.data_type() {
        DataType::Timestamp(..) => {
            format!("make_timestamp({})", array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Float64 => format!("'{:?}'::DOUBLE", array.as_primitive::<Float64Type>().value(row)),
        _ => format!("'{}'", array_value_to_string(array, row).unwrap().replace('\'', "''")),
    }
}

fn in_duckdb(connection: &duckdb::Connection, query: &Query) -> duckdb::Result<Vec<Row>> {
    connection.execute_batch(&format!("CREATE TABLE {} AS {}", query.name, query.sql))?;
    let mut statement = connection.prepare(&format!("FROM {}", query.name))?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let columns = row.as_ref().column_count();
        let cell = |at| row.get::<_, duckdb::types::Value>(at).map(cells::of_duckdb);
        found.push((0..columns).map(cell).collect::<duckdb::Result<Row>>()?);
    }
    Ok(found)
}
