//! What PostgreSQL's errors say, by their SQLSTATE (PostgreSQL's documentation, appendix A).

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

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
