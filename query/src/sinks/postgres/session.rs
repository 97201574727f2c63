//! A connection to PostgreSQL, with errors that say which server it was.

use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::error::{Error, Result};

/// One connection.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    server: Arc<str>,
}

/// What a server is called in messages: without the password.
pub(super) fn name_of(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    format!("{host}/{}", options.get_database().unwrap_or(options.get_username()))
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub(super) async fn open(options: &PgConnectOptions) -> Result<Self> {
        let server: Arc<str> = name_of(options).into();
        // A statement is logged by nobody: it may hold what the tables hold.
        let options = options.clone().application_name("lakebed").disable_statement_logging();
        match options.connect().await {
            Ok(connection) => Ok(Self { connection, server }),
            Err(source) => Err(failed(&server, source)),
        }
    }

    /// Runs statements. Every name and value in them was quoted by [`quoted`] or [`literal`].
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub(super) async fn run(&mut self, sql: String) -> Result<u64> {
        let done = self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        done.map(|done| done.rows_affected()).map_err(|source| failed(&self.server, source))
    }

    /// The rows of a SELECT.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub(super) async fn rows(&mut self, sql: String) -> Result<Vec<PgRow>> {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await;
        rows.map_err(|source| failed(&self.server, source))
    }

    /// What went wrong, as this server's error.
    pub(super) fn failed(&self) -> impl Fn(sqlx::Error) -> Error + Send + Sync + use<> {
        let server = Arc::clone(&self.server);
        move |source| failed(&server, source)
    }
}

fn failed(server: &str, source: sqlx::Error) -> Error {
    Error::Postgres { server: server.to_owned(), source: Box::new(source) }
}

/// An identifier, as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, as SQL writes it whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}
