//! Statements, prepared and not: one schema in every answer, and the right refusal for what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, Schema, TimeUnit};
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, CommandStatementIngest, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, FlightInfo, SchemaResult,
};
use futures::TryStreamExt;
use prost::Message;
use tonic::{Code, Status};

use super::lake::{lake, served};
use super::{Client, Running, all_rows, announced, query, read, rows, ticket};
use crate::{session_options, status};

const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT NULL",
    "SELECT NULL AS a, 'x' AS b",
    "SELECT count(*) FROM gold.numbers",
    "SELECT min(n), max(n) FROM gold.numbers",
    "SELECT min(revenue), max(day) FROM gold.daily",
    "SELECT min(utf8view), max(u64) FROM gold.types",
    "SELECT sum(u8), avg(u16), sum(u64) FROM gold.types",
    "SELECT * FROM gold.types",
    "SELECT * FROM gold.types WHERE bool",
    "SELECT * FROM gold.types WHERE i8 = 7",
    "SELECT * FROM silver.orders LIMIT 0",
    "SELECT version, n FROM gold.numbers WHERE n < 3",
    "SELECT CASE WHEN amount > 2 THEN 1 ELSE 2.5 END AS c FROM silver.orders",
    "SELECT coalesce(u8, 1.5) AS c FROM gold.types",
    "SELECT 1 AS x UNION ALL SELECT 2.5",
    "SELECT id FROM silver.orders UNION SELECT country FROM gold.daily",
    "SELECT dictionary, list, \"struct\" FROM gold.types",
    "SELECT array_agg(id) FROM silver.orders",
    "SELECT country, sum(amount), avg(amount) FROM silver.orders GROUP BY country",
    "SELECT o.*, d.* FROM silver.orders o LEFT JOIN gold.daily d ON o.country = d.country",
    "SELECT row_number() OVER (ORDER BY id) AS r, lag(amount) OVER (ORDER BY id) FROM silver.orders",
    "SELECT amount / 3, amount * amount, -amount FROM silver.orders",
    "SELECT struct_extract.s FROM (SELECT \"struct\" AS struct_extract FROM gold.types)",
    "SELECT now() IS NOT NULL, arrow_cast(1, 'UInt16'), arrow_cast('a', 'LargeUtf8'), arrow_cast('a', 'Utf8View')",
    "SELECT TIMESTAMP '2020-01-01 00:00:00', DATE '2020-01-01', INTERVAL '1 day'",
    "WITH t AS (VALUES (1, 'a'), (2, NULL)) SELECT * FROM t",
    "SELECT 1 AS a WHERE false",
    "SELECT [1, 2, 3] AS l, {a: 1} AS s, make_array('x') AS m",
    "EXPLAIN SELECT count(*) FROM gold.numbers",
];

async fn get_schema(client: &mut Client, sql: &str) -> Schema {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let answer = client.inner_mut().get_schema(descriptor).await.unwrap();
    assert_eq!(answer.metadata().get("lakebed-version").unwrap(), "1");
    Schema::try_from(answer.into_inner() as SchemaResult).unwrap()
}

