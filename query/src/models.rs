//! Models: one SQL file each, found under `sql/`, with a header of comments; in the order in which they refresh.

mod change_data;
pub(crate) mod row_checks;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use self::change_data::ChangeData;
use self::row_checks::Wrong;
use crate::catalog::{BRONZE, EVENTS};
use crate::checks::Check;
use lakebed_project::{CONFIG_FILE, Config, SinkKind};

use crate::error::{Error, Result};
use crate::policies::FOLDER;
use crate::seeds::{self, SEEDS, Seed};
use crate::sql::grammar::put_right;
use crate::sql::total_order::Refused;
use crate::sql::unsupported::refuse_unsupported;
use crate::statement::Statement as SqlText;

/// The folders of `sql/` whose files are models.
pub const LAYERS: [&str; 2] = ["silver", "gold"];

/// A table's name: its schema and its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// `bronze`, `silver`, `gold` or `seeds`.
    pub schema: String,
    /// The name in it.
    pub name: String,
}

impl TableName {
    /// The table of the rows that a model's checks quarantine.
    pub(crate) fn quarantine(&self) -> Self {
        Self { schema: self.schema.clone(), name: format!("{}_quarantine", self.name) }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A model as its file says it; a seed is one as well, without a statement.
#[derive(Clone, Debug)]
pub struct Model {
    /// Folder and file name.
    pub name: TableName,
    /// The file.
    pub path: PathBuf,
    /// The comment lines before the first setting, as one text.
    pub description: Option<String>,
    /// The key columns; empty where the header names none.
    pub key: Vec<String>,
    /// What its header says of every row.
    pub checks: Vec<Check>,
    /// The sinks that keep it; the project's where the header says nothing, and nothing where it says `none`.
    pub sinks: Vec<SinkKind>,
    /// The file's text.
    pub sql: String,
    /// What is planned: the statement without comments and layout, or what the header makes of it over change data and by checks
    /// that keep rows out. It is what counts for whether a model changed. Of a seed it is no SQL, and tells its rows from others.
    pub query: String,
    /// The tables it reads.
    pub references: BTreeSet<TableName>,
    /// Its rows, if it is a seed.
    pub seed: Option<Arc<Seed>>,
}

impl Model {
    /// Whether a sink keeps it.
    pub fn is_kept_in(&self, sink: SinkKind) -> bool {
        self.sinks.contains(&sink)
    }

    /// Why it is refused, with its file and the line.
    pub(crate) fn refused(&self, refused: Refused) -> Error {
        let line = self.line_of(&refused.word).unwrap_or(1);
        Error::Model { path: self.path.clone(), line, message: refused.message, hint: Some(refused.hint) }
    }

    /// What tells its statement from another one: 32 hexadecimal digits.
    pub(crate) fn statement_hash(&self) -> String {
        blake3::hash(self.query.as_bytes()).to_hex()[..32].to_owned()
    }

    /// The first line, from 1, that has a word of the SQL, in capitals or not; `None` for no word, and one that is not there.
    pub(crate) fn line_of(&self, word: &str) -> Option<usize> {
        let word = Some(word.to_lowercase()).filter(|word| !word.is_empty())?;
        self.sql.lines().position(|line| line.to_lowercase().contains(&word)).map(|at| at + 1)
    }
}

/// Reads every model of a project, and its seeds; parents come before children. One whose header names no sinks is kept in those
/// of the settings.
///
/// # Errors
/// [`Error::Model`] with file and line for a file that is no single query or no seed, a reference to nothing, or a cycle.
pub fn load(directory: &Path, config: &Config) -> Result<Vec<Model>> {
    let (models, wrong) = read(directory, config)?;
    match wrong.into_iter().next() {
        Some(error) => Err(error),
        None => in_order(models),
    }
}

/// As [`load`], but for the models whose files are wrong and those that read such: what is wrong with each of them is given as well.
///
/// # Errors
/// [`Error::File`] for what cannot be read.
pub fn load_right(directory: &Path, config: &Config) -> Result<(Vec<Model>, Vec<Error>)> {
    let (mut models, mut wrong) = read(directory, config)?;
    loop {
        let error = match in_order(models.clone()) {
            Err(error @ Error::Model { .. }) => error,
            ordered => return Ok((ordered?, wrong)),
        };
        if let Error::Model { path, .. } = &error {
            models.retain(|_, model| model.path != *path);
        }
        wrong.push(error);
    }
}

/// The models by their names, and what is wrong with the files of others.
fn read(directory: &Path, config: &Config) -> Result<(BTreeMap<TableName, Model>, Vec<Error>)> {
    let (seeds, mut wrong) = seeds::read(directory, config)?;
    let mut models: BTreeMap<_, _> = seeds.into_iter().map(|seed| (seed.name.clone(), seed)).collect();
    let mut quarantines = Vec::new();
    for layer in LAYERS {
        for path in sql_files(&directory.join("sql").join(layer))? {
            let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
            match parse(layer, &path, text, &config.sinks) {
                Ok(model) => {
                    let (model, quarantine) = row_checks::apart(model);
                    quarantines.extend(quarantine);
                    models.insert(model.name.clone(), model);
                }
                Err(error) => wrong.push(error),
            }
        }
    }
    for quarantine in quarantines {
        if models.contains_key(&quarantine.name) {
            models.retain(|_, model| model.path != quarantine.path);
            wrong.push(row_checks::taken(&quarantine));
        } else {
            models.insert(quarantine.name.clone(), quarantine);
        }
    }
    Ok((models, wrong))
}

/// The SQL files of a folder, in order; none where there is no folder.
///
/// # Errors
/// [`Error::File`] for a folder that cannot be read.
pub(crate) fn sql_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let file_error = |source| Error::File { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(file_error(source)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(file_error)).collect::<Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql")).collect();
    files.sort();
    Ok(files)
}

/// Files with their time, their length, and what else the system changes with them.
pub type Stamp = Vec<(PathBuf, Option<SystemTime>, u64, [u64; 2])>;

/// What the settings and the files of the models, the seeds and the policies look like from outside: another value where one of them was
/// written, made or deleted.
pub fn stamp(directory: &Path) -> Stamp {
    let of_file = |path: PathBuf| {
        // Of the file that a link leads to. One that took another's place may have its time and length.
        let about = std::fs::metadata(&path).ok()?;
        Some((path, about.modified().ok(), about.len(), [about.ino(), about.ctime_nsec().unsigned_abs()]))
    };
    let mut stamp: Stamp = of_file(directory.join(CONFIG_FILE)).into_iter().collect();
    for folder in [LAYERS[0], LAYERS[1], SEEDS, FOLDER] {
        let entries = std::fs::read_dir(directory.join("sql").join(folder)).into_iter().flatten().flatten();
        stamp.extend(entries.filter_map(|entry| of_file(entry.path())));
    }
    stamp.sort();
    stamp
}

/// Reads one model.
fn parse(layer: &str, path: &Path, sql: String, default_sinks: &[SinkKind]) -> Result<Model> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let wrong = |line: usize, message: String| Error::Model { path: path.to_owned(), line, message, hint: None };
    if SqlText::parse(&sql).is_ok_and(|statement| !statement.versions().is_empty()) {
        let message = "a model is of the version that it is built at, and asks for no other".to_owned();
        return Err(wrong(line_of(&sql, "AS OF"), message));
    }
    let mut statements = DFParser::parse_sql(&sql).map_err(|error| {
        let message = Error::planning(error, &[]).to_string();
        wrong(line_in(&message, &sql), message)
    })?;
    if let Some(Statement::Statement(query)) = statements.front_mut() {
        put_right(query);
    }
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(wrong(1, "a model is exactly one SELECT".to_owned()));
    };
    let Statement::Statement(query) = &statement else {
        return Err(wrong(1, "a model is a SELECT, nothing else".to_owned()));
    };
    let (references, _) = resolve_table_references(&statement, true)?;
    let mut tables = BTreeSet::new();
    for reference in references {
        let (Some(schema), name) = (reference.schema(), reference.table()) else {
            let line = line_of(&sql, reference.table());
            return Err(wrong(
                line,
                format!("'{}' needs its schema: bronze, silver, gold or seeds", reference.table()),
            ));
        };
        tables.insert(TableName { schema: schema.to_owned(), name: name.to_owned() });
    }
    let name = TableName { schema: layer.to_owned(), name };
    let (description, settings) = header(&sql).map_err(|unknown| Error::Model {
        path: path.to_owned(),
        line: unknown.line,
        message: format!("there is no setting '{}' for a model", unknown.setting),
        hint: Some(format!("did you mean '{}'?", unknown.nearest)),
    })?;
    let list = |key: &str| {
        let values = settings.iter().filter(|(setting, _)| setting == key).flat_map(|(_, value)| value.split(','));
        values.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect::<Vec<_>>()
    };
    let (mut key, sinks) = (list("key"), list("sinks"));
    let sinks = match sinks.as_slice() {
        [] => default_sinks.to_owned(),
        [only] if only == "none" => Vec::new(),
        named => {
            let parsed = named.iter().map(|sink| sink.parse()).collect::<Result<Vec<SinkKind>, String>>();
            let unknown =
                |unknown| wrong(line_of(&sql, "sinks:"), format!("the sink {unknown}; for no sink write none"));
            parsed.map_err(unknown)?
        }
    };
    let about = |wrong_setting: change_data::Wrong| {
        wrong(line_of(&sql, &format!("{}:", wrong_setting.setting)), wrong_setting.message)
    };
    let planned = match (ChangeData::of(&settings, &key).map_err(about)?, query.as_ref()) {
        (None, query) => query.to_string(),
        (Some(changes), SqlStatement::Query(query)) => {
            key = changes.key_of_rows();
            changes.over(query.as_ref().clone()).map_err(about)?
        }
        (Some(_), _) => return Err(wrong(1, "a model is a SELECT, nothing else".to_owned())),
    };
    let references = tables;
    let checks = settings.iter().filter(|(setting, _)| setting == "check").map(|(_, check)| {
        Check::parse(check).map_err(|Wrong { message, hint }| {
            let (path, line) = (path.to_owned(), line_of(&sql, check));
            Error::Model { path, line, message, hint: Some(hint) }
        })
    });
    let checks = checks.collect::<Result<_>>()?;
    let (path, seed) = (path.to_owned(), None);
    let model = Model { name, path, description, key, checks, sinks, sql, query: planned, references, seed };
    refuse_unsupported(query).map_err(|refused| model.refused(refused))?;
    Ok(model)
}

