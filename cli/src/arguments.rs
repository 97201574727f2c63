//! The command line as it is written; clap turns its comments into the help.

mod access;
mod events;
mod log;
#[cfg(test)]
mod page;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lakebed_query::{AsOf, ColumnValue};

pub(crate) use self::access::{
    PolicyCommand, PolicyTestArguments, TokenAddArguments, TokenCommand, UserCommand, UserTokenArguments,
};
pub(crate) use self::events::{
    CaptureArguments, GenerateArguments, IngestArguments, QuarantineCommand, SchemaCommand, SchemaDiffArguments,
    SchemaInferArguments,
};
pub(crate) use self::log::{LogCommand, LogShowArguments, LogVacuumArguments};

/// An event-sourced lakehouse: events go into one append-only log, SQL turns it into tables, and those are kept up to
/// date and served.
#[derive(Debug, Parser)]
#[command(name = "lakebed", version, infer_subcommands = false, arg_required_else_help = true, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The project's directory
    #[arg(long, global = true, value_name = "DIR", default_value = ".", env = "LAKEBED_PROJECT")]
    pub(crate) project: PathBuf,
    /// The lake: a directory, or s3://bucket/prefix; by default what lakebed.toml says, else ./lake in the project
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) lake: Option<String>,
    /// One of the targets of lakebed.toml: [target.NAME] overlays its settings
    #[arg(long, global = true, value_name = "NAME", env = "LAKEBED_TARGET")]
    pub(crate) target: Option<String>,
    /// How rows are written to stdout
    #[arg(short, long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Say more of what is done; twice, all of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// No colour, on a terminal either; the environment variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// To be read by people
    Table,
    /// One array of objects
    Json,
    /// With a line of names
    Csv,
    /// A Parquet file
    Parquet,
    /// An Arrow IPC stream
    Arrow,
}

