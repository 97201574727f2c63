//! The database that is captured, and how it is reached: twice, for questions and for its changes.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use lakebed_project::CaptureConfig;
use percent_encoding::percent_decode_str;
use pgwire_replication::{Lsn, ReplicationConfig, SslMode, TlsConfig};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::catalog::quoted;
use crate::error::{Error, Result};
use crate::passwords;

/// Parameters of a URL that are read. sqlx shows the values of others in a warning, and one may be a password.
const PARAMETERS: [&str; 10] =
    ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "hostaddr", "port", "dbname", "user", "password"];

/// How the server shall print values, whatever is set for its users and databases.
pub(crate) const PRINTING: [(&str, &str); 5] = [
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
];

/// So many messages of the server wait for us at most: each may be a row of many megabytes.
const WAITING: usize = 256;

/// How soon the server is told what is in the log, and that we are there while an append takes long.
const FEEDBACK: Duration = Duration::from_millis(250);

/// A database, its slot and its publication.
#[derive(Clone)]
pub(crate) struct Source {
    /// The name under [capture].
    pub(crate) name: String,
    /// The server and the database, without secrets.
    pub(crate) server: Arc<str>,
    pub(crate) publication: String,
    pub(crate) slot: String,
    /// Of the publication's tables these alone; all of them where there is none.
    pub(crate) tables: Vec<(String, String)>,
    options: PgConnectOptions,
    tls: TlsConfig,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

impl Source {
    /// What `[capture.NAME]` says. The password is the setting's, or the URL's, or that of a file relative to `directory`, or of
    /// `PGPASSWORD` or `~/.pgpass`, in this order. Nothing is read and nothing connected yet.
    pub(crate) fn new(name: &str, config: &CaptureConfig, directory: &Path) -> Result<Self> {
        let capture = || name.to_owned();
        let url = config.url.as_ref().ok_or_else(|| Error::NoUrl { capture: capture() })?;
        // The reason may quote the URL, and with it a password.
        let parsed = Url::parse(url.as_str()).map_err(|_| Error::Url { capture: capture() })?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(Error::Url { capture: capture() });
        }
        if let Some((parameter, _)) = parsed.query_pairs().find(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
            return Err(Error::Parameter { capture: capture(), parameter: parameter.into_owned() });
        }
        let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| Error::Url { capture: capture() })?;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let server = format!("{host}/{}", options.get_database().unwrap_or(options.get_username()));
        let of_url = || parameter(&parsed, "password").or_else(|| decoded(parsed.password()?));
        let password = config.password.as_ref().map(|password| password.as_str().to_owned()).or_else(of_url);
        Ok(Self {
            name: capture(),
            server: server.into(),
            publication: config.publication.clone(),
            slot: config.slot.clone().unwrap_or_else(|| format!("lakebed_{name}")),
            tables: config.tables.clone(),
            tls: tls(&parsed, &options),
            options,
            password_file: config.password_file.as_ref().map(|file| directory.join(file)),
            password,
        })
    }

    /// How questions are asked.
    ///
    /// # Errors
    /// [`Error::File`] for a file of a password that cannot be read.
    pub(crate) async fn options(&self) -> Result<PgConnectOptions> {
        // A statement is logged by nobody: it may hold what the tables hold.
        let options = self.options.clone().application_name("lakebed").disable_statement_logging();
        let options = options.extra_float_digits(None).statement_cache_capacity(0);
        Ok(match self.password().await? {
            Some(password) => options.password(&password),
            None => options,
        })
    }

    /// How changes are read from a place on.
    ///
    /// # Errors
    /// As [`Self::options`].
    pub(crate) async fn replication(&self, from: Lsn) -> Result<ReplicationConfig> {
        let (user, password) = (self.options.get_username(), self.password().await?.unwrap_or_default());
        let database = self.options.get_database().unwrap_or(user);
        // Both are written into a command as they are here.
        let (slot, publication) = (quoted(&self.slot), quoted(&self.publication));
        let port = self.options.get_port();
        let config = match self.options.get_socket() {
            Some(socket) => {
                let directory = socket.display().to_string();
                ReplicationConfig::unix(directory, port, user, password, database, slot, publication)
            }
            None => ReplicationConfig::new(self.options.get_host(), user, password, database, slot, publication)
                .with_port(port)
                .with_tls(self.tls.clone()),
        };
        let printing: Vec<String> = PRINTING.iter().map(|(name, value)| format!("-c {name}={value}")).collect();
        let mut config = config
            .with_start_lsn(from)
            .with_options(printing.join(" "))
            .with_buffer_size(WAITING)
            .with_status_interval(FEEDBACK)
            .with_wakeup_interval(Duration::from_secs(1));
        config.application_name = Some("lakebed".to_owned());
        Ok(config)
    }

    /// Whether a table is among those that are captured.
    pub(crate) fn takes(&self, schema: &str, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|(of, name)| of == schema && name == table)
    }

    /// The password; read for each connection, for it may change.
    async fn password(&self) -> Result<Option<String>> {
        if let Some(password) = &self.password {
            return Ok(Some(password.clone()));
        }
        if let Some(path) = &self.password_file {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|source| Error::File { path: path.clone(), source })?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        let host = if self.options.get_socket().is_some() { "localhost" } else { self.options.get_host() };
        let user = self.options.get_username();
        let place = [host, &self.options.get_port().to_string(), self.options.get_database().unwrap_or(user), user];
        Ok(passwords::of_environment(place).await)
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(of, _)| of == name).map(|(_, value)| value.into_owned())
}

