//! Rows of text as a SELECT: what a test gives of a table, or expects of one, in the types that the table has.

use std::fmt::Write as _;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use futures::TryStreamExt;

use crate::csv::Row;
use crate::error::{Result, type_name};
use crate::quoting::{literal, quoted};
use crate::session::ReadSession;

/// A column of a table: its name, its type, and which of a row's cells are its values; without one they are NULL.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: DataType,
    pub(super) cell: Option<usize>,
}

/// A text that is no value of its column's type.
pub(super) struct Unfit {
    pub(super) line: usize,
    pub(super) message: String,
}

/// The SELECT of these rows.
pub(super) fn select(columns: &[Column], rows: &[Row]) -> String {
    let values = columns.iter().map(|Column { name, kind, cell }| {
        let value = cell.map_or_else(|| "NULL".to_owned(), |cell| format!("column{}", cell + 1));
        format!("{} AS {}", cast(&value, kind), quoted(name))
    });
    let mut sql = format!("SELECT {} FROM (VALUES ", values.collect::<Vec<_>>().join(", "));
    for (at, row) in rows.iter().enumerate() {
        let cells = row.cells.iter().map(|cell| cell.as_deref().map_or_else(|| "NULL".to_owned(), literal));
        let between = if at == 0 { "" } else { ", " };
        // Writing into a text does not fail.
        let _ = write!(sql, "{between}({})", cells.collect::<Vec<_>>().join(", "));
    }
    match rows {
        [] => {
            let cells = columns.iter().filter_map(|column| column.cell).max().map_or(1, |last| last + 1);
            sql + &format!("({})) WHERE false", vec!["NULL"; cells].join(", "))
        }
        _ => sql + ")",
    }
}

/// The rows, read as SQL reads texts.
///
/// # Errors
/// Whatever the engine says; of values that are none, [`unfit`] says which.
pub(super) async fn read(session: &ReadSession, columns: &[Column], rows: &[Row]) -> Result<RecordBatch> {
    fetched(session, &select(columns, rows)).await
}

/// The first of the rows' cells that is no value of its column's type.
pub(super) async fn unfit(session: &ReadSession, columns: &[Column], rows: &[Row]) -> Option<Unfit> {
    for row in rows {
        for column in columns {
            let Some(text) = column.cell.and_then(|cell| row.cells.get(cell)).and_then(Option::as_deref) else {
                continue;
            };
            let sql = format!("SELECT {}", cast(&literal(text), &column.kind));
            if fetched(session, &sql).await.is_err() {
                let message = format!("'{text}' is no {}, which column '{}' is", type_name(&column.kind), column.name);
                return Some(Unfit { line: row.line, message });
            }
        }
    }
    None
}

/// All rows of a query.
///
/// # Errors
/// Where it does not plan or run.
pub(super) async fn fetched(session: &ReadSession, sql: &str) -> Result<RecordBatch> {
    let stream = session.stream(session.plan(sql).await?).await?;
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

fn cast(value: &str, kind: &DataType) -> String {
    format!("arrow_cast({value}, {})", literal(&kind.to_string()))
}
