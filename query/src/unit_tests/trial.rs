//! One test: its lakes, the models in them, and what came out.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::max;
use arrow::datatypes::Fields;
use chrono::{DateTime, TimeDelta, Utc};
use lakebed_log::{Ack, Batch, ColumnLimit, Log, Snapshot, Store, schema};
use lakebed_project::{Config, DeltaConfig, GivenTable, PostgresConfig, UnitTest, Written};

use super::comparing::{difference, nullable};
use super::constants::{Column, fetched, read, select, unfit};
use super::{Failure, Instead, Way, computed, no_time, time_of, wrong};
use crate::catalog::{self, BRONZE};
use crate::csv::{self, Row, Table};
use crate::error::{Error, Result, did_you_mean};
use crate::formats::as_json;
use crate::lakehouse::{Lakehouse, Project, Publish};
use crate::models::Model;
use crate::refresh::Inputs;
use crate::refresh::shape::{Look, shapes};
use crate::scratch::Scratch;
use crate::session::ReadSession;

/// A test, ready to be tried.
pub(super) struct Trial<'t> {
    test: &'t UnitTest,
    /// The models that are computed, and the tables that are given as models without references.
    project: Project,
    /// The time of the last event's version.
    now: DateTime<Utc>,
    /// A log with all events in one append.
    together: Log,
    expected: Table,
    /// Where the state caches are.
    _scratch: Scratch,
}

impl<'t> Trial<'t> {
    /// Makes the log, and reads what the test gives and expects.
    ///
    /// # Errors
    /// As [`Project::try_out`].
    pub(super) async fn new(of: &Project, test: &'t UnitTest, together: &[Arc<Batch>]) -> Result<Self> {
        let mut models = computed(&of.models, test)?;
        let expected = table(test, &test.expect)?;
        let now = time_of(test)?.or_else(|| newest(together)).unwrap_or_else(no_time);
        let scratch = Scratch::new()?;
        let log = new_log(&of.config, now, together.len()).await?;
        append(&log, now, together).await?;
        let snapshot = log.snapshot().await?;
        let config = settings(&of.config, &snapshot);
        let directory = scratch.directory().to_owned();
        let given: Vec<&GivenTable> = test.given.iter().filter(|table| !table.name.starts_with(BRONZE)).collect();
        if !given.is_empty() {
            let real = Project { directory: directory.clone(), config: config.clone(), models: of.models.clone() };
            let mut tables = given_tables(real, test, &given, (&log, &snapshot)).await?;
            tables.append(&mut models);
            models = tables;
        }
        // They are published nowhere, whatever their headers say.
        let models = models.into_iter().map(|model| Arc::new(Model { sinks: Vec::new(), ..Model::clone(&model) }));
        let project = Project { directory, config, models: models.collect() };
        Ok(Self { test, project, now, together: log, expected, _scratch: scratch })
    }

    /// Refreshes the models, and compares the rows: after all events at once, or after every one of those that come apart.
    ///
    /// # Errors
    /// As [`Project::try_out`].
    pub(super) async fn failure(&self, apart: Option<&[Arc<Batch>]>) -> Result<Option<Failure>> {
        let way = apart.map_or(Way::Any, |_| Way::Apart);
        let (session, actual) = match self.table(apart).await {
            Ok(computed) => computed,
            Err(error) => return Ok(Some(Failure { way, instead: Instead::Error(of_no_event(error)) })),
        };
        let (expected, actual) = self.compared(&session, &actual).await?;
        let difference = difference(&expected, &actual)?;
        Ok(difference.map(|difference| Failure { way, instead: Instead::Rows(difference) }))
    }

    /// The model's table.
    async fn table(&self, apart: Option<&[Arc<Batch>]>) -> Result<(ReadSession, RecordBatch)> {
        let (config, models) = (&self.project.config, &self.project.models);
        let log = match apart {
            Some(events) => new_log(config, self.now, events.len()).await?,
            None => self.together.clone(),
        };
        let lakehouse = Lakehouse::over(self.project.clone(), log)?;
        let events = apart.unwrap_or_default();
        for (event, before) in events.iter().zip((0..events.len()).rev()) {
            append_one(lakehouse.log(), before_now(self.now, before), event).await?;
            lakehouse.refresh_to(None, models, Publish::Nothing, &()).await?;
        }
        if apart.is_none() {
            lakehouse.refresh_to(None, models, Publish::Nothing, &()).await?;
        }
        let session = lakehouse.read(None).await?;
        let name = self.test.model.text.split('.').map(crate::quoting::quoted).collect::<Vec<_>>().join(".");
        let rows = fetched(&session, &format!("SELECT * FROM {name}")).await?;
        Ok((session, rows))
    }

