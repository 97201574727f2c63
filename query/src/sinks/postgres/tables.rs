//! The tables of a database, and what brings them up to an image within one transaction.

use std::collections::{BTreeSet, HashMap, HashSet};

use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringTreemap;
use sqlx::Row;

use super::bookkeeping::{self, Columns};
use super::failure;
use super::sending::{Hashing, Sending};
use super::session::{Session, literal, quoted, sql_name};
use super::types::{Stored, stored};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{Rows, Run};
use crate::sinks::change::{Change, Held};
use crate::sinks::{Image, ReadRun, TableImage};

/// The temporary table of rows that are to be deleted.
const GONE: &str = "pg_temp.lakebed_gone";

/// What a transaction changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rebuilt: usize,
    pub(super) changed: usize,
    /// Models whose tables are others than before, without what was granted on those.
    pub(super) swapped: BTreeSet<String>,
    /// Models whose tables hold what they held.
    pub(super) unchanged: BTreeSet<String>,
}

/// Brings every table of a model up to the image, within the transaction of the session. `long_keys` are the models with keys
/// that no index row can hold.
pub(super) async fn bring_up(
    session: &mut Session,
    image: &Image,
    (held, there): (&HashMap<String, Held>, &HashMap<String, Columns>),
    runs: &dyn ReadRun,
    long_keys: &BTreeSet<String>,
) -> Result<Written> {
    let indexes = bookkeeping::indexes(session, image).await?;
    let comments = bookkeeping::comments(session, image).await?;
    let mut written = Written::default();
    // Tables that were written beside others take their places at the end: nobody waits for them while rows are sent.
    let mut swaps = Vec::new();
    for table in &image.tables {
        let model = table.model();
        let (columns, held) = (table.kept(stored)?, held.get(&model));
        let at = there.get(&visible_name(table));
        if at.is_some() && held.is_none() {
            return Err(Error::TableTaken { table: model });
        }
        // A table that somebody dropped or changed by hand is made anew.
        let same = at.is_some_and(|at| *at == declared(&columns));
        let mut work = Work { table, columns: &columns, runs, indexes: &indexes, long_key: false };
        work.long_key = long_keys.contains(&model) || indexes.contains(&work.index_name(true));
        let held = held.filter(|_| same);
        // A statement about a comment that is right would lock the table against vacuums; where there is nothing to say, somebody
        // else's stays.
        if same && table.description.is_some() && comments.get(&visible_name(table)) != table.description.as_ref() {
            work.describe(session, &qualified_of(table)).await?;
        }
        match (Change::of(table, held), held) {
            (Change::Nothing | Change::Relabel, Some(held)) => {
                // Relabelled rows are at other addresses, which is to be written down.
                if held.addresses == table.rows.addresses && held.deleted == *table.rows.deleted {
                    written.unchanged.insert(model);
                }
                continue;
            }
            (Change::Difference { gone, added }, Some(held)) => {
                if let Some(rows) = work.change(session, held, &gone, &added).await? {
                    written.rows += rows;
                    written.changed += 1;
                    continue;
                }
            }
            _ => {}
        }
        written.rows += match same {
            true => work.refill(session).await?,
            false => work.write_beside(session, &mut swaps).await?,
        };
        written.rebuilt += 1;
    }
    for Swap { sql, model, long_key } in swaps {
        session.run(sql).await.map_err(|error| long_key_error(error, &model, long_key))?;
        written.swapped.insert(model);
    }
    Ok(written)
}

/// How a table that was written beside another takes its place.
struct Swap {
    sql: String,
    model: String,
    long_key: bool,
}

/// The table's name as the catalogue has it.
pub(super) fn visible_name(table: &TableImage) -> String {
    format!("{}.{}", table.schema, sql_name(&table.name))
}

/// One table on its way to its image.
struct Work<'w> {
    table: &'w TableImage,
    columns: &'w [(String, Stored)],
    runs: &'w dyn ReadRun,
    /// The names of those that are there.
    indexes: &'w HashSet<String>,
    long_key: bool,
}

