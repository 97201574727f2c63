//! The tables inside a published file: what it holds, and the one transaction that brings it up to an image.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType, UInt64Type};
use arrow::error::ArrowError;
use chrono::DateTime;
use datafusion::error::DataFusionError;

use super::database::{CATALOG, Database};
use super::feed::Runs;
use super::sql::{literal, quoted};
use super::types::{Stored, stored, to_wire};
use crate::error::{Error, Result};
use crate::hash::TableHash;
use crate::sinks::{Image, Run, TableImage, Watermark};

/// The schema of the two tables about the others.
const BOOKKEEPING: &str = "lakebed";

/// What a transaction changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) rebuilt: usize,
    pub(super) appended: usize,
}

/// What a file holds of one model.
struct Held {
    watermark: Watermark,
    runs: HashSet<String>,
}

/// What brings a table up to its image.
#[derive(Debug, PartialEq, Eq)]
enum Change<'a> {
    /// The table holds these runs already.
    Nothing,
    /// The same rows, stored anew as other runs: a compaction.
    Relabel,
    /// The table lacks only these runs, of each but its first so many rows.
    Append(Vec<(&'a Run, u64)>),
    /// The table is another one, or rows have gone from it.
    Rebuild,
}

/// The watermarks of the file, by model. `None` if it holds nothing at all.
///
/// # Errors
/// [`Error::NotPublished`] if something is in it that is not lakebed's.
pub(super) fn watermarks(database: &Database) -> Result<Option<Vec<Watermark>>> {
    let mut names = Vec::new();
    let tables =
        format!("SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = '{CATALOG}'");
    database.query(&tables, &mut |batch| {
        names.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
        Ok(())
    })?;
    if names.is_empty() {
        return Ok(None);
    }
    if !names.iter().any(|name| name == "lakebed.watermarks") {
        return Err(Error::NotPublished { path: database.path().to_owned() });
    }
    let mut watermarks = Vec::new();
    let select = format!(
        "SELECT model, fingerprint, version, rows, content_hash, as_of FROM {CATALOG}.{BOOKKEEPING}.watermarks ORDER BY model"
    );
    database.query(&select, &mut |batch| watermarks_of(&batch, database, &mut watermarks))?;
    Ok(Some(watermarks))
}

fn watermarks_of(batch: &RecordBatch, database: &Database, into: &mut Vec<Watermark>) -> Result<()> {
    let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<UInt64Type>().value(row);
    let foreign = || Error::NotPublished { path: database.path().to_owned() };
    for row in 0..batch.num_rows() {
        let as_of = batch.column(5).as_primitive::<TimestampMicrosecondType>().value(row);
        into.push(Watermark {
            model: text(0, row),
            fingerprint: text(1, row),
            version: number(2, row),
            rows: number(3, row),
            content_hash: text(4, row).parse().map_err(|_| foreign())?,
            as_of: DateTime::from_timestamp_micros(as_of).ok_or_else(foreign)?,
        });
    }
    Ok(())
}

/// Brings every table up to the image, or none of them.
pub(super) fn bring_up(database: &Database, image: &Image, runs: &mut Runs) -> Result<Written> {
    database.execute("BEGIN TRANSACTION")?;
    match change_all(database, image, runs).and_then(|written| database.execute("COMMIT").map(|()| written)) {
        Ok(written) => Ok(written),
        Err(error) => {
            if let Err(rollback) = database.execute("ROLLBACK") {
                tracing::debug!(%rollback, "the transaction had ended already");
            }
            Err(error)
        }
    }
}

fn change_all(database: &Database, image: &Image, runs: &mut Runs) -> Result<Written> {
    create_bookkeeping(database)?;
    let held = held(database)?;
    drop_others(database, image, &held)?;
    let mut written = Written::default();
    for table in &image.tables {
        let model = table.model();
        match change(table, held.get(&model)) {
            Change::Nothing => describe(database, table)?,
            Change::Relabel => {
                describe(database, table)?;
                forget_runs(database, &model)?;
                record_runs(database, &model, table.runs.iter())?;
            }
            Change::Append(missing) => {
                describe(database, table)?;
                written.rows += load(database, table, &missing, runs)?;
                written.appended += 1;
                if missing.iter().any(|(_, held)| *held > 0) {
                    forget_runs(database, &model)?;
                    record_runs(database, &model, table.runs.iter())?;
                } else {
                    record_runs(database, &model, missing.into_iter().map(|(run, _)| run))?;
                }
            }
            Change::Rebuild => {
                create(database, table)?;
                describe(database, table)?;
                written.rows +=
                    load(database, table, &table.runs.iter().map(|run| (run, 0)).collect::<Vec<_>>(), runs)?;
                written.rebuilt += 1;
                forget_runs(database, &model)?;
                record_runs(database, &model, table.runs.iter())?;
            }
        }
    }
    record_watermarks(database, image)?;
    Ok(written)
}

fn change<'a>(table: &'a TableImage, held: Option<&Held>) -> Change<'a> {
    let Some(held) = held.filter(|held| held.watermark.fingerprint == table.fingerprint) else {
        return Change::Rebuild;
    };
    let (mut covered, mut missing) = (0, Vec::new());
    for run in &table.runs {
        if held.runs.contains(&run.path) {
            covered += 1;
        } else {
            // Of what was folded, the table has the first runs, if any.
            let there = run.folded.iter().take_while(|part| held.runs.contains(&part.path));
            let rows = there.clone().map(|part| part.rows).sum();
            covered += there.count();
            missing.push((run, rows));
        }
    }
    if covered == held.runs.len() {
        return if missing.is_empty() { Change::Nothing } else { Change::Append(missing) };
    }
    let same_rows = held.watermark.rows == table.rows && held.watermark.content_hash == table.content_hash;
    // A table of rows whose hash is that of no rows is not one to trust a hash about.
    if same_rows && table.content_hash != TableHash::EMPTY { Change::Relabel } else { Change::Rebuild }
}

