//! `lakebed doctor`: tries each setting and connection, and says what to do where one does not work.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use arrow::array::RecordBatch;
use chrono::TimeDelta;
use lakebed_capture::Capture;
use lakebed_flight_server::Addresses;
use lakebed_log::{Log, Put, Store, layout};
use lakebed_project::{Config, SinkKind, Users};
use lakebed_query::{Error as QueryError, Lakehouse, Policies, Project, sinks, time_text};
use uuid::Uuid;

use super::serve::{check_addresses, tls};
use crate::columns::{optional_texts, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// What was found about one thing.
struct Finding {
    what: &'static str,
    works: bool,
    found: String,
    hint: Option<String>,
}

impl Finding {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, works: true, found: found.into(), hint: None }
    }

    fn bad(what: &'static str, error: &Error) -> Self {
        Self { what, works: false, found: error.to_string(), hint: error.hint() }
    }

    fn of(what: &'static str, found: Result<String>) -> Self {
        match found {
            Ok(found) => Self::good(what, found),
            Err(error) => Self::bad(what, &error),
        }
    }
}

/// Looks at everything, shows what it found, and fails if something does not work.
pub(crate) async fn doctor(invocation: &Invocation) -> Result<()> {
    let findings = examine(invocation).await;
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("what", texts(findings.iter().map(|finding| finding.what)), false),
        ("state", texts(findings.iter().map(|finding| if finding.works { "ok" } else { "wrong" })), false),
        ("found", texts(findings.iter().map(|finding| finding.found.as_str())), false),
        ("hint", optional_texts(findings.iter().map(|finding| finding.hint.as_deref())), true),
    ])?)?;
    match findings.iter().filter(|finding| !finding.works).count() {
        0 => Ok(()),
        wrong => Err(Error::NotWell { wrong }),
    }
}

async fn examine(invocation: &Invocation) -> Vec<Finding> {
    let config = match invocation.config() {
        Ok(config) => config,
        Err(error) => return vec![Finding::bad("settings", &error)],
    };
    let owner = config.owner();
    let mut findings = vec![Finding::good("settings", format!("project '{owner}', lake {}", config.lake))];
    findings.push(Finding::of("lake", lake(invocation, &config).await));
    let mut policies = None;
    match Project::load(&invocation.directory, config.clone()).map_err(Error::from) {
        Ok(project) => {
            let lakehouse = Lakehouse::open(project.clone()).await;
            policies = Some(rules(invocation, lakehouse.as_ref().ok()).await);
            findings.push(Finding::of("models", models(&project, lakehouse.as_ref().ok()).await));
            findings.extend(sinks(&project, lakehouse.as_ref()).await);
        }
        Err(error) => findings.push(Finding::bad("models", &error)),
    }
    findings.extend(captures(invocation, &config).await);
    let served = match config.serve.http {
        Some(http) => is_served(http).await,
        None => false,
    };
    let users = Users::of(&invocation.directory).list();
    let has_users = users.as_ref().is_ok_and(|users| !users.is_empty());
    findings.push(Finding::of(
        "users",
        users.map_err(Error::from).map(|users| match users.len() {
            0 => "none: programs on this machine may ask".to_owned(),
            1 => "1 may ask".to_owned(),
            many => format!("{many} may ask"),
        }),
    ));
    findings.extend(policies.map(|policies| Finding::of("policies", policies)));
    let has_tls = config.serve.tls_cert.is_some() || config.serve.behind_tls_proxy;
    let flight =
        |address: SocketAddr| -> Result<()> { Ok(lakebed_flight_server::check_flight(address, has_users, has_tls)?) };
    let http = |_: SocketAddr| -> Result<()> { Ok(()) };
    let may_listen: [&dyn Fn(SocketAddr) -> Result<()>; 2] = [&flight, &http];
    let addresses = [("flight", config.serve.flight), ("http", config.serve.http)];
    for ((what, address), may) in addresses.into_iter().zip(may_listen) {
        findings.push(match address {
            Some(address) if served && port(address).is_err() => {
                Finding::good(what, format!("{address} has a lakebed that serves"))
            }
            Some(address) => Finding::of(what, may(address).and_then(|()| port(address))),
            None => Finding::good(what, "off"),
        });
    }
    let addresses = Addresses { flight: config.serve.flight, http: config.serve.http };
    findings.extend(check_addresses(&addresses).err().map(|error| Finding::bad("serve", &error)));
    match tls(&invocation.directory, &config.serve) {
        Ok(None) => {}
        Ok(Some(_)) => findings.push(Finding::good("tls", "the certificate and its key are there")),
        Err(error) => findings.push(Finding::bad("tls", &error)),
    }
    findings
}

