//! Gold and silver → a Flight SQL client on loopback: a dashboard's question, and a whole table.

#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::sync::Arc;
use std::time::SystemTime;

use arrow_flight::sql::client::FlightSqlServiceClient;
use criterion::{Criterion, Throughput};
use futures::TryStreamExt;
use lakebed_benches::{batch, project};
use lakebed_flight_server::{Addresses, Key, Limits, Options, Served, Server};
use lakebed_log::Ack;
use lakebed_project::Users;
use lakebed_query::{Lakehouse, Policies};
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

const EVENTS: u64 = 20_000;

/// A refreshed lake, open for reading.
async fn served(directory: &std::path::Path) -> Served {
    let lakehouse = Lakehouse::open_or_create(project(directory).unwrap(), SystemTime::now().into()).await.unwrap();
    let events = batch("events".to_owned(), 0, EVENTS, &lakehouse.project().config.columns).unwrap();
    lakehouse.log().append(&events, Ack::Committed, SystemTime::now().into()).await.unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
    Served { session: Arc::new(lakehouse.read(None).await.unwrap()), versions: Arc::new(lakehouse) }
}

/// Rows of the answer, all of them received.
async fn ask(client: &mut FlightSqlServiceClient<Channel>, sql: &str) -> usize {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint.into_iter().next().unwrap().ticket.unwrap();
    let batches: Vec<_> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    batches.iter().map(|batch| batch.num_rows()).sum()
}

fn answers(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (_lake, sessions) = watch::channel(runtime.block_on(served(directory.path())));
    let key = Key::of_this_process();
    let (users, policies) = (Users::of(directory.path()), Policies::of(directory.path()));
    let options = Options { key, limits: Limits::default(), users, policies, tls: None, behind_tls_proxy: false };
    let addresses = Addresses { flight: Some(([127, 0, 0, 1], 0).into()), http: None };
    let server = Server::bind(addresses, sessions, options);
    let server = runtime.block_on(server).unwrap();
    let address = format!("http://{}", server.flight_address().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = runtime.spawn(server.run(async move {
        // Told to, or the bench is gone.
        let _ = stopped.await;
    }));
    let channel = runtime.block_on(Channel::from_shared(address).unwrap().connect()).unwrap();
    let mut client = FlightSqlServiceClient::new(channel);

    let mut group = criterion.benchmark_group("flight");
    group.sample_size(20);
    for (name, sql) in [
        ("a dashboard's question", "SELECT day, sum(revenue) AS revenue FROM gold.revenue GROUP BY day ORDER BY day"),
        ("all of silver.events", "SELECT * FROM silver.events"),
    ] {
        let rows = runtime.block_on(ask(&mut client, sql));
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(ask(&mut client, sql))));
    }
    group.finish();
    stop.send(()).unwrap();
    runtime.block_on(serving).unwrap().unwrap();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    answers(&mut criterion);
    criterion.final_summary();
}
