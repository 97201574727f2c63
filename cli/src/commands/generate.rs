//! `lakebed generate`: mock events as NDJSON.

use std::fs::File;
use std::io::Write;
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
    let to_stdout = arguments.to == Path::new("-");
    let failed = |source| match to_stdout {
        true => Error::Stdout(source),
        false => Error::File { path: arguments.to.clone(), source },
    };
    let mut sink: Box<dyn Write> =
        if to_stdout { Box::new(output::stdout()) } else { Box::new(File::create(&arguments.to).map_err(failed)?) };
    for chunk in feed.chunks(arguments.first, arguments.events) {
        sink.write_all(&chunk).map_err(failed)?;
    }
    sink.flush().map_err(failed)
}
