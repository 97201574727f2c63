//! Binding, HTTP, and the end of a server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::lake::{lake, served};
use super::{Running, begun, bind, broken_off, query, rows, ticket};
use crate::{Addresses, Error, Limits};

/// Far longer than what is to happen takes, and what is not to happen takes this long.
const LONG: Duration = Duration::from_secs(120);

async fn get(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: lake\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn flight_is_bound_to_loopback_only() {
    let (_lake, sessions) = watch::channel(served(lake(1, 0)));
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let addresses = Addresses { flight: Some(address.parse().unwrap()), http: None };
        let Err(error) = bind(addresses, sessions.clone(), Limits::default()).await else {
            panic!("{address} was bound")
        };
        assert!(matches!(error, Error::NoUsers { .. }), "{error}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_with_its_address() {
    let server = Running::start(lake(1, 0)).await;
    let (_lake, sessions) = watch::channel(served(lake(1, 0)));
    let taken = Addresses { flight: Some(server.flight), http: None };
    let Err(error) = bind(taken, sessions, Limits::default()).await else { panic!("the port was given twice") };
    assert!(error.to_string().contains(&server.flight.to_string()), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn health_and_metrics_follow_the_lake() {
    let server = Running::start(lake(7, 1)).await;
    let health = get(server.http, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("content-type: application/json"), "{health}");
    assert!(health.contains("{\"status\":\"ok\",\"version\":7}"), "{health}");
    server.lake.send_replace(served(lake(8, 1)));
    assert!(get(server.http, "/healthz").await.contains("\"version\":8"));

    let mut client = server.client().await;
    assert_eq!(rows(&query(&mut client, "SELECT n FROM gold.numbers").await), 65_536);
    client.execute("SELECT nothing".to_owned(), None).await.unwrap_err();
    super::eventually("the stream is over", || {
        server.metrics.text().unwrap().contains("lakebed_query_seconds_count 1")
    })
    .await;
    let metrics = get(server.http, "/metrics").await;
    for line in [
        "lakebed_log_version 8",
        "lakebed_flight_requests_total{call=\"GetFlightInfo\",code=\"OK\"} 1",
        "lakebed_flight_requests_total{call=\"GetFlightInfo\",code=\"INVALID_ARGUMENT\"} 1",
        "lakebed_flight_requests_total{call=\"DoGet\",code=\"OK\"} 1",
        "lakebed_flight_rows_sent_total 65536",
        "lakebed_flight_active_streams 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    assert!(get(server.http, "/elsewhere").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_shutdown_lets_running_streams_end() {
    let server = Running::start_with(lake(1, 64), |server| server.grace = LONG).await;
    let mut client = server.client().await;
    let (_, stream) = begun(&mut client, "SELECT n FROM gold.numbers").await;
    server.stop.send(()).unwrap();
    let asked = Instant::now();
    while TcpStream::connect(server.flight).await.is_ok() {
        assert!(asked.elapsed() < LONG, "new connections are taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert!(rows(&rest) > 60 * 65_536);
    drop(client);
    server.done.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let server = Running::start_with(lake(1, 0), |server| server.grace = LONG).await;
    let mut client = server.client().await;
    assert_eq!(rows(&query(&mut client, "SELECT 1").await), 1);
    let asked = Instant::now();
    server.stop.send(()).unwrap();
    server.done.await.unwrap().unwrap();
    assert!(asked.elapsed() < LONG / 2, "an idle client held the server for {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_broken_off_and_says_so() {
    let server = Running::start_with(lake(1, 0), |server| server.grace = Duration::from_millis(200)).await;
    let mut client = server.client().await;
    let info = client.execute("SELECT n FROM gold.endless".to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    server.stop.send(()).unwrap();
    let status = broken_off(&mut stream).await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    server.done.await.unwrap().unwrap();
}
