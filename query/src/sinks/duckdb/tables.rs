//! The tables inside a published file: what it holds, and the one transaction that brings it up to an image.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::arrow::arrow_reader::RowSelection;

use super::bookkeeping;
use super::database::{Appending, CATALOG, Database};
use super::deletions::delete;
use super::feed::Runs;
use super::types::{Stored, stored, to_wire};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::quoting::{literal, quoted};
use crate::rows::{Rows, Run};
use crate::sinks::change::{Change, Held};
use crate::sinks::{Image, TableImage, Watermark};

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
                let mut rows = gone.len();
                let is_right = delete(database, table, held, &gone, (runs, &mut went))? && {
                    rows += load(database, table, &added, (runs, Some(&mut came)))?;
                    // Or the file is of another lake that was here before.
                    held.becomes(table, went, came)
                };
                if is_right {
                    written.rows += rows;
                    written.changed += 1;
                }
                is_right
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
    for rows in rows.in_runs() {
        total += append(&mut appender, rows, &columns, table, (source, hash.as_deref_mut()))?;
    }
    appender.finish()?;
    Ok(total)
}

/// Appends the rows of a run, or those that are selected; gives their number.
pub(super) fn append(
    appender: &mut Appending<'_>,
    rows: (&Run, Option<RowSelection>),
    columns: &[(String, Stored)],
    table: &TableImage,
    of: (&mut Runs, Option<&mut TableHash>),
) -> Result<u64> {
    read(rows, of, &mut |batch| appender.push(wire_batch(&batch, columns, table)?))
}

/// Reads the rows of a run, or those that are selected, and adds up their hash; gives their number.
pub(super) fn read(
    (run, selection): (&Run, Option<RowSelection>),
    (source, mut hash): (&mut Runs, Option<&mut TableHash>),
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<u64> {
    let expected = selection.as_ref().map_or(run.rows, |selection| selection.row_count() as u64);
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

/// The batch with the table's columns, in the table's order, as they are appended.
pub(super) fn wire_batch(batch: &RecordBatch, columns: &[(String, Stored)], table: &TableImage) -> Result<RecordBatch> {
    let wire = columns.iter().map(|(name, kept)| -> Result<(Field, ArrayRef)> {
        let at = batch.schema_ref().index_of(name).map_err(|error| not_kept(table, name, error))?;
        let array = to_wire(batch.column(at), kept).map_err(|error| not_kept(table, name, error))?;
        Ok((Field::new(name, array.data_type().clone(), true), array))
    });
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = wire.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    assemble(fields, arrays)
}

/// What is wrong with a column that does not cross.
pub(super) fn not_kept(table: &TableImage, column: &str, source: ArrowError) -> Error {
    Error::Column { table: table.model(), column: column.to_owned(), source }
}

pub(super) fn assemble(fields: Vec<Field>, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
    batch.map_err(|error| Error::Execution(DataFusionError::from(error)))
}

/// A table's name in full.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{CATALOG}.{}.{}", quoted(schema), quoted(table))
}
