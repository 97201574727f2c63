//! `lakebed serve`: the lake over Flight SQL and HTTP, until it is told to stop.

use std::sync::Arc;

use lakebed_flight_server::{Addresses, Server};
use lakebed_query::{Lakehouse, ReadSession};
use tokio::sync::watch;

use crate::arguments::ServeArguments;
use crate::commands::run::{LOOK_EVERY, maintain, refresh};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::signals;

/// Serves the newest refreshed version, whoever refreshed it; with `--watch` it refreshes whenever the log has moved.
pub(crate) async fn serve(invocation: &Invocation, arguments: &ServeArguments) -> Result<()> {
    let stopped = signals::stop()?;
    let lakehouse = invocation.lakehouse_or_new().await?;
    let configured = lakehouse.project().config.serve;
    let addresses =
        Addresses { flight: arguments.flight.or(configured.flight), http: arguments.http.or(configured.http) };
    if addresses == Addresses::default() {
        return Err(Error::Usage {
            message: "there is nowhere to listen: flight and http are both off".to_owned(),
            hint: "give an address, such as --flight 127.0.0.1:31337".to_owned(),
        });
    }
    match arguments.watch {
        true => drop(refresh(invocation, &lakehouse, &[]).await?),
        false => maintain(invocation, &lakehouse).await?,
    }
    let session = lakehouse.read(None).await?;
    if session.tables().iter().all(|table| table.schema == "bronze") {
        invocation.output.say("there is bronze.events alone: `lakebed run`, or --watch here, builds the other tables");
    }
    let (sessions, lake) = watch::channel(Arc::new(session));
    let server = Server::bind(addresses, lake).await?;
    if let Some(address) = server.flight_address() {
        invocation.output.say(&format!("flight sql  grpc://{address}"));
    }
    if let Some(address) = server.http_address() {
        invocation.output.say(&format!("http        http://{address}"));
    }
    // Dropping the sender would say that the lake has gone, so it lives as long as the server.
    tokio::select! {
        served = server.run(stopped) => Ok(served?),
        failed = follow(invocation, &lakehouse, &sessions, arguments.watch) => failed,
    }
}

/// Swaps the session whenever the log has moved or somebody has refreshed, which with `watch` is done here. Returns only with a
/// failure.
async fn follow(
    invocation: &Invocation,
    lakehouse: &Lakehouse,
    sessions: &watch::Sender<Arc<ReadSession>>,
    watch: bool,
) -> Result<()> {
    let mut seen = stand(lakehouse).await?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stand(lakehouse).await?;
        if now == seen {
            continue;
        }
        // Who reads files that a compaction replaced has as long as a vacuum leaves them: readers move on with it.
        match watch && now.0 > seen.0 {
            true => drop(refresh(invocation, lakehouse, &[]).await?),
            false => maintain(invocation, lakehouse).await?,
        }
        seen = stand(lakehouse).await?;
        sessions.send_replace(Arc::new(lakehouse.read(None).await?));
    }
}

/// The log's newest version, and the newest epoch.
async fn stand(lakehouse: &Lakehouse) -> Result<(u64, Option<u64>)> {
    let (head, _) = lakehouse.log().head().await?;
    Ok((head, lakehouse.epoch().await?))
}
