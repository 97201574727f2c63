//! What a server is asked beside its changes: its settings, the slot, the published tables, types.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgwire_replication::Lsn;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::source::{PRINTING, Source};
use crate::values::Kind;

/// A server that takes longer to answer is away.
const CONNECT: Duration = Duration::from_secs(15);

/// The oldest version whose pgoutput takes what is asked of it.
const OLDEST: u32 = 140_000;

/// The columns `a` of the primary key `i` of a table, each at its place `k`; what an index includes beside them is no key.
const PRIMARY_KEY: &str = "FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, place), pg_attribute a
    WHERE i.indisprimary AND k.place <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = k.attnum";

/// From this version on a publication may have a part of a table's columns and rows.
const WITH_COLUMN_LISTS: u32 = 150_000;

/// A connection for questions.
pub(crate) struct Catalog {
    pub(crate) connection: PgConnection,
    server: Arc<str>,
    /// What values of a type become, by its id.
    kinds: HashMap<u32, Kind>,
}

/// The server.
#[derive(Debug, Deserialize)]
pub(crate) struct Facts {
    version: u32,
    wal_level: String,
    pub(crate) database: String,
    has_publication: bool,
    /// Up to where its log is written.
    written: String,
}

impl Facts {
    /// Up to where its log is written.
    pub(crate) fn written(&self) -> Result<Lsn> {
        lsn(&self.written)
    }
}

/// A slot, as `pg_replication_slots` has it.
#[derive(Debug, Deserialize)]
pub(crate) struct Slot {
    plugin: Option<String>,
    database: Option<String>,
    confirmed: Option<String>,
    lost: bool,
}

/// A table that is published.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Published {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// What `pg_class` calls its kind: `r` for a table, `p` for one that has partitions.
    pub(crate) relation: String,
    pub(crate) columns: Vec<PublishedColumn>,
    /// The columns of its primary key.
    pub(crate) key: Vec<String>,
    /// The condition of the rows that are published.
    pub(crate) filter: Option<String>,
}

/// A column of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PublishedColumn {
    pub(crate) name: String,
    pub(crate) kind: u32,
}

/// A type of the catalog.
#[derive(Debug, Deserialize)]
struct Type {
    /// Of a domain, what it is a domain of.
    base: u32,
    /// Of an array, what it is an array of.
    element: u32,
    delimiter: String,
}

impl Catalog {
    /// Connects.
    pub(crate) async fn open(source: &Source) -> Result<Self> {
        let (server, options) = (Arc::clone(&source.server), source.options().await?);
        let opened = timeout(CONNECT, options.connect()).await.unwrap_or_else(|_| {
            let late = std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer within 15 s");
            Err(sqlx::Error::Io(late))
        });
        let connection = opened.map_err(|error| failed(&server, error))?;
        let mut catalog = Self { connection, server, kinds: HashMap::new() };
        for (name, value) in PRINTING {
            catalog.run(&format!("SET {name} = '{value}'")).await?;
        }
        // A reading of a table may take long, and must not leave rows out that policies hide.
        catalog
            .run("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off")
            .await?;
        Ok(catalog)
    }

    /// Runs statements. Every name and value in them was quoted by [`quoted`] or [`literal`].
    pub(crate) async fn run(&mut self, sql: &str) -> Result<()> {
        let done = self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        done.map(drop).map_err(|error| failed(&self.server, error))
    }

    /// What goes wrong, as this server's error.
    pub(crate) fn failed(&self) -> impl Fn(sqlx::Error) -> Error + use<> {
        let server = Arc::clone(&self.server);
        move |error| failed(&server, error)
    }

    /// The rows of a SELECT of one column, each an object of JSON.
    async fn ask<T: DeserializeOwned>(&mut self, sql: &str) -> Result<Vec<T>> {
        let rows = self.connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await;
        let failed = self.failed();
        let read = |text: String| {
            serde_json::from_str(&text)
                .map_err(|error| Error::Stream { reason: format!("an answer of the catalog, {error}") })
        };
        let rows = rows.map_err(&failed)?;
        rows.iter().map(|row| row.try_get::<String, _>(0).map_err(&failed).and_then(read)).collect()
    }

