//! Policies on every way into the server: what is not a reader's is in no listing, no answer and no error of any call.

use std::fs;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTables};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed_project::Users;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::lake::{lake, served};
use super::{Client, Running, query, read, rows, ticket};
use crate::Limits;

/// A server for ana, who reads the days of one country, and bob, who reads numbers; eve reads nothing.
async fn started() -> (TempDir, Running) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("lakebed.toml"), "").unwrap();
    for folder in ["policies", "gold", "silver"] {
        fs::create_dir_all(root.join("sql").join(folder)).unwrap();
    }
    for model in ["gold/daily", "gold/numbers", "gold/a_b", "silver/orders"] {
        fs::write(root.join(format!("sql/{model}.sql")), "SELECT 1 AS x").unwrap();
    }
    let users = Users::of(root);
    for name in ["ana", "bob", "eve"] {
        users.set_password(name, "a password").unwrap();
    }
    write(root, "GRANT SELECT ON gold.numbers TO bob");
    let server = Running::of_project(root, lake(1, 1), Limits::default(), |_| ()).await;
    (directory, server)
}

fn write(root: &Path, more: &str) {
    let text = format!(
        "GRANT sellers TO ana; GRANT SELECT (day, country) ON gold.daily TO sellers;
         CREATE POLICY own ON gold.daily USING (country = 'de'); {more}"
    );
    fs::write(root.join("sql/policies/all.sql"), text).unwrap();
}

async fn client_of(server: &Running, name: &str) -> Client {
    let mut client = server.client().await;
    client.handshake(name, "a password").await.unwrap();
    client
}

async fn refusal(client: &mut Client, sql: &str) -> Status {
    client.execute(sql.to_owned(), None).await.unwrap_err().into()
}

fn texts(batches: &[RecordBatch], column: usize) -> Vec<String> {
    let texts = batches.iter().flat_map(|batch| {
        let column = batch.column(column).as_string::<i32>().clone();
        (0..column.len()).map(move |row| column.value(row).to_owned()).collect::<Vec<_>>()
    });
    texts.collect()
}

async fn listed(client: &mut FlightSqlServiceClient<Channel>) -> Vec<String> {
    let info = client.get_tables(CommandGetTables::default()).await.unwrap();
    let tables = texts(&read(client, &info).await.1, 2);
    let schemas = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let schemas = texts(&read(client, &schemas).await.1, 1);
    assert_eq!(schemas.is_empty(), tables.is_empty());
    tables
}

#[tokio::test]
async fn each_reader_has_a_lake_of_its_own() {
    let (_directory, server) = started().await;
    let (mut ana, mut bob, mut eve) =
        (client_of(&server, "ana").await, client_of(&server, "bob").await, client_of(&server, "eve").await);
    assert_eq!(listed(&mut ana).await, ["daily"]);
    assert_eq!(listed(&mut bob).await, ["numbers"]);
    assert!(listed(&mut eve).await.is_empty());
    assert_eq!(rows(&query(&mut ana, "SELECT * FROM gold.daily").await), 1);
    assert_eq!(rows(&query(&mut ana, "SELECT * FROM daily VERSION AS OF 3").await), 1);
    assert_eq!(rows(&query(&mut ana, "EXPLAIN SELECT day FROM gold.daily").await), 2);
    // One statement of several readers: each has its own answer, in any order.
    for _ in 0..2 {
        assert_eq!(rows(&query(&mut bob, "SELECT n FROM gold.numbers LIMIT 3").await), 3);
        for (client, name) in [(&ana, "numbers"), (&eve, "numbers"), (&bob, "daily"), (&ana, "nay")] {
            let refused = refusal(&mut client.clone(), &format!("SELECT * FROM gold.{name}")).await;
            assert_eq!(refused.code(), Code::NotFound, "{refused}");
            assert!(refused.message().starts_with(&format!("there is no table 'gold.{name}'")), "{refused}");
        }
    }
    for sql in [
        "SELECT revenue FROM gold.daily",
        "SELECT day FROM gold.daily WHERE revenue > 1",
        "SELECT * FROM silver.orders VERSION AS OF 3",
        "SELECT * FROM lakebed.versions",
        "SELECT 1 FROM \"gold@3\".numbers",
    ] {
        let refused = refusal(&mut ana, sql).await;
        assert!([Code::NotFound, Code::InvalidArgument].contains(&refused.code()), "{sql}: {refused}");
    }
    // Keys, of what is seen and to what is seen.
    let keys = |table: &str| CommandGetPrimaryKeys { catalog: None, db_schema: None, table: table.to_owned() };
    let imported = |table: &str| CommandGetImportedKeys { catalog: None, db_schema: None, table: table.to_owned() };
    let info = ana.get_primary_keys(keys("daily")).await.unwrap();
    assert_eq!(texts(&read(&mut ana, &info).await.1, 3), ["day", "country"]);
    let info = bob.get_primary_keys(keys("daily")).await.unwrap();
    assert_eq!(rows(&read(&mut bob, &info).await.1), 0);
    let info = ana.get_imported_keys(imported("daily")).await.unwrap();
    assert_eq!(rows(&read(&mut ana, &info).await.1), 0, "it leads to orders, which ana does not see");
}