fn decoded(text: &str) -> Option<String> {
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// The same TLS for the changes as for the questions.
fn tls(url: &Url, options: &PgConnectOptions) -> TlsConfig {
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable => SslMode::Disable,
        PgSslMode::Allow | PgSslMode::Prefer => SslMode::Prefer,
        PgSslMode::Require => SslMode::Require,
        PgSslMode::VerifyCa => SslMode::VerifyCa,
        PgSslMode::VerifyFull => SslMode::VerifyFull,
    };
    let file = |name: &str| parameter(url, name).map(PathBuf::from);
    TlsConfig {
        mode,
        ca_pem_path: file("sslrootcert"),
        sni_hostname: None,
        client_cert_pem_path: file("sslcert"),
        client_key_pem_path: file("sslkey"),
    }
}

#[cfg(test)]
mod tests {
    use lakebed_project::Secret;

    use super::*;

    fn source(url: &str) -> Result<Source> {
        let config = CaptureConfig { url: Some(Secret::new(url)), ..CaptureConfig::default() };
        Source::new("shop", &config, Path::new("."))
    }

    #[tokio::test]
    async fn both_connections_lead_to_the_same() {
        let made =
            source("postgres://me:se%40cret@db.example:5433/shop?sslmode=verify-full&sslrootcert=ca.pem").unwrap();
        assert_eq!((&*made.server, made.slot.as_str()), ("db.example:5433/shop", "lakebed_shop"));
        let config = made.replication(Lsn(7)).await.unwrap();
        assert_eq!((config.host.as_str(), config.port, config.database.as_str()), ("db.example", 5433, "shop"));
        assert_eq!((config.user.as_str(), config.password.as_str()), ("me", "se@cret"));
        assert_eq!((config.tls.mode, config.tls.ca_pem_path), (SslMode::VerifyFull, Some(PathBuf::from("ca.pem"))));
        assert_eq!((config.slot.as_str(), config.start_lsn), ("\"lakebed_shop\"", Lsn(7)));
        let socket = source("postgres://me@%2Frun%2Fpg/shop").unwrap();
        assert_eq!(socket.replication(Lsn(0)).await.unwrap().host, "/run/pg");
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        let refused = |url: &str| source(url).err().unwrap().to_string();
        assert_eq!(refused("mysql://me:secret@db/shop"), "the url of [capture.shop] cannot be read");
        assert_eq!(refused("postgres://me:secret@db:port/shop"), "the url of [capture.shop] cannot be read");
        assert!(refused("postgres://db/shop?pasword=secret").ends_with("the parameter 'pasword', which is not known"));
        let none = Source::new("shop", &CaptureConfig::default(), Path::new(".")).err().unwrap();
        assert_eq!(none.to_string(), "[capture.shop] has no url");
    }
}
