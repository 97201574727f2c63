//! `lakebed serve`: the lake over Flight SQL and HTTP, until it is told to stop.

mod lookout;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakebed_flight_server::{Addresses, Key, Limits, Metrics, Options, Served, Server, Tls};
use lakebed_ingest::http;
use lakebed_project::{ServeConfig, Tokens, Users};
use lakebed_query::{Lakehouse, Policies, Progress, ReadSession, models};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::lookout::{Lookout, State};
use crate::alerts::Alerts;
use crate::arguments::ServeArguments;
use crate::commands::run::{LOOK_EVERY, maintain, refresh, refresh_alone};
use crate::error::{Error, Result};
use crate::invocation::Invocation;
use crate::progress::ModelBar;
use crate::{signals, system};

/// How often it looks whether it has appended something itself, which costs no request.
const OWN_EVERY: Duration = Duration::from_millis(10);

/// For how long the log is quiet before it looks into the inbox.
const DRAIN_AFTER: Duration = Duration::from_secs(2);

/// How often it looks whether a result ended that held much memory.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(500);

/// Bytes more than before, for which freed memory is gone through.
const WORTH_GIVING: u64 = 128 << 20;

/// How long to wait for what is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Serves the newest refreshed version, whoever refreshed it; with `--watch` it refreshes whenever the log has moved.
pub(crate) async fn serve(invocation: &Invocation, arguments: &ServeArguments) -> Result<()> {
    let stopped = signals::stop()?;
    // Results go out in messages of about 2 MiB, one like the other.
    system::keep_freed_memory(64 << 20);
    let lakehouse = invocation.lakehouse_or_new().await?;
    let configured = &lakehouse.project().config.serve;
    let addresses =
        Addresses { flight: arguments.flight.or(configured.flight), http: arguments.http.or(configured.http) };
    if addresses == Addresses::default() {
        return Err(Error::Usage {
            message: "there is nowhere to listen: flight and http are both off".to_owned(),
            hint: "give an address, such as --flight 127.0.0.1:31337".to_owned(),
        });
    }
    // As they are before the models are read: what changes meanwhile is seen.
    let files = models::stamp(&invocation.directory);
    // And so does the log: what comes from here on is still to be refreshed.
    let (head, _) = lakehouse.log().head().await?;
    let worked = match arguments.watch {
        true => refresh(invocation, &lakehouse, &[]).await.map(drop),
        false => maintain(invocation, &lakehouse).await,
    };
    let behind = is_behind(invocation, worked, false)?;
    let session = lakehouse.read(None).await?;
    if session.tables().iter().all(|table| table.schema == "bronze") {
        invocation.output.say("there is bronze.events alone: `lakebed run`, or --watch here, builds the other tables");
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
    if let Some(address) = server.flight_address() {
        let scheme = if has_tls { "grpc+tls" } else { "grpc" };
        invocation.output.say(&format!("flight sql  {scheme}://{address}"));
    }
    if let Some(address) = server.http_address() {
        invocation.output.say(&format!("http        http://{address}"));
        invocation.output.say(&format!("events      POST http://{address}{}", http::PATH));
    }
    if let Some(rules) = rules {
        let count = rules.count();
        invocation
            .output
            .say(&format!("policies    {count} under sql/policies: what they grant is read, and nothing else"));
    }
    if !users.are_there()? {
        invocation.output.say("there are no users: programs on this machine may ask; `lakebed user add` makes one");
    }
    let config = &lakehouse.project().config;
    let (state, states) = watch::channel(State { lakehouse: lakehouse.clone(), behind: None, refreshing: None });
    let alerts = Alerts::of(&config.alerts, config.owner());
    let lookout = Lookout::new(alerts, config.alerts.clone(), head);
    let looking = lookout.keep_looking(states, sessions.subscribe(), invocation.clock());
    let (watch, quiet, left) = (arguments.watch, Instant::now(), BTreeSet::new());
    let following =
        Following { invocation, lakehouse, sessions, upkeep: None, state, watch, head, quiet, left, behind, files };
    let metrics = server.metrics();
    // Dropping the sender would say that the lake has gone, so it lives as long as the server.
    tokio::select! {
        served = server.run(stopped) => Ok(served?),
        failed = following.follow() => failed,
        () = looking => Ok(()),
        () = give_memory_back(&metrics) => Ok(()),
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
fn tls(directory: &Path, config: &ServeConfig) -> Result<Option<Tls>> {
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

/// A server's eye on its lake and on the files of its models.
struct Following<'i> {
    invocation: &'i Invocation,
    lakehouse: Lakehouse,
    sessions: watch::Sender<Served>,
    /// The log's upkeep, while it is under way.
    upkeep: Option<JoinHandle<Result<()>>>,
    /// What it is at, for whoever looks out.
    state: watch::Sender<State>,
    /// Whether it refreshes.
    watch: bool,
    /// The log's version before the first refresh.
    head: u64,
    /// When something last came, or the inbox was looked into.
    quiet: Instant,
    /// What was told that could not be committed.
    left: BTreeSet<String>,
    /// Whether something that was away kept a refresh from its end.
    behind: bool,
    files: models::Stamp,
}

impl Following<'_> {
    /// Swaps the session whenever the log has moved or somebody has refreshed, which with `watch` is done here, also when a
    /// model's file has changed. Returns only with a failure.
    async fn follow(mut self) -> Result<()> {
        let mut seen = (self.head, self.lakehouse.epoch().await?);
        loop {
            self.wait(seen.0).await;
            let before = self.lakehouse.clone();
            let edited = self.watch && self.reload();
            let worked = match self.keep_up(edited, &mut seen).await {
                // A model that parses may still be wrong: it is told, and the others are served.
                Err(error) if edited && !error.may_pass() => {
                    self.lakehouse = before;
                    self.refuse(&error);
                    self.keep_up(true, &mut seen).await
                }
                worked => worked,
            };
            let behind = worked.as_ref().err().map(ToString::to_string);
            self.behind = is_behind(self.invocation, worked, self.behind)?;
            self.state.send_replace(State { lakehouse: self.lakehouse.clone(), behind, refreshing: None });
        }
    }

    /// Waits for the next look: until it is time, or until this process has appended something.
    async fn wait(&self, seen: u64) {
        if self.behind {
            return tokio::time::sleep(AGAIN_AFTER).await;
        }
        let began = Instant::now();
        while began.elapsed() < LOOK_EVERY && self.lakehouse.log().seen() <= seen {
            tokio::time::sleep(OWN_EVERY).await;
        }
    }

    /// Reads the models again, if one of their files is another now. With a file that is wrong, all stays as it was.
    fn reload(&mut self) -> bool {
        let files = models::stamp(&self.invocation.directory);
        if files == self.files {
            return false;
        }
        self.files = files;
        match self.lakehouse.reloaded() {
            Ok(lakehouse) => {
                self.lakehouse = lakehouse;
                true
            }
            Err(error) => {
                self.refuse(&error.into());
                false
            }
        }
    }

    fn refuse(&self, error: &Error) {
        self.invocation.output.fail(error);
        self.invocation.output.say("the models go on as they were");
    }

    /// Has the log kept up beside what goes on here: a refresh does not wait for a compaction. Gives what became of the last time.
    async fn keep_tidy(&mut self) -> Result<()> {
        let last = match self.upkeep.take() {
            Some(upkeep) if !upkeep.is_finished() => {
                self.upkeep = Some(upkeep);
                return Ok(());
            }
            Some(upkeep) => upkeep.await?,
            None => Ok(()),
        };
        let (invocation, lakehouse) = (self.invocation.clone(), self.lakehouse.clone());
        self.upkeep = Some(tokio::spawn(async move { maintain(&invocation, &lakehouse).await }));
        last
    }

    /// Refreshes; what is stored is served while the sinks are brought up to it.
    async fn refresh(&self) -> Result<()> {
        self.state.send_modify(|state| state.refreshing = Some(Instant::now()));
        let told = Told { bar: ModelBar::new(&self.invocation.output), stored: Notify::new() };
        let serving = async {
            loop {
                told.stored.notified().await;
                // One that cannot be opened now is opened after the refresh, and fails there.
                if let Ok(session) = self.lakehouse.read(None).await {
                    self.sessions.send_replace(served(session, &self.lakehouse));
                }
            }
        };
        tokio::select! {
            refreshed = refresh_alone(&self.lakehouse, &[], &told) => refreshed.map(drop),
            () = serving => Ok(()),
        }
    }

    /// Commits what waits in the inbox while nobody else commits it: a batch whose sender has only had it made durable comes into
    /// the tables although nothing is sent any more.
    async fn drain(&mut self) -> Result<()> {
        if self.watch && self.quiet.elapsed() >= DRAIN_AFTER {
            let drained = self.lakehouse.log().drain(self.invocation.now()).await?;
            for left in drained.left {
                if self.left.insert(left.clone()) {
                    self.invocation.output.say(&left);
                }
            }
            self.quiet = Instant::now();
        }
        Ok(())
    }

    /// One look at the lake, and what follows from it.
    async fn keep_up(&mut self, edited: bool, seen: &mut (u64, Option<u64>)) -> Result<()> {
        let now = stand(&self.lakehouse).await?;
        let due = edited || self.behind;
        if now == *seen && !due {
            return self.drain().await;
        }
        self.quiet = Instant::now();
        // Who reads files that a compaction replaced has as long as a vacuum leaves them: readers move on with it.
        let worked = match self.watch && (due || now.0 > seen.0) {
            true => self.refresh().await,
            false => Ok(()),
        };
        let worked = worked.and(self.keep_tidy().await);
        // What was refreshed is served, whatever sink could not be reached. The log may have moved on meanwhile, and that is still
        // to be refreshed: it was seen as far as it stood before.
        *seen = (now.0, self.lakehouse.epoch().await?);
        self.sessions.send_replace(served(self.lakehouse.read(None).await?, &self.lakehouse));
        worked
    }
}

/// Draws a bar, and tells of an epoch that is stored.
struct Told {
    bar: ModelBar,
    stored: Notify,
}

impl Progress for Told {
    fn model(&self, name: &str, done: usize, of: usize) {
        self.bar.model(name, done, of);
    }

    fn stored(&self) {
        self.stored.notify_one();
    }
}

/// Whether work is to be done again because what it needs is away; told the first time.
pub(crate) fn is_behind(invocation: &Invocation, worked: Result<()>, before: bool) -> Result<bool> {
    match worked {
        Err(error) if error.may_pass() => {
            if !before {
                invocation.output.fail(&error);
                invocation.output.say("it goes on, and tries again every second");
            }
            Ok(true)
        }
        worked => {
            worked?;
            if before {
                invocation.output.say("everything is up to date");
            }
            Ok(false)
        }
    }
}

/// The log's newest version, and the newest epoch.
async fn stand(lakehouse: &Lakehouse) -> Result<(u64, Option<u64>)> {
    let (head, _) = lakehouse.log().head().await?;
    Ok((head, lakehouse.epoch().await?))
}
