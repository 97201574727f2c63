//! lakebed.toml: what a project can set, read with its environment into one [`Config`].
//!
//! A setting is taken from the first of these that has it: a flag, the environment variable `LAKEBED_SECTION_KEY`,
//! `[section] key` in lakebed.toml, its default.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lakebed_log::{Ack, ColumnType, Log, PartitionBy, S3Settings, Store};

use crate::error::{Error, Result};
use crate::keys;
use crate::settings::{
    AlertsConfig, CaptureConfig, DeltaConfig, DuckDbConfig, EventsConfig, IngestConfig, PostgresConfig, RefreshConfig,
    ServeConfig,
};
use crate::sinks::SinkKind;

/// The file that makes a directory a project.
pub const CONFIG_FILE: &str = "lakebed.toml";

/// What the command line says of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--lake`.
    pub lake: Option<String>,
    /// `--target`.
    pub target: Option<String>,
}

/// Types of columns, by a seed's name and the column's.
pub type SeedTypes = BTreeMap<String, BTreeMap<String, ColumnType>>;

/// The settings of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The project's name, by which a lake knows its owner; the directory's name where none is set.
    pub project: String,
    /// Which of its targets it is; none is the project itself.
    pub target: Option<String>,
    /// Where the lake is: a directory, relative to the project's, a `file://` URL, or `s3://bucket/prefix`.
    pub lake: String,
    /// Whether a local lake waits for the disk (fsync) before it says that something is in it.
    pub fsync: bool,
    /// What the log of a new lake is partitioned by.
    pub partition_by: PartitionBy,
    /// How an S3 lake is reached.
    pub s3: S3Settings,
    /// Where an event's required fields are.
    pub events: EventsConfig,
    /// Pinned types, by flattened column name.
    pub columns: BTreeMap<String, ColumnType>,
    /// Pinned types of the columns of seeds.
    pub seeds: SeedTypes,
    /// How events come in.
    pub ingest: IngestConfig,
    /// The databases whose changes are captured, by name.
    pub captures: BTreeMap<String, CaptureConfig>,
    /// How models are refreshed.
    pub refresh: RefreshConfig,
    /// The DuckDB sink.
    pub duckdb: DuckDbConfig,
    /// The PostgreSQL sink.
    pub postgres: PostgresConfig,
    /// The Delta sink.
    pub delta: DeltaConfig,
    /// The sinks of models whose headers name none.
    pub sinks: Vec<SinkKind>,
    /// The server.
    pub serve: ServeConfig,
    /// Whom it calls.
    pub alerts: AlertsConfig,
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self {
            project: "lakebed".to_owned(),
            target: None,
            lake: "./lake".to_owned(),
            fsync: false,
            partition_by: PartitionBy::default(),
            s3: S3Settings::default(),
            events: EventsConfig::default(),
            columns: BTreeMap::new(),
            seeds: BTreeMap::new(),
            ingest: IngestConfig {
                ack: Ack::Committed,
                max_event_bytes: 16 << 20,
                max_depth: 8,
                max_columns: 1000,
                batch_events: 65_536,
                batch_bytes: 24 << 20,
            },
            captures: BTreeMap::new(),
            refresh: RefreshConfig { events_at_once: 250_000 },
            duckdb: DuckDbConfig { directory: None, keep: 3 },
            postgres: PostgresConfig::default(),
            delta: DeltaConfig::default(),
            sinks: vec![SinkKind::DuckDb],
            serve: ServeConfig {
                flight: local(31_337),
                http: local(8_080),
                max_body_bytes: 32 << 20,
                ingest_memory: 256 << 20,
                webhook_secret: None,
                secret: None,
                tls_cert: None,
                tls_key: None,
                tls_client_ca: None,
                behind_tls_proxy: false,
                queries_at_once: 16,
                queries_waiting: 1_000,
                query_memory: 1 << 30,
                queries_memory: 4 << 30,
                tables_memory: 512 << 20,
                query_seconds: Duration::from_secs(300),
            },
            alerts: AlertsConfig {
                webhook: None,
                command: None,
                stale_after: Duration::from_secs(60),
                quarantine_burst: 100,
                check_every: Duration::from_secs(60),
            },
        }
    }
}