#[tokio::test]
async fn one_schema_in_every_answer() {
    let server = Running::start(lake(1, 2)).await;
    let mut client = server.client().await;
    for sql in STATEMENTS {
        let info = client.execute((*sql).to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(info.app_metadata, "1");
        let from_info = announced(&info);
        let mut stream = client.do_get(ticket(&info)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(stream.headers().get("lakebed-version").unwrap(), "1");
        while let Some(batch) = stream.try_next().await.unwrap_or_else(|error| panic!("{sql}: {error}")) {
            assert_eq!(*batch.schema(), from_info, "{sql}");
            assert_ne!(batch.num_rows(), 0, "{sql}");
        }
        assert_eq!(**stream.schema().unwrap(), from_info, "{sql}");
        assert_eq!(get_schema(&mut client, sql).await, from_info, "{sql}");
        let mut prepared = client.prepare((*sql).to_owned(), None).await.unwrap();
        assert_eq!(*prepared.dataset_schema().unwrap(), from_info, "{sql}");
        assert!(prepared.parameter_schema().unwrap().fields().is_empty());
        let info = prepared.execute().await.unwrap();
        assert_eq!(announced(&info), from_info, "{sql}");
        assert_eq!(*read(&mut client, &info).await.0, from_info, "{sql}");
        prepared.close().await.unwrap();
        assert!(from_info.fields().iter().all(|field| field.is_nullable()), "{sql}");
        let foreign = from_info.fields().iter().find(|field| is_foreign(field.data_type()));
        assert_eq!(foreign, None, "{sql}: a type that JDBC does not know");
    }
}

fn is_foreign(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::LargeUtf8 | DataType::LargeBinary => true,
        DataType::LargeList(_) | DataType::ListView(_) | DataType::Dictionary(..) => true,
        DataType::Float16 | DataType::Decimal32(..) | DataType::Decimal64(..) => true,
        DataType::List(item) => is_foreign(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_foreign(field.data_type())),
        other => other.is_unsigned_integer(),
    }
}

#[tokio::test]
async fn values_survive_the_wire() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let batches = query(&mut client, "SELECT utf8view, u64, u32, dictionary FROM gold.types WHERE bool").await;
    let row = &batches[0];
    assert_eq!(row.column(0).as_string::<i32>().value(0), "longer than twelve bytes");
    assert_eq!(row.column(1).as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
    assert_eq!(row.column(2).as_primitive::<Int64Type>().value(0), i64::from(u32::MAX));
    assert_eq!(row.column(3).as_string::<i32>().value(0), "d");
    assert_eq!(rows(&query(&mut client, "SELECT * FROM gold.types WHERE i8 = 7").await), 0);
}

async fn refused(client: &mut Client, sql: &str) -> Status {
    let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    client.inner_mut().get_flight_info(descriptor).await.expect_err(sql)
}

#[tokio::test]
async fn what_cannot_be_planned_or_would_write_is_refused() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    for sql in [
        "INSERT INTO silver.orders VALUES ('x', 1, 'de')",
        "CREATE TABLE gold.x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/tmp/x.csv'",
        "COPY gold.daily TO '/tmp/x.parquet' STORED AS PARQUET",
        "DROP TABLE gold.daily",
        "DELETE FROM gold.daily",
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN ANALYZE INSERT INTO silver.orders VALUES ('x', 1, 'de')",
    ] {
        let status = refused(&mut client, sql).await;
        assert_eq!(status.code(), Code::PermissionDenied, "{sql}: {status}");
        assert_eq!(status.metadata().get("lakebed-version").unwrap(), "1");
        let prepared = client.prepare(sql.to_owned(), None).await.map(|_| ()).unwrap_err();
        assert!(prepared.to_string().contains("would write"), "{sql}: {prepared}");
    }
    for sql in ["SELEC 1", "", "SELECT 1; SELECT 2", "SELECT nothing_like_it FROM gold.daily", "SELECT no_function(1)"]
    {
        let status = refused(&mut client, sql).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{sql}: {status}");
        assert!(!status.message().contains("ParserError("), "{sql}: {status}");
    }
    // The planner says which of the two it is; what counts is that the code follows.
    let session = lake(1, 0);
    let reason = session.plan("SELECT * FROM gold.dayly").await.unwrap_err();
    let status = refused(&mut client, "SELECT * FROM gold.dayly").await;
    assert_eq!(status.code(), status::of_query(&reason).code());
}

#[tokio::test]
async fn a_statement_that_fails_while_it_runs_has_a_code_and_a_sentence() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let sql = "SELECT 1 / (x - 1) FROM gold.a_b";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let message = all_rows(&mut client, &info).await.unwrap_err().to_string();
    assert!(message.contains("Divide by zero"), "{message}");
}

#[tokio::test]
async fn uploads_are_refused_and_never_a_silent_success() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let update = client.execute_update("DELETE FROM gold.daily".to_owned(), None).await.unwrap_err();
    assert!(update.to_string().contains("would write"), "{update}");
    let command = CommandStatementIngest { table: "daily".to_owned(), ..CommandStatementIngest::default() };
    let batch = RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    let rows = futures::stream::iter([Ok(batch)]);
    let ingest = client.execute_ingest(command, rows).await.unwrap_err();
    assert!(ingest.to_string().contains("would write"), "{ingest}");
}

async fn action(client: &mut Client, name: &str, body: Vec<u8>) -> Result<Vec<arrow_flight::Result>, Status> {
    let action = Action::new(name, body);
    client.inner_mut().do_action(action).await?.into_inner().try_collect().await
}

