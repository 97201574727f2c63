//! The PostgreSQL sink: ordinary tables in a database, brought from one epoch to the next in one transaction.
//!
//! Whoever reads sees all tables of one version, or all of the next. Publishers of a database wait for each other; which rows
//! a table lacks follows from the watermark that was written with those it has, so that a publisher that was killed, or away
//! for many epochs, or lost the answer to its COMMIT, is made good by the next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arrow::array::RecordBatch;
use lakebed_project::PostgresConfig;
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;

use self::session::{Session, name_of};
use self::tables::Written;
use crate::error::{Error, Result};
use crate::policies::Policies;
use crate::sinks::change::superseding;
use crate::sinks::{EventsImage, Image, ReadRun, TableImage, Watermark};

mod bookkeeping;
mod events;
pub(crate) mod failure;
mod reading;
mod rights;
mod sending;
mod session;
mod tables;
mod types;

/// Held by whoever publishes to a database; "lakebed" in ASCII.
const LOCK: i64 = 0x006c_616b_6562_6564;

/// The log's table.
const LOG: &str = "bronze.events";

/// Parameters of a URL that are read. sqlx shows the values of others in a warning, and one may be a password.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "application_name",
    "options",
    "password",
];

/// Those of them that name files.
const CERTIFICATES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// Publishes tables in a PostgreSQL database.
#[derive(Clone)]
pub struct PostgresSink {
    options: PgConnectOptions,
    /// Read with each connection: a password may change.
    password_file: Option<PathBuf>,
    /// The files of certificates and keys that the URL names.
    certificates: Vec<PathBuf>,
    policies: Policies,
}

impl std::fmt::Debug for PostgresSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresSink({})", self.server())
    }
}

/// What a publication came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The log version that the database holds now: the image's, or a later one that was there already.
    pub version: u64,
    /// The server and the database, without secrets.
    pub server: String,
    /// Rows that were written or deleted.
    pub rows_written: u64,
    /// Tables that were written from nothing.
    pub tables_rebuilt: usize,
    /// Tables that got the rows they lacked, and lost those that are gone.
    pub tables_changed: usize,
    /// The database was up to date already.
    pub unchanged: bool,
}

