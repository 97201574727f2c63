//! What a request says of how it wants its answer, beside the statement: as of which version, in which types, in which schema
//! names without one are. A header says it of one call; a session option of all that follow; tickets carry it.

use lakebed_query::AsOf;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::wire::Wire;

/// The header, and without its prefix the session option, that asks for a version.
pub(crate) const AS_OF: &str = "lakebed-as-of";
/// The same for the types on the wire.
pub(crate) const TYPES: &str = "lakebed-types";

/// How an answer is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// By default the newest refreshed version.
    pub(crate) as_of: Option<AsOf>,
    pub(crate) wire: Wire,
    /// Where names without a schema are; by default `gold`.
    pub(crate) schema: Option<String>,
}

/// The same on its way.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CarriedTerms {
    #[prost(string, tag = "1")]
    as_of: String,
    #[prost(string, tag = "2")]
    types: String,
    #[prost(string, tag = "3")]
    schema: String,
}

impl Terms {
    /// What the headers of a call say, and where they say nothing, `session`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a header whose value is none of its kind.
    pub(crate) fn of_call(headers: &MetadataMap, session: Self) -> Result<Self, Status> {
        let mut terms = session;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(text) = header(AS_OF) {
            terms.as_of = as_of(text).map_err(Status::invalid_argument)?;
        }
        if let Some(text) = header(TYPES) {
            terms.wire = text.parse().map_err(|wrong: String| Status::invalid_argument(wrong))?;
        }
        Ok(terms)
    }

    pub(crate) fn carried(&self) -> CarriedTerms {
        CarriedTerms {
            as_of: self.as_of.as_ref().map(AsOf::to_string).unwrap_or_default(),
            types: self.wire.name().to_owned(),
            schema: self.schema.clone().unwrap_or_default(),
        }
    }

    /// Reads what [`Self::carried`] made, or another release did: what it does not know is as by default.
    pub(crate) fn of_carried(carried: Option<CarriedTerms>) -> Self {
        let CarriedTerms { as_of, types, schema } = carried.unwrap_or_default();
        Self {
            as_of: as_of.parse().ok(),
            wire: types.parse().unwrap_or_default(),
            schema: Some(schema).filter(|schema| !schema.is_empty()),
        }
    }
}

/// Reads a version or a time; an empty text is the newest.
///
/// # Errors
/// One sentence where it is neither.
pub(crate) fn as_of(text: &str) -> Result<Option<AsOf>, String> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|error: lakebed_query::InvalidAsOf| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_goes_before_the_session() {
        let mut headers = MetadataMap::new();
        let session = Terms { as_of: Some(AsOf::Version(3)), schema: Some("silver".into()), ..Terms::default() };
        assert_eq!(Terms::of_call(&headers, session.clone()).unwrap(), session);
        headers.insert(AS_OF, "42".parse().unwrap());
        headers.insert(TYPES, "Grafana".parse().unwrap());
        let terms = Terms::of_call(&headers, session.clone()).unwrap();
        assert_eq!((terms.as_of, terms.wire), (Some(AsOf::Version(42)), Wire::Grafana));
        assert_eq!(Terms::of_carried(Some(terms.carried())), terms);
        headers.insert(AS_OF, "".parse().unwrap());
        assert_eq!(Terms::of_call(&headers, session).unwrap().as_of, None, "the newest is asked for");
        for (name, wrong) in [(AS_OF, "yesterday"), (TYPES, "fancy")] {
            let mut headers = MetadataMap::new();
            headers.insert(name, wrong.parse().unwrap());
            let refused = Terms::of_call(&headers, Terms::default()).unwrap_err();
            assert!(refused.message().contains(wrong), "{refused}");
        }
    }
}