fn create_bookkeeping(database: &Database) -> Result<()> {
    database.execute(&format!(
        "CREATE SCHEMA IF NOT EXISTS {CATALOG}.{BOOKKEEPING};
         CREATE SCHEMA IF NOT EXISTS {CATALOG}.silver;
         CREATE SCHEMA IF NOT EXISTS {CATALOG}.gold;
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.watermarks (model VARCHAR, fingerprint VARCHAR,
             version UBIGINT, rows UBIGINT, content_hash VARCHAR, as_of TIMESTAMP WITH TIME ZONE);
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.runs (model VARCHAR, path VARCHAR);"
    ))
}

fn held(database: &Database) -> Result<HashMap<String, Held>> {
    let watermarks = watermarks(database)?.unwrap_or_default().into_iter();
    let mut held: HashMap<String, Held> =
        watermarks.map(|watermark| (watermark.model.clone(), Held { watermark, runs: HashSet::new() })).collect();
    database.query(&format!("SELECT model, path FROM {CATALOG}.{BOOKKEEPING}.runs"), &mut |batch| {
        let (models, paths) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (model, path) in models.iter().flatten().zip(paths.iter().flatten()) {
            if let Some(held) = held.get_mut(model) {
                held.runs.insert(path.to_owned());
            }
        }
        Ok(())
    })?;
    Ok(held)
}

/// Drops the tables that were published before and are in no model any more.
fn drop_others(database: &Database, image: &Image, held: &HashMap<String, Held>) -> Result<()> {
    let wanted: HashSet<String> = image.tables.iter().map(TableImage::model).collect();
    for model in held.keys().filter(|model| !wanted.contains(*model)) {
        if let Some((schema, name)) = model.split_once('.') {
            database.execute(&format!("DROP TABLE IF EXISTS {}", qualified(schema, name)))?;
        }
        forget_runs(database, model)?;
    }
    Ok(())
}

fn create(database: &Database, table: &TableImage) -> Result<()> {
    let columns = kept_columns(table)?.into_iter().map(|(name, kept)| format!("{} {}", quoted(&name), kept.sql));
    database.execute(&format!(
        "CREATE SCHEMA IF NOT EXISTS {CATALOG}.{}; CREATE OR REPLACE TABLE {} ({})",
        quoted(&table.schema),
        qualified(&table.schema, &table.name),
        columns.collect::<Vec<_>>().join(", ")
    ))
}

