//! Events on the command line: made, appended, and looked at.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct GenerateArguments {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) events: u64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// The place in the feed to begin at
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,
    /// Share of events, 0 to 1, that come an hour to a week late
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) late: f64,
    /// Share of lines, 0 to 1, that repeat an earlier one
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) duplicates: f64,
    /// Share of lines, 0 to 1, that no event can be read from
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) malformed: f64,
    /// New fields, other JSON types and deeper nesting as the feed goes on
    #[arg(long)]
    pub(crate) drift: bool,
    /// So many events a second
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// A file, - for stdout, a server's URL such as http://127.0.0.1:8080 (its token in LAKEBED_TOKEN), lambda:NAME, or kinesis:NAME
    #[arg(long, value_name = "-|FILE|URL|lambda:NAME|kinesis:NAME", default_value = "-")]
    pub(crate) to: String,
}

#[derive(Args, Debug)]
pub(crate) struct IngestArguments {
    /// Files of events; - or none at all is stdin
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Names the batch, so that sending it again changes nothing; further batches of the input get ID#2, ID#3, …
    #[arg(long, value_name = "ID", value_parser = batch_id)]
    pub(crate) batch_id: Option<String>,
    /// When a batch counts as taken: once it cannot be lost any more, or once it can be read
    #[arg(long)]
    pub(crate) ack: Option<AckArgument>,
    /// Fail if an event went to quarantine; the others are in the log all the same
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CaptureArguments {
    /// Which [capture.NAME]; it may be left out where there is one
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// End once what was changed until now is in the log
    #[arg(long)]
    pub(crate) once: bool,
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AckArgument {
    /// It cannot be lost any more
    Durable,
    /// It can be read
    Committed,
}

impl From<AckArgument> for lakebed_log::Ack {
    fn from(ack: AckArgument) -> Self {
        match ack {
            AckArgument::Durable => Self::Durable,
            AckArgument::Committed => Self::Committed,
        }
    }
}

/// What a batch can be called, by whichever way it comes.
fn batch_id(text: &str) -> Result<String, String> {
    let named = lakebed_ingest::check_name("it", text).map(|()| text.to_owned());
    named.map_err(|error| format!("{error}: {}", error.hint().unwrap_or_default()))
}

/// Events a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| format!("'{text}' is no number of events a second, from 0.001 up"))
}

/// What to do with the log's columns.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// List them, with their types, their paths in the events, and what lakebed.toml pins
    Show,
    /// What lakebed.toml pins otherwise than the log has it; or with a file, what its events would bring
    Diff(SchemaDiffArguments),
    /// Write the pins of a sample of events, to be put into lakebed.toml
    Infer(SchemaInferArguments),
}

#[derive(Args, Debug)]
pub(crate) struct SchemaDiffArguments {
    /// A file of events; - is stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Look at so many events at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) events: u64,
}

#[derive(Args, Debug)]
pub(crate) struct SchemaInferArguments {
    /// A file of events; - is stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Look at so many events at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) events: u64,
}

/// What to do with events that could not be read.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List the batches that have some, with how many and the first reason
    List,
    /// Show the events of a batch: where they were in it, why they were refused, and their text
    Show(QuarantineShowArguments),
    /// Read them again, as lakebed.toml is now, and append those that can be read
    Retry(QuarantineRetryArguments),
}

#[derive(Args, Debug)]
pub(crate) struct QuarantineShowArguments {
    /// A batch, as `list` names it
    #[arg(value_name = "BATCH")]
    pub(crate) batch: String,
}

#[derive(Args, Debug)]
pub(crate) struct QuarantineRetryArguments {
    /// Batches, as `list` names them; all of them if none is named
    #[arg(value_name = "BATCH")]
    pub(crate) batches: Vec<String>,
}
