//! The tables of a database, and what brings them up to an image within one transaction.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use bytes::BytesMut;
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringTreemap;
use sqlx::Row;

use super::bookkeeping::{self, Columns};
use super::session::{Session, literal, quoted};
use super::types::{Stored, encoder, stored, to_wire, wire_schema};
use crate::error::{Error, Result};
use crate::rows::{Rows, Run};
use crate::sinks::change::{Change, Held};
use crate::sinks::{Image, ReadRun, TableImage};

/// How much is sent at once, in bytes.
pub(super) const CHUNK: usize = 1 << 20;

/// The temporary table of rows that are to be deleted.
const GONE: &str = "lakebed_gone";

/// PostgreSQL's code for a limit of its own, such as that of an index row.
const LIMIT_EXCEEDED: &str = "54000";

/// What a transaction changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rebuilt: usize,
    pub(super) changed: usize,
}

/// Brings every table of a model up to the image, within the transaction of the session. `long_keys` are the models with keys that no
/// index row can hold.
pub(super) async fn bring_up(
    session: &mut Session,
    image: &Image,
    (held, there): (&HashMap<String, Held>, &HashMap<String, Columns>),
    runs: &dyn ReadRun,
    long_keys: &BTreeSet<String>,
) -> Result<Written> {
    let hashed = bookkeeping::indexes(session, image).await?;
    let mut written = Written::default();
    for table in &image.tables {
        let model = table.model();
        let (columns, held) = (kept_columns(table)?, held.get(&model));
        let at = there.get(&model);
        if at.is_some() && held.is_none() {
            return Err(Error::TableTaken { table: model });
        }
        // A table that somebody dropped or changed by hand is made anew.
        let same = at.is_some_and(|at| *at == declared(&columns));
        let long_key = long_keys.contains(&model) || hashed.contains(&index_name("hashes", &model));
        let work = Work { table, columns: &columns, runs, long_key };
        let changed = match Change::of(table, held.filter(|_| same)) {
            Change::Nothing | Change::Relabel => continue,
            Change::Difference { gone, added } => match work.delete(session, &gone).await? {
                true => {
                    // It is there already, but for the epoch that brought the first long key.
                    work.index(session, &qualified_of(table)).await?;
                    written.rows += gone.len() + work.load(session, &qualified_of(table), &added).await?;
                    written.changed += 1;
                    continue;
                }
                // Rows were changed by hand.
                false => work.rebuild(session, same).await?,
            },
            Change::Rebuild => work.rebuild(session, same).await?,
        };
        written.rows += changed;
        written.rebuilt += 1;
    }
    Ok(written)
}

/// One table on its way to its image.
struct Work<'w> {
    table: &'w TableImage,
    columns: &'w [(String, Stored)],
    runs: &'w dyn ReadRun,
    long_key: bool,
}

