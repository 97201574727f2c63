//! `lakebed generate`: mock events as NDJSON.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use lakebed_generator::{Generator, Settings};

use crate::arguments::GenerateArguments;
use crate::error::{Error, Result};
use crate::output;

/// Writes the stretch of the feed that was asked for.
pub(crate) fn generate(arguments: &GenerateArguments) -> Result<()> {
    let feed = Generator::new(Settings {
        seed: arguments.seed,
        late: arguments.late,
        duplicates: arguments.duplicates,
        malformed: arguments.malformed,
        drift: arguments.drift,
        ..Settings::default()
    })?;
    let chunks = || feed.chunks(arguments.first, arguments.events);
    let path = &arguments.to;
    if path == Path::new("-") {
        return write(output::stdout(), chunks()).map_err(Error::Stdout);
    }
    let failed = |source| Error::File { path: path.clone(), source };
    // A pipe or a device is written as it is; a file is there whole or as it was.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return File::create(path).and_then(|file| write(file, chunks())).map_err(failed);
    }
    let mut partial = path.clone().into_os_string();
    partial.push(".partial");
    let written = File::create(&partial).and_then(|file| write(file, chunks()));
    written.and_then(|()| fs::rename(&partial, path)).map_err(|error| {
        // What went wrong is told; what cannot be removed is only untidy.
        let _ = fs::remove_file(&partial);
        failed(error)
    })
}

fn write(mut sink: impl Write, chunks: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    for chunk in chunks {
        sink.write_all(&chunk)?;
    }
    sink.flush()
}
