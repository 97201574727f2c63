//! Session options. Their messages are not wrapped in `Any`, unlike those of Flight SQL, and arrow-flight does not
//! define them, so they are here, from <https://github.com/apache/arrow/blob/main/format/Flight.proto>.
//!
//! The server keeps no state for a session yet: catalog and schema can be set to what they are, anything else
//! is refused by name.

use std::collections::HashMap;

use lakebed_query::catalog::DEFAULT_SCHEMA;
use prost::{Message, Oneof};
use tonic::Status;

use crate::metadata::CATALOG;
use crate::status;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(crate) value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum OptionValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(sfixed64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Real(f64),
    #[prost(message, tag = "5")]
    Texts(Texts),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

/// `SetSessionOptionsRequest` and `GetSessionOptionsResult` have the same shape.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionOptions {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OptionError {
    #[prost(enumeration = "OptionErrorValue", tag = "1")]
    pub(crate) value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum OptionErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    /// The name and the value are right, and still it could not be set.
    Error = 3,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `CloseSessionResult.Status.CLOSED`.
const CLOSED: i32 = 1;

/// Sets what can be set and says what cannot.
///
/// # Errors
/// INVALID_ARGUMENT for a body that is not a `SetSessionOptionsRequest`.
pub(crate) fn set(body: &[u8]) -> Result<Vec<u8>, Status> {
    let asked = SessionOptions::decode(body).map_err(|_| status::of_body("SetSessionOptionsRequest"))?;
    let mut errors = HashMap::new();
    for (name, option) in asked.session_options {
        if let Some(error) = refusal(&name, option.value.as_ref()) {
            errors.insert(name, OptionError { value: error as i32 });
        }
    }
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

/// The options as they are; ADBC reads the current catalog and schema from here.
pub(crate) fn get() -> Vec<u8> {
    let text = |text: &str| SessionOptionValue { value: Some(OptionValue::Text(text.to_owned())) };
    let session_options = [("catalog".to_owned(), text(CATALOG)), ("schema".to_owned(), text(DEFAULT_SCHEMA))].into();
    SessionOptions { session_options }.encode_to_vec()
}

/// There is nothing to close, and that is done.
pub(crate) fn close() -> Vec<u8> {
    CloseSessionResult { status: CLOSED }.encode_to_vec()
}

fn refusal(name: &str, value: Option<&OptionValue>) -> Option<OptionErrorValue> {
    match (name, value) {
        ("catalog", Some(OptionValue::Text(catalog))) if catalog == CATALOG => None,
        ("catalog", _) => Some(OptionErrorValue::InvalidValue),
        ("schema", Some(OptionValue::Text(schema))) if schema.is_empty() || schema == DEFAULT_SCHEMA => None,
        ("schema", _) => Some(OptionErrorValue::Error),
        _ => Some(OptionErrorValue::InvalidName),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_catalog_can_be_set_and_the_rest_is_refused_by_name() {
        let text = |text: &str| SessionOptionValue { value: Some(OptionValue::Text(text.to_owned())) };
        let asked = SessionOptions {
            session_options: [
                ("catalog".to_owned(), text("lakebed")),
                ("schema".to_owned(), text("silver")),
                ("colour".to_owned(), SessionOptionValue { value: None }),
            ]
            .into(),
        };
        let answer = SetSessionOptionsResult::decode(&*set(&asked.encode_to_vec()).unwrap()).unwrap();
        assert_eq!(answer.errors.len(), 2);
        assert_eq!(answer.errors["schema"].value(), OptionErrorValue::Error);
        assert_eq!(answer.errors["colour"].value(), OptionErrorValue::InvalidName);
        assert!(set(&[0xff]).is_err());
    }

    #[test]
    fn catalog_and_schema_are_always_answered() {
        let options = SessionOptions::decode(&*get()).unwrap().session_options;
        assert_eq!(options["catalog"].value, Some(OptionValue::Text("lakebed".to_owned())));
        assert_eq!(options["schema"].value, Some(OptionValue::Text("gold".to_owned())));
    }
}