impl Work<'_> {
    /// Writes the table from nothing. One with the same columns keeps what hangs on it, views and grants; another one is
    /// written beside and put in its place.
    async fn rebuild(&self, session: &mut Session, same: bool) -> Result<u64> {
        let place = qualified_of(self.table);
        if same {
            // Not TRUNCATE: whoever reads sees the rows of before to the end.
            session.run(format!("DELETE FROM {place}")).await?;
            self.index(session, &place).await?;
            let rows = self.load(session, &place, &self.table.rows).await?;
            return self.describe(session).await.map(|()| rows);
        }
        let (schema, name, model) = (quoted(&self.table.schema), quoted(&self.table.name), quoted(&self.table.model()));
        let beside = format!("lakebed.{model}");
        let declared = declaration(self.columns.iter().map(|(name, kept)| (quoted(name), kept)));
        session.run(format!("DROP TABLE IF EXISTS {beside}; CREATE TABLE {beside} ({declared})")).await?;
        let rows = self.load(session, &beside, &self.table.rows).await?;
        session
            .run(format!(
                "DROP TABLE IF EXISTS {place};
                 ALTER TABLE {beside} SET SCHEMA {schema};
                 ALTER TABLE {schema}.{model} RENAME TO {name}"
            ))
            .await?;
        self.index(session, &place).await?;
        self.describe(session).await.map(|()| rows)
    }

    async fn describe(&self, session: &mut Session) -> Result<()> {
        let comment = self.table.description.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        session.run(format!("COMMENT ON TABLE {} IS {comment}", qualified_of(self.table))).await.map(drop)
    }

    /// The index by which rows are found again: over the key, or over hashes of its texts where some are too long for one.
    async fn index(&self, session: &mut Session, place: &str) -> Result<()> {
        if self.table.key.is_empty() {
            return Ok(());
        }
        let columns = self.columns.iter().filter(|(name, _)| self.table.key.contains(name));
        let columns = columns.map(|(name, kept)| match self.long_key {
            true => hashed(&quoted(name), kept),
            false => quoted(name),
        });
        let model = self.table.model();
        let [key, hashes] = ["key", "hashes"].map(|kind| index_name(kind, &model));
        let (wanted, other) = if self.long_key { (hashes, key) } else { (key, hashes) };
        let (schema, columns) = (quoted(&self.table.schema), columns.collect::<Vec<_>>().join(", "));
        let statement = format!(
            "DROP INDEX IF EXISTS {schema}.{other};
             CREATE INDEX IF NOT EXISTS {wanted} ON {place} ({columns})"
        );
        session.run(statement).await.map(drop).map_err(|error| self.long_key_error(error))
    }

    /// Appends rows; gives their number.
    async fn load(&self, session: &mut Session, place: &str, rows: &Rows) -> Result<u64> {
        if rows.count() == 0 {
            return Ok(0);
        }
        let selected = rows.in_runs().map(|(run, selection)| {
            let expected = selection.as_ref().map_or(run.rows, |selection| selection.row_count() as u64);
            (run, selection, expected)
        });
        let names = self.columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
        self.copy(session, &format!("{place} ({names})"), self.columns, selected.collect()).await
    }

    /// Sends these columns of the rows of runs by one COPY; gives their number.
    async fn copy(
        &self,
        session: &mut Session,
        into: &str,
        columns: &[(String, Stored)],
        runs: Vec<(&Run, Option<RowSelection>, u64)>,
    ) -> Result<u64> {
        let copy = format!("COPY {into} FROM STDIN (FORMAT binary)");
        let failed = session.failed();
        let encoding =
            |error: pgpq::error::ErrorKind| Error::PostgresRow { table: self.table.model(), reason: error.to_string() };
        let mut sending = session.connection.copy_in_raw(&copy).await.map_err(&failed)?;
        let mut encoder = encoder(columns).map_err(encoding)?;
        let mut bytes = BytesMut::with_capacity(CHUNK + (CHUNK >> 2));
        encoder.write_header(&mut bytes).map_err(encoding)?;
        let mut total = 0;
        for (run, selection, expected) in runs {
            let (mut batches, mut read) = (self.runs.read(run, selection), 0);
            while let Some(batch) = batches.try_next().await? {
                read += batch.num_rows() as u64;
                encoder.write_batch(&self.wire_batch(&batch, columns)?, &mut bytes).map_err(encoding)?;
                if bytes.len() >= CHUNK {
                    sending.send(&bytes[..]).await.map_err(&failed)?;
                    bytes.clear();
                }
            }
            if read != expected {
                return Err(Error::RunRows { run: run.path.clone(), expected, read });
            }
            total += read;
        }
        encoder.write_footer(&mut bytes).map_err(encoding)?;
        sending.send(&bytes[..]).await.map_err(&failed)?;
        sending.finish().await.map_err(|error| self.long_key_error(failed(error)))?;
        Ok(total)
    }

    /// The batch with the columns as they are sent.
    fn wire_batch(&self, batch: &RecordBatch, columns: &[(String, Stored)]) -> Result<RecordBatch> {
        let failed = |name: &str, source: ArrowError| Error::Column {
            table: self.table.model(),
            column: name.to_owned(),
            source,
        };
        let wire = columns.iter().map(|(name, kept)| -> Result<ArrayRef> {
            let at = batch.schema_ref().index_of(name).map_err(|error| failed(name, error))?;
            to_wire(batch.column(at), kept).map_err(|error| failed(name, error))
        });
        let batch = RecordBatch::try_new(wire_schema(columns), wire.collect::<Result<_>>()?);
        batch.map_err(|error| Error::Execution(DataFusionError::from(error)))
    }

    /// Deletes rows by what they hold: by their key, or where none is known, by all columns, of equal rows as many as are
    /// gone. False where they are not all there.
    async fn delete(&self, session: &mut Session, gone: &RoaringTreemap) -> Result<bool> {
        if gone.is_empty() {
            return Ok(true);
        }
        let key = &self.table.key;
        let is_key = |(name, _): &&(String, Stored)| key.is_empty() || key.contains(name);
        let keys: Vec<&(String, Stored)> = self.columns.iter().filter(is_key).collect();
        // Under names of their own: a model's columns may be called like those of these statements.
        let numbered = keys.iter().enumerate().map(|(at, (_, kept))| (format!("c{at}"), kept));
        let declared = declaration(numbered);
        session.run(format!("DROP TABLE IF EXISTS {GONE}; CREATE TEMPORARY TABLE {GONE} ({declared})")).await?;
        let named: Vec<(String, Stored)> = keys.iter().map(|key| (*key).clone()).collect();
        let numbers = (0..keys.len()).map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
        self.copy_gone(session, &named, gone, &numbers).await?;
        let deleted = match key.is_empty() {
            true => self.delete_equal(session, &keys, &numbers).await?,
            false => self.delete_by_key(session, &keys).await?,
        };
        session.run(format!("DROP TABLE {GONE}")).await?;
        Ok(deleted == gone.len())
    }

    async fn copy_gone(
        &self,
        session: &mut Session,
        keys: &[(String, Stored)],
        gone: &RoaringTreemap,
        numbers: &str,
    ) -> Result<()> {
        let runs = self.table.rows.at(gone).into_iter().map(|(run, selection)| {
            let expected = selection.row_count() as u64;
            (run, Some(selection), expected)
        });
        self.copy(session, &format!("pg_temp.{GONE} ({numbers})"), keys, runs.collect()).await?;
        session.run(format!("ANALYZE pg_temp.{GONE}")).await.map(drop)
    }

    /// By the index: a null is found by IS NULL alone, so the rows are taken by which of their keys are null.
    async fn delete_by_key(&self, session: &mut Session, keys: &[&(String, Stored)]) -> Result<u64> {
        let nulls = (0..keys.len()).map(|at| format!("c{at} IS NULL")).collect::<Vec<_>>();
        let failed = session.failed();
        let patterns = session.rows(format!("SELECT DISTINCT {} FROM {GONE}", nulls.join(", "))).await?;
        let mut deleted = 0;
        for pattern in patterns {
            let mut same = Vec::new();
            for (at, (name, kept)) in keys.iter().enumerate() {
                let (held, gone) = (format!("held.{}", quoted(name)), format!("gone.c{at}"));
                match pattern.try_get::<bool, _>(at).map_err(&failed)? {
                    true => same.push(format!("{held} IS NULL AND {gone} IS NULL")),
                    false => {
                        same.push(format!("{held} = {gone}"));
                        let (held_hash, gone_hash) = (hashed(&held, kept), hashed(&gone, kept));
                        if self.long_key && held_hash != held {
                            same.push(format!("{held_hash} = {gone_hash}"));
                        }
                    }
                }
            }
            let place = qualified_of(self.table);
            let delete = format!("DELETE FROM {place} held USING {GONE} gone WHERE {}", same.join(" AND "));
            deleted += session.run(delete).await?;
        }
        Ok(deleted)
    }

    async fn delete_equal(&self, session: &mut Session, keys: &[&(String, Stored)], numbers: &str) -> Result<u64> {
        let place = qualified_of(self.table);
        let names = keys.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
        let same = (0..keys.len()).map(|at| format!("held.c{at} IS NOT DISTINCT FROM gone.c{at}"));
        let same = same.collect::<Vec<_>>().join(" AND ");
        let delete = format!(
            "DELETE FROM {place} WHERE ctid IN (
                 SELECT held.at FROM (
                     SELECT ctid, row_number() OVER (PARTITION BY {names}), {names} FROM {place}
                 ) held (at, n, {numbers})
                 JOIN (SELECT {numbers}, count(*) AS many FROM {GONE} GROUP BY {numbers}) gone
                 ON {same} AND held.n <= gone.many)"
        );
        session.run(delete).await
    }

    /// A key that no index row can hold is told by its model, so that it is tried again with hashes.
    fn long_key_error(&self, error: Error) -> Error {
        let is_limit = match &error {
            Error::Postgres { source, .. } => {
                source.as_database_error().is_some_and(|error| error.code().as_deref() == Some(LIMIT_EXCEEDED))
            }
            _ => false,
        };
        if is_limit && !self.long_key { Error::LongKey { table: self.table.model() } } else { error }
    }
}