impl Format {
    /// The format as others write it, too; a table is the command line's own.
    pub(crate) fn of_rows(self) -> Option<lakebed_query::Format> {
        match self {
            Self::Table => None,
            Self::Json => Some(lakebed_query::Format::Json),
            Self::Csv => Some(lakebed_query::Format::Csv),
            Self::Parquet => Some(lakebed_query::Format::Parquet),
            Self::Arrow => Some(lakebed_query::Format::Arrow),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Generate events, ingest them, build the tables, and show what came out and how to connect
    Demo(DemoArguments),
    /// Make a new project: lakebed.toml with pinned types, and the models under sql/
    Init(InitArguments),
    /// Write mock events as NDJSON, the same bytes for the same seed
    Generate(GenerateArguments),
    /// Append events to the log: NDJSON or JSON arrays, plain, gzip or zstd; and rows of Parquet and CSV
    Ingest(IngestArguments),
    /// Append what changes in a PostgreSQL database, as [capture.NAME] in lakebed.toml says, until it is told to end
    Capture(CaptureArguments),
    /// Bring the models, and what they are published to, up to the log's newest version
    Run(RunArguments),
    /// Say what a run would do now: which models, why, and how much data
    Plan,
    /// Compute models again from the log's first version, in place or beside what is there
    Replay(ReplayArguments),
    /// Say how models are kept up to date, and what stands in the way of something cheaper
    Explain(ExplainArguments),
    /// Say where the columns of models come from
    Lineage(LineageArguments),
    /// Show the rows of a model that came, went or changed between two versions
    Diff(DiffArguments),
    /// Answer one SELECT
    Query(QueryArguments),
    /// Say which events the rows of a table come from
    Why(WhyArguments),
    /// Compare what is stored and published with a replay of the log from its beginning
    Verify(VerifyArguments),
    /// Try the unit tests of the models, and ask their checks of the tables as they are
    Test(TestArguments),
    /// Look at the log
    #[command(subcommand)]
    Log(LogCommand),
    /// Look at the columns of the log, and find types for them
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Look at the events that could not be read, and try them again
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Manage the tokens with which events may be sent over the network
    #[command(subcommand)]
    Token(TokenCommand),
    /// Manage who may ask the server: once there is a user, nobody else may
    #[command(subcommand)]
    User(UserCommand),
    /// Look at what the files under sql/policies let people read
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Try each setting and connection, and say what to do where one does not work
    Doctor,
    /// Answer Flight SQL; take events in over HTTP, and tell health and metrics there
    Serve(ServeArguments),
}

#[derive(Args, Debug)]
pub(crate) struct DemoArguments {
    /// How many events a whole demo appends
    #[arg(long, hide = true, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) events: u64,
    /// Which events
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// The project's directory, made if it is not there
    pub(crate) directory: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// Models that must be among those that are refreshed, such as gold.revenue; all models move together
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Go on as events come in
    #[arg(long)]
    pub(crate) watch: bool,
    /// Stop at this version of the log instead of the newest
    #[arg(long, value_name = "VERSION", conflicts_with = "watch")]
    pub(crate) to: Option<u64>,
    /// Compute the models from the log's first version again, as `lakebed replay` does
    #[arg(long, conflicts_with_all = ["watch", "to"])]
    pub(crate) full_refresh: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArguments {
    /// Models such as gold.revenue, and with them what they read; all of them if none is named
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// To this version of the log
    #[arg(long, value_name = "VERSION", conflicts_with = "as_of")]
    pub(crate) to: Option<u64>,
    /// To the version of this time, such as 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<AsOf>,
    /// Beside the tables, published under this name; without it the tables that differ are put right
    #[arg(long, value_name = "NAME")]
    pub(crate) into: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// Models such as gold.revenue; all of them if none is named
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct LineageArguments {
    /// Models such as gold.revenue, or columns of them such as gold.revenue.day; all models if none is named
    #[arg(value_name = "MODEL[.COLUMN]")]
    pub(crate) names: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct DiffArguments {
    /// A model such as gold.revenue
    pub(crate) model: String,
    /// The earlier version, or a time such as 2026-11-01T12:00:00Z; without it, that of the refresh before the one in which
    /// the model last changed
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) from: Option<AsOf>,
    /// The later version, or a time; without it, the newest that was refreshed
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) to: Option<AsOf>,
}

#[derive(Args, Debug)]
pub(crate) struct QueryArguments {
    /// One SELECT over bronze, silver and gold
    pub(crate) sql: String,
    /// The lake as it was: a version, or a time such as 2026-11-01T12:00:00Z
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) as_of: Option<AsOf>,
    /// What this user or role would be answered, by the files under sql/policies
    #[arg(long = "as", value_name = "ROLE")]
    pub(crate) reader: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct WhyArguments {
    /// A model such as gold.revenue
    pub(crate) model: String,
    /// What its rows have in these columns: country=DE, or country=NULL; in single quotes, 'NULL' is a text
    #[arg(value_name = "COLUMN=VALUE", required = true)]
    pub(crate) values: Vec<ColumnValue>,
    /// The table as it was: a version, or a time such as 2026-11-01T12:00:00Z
    #[arg(long, value_name = "VERSION|TIME")]
    pub(crate) as_of: Option<AsOf>,
    /// So many events at most, the first in the log; by default 20 in a table, and all where another format is asked for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct VerifyArguments {
    /// Models such as gold.revenue; all of them if none is named
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TestArguments {
    /// Models such as gold.revenue; all of them if none is named
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// Try the unit tests alone, which need no lake
    #[arg(long)]
    pub(crate) unit: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Where Flight SQL is answered; port 0 is any free one
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) flight: Option<Listen>,
    /// Where events are taken in, and health and metrics answered; port 0 is any free one
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) http: Option<Listen>,
    /// Refresh the models as events come in
    #[arg(long)]
    pub(crate) watch: bool,
}

/// Where to listen; nowhere where it is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = |_| format!("'{text}' is neither an address such as 127.0.0.1:8080 nor off");
        text.parse().map(|address| Self(Some(address))).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_every_command_takes_can_stand_before_or_after_it() {
        for line in ["lakebed -o json --project p log show", "lakebed log show -o json --project p"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(arguments.global.output, Some(Format::Json));
            assert_eq!(arguments.global.project, PathBuf::from("p"));
        }
    }

    #[test]
    fn an_address_may_be_off_as_in_the_settings() {
        let serve = |http: &str| match Arguments::try_parse_from(["lakebed", "serve", "--http", http]) {
            Ok(Arguments { command: Command::Serve(arguments), .. }) => Ok(arguments.http),
            other => Err(other.map(drop)),
        };
        assert_eq!(serve("off").unwrap(), Some(Listen(None)));
        assert_eq!(serve("127.0.0.1:0").unwrap(), Some(Listen(Some("127.0.0.1:0".parse().unwrap()))));
        let refused = serve("of").unwrap_err().unwrap_err();
        assert!(refused.to_string().contains("neither an address such as 127.0.0.1:8080 nor off"), "{refused}");
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest() {
        let refused = Arguments::try_parse_from(["lakebed", "ingset"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("'ingest'"), "{refused}");
    }
}
