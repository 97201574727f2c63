//! `lakebed serve`: the lake over Flight SQL and HTTP, until it is told to stop.

mod counters;
mod following;
mod lookout;
mod publisher;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_flight_server::{Addresses, Key, Limits, Metrics, Options, Served, Server, Tls};
use lakebed_ingest::http;
use lakebed_project::{ServeConfig, Tokens, Users};
use lakebed_query::{Lakehouse, Policies, ReadSession, Rules, models};
use tokio::sync::watch;

use self::counters::Counters;
use self::following::{Following, Keeping, tell_unlike};
use self::lookout::{Lookout, State};
use crate::alerts::Alerts;
use crate::arguments::{Listen, ServeArguments};
use crate::commands::run::behind::Behind;
use crate::commands::run::{maintain, refresh_models};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::{signals, system};

/// How often it looks whether a result ended that held much memory.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(500);

/// Bytes more than before, for which freed memory is gone through.
const WORTH_GIVING: u64 = 128 << 20;

/// Serves the newest refreshed version, whoever refreshed it; with `--watch` it refreshes whenever the log has moved.
pub(crate) async fn serve(invocation: &Invocation, arguments: &ServeArguments) -> Result<()> {
    let stopped = signals::stop()?;
    // Results go out in messages of about 2 MiB, one like the other.
    system::keep_freed_memory(64 << 20);
    // As they are before the models are read: what changes meanwhile is seen.
    let files = models::stamp(&invocation.directory);
    let lakehouse = invocation.lakehouse_or_new().await?;
    let configured = &lakehouse.project().config.serve;
    let addresses = addresses(arguments, configured)?;
    // What comes to the log from here on is still to be refreshed.
    let (head, _) = lakehouse.log().head().await?;
    let worked = match arguments.watch {
        true => refresh_models(invocation, &lakehouse).await,
        false => maintain(invocation, &lakehouse).await,
    };
    let mut behind = Behind::default();
    // A model that fails is in nobody's way: what comes is taken in, and what is stored is served.
    behind.refreshed(invocation, worked, arguments.watch)?;
    let epoch = lakehouse.epoch().await?;
    let session = lakehouse.read(None).await?;
    let unlike = lakehouse.unlike_the_tables().await?;
    tell_unlike(invocation, &unlike);
    if epoch.is_none() && !lakehouse.project().models.is_empty() {
        invocation.output.say(match arguments.watch {
            true => "there is bronze.events alone, until the models can be built",
            false => "there is bronze.events alone: `lakebed run`, or --watch here, builds the other tables",
        });
    }
    let policies = Policies::of(&invocation.directory);
    let rules = policies.rules()?;
    if let Some(rules) = &rules {
        rules.check_over(&session).await?;
    }
    let (sessions, lake) = watch::channel(served(session, &lakehouse));
    let key =
        configured.secret.as_ref().map_or_else(Key::of_this_process, |key| Key::of_secret(key.as_str().as_bytes()));
    let limits = Limits {
        at_once: configured.queries_at_once,
        waiting: configured.queries_waiting,
        memory: configured.query_memory,
        memory_of_all: configured.queries_memory,
        time: configured.query_seconds,
    };
    let users = Users::of(&invocation.directory);
    let tls = tls(&invocation.directory, configured)?;
    let has_tls = tls.is_some();
    let behind_tls_proxy = configured.behind_tls_proxy;
    let options = Options { key, limits, users: users.clone(), policies, tls, behind_tls_proxy };
    let server = Server::bind(addresses, lake, options).await?;
    let server = match server.http_address() {
        Some(address) => with_ingest(invocation, &lakehouse, server, address)?,
        None => server,
    };
    announce(invocation, &server, has_tls, rules.as_deref());
    if !users.are_there()? {
        invocation.output.say("there are no users: programs on this machine may ask; `lakebed user add` makes one");
    }
    let config = &lakehouse.project().config;
    let up_to_date = (head, Instant::now());
    let (state, states) = watch::channel(State {
        lakehouse: lakehouse.clone(),
        up_to_date,
        behind: None,
        refused: None,
        refreshing: None,
        publishing: None,
    });
    let metrics = server.metrics();
    let counters = Counters::new(&metrics, states.clone(), arguments.watch)?;
    let alerts = Alerts::of(&config.alerts, config.owner());
    let lookout = Lookout::new(alerts, config.alerts.clone(), head);
    let looking = lookout.keep_looking(states, sessions.subscribe(), invocation.clock());
    let (watch, keeping) = (arguments.watch, Keeping::of(arguments.watch));
    let seen = (head, epoch);
    let following = Following {
        invocation,
        lakehouse,
        sessions,
        state,
        watch,
        seen,
        behind,
        refused: None,
        looked: files.clone(),
        files,
        unlike,
        keeping,
        counters,
        up_to_date,
    };
    // Dropping the sender would say that the lake has gone, so it lives as long as the server.
    tokio::select! {
        served = server.run(stopped) => Ok(served?),
        failed = following.follow() => failed,
        () = looking => Ok(()),
        () = give_memory_back(&metrics) => Ok(()),
    }
}

