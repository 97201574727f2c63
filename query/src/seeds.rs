//! Seeds: CSV files under `sql/seeds`, each of which is the table `seeds.NAME`; reference data that lies beside the SQL.
//!
//! A seed belongs to the SQL text, and not to the log: what it says is part of the fingerprint of every model that reads it. It
//! is refreshed, stored, published and read as a model without a parent, so that an answer has the seeds and the models of one
//! epoch. As long as a fingerprint stays, its rows stay: [`crate::dataflow::constant`] makes use of that.

mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use lakebed_log::ColumnType;
use lakebed_project::{CONFIG_FILE, Config};

use crate::catalog::BRONZE;
use crate::csv::{self, Row, Table};
use crate::error::{Error, Result, did_you_mean};
use crate::hash::TableHash;
use crate::models::{LAYERS, Model, TableName};
use crate::slots::Slot;
use crate::system_tables;

/// The folder of `sql/` that they are in, and the schema that they are tables of.
pub const SEEDS: &str = "seeds";

/// The schema of the slots that hold all rows of a seed, at every refresh.
pub(crate) const ALL_OF_SEEDS: &str = "lakebed_seeds";

/// A larger file is refused: it is read whole, by every command.
const MOST_BYTES: u64 = 10 << 20;

/// So is one with more rows.
const MOST_ROWS: usize = 100_000;

/// What a file says.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Its rows in the order of the file, in columns of the types of [`ColumnType`].
    pub rows: RecordBatch,
}

impl Seed {
    /// The rows as a table.
    ///
    /// # Errors
    /// None: they have the columns that they have.
    pub(crate) fn table(&self) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(MemTable::try_new(self.rows.schema(), vec![vec![self.rows.clone()]])?))
    }

    /// The query of a seed of this name: all that is in its slot.
    ///
    /// # Errors
    /// None for a name of a file.
    pub(crate) fn query(&self, name: &str) -> Result<LogicalPlan> {
        let slot: Arc<dyn TableProvider> = Arc::new(Slot(self.rows.schema()));
        let table = TableReference::partial(ALL_OF_SEEDS, name);
        Ok(LogicalPlanBuilder::scan(table, provider_as_source(slot), None)?.build()?)
    }

    /// What its table depends on: names and types of the columns, and the rows, in whatever order and however they are written.
    fn identity(&self) -> Result<String> {
        let fields = self.rows.schema();
        let columns = fields.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        let columns = columns.collect::<Vec<_>>().join("\0");
        Ok(format!("seed\0{columns}\0{}", TableHash::of_batch(&self.rows)?))
    }
}

/// The name of the slot that holds all rows of a seed.
pub(crate) fn slot_of_all(seed: &str) -> String {
    format!("{ALL_OF_SEEDS}.{seed}")
}

/// Reads the seeds of a project, and what is wrong with the files of others.
///
/// # Errors
/// [`Error::File`] for what cannot be read.
pub(crate) fn read(directory: &Path, config: &Config) -> Result<(Vec<Model>, Vec<Error>)> {
    let (mut seeds, mut wrong, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for path in entries(&folder(directory))? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match seed(&path, &name, config) {
            Ok(seed) => seeds.push(seed),
            Err(error @ Error::Model { .. }) => wrong.push(error),
            Err(error) => return Err(error),
        }
        names.insert(name);
    }
    wrong
        .extend(config.seeds.keys().filter(|name| !names.contains(*name)).map(|name| no_seed(directory, name, &names)));
    Ok((seeds, wrong))
}

/// The names of the seeds whose files are there, right or wrong.
///
/// # Errors
/// [`Error::File`] for a folder that cannot be read.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    let files = entries(&folder(directory))?.into_iter().filter(|path| is_csv(path));
    Ok(files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

fn folder(directory: &Path) -> PathBuf {
    directory.join("sql").join(SEEDS)
}

/// What lies in a folder, but for what editors and systems keep there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        !name.starts_with(b".") && !name.ends_with(b"~")
    });
    paths.sort();
    Ok(paths)
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "csv") && !path.is_dir()
}

/// Something of a file that makes it no seed.
fn wrong(path: &Path, line: usize, message: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::Model { path: path.to_owned(), line, message: message.into(), hint: Some(hint.into()) }
}

/// That the columns of a seed are pinned which is not there.
fn no_seed(directory: &Path, name: &str, known: &BTreeSet<String>) -> Error {
    let (file, section) = (directory.join(CONFIG_FILE), format!("{SEEDS}.{name}"));
    let text = fs::read_to_string(&file).unwrap_or_default();
    let begins = |line: &str| line.trim_start().trim_start_matches('[').starts_with(&format!("{section}]"));
    let line = text.lines().position(begins).map_or(1, |at| at + 1);
    let hint = match known.is_empty() {
        true => format!("write sql/{SEEDS}/{name}.csv, or take the section out"),
        false => format!("{}, or take the section out", did_you_mean(name, known.iter().cloned())),
    };
    wrong(&file, line, format!("[{section}] pins types, and there is no sql/{SEEDS}/{name}.csv"), hint)
}