    /// The first row of such a SELECT.
    async fn ask_one<T: DeserializeOwned>(&mut self, sql: &str) -> Result<T> {
        let one = self.ask(sql).await?.into_iter().next();
        one.ok_or_else(|| Error::Stream { reason: "the catalog gave no answer".to_owned() })
    }

    /// The server, if changes can be captured from it.
    ///
    /// # Errors
    /// [`Error::Version`], [`Error::WalLevel`], [`Error::NoPublication`].
    pub(crate) async fn facts(&mut self, publication: &str) -> Result<Facts> {
        let facts: Facts = self
            .ask_one(&format!(
                "SELECT json_build_object(
                     'version', current_setting('server_version_num')::int, 'wal_level', current_setting('wal_level'),
                     'database', current_database(),
                     'has_publication', EXISTS (SELECT FROM pg_publication WHERE pubname = {}),
                     'written', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text",
                literal(publication)
            ))
            .await?;
        let server = || Arc::clone(&self.server);
        if facts.version < OLDEST {
            return Err(Error::Version { server: server(), version: facts.version / 10_000 });
        }
        if facts.wal_level != "logical" {
            return Err(Error::WalLevel { server: server(), level: facts.wal_level });
        }
        match facts.has_publication {
            true => Ok(facts),
            false => Err(Error::NoPublication { server: server(), publication: publication.to_owned() }),
        }
    }

