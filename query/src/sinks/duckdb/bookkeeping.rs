//! The tables of a published file that say what the others hold, and whose they are.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow::datatypes::{TimestampMicrosecondType, UInt64Type};
use chrono::DateTime;
use datafusion::error::DataFusionError;

use super::database::{CATALOG, Database};
use crate::error::{Error, Result};
use crate::rows;
use crate::sinks::change::Held;
use crate::sinks::{Image, TableImage, Watermark};

/// The schema of the tables about the others.
const BOOKKEEPING: &str = "lakebed";

/// The watermarks of the file, by model. `None` if it holds nothing at all.
///
/// # Errors
/// [`Error::NotPublished`] if something is in it that is not lakebed's.
pub(super) fn watermarks(database: &Database) -> Result<Option<Vec<Watermark>>> {
    let mut watermarks = Vec::new();
    let select = format!(
        "SELECT model, fingerprint, version, rows, content_hash, as_of FROM {CATALOG}.{BOOKKEEPING}.watermarks ORDER BY model"
    );
    let Err(error) = database.query(&select, &mut |batch| watermarks_of(&batch, database, &mut watermarks)) else {
        return Ok(Some(watermarks));
    };
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
    Err(match names.iter().any(|name| name == "lakebed.watermarks") {
        true => error,
        false => Error::NotPublished { path: database.path().to_owned() },
    })
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

/// Makes these tables where they are not there.
pub(super) fn create(database: &Database) -> Result<()> {
    database.execute(&format!(
        "CREATE SCHEMA IF NOT EXISTS {CATALOG}.{BOOKKEEPING};
         CREATE SCHEMA IF NOT EXISTS {CATALOG}.silver;
         CREATE SCHEMA IF NOT EXISTS {CATALOG}.gold;
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.watermarks (model VARCHAR, fingerprint VARCHAR,
             version UBIGINT, rows UBIGINT, content_hash VARCHAR, as_of TIMESTAMP WITH TIME ZONE);
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.owner (name VARCHAR);
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.lake (id VARCHAR);
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.addresses (model VARCHAR, first UBIGINT, next UBIGINT,
             deleted BLOB);
         CREATE TABLE IF NOT EXISTS {CATALOG}.{BOOKKEEPING}.tables (model VARCHAR, description VARCHAR);"
    ))
}

/// Whose tables they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    /// The project's name, or its target's.
    name: Option<String>,
    /// The lake's id.
    lake: Option<String>,
}

impl Owner {
    /// As the file says it; one of an earlier build says less.
    pub(super) fn of(database: &Database) -> Self {
        let text = |select: String| {
            let mut found = None;
            let mut read = |batch: RecordBatch| {
                found = batch.column(0).as_string::<i32>().iter().flatten().next().map(str::to_owned);
                Ok(())
            };
            // A table that is not there says nothing.
            database.query(&select, &mut read).ok()?;
            found
        };
        Self {
            name: text(format!("SELECT name FROM {CATALOG}.{BOOKKEEPING}.owner")),
            lake: text(format!("SELECT id FROM {CATALOG}.{BOOKKEEPING}.lake")),
        }
    }

    /// Makes sure that an image is of the same lake.
    ///
    /// # Errors
    /// [`Error::FileTaken`].
    pub(super) fn check(&self, image: &Image, path: PathBuf) -> Result<()> {
        let owner = match (&self.name, &self.lake) {
            (Some(name), _) if *name != image.owner => format!("'{name}'"),
            (_, Some(lake)) if *lake != image.lake => format!("another lake of '{}'", image.owner),
            _ => return Ok(()),
        };
        Err(Error::FileTaken { path, owner })
    }
}

