//! The tables inside a published file: what it holds, and the one transaction that brings it up to an image.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::arrow::arrow_reader::RowSelection;
use roaring::RoaringTreemap;

use super::bookkeeping;
use super::database::{Appending, CATALOG, Database};
use super::feed::Runs;
use super::places::row_ids;
use super::sql::{literal, quoted};
use super::types::{Stored, exact_cast, stored, to_wire};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::rows::{Rows, Run};
use crate::sinks::change::{Change, Held};
use crate::sinks::{Image, TableImage, Watermark};

/// Rows in which others are looked for on all cores.
const WORTH_ALL_CORES: u64 = if cfg!(test) { 2 } else { 1_000_000 };

/// Rows of a table of which one is found sooner by its place than by what it holds.
const WORTH_PLACES: u64 = if cfg!(test) { 5 } else { 100_000 };

/// The temporary table of rows that are to be deleted.
const GONE: &str = "gone";

/// What a transaction changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rebuilt: usize,
    pub(super) changed: usize,
}

/// Brings every table up to the image, or none of them. `None`, and nothing done, where a copy of the newest file, of which
/// these are the watermarks, is the shorter way.
pub(super) fn bring_up(
    database: &Database,
    image: &Image,
    runs: &mut Runs,
    newest: Option<&[Watermark]>,
) -> Result<Option<Written>> {
    database.execute("BEGIN TRANSACTION")?;
    match change_all(database, image, runs, newest) {
        Ok(Some(written)) => database.execute("COMMIT").map(|()| Some(written)),
        Ok(None) => database.execute("ROLLBACK").map(|()| None),
        Err(error) => {
            if let Err(rollback) = database.execute("ROLLBACK") {
                tracing::debug!(%rollback, "the transaction had ended already");
            }
            Err(error)
        }
    }
}

fn change_all(
    database: &Database,
    image: &Image,
    runs: &mut Runs,
    newest: Option<&[Watermark]>,
) -> Result<Option<Written>> {
    bookkeeping::create(database)?;
    let (held, described) = (bookkeeping::held(database)?, bookkeeping::descriptions(database)?);
    let changes: Vec<Change> = image.tables.iter().map(|table| Change::of(table, held.get(&table.model()))).collect();
    if newest.is_some_and(|newest| is_far_behind(image, &changes, newest)) {
        return Ok(None);
    }
    drop_others(database, image, &held)?;
    let mut written = Written::default();
    for (table, change) in image.tables.iter().zip(changes) {
        let model = table.model();
        let is_kept = match (change, held.get(&model)) {
            (Change::Nothing | Change::Relabel, _) => true,
            (Change::Difference { gone, added }, Some(held)) => {
                let (mut went, mut came) = (TableHash::EMPTY, TableHash::EMPTY);
                // Or the file is of another lake that was here before.
                let rows = match delete(database, table, held, &gone, (runs, &mut went))? {
                    true => Some(gone.len() + load(database, table, &added, (runs, Some(&mut came)))?),
                    false => None,
                };
                let rows = rows.filter(|_| held.becomes(table, went, came));
                written.rows += rows.unwrap_or(0);
                written.changed += usize::from(rows.is_some());
                rows.is_some()
            }
            (Change::Difference { .. }, None) | (Change::Rebuild, _) => false,
        };
        if !is_kept {
            create(database, table)?;
            written.rows += load(database, table, &table.rows, (runs, None))?;
            written.rebuilt += 1;
        }
        if !is_kept || described.get(&model) != Some(&table.description) {
            describe(database, table)?;
        }
    }
    bookkeeping::record(database, image)?;
    Ok(Some(written))
}

/// Whether a copy of the newest file saves so many rows that it is worth it: an eighth of all, and some.
fn is_far_behind(image: &Image, changes: &[Change], newest: &[Watermark]) -> bool {
    let saved = image.tables.iter().zip(changes).map(|(table, change)| {
        let (model, rows) = (table.model(), table.rows.count());
        let newest = newest.iter().find(|newest| newest.model == model && newest.fingerprint == table.fingerprint);
        newest.map_or(0, |newest| change.rows(rows).saturating_sub(rows.abs_diff(newest.rows)))
    });
    saved.sum::<u64>() > image.tables.iter().map(|table| table.rows.count()).sum::<u64>() / 8 + 10_000
}