/// Whether the store answers, can be written, and knows the one thing that the log hangs on: put if absent.
async fn lake(invocation: &Invocation, config: &Config) -> Result<String> {
    let store = match config.store(&invocation.directory, false) {
        Err(lakebed_project::Error::Log(lakebed_log::Error::NoLog { place })) => {
            return Ok(format!("{place} is not there yet: the first `lakebed ingest` or `run` makes it"));
        }
        store => store?,
    };
    tries_out(&store).await?;
    match Log::open(store.clone(), &config.owner()).await {
        Ok(log) => {
            let ((version, time), now) = (log.head().await?, invocation.now());
            match time > now + A_CLOCKS_DRIFT {
                true => Err(Error::AheadOfTime { version, time: time_text(time), now: time_text(now) }),
                false => Ok(format!("{}, version {version}{}", store.place(), as_it_was_made(&log, config))),
            }
        }
        Err(lakebed_log::Error::NoLog { .. }) => Ok(format!("{} can be written; there is no log yet", store.place())),
        Err(error) => Err(error.into()),
    }
}

/// What the log is partitioned by, where the settings say something else.
fn as_it_was_made(log: &Log, config: &Config) -> String {
    match log.partition_by() {
        by if by == config.partition_by => String::new(),
        by => format!(", with partition_by = \"{by}\" as it was made: \"{}\" is for a new lake", config.partition_by),
    }
}

/// By so much clocks of machines differ that are set by the network.
const A_CLOCKS_DRIFT: TimeDelta = TimeDelta::minutes(5);

async fn tries_out(store: &Store) -> Result<()> {
    let path = layout::trial(Uuid::now_v7());
    let (first, second) = (store.put_if_absent(&path, "1").await?, store.put_if_absent(&path, "2").await?);
    store.delete(&path).await?;
    match (first, second) {
        (Put::Created, Put::Exists) => Ok(()),
        _ => Err(Error::NoPutIfAbsent { place: store.place().to_owned() }),
    }
}

/// Whether every model's query can be planned over what the log has; without a lake, whether it can be read.
async fn models(project: &Project, lakehouse: Option<&Lakehouse>) -> Result<String> {
    if let Some(lakehouse) = lakehouse {
        lakehouse.plan().await?;
    }
    Ok(format!("{} models under sql/", project.models.len()))
}

/// The policies, and whether they can be applied to the tables as they are.
async fn rules(invocation: &Invocation, lakehouse: Option<&Lakehouse>) -> Result<String> {
    let Some(rules) = Policies::of(&invocation.directory).rules()? else {
        return Ok("none: whoever may ask reads everything".to_owned());
    };
    if let Some(lakehouse) = lakehouse {
        rules.check_over(&lakehouse.read(None).await?).await?;
    }
    Ok(format!("{} under sql/policies", rules.count()))
}

