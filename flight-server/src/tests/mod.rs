//! The server as clients meet it: real sockets, arrow-flight's own client, a lake of memory tables.

mod console;
mod doors;
mod formats;
mod lake;
mod listings;
mod logins;
mod policies;
mod results;
mod running;
mod sessions;
mod statements;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightInfo, Ticket};
use futures::TryStreamExt;
use lakebed_project::Users;
use lakebed_query::{Policies, ReadSession};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use self::lake::served;
use crate::{Addresses, Key, Limits, Metrics, Options, Result, Served, Server};

type Client = FlightSqlServiceClient<Channel>;

/// A server of no project.
async fn bind(addresses: Addresses, sessions: watch::Receiver<Served>, limits: Limits) -> Result<Server> {
    Server::bind(addresses, sessions, options(Path::new("/nowhere"), limits)).await
}

/// For the users and the policies of the project in a directory; all servers here sign with one key.
fn options(project: &Path, limits: Limits) -> Options {
    let key = Key::of_secret(b"shared");
    let (users, policies) = (Users::of(project), Policies::of(project));
    Options { key, limits, users, policies, tls: None, behind_tls_proxy: false }
}

/// A server over a lake at version 1.
struct Running {
    flight: SocketAddr,
    http: SocketAddr,
    lake: watch::Sender<Served>,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(session: ReadSession) -> Self {
        Self::start_with(session, |_| ()).await
    }

    async fn start_with(session: ReadSession, change: impl FnOnce(&mut Server)) -> Self {
        Self::within(session, Limits::default(), change).await
    }

    async fn within(session: ReadSession, limits: Limits, change: impl FnOnce(&mut Server)) -> Self {
        Self::of_project(Path::new("/nowhere"), session, limits, change).await
    }

    async fn of_project(
        project: &Path,
        session: ReadSession,
        limits: Limits,
        change: impl FnOnce(&mut Server),
    ) -> Self {
        Self::with(options(project, limits), session, change).await
    }

    async fn with(options: Options, session: ReadSession, change: impl FnOnce(&mut Server)) -> Self {
        let (lake, sessions) = watch::channel(served(session));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let addresses = Addresses { flight: Some(any), http: Some(any) };
        let mut server = Server::bind(addresses, sessions, options).await.unwrap();
        change(&mut server);
        let (flight, http) = (server.flight_address().unwrap(), server.http_address().unwrap());
        let metrics = server.metrics();
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(server.run(async {
            stopped.await.ok();
        }));
        Self { flight, http, lake, metrics, stop, done }
    }

    async fn client(&self) -> Client {
        let endpoint = Channel::from_shared(format!("http://{}", self.flight)).unwrap();
        FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
    }
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

fn announced(info: &FlightInfo) -> Schema {
    info.clone().try_decode_schema().unwrap()
}

/// The schema that DoGet sent, and its rows.
async fn read(client: &mut Client, info: &FlightInfo) -> (SchemaRef, Vec<RecordBatch>) {
    let mut stream = client.do_get(ticket(info)).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert_ne!(batch.num_rows(), 0, "an empty batch was sent");
        batches.push(batch);
    }
    (stream.schema().expect("a schema message comes even without rows").clone(), batches)
}

/// All rows of a result, or what it failed of: by the call, or on the way.
async fn all_rows(client: &mut Client, info: &FlightInfo) -> std::result::Result<Vec<RecordBatch>, FlightError> {
    client.do_get(ticket(info)).await?.try_collect().await
}

async fn query(client: &mut Client, sql: &str) -> Vec<RecordBatch> {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    read(client, &info).await.1
}

/// A result that is being read: its first rows are here.
async fn begun(client: &mut Client, sql: &str) -> (FlightInfo, FlightRecordBatchStream) {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let mut stream = client.do_get(ticket(&info)).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    (info, stream)
}

/// How a result that is being read breaks off.
async fn broken_off(stream: &mut FlightRecordBatchStream) -> Status {
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a result that broke off looks like a whole one"),
            Err(error) => return error.into(),
        }
    }
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Waits until `holds` does: for far longer than it takes on a machine that has other work.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this did not come true: {what}");
}

/// Waits until a count stands still for so long, and gives it.
async fn standing(what: &str, count: &AtomicUsize, still: Duration) -> usize {
    let mut seen = count.load(Ordering::SeqCst);
    for _ in 0..200 {
        tokio::time::sleep(still).await;
        match count.load(Ordering::SeqCst) {
            now if now == seen => return now,
            now => seen = now,
        }
    }
    panic!("this goes on and on: {what}");
}