impl PostgresSink {
    /// A sink for the database of a project. The password is the URL's, or the setting's, or that of a file relative to
    /// `directory`, or of `PGPASSWORD` or `~/.pgpass`, in this order. Nothing is read and nothing connected yet.
    ///
    /// # Errors
    /// [`Error::PostgresUrl`] for a URL that cannot be read, [`Error::PostgresParameter`] for one of its parameters.
    pub fn new(config: &PostgresConfig, directory: &Path) -> Result<Option<Self>> {
        let Some(url) = &config.url else { return Ok(None) };
        let parsed = url::Url::parse(url.as_str()).map_err(|_| Error::PostgresUrl)?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err(Error::PostgresUrl);
        }
        if let Some((name, _)) = parsed.query_pairs().find(|(name, _)| !PARAMETERS.contains(&name.as_ref())) {
            return Err(Error::PostgresParameter { name: name.into_owned() });
        }
        let options = PgConnectOptions::from_str(url.as_str());
        // The reason may quote the URL, and with it a password.
        let mut options = options.map_err(|_| Error::PostgresUrl)?;
        if let Some(password) = &config.password {
            options = options.password(password.as_str());
        }
        let file = config.password_file.as_ref().filter(|_| config.password.is_none());
        let password_file = file.map(|file| directory.join(file));
        // A certificate or a key may stand there itself; then there is no file, and it is shown to nobody.
        let certificates = parsed.query_pairs().filter(|(name, value)| {
            CERTIFICATES.contains(&name.as_ref()) && !value.trim_start().starts_with("-----BEGIN")
        });
        let certificates = certificates.map(|(_, path)| PathBuf::from(path.into_owned())).collect();
        Ok(Some(Self { options, password_file, certificates, policies: Policies::of(directory) }))
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::File`] for a file of a password or a certificate that cannot be read, and [`Error::Postgres`].
    async fn session(&self) -> Result<Session> {
        let opened = match &self.password_file {
            None => Session::open(&self.options).await,
            Some(path) => {
                let password = tokio::fs::read_to_string(path).await;
                let password = password.map_err(|source| Error::File { path: path.clone(), source })?;
                Session::open(&self.options.clone().password(password.trim_end_matches(['\r', '\n']))).await
            }
        };
        opened.map_err(|error| failure::with_file(error, &self.certificates))
    }

    /// The server and the database, without secrets.
    pub fn server(&self) -> String {
        name_of(&self.options)
    }

    /// Brings the database up to the image, and to the events of the log where they are wanted: all tables in one
    /// transaction, or none. Waits for another publisher of the same database. An image that is older than what is
    /// published changes nothing.
    ///
    /// # Errors
    /// [`Error::Postgres`] for whatever the server says; [`Error::TableTaken`] for a table of somebody else's under a
    /// model's name; [`Error::UnsupportedColumn`], [`Error::Column`] and [`Error::RunRows`] for rows that cannot be kept;
    /// any failure of the store. The tables are then what they were.
    pub async fn publish(&self, image: &Image, events: Option<&EventsImage>, runs: &dyn ReadRun) -> Result<Published> {
        let mut long_keys = BTreeSet::new();
        loop {
            match self.try_publish(image, events, runs, &long_keys).await {
                // Its index is made of hashes then.
                Err(Error::LongKey { table }) if long_keys.insert(table.clone()) => {}
                published => return published,
            }
        }
    }

    async fn try_publish(
        &self,
        image: &Image,
        events: Option<&EventsImage>,
        runs: &dyn ReadRun,
        long_keys: &BTreeSet<String>,
    ) -> Result<Published> {
        let rules = self.policies.rules()?;
        let mut session = self.begin().await?;
        let missing = bookkeeping::missing_schemas(&mut session, image, events.is_some()).await?;
        if missing.iter().any(|schema| schema == bookkeeping::SCHEMA) {
            self.fit(&mut session).await?;
        }
        bookkeeping::create(&mut session, &missing).await?;
        bookkeeping::check_owner(&mut session, image, &self.server()).await?;
        let held = bookkeeping::held(&mut session).await?;
        let there = bookkeeping::tables(&mut session, image).await?;
        let held_log = held.get(LOG);
        let models = held.values().filter(|held| held.watermark.model != LOG);
        let published: Vec<Watermark> = models.map(|held| held.watermark.clone()).collect();
        let is_whole = image.tables.iter().all(|table| there.contains_key(&tables::visible_name(table)));
        let has_log = match (events, held_log) {
            (None, None) => true,
            (Some(events), Some(held)) => {
                let is_same = held.watermark.fingerprint == events.table_id && there.contains_key(LOG);
                is_same && held.addresses.end >= events.next_offset
            }
            _ => false,
        };
        if let Some(version) = superseding(image, &published).filter(|_| is_whole && has_log) {
            let to = (image, events);
            match rights::bring_up(&mut session, rules.as_deref(), to, &BTreeSet::new(), &self.server()).await? {
                true => self.commit(session, image).await?,
                false => session.run("ROLLBACK".to_owned()).await.map(drop)?,
            }
            return Ok(Published { unchanged: true, ..self.published(version, &Written::default()) });
        }
        let is_wanted = |model: &String| match events {
            Some(_) if model == LOG => true,
            _ => image.tables.iter().any(|table| table.model() == *model),
        };
        for model in held.keys().filter(|model| !is_wanted(model)) {
            if let Some((schema, name)) = model.split_once('.') {
                session.run(format!("DROP TABLE IF EXISTS {}", tables::qualified(schema, name))).await?;
            }
        }
        let mut written = tables::bring_up(&mut session, image, (&held, &there), runs, long_keys).await?;
        let log_stands = match events {
            Some(events) => {
                let stands = events::bring_up(&mut session, events, held_log, there.get(LOG)).await?;
                written.rows += stands.added;
                Some((events, stands))
            }
            None => None,
        };
        bookkeeping::record(&mut session, image, &written.unchanged, log_stands).await?;
        // A table that was made anew has the rights that are granted by default, and not those of the one before.
        let log_is_new = log_stands.is_some_and(|(_, stands)| stands.is_new);
        let anew = written.swapped.iter().cloned().chain(log_is_new.then(|| LOG.to_owned())).collect();
        rights::bring_up(&mut session, rules.as_deref(), (image, events), &anew, &self.server()).await?;
        self.commit(session, image).await?;
        Ok(self.published(image.version, &written))
    }

    /// A session in a transaction that has the database to itself as a publisher, whatever the role or the database sets otherwise.
    /// Publishers wait for each other as long as it takes, and for somebody who keeps a table locked not for ever.
    async fn begin(&self) -> Result<Session> {
        let mut session = self.session().await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
             SET LOCAL search_path = pg_catalog, pg_temp;
             SET LOCAL statement_timeout = 0;
             SELECT pg_advisory_xact_lock({LOCK});
             SET LOCAL lock_timeout = '20s'"
        );
        session.run(begin).await?;
        Ok(session)
    }

    /// Commits; where the answer is lost, looks what became of it.
    async fn commit(&self, mut session: Session, image: &Image) -> Result<()> {
        let Err(error) = session.run("COMMIT".to_owned()).await else { return Ok(()) };
        let answered = matches!(&error, Error::Postgres { source, .. } if source.as_database_error().is_some());
        if answered {
            return Err(error);
        }
        drop(session);
        let stands_at = |watermarks: &[Watermark]| {
            image.tables.iter().all(|table| {
                let model = table.model();
                let same = |at: &Watermark| at.model == model && at.fingerprint == table.fingerprint;
                watermarks.iter().any(|at| same(at) && at.version >= image.version)
            })
        };
        match self.watermarks().await {
            Ok(watermarks) if stands_at(&watermarks) => Ok(()),
            // Not committed, or not to be found out now: the next publication knows.
            _ => Err(error),
        }
    }

    fn published(&self, version: u64, written: &Written) -> Published {
        let Written { rows: rows_written, rebuilt: tables_rebuilt, changed: tables_changed, .. } = *written;
        Published { version, server: self.server(), rows_written, tables_rebuilt, tables_changed, unchanged: false }
    }

    /// Looks whether a publication of these models, `schema.name`, could be made: connects, and asks whether the user
    /// may make what is not there, and whether what is there is this lake's. `lake` is Delta's id of the log's table;
    /// where it is not known, another lake's tables are not found. Gives the server, its version, and where the tables stand.
    ///
    /// # Errors
    /// [`Error::Postgres`], and what refuses a publication: [`Error::PostgresUnfit`], [`Error::DatabaseTaken`] and
    /// [`Error::TableTaken`].
    pub async fn look(&self, lake: Option<&str>, models: &[String]) -> Result<String> {
        let mut session = self.session().await?;
        let (version, may_create) = self.fit(&mut session).await?;
        if !may_create {
            return Err(self.unfit("its user may not CREATE in this database"));
        }
        bookkeeping::check_free(&mut session, (lake, models), &self.server()).await?;
        let watermarks = bookkeeping::watermarks(&mut session).await?;
        let stands = match watermarks.iter().map(|watermark| watermark.version).max() {
            Some(at) => format!("{} tables at version {at}", watermarks.len()),
            None => "nothing published yet".to_owned(),
        };
        Ok(format!("{}, PostgreSQL {version}, {stands}", self.server()))
    }

    /// The server's version, and whether its user may make schemas, which it need not once they are there.
    ///
    /// # Errors
    /// [`Error::PostgresUnfit`] for a database that texts do not fit in, or without a place for what is about to be written.
    async fn fit(&self, session: &mut Session) -> Result<(String, bool)> {
        let asked = "SELECT current_setting('server_version'), pg_encoding_to_char(encoding)::text, \
                     has_database_privilege(current_database(), 'TEMPORARY'), has_database_privilege(current_database(), 'CREATE') \
                     FROM pg_database WHERE datname = current_database()";
        let rows = session.rows(asked.to_owned()).await?;
        let row = rows.first().ok_or_else(|| self.unfit("it does not know its own name"))?;
        let encoding: String = row.get(1);
        if encoding != "UTF8" {
            return Err(self.unfit(&format!("its encoding is {encoding}, and has to be UTF8")));
        }
        if !row.get::<bool, _>(2) {
            return Err(self.unfit("its user may not make TEMPORARY tables in this database"));
        }
        Ok((row.get(0), row.get(3)))
    }

    fn unfit(&self, reason: &str) -> Error {
        Error::PostgresUnfit { server: self.server(), reason: reason.to_owned() }
    }

    /// The watermark of each table of the database, by name; none if nothing was published yet.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn watermarks(&self) -> Result<Vec<Watermark>> {
        bookkeeping::watermarks(&mut self.session().await?).await
    }

    /// The rows as a table has them that keeps them: U+0000 is U+FFFD in it, and what JSON cannot say, null.
    ///
    /// # Errors
    /// [`Error::UnsupportedColumn`] and [`Error::Column`] for what cannot be kept.
    pub(crate) fn as_kept(batch: &RecordBatch, table: &TableImage) -> Result<RecordBatch> {
        reading::as_kept(batch, table)
    }

    /// The log's table without its documents, as it is read back.
    pub(crate) fn events_table(events: &EventsImage) -> TableImage {
        events::table(events, false)
    }

    /// Events without their documents.
    pub(crate) fn without_documents(batch: &RecordBatch) -> Result<RecordBatch> {
        events::without_documents(batch)
    }

    /// The columns of a table that are of other types in the database, each with both; none where there is no table.
    ///
    /// # Errors
    /// [`Error::Postgres`], and [`Error::UnsupportedColumn`].
    pub(crate) async fn altered(&self, table: &TableImage) -> Result<Vec<String>> {
        reading::altered(&mut self.session().await?, table).await
    }

    /// Gives every row of a table to `each`, in batches of the table's columns.
    ///
    /// # Errors
    /// [`Error::Postgres`], what `each` says, and [`Error::PostgresRow`] for what is no row of this table.
    pub async fn read_table(
        &self,
        table: &TableImage,
        each: &mut (dyn FnMut(RecordBatch) -> Result<()> + Send),
    ) -> Result<()> {
        reading::read(&mut self.session().await?, table, each).await
    }
}
