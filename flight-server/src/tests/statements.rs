//! Statements, prepared and not: one schema in every answer, and the right refusal for what is refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, Schema};
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, CommandStatementIngest, CommandStatementQuery, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor, SchemaResult,
};
use futures::TryStreamExt;
use prost::Message;
use tonic::{Code, Status};

use super::lake::lake;
use super::{Client, Running, announced, query, read, rows, ticket};
use crate::status;

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
    for sql in ["SELEC 1", "", "SELECT nothing_like_it FROM gold.daily", "SELECT no_function(1)"] {
        let status = refused(&mut client, sql).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{sql}: {status}");
        assert!(!status.message().contains("ParserError("), "{sql}: {status}");
    }
    let status = refused(&mut client, "SELECT 1; SELECT 2").await;
    assert_eq!(status.code(), Code::Unimplemented, "{status}");
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
    let result: Result<Vec<_>, _> = client.do_get(ticket(&info)).await.unwrap().try_collect().await;
    let message = result.unwrap_err().to_string();
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
    for name in ["BeginTransaction", "EndSavepoint", "CreatePreparedSubstraitPlan", "Dance"] {
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
    assert_eq!(listed.try_collect::<Vec<_>>().await.unwrap().len(), 7);
}

#[tokio::test]
async fn a_plan_that_was_not_read_yet_can_be_cancelled_once() {
    let server = Running::start(lake(1, 0)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT 1".to_owned(), None).await.unwrap();
    for expected in [CancelStatus::Cancelled, CancelStatus::NotCancellable] {
        let request = CancelFlightInfoRequest { info: Some(info.clone()) };
        let answers = action(&mut client, "CancelFlightInfo", request.encode_to_vec()).await.unwrap();
        let answer = CancelFlightInfoResult::decode(&*answers[0].body).unwrap();
        assert_eq!(answer.status(), expected);
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