/// Drops the tables that were published before and are in no model any more.
fn drop_others(database: &Database, image: &Image, held: &HashMap<String, Held>) -> Result<()> {
    let wanted: HashSet<String> = image.tables.iter().map(TableImage::model).collect();
    for model in held.keys().filter(|model| !wanted.contains(*model)) {
        if let Some((schema, name)) = model.split_once('.') {
            database.execute(&format!("DROP TABLE IF EXISTS {}", qualified(schema, name)))?;
        }
    }
    Ok(())
}

fn create(database: &Database, table: &TableImage) -> Result<()> {
    let columns = table.kept(stored)?.into_iter().map(|(name, kept)| format!("{} {}", quoted(&name), kept.sql));
    database.execute(&format!(
        "CREATE SCHEMA IF NOT EXISTS {CATALOG}.{}; CREATE OR REPLACE TABLE {} ({})",
        quoted(&table.schema),
        qualified(&table.schema, &table.name),
        columns.collect::<Vec<_>>().join(", ")
    ))
}

/// Writes the description beside the table.
fn describe(database: &Database, table: &TableImage) -> Result<()> {
    let comment = table.description.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    database.execute(&format!("COMMENT ON TABLE {} IS {comment}", qualified(&table.schema, &table.name)))
}

/// Appends rows; gives their number.
fn load(
    database: &Database,
    table: &TableImage,
    rows: &Rows,
    (source, mut hash): (&mut Runs, Option<&mut TableHash>),
) -> Result<u64> {
    if rows.count() == 0 {
        return Ok(0);
    }
    let columns = table.kept(stored)?;
    let mut appender = database.append(CATALOG, &table.schema, &table.name)?;
    let mut total = 0;
    for (run, selection) in rows.in_runs() {
        let expected = selection.as_ref().map_or(run.rows, |selection| selection.row_count() as u64);
        total += append(&mut appender, (run, selection, expected), &columns, table, (source, hash.as_deref_mut()))?;
    }
    appender.finish()?;
    Ok(total)
}

/// Appends the rows of a run, or those that are selected; gives their number.
fn append(
    appender: &mut Appending<'_>,
    rows: (&Run, Option<RowSelection>, u64),
    columns: &[(String, Stored)],
    table: &TableImage,
    of: (&mut Runs, Option<&mut TableHash>),
) -> Result<u64> {
    read(rows, of, &mut |batch| appender.push(wire_batch(&batch, columns, table)?))
}

/// Reads the rows of a run, or those that are selected, and adds up their hash; gives their number, which is to be as expected.
fn read(
    (run, selection, expected): (&Run, Option<RowSelection>, u64),
    (source, mut hash): (&mut Runs, Option<&mut TableHash>),
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<u64> {
    let mut read = 0;
    source.read(run, selection, &mut |batch| {
        read += batch.num_rows() as u64;
        if let Some(hash) = &mut hash {
            **hash = hash.add(TableHash::of_batch(&batch)?);
        }
        each(batch)
    })?;
    if read != expected {
        return Err(Error::RunRows { run: run.path.clone(), expected, read });
    }
    Ok(read)
}

/// Deletes rows, of a large table with a key by their places, or else by what they hold. Says whether just these were there.
fn delete(
    database: &Database,
    table: &TableImage,
    held: &Held,
    gone: &RoaringTreemap,
    of: (&mut Runs, &mut TableHash),
) -> Result<bool> {
    if gone.is_empty() {
        return Ok(true);
    }
    let columns = table.kept(stored)?;
    let is_key = |name: &String| table.key.is_empty() || table.key.contains(name);
    let keys: Vec<_> = columns.into_iter().filter(|(name, _)| is_key(name)).collect();
    // A column of that name hides DuckDB's own.
    let has_ids = !table.columns.fields().iter().any(|field| field.name().eq_ignore_ascii_case("rowid"));
    // They are appended as another text than they are given back.
    let are_compared = !keys.iter().any(|(_, kept)| kept.sql == "INTERVAL");
    match !table.key.is_empty() && held.watermark.rows >= WORTH_PLACES && has_ids && are_compared {
        true => delete_by_places(database, (table, &keys), held, gone, of),
        false if has_ids || !table.key.is_empty() => delete_by_values(database, (table, &keys), gone, of),
        false => Ok(false),
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
        let expected = selection.row_count() as u64;
        read((run, Some(selection), expected), (source, Some(hash)), &mut |batch| {
            let batch = wire_batch(&batch, keys, table)?;
            wanted = wanted.add(TableHash::of_batch(&batch)?);
            schema = Some(batch.schema());
            Ok(())
        })?;
    }
    let Some(schema) = schema else { return Ok(false) };
    database.execute(&format!("CREATE OR REPLACE TEMP TABLE {GONE} (id BIGINT)"))?;
    let mut appender = database.append("temp", "main", GONE)?;
    let field = Field::new("id", DataType::Int64, true);
    appender.push(assemble(vec![field], vec![Arc::new(Int64Array::from(ids))])?)?;
    appender.finish()?;
    let compared = keys.iter().map(|(key, _)| quoted(key)).collect::<Vec<_>>().join(", ");
    let there = format!("FROM {name} WHERE rowid IN (SELECT id FROM temp.main.{GONE})");
    let mut found = TableHash::EMPTY;
    let deleted = on_enough_cores(database, table, || {
        database.query(&format!("SELECT {compared} {there}"), &mut |batch| {
            found = found.add(TableHash::of_batch(&as_appended(&batch, &schema, table)?)?);
            Ok(())
        })?;
        // What comes after makes the table anew.
        if found == wanted { database.delete(&format!("DELETE {there}")) } else { Ok(0) }
    })?;
    database.execute(&format!("DROP TABLE temp.main.{GONE}"))?;
    Ok(deleted == gone.len())
}

/// Rows that DuckDB gives back, as they were handed to it.
fn as_appended(batch: &RecordBatch, schema: &Schema, table: &TableImage) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        exact_cast(column, field.data_type()).map_err(|source| Error::Column {
            table: table.model(),
            column: field.name().clone(),
            source,
        })
    });
    assemble(schema.fields().iter().map(|field| field.as_ref().clone()).collect(), columns.collect::<Result<_>>()?)
}