#[tokio::test]
async fn actions_are_answered_or_refused_in_a_sentence() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    for name in ["BeginSavepoint", "EndSavepoint", "CreatePreparedSubstraitPlan", "Dance"] {
        let status = action(&mut client, name, Vec::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{name}");
        assert!(!status.message().is_empty());
    }
    let status = action(&mut client, "CreatePreparedStatement", vec![1, 2, 3]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let wrong = ActionCreatePreparedStatementRequest { query: "SELECT 1".into(), transaction_id: None }.as_any();
    let status = action(&mut client, "ClosePreparedStatement", wrong.encode_to_vec()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    for name in ["GetSessionOptions", "SetSessionOptions", "CloseSession"] {
        assert_eq!(action(&mut client, name, Vec::new()).await.unwrap().len(), 1, "{name}");
    }
    let listed = client.inner_mut().list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap().len(), 9);
}

pub(super) async fn cancel(client: &mut Client, info: &FlightInfo) -> CancelStatus {
    let request = CancelFlightInfoRequest { info: Some(info.clone()) };
    let answers = action(client, "CancelFlightInfo", request.encode_to_vec()).await.unwrap();
    CancelFlightInfoResult::decode(&*answers[0].body).unwrap().status()
}

#[tokio::test]
async fn a_plan_that_was_not_read_yet_can_be_cancelled_once() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    for expected in [CancelStatus::Cancelled, CancelStatus::NotCancellable] {
        assert_eq!(cancel(&mut client, &info).await, expected);
    }
}

#[tokio::test]
async fn unreadable_requests_are_the_clients_fault() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let path = FlightDescriptor::new_path(vec!["gold".into()]);
    let status = client.inner_mut().get_flight_info(path).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let junk = FlightDescriptor::new_cmd(vec![0xff, 0x00]);
    let status = client.inner_mut().get_flight_info(junk).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let unknown = Any { type_url: "type.googleapis.com/other.Message".into(), value: Default::default() };
    let status = client.inner_mut().do_get(arrow_flight::Ticket::new(unknown.encode_to_vec())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.inner_mut().list_flights(arrow_flight::Criteria::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn polling_returns_the_finished_info() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let command = CommandStatementQuery { query: "SELECT 1 AS a".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let poll = client.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
    assert_eq!(poll.progress, Some(1.0));
    assert_eq!(poll.flight_descriptor, None);
    assert_eq!(rows(&read(&mut client, &poll.info.unwrap()).await.1), 1);
}

#[tokio::test]
async fn any_login_gets_a_bearer() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    client.handshake("anyone", "a:b:c").await.unwrap();
    assert_eq!(client.token().map(String::as_str), Some("anonymous"));
    assert_eq!(rows(&query(&mut client, "SELECT 1").await), 1);
}

fn values(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, column)| (*name, Arc::clone(column)))).unwrap()
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[tokio::test]
async fn parameters_are_bound_by_position() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let sql = "SELECT id, amount FROM silver.orders WHERE country = ? AND amount > ? ORDER BY id LIMIT ?";
    let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
    let parameters = prepared.parameter_schema().unwrap().clone();
    let types: Vec<_> = parameters.fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Utf8, DataType::Decimal128(18, 2), DataType::Int64]);
    assert!(parameters.fields().iter().all(|field| field.is_nullable()));
    let unbound = prepared.execute().await.unwrap_err().to_string();
    assert!(unbound.contains("has 3 parameters, and 0 were given"), "{unbound}");
    for (country, least, most, expected) in [("de", 0, 9, 2), ("de", 2, 9, 1), ("de", 0, 1, 1), ("fr", 0, 9, 1)] {
        let row = values(&[("a", texts(&[country])), ("b", numbers(&[least])), ("c", numbers(&[most]))]);
        prepared.set_parameters(row).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(announced(&info), *prepared.dataset_schema().unwrap());
        assert_eq!(rows(&read(&mut client, &info).await.1), expected, "{country} {least} {most}");
    }
    // Rows of values are answered one after the other.
    let both = values(&[("a", texts(&["fr", "de"])), ("b", numbers(&[0, 0])), ("c", numbers(&[9, 9]))]);
    prepared.set_parameters(both).unwrap();
    let info = prepared.execute().await.unwrap();
    let answers = read(&mut client, &info).await.1;
    let ids: Vec<_> = answers.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(ids, ["o2", "o1", "o3"]);
    for (row, what) in [
        (values(&[("a", texts(&["de"]))]), "has 3 parameters, and 1 was given"),
        (
            values(&[("a", texts(&["de"])), ("b", texts(&["much"])), ("c", numbers(&[1]))]),
            "parameter 2 is Decimal128(18, 2)",
        ),
    ] {
        prepared.set_parameters(row).unwrap();
        let refused = prepared.execute().await.unwrap_err().to_string();
        assert!(refused.contains(what), "{refused}");
    }
}