/// The sinks that models are kept in.
async fn sinks(project: &Project, lakehouse: Result<&Lakehouse, &QueryError>) -> Vec<Finding> {
    let kept_in = |sink: SinkKind| project.models.iter().filter(|model| model.is_kept_in(sink)).count();
    let mut findings = Vec::new();
    if kept_in(SinkKind::DuckDb) > 0 {
        let models = kept_in(SinkKind::DuckDb);
        findings.push(match lakehouse {
            Ok(lakehouse) => Finding::of("duckdb", published(lakehouse, models).await),
            Err(_) => Finding::good("duckdb", format!("{models} models; nothing is published yet")),
        });
    }
    if kept_in(SinkKind::Postgres) > 0 || project.config.postgres.url.is_some() {
        let sink = sinks::postgres::PostgresSink::new(&project.config.postgres, &project.directory);
        let found = match sink {
            Ok(Some(sink)) => {
                let models = project.models.iter().filter(|model| model.is_kept_in(SinkKind::Postgres));
                let log = project.config.postgres.events && kept_in(SinkKind::Postgres) > 0;
                let log = log.then(|| "bronze.events".to_owned());
                let models: Vec<String> = models.map(|model| model.name.to_string()).chain(log).collect();
                sink.look(lake_id(lakehouse).await.as_deref(), &models).await.map_err(Error::from)
            }
            Ok(None) => {
                let models = project.models.iter();
                let model =
                    models.filter(|model| model.is_kept_in(SinkKind::Postgres)).map(|model| model.name.to_string());
                Err(QueryError::NoPostgres { model: model.collect::<Vec<_>>().join(", ") }.into())
            }
            Err(error) => Err(error.into()),
        };
        findings.push(Finding::of("postgres", found));
    }
    if kept_in(SinkKind::Delta) > 0 {
        let found = match project.config.delta_store(&project.directory, false) {
            Ok(Some(store)) => tries_out(&store).await.map(|()| store.place().to_owned()),
            Ok(None) => Ok("in the lake".to_owned()),
            Err(lakebed_project::Error::Log(lakebed_log::Error::NoLog { place })) => {
                Ok(format!("{place} is not there yet: the first `lakebed run` makes it"))
            }
            Err(error) => Err(error.into()),
        };
        findings.push(Finding::of("delta", found));
    }
    findings
}

/// The databases whose changes are captured.
async fn captures(invocation: &Invocation, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.captures.is_empty() {
        return findings;
    }
    let intake = invocation.log(config).await.ok().map(|log| invocation.intake(&log, config));
    for (name, section) in &config.captures {
        let found = match Capture::new(name, section, &invocation.directory) {
            Ok(capture) => capture.look(intake.as_ref()).await,
            Err(error) => Err(error),
        };
        findings.push(Finding::of("capture", found.map_err(Error::from)));
    }
    findings
}

/// By what sinks know the lake, as far as it is known.
async fn lake_id(lakehouse: Result<&Lakehouse, &QueryError>) -> Option<String> {
    use lakebed_log::Error::NoLog;
    match lakehouse {
        Ok(lakehouse) => Some(lakehouse.log().table_id().await.simple().to_string()),
        // One that is not there yet will be another than those that are.
        Err(QueryError::Log(NoLog { .. }) | QueryError::Project(lakebed_project::Error::Log(NoLog { .. }))) => {
            Some(String::new())
        }
        Err(_) => None,
    }
}

async fn published(lakehouse: &Lakehouse, models: usize) -> Result<String> {
    let path = lakehouse.duckdb_path();
    Ok(match lakehouse.published_at().await? {
        Some(version) => format!("{models} models, {} at version {version}", path.display()),
        None => format!("{models} models; {} is not published yet", path.display()),
    })
}

/// Whether a server of lakebed's answers there.
async fn is_served(http: SocketAddr) -> bool {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build();
    let asked = async { client.ok()?.get(format!("http://{http}/healthz")).send().await.ok()?.text().await.ok() };
    asked.await.is_some_and(|answer| answer.contains("\"version\":"))
}

/// Whether the address can be listened on; or who has it is told.
fn port(address: SocketAddr) -> Result<String> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address} is free")),
        Err(source) => Err(Error::Listen { address, source }),
    }
}