/// Where to listen: as the command line says, else as the settings do.
fn addresses(arguments: &ServeArguments, configured: &ServeConfig) -> Result<Addresses> {
    let of = |argument: Option<Listen>, configured| argument.map_or(configured, |Listen(address)| address);
    let flight = of(arguments.flight, configured.flight);
    let http = of(arguments.http, configured.http);
    let addresses = Addresses { flight, http };
    check_addresses(&addresses)?;
    Ok(addresses)
}

/// Whether there is somewhere to listen, and one thing to say at each address.
pub(crate) fn check_addresses(addresses: &Addresses) -> Result<()> {
    let wrong = |message: String, hint: &str| Err(Error::Usage { message, hint: hint.to_owned() });
    match (addresses.flight, addresses.http) {
        (None, None) => wrong(
            "there is nowhere to listen: flight and http are both off".to_owned(),
            "give an address, such as --flight 127.0.0.1:31337",
        ),
        (Some(flight), Some(http)) if flight == http && flight.port() != 0 => {
            wrong(format!("flight and http are both at {flight}"), "give each an address of its own")
        }
        _ => Ok(()),
    }
}

/// Says where it listens, and whether everybody reads everything there.
fn announce(invocation: &Invocation, server: &Server, has_tls: bool, rules: Option<&Rules>) {
    if let Some(address) = server.flight_address() {
        let scheme = if has_tls { "grpc+tls" } else { "grpc" };
        invocation.output.say(&format!("flight sql  {scheme}://{address}"));
    }
    if let Some(address) = server.http_address() {
        invocation.output.say(&format!("http        http://{address}"));
        invocation.output.say(&format!("console     http://{address}/"));
        invocation.output.say(&format!("events      POST http://{address}{}", http::PATH));
    }
    if let Some(rules) = rules {
        let count = rules.count();
        invocation
            .output
            .say(&format!("policies    {count} under sql/policies: what they grant is read, and nothing else"));
    }
}

/// Gives memory back to the system after results that held much of it. Never returns.
async fn give_memory_back(metrics: &Metrics) {
    let (mut streams, mut held) = (0, system::resident());
    loop {
        tokio::time::sleep(GIVE_BACK_AFTER).await;
        let before = std::mem::replace(&mut streams, metrics.active_streams());
        let has_grown = || system::resident().zip(held).is_some_and(|(now, held)| now > held + WORTH_GIVING);
        if streams < before && has_grown() && tokio::task::spawn_blocking(system::give_memory_back).await.is_ok() {
            held = system::resident();
        }
    }
}

/// The certificate that the settings name, if they do.
pub(crate) fn tls(directory: &Path, config: &ServeConfig) -> Result<Option<Tls>> {
    let read = |path: &PathBuf| {
        let path = directory.join(path);
        std::fs::read(&path).map_err(|source| Error::File { path, source })
    };
    match (&config.tls_cert, &config.tls_key, &config.tls_client_ca) {
        (Some(certificate), Some(key), client_ca) => Ok(Some(Tls {
            certificate: read(certificate)?,
            key: read(key)?,
            client_ca: client_ca.as_ref().map(read).transpose()?,
        })),
        (None, None, None) => Ok(None),
        _ => Err(Error::Usage {
            message: "a certificate and its key go together".to_owned(),
            hint: "set [serve] tls_cert and tls_key, both or neither".to_owned(),
        }),
    }
}

/// What a server answers from.
fn served(session: ReadSession, lakehouse: &Lakehouse) -> Served {
    Served { session: Arc::new(session), versions: Arc::new(lakehouse.clone()) }
}

/// Takes events in over HTTP as well.
fn with_ingest(invocation: &Invocation, lakehouse: &Lakehouse, server: Server, address: SocketAddr) -> Result<Server> {
    let (log, config) = (lakehouse.log(), &lakehouse.project().config);
    let ServeConfig { max_body_bytes, ingest_memory, webhook_secret, .. } = config.serve.clone();
    let needs_token = !address.ip().to_canonical().is_loopback();
    let (ack, memory) = (config.ingest.ack, ingest_memory);
    let options = http::Options { ack, max_body_bytes, memory, needs_token, webhook_secret };
    let (intake, tokens) = (invocation.intake(log, config), Tokens::new(log.store().clone()));
    let routes = http::routes(intake, tokens, options, server.metrics().registry());
    Ok(server.with_routes(routes.map_err(lakebed_flight_server::Error::Metrics)?))
}