/// A value that its place's type would change is compared as it is.
#[tokio::test]
async fn no_parameter_is_changed_by_its_type() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let double = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let micros = |text: &str| {
        let texts = texts(&[text]);
        arrow::compute::cast(&texts, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))).unwrap()
    };
    let numbers_up_to_3 = "SELECT n FROM (VALUES (1), (2), (3)) AS t (n) WHERE";
    let days = "SELECT d FROM (VALUES (DATE '2026-01-01'), (DATE '2026-01-02')) AS t (d) WHERE";
    let amounts = "SELECT a FROM (VALUES (CAST(1.50 AS DECIMAL(18, 2))), (1.51)) AS t (a) WHERE";
    for (sql, value, expected) in [
        (format!("{numbers_up_to_3} n > ?"), double(1.5), 2),
        (format!("{numbers_up_to_3} n = ?"), double(1.5), 0),
        (format!("{numbers_up_to_3} n = ?"), double(2.0), 1),
        (format!("{numbers_up_to_3} n IN (?, 3)"), double(1.5), 1),
        (format!("{numbers_up_to_3} n BETWEEN ? AND 3"), double(1.5), 2),
        (format!("{numbers_up_to_3} n < ?"), double(1e300), 3),
        (format!("{days} d < ?"), micros("2026-01-01T12:00:00Z"), 1),
        (format!("{days} d = ?"), micros("2026-01-02T00:00:00Z"), 1),
        (format!("{days} d >= ?"), texts(&["2026-01-02"]), 1),
        (format!("{amounts} a = ?"), double(1.51), 1),
        (format!("{amounts} a > ?"), double(1.505), 1),
        (format!("{amounts} a >= ?"), double(1.514), 0),
    ] {
        let mut prepared = client.prepare(sql.clone(), None).await.unwrap();
        prepared.set_parameters(values(&[("a", value)])).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(rows(&read(&mut client, &info).await.1), expected, "{sql}");
    }
    // One that stands in several places has one type.
    for (sql, value, expected) in [
        (format!("{days} $1 IS NULL OR d >= $1"), texts(&["2026-01-02"]), 1),
        (format!("{numbers_up_to_3} n > $1 AND n + 0.5 > $1 AND n < CAST($1 AS BIGINT) + 2"), double(1.5), 1),
    ] {
        let mut prepared = client.prepare(sql.clone(), None).await.unwrap();
        assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 1, "{sql}");
        prepared.set_parameters(values(&[("a", value)])).unwrap();
        let info = prepared.execute().await.unwrap();
        assert_eq!(rows(&read(&mut client, &info).await.1), expected, "{sql}");
    }
    // What is announced is kept.
    let mut prepared = client.prepare(format!("SELECT n + ? AS m FROM ({numbers_up_to_3} true)"), None).await.unwrap();
    prepared.set_parameters(values(&[("a", double(1.5))])).unwrap();
    let refused = prepared.execute().await.unwrap_err().to_string();
    assert!(refused.contains("parameter 1 is Int64") && refused.contains("another type"), "{refused}");
}