/// What the file holds of each model, by name.
pub(super) fn held(database: &Database) -> Result<HashMap<String, Held>> {
    let watermarks = watermarks(database)?.unwrap_or_default().into_iter();
    let mut watermarks: HashMap<String, Watermark> =
        watermarks.map(|watermark| (watermark.model.clone(), watermark)).collect();
    let mut held = HashMap::new();
    let select = format!("SELECT model, first, next, deleted FROM {CATALOG}.{BOOKKEEPING}.addresses");
    database.query(&select, &mut |batch| {
        let number = |column: usize, row: usize| batch.column(column).as_primitive::<UInt64Type>().value(row);
        let (models, deleted) = (batch.column(0).as_string::<i32>(), batch.column(3).as_binary::<i32>());
        for row in 0..batch.num_rows() {
            let deleted = rows::from_bytes(deleted.value(row));
            // A table whose addresses cannot be read is not held, and made anew.
            if let Some((deleted, watermark)) = deleted.zip(watermarks.remove(models.value(row))) {
                let addresses = number(1, row)..number(2, row);
                held.insert(watermark.model.clone(), Held { watermark, addresses, deleted });
            }
        }
        Ok(())
    })?;
    Ok(held)
}

/// What is said beside each table, by model; of those in a file of an earlier build that is not known.
pub(super) fn descriptions(database: &Database) -> Result<HashMap<String, Option<String>>> {
    let mut found = HashMap::new();
    let select = format!("SELECT model, description FROM {CATALOG}.{BOOKKEEPING}.tables");
    database.query(&select, &mut |batch| {
        let [models, descriptions] =
            [0, 1].map(|at| batch.column(at).as_string::<i32>().iter().map(|text| text.map(str::to_owned)));
        found.extend(models.map(Option::unwrap_or_default).zip(descriptions));
        Ok(())
    })?;
    Ok(found)
}

/// Says that the tables are those of the image.
pub(super) fn record(database: &Database, image: &Image) -> Result<()> {
    record_descriptions(database, image)?;
    let one = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    replace(database, "owner", [("name", one(&image.owner))])?;
    replace(database, "lake", [("id", one(&image.lake))])?;
    record_addresses(database, image)?;
    record_watermarks(database, image)
}

fn record_descriptions(database: &Database, image: &Image) -> Result<()> {
    let columns: [(&str, ArrayRef); 2] = [
        ("model", Arc::new(StringArray::from_iter_values(image.tables.iter().map(TableImage::model)))),
        ("description", Arc::new(StringArray::from_iter(image.tables.iter().map(|table| table.description.as_ref())))),
    ];
    replace(database, "tables", columns)
}

/// Which rows each table holds now.
fn record_addresses(database: &Database, image: &Image) -> Result<()> {
    let tables = &image.tables;
    let bound = |of: &dyn Fn(&Range<u64>) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(tables.iter().map(|table| of(&table.rows.addresses))))
    };
    let deleted = tables.iter().map(|table| rows::to_bytes(&table.rows.deleted));
    let columns: [(&str, ArrayRef); 4] = [
        ("model", Arc::new(StringArray::from_iter_values(tables.iter().map(TableImage::model)))),
        ("first", bound(&|addresses| addresses.start)),
        ("next", bound(&|addresses| addresses.end)),
        ("deleted", Arc::new(BinaryArray::from_iter_values(deleted))),
    ];
    replace(database, "addresses", columns)
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
        ("rows", Arc::new(UInt64Array::from_iter_values(image.tables.iter().map(|table| table.rows.count())))),
        ("content_hash", text(&|table| table.content_hash.to_string())),
        ("as_of", Arc::new(as_of)),
    ];
    replace(database, "watermarks", columns)
}

fn replace<const COLUMNS: usize>(database: &Database, table: &str, columns: [(&str, ArrayRef); COLUMNS]) -> Result<()> {
    database.execute(&format!("DELETE FROM {CATALOG}.{BOOKKEEPING}.{table}"))?;
    let mut appender = database.append(CATALOG, BOOKKEEPING, table)?;
    let rows = RecordBatch::try_from_iter(columns).map_err(|error| Error::Execution(DataFusionError::from(error)))?;
    appender.push(rows)?;
    appender.finish()
}
