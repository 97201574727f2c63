//! How tables are kept up to date, and where.

use std::path::PathBuf;

use super::{Key, Set};
use crate::config::Config;
use crate::settings::Secret;

/// Where PostgreSQL's password belongs.
const PASSWORD: &str = "LAKEBED_POSTGRES_PASSWORD, or use ~/.pgpass or [postgres] password_file";

pub(super) const KEYS: &[Key] = &[
    Key::new(
        "refresh",
        "events_at_once",
        "what changed is held in memory: a refresh, or a replay, with more new events than this goes in several epochs",
        Set::Number(1..=1 << 40, |config, events| config.refresh.events_at_once = events as u64),
    )
    .by_default("250000"),
    Key::new(
        "models",
        "sinks",
        "where tables are published whose headers do not say it: some of `duckdb`, `postgres` and `delta`, with commas between them",
        Set::Text(sinks),
    )
    .by_default("duckdb"),
    Key::new(
        "duckdb",
        "directory",
        "where the DuckDB file is, relative to the project's directory; `published` in the lake where it is not set, and `published` beside lakebed.toml for a lake in a bucket",
        Set::Text(duckdb_directory),
    ),
    Key::new(
        "duckdb",
        "keep",
        "how many published versions of it are kept, the newest included, for those who still read them",
        Set::Number(1..=1_000, |config, versions| config.duckdb.keep = versions),
    )
    .by_default("3"),
    Key::new(
        "postgres",
        "url",
        "the database, as `postgres://user@host:5432/database`",
        Set::Some(|config, text| config.postgres.url = Some(Secret::new(text))),
    )
    .secret(|url| has_password(url).then_some(PASSWORD)),
    Key::new(
        "postgres",
        "password",
        "its password",
        Set::Some(|config, text| config.postgres.password = Some(Secret::new(text))),
    )
    .secret(|_| Some(PASSWORD)),
    Key::new(
        "postgres",
        "password_file",
        "a file with the password in it, relative to the project's directory",
        Set::Some(|config, text| config.postgres.password_file = Some(PathBuf::from(text))),
    ),
    Key::new(
        "postgres",
        "events",
        "whether the log is a table there as well",
        Set::Switch(|config, on| config.postgres.events = on),
    )
    .by_default("off"),
    Key::new(
        "delta",
        "url",
        "where Delta tables are: a directory, relative to the project's, or `s3://bucket/prefix`; `delta` in the lake where it is not set",
        Set::Text(delta_url),
    ),
];

/// Whether a URL has a password, of its user or among its parameters.
pub(super) fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    url.to_lowercase().contains("password=") || user.is_some_and(|user| user.contains(':'))
}

fn sinks(config: &mut Config, text: &str) -> Result<(), String> {
    config.sinks = text.split(',').map(|sink| sink.trim().parse()).collect::<Result<_, _>>()?;
    Ok(())
}

fn duckdb_directory(config: &mut Config, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a directory needs a name".to_owned());
    }
    config.duckdb.directory = Some(PathBuf::from(text));
    Ok(())
}

fn delta_url(config: &mut Config, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("a place is such as ./delta".to_owned());
    }
    config.delta.url = Some(text.to_owned());
    Ok(())
}