    /// The columns that are expected, of what is expected and of what is there.
    async fn compared(&self, session: &ReadSession, actual: &RecordBatch) -> Result<(RecordBatch, RecordBatch)> {
        let (test, written) = (self.test, &self.expected);
        known(test, &test.model.text, (written, &test.expect), actual.schema_ref().fields())?;
        let (mut columns, mut there) = (Vec::new(), Vec::new());
        for (cell, name) in written.columns.iter().enumerate() {
            let Some(values) = actual.column_by_name(name) else { continue };
            // What has no text in SQL is written, and compared, as JSON.
            let values = if values.data_type().is_nested() { in_order(&as_json(values)?) } else { Arc::clone(values) };
            columns.push(Column { name: name.clone(), kind: values.data_type().clone(), cell: Some(cell) });
            there.push((name.clone(), values));
        }
        let expected = fitting(session, test, &columns, &written.rows).await?;
        let nested = |name: &str| actual.column_by_name(name).is_some_and(|values| values.data_type().is_nested());
        let expected_columns = columns.iter().zip(expected.columns()).map(|(column, values)| {
            let values = if nested(&column.name) { in_order(values) } else { Arc::clone(values) };
            (column.name.clone(), values)
        });
        let expected = nullable(expected_columns.collect(), expected.num_rows())?;
        Ok((expected, nullable(there, actual.num_rows())?))
    }
}

/// The tables whose rows are given, as models of constants; in the types that their own SQL gives.
async fn given_tables(
    real: Project,
    test: &UnitTest,
    given: &[&GivenTable],
    (log, snapshot): (&Log, &Snapshot),
) -> Result<Vec<Arc<Model>>> {
    let lakehouse = Lakehouse::over(real, log.clone())?;
    let names: Vec<String> = given.iter().map(|table| table.name.clone()).collect();
    let inputs = lakehouse.inputs(snapshot, None, None, log.store());
    let inputs = Inputs { models: lakehouse.with_ancestors(&names), ..inputs };
    let shapes = shapes(&inputs, Look::Plan).await.map_err(|error| {
        let line = given.first().map_or(test.line, |table| table.line);
        let hint = "pin the columns of bronze.events that it reads, under [columns] in lakebed.toml".to_owned();
        wrong(test, line, format!("the types of what is given are not known: {error}"), Some(hint))
    })?;
    let context = catalog::session(log.store(), log.store())?;
    let session = ReadSession::new(snapshot.version, snapshot.filled, Vec::new(), context);
    let mut tables = Vec::new();
    for given in given {
        let Some(shape) = shapes.iter().find(|shape| shape.model.name.to_string() == given.name) else { continue };
        let (schema, written) = (shape.state.schema()?, table(test, &given.rows)?);
        known(test, &given.name, (&written, &given.rows), schema.fields())?;
        let columns = schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            kind: field.data_type().clone(),
            cell: written.columns.iter().position(|name| name == field.name()),
        });
        let columns: Vec<Column> = columns.collect();
        if let Some(nested) = columns.iter().find(|column| column.kind.is_nested() && column.cell.is_some()) {
            let message = format!("column '{}' of {} is {}, which has no text", nested.name, given.name, nested.kind);
            let hint = format!("leave it out, or give what {} reads", given.name);
            return Err(wrong(test, given.rows.line, message, Some(hint)));
        }
        fitting(&session, test, &columns, &written.rows).await?;
        let query = select(&columns, &written.rows);
        let of_test = Model {
            path: test.file.clone(),
            query,
            references: BTreeSet::new(),
            seed: None,
            ..Model::clone(&shape.model)
        };
        tables.push(Arc::new(of_test));
    }
    Ok(tables)
}

