//! What can be wrong with a project's settings, and where.

use std::io::ErrorKind;
use std::path::PathBuf;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this room. `Display` is one sentence, [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory without a lakebed.toml.
    #[error("'{directory}' is not a lakebed project: it has no lakebed.toml")]
    NoProject {
        /// The directory.
        directory: PathBuf,
    },
    /// A place in lakebed.toml that cannot be taken as it is.
    #[error("{file}:{line}:{column}: {message}")]
    Config {
        /// The lakebed.toml.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// One sentence.
        message: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A target that lakebed.toml does not have.
    #[error("{file}: there is no target '{target}'")]
    NoTarget {
        /// The lakebed.toml.
        file: PathBuf,
        /// As it was named.
        target: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// The value of an environment variable that cannot be taken as it is.
    #[error("the environment variable {name}: {message}")]
    Environment {
        /// The variable.
        name: String,
        /// One sentence.
        message: String,
    },
    /// A lakebed.toml that could not be read.
    #[error("'{path}': {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A name that no token can have.
    #[error("no token can be called '{name}'")]
    TokenName {
        /// The name.
        name: String,
    },
    /// A token of that name is there.
    #[error("there is a token '{name}' already")]
    TokenExists {
        /// Its name.
        name: String,
    },
    /// There is no token of that name.
    #[error("there is no token '{name}'")]
    NoToken {
        /// As it was written.
        name: String,
    },
    /// The file of the users cannot be read or written.
    #[error("'{}': {message}", file.display())]
    Users {
        /// The file.
        file: PathBuf,
        /// One sentence.
        message: String,
    },
    /// A name that no user can have.
    #[error("no user can be called '{name}'")]
    UserName {
        /// The name.
        name: String,
    },
    /// A password that is soon guessed.
    #[error("a password has {shortest} characters or more")]
    ShortPassword {
        /// How many.
        shortest: usize,
    },
    /// A password that looks like a token.
    #[error("a password does not begin with 'lakebed_', as tokens do")]
    TokenForPassword,
    /// There is no user of that name.
    #[error("there is no user '{name}'")]
    NoUser {
        /// As it was written.
        name: String,
    },
    /// A lake that cannot be where it is said to be.
    #[error(transparent)]
    Log(#[from] lakebed_log::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProject { directory } => Some(format!(
                "make one with `lakebed init {}`, or name another directory with --project",
                directory.display()
            )),
            Self::Config { hint, .. } => {
                let compare = || "`lakebed init DIR` writes a lakebed.toml to compare with".to_owned();
                Some(hint.clone().unwrap_or_else(compare))
            }
            Self::NoTarget { known, target, .. } => Some(match known.is_empty() {
                true => format!("write [target.{target}.lake] with its url, and what else is different there"),
                false => format!("there are {}", known.join(", ")),
            }),
            Self::Environment { name, .. } => Some(format!("set {name} to what fits, or unset it")),
            Self::File { source, .. } => Some(hint_for_file(source)),
            Self::TokenName { .. } => {
                Some("give a name without a slash, and none of http, kinesis, s3 and sqs".to_owned())
            }
            Self::TokenExists { .. } => Some("take another name, or remove that token first".to_owned()),
            Self::NoToken { .. } => {
                Some("`lakebed token list` and `lakebed user list` show those that are there".to_owned())
            }
            Self::Users { .. } => {
                Some("`lakebed user` writes this file; put it right by hand, or delete it".to_owned())
            }
            Self::UserName { .. } => Some("give a name without a colon".to_owned()),
            Self::ShortPassword { .. } | Self::TokenForPassword => {
                Some("take a sentence, or `openssl rand -hex 16`".to_owned())
            }
            Self::NoUser { .. } => Some("`lakebed user list` shows those that are there".to_owned()),
            Self::Log(error) => error.hint(),
        }
    }
}

/// What to do about a file that could not be read or written.
pub fn hint_for_file(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; what was there before is as it was",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "grant this user access to it",
        _ => "check the path",
    }
    .to_owned()
}
