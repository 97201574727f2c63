//! Rows that go from a table of a file, and how they are found there.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use roaring::RoaringTreemap;

use super::database::{Appending, Database};
use super::feed::Runs;
use super::places::row_ids;
use super::tables::{append, assemble, not_kept, qualified, read, wire_batch};
use super::types::{Stored, exact_cast, stored};
use crate::error::Result;
use crate::hash::TableHash;
use crate::quoting::quoted;
use crate::sinks::TableImage;
use crate::sinks::change::Held;

/// Rows in which others are looked for on all cores.
const WORTH_ALL_CORES: u64 = if cfg!(test) { 2 } else { 1_000_000 };

/// Rows of a table of which one is found sooner by its place than by what it holds.
const WORTH_PLACES: u64 = if cfg!(test) { 5 } else { 100_000 };

/// Keys that are compared from memory, all at once.
const HELD_AT_ONCE: u64 = 50_000;

/// The temporary table of rows that are to be deleted.
const GONE: &str = "gone";

/// Deletes rows, of a large table with a key by their places, or else by what they hold. Says whether just these were there.
pub(super) fn delete(
    database: &Database,
    table: &TableImage,
    held: &Held,
    gone: &RoaringTreemap,
    (source, hash): (&mut Runs, &mut TableHash),
) -> Result<bool> {
    if gone.is_empty() {
        return Ok(true);
    }
    let columns = table.kept(stored)?;
    let is_key = |name: &String| table.key.is_empty() || table.key.contains(name);
    let keys: Vec<_> = columns.into_iter().filter(|(name, _)| is_key(name)).collect();
    // A column of that name hides DuckDB's own.
    let has_ids = !table.columns.fields().iter().any(|field| field.name().eq_ignore_ascii_case("rowid"));
    if table.key.is_empty() {
        // Of equal rows, so many by their ids.
        return if has_ids { delete_by_values(database, (table, &keys), gone, (source, hash)) } else { Ok(false) };
    }
    // Intervals are appended as another text than they are given back.
    let are_compared = !keys.iter().any(|(_, kept)| kept.sql == "INTERVAL");
    match has_ids && are_compared && held.watermark.rows >= WORTH_PLACES {
        true => delete_by_places(database, (table, &keys), held, gone, (source, hash)),
        false => delete_by_values(database, (table, &keys), gone, (source, hash)),
    }
}

/// Deletes the rows at the places where rows with these addresses should be, if they have the keys that these have. Says whether.
fn delete_by_places(
    database: &Database,
    (table, keys): (&TableImage, &[(String, Stored)]),
    held: &Held,
    gone: &RoaringTreemap,
    (source, hash): (&mut Runs, &mut TableHash),
) -> Result<bool> {
    let name = qualified(&table.schema, &table.name);
    let Some(ids) = row_ids(database, &name, held, gone)? else { return Ok(false) };
    let (mut schema, mut wanted) = (None, TableHash::EMPTY);
    for (run, selection) in table.rows.at(gone) {
        read((run, Some(selection)), (source, Some(hash)), &mut |batch| {
            let batch = wire_batch(&batch, keys, table)?;
            wanted = wanted.add(TableHash::of_batch(&batch)?);
            schema = Some(batch.schema());
            Ok(())
        })?;
    }
    let Some(schema) = schema else { return Ok(false) };
    let fill = |appender: &mut Appending<'_>| {
        let field = Field::new("id", DataType::Int64, true);
        appender.push(assemble(vec![field], vec![Arc::new(Int64Array::from(ids))])?)
    };
    let deleted = with_gone(database, table, "id BIGINT", fill, || {
        let compared = keys.iter().map(|(key, _)| quoted(key)).collect::<Vec<_>>().join(", ");
        let there = format!("FROM {name} WHERE rowid IN (SELECT id FROM temp.main.{GONE})");
        let mut found = TableHash::EMPTY;
        let select = format!("SELECT {compared} {there}");
        let mut add = |batch: RecordBatch| {
            found = found.add(TableHash::of_batch(&as_appended(&batch, &schema, table)?)?);
            Ok(())
        };
        match gone.len() <= HELD_AT_ONCE {
            true => database.query_whole(&select, &mut add)?,
            false => database.query(&select, &mut add)?,
        }
        // What comes after makes the table anew.
        if found == wanted { database.delete(&format!("DELETE {there}")) } else { Ok(0) }
    })?;
    Ok(deleted == gone.len())
}

