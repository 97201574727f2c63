//! What the benches share: events of the generator, as they come in and as they are appended.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lakebed_generator::Generator;
use lakebed_ingest::{RawBatch, RawBatches, Settings, decode};
use lakebed_log::{Batch, BatchId, ColumnType};
use lakebed_project::{Config, Flags};
use lakebed_query::Project;

/// The first `count` lines of the default feed, as NDJSON of about 1.1 KB each. The same bytes on every machine.
///
/// # Errors
/// None with the default settings; those of the generator.
pub fn ndjson(count: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut text = Vec::new();
    Generator::new(lakebed_generator::Settings::default())?.write(0, count, &mut text);
    Ok(text)
}

/// The same events, framed and cut as `lakebed ingest` cuts a file.
///
/// # Errors
/// As [`ndjson`], and where the text cannot be framed.
pub fn raw_batches(count: u64) -> Result<Vec<RawBatch>, Box<dyn Error>> {
    let text = ndjson(count)?;
    Ok(RawBatches::new(text.as_slice(), &Settings::default()).collect::<Result<_, _>>()?)
}

/// The events `first` to `first + count - 1` of the feed as one decoded batch with the given id; `columns` are the pinned
/// types, by flattened name.
///
/// # Errors
/// As [`raw_batches`]; and where so many events are no single batch.
pub fn batch(
    id: String,
    first: u64,
    count: u64,
    columns: &BTreeMap<String, ColumnType>,
) -> Result<Arc<Batch>, Box<dyn Error>> {
    let mut text = Vec::new();
    Generator::new(lakebed_generator::Settings::default())?.write(first, count, &mut text);
    let settings = Settings { declared: columns.clone(), ..Settings::default() };
    let mut raw = RawBatches::new(text.as_slice(), &settings);
    match (raw.next().transpose()?, raw.next()) {
        (Some(only), None) => Ok(Arc::new(decode(&only, BatchId::new(id), "bench", &settings).batch)),
        _ => Err(format!("{count} events are not one batch").into()),
    }
}

/// The starter project with the reference pipeline, made in an empty directory as `lakebed init` makes it.
///
/// # Errors
/// Where the directory cannot be written, or the repository's own models do not load.
pub fn project(directory: &Path) -> Result<Project, Box<dyn Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let settings = fs::read_to_string(repository.join("cli/starter/lakebed.toml"))?;
    fs::write(directory.join("lakebed.toml"), settings.replace("{name}", "bench"))?;
    for layer in ["silver", "gold"] {
        let (from, to) = (repository.join("sql").join(layer), directory.join("sql").join(layer));
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    let config = Config::load(directory, &|_| None, &Flags::default())?;
    Ok(Project::load(directory, config)?)
}