    /// Where a slot is confirmed, if it is there.
    ///
    /// # Errors
    /// [`Error::OtherSlot`], and [`Error::SlotLost`] for one that changes of after `stands` are wanted from.
    pub(crate) async fn slot(&mut self, slot: &str, database: &str, stands: Lsn) -> Result<Option<Lsn>> {
        let rows: Vec<Slot> = self
            .ask(&format!(
                "SELECT json_build_object('plugin', plugin, 'database', database, 'confirmed', confirmed_flush_lsn,
                     'lost', coalesce(wal_status = 'lost', false))::text
                 FROM pg_replication_slots WHERE slot_name = {}",
                literal(slot)
            ))
            .await?;
        let Some(found) = rows.into_iter().next() else { return Ok(None) };
        let other = |what: &str| Err(Error::OtherSlot { slot: slot.to_owned(), what: what.to_owned() });
        if found.plugin.as_deref() != Some("pgoutput") {
            return other("none of pgoutput's");
        }
        if found.database.as_deref() != Some(database) {
            return other(&format!("one of the database '{}'", found.database.unwrap_or_default()));
        }
        if found.lost {
            return Err(Error::SlotLost { slot: slot.to_owned(), stands });
        }
        // One that somebody is making has no place yet.
        let confirmed = found.confirmed.ok_or_else(|| Error::SlotInUse { slot: slot.to_owned() })?;
        Ok(Some(lsn(&confirmed)?))
    }

    /// Sees to it that one process at a time reads a slot, also before it streams. It is given up with the connection.
    pub(crate) async fn lock(&mut self, slot: &str) -> Result<()> {
        let locked: bool = self
            .ask_one(&format!(
                "SELECT to_json(pg_try_advisory_lock(hashtextextended({}, 0)))::text",
                literal(&format!("lakebed capture {slot}"))
            ))
            .await?;
        if locked { Ok(()) } else { Err(Error::SlotInUse { slot: slot.to_owned() }) }
    }

    /// The time, in microseconds since 1970, of the transaction.
    pub(crate) async fn now(&mut self) -> Result<i64> {
        self.ask_one("SELECT (extract(epoch FROM now()) * 1000000)::bigint::text").await
    }

    /// The tables that are captured, by schema and name.
    ///
    /// # Errors
    /// [`Error::NoTable`] for one that is wanted and not published; [`Error::NoTables`] where none is.
    pub(crate) async fn tables(&mut self, source: &Source) -> Result<Vec<Published>> {
        let lists: bool = self
            .ask_one(&format!(
                "SELECT to_json(current_setting('server_version_num')::int >= {WITH_COLUMN_LISTS})::text"
            ))
            .await?;
        let (listed, filter) = match lists {
            true => ("AND a.attname = ANY (p.attnames)", "p.rowfilter"),
            false => ("", "NULL"),
        };
        let mut tables: Vec<Published> = self
            .ask(&format!(
                "SELECT json_build_object('schema', p.schemaname, 'table', p.tablename, 'relation', c.relkind, 'filter', {filter},
                     'columns', coalesce((SELECT json_agg(json_build_object('name', a.attname, 'kind', a.atttypid::bigint) ORDER BY a.attnum)
                         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                         AND a.attgenerated = '' {listed}), '[]'),
                     'key', coalesce((SELECT json_agg(a.attname ORDER BY k.place) {PRIMARY_KEY} AND i.indrelid = c.oid), '[]'))::text
                 FROM pg_publication_tables p
                 JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
                 WHERE p.pubname = {}",
                literal(&source.publication)
            ))
            .await?;
        let publication = || source.publication.clone();
        let has =
            |(schema, name): &&(String, String)| tables.iter().any(|of| of.schema == *schema && of.table == *name);
        if let Some((schema, table)) = source.tables.iter().find(|wanted| !has(wanted)) {
            return Err(Error::NoTable { publication: publication(), table: format!("{schema}.{table}") });
        }
        tables.retain(|of| source.takes(&of.schema, &of.table));
        tables.sort_by(|a, b| (&a.schema, &a.table).cmp(&(&b.schema, &b.table)));
        if tables.is_empty() { Err(Error::NoTables { publication: publication() }) } else { Ok(tables) }
    }

    /// The columns of a table's primary key, as it is now.
    pub(crate) async fn primary_key(&mut self, table: u32) -> Result<Vec<String>> {
        self.ask(&format!("SELECT to_json(a.attname)::text {PRIMARY_KEY} AND i.indrelid = {table}")).await
    }

    /// What values of a type become.
    pub(crate) async fn kind(&mut self, id: u32) -> Result<Kind> {
        if let Some(kind) = Kind::of_type(id).or_else(|| self.kinds.get(&id).cloned()) {
            return Ok(kind);
        }
        // Domains of arrays of domains, from the outermost to the innermost.
        let (mut within, mut at) = (Vec::new(), id);
        let mut kind = loop {
            if let Some(kind) = Kind::of_type(at) {
                break kind;
            }
            let found: Vec<Type> = self
                .ask(&format!(
                    "SELECT json_build_object('base', CASE typtype WHEN 'd' THEN typbasetype ELSE 0 END::bigint,
                         'element', CASE WHEN typcategory = 'A' AND typlen = -1 THEN typelem ELSE 0 END::bigint,
                         'delimiter', coalesce((SELECT e.typdelim FROM pg_type e WHERE e.oid = t.typelem), ','))::text
                     FROM pg_type t WHERE oid = {at}"
                ))
                .await?;
            match found.into_iter().next() {
                Some(Type { base, .. }) if base != 0 => at = base,
                Some(Type { element, delimiter, .. }) if element != 0 => {
                    within.push(delimiter.bytes().next().unwrap_or(b','));
                    at = element;
                }
                // Enums, ranges, composites, and types that are gone.
                _ => break Kind::Text,
            }
        };
        while let Some(delimiter) = within.pop() {
            kind = Kind::Array(Box::new(kind), delimiter);
        }
        self.kinds.insert(id, kind.clone());
        Ok(kind)
    }
}

fn failed(server: &Arc<str>, source: sqlx::Error) -> Error {
    Error::Postgres { server: Arc::clone(server), source: Box::new(source) }
}

/// A place in the server's log, from its text.
pub(crate) fn lsn(text: &str) -> Result<Lsn> {
    Lsn::parse(text).map_err(|error| Error::Stream { reason: error.to_string() })
}

/// An identifier, as SQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, as SQL writes it whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}
