//! What to do about each failure.

use lakebed_project::error::hint_for_file;

use super::Error;
use crate::sinks::postgres::failure;

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Log(error) => error.hint(),
            Self::Model { hint, .. } => {
                Some(hint.clone().unwrap_or_else(|| "try the SELECT by itself with `lakebed query`".to_owned()))
            }
            Self::Policy { hint, .. } | Self::UnitTest { hint, .. } => hint.clone(),
            Self::Unanswered { hint, .. } => Some(hint.clone()),
            Self::Project(error) => error.hint(),
            Self::UnknownTable { nearest: None, .. } => Some(
                "`lakebed run` builds the tables of sql/; information_schema.tables lists those that are there"
                    .to_owned(),
            ),
            Self::Sql { message } if message.contains("Line: ") => {
                Some("the place is counted from the statement's beginning".to_owned())
            }
            Self::UnknownColumn { nearest: None, .. } => {
                Some("information_schema.columns lists every table and column".to_owned())
            }
            Self::Parameters { .. } => {
                Some("bind a value to each ? of a prepared statement, or write the values into the statement".to_owned())
            }
            Self::Parameter { .. } => Some("bind a value of its type, or CAST it in the statement".to_owned()),
            Self::ReadOnly => {
                Some("events come in by `lakebed ingest`; tables are what the files under sql/ say".to_owned())
            }
            Self::Overtaken { .. } | Self::Interrupted => {
                Some("run it again: every table is whole, as of the epoch before".to_owned())
            }
            Self::ReplayName { .. } => {
                Some("take letters, digits, - and _, and not lakebed, versions or in-place".to_owned())
            }
            Self::ReplayBack { .. } => Some(
                "an earlier version goes beside the tables: `lakebed replay --to … --into NAME`, with a name that is not in use"
                    .to_owned(),
            ),
            Self::Backwards(..) => {
                Some("what is compared goes from the earlier version to the later one; `lakebed log show` lists them".to_owned())
            }
            Self::Stale { .. } => Some("bring them up to date with `lakebed run`, and verify then".to_owned()),
            Self::UnknownTable { nearest: Some(name), .. } | Self::UnknownColumn { nearest: Some(name), .. } => {
                Some(format!("did you mean '{name}'?"))
            }
            Self::Held { .. } => Some("open a published file for reading only: ATTACH '…' (READ_ONLY)".to_owned()),
            Self::FileTaken { .. } => Some("give this one a [duckdb] directory of its own, or move that file away".to_owned()),
            Self::NotADatabase { .. } | Self::NotPublished { .. } => {
                Some("move it away, or give the sink another directory".to_owned())
            }
            Self::Postgres { source, .. } => failure::hint(source),
            Self::PostgresRole { role, .. } => Some(format!(
                "CREATE ROLE \"{role}\" NOLOGIN as somebody who may, or give the user CREATEROLE; the tables are as they were"
            )),
            Self::PostgresUrl => Some("such as postgres://user@host:5432/database".to_owned()),
            Self::PostgresParameter { .. } => Some(
                "there are sslmode, sslrootcert, sslcert, sslkey, host, hostaddr, port, dbname, user, application_name and options"
                    .to_owned(),
            ),
            Self::PostgresUnfit { .. } => {
                Some("take a UTF8 database, and GRANT CREATE, TEMPORARY ON DATABASE … TO its user".to_owned())
            }
            Self::NoPostgres { .. } => Some(
                "set [postgres] url in lakebed.toml or LAKEBED_POSTGRES_URL, or take postgres out of its header's sinks"
                    .to_owned(),
            ),
            Self::DatabaseTaken { .. } => Some(
                "give this lake a database of its own; or, if that lake is gone, DROP SCHEMA IF EXISTS lakebed, bronze, silver, gold CASCADE there"
                    .to_owned(),
            ),
            Self::TableTaken { .. } => Some(
                "move it away or drop it, or give the sink another database or directory; if lakebed.watermarks was dropped from a \
                 database: DROP SCHEMA IF EXISTS bronze, silver, gold CASCADE there, and the next run makes them anew"
                    .to_owned(),
            ),
            Self::NotAsRecorded { .. } => {
                Some("`lakebed verify` says what differs, and `lakebed replay` puts it right".to_owned())
            }
            Self::DeltaTaken { .. } => {
                Some("give this lake a [delta] url of its own; or, if that lake is gone, remove the table".to_owned())
            }
            Self::UnsupportedColumn { .. } => Some("CAST it in the model to a type that the sink has".to_owned()),
            Self::RunRows { .. } => Some(
                "remove the folders models, epochs and landmarks of the lake and build them again from the log with `lakebed run`"
                    .to_owned(),
            ),
            Self::Cache { path, .. } => {
                Some(format!("delete the directory '{}': it is rebuilt by the next run", path.display()))
            }
            Self::File { source, .. } => Some(hint_for_file(source)),
            Self::DuckDb { source, .. } if source.to_string().contains("No space left on device") => {
                Some("the disk is full; the published file is as it was".to_owned())
            }
            _ => None,
        }
    }
}