impl Config {
    /// Reads the project in `project_dir`. `environment` answers for a variable's name; `flags` are those that are given.
    ///
    /// # Errors
    /// [`Error::NoProject`] without a lakebed.toml; [`Error::Config`] with the place in it for text that is no TOML, an
    /// unknown key or a value that does not fit; [`Error::NoTarget`] for a target that is not in it; [`Error::Environment`] for a
    /// variable's value that does not fit.
    pub fn load(project_dir: &Path, environment: &dyn Fn(&str) -> Option<String>, flags: &Flags) -> Result<Self> {
        let file = project_dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&file).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NoProject { directory: project_dir.to_path_buf() },
            _ => Error::File { path: file.clone(), source },
        })?;
        Self::of(&text, project_dir, environment, flags)
    }

    /// As [`Self::load`], but the environment may be all there is, if it names the project and the lake: a function is deployed
    /// without files.
    ///
    /// # Errors
    /// As [`Self::load`], but for [`Error::NoProject`].
    pub fn load_or_default(project_dir: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        match Self::load(project_dir, environment, &Flags::default()) {
            Err(Error::NoProject { .. }) => {
                // A lake that nobody meant would be made, and belong to a project that nobody has.
                if let Some(name) = [LAKE_URL, PROJECT_NAME].iter().find(|name| environment(name).is_none()) {
                    let message = "it is not set, and there is no lakebed.toml".to_owned();
                    return Err(Error::Environment { name: (*name).to_owned(), message });
                }
                Self::of("", project_dir, environment, &Flags::default())
            }
            loaded => loaded,
        }
    }

    fn of(text: &str, project_dir: &Path, environment: &dyn Fn(&str) -> Option<String>, flags: &Flags) -> Result<Self> {
        let file = project_dir.join(CONFIG_FILE);
        let mut config = Self::default();
        if let Some(name) = std::path::absolute(project_dir).ok().as_deref().and_then(Path::file_name) {
            config.project = name.to_string_lossy().into_owned();
        }
        config.target = flags.target.clone().or_else(|| environment(TARGET_NAME)).filter(|name| !name.is_empty());
        config.read(text, &file)?;
        for key in keys::all().filter(|key| key.section != keys::CAPTURE) {
            let name = key.variable();
            if let Some(value) = environment(&name) {
                key.set(&mut config, &value).map_err(|message| Error::Environment { name, message })?;
            }
        }
        for capture in config.captures.keys().cloned().collect::<Vec<_>>() {
            config.with_capture(&capture, |config| {
                for key in keys::of_captures() {
                    let name = key.variable_of_capture(&capture);
                    if let Some(value) = environment(&name) {
                        key.set(config, &value).map_err(|message| Error::Environment { name, message })?;
                    }
                }
                Ok(())
            })?;
        }
        if let Some(lake) = &flags.lake {
            lake.clone_into(&mut config.lake);
        }
        Ok(config)
    }

    /// By what a lake knows whose it is: the project's name, and with it the target's, so that no target writes another's lake.
    pub fn owner(&self) -> String {
        match &self.target {
            Some(target) => format!("{}@{target}", self.project),
            None => self.project.clone(),
        }
    }

    /// The lake's store; a directory is made where `create` says so.
    ///
    /// # Errors
    /// [`lakebed_log::Error::Place`] for a place of another kind, [`lakebed_log::Error::NoLog`] for a directory that is not
    /// there and shall not be made.
    pub fn store(&self, project_dir: &Path, create: bool) -> Result<Store> {
        self.store_at(&self.lake, project_dir, create)
    }

    /// The lake's log; it is made at this time if it is not there.
    ///
    /// # Errors
    /// As [`Self::store`] and [`Log::open_or_create_by`].
    pub async fn log_or_new(&self, project_dir: &Path, at: DateTime<Utc>) -> Result<Log> {
        let store = self.store(project_dir, true)?;
        Ok(Log::open_or_create_by(store, &self.owner(), self.partition_by, at).await?)
    }

    /// The store of the Delta sink, where it has one of its own; a directory is made where `create` says so.
    ///
    /// # Errors
    /// As [`Self::store`].
    pub fn delta_store(&self, project_dir: &Path, create: bool) -> Result<Option<Store>> {
        self.delta.url.as_deref().map(|url| self.store_at(url, project_dir, create)).transpose()
    }

    fn store_at(&self, url: &str, project_dir: &Path, create: bool) -> Result<Store> {
        let directory = match url.split_once("://") {
            // As it is shown: `./lake`, and not `././lake`.
            None => project_dir.join(url).components().collect(),
            Some(("file", path)) if path.starts_with('/') => PathBuf::from(path),
            Some(("s3", _)) => return Ok(Store::s3(url, &self.s3)?),
            Some(_) => {
                let reason = "neither a local directory nor s3://bucket/prefix".to_owned();
                return Err(lakebed_log::Error::Place { place: url.to_owned(), reason }.into());
            }
        };
        if directory.exists() && !directory.is_dir() {
            let (place, reason) = (directory.display().to_string(), "it is a file, and no directory".to_owned());
            return Err(lakebed_log::Error::Place { place, reason }.into());
        }
        if !create && !directory.is_dir() {
            return Err(lakebed_log::Error::NoLog { place: directory.display().to_string() }.into());
        }
        Ok(if self.fsync { Store::local_synced(directory)? } else { Store::local(directory)? })
    }
}

/// The variable that says where the lake is.
const LAKE_URL: &str = "LAKEBED_LAKE_URL";

/// The variable that names the project.
const PROJECT_NAME: &str = "LAKEBED_PROJECT_NAME";

/// The variable that names the target.
const TARGET_NAME: &str = "LAKEBED_TARGET";

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