/// Rows of text in their types.
///
/// # Errors
/// [`Error::UnitTest`] for a text that is no value of its column's type.
async fn fitting(session: &ReadSession, test: &UnitTest, columns: &[Column], rows: &[Row]) -> Result<RecordBatch> {
    match read(session, columns, rows).await {
        Ok(batch) => Ok(batch),
        Err(error) => match unfit(session, columns, rows).await {
            Some(unfit) => {
                let hint = "a value is written as CAST reads it; where nothing is written it is NULL".to_owned();
                Err(wrong(test, unfit.line, unfit.message, Some(hint)))
            }
            None => Err(error),
        },
    }
}

/// What no event has brought and nobody has pinned is no column, here as in a lake.
fn of_no_event(error: Error) -> Error {
    match error {
        Error::Model { path, line, message, hint }
            if message.starts_with("there is no column")
                && !hint.as_ref().is_some_and(|hint| hint.contains("mean")) =>
        {
            let hint = "give an event that has it, or pin it under [columns] in lakebed.toml".to_owned();
            Error::Model { path, line, message, hint: Some(hint) }
        }
        other => other,
    }
}

/// Reads a text of a test as rows.
fn table(test: &UnitTest, written: &Written) -> Result<Table> {
    csv::parse(&written.text, written.line).map_err(|(line, message)| {
        let hint =
            "rows are CSV: a line of names, then a line each; a table without rows has its names alone".to_owned();
        wrong(test, line, message, Some(hint))
    })
}

/// Refuses columns that a table does not have.
fn known(test: &UnitTest, name: &str, (written, at): (&Table, &Written), fields: &Fields) -> Result<()> {
    let is_known = |column: &&String| fields.find(column).is_some();
    let Some(unknown) = written.columns.iter().find(|column| !is_known(column)) else { return Ok(()) };
    let names = fields.iter().map(|field| field.name().clone());
    let hint = did_you_mean(unknown, names);
    Err(wrong(test, at.line, format!("{name} has no column '{unknown}'"), Some(hint)))
}

/// The settings of a test's lakes: those of the project, where nothing is published, and where every column of the events is there
/// before the first of them has come.
fn settings(config: &Config, snapshot: &Snapshot) -> Config {
    let claims = snapshot.claims.iter().filter(|claim| !schema::is_own(&claim.name));
    let claimed = claims.map(|claim| (claim.name.clone(), claim.kind));
    let columns = claimed.chain(config.columns.clone()).collect();
    Config { columns, postgres: PostgresConfig::default(), delta: DeltaConfig::default(), ..config.clone() }
}

/// A log in memory that so many appends bring to a time.
async fn new_log(config: &Config, now: DateTime<Utc>, appends: usize) -> Result<Log> {
    let log = Log::open_or_create(Store::memory(), &config.owner(), before_now(now, appends)).await?;
    let limit = ColumnLimit::new(config.ingest.max_columns, config.columns.keys().cloned());
    Ok(log.with_columns_up_to(limit))
}

async fn append(log: &Log, now: DateTime<Utc>, batches: &[Arc<Batch>]) -> Result<()> {
    for (batch, before) in batches.iter().zip((0..batches.len()).rev()) {
        append_one(log, before_now(now, before), batch).await?;
    }
    Ok(())
}

async fn append_one(log: &Log, at: DateTime<Utc>, batch: &Arc<Batch>) -> Result<()> {
    log.append(batch, Ack::Committed, at).await?;
    Ok(())
}

/// The time of the version after which so many come until now: each is a millisecond later than the one before.
fn before_now(now: DateTime<Utc>, appends: usize) -> DateTime<Utc> {
    let before = TimeDelta::milliseconds(i64::try_from(appends).unwrap_or(0));
    now.checked_sub_signed(before).unwrap_or(now)
}

/// The time of the newest event.
fn newest(batches: &[Arc<Batch>]) -> Option<DateTime<Utc>> {
    let days = batches.iter().flat_map(|batch| &batch.events.days);
    days.filter_map(|day| max(&day.event_time)).max().and_then(DateTime::from_timestamp_micros)
}

/// Texts of JSON, where those of one value are one text.
fn in_order(texts: &ArrayRef) -> ArrayRef {
    let one = |text: &str| {
        let value = serde_json::from_str::<serde_json::Value>(text).ok();
        value.map_or_else(|| text.to_owned(), |value| value.to_string())
    };
    Arc::new(texts.as_string::<i32>().iter().map(|text| text.map(one)).collect::<StringArray>())
}