/// Reads one file.
fn seed(path: &Path, name: &str, config: &Config) -> Result<Model> {
    if !is_csv(path) {
        let hint = match path.extension() {
            Some(extension) if extension == "sql" => "move it to sql/silver or sql/gold, where models are",
            _ => "write it as CSV, or move it out of sql/seeds",
        };
        return Err(wrong(path, 1, "a seed is a file whose name ends in .csv", hint));
    }
    if LAYERS.into_iter().chain([BRONZE, SEEDS, system_tables::SCHEMA]).any(|schema| schema == name) {
        return Err(wrong(
            path,
            1,
            format!("'{name}' is the name of a schema, and none for a seed"),
            "rename the file",
        ));
    }
    let none = BTreeMap::new();
    let rows = rows(path, &table(path, &text(path)?)?, (name, config.seeds.get(name).unwrap_or(&none)))?;
    let seed = Seed { rows };
    Ok(Model {
        name: TableName { schema: SEEDS.to_owned(), name: name.to_owned() },
        path: path.to_owned(),
        description: Some(format!("The rows of sql/{SEEDS}/{name}.csv.")),
        key: Vec::new(),
        checks: Vec::new(),
        sinks: config.sinks.clone(),
        sql: String::new(),
        query: seed.identity()?,
        references: BTreeSet::new(),
        seed: Some(Arc::new(seed)),
    })
}

/// A file's text, in lines that end as in Unix.
fn text(path: &Path) -> Result<String> {
    const AS_EVENTS: &str = "what is larger comes into the log as events, with `lakebed ingest`";
    let failed = |source| Error::File { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MOST_BYTES {
        let message = format!("a seed has {MOST_BYTES} bytes at most, and this one has {bytes}");
        return Err(wrong(path, 1, message, AS_EVENTS));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let line_at = |end: usize| 1 + bytes[..end].iter().filter(|byte| **byte == b'\n').count();
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) if !text.contains('\0') => text,
        refused => {
            let at = refused.map_or_else(|error| error.valid_up_to(), |text| text.find('\0').unwrap_or_default());
            return Err(wrong(path, line_at(at), "this is no text in UTF-8", "save the file as CSV in UTF-8"));
        }
    };
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n"))
}

fn table(path: &Path, text: &str) -> Result<Table> {
    let table = csv::parse(text, 1).map_err(|(line, message)| {
        let hint = "the first line has the names, and each row a value for each; one with a comma or a quote is quoted";
        wrong(path, line, message, hint)
    })?;
    let mut names = BTreeSet::new();
    if let Some(twice) = table.columns.iter().find(|name| !names.insert(name.to_lowercase())) {
        let message = format!("two columns are called '{twice}', for whoever takes capitals and small letters as one");
        return Err(wrong(path, 1, message, "give one of them another name"));
    }
    match table.rows.get(MOST_ROWS) {
        None => Ok(table),
        Some(Row { line, .. }) => {
            let message = format!("a seed has {MOST_ROWS} rows at most");
            Err(wrong(path, *line, message, "what has more comes into the log as events, with `lakebed ingest`"))
        }
    }
}

/// The rows in their types: those that are pinned, or else those that all values of a column fit.
fn rows(path: &Path, table: &Table, (name, pins): (&str, &BTreeMap<String, ColumnType>)) -> Result<RecordBatch> {
    if let Some(unknown) = pins.keys().find(|pinned| !table.columns.contains(pinned)) {
        let message = format!("there is no column '{unknown}', which [{SEEDS}.{name}] in {CONFIG_FILE} pins");
        return Err(wrong(path, 1, message, did_you_mean(unknown, table.columns.iter().cloned())));
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (at, column) in table.columns.iter().enumerate() {
        let cells: Vec<_> = table.rows.iter().map(|row| row.cells[at].as_deref()).collect();
        let kind = pins.get(column).copied().unwrap_or_else(|| values::kind_of(&cells));
        columns.push(values::array(kind, &cells).map_err(|row| {
            let value = cells[row].unwrap_or_default();
            let message =
                format!("column '{column}': '{value}' is no {kind}, which [{SEEDS}.{name}] in {CONFIG_FILE} pins");
            let hint = "put the value right, or pin another type; NULL is nothing at all between two commas";
            wrong(path, table.rows[row].line, message, hint)
        })?);
        fields.push(Field::new(column, kind.arrow(), true));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