/// The name of a model's index, which fits PostgreSQL's 63 bytes.
fn index_name(kind: &str, model: &str) -> String {
    let hash = blake3::hash(model.as_bytes()).to_hex();
    format!("lakebed_{kind}_{}", &hash[..16])
}

/// How PostgreSQL keeps the columns of a table.
pub(super) fn kept_columns(table: &TableImage) -> Result<Vec<(String, Stored)>> {
    let kept = |field: &Arc<arrow::datatypes::Field>| match stored(field.data_type()) {
        Some(kept) => Ok((field.name().clone(), kept)),
        None => Err(Error::UnsupportedColumn {
            table: table.model(),
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
        }),
    };
    table.columns.fields().iter().map(kept).collect()
}

fn declared(columns: &[(String, Stored)]) -> Columns {
    columns.iter().map(|(name, kept)| (name.clone(), kept.sql.clone())).collect()
}

fn declaration<'c>(columns: impl Iterator<Item = (String, &'c Stored)>) -> String {
    columns.map(|(name, kept)| format!("{name} {}", kept.sql)).collect::<Vec<_>>().join(", ")
}

/// An expression over a column that is short, whatever the column holds.
fn hashed(column: &str, kept: &Stored) -> String {
    match kept.sql.as_str() {
        "text" | "bytea" => format!("md5({column})"),
        "jsonb" => format!("md5(({column})::text)"),
        _ => column.to_owned(),
    }
}

/// A table's name in full.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(table))
}

fn qualified_of(table: &TableImage) -> String {
    qualified(&table.schema, &table.name)
}
