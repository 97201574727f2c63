//! From what went wrong to what a client is told: a gRPC code, one sentence, and the hint on a line of its own.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use lakebed_query::Error;
use lakebed_query::error::{fault_of_a_query, is_of_a_query};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Characters of a message; DataFusion sometimes writes a whole plan into one.
const LONGEST: usize = 1_000;

/// The status of a statement that could not be planned or run.
pub(crate) fn of_query(error: &Error) -> Status {
    let (code, sentence) = match error {
        Error::Policy { .. } => return of_policies(error),
        Error::Sql { .. }
        | Error::Unanswered { .. }
        | Error::UnknownColumn { .. }
        | Error::Parameters { .. }
        | Error::Parameter { .. } => (Code::InvalidArgument, error.to_string()),
        Error::Log(lakebed_log::Error::NoVersion { .. } | lakebed_log::Error::BeforeTheLog { .. }) => {
            (Code::NotFound, error.to_string())
        }
        Error::Model { .. } => (Code::FailedPrecondition, error.to_string()),
        Error::UnknownTable { .. } => (Code::NotFound, error.to_string()),
        Error::ReadOnly => (Code::PermissionDenied, error.to_string()),
        Error::Execution(source) => of_datafusion(source),
        _ => (Code::Internal, error.to_string()),
    };
    match error.hint() {
        Some(hint) => Status::new(code, format!("{}{HINT}{hint}", one_line(&sentence))),
        None => Status::new(code, one_line(&sentence)),
    }
}

/// The status of a result stream that broke off.
pub(crate) fn of_execution(error: &DataFusionError) -> Status {
    let (code, sentence) = of_datafusion(error);
    Status::new(code, one_line(&sentence))
}

/// The status of a batch that could not be cast or encoded for the wire.
pub(crate) fn of_arrow(error: &ArrowError) -> Status {
    Status::new(arrow_code(error), one_line(&error.to_string()))
}

/// When whoever is refused for a while may come again, in the header that gRPC clients read for it.
pub(crate) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The status of what may be asked again in a second.
pub(crate) fn come_again(sentence: &str) -> Status {
    let mut status = Status::resource_exhausted(format!("{sentence}{HINT}come again in a second"));
    status.metadata_mut().insert(PUSHBACK, MetadataValue::from_static("1000"));
    status
}

/// The status of whatever is asked while policies are wrong. What is wrong with them is for who wrote them.
pub(crate) fn of_policies(error: &Error) -> Status {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    tracing::error!("policies cannot be applied, and whom they are about reads nothing: {error}{hint}");
    Status::unavailable("the policies of this server cannot be applied now")
}

/// The status of a request body that is not what its call asks for.
pub(crate) fn of_body(what: &str) -> Status {
    Status::invalid_argument(format!("the request is not a readable {what}"))
}

fn of_datafusion(error: &DataFusionError) -> (Code, String) {
    if let Some(fault) = fault_of_a_query(error) {
        return (Code::InvalidArgument, fault);
    }
    let root = error.find_root();
    match root {
        // The parser's own Display; DataFusion's would show its Debug form.
        DataFusionError::SQL(parser, _) => (Code::InvalidArgument, parser.to_string()),
        DataFusionError::SchemaError(schema, _) => (Code::InvalidArgument, schema.to_string()),
        DataFusionError::ArrowError(arrow, _) => (arrow_code(arrow), arrow.to_string()),
        DataFusionError::Plan(_) | DataFusionError::Configuration(_) | DataFusionError::Execution(_) => {
            (Code::InvalidArgument, root.message().into_owned())
        }
        DataFusionError::NotImplemented(_) => (Code::Unimplemented, root.message().into_owned()),
        // DataFusion's words name its operators and their shares.
        DataFusionError::ResourcesExhausted(_) => {
            let sentence = "the statement needs more memory than one may hold, or than all have left";
            (Code::ResourceExhausted, format!("{sentence}{HINT}ask for fewer rows, groups or columns at once"))
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) | DataFusionError::ParquetError(_) => {
            (Code::Unavailable, format!("the lake could not be read: {}", root.message()))
        }
        DataFusionError::Internal(reason) => (Code::Internal, reason.clone()),
        _ => (Code::Internal, root.message().into_owned()),
    }
}

/// A value that cannot be computed is the statement's fault, all else is ours.
fn arrow_code(error: &ArrowError) -> Code {
    match error {
        error if is_of_a_query(error) => Code::InvalidArgument,
        ArrowError::MemoryError(_) => Code::ResourceExhausted,
        _ => Code::Internal,
    }
}

/// Without backtraces and line breaks, so that a log line and a dialog box show the whole of it, and short enough
/// for an HTTP/2 header: a client that gets a longer one reports a broken connection instead. A hint stays on a line of its own.
fn one_line(text: &str) -> String {
    let sentence = text.split("\n\nbacktrace:").next().unwrap_or(text);
    let (sentence, hint) = match sentence.split_once(HINT) {
        Some((sentence, hint)) => (sentence, Some(hint)),
        None => (sentence, None),
    };
    let sentence = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = match sentence.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &sentence[..end]),
        None => sentence,
    };
    match hint {
        Some(hint) => format!("{sentence}{HINT}{hint}"),
        None => sentence,
    }
}

/// What to do begins with it.
const HINT: &str = "\nhint: ";

#[cfg(test)]
mod tests {
    use datafusion::parquet::errors::ParquetError;

    use super::*;

    #[test]
    fn each_fault_has_its_code_and_its_hint() {
        let unknown = Error::UnknownTable { name: "orderz".into(), nearest: Some("silver.orders".into()) };
        let status = of_query(&unknown);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.message(), "there is no table 'orderz'\nhint: did you mean 'silver.orders'?");
        let column = Error::UnknownColumn { name: "x".into(), nearest: None };
        assert_eq!(of_query(&column).code(), Code::InvalidArgument);
        assert_eq!(of_query(&Error::ReadOnly).code(), Code::PermissionDenied);
        let memory = DataFusionError::ResourcesExhausted("no memory".into()).context("while sorting");
        assert_eq!(of_query(&Error::Execution(memory)).code(), Code::ResourceExhausted);
        let division = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(of_execution(&division).code(), Code::InvalidArgument);
        // As a filter that a Parquet reader was handed fails.
        let said = r#"Error evaluating filter predicate: ArrowError(ComputeError("abs has no such value"), None)"#;
        let value = ArrowError::ComputeError(said.into());
        let in_reader =
            DataFusionError::ParquetError(Box::new(ParquetError::External(Box::new(value)))).context("reading");
        let status = of_execution(&in_reader);
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "abs has no such value"));
        let gone = DataFusionError::IoError(std::io::Error::other("a file is gone"));
        assert_eq!(of_execution(&gone).code(), Code::Unavailable);
    }

    #[test]
    fn a_message_is_one_line_without_debug_text() {
        let plan = DataFusionError::Plan("first\n  second\n\nbacktrace: 0: std::rt".into());
        let status = of_execution(&DataFusionError::Context("planning".into(), Box::new(plan)));
        assert_eq!(status.message(), "first second");
        let long = of_execution(&DataFusionError::Plan("ä".repeat(100_000)));
        assert_eq!(long.message().chars().count(), LONGEST + 1);
    }
}
