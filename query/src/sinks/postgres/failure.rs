//! What PostgreSQL's errors say, by their SQLSTATE (PostgreSQL's documentation, appendix A).

use std::io::ErrorKind;
use std::path::PathBuf;

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

use crate::error::Error as Failure;

/// A limit of PostgreSQL's own, such as that of an index row.
const LIMIT_EXCEEDED: &str = "54000";

/// Classes of what passes: connections, resources, an operator's hand, conflicts, locks.
const PASSING: [&str; 5] = ["08", "53", "57", "40", "55"];

fn code(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// An error, with what lies behind it, on one line.
pub(crate) fn in_one_line(error: &Error) -> String {
    match error {
        Error::Database(said) => {
            let detail = said.try_downcast_ref::<PgDatabaseError>().and_then(|said| said.detail());
            let detail = detail.map(|detail| format!(" ({})", detail.split_whitespace().collect::<Vec<_>>().join(" ")));
            format!("{}{}", said.message(), detail.unwrap_or_default())
        }
        Error::Io(error) => error.to_string(),
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// What of a file fails otherwise than a connection does.
const OF_A_FILE: [ErrorKind; 4] =
    [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::IsADirectory, ErrorKind::NotADirectory];

/// The failure to connect; where it is that of one of these files, with its path, which sqlx does not say.
pub(super) fn with_file(error: Failure, files: &[PathBuf]) -> Failure {
    let reason = match &error {
        Failure::Postgres { source, .. } => source.as_ref(),
        _ => return error,
    };
    if !matches!(reason, Error::Io(reason) if OF_A_FILE.contains(&reason.kind())) {
        return error;
    }
    let unreadable = |path: &PathBuf| Some((path.clone(), std::fs::read(path).err()?));
    match files.iter().find_map(unreadable) {
        Some((path, source)) => Failure::File { path, source },
        None => error,
    }
}

/// Whether the same may succeed later, with nothing changed.
pub(crate) fn may_pass(error: &Error) -> bool {
    match code(error) {
        Some(code) => PASSING.iter().any(|class| code.starts_with(class)),
        None => matches!(error, Error::Io(_) | Error::Tls(_) | Error::Protocol(_)),
    }
}

/// Whether a table, or a column or the schema of it, is not there.
pub(crate) fn is_missing_table(error: &Error) -> bool {
    matches!(code(error).as_deref(), Some("42P01" | "42703" | "3F000"))
}

/// Whether a value is longer than an index can hold.
pub(super) fn is_limit(error: &Error) -> bool {
    code(error).as_deref() == Some(LIMIT_EXCEEDED)
}

/// What to do about it.
pub(crate) fn hint(error: &Error) -> Option<String> {
    let hint = match code(error).as_deref() {
        Some("28P01" | "28000") => {
            "set the password in LAKEBED_POSTGRES_PASSWORD, PGPASSWORD, ~/.pgpass or the file of [postgres] password_file"
        }
        Some("3D000") => "make the database with `createdb`, or name another one in [postgres] url",
        Some("42501") => "grant the user CREATE on the database: GRANT CREATE ON DATABASE … TO …",
        Some("55P03") => {
            "somebody keeps a table locked, a transaction that was left open for example: pg_stat_activity tells who"
        }
        Some("53100") => "the server's disk is full; its tables are as they were",
        Some("2BP01") => "drop what hangs on the table, a view for example, and make it again after the run",
        None => "check that the server runs and [postgres] url leads to it; the next run makes good what is missing",
        Some(_) => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (there, missing) = (directory.path().join("there.pem"), directory.path().join("missing.pem"));
        std::fs::write(&there, "").unwrap();
        let failed = |kind: ErrorKind| Failure::Postgres {
            server: "127.0.0.1:5432/shop".to_owned(),
            source: Box::new(Error::Io(kind.into())),
        };
        let named = |kind, files: &[PathBuf]| with_file(failed(kind), files).to_string();
        let files = [there.clone(), missing.clone()];
        assert!(named(ErrorKind::NotFound, &files).starts_with(&format!("'{}': ", missing.display())));
        assert!(named(ErrorKind::NotFound, &[there]).starts_with("postgres at 127.0.0.1:5432/shop: "));
        assert!(named(ErrorKind::ConnectionRefused, &files).starts_with("postgres at "), "it was not asked for");
    }
}