/// What a model's header may set.
const SETTINGS: [&str; 6] = ["key", "sinks", "check", "sequence", "delete", "history"];

/// A word before a colon that is nearly a setting.
struct UnknownSetting {
    line: usize,
    setting: String,
    nearest: &'static str,
}

/// The header's description and its settings, in order: the comment lines before the first line of SQL.
#[expect(clippy::type_complexity, reason = "it is taken apart where it is called, and nowhere else")]
fn header(sql: &str) -> Result<(Option<String>, Vec<(String, String)>), UnknownSetting> {
    let (mut description, mut settings) = (Vec::new(), Vec::new());
    let comments = sql.lines().map(str::trim).take_while(|line| line.is_empty() || line.starts_with("--"));
    for (at, comment) in comments.enumerate() {
        let Some(comment) = comment.strip_prefix("--").map(str::trim) else { continue };
        let setting = comment.split_once(':');
        match setting.filter(|(setting, _)| SETTINGS.contains(setting)) {
            Some((setting, value)) => settings.push((setting.to_owned(), value.trim().to_owned())),
            None => {
                let likeness = |known: &&&str, setting: &str| strsim::jaro(known, setting) > 0.8;
                let nearest = setting
                    .and_then(|(setting, _)| Some((setting, SETTINGS.iter().find(|known| likeness(known, setting))?)));
                if let Some((setting, nearest)) = nearest {
                    return Err(UnknownSetting { line: at + 1, setting: setting.to_owned(), nearest });
                }
                if settings.is_empty() {
                    description.push(comment);
                }
            }
        }
    }
    let description = description.join(" ").trim().to_owned();
    Ok(((!description.is_empty()).then_some(description), settings))
}

