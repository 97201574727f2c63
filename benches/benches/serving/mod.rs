//! A lake of mock events that is served, and a client that asks it.

use std::sync::Arc;
use std::time::SystemTime;

use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use lakebed_benches::{batch, project};
use lakebed_flight_server::{Addresses, Key, Limits, Options, Served, Server};
use lakebed_log::Ack;
use lakebed_project::Users;
use lakebed_query::{Lakehouse, Policies};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Events of one batch.
const BATCH: u64 = 20_000;

pub(crate) type Client = FlightSqlServiceClient<Channel>;

/// A server of this process, and what it lives by.
pub(crate) struct Serving {
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    done: JoinHandle<lakebed_flight_server::Result<()>>,
    _lake: watch::Sender<Served>,
    _directory: TempDir,
}

impl Serving {
    /// Serves a refreshed lake of the first so many events.
    pub(crate) fn start(events: u64) -> Self {
        let (runtime, directory) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
        let (lake, sessions) = watch::channel(runtime.block_on(served(directory.path(), events)));
        let (users, policies) = (Users::of(directory.path()), Policies::of(directory.path()));
        let (key, limits) = (Key::of_this_process(), Limits::default());
        let options = Options { key, limits, users, policies, tls: None, behind_tls_proxy: false };
        let addresses = Addresses { flight: Some(([127, 0, 0, 1], 0).into()), http: None };
        let server = runtime.block_on(Server::bind(addresses, sessions, options)).unwrap();
        let address = format!("http://{}", server.flight_address().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let done = runtime.spawn(server.run(async move {
            // Told to, or the bench is gone.
            let _ = stopped.await;
        }));
        let channel = runtime.block_on(Channel::from_shared(address).unwrap().connect()).unwrap();
        let client = FlightSqlServiceClient::new(channel);
        Self { runtime, client, stop, done, _lake: lake, _directory: directory }
    }

    pub(crate) fn stop(self) {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.done).unwrap().unwrap();
    }
}

async fn served(directory: &std::path::Path, events: u64) -> Served {
    let lakehouse = Lakehouse::open_or_create(project(directory).unwrap(), SystemTime::now().into()).await.unwrap();
    for from in (0..events).step_by(BATCH as usize) {
        let columns = &lakehouse.project().config.columns;
        let events = batch(format!("from {from}"), from, (events - from).min(BATCH), columns).unwrap();
        lakehouse.log().append(&events, Ack::Committed, SystemTime::now().into()).await.unwrap();
    }
    lakehouse.refresh(&[], &()).await.unwrap();
    Served { session: Arc::new(lakehouse.read(None).await.unwrap()), versions: Arc::new(lakehouse) }
}

/// Rows of an answer, all of them received.
pub(crate) async fn read(client: &mut Client, info: FlightInfo) -> usize {
    let ticket = info.endpoint.into_iter().next().unwrap().ticket.unwrap();
    let batches: Vec<_> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    batches.iter().map(|batch| batch.num_rows()).sum()
}