#[tokio::test]
async fn prepared_statements_and_transactions_are_their_readers() {
    let (_directory, server) = started().await;
    let (mut ana, mut bob) = (client_of(&server, "ana").await, client_of(&server, "bob").await);
    assert!(bob.prepare("SELECT day FROM gold.daily".to_owned(), None).await.is_err());
    let mut prepared = ana.prepare("SELECT day FROM gold.daily WHERE country <> 'x'".to_owned(), None).await.unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(rows(&read(&mut ana, &info).await.1), 1);
    let transaction = ana.begin_transaction().await.unwrap();
    let info = ana.execute("SELECT * FROM gold.daily".to_owned(), Some(transaction.clone())).await.unwrap();
    assert_eq!(rows(&read(&mut ana, &info).await.1), 1);
    assert!(bob.execute("SELECT * FROM gold.daily".to_owned(), Some(transaction)).await.is_err());
}

#[tokio::test]
async fn a_change_holds_for_what_was_given_out_before() {
    let (directory, server) = started().await;
    let mut ana = client_of(&server, "ana").await;
    let mut prepared = ana.prepare("SELECT day FROM gold.daily".to_owned(), None).await.unwrap();
    let info = ana.execute("SELECT day FROM gold.daily".to_owned(), None).await.unwrap();
    write(directory.path(), "CREATE POLICY nothing ON gold.daily AS RESTRICTIVE USING (false)");
    assert_eq!(rows(&read(&mut ana, &info).await.1), 0, "the plan that waited is of yesterday's policies");
    let info = prepared.execute().await.unwrap();
    assert_eq!(rows(&read(&mut ana, &info).await.1), 0);
    let waiting = ana.execute("SELECT day FROM gold.daily".to_owned(), None).await.unwrap();
    // A file that is wrong opens nothing, and says nothing of itself.
    write(directory.path(), "GRANT SELECT ON gold.secret TO ana");
    for refused in [
        refusal(&mut ana, "SELECT 1").await,
        Status::from(ana.do_get(ticket(&waiting)).await.err().unwrap()),
        Status::from(ana.get_tables(CommandGetTables::default()).await.unwrap_err()),
    ] {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(!refused.message().contains("secret"), "{refused}");
    }
    write(directory.path(), "GRANT SELECT ON gold.numbers TO sellers");
    assert_eq!(listed(&mut ana).await, ["daily", "numbers"]);
    server.lake.send_replace(served(lake(2, 1)));
    assert_eq!(rows(&query(&mut ana, "SELECT * FROM gold.daily").await), 1);
    // And what is gone opens nothing either.
    fs::remove_dir_all(directory.path().join("sql")).unwrap();
    assert!(listed(&mut ana).await.is_empty());
}

#[tokio::test]
async fn over_http_it_is_the_same() {
    let (_directory, server) = started().await;
    let (status, text) = post(&server, "ana", "SELECT * FROM gold.daily").await;
    assert_eq!((status.as_str(), text.matches("country").count()), ("200", 1), "{text}");
    for (name, sql) in [("bob", "SELECT * FROM gold.daily"), ("eve", "SELECT * FROM gold.numbers")] {
        assert_eq!(post(&server, name, sql).await.0, "404");
    }
    let (status, text) =
        post(&server, "ana", "SELECT current_user AS who, pg_has_role('sellers', 'member') AS sells").await;
    assert_eq!((status.as_str(), text.trim()), ("200", r#"[{"who":"ana","sells":true}]"#));
}

async fn post(server: &Running, name: &str, sql: &str) -> (String, String) {
    let login = STANDARD.encode(format!("{name}:a password"));
    let head =
        format!("POST /v1/sql HTTP/1.0\r\nAuthorization: Basic {login}\r\nContent-Length: {}\r\n\r\n", sql.len());
    let mut connection = TcpStream::connect(server.http).await.unwrap();
    connection.write_all(format!("{head}{sql}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}
