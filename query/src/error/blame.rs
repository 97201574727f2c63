//! Whose a failure is: that of a sink, of a model's query, or nobody's who wrote one.

use std::error::Error as StdError;
use std::iter::successors;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

use super::Error;
use crate::models::Model;

impl Error {
    /// Whether it is a sink's alone: the lake and its tables are what they shall be.
    pub fn is_of_a_sink(&self) -> bool {
        matches!(
            self,
            Self::Postgres { .. }
                | Self::PostgresRow { .. }
                | Self::PostgresRole { .. }
                | Self::Policy { .. }
                | Self::TableTaken { .. }
                | Self::DatabaseTaken { .. }
                | Self::Delta { .. }
                | Self::DeltaTaken { .. }
                | Self::NotAsRecorded { .. }
                | Self::LongKey { .. }
                | Self::UnsupportedColumn { .. }
                | Self::Column { .. }
                | Self::DuckDb { .. }
                | Self::Held { .. }
                | Self::NotADatabase { .. }
                | Self::NotPublished { .. }
                | Self::FileTaken { .. }
        )
    }

    /// The same where a query fails by what it says or by a value that it meets: with the model whose it is.
    pub(crate) fn of_model(self, model: &Model) -> Self {
        let message = match &self {
            Self::Execution(error) => {
                let of_statement = || is_of_the_statement(error.find_root()).then(|| said(error));
                fault_of_a_query(error).or_else(of_statement)
            }
            _ => None,
        };
        let Some(message) = message else { return self };
        let is_a_cast = message.contains("Cast error") || message.contains("Cannot cast");
        let hint = is_a_cast.then(|| "TRY_CAST gives NULL for what does not fit".to_owned());
        Self::Model { path: model.path.clone(), line: 1, message, hint }
    }

    /// The same for who reads tables, and is not told of the files that they come from.
    pub(crate) fn for_readers(self) -> Self {
        match self {
            Self::Model { message, .. } => Self::Sql { message },
            other => other,
        }
    }
}

/// Whether Arrow says it of values, or of what is asked of them, and not of files or memory.
pub fn is_of_a_query(error: &ArrowError) -> bool {
    matches!(
        error,
        ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::ParseError(_)
            | ArrowError::InvalidArgumentError(_)
    )
}

/// What Arrow says of a query's values, wherever among the causes it says it: a filter that a Parquet reader was handed
/// fails in the reader.
pub fn fault_of_a_query(error: &DataFusionError) -> Option<String> {
    let mut in_a_file = false;
    causes(error).find_map(|cause| {
        in_a_file |= cause.is::<ParquetError>();
        let said = cause.downcast_ref::<ArrowError>().filter(|error| is_of_a_query(error))?.to_string();
        // What else a reader says of a file's values is that the file is damaged.
        of_a_filter(&said).or_else(|| Some(said).filter(|_| !in_a_file))
    })
}

/// Whether DataFusion says it of the statement.
fn is_of_the_statement(root: &DataFusionError) -> bool {
    matches!(
        root,
        DataFusionError::NotImplemented(_)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Execution(_)
    )
}

/// What DataFusion says, and where a function says it, that alone.
fn said(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::Execution(said) => said.clone(),
        _ => error.strip_backtrace(),
    }
}

/// A failure while a statement runs, as people are told of it.
pub(super) fn in_short(error: &DataFusionError) -> String {
    fault_of_a_query(error).unwrap_or_else(|| said(error))
}

/// Whether it is of a store or a disk that may answer the next time, and not of an object that is not there.
pub(super) fn is_of_a_store(error: &(dyn StdError + 'static)) -> bool {
    let of_store = causes(error).find_map(|cause| match cause.downcast_ref::<object_store::Error>() {
        Some(error) => Some(!is_for_good(error)),
        None => cause.downcast_ref::<std::io::Error>().map(|error| {
            use std::io::ErrorKind::{InvalidData, NotFound, PermissionDenied, UnexpectedEof};
            !matches!(error.kind(), InvalidData | NotFound | PermissionDenied | UnexpectedEof)
        }),
    });
    of_store.unwrap_or(false)
}

/// Whether a store will say the same the next time.
fn is_for_good(error: &object_store::Error) -> bool {
    use object_store::Error::{InvalidPath, NotFound, NotSupported, PermissionDenied, Unauthenticated};
    matches!(
        error,
        NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. } | InvalidPath { .. } | NotSupported { .. }
    )
}

/// An error, and what each has for its cause.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    successors(Some(error), |error| (*error).source())
}

/// What a filter failed by. DataFusion shows it as it is written in Rust:
/// `Error evaluating filter predicate: ArrowError(CastError("Cannot cast …"), Some(""))`.
fn of_a_filter(said: &str) -> Option<String> {
    let (_, shown) = said.split_once("Error evaluating filter predicate: ")?;
    if shown.starts_with("ArrowError(DivideByZero") {
        return Some(ArrowError::DivideByZero.to_string());
    }
    let (_, quoted) = shown.split_once("(\"")?;
    let (mut plain, mut letters) = (String::new(), quoted.chars());
    while let Some(letter) = letters.next().filter(|letter| *letter != '"') {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    Some(plain).filter(|plain| !plain.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it comes out of a Parquet reader.
    fn in_a_filter(error: ArrowError) -> DataFusionError {
        let shown = DataFusionError::ArrowError(Box::new(error), Some(String::new()));
        let said = ArrowError::ComputeError(format!("Error evaluating filter predicate: {shown:?}"));
        DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(said)))).context("reading")
    }

    #[test]
    fn a_value_is_the_querys_fault_wherever_it_is_met() {
        let overflow = || ArrowError::ArithmeticOverflow("5 - \"x\" is too small".to_owned());
        let direct = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(fault_of_a_query(&direct).as_deref(), Some("Divide by zero error"));
        assert_eq!(fault_of_a_query(&in_a_filter(overflow())).as_deref(), Some("5 - \"x\" is too small"));
        assert_eq!(fault_of_a_query(&in_a_filter(ArrowError::DivideByZero)).as_deref(), Some("Divide by zero error"));
        let nested = ArrowError::ExternalError(Box::new(DataFusionError::External(Box::new(overflow()))));
        let nested = DataFusionError::ArrowError(Box::new(nested), None);
        assert_eq!(fault_of_a_query(&nested), Some(overflow().to_string()));
        assert_eq!(Error::Execution(in_a_filter(overflow())).to_string(), "5 - \"x\" is too small");
    }

    #[test]
    fn what_a_store_says_is_nobodys_fault_and_may_pass() {
        let store = |source: object_store::Error| {
            let of_reader = ParquetError::External(Box::new(source));
            DataFusionError::ParquetError(Box::new(of_reader)).context("reading")
        };
        let away = store(object_store::Error::Generic { store: "s3", source: "connection refused".into() });
        assert_eq!(fault_of_a_query(&away), None);
        assert!(is_of_a_store(&away) && Error::Execution(away).may_pass());
        let source = Box::new(std::io::Error::other("no such file"));
        let gone = store(object_store::Error::NotFound { path: "run".to_owned(), source });
        assert!(!is_of_a_store(&gone));
        assert!(!is_of_a_store(&in_a_filter(ArrowError::DivideByZero)));
    }
}
