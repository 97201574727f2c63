//! Whose a failure is: that of a model's query, or nobody's who wrote one.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

use super::Error;
use crate::models::Model;

impl Error {
    /// The same where a query fails by what it says or by a value that it meets: with the model whose it is.
    pub(crate) fn of_model(self, model: &Model) -> Self {
        let (root, message) = match &self {
            Self::Execution(error) => (error.find_root(), error.strip_backtrace()),
            _ => return self,
        };
        let is_the_querys = match root {
            DataFusionError::ArrowError(error, _) => is_of_a_query(error),
            DataFusionError::NotImplemented(_)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Execution(_) => true,
            _ => false,
        };
        if !is_the_querys {
            return self;
        }
        let hint = message.contains("Cast error").then(|| "TRY_CAST gives NULL for what does not fit".to_owned());
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
