//! A connection to PostgreSQL, with errors that say which server it was.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// A server that takes longer to answer is away.
const CONNECT: Duration = Duration::from_secs(15);

/// Bytes of a name: PostgreSQL's NAMEDATALEN, without the end.
const LONGEST_NAME: usize = 63;

/// Columns that every table of PostgreSQL's has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

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
        // A pooler in between takes neither of sqlx's own: the parameter, and statements that are prepared for a session.
        let options = options.extra_float_digits(None).statement_cache_capacity(0);
        match timeout(CONNECT, options.connect()).await {
            Ok(Ok(connection)) => Ok(Self { connection, server }),
            Ok(Err(source)) => Err(failed(&server, source)),
            Err(_) => {
                let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer within 15 s");
                Err(failed(&server, sqlx::Error::Io(late)))
            }
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
        let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(&mut self.connection).await;
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
    format!("\"{}\"", sql_name(name).replace('"', "\"\""))
}

/// A name as PostgreSQL can have it: one that is too long is cut, with a hash of all of it at the end, and one of PostgreSQL's own
/// columns' has an underscore more.
pub(super) fn sql_name(name: &str) -> Cow<'_, str> {
    if SYSTEM_COLUMNS.contains(&name) {
        return Cow::Owned(format!("{name}_"));
    }
    if name.len() <= LONGEST_NAME {
        return Cow::Borrowed(name);
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let mut cut = LONGEST_NAME - 9;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    Cow::Owned(format!("{}_{}", &name[..cut], &hash[..8]))
}

/// A text, as SQL writes it whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_apart() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(sql_name("xmin"), "xmin_");
        let (one, other) = ("ä".repeat(40), "ä".repeat(41));
        assert!(sql_name(&one).len() <= LONGEST_NAME && sql_name(&one).starts_with("äää"));
        assert_ne!(sql_name(&one), sql_name(&other));
        assert_eq!(sql_name(&"x".repeat(63)), "x".repeat(63));
    }
}