/// The line that a parser's message names, as in `… at Line: 3, Column: 7`; what ended too early ends in the last line.
fn line_in(message: &str, sql: &str) -> usize {
    if message.ends_with("EOF") {
        return sql.lines().count().max(1);
    }
    let after = message.split("Line: ").nth(1).unwrap_or_default();
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(1)
}

/// The first line, from 1, that has the text.
fn line_of(sql: &str, text: &str) -> usize {
    sql.lines().position(|line| line.contains(text)).map_or(1, |at| at + 1)
}

/// Sorts parents before children.
fn in_order(mut models: BTreeMap<TableName, Model>) -> Result<Vec<Model>> {
    let names: Vec<TableName> = models.keys().cloned().collect();
    for model in models.values() {
        for reference in &model.references {
            let events = reference.schema == BRONZE && reference.name == EVENTS;
            if !events && !models.contains_key(reference) {
                let line = line_of(&model.sql, &reference.to_string());
                let known = names.iter().map(ToString::to_string).chain([format!("{BRONZE}.{EVENTS}")]);
                let nearest = crate::error::nearest(&reference.to_string(), known);
                let no_seed =
                    || (reference.schema == SEEDS).then(|| format!("write sql/{SEEDS}/{}.csv", reference.name));
                let hint = nearest.map(|name| format!("did you mean '{name}'?")).or_else(no_seed);
                let message = format!("there is no table '{reference}'");
                return Err(Error::Model { path: model.path.clone(), line, message, hint });
            }
        }
    }
    let mut ordered: Vec<Model> = Vec::new();
    while !models.is_empty() {
        let ready = models.values().find(|model| model.references.iter().all(|parent| !models.contains_key(parent)));
        let Some(name) = ready.map(|model| model.name.clone()) else { return Err(cycle(&models)) };
        ordered.extend(models.remove(&name));
    }
    Ok(ordered)
}

/// The error that names a cycle, model by model.
fn cycle(models: &BTreeMap<TableName, Model>) -> Error {
    let mut path: Vec<&Model> = models.values().take(1).collect();
    while let Some(parent) = path.last().and_then(|model| model.references.iter().find_map(|parent| models.get(parent)))
    {
        if let Some(start) = path.iter().position(|model| model.name == parent.name) {
            path.drain(..start);
            path.push(parent);
            break;
        }
        path.push(parent);
    }
    let names: Vec<String> = path.iter().map(|model| model.name.to_string()).collect();
    let (file, line) = match (path.first(), path.get(1)) {
        (Some(model), Some(parent)) => (model.path.clone(), line_of(&model.sql, &parent.name.to_string())),
        _ => (PathBuf::new(), 1),
    };
    let message = format!("the models read each other in a circle: {}", names.join(" → "));
    Error::Model { path: file, line, message, hint: Some("take one of these references out".to_owned()) }
}

#[cfg(test)]
mod tests;
