//! The binary `bootstrap`: an AWS Lambda function that appends whatever events it is invoked with to a lake.
//!
//! Its settings are a lakebed.toml beside it, where there is one, and the environment: `LAKEBED_LAKE_URL`,
//! `LAKEBED_PROJECT_NAME`, and every other `LAKEBED_SECTION_KEY`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::Utc;
use lakebed_ingest::lambda::Function;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    let level = level(std::env::var("LAKEBED_LOG").ok().as_deref());
    // CloudWatch has the time of every line.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_max_level(level.as_ref().map_or(LevelFilter::INFO, |level| *level))
        .init();
    if let Err(wrong) = level {
        tracing::warn!("{wrong}");
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, hint)) => {
            // Nobody is left to be told that stderr is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            let _ = hint.map(|hint| writeln!(std::io::stderr(), "hint: {hint}"));
            ExitCode::FAILURE
        }
    }
}

/// How much is said; or what is wrong with what is set, and then it is as if nothing were.
fn level(set: Option<&str>) -> Result<LevelFilter, String> {
    let Some(set) = set else { return Ok(LevelFilter::INFO) };
    set.parse().map_err(|_| format!("LAKEBED_LOG is '{set}', and none of error, warn, info and debug: it is info then"))
}

fn run() -> Result<(), (String, Option<String>)> {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none() {
        let hint = "upload it as the function's `bootstrap`; on a machine of your own, `lakebed ingest` and `lakebed serve` \
                    take events in";
        return Err((
            "this runs as an AWS Lambda function, and there is no Lambda here".to_owned(),
            Some(hint.to_owned()),
        ));
    }
    let directory = std::env::var_os("LAMBDA_TASK_ROOT").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let function = Function::new(directory, &|name| std::env::var(name).ok(), Utc::now)
        .map_err(|error| (error.to_string(), error.hint()))?;
    // One thread answers, as many as are needed encode and decompress: a function has less than one processor as a rule.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| (format!("cannot start: {error}"), None))?;
    runtime.block_on(function.run()).map_err(|error| (error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_told() {
        assert_eq!(level(None), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("debug")), Ok(LevelFilter::DEBUG));
        assert!(level(Some("loud")).unwrap_err().contains("'loud'"));
    }
}