impl Work<'_> {
    /// Takes rows out and puts others in; gives how many. `None` where these do not make the image: the rows were changed by
    /// hand, or are of another lake.
    async fn change(
        &self,
        session: &mut Session,
        held: &Held,
        gone: &RoaringTreemap,
        added: &Rows,
    ) -> Result<Option<u64>> {
        let place = qualified_of(self.table);
        // It is there already, but for the epoch that brought the first long key.
        self.index(session, &place).await?;
        let Some(went) = self.delete(session, gone).await? else { return Ok(None) };
        let (rows, came) = self.load(session, &place, added, true).await?;
        Ok(held.becomes(self.table, went, came).then_some(gone.len() + rows))
    }

    /// Writes all rows into a table that has the same columns, and keeps what hangs on it, views and grants.
    async fn refill(&self, session: &mut Session) -> Result<u64> {
        let place = qualified_of(self.table);
        // Not TRUNCATE: whoever reads sees the rows of before to the end.
        session.run(format!("DELETE FROM {place}")).await?;
        self.index(session, &place).await?;
        let (rows, _) = self.load(session, &place, &self.table.rows, false).await?;
        session.run(format!("ANALYZE {place}")).await.map(|_| rows)
    }

    /// Writes the table beside the one that is there, and says how it takes its place.
    async fn write_beside(&self, session: &mut Session, swaps: &mut Vec<Swap>) -> Result<u64> {
        let (place, name) = (qualified_of(self.table), quoted(&self.table.name));
        // In the schema where it stays: what is granted by default on tables of this schema is granted on it.
        let beside = qualified(&self.table.schema, &format!("lakebed_new_{}", short(&self.table.model())));
        let declared = declaration(self.columns.iter().map(|(name, kept)| (quoted(name), kept)));
        session.run(format!("DROP TABLE IF EXISTS {beside}; CREATE TABLE {beside} ({declared})")).await?;
        let (rows, _) = self.load(session, &beside, &self.table.rows, false).await?;
        self.describe(session, &beside).await?;
        // The name of an index is free once the table it was on is gone.
        let index = self.index_sql(&place, &HashSet::new()).unwrap_or_default();
        let sql =
            format!("DROP TABLE IF EXISTS {place}; ALTER TABLE {beside} RENAME TO {name}; {index}; ANALYZE {place}");
        swaps.push(Swap { sql, model: self.table.model(), long_key: self.long_key });
        Ok(rows)
    }

    async fn describe(&self, session: &mut Session, place: &str) -> Result<()> {
        let comment = self.table.description.as_deref().map_or_else(|| "NULL".to_owned(), literal);
        session.run(format!("COMMENT ON TABLE {place} IS {comment}")).await.map(drop)
    }

    /// Makes the index by which rows are found again, where it is not there: a statement about an index that is there would
    /// lock the table against vacuums.
    async fn index(&self, session: &mut Session, place: &str) -> Result<()> {
        match self.index_sql(place, self.indexes) {
            Some(sql) => session
                .run(sql)
                .await
                .map(drop)
                .map_err(|error| long_key_error(error, &self.table.model(), self.long_key)),
            None => Ok(()),
        }
    }

    /// The index over the key, or over hashes of its texts where some are too long for one; and away with those that were for
    /// other keys.
    fn index_sql(&self, place: &str, there: &HashSet<String>) -> Option<String> {
        let wanted = self.index_name(self.long_key);
        if self.table.key.is_empty() || there.contains(&wanted) {
            return None;
        }
        let schema = quoted(&self.table.schema);
        let prefix = format!("lakebed_{}_", short(&self.table.model()));
        let others = there.iter().filter(|name| name.starts_with(&prefix));
        let others: String = others.map(|name| format!("DROP INDEX {schema}.{}; ", quoted(name))).collect();
        let columns = self.columns.iter().filter(|(name, _)| self.table.key.contains(name));
        let columns = columns.map(|(name, kept)| match self.long_key {
            true => hashed(&quoted(name), kept),
            false => quoted(name),
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        Some(format!("{others}CREATE INDEX {} ON {place} ({columns})", quoted(&wanted)))
    }

    /// The name of the table's index, by its key; it fits PostgreSQL's 63 bytes.
    fn index_name(&self, of_hashes: bool) -> String {
        let kind = if of_hashes { "hashes" } else { "key" };
        format!("lakebed_{}_{kind}_{}", short(&self.table.model()), short(&self.table.key.join("\0")))
    }

    /// Appends rows; gives their number, and if it is asked for, the hash over them.
    async fn load(&self, session: &mut Session, place: &str, rows: &Rows, hashed: bool) -> Result<(u64, TableHash)> {
        if rows.count() == 0 {
            return Ok((0, TableHash::EMPTY));
        }
        let selected = rows.in_runs().map(|(run, selection)| {
            let expected = selection.as_ref().map_or(run.rows, |selection| selection.row_count() as u64);
            (run, selection, expected)
        });
        let names = self.columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
        self.copy(session, &format!("{place} ({names})"), self.columns, selected.collect(), hashed).await
    }

    /// Sends these columns of the rows of runs by one COPY; gives their number, and if it is asked for, the hash over
    /// all their columns.
    async fn copy(
        &self,
        session: &mut Session,
        into: &str,
        columns: &[(String, Stored)],
        runs: Vec<(&Run, Option<RowSelection>, u64)>,
        hashed: bool,
    ) -> Result<(u64, TableHash)> {
        let hashing: Hashing = hashed.then_some(|batch| Ok(TableHash::of_batch(batch)?));
        let mut sending = Sending::begin(session, into, &self.table.model(), columns, hashing).await?;
        let mut total = 0;
        for (run, selection, expected) in runs {
            let read = sending.send(self.runs.read(run, selection)).await?;
            if read != expected {
                return Err(Error::RunRows { run: run.path.clone(), expected, read });
            }
            total += read;
        }
        let hash = sending.finish().await.map_err(|error| long_key_error(error, &self.table.model(), self.long_key))?;
        Ok((total, hash))
    }

    /// Deletes rows by what they hold: by their key, or where none is known, by all columns, of equal rows as many as are
    /// gone. Gives the hash over them, or `None` where they are not all there.
    async fn delete(&self, session: &mut Session, gone: &RoaringTreemap) -> Result<Option<TableHash>> {
        if gone.is_empty() {
            return Ok(Some(TableHash::EMPTY));
        }
        let key = &self.table.key;
        let is_key = |(name, _): &&(String, Stored)| key.is_empty() || key.contains(name);
        let keys: Vec<&(String, Stored)> = self.columns.iter().filter(is_key).collect();
        // Under names of their own: a model's columns may be called like those of these statements.
        let numbered = keys.iter().enumerate().map(|(at, (_, kept))| (format!("c{at}"), kept));
        let declared = declaration(numbered);
        session.run(format!("DROP TABLE IF EXISTS {GONE}; CREATE TABLE {GONE} ({declared})")).await?;
        let named: Vec<(String, Stored)> = keys.iter().map(|key| (*key).clone()).collect();
        let numbers = (0..keys.len()).map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
        let hash = self.copy_gone(session, &named, gone, &numbers).await?;
        let deleted = match key.is_empty() {
            true => self.delete_equal(session, &keys, &numbers).await?,
            false => self.delete_by_key(session, &keys).await?,
        };
        session.run(format!("DROP TABLE {GONE}")).await?;
        Ok((deleted == gone.len()).then_some(hash))
    }

    async fn copy_gone(
        &self,
        session: &mut Session,
        keys: &[(String, Stored)],
        gone: &RoaringTreemap,
        numbers: &str,
    ) -> Result<TableHash> {
        let runs = self.table.rows.at(gone).into_iter().map(|(run, selection)| {
            let expected = selection.row_count() as u64;
            (run, Some(selection), expected)
        });
        let (_, hash) = self.copy(session, &format!("{GONE} ({numbers})"), keys, runs.collect(), true).await?;
        session.run(format!("ANALYZE {GONE}")).await?;
        Ok(hash)
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
        // Rows as values: two of them are compared by one operator, null to null, which can be sorted and merged by.
        let delete = format!(
            "DELETE FROM {place} WHERE ctid IN (
                 SELECT held.at FROM (
                     SELECT at, r, row_number() OVER (PARTITION BY r) AS n FROM (
                         SELECT ctid AS at, ROW({names}) AS r FROM {place}) numbered) held
                 JOIN (SELECT ROW({numbers}) AS r, count(*) AS many FROM {GONE} GROUP BY 1) gone
                 ON held.r = gone.r AND held.n <= gone.many)"
        );
        session.run(delete).await
    }
}

/// A key that no index row can hold is told by its model, so that it is tried again with hashes.
fn long_key_error(error: Error, model: &str, long_key: bool) -> Error {
    let is_limit = matches!(&error, Error::Postgres { source, .. } if failure::is_limit(source));
    if is_limit && !long_key { Error::LongKey { table: model.to_owned() } } else { error }
}

/// A short name for a long one.
fn short(name: &str) -> String {
    blake3::hash(name.as_bytes()).to_hex()[..16].to_owned()
}

fn declared(columns: &[(String, Stored)]) -> Columns {
    columns.iter().map(|(name, kept)| (sql_name(name).into_owned(), kept.sql.clone())).collect()
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