#[tokio::test]
async fn twelve_parameters_keep_their_order() {
    let server = Running::start(lake(1, 1)).await;
    let mut client = server.client().await;
    let numbered =
        (1..=12).map(|number| format!("CAST(${number} AS BIGINT) AS c{number}")).collect::<Vec<_>>().join(", ");
    let questions = (1..=12).map(|number| format!("CAST(? AS BIGINT) AS c{number}")).collect::<Vec<_>>().join(", ");
    for list in [numbered, questions] {
        let mut prepared = client.prepare(format!("SELECT {list}"), None).await.unwrap();
        let columns: Vec<_> = (1..=12).map(|number| (format!("c{number}"), numbers(&[number * 10]))).collect();
        prepared.set_parameters(RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let info = prepared.execute().await.unwrap();
        let row = read(&mut client, &info).await.1.remove(0);
        for (place, column) in row.columns().iter().enumerate() {
            assert_eq!(column.as_primitive::<Int64Type>().value(0), (place as i64 + 1) * 10);
        }
    }
    let untyped = client.prepare("SELECT ? AS a".to_owned(), None).await.unwrap();
    assert_eq!(*untyped.parameter_schema().unwrap().field(0).data_type(), DataType::Utf8);
}

/// The versions that each column of an answer is of.
async fn versions(client: &mut Client, sql: &str) -> (String, Vec<i128>) {
    let info = client.execute(sql.to_owned(), None).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let row = read(client, &info).await.1.remove(0);
    let versions = row.columns().iter().map(|column| column.as_primitive::<Decimal128Type>().value(0)).collect();
    (String::from_utf8(info.app_metadata.to_vec()).unwrap(), versions)
}

#[tokio::test]
async fn versions_are_asked_for_by_statement_header_option_and_transaction() {
    let server = Running::start(lake(9, 1)).await;
    let mut client = server.client().await;
    let newest = "SELECT min(version) FROM gold.numbers";
    assert_eq!(versions(&mut client, newest).await, ("9".into(), vec![9]));
    let then = "SELECT min(version) FROM gold.numbers VERSION AS OF 3";
    assert_eq!(versions(&mut client, then).await, ("3".into(), vec![3]));
    let time = "SELECT min(version) FROM lakebed.gold.numbers TIMESTAMP AS OF '2026-11-23'";
    assert_eq!(versions(&mut client, time).await, ("5".into(), vec![5]));
    let both =
        "SELECT min(a.version), min(b.version) FROM gold.numbers VERSION AS OF 3 a, gold.numbers b WHERE a.n = b.n";
    assert_eq!(versions(&mut client, both).await, ("9".into(), vec![3, 9]));
    let status = refused(&mut client, "SELECT 1 FROM gold.numbers VERSION AS OF 42").await;
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let status = refused(&mut client, "SELECT 1 FROM gold.numberz VERSION AS OF 3").await;
    assert_eq!(status.message(), "there is no table 'gold.numberz'\nhint: did you mean 'gold.numbers'?");

    client.set_header("lakebed-as-of", "4");
    assert_eq!(versions(&mut client, newest).await, ("4".into(), vec![4]));
    assert_eq!(versions(&mut client, then).await, ("3".into(), vec![3]), "the statement has the last word");

    let mut client = server.client().await;
    let transaction = client.begin_transaction().await.unwrap();
    server.lake.send_replace(served(lake(10, 1)));
    let info = client.execute(newest.to_owned(), Some(transaction.clone())).await.unwrap();
    assert_eq!(info.app_metadata, "9");
    let mut prepared = client.prepare(newest.to_owned(), Some(transaction.clone())).await.unwrap();
    assert_eq!(prepared.execute().await.unwrap().app_metadata, "9");
    assert_eq!(versions(&mut client, newest).await, ("10".into(), vec![10]));
    client.end_transaction(transaction, arrow_flight::sql::EndTransaction::Commit).await.unwrap();
    let status = client.execute(newest.to_owned(), Some("mine".into())).await.unwrap_err();
    assert!(status.to_string().contains("transaction"), "{status}");

    // An option lasts as long as the connection of a client without cookies.
    let option = |value: &str| {
        let value = session_options::OptionValue::Text(value.to_owned());
        let value = session_options::SessionOptionValue { value: Some(value) };
        session_options::SessionOptions { session_options: [("as_of".to_owned(), value)].into() }.encode_to_vec()
    };
    action(&mut client, "SetSessionOptions", option("2")).await.unwrap();
    assert_eq!(versions(&mut client, newest).await, ("2".into(), vec![2]));
    assert_eq!(versions(&mut server.client().await, newest).await, ("10".into(), vec![10]));
    action(&mut client, "CloseSession", Vec::new()).await.unwrap();
    assert_eq!(versions(&mut client, newest).await, ("10".into(), vec![10]));
}

#[tokio::test]
async fn types_are_those_that_are_asked_for() {
    let server = Running::start(lake(1, 0)).await;
    let sql = "SELECT utf8view, u64, zoned, \"decimal\" FROM gold.types";
    for (types, expected) in [
        ("native", ["Utf8View", "UInt64", "Timestamp(ns, \"+07:00\")", "Decimal128(10, 3)"]),
        ("grafana", ["Utf8", "Float64", "Timestamp(ns, \"UTC\")", "Float64"]),
        ("jdbc", ["Utf8", "Decimal128(20, 0)", "Timestamp(µs)", "Decimal128(10, 3)"]),
        ("compat", ["Utf8", "Decimal128(20, 0)", "Timestamp(µs, \"UTC\")", "Decimal128(10, 3)"]),
    ] {
        let mut client = server.client().await;
        client.set_header("lakebed-types", types);
        let info = client.execute(sql.to_owned(), None).await.unwrap();
        let (schema, batches) = read(&mut client, &info).await;
        assert_eq!(*schema, announced(&info), "{types}");
        let kinds: Vec<_> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(kinds, expected, "{types}");
        assert_eq!(rows(&batches), 2);
    }
}

#[tokio::test]
async fn a_statement_can_be_too_long() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let status = refused(&mut client, &format!("SELECT '{}'", "x".repeat(2 << 20))).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("1048576 is the most"), "{status}");
    let columns = (0..2_000).map(|number| format!("{number} AS c{number}")).collect::<Vec<_>>().join(", ");
    assert_eq!(query(&mut client, &format!("SELECT {columns}")).await[0].num_columns(), 2_000);
}