/// Writes the description beside the table, if it is another than the one that is there.
fn describe(database: &Database, table: &TableImage) -> Result<()> {
    let mut current = None;
    let select = format!(
        "SELECT comment FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = {} AND table_name = {}",
        literal(&table.schema),
        literal(&table.name)
    );
    database.query(&select, &mut |batch| {
        current = batch.column(0).as_string::<i32>().iter().next().flatten().map(str::to_owned);
        Ok(())
    })?;
    if current == table.description {
        return Ok(());
    }
    let comment = table.description.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    database.execute(&format!("COMMENT ON TABLE {} IS {comment}", qualified(&table.schema, &table.name)))
}

/// Appends the rows of the runs, of each but those that are there already; gives their number.
fn load(database: &Database, table: &TableImage, runs: &[(&Run, u64)], source: &mut Runs) -> Result<u64> {
    if runs.is_empty() {
        return Ok(0);
    }
    let columns = kept_columns(table)?;
    let mut rows = database.append(&table.schema, &table.name)?;
    let mut total = 0;
    for (run, held) in runs.iter().filter(|(run, held)| *held < run.rows) {
        let mut read = 0;
        source.read(run, &mut |batch| {
            let count = batch.num_rows();
            let there = usize::try_from(held.saturating_sub(read)).unwrap_or(usize::MAX).min(count);
            read += count as u64;
            match there == count {
                true => Ok(()),
                false => rows.push(wire_batch(&batch.slice(there, count - there), &columns, table)?),
            }
        })?;
        if read != run.rows {
            return Err(Error::RunRows { run: run.path.clone(), expected: run.rows, read });
        }
        total += read - held;
    }
    rows.finish()?;
    Ok(total)
}

fn kept_columns(table: &TableImage) -> Result<Vec<(String, Stored)>> {
    let kept = |field: &Arc<Field>| match stored(field.data_type()) {
        Some(kept) => Ok((field.name().clone(), kept)),
        None => Err(Error::UnsupportedColumn {
            table: table.model(),
            column: field.name().clone(),
            data_type: field.data_type().to_string(),
        }),
    };
    table.columns.fields().iter().map(kept).collect()
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

fn forget_runs(database: &Database, model: &str) -> Result<()> {
    database.execute(&format!("DELETE FROM {CATALOG}.{BOOKKEEPING}.runs WHERE model = {}", literal(model)))
}

fn record_runs<'a>(database: &Database, model: &str, runs: impl Iterator<Item = &'a Run>) -> Result<()> {
    let paths = StringArray::from_iter_values(runs.map(|run| &run.path));
    let models = StringArray::from_iter_values(std::iter::repeat_n(model, paths.len()));
    let fields = ["model", "path"].map(|name| Field::new(name, DataType::Utf8, false));
    let mut rows = database.append(BOOKKEEPING, "runs")?;
    rows.push(assemble(fields.into(), vec![Arc::new(models), Arc::new(paths)])?)?;
    rows.finish()
}

/// Every table stands at the image's version, also one that did not change.
fn record_watermarks(database: &Database, image: &Image) -> Result<()> {
    let text = |of: &dyn Fn(&TableImage) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(image.tables.iter().map(of)))
    };
    let count = image.tables.len();
    let as_of = TimestampMicrosecondArray::from_value(image.as_of.timestamp_micros(), count).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 6] = [
        ("model", text(&TableImage::model)),
        ("fingerprint", text(&|table| table.fingerprint.clone())),
        ("version", Arc::new(UInt64Array::from_value(image.version, count))),
        ("rows", Arc::new(UInt64Array::from_iter_values(image.tables.iter().map(|table| table.rows)))),
        ("content_hash", text(&|table| table.content_hash.to_string())),
        ("as_of", Arc::new(as_of)),
    ];
    database.execute(&format!("DELETE FROM {CATALOG}.{BOOKKEEPING}.watermarks"))?;
    let mut rows = database.append(BOOKKEEPING, "watermarks")?;
    rows.push(RecordBatch::try_from_iter(columns).map_err(|error| Error::Execution(DataFusionError::from(error)))?)?;
    rows.finish()
}

fn assemble(fields: Vec<Field>, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays);
    batch.map_err(|error| Error::Execution(DataFusionError::from(error)))
}

/// A table's name in full.
pub(super) fn qualified(schema: &str, table: &str) -> String {
    format!("{CATALOG}.{}.{}", quoted(schema), quoted(table))
}