/// Runs what looks for rows of a table on one thread, or on all.
fn on_enough_cores<T>(database: &Database, table: &TableImage, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match table.rows.count() < WORTH_ALL_CORES {
        true => work(),
        false => database.on_all_cores(work),
    }
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
    database.execute(&format!("CREATE OR REPLACE TEMP TABLE {GONE} ({})", declared.join(", ")))?;
    let mut appender = database.append("temp", "main", GONE)?;
    for (run, selection) in table.rows.at(gone) {
        let expected = selection.row_count() as u64;
        append(&mut appender, (run, Some(selection), expected), keys, table, (source, Some(hash)))?;
    }
    appender.finish()?;
    let names: Vec<String> = (0..keys.len()).map(|at| format!("c{at}")).collect();
    let qualified = qualified(&table.schema, &table.name);
    let same = |equals: &str| {
        let same = keys.iter().zip(&names).map(|((name, _), at)| format!("held.{} {equals} gone.{at}", quoted(name)));
        same.collect::<Vec<_>>().join(" AND ")
    };
    let delete = match table.key.is_empty() {
        true => {
            let (names, same) = (names.join(", "), same("IS NOT DISTINCT FROM"));
            format!(
                "DELETE FROM {qualified} WHERE rowid IN (
                     SELECT row FROM (
                         SELECT held.rowid AS row, row_number() OVER (PARTITION BY gone.place) AS copy, gone.copies
                         FROM {qualified} AS held
                         JOIN (SELECT {names}, row_number() OVER () AS place, count(*) AS copies
                               FROM temp.main.{GONE} GROUP BY {names}) AS gone ON {same})
                     WHERE copy <= copies)"
            )
        }
        false => {
            // Blocks of the table without any of the keys are passed over where they are compared by `=`.
            let equals = if has_nulls(database, &names)? { "IS NOT DISTINCT FROM" } else { "=" };
            format!("DELETE FROM {qualified} AS held USING temp.main.{GONE} AS gone WHERE {}", same(equals))
        }
    };
    let deleted = on_enough_cores(database, table, || database.delete(&delete))?;
    database.execute(&format!("DROP TABLE temp.main.{GONE}"))?;
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

/// The batch with the table's columns, in the table's order, as they are appended.
fn wire_batch(batch: &RecordBatch, columns: &[(String, Stored)], table: &TableImage) -> Result<RecordBatch> {
    let failed =
        |name: &str, source: ArrowError| Error::Column { table: table.model(), column: name.to_owned(), source };
    let wire = columns.iter().map(|(name, kept)| -> Result<(Field, ArrayRef)> {
        let at = batch.schema_ref().index_of(name).map_err(|error| failed(name, error))?;
        let array = to_wire(batch.column(at), kept).map_err(|error| failed(name, error))?;
        Ok((Field::new(name, array.data_type().clone(), true), array))
    });
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = wire.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    assemble(fields, arrays)
}

fn assemble(fields: Vec<Field>, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
    batch.map_err(|error| Error::Execution(DataFusionError::from(error)))
}

/// A table's name in full.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{CATALOG}.{}.{}", quoted(schema), quoted(table))
}
