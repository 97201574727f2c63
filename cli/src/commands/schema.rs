//! `lakebed schema`: the columns of the log, those that lakebed.toml pins, and those that a file would bring.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};
use lakebed_ingest::{Inferred, Sample, Settings, infer};
use lakebed_log::{Claim, ColumnType};
use lakebed_project::Config;

use crate::arguments::{SchemaCommand, SchemaDiffArguments, SchemaInferArguments};
use crate::columns::{numbers, optional_texts, texts};
use crate::error::{Error, Result};
use crate::invocation::Invocation;

/// Shows, compares or infers.
pub(crate) async fn schema(invocation: &Invocation, command: &SchemaCommand) -> Result<()> {
    match command {
        SchemaCommand::Show => show(invocation).await,
        SchemaCommand::Diff(arguments) => diff(invocation, arguments).await,
        SchemaCommand::Infer(arguments) => infer_from(invocation, arguments).await,
    }
}

async fn claims(invocation: &Invocation, config: &Config) -> Result<Vec<Claim>> {
    Ok(invocation.log(config).await?.snapshot().await?.claims.iter().cloned().collect())
}

async fn show(invocation: &Invocation) -> Result<()> {
    let config = invocation.config()?;
    let claims = claims(invocation, &config).await?;
    let paths: Vec<String> = claims.iter().map(|claim| claim.path.join(".")).collect();
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("column", texts(claims.iter().map(|claim| claim.name.as_str())), false),
        ("type", kinds(claims.iter().map(|claim| Some(claim.kind))), false),
        ("path", texts(&paths), false),
        ("field_id", numbers(claims.iter().map(|claim| claim.id.unsigned_abs().into())), false),
        ("pinned", kinds(claims.iter().map(|claim| config.columns.get(&claim.name).copied())), true),
    ])?)
}

/// What lakebed.toml says otherwise than the log; or what a file's events would bring to it.
async fn diff(invocation: &Invocation, arguments: &SchemaDiffArguments) -> Result<()> {
    let config = invocation.config()?;
    let claims = claims(invocation, &config).await?;
    let log: BTreeMap<&str, ColumnType> = claims.iter().map(|claim| (claim.name.as_str(), claim.kind)).collect();
    let rows: Vec<Difference> = match &arguments.file {
        None => against_pins(&log, &config.columns),
        Some(file) => against_sample(&log, &config.columns, &sample(&config, file, arguments.events).await?.columns),
    };
    if rows.is_empty() {
        invocation.output.say("nothing differs");
    }
    invocation.output.rows(&RecordBatch::try_from_iter_with_nullable([
        ("column", texts(rows.iter().map(|row| row.column.as_str())), false),
        ("in_log", kinds(rows.iter().map(|row| row.in_log)), true),
        ("here", kinds(rows.iter().map(|row| row.here)), true),
        ("means", texts(rows.iter().map(|row| row.means)), false),
    ])?)
}

/// A column that differs.
struct Difference {
    column: String,
    in_log: Option<ColumnType>,
    /// In lakebed.toml, or in the file.
    here: Option<ColumnType>,
    means: &'static str,
}

fn against_pins(log: &BTreeMap<&str, ColumnType>, pins: &BTreeMap<String, ColumnType>) -> Vec<Difference> {
    let difference = |column: &str, in_log, here, means| Difference { column: column.to_owned(), in_log, here, means };
    let pinned = pins.iter().filter_map(|(column, pin)| match log.get(column.as_str()) {
        Some(kind) if kind == pin => None,
        Some(kind) => {
            let means = "values of other kinds than the log's go to a column of their own";
            Some(difference(column, Some(*kind), Some(*pin), means))
        }
        None => Some(difference(column, None, Some(*pin), "no event had it yet; models may read it, as null")),
    });
    let free = log
        .iter()
        .filter(|(column, _)| !pins.contains_key(**column))
        .map(|(column, kind)| difference(column, Some(*kind), None, "not pinned: its type is that of its JSON values"));
    pinned.chain(free).collect()
}

fn against_sample(
    log: &BTreeMap<&str, ColumnType>,
    pins: &BTreeMap<String, ColumnType>,
    sample: &[Inferred],
) -> Vec<Difference> {
    let new = sample.iter().filter_map(|Inferred { column, kind, .. }| {
        let (in_log, pin) = (log.get(column.as_str()).copied(), pins.get(column).copied());
        let takes = |of: ColumnType| match (of, *kind) {
            (ColumnType::Varchar | ColumnType::Json, _) => true,
            (ColumnType::Double | ColumnType::Decimal(..), ColumnType::BigInt | ColumnType::Double) => true,
            (ColumnType::Integer | ColumnType::BigInt, ColumnType::BigInt) => true,
            (ColumnType::Timestamp, ColumnType::Date) => true,
            (of, kind) => of == kind,
        };
        // Texts that are times are texts to a column that nobody pinned.
        let is_text = matches!(kind, ColumnType::Date | ColumnType::Timestamp);
        let means = match (pin, in_log) {
            (Some(pin), _) if takes(pin) => return None,
            (Some(_), _) => "some values do not fit the pin: they would be in _doc alone",
            (None, Some(of)) if takes(of) || (is_text && of == ColumnType::Varchar) => return None,
            (None, Some(_)) => "values of another kind would go to a column of their own",
            (None, None) => "a new column",
        };
        Some(Difference { column: column.clone(), in_log, here: Some(*kind), means })
    });
    new.collect()
}

/// Writes pins, to be put into lakebed.toml.
async fn infer_from(invocation: &Invocation, arguments: &SchemaInferArguments) -> Result<()> {
    // Without a project the fields are those of the default.
    let config = match invocation.config() {
        Err(Error::Project(error)) if matches!(*error, lakebed_project::Error::NoProject { .. }) => Config::default(),
        config => config?,
    };
    let Sample { columns, events, refused } = sample(&config, &arguments.file, arguments.events).await?;
    if refused > 0 {
        invocation.output.say(&format!("{refused} lines of the sample are no events"));
    }
    if events == 0 {
        return Err(Error::NoSample { path: arguments.file.clone() });
    }
    invocation.output.say(&format!("from {events} events; a wider type takes what the sample does not show"));
    if invocation.output.wants_rows() {
        return invocation.output.rows(&RecordBatch::try_from_iter([
            ("column", texts(columns.iter().map(|of| of.column.as_str()))),
            ("type", kinds(columns.iter().map(|of| Some(of.kind)))),
            ("values", numbers(columns.iter().map(|of| of.values))),
            ("example", texts(columns.iter().map(|of| of.example.as_str()))),
        ])?);
    }
    let pin = |of: &Inferred| format!("{} = \"{}\"\n", key(&of.column), of.kind);
    invocation.output.text(&format!("[columns]\n{}", columns.iter().map(pin).collect::<String>()))
}

async fn sample(config: &Config, file: &Path, events: u64) -> Result<Sample> {
    let (settings, file) = (Settings::of(config), file.to_owned());
    Ok(tokio::task::spawn_blocking(move || infer(&file, &settings, events)).await??)
}

/// A key of TOML.
fn key(name: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    if name.chars().all(bare) { name.to_owned() } else { toml::Value::from(name).to_string() }
}

fn kinds(values: impl Iterator<Item = Option<ColumnType>>) -> ArrayRef {
    optional_texts(values.map(|kind| kind.map(|kind| kind.to_string())))
}
