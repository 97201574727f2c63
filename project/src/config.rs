//! lakebed.toml: what a project can set, read with its environment into one [`Config`].
//!
//! A setting is taken from the first of these that has it: a flag, the environment variable `LAKEBED_SECTION_KEY`,
//! `[section] key` in lakebed.toml, its default.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakebed_log::{Ack, ColumnType, S3Settings, Store, column_name, schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document::{Document, kind_of};
use crate::error::{Error, Result};
use crate::keys::{KEYS, is_number};
use crate::settings::{
    AlertsConfig, DeltaConfig, DuckDbConfig, EventsConfig, IngestConfig, PostgresConfig, RefreshConfig, ServeConfig,
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
    /// How an S3 lake is reached.
    pub s3: S3Settings,
    /// Where an event's required fields are.
    pub events: EventsConfig,
    /// Pinned types, by flattened column name.
    pub columns: BTreeMap<String, ColumnType>,
    /// How events come in.
    pub ingest: IngestConfig,
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
            s3: S3Settings::default(),
            events: EventsConfig::default(),
            columns: BTreeMap::new(),
            ingest: IngestConfig {
                ack: Ack::Committed,
                max_event_bytes: 16 << 20,
                max_depth: 8,
                max_columns: 1000,
                batch_events: 65_536,
                batch_bytes: 24 << 20,
            },
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
        for (section, key) in KEYS {
            let name = format!("LAKEBED_{}_{}", section.to_ascii_uppercase(), key.to_ascii_uppercase());
            if let Some(value) = environment(&name) {
                config.set(section, key, &value).map_err(|message| Error::Environment { name, message })?;
            }
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

    /// Takes over what lakebed.toml says.
    fn read(&mut self, text: &str, file: &Path) -> Result<()> {
        let document = Document { text, file };
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let hint = "a line is a [section], key = \"text\", key = 1, or begins with #".to_owned();
            document.error(at, error.message().lines().collect::<Vec<_>>().join(", "), Some(hint))
        })?;
        let is_targets = |(name, _): &Entry<'_, '_>| name.get_ref() == TARGET;
        let (targets, sections): (Vec<_>, Vec<_>) = root.get_ref().iter().partition(is_targets);
        self.read_sections(&document, sections)?;
        self.read_targets(&document, targets)
    }

    /// Takes over what the chosen target says; the others are read as well, so that a mistake is told before it matters.
    fn read_targets(&mut self, document: &Document<'_>, targets: Vec<Entry<'_, '_>>) -> Result<()> {
        let (mut names, mut chosen) = (Vec::new(), None);
        for (section, value) in targets {
            let DeValue::Table(targets) = value.get_ref() else {
                let message = "'target' is a section: write [target.NAME.lake]".to_owned();
                return Err(document.error(section.span().start, message, None));
            };
            for (name, value) in targets {
                let DeValue::Table(target) = value.get_ref() else {
                    let message = format!("a target is a section: write [target.{}.lake]", name.get_ref());
                    return Err(document.error(name.span().start, message, None));
                };
                let mut with = Self { columns: BTreeMap::new(), ..self.clone() };
                with.read_sections(document, target.iter())?;
                if self.target.as_deref() == Some(name.get_ref()) {
                    with.columns = self.columns.clone().into_iter().chain(with.columns).collect();
                    chosen = Some(with);
                }
                names.push(name.get_ref().to_string());
            }
        }
        match (chosen, &self.target) {
            (Some(chosen), _) => *self = chosen,
            (None, Some(target)) => {
                let (file, target) = (document.file.to_path_buf(), target.clone());
                return Err(Error::NoTarget { file, target, known: names });
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn read_sections<'t, 'i: 't>(
        &mut self,
        document: &Document<'_>,
        sections: impl IntoIterator<Item = Entry<'t, 'i>>,
    ) -> Result<()> {
        for (section, value) in sections {
            let (name, at) = (section.get_ref().as_ref(), section.span().start);
            let sections = || KEYS.iter().map(|(section, _)| *section).chain([COLUMNS, TARGET]);
            if !sections().any(|known| known == name) {
                return Err(document.unknown(at, format!("there is no section [{name}]"), name, sections()));
            }
            let DeValue::Table(table) = value.get_ref() else {
                return Err(document.error(at, format!("'{name}' is a section: write [{name}]"), None));
            };
            if name == COLUMNS {
                self.pin(document, table, &mut Vec::new())?;
            } else {
                self.read_section(document, name, table)?;
            }
        }
        Ok(())
    }

    fn read_section(&mut self, document: &Document<'_>, section: &str, table: &DeTable<'_>) -> Result<()> {
        // What is set beside a preset goes before it, wherever it stands.
        let is_preset = |(key, _): &(&Spanned<Cow<'_, str>>, _)| key.get_ref() == "preset";
        let (presets, others): (Vec<_>, Vec<_>) = table.iter().partition(is_preset);
        for (key, value) in presets.into_iter().chain(others) {
            let name = key.get_ref().as_ref();
            let keys = || KEYS.iter().filter(|(of, _)| *of == section).map(|(_, key)| *key);
            if !keys().any(|known| known == name) {
                let message = format!("there is no key '{name}' in [{section}]");
                return Err(document.unknown(key.span().start, message, name, keys()));
            }
            let refused = |message: String| document.error(value.span().start, message, None);
            // A file that is in a repository is no place for a secret.
            let has_password = |url: &str| {
                url.to_lowercase().contains("password=")
                    || url.split_once("://").is_some_and(|(_, rest)| {
                        rest.split(['/', '?'])
                            .next()
                            .and_then(|authority| authority.rsplit_once('@'))
                            .is_some_and(|(user, _)| user.contains(':'))
                    })
            };
            let elsewhere = match (section, name, value.get_ref()) {
                ("postgres", "password", _) => {
                    Some("LAKEBED_POSTGRES_PASSWORD, or use ~/.pgpass or [postgres] password_file")
                }
                ("postgres", "url", DeValue::String(url)) if has_password(url) => {
                    Some("LAKEBED_POSTGRES_PASSWORD, or use ~/.pgpass or [postgres] password_file")
                }
                ("serve", "webhook_secret", _) => Some("LAKEBED_SERVE_WEBHOOK_SECRET"),
                ("serve", "secret", _) => Some("LAKEBED_SERVE_SECRET"),
                _ => None,
            };
            if let Some(elsewhere) = elsewhere {
                let message = format!("a secret does not belong in {CONFIG_FILE}");
                return Err(document.error(value.span().start, message, Some(format!("set {elsewhere}"))));
            }
            let is_number = is_number(section, name);
            let given = match value.get_ref() {
                DeValue::String(text) if !is_number => text.to_string(),
                DeValue::Integer(number) if is_number && number.radix() == 10 => number.as_str().replace('_', ""),
                other => {
                    let wanted = if is_number { "a whole number" } else { "a text in quotes" };
                    return Err(refused(format!("[{section}] {name} is {wanted}, not {}", kind_of(other))));
                }
            };
            self.set(section, name, &given).map_err(|message| refused(format!("[{section}] {name}: {message}")))?;
        }
        Ok(())
    }

    /// Pins the types below `path`: `a.b = "…"`, `"a.b" = "…"` and `a_b = "…"` are the same column.
    fn pin(&mut self, document: &Document<'_>, table: &DeTable<'_>, path: &mut Vec<String>) -> Result<()> {
        for (key, value) in table {
            let depth = path.len();
            path.extend(key.get_ref().split('.').map(str::to_owned));
            match value.get_ref() {
                DeValue::Table(inner) => self.pin(document, inner, path)?,
                DeValue::String(kind) => self.pin_one(document, path, key, (value, kind))?,
                other => {
                    let message =
                        format!("the type of column '{}' is a text in quotes, not {}", path.join("."), kind_of(other));
                    return Err(document.error(value.span().start, message, None));
                }
            }
            path.truncate(depth);
        }
        Ok(())
    }

    fn pin_one<'i>(
        &mut self,
        document: &Document<'_>,
        path: &[String],
        key: &Spanned<Cow<'i, str>>,
        (value, kind): (&Spanned<DeValue<'i>>, &str),
    ) -> Result<()> {
        let name = column_name(path);
        let kind: ColumnType = kind
            .parse()
            .map_err(|error| document.error(value.span().start, format!("column '{name}': {error}"), None))?;
        if schema::is_own(&name) {
            let message = format!("column '{name}' is the log's own, and its type is given");
            return Err(document.error(key.span().start, message, None));
        }
        match self.columns.insert(name.clone(), kind) {
            Some(_) => Err(document.error(key.span().start, format!("column '{name}' is pinned twice"), None)),
            None => Ok(()),
        }
    }
}

/// A key of a table, and its value, each with its place.
type Entry<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

/// The variable that says where the lake is.
const LAKE_URL: &str = "LAKEBED_LAKE_URL";

/// The variable that names the project.
const PROJECT_NAME: &str = "LAKEBED_PROJECT_NAME";

/// The variable that names the target.
const TARGET_NAME: &str = "LAKEBED_TARGET";

/// The section of targets.
const TARGET: &str = "target";

/// The section whose keys are the user's.
const COLUMNS: &str = "columns";

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