/// Rows that DuckDB gives back, as they were handed to it.
fn as_appended(batch: &RecordBatch, schema: &Schema, table: &TableImage) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        exact_cast(column, field.data_type()).map_err(|source| not_kept(table, field.name(), source))
    });
    assemble(schema.fields().iter().map(|field| field.as_ref().clone()).collect(), columns.collect::<Result<_>>()?)
}

/// Fills the temporary table of rows that are to be deleted, and deletes by it: on one thread, or where rows are looked for among very
/// many, on all.
fn with_gone(
    database: &Database,
    table: &TableImage,
    columns: &str,
    fill: impl FnOnce(&mut Appending<'_>) -> Result<()>,
    delete: impl FnOnce() -> Result<u64>,
) -> Result<u64> {
    database.execute(&format!("CREATE OR REPLACE TEMP TABLE {GONE} ({columns})"))?;
    let mut appender = database.append("temp", "main", GONE)?;
    fill(&mut appender)?;
    appender.finish()?;
    let deleted = match table.rows.count() < WORTH_ALL_CORES {
        true => delete()?,
        false => database.on_all_cores(delete)?,
    };
    database.execute(&format!("DROP TABLE temp.main.{GONE}"))?;
    Ok(deleted)
}

/// Deletes rows by what they hold: by their key, or where none is known, by all columns, of equal rows as many as are gone.
fn delete_by_values(
    database: &Database,
    (table, keys): (&TableImage, &[(String, Stored)]),
    gone: &RoaringTreemap,
    (source, hash): (&mut Runs, &mut TableHash),
) -> Result<bool> {
    // Under names of their own: a model's columns may be called like those of this query.
    let declared = keys.iter().enumerate().map(|(at, (_, kept))| format!("c{at} {}", kept.sql)).collect::<Vec<_>>();
    let fill = |appender: &mut Appending<'_>| {
        for (run, selection) in table.rows.at(gone) {
            append(appender, (run, Some(selection)), keys, table, (source, Some(hash)))?;
        }
        Ok(())
    };
    let names: Vec<String> = (0..keys.len()).map(|at| format!("c{at}")).collect();
    let qualified = qualified(&table.schema, &table.name);
    let same = |equals: &str| {
        let same = keys.iter().zip(&names).map(|((name, _), at)| format!("held.{} {equals} gone.{at}", quoted(name)));
        same.collect::<Vec<_>>().join(" AND ")
    };
    let deleted = with_gone(database, table, &declared.join(", "), fill, || {
        if table.key.is_empty() {
            let (names, same) = (names.join(", "), same("IS NOT DISTINCT FROM"));
            return database.delete(&format!(
                "DELETE FROM {qualified} WHERE rowid IN (
                     SELECT row FROM (
                         SELECT held.rowid AS row, row_number() OVER (PARTITION BY gone.place) AS copy, gone.copies
                         FROM {qualified} AS held
                         JOIN (SELECT {names}, row_number() OVER () AS place, count(*) AS copies
                               FROM temp.main.{GONE} GROUP BY {names}) AS gone ON {same})
                     WHERE copy <= copies)"
            ));
        }
        // Blocks of the table without any of the keys are passed over where they are compared by `=`.
        let equals = if has_nulls(database, &names)? { "IS NOT DISTINCT FROM" } else { "=" };
        let same = same(equals);
        database.delete(&format!("DELETE FROM {qualified} AS held USING temp.main.{GONE} AS gone WHERE {same}"))
    })?;
    Ok(deleted == gone.len())
}

/// Whether a row that is to be deleted has no value in one of these columns.
fn has_nulls(database: &Database, columns: &[String]) -> Result<bool> {
    let is_null = columns.iter().map(|column| format!("{column} IS NULL")).collect::<Vec<_>>().join(" OR ");
    let mut found = false;
    database.query(&format!("SELECT 1 FROM temp.main.{GONE} WHERE {is_null} LIMIT 1"), &mut |batch| {
        found |= batch.num_rows() > 0;
        Ok(())
    })?;
    Ok(found)
}
