//! Users: nobody else is answered, by any call; what one was given is of no use to another.

use arrow_flight::sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, Criteria, Empty, FlightDescriptor, HandshakeRequest};
use lakebed_project::Users;
use prost::Message;
use tempfile::TempDir;
use tonic::{Code, Request};

use super::lake::lake;
use super::{Running, query, read, rows, ticket};
use crate::Limits;

/// A server for ana and bob.
async fn started() -> (TempDir, Users, Running) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("lakebed.toml"), "").unwrap();
    let users = Users::of(directory.path());
    users.set_password("ana", "ana's password").unwrap();
    users.set_password("bob", "bob's password").unwrap();
    let server = Running::of_project(directory.path(), lake(1, 1), Limits::default(), |_| ()).await;
    (directory, users, server)
}

#[tokio::test]
async fn no_call_is_answered_to_nobody() {
    let (_directory, _, server) = started().await;
    let mut client = server.client().await;
    let statement = CommandStatementQuery { query: "SELECT 1".to_owned(), transaction_id: None };
    let statement = FlightDescriptor::new_cmd(statement.as_any().encode_to_vec());
    let tables = FlightDescriptor::new_cmd(CommandGetTables::default().as_any().encode_to_vec());
    let tables_ticket = arrow_flight::Ticket::new(CommandGetTables::default().as_any().encode_to_vec());
    let raw = client.inner_mut();
    let upload = futures::stream::iter([arrow_flight::FlightData::default()]);
    for (call, status) in [
        ("GetFlightInfo", raw.get_flight_info(statement.clone()).await.err()),
        ("GetFlightInfo of tables", raw.get_flight_info(tables).await.err()),
        ("PollFlightInfo", raw.poll_flight_info(statement.clone()).await.err()),
        ("GetSchema", raw.get_schema(statement).await.err()),
        ("DoGet", raw.do_get(tables_ticket).await.err()),
        ("DoPut", raw.do_put(upload.clone()).await.err()),
        ("DoAction", raw.do_action(Action::new("GetSessionOptions", Vec::new())).await.err()),
        ("ListActions", raw.list_actions(Empty {}).await.err()),
        ("ListFlights", raw.list_flights(Criteria::default()).await.err()),
        ("DoExchange", raw.do_exchange(upload).await.err()),
    ] {
        let status = status.unwrap_or_else(|| panic!("{call} was answered"));
        assert_eq!(status.code(), Code::Unauthenticated, "{call}: {status}");
        assert!(status.message().contains("hint: "), "{status}");
    }
    let wrong = client.handshake("ana", "bob's password").await.unwrap_err().to_string();
    assert!(wrong.contains("the user or the password is wrong"), "{wrong}");
}

#[tokio::test]
async fn what_one_user_was_given_is_of_no_use_to_another() {
    let (_directory, users, server) = started().await;
    let (mut ana, mut bob) = (server.client().await, server.client().await);
    ana.handshake("ana", "ana's password").await.unwrap();
    bob.handshake("bob", "bob's password").await.unwrap();
    assert_eq!(rows(&query(&mut bob, "SELECT 1").await), 1);
    let info = ana.execute("SELECT n FROM gold.numbers".to_owned(), None).await.unwrap();
    let stolen = tonic::Status::from(bob.do_get(ticket(&info)).await.err().unwrap());
    assert_eq!(stolen.code(), Code::PermissionDenied, "{stolen}");
    assert_eq!(rows(&read(&mut ana, &info).await.1), 65_536);
    // A login ends with its password, and the others go on.
    users.set_password("ana", "another password").unwrap();
    let ended = tonic::Status::from(ana.do_get(ticket(&info)).await.err().unwrap());
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert!(ended.message().contains("log in again"), "{ended}");
    let secret = users.add_token("ana", "notebook", None, chrono::Utc::now()).unwrap();
    let mut again = server.client().await;
    again.handshake("ana", &secret).await.unwrap();
    assert_eq!(rows(&query(&mut again, "SELECT 1").await), 1);
    let mut with_token = server.client().await;
    with_token.set_token(secret.clone());
    assert_eq!(rows(&query(&mut with_token, "SELECT 1").await), 1);
    // JDBC shakes hands with its token, and goes on with what the answer says.
    let mut shaken = Request::new(futures::stream::iter([HandshakeRequest::default()]));
    shaken.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    let answer = server.client().await.inner_mut().handshake(shaken).await.unwrap();
    assert_eq!(answer.metadata().get("authorization").unwrap(), &format!("Bearer {secret}"));
    users.remove("bob", None).unwrap();
    assert!(bob.execute("SELECT 1".to_owned(), None).await.is_err());
}
