//! Session options. Their messages are not wrapped in `Any`, unlike those of Flight SQL, and arrow-flight does not
//! define them, so they are here, from <https://github.com/apache/arrow/blob/main/format/Flight.proto>.
//!
//! Options are kept by the client, in a cookie; JDBC sends it back with every call. ADBC takes no cookies unless it is asked to, and
//! so the options of its connection are remembered here as well, for its user. Where a connection is of many clients, only cookies
//! tell them apart: then each is offered one with the first answer, and whoever does not send it back is told that no option is kept.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lakebed_query::catalog::{CATALOG, DEFAULT_SCHEMA};
use prost::{Message, Oneof};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::bounded::{Bounded, locked};
use crate::connections::Connection;
use crate::handles::{Key, Kind};
use crate::status;
use crate::terms::{CarriedTerms, Terms, as_of};

/// The cookie's name.
const COOKIE: &str = "lakebed-session";
/// The header that gives it to a client.
const SET_COOKIE: &str = "set-cookie";

/// Connections whose options are remembered.
const CONNECTIONS: usize = 4_096;

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

/// The options of clients that keep no cookies, by their connection.
pub(crate) struct Sessions {
    by_connection: Mutex<Bounded<Place, Terms>>,
    /// Whether a connection is of one client.
    remembers: bool,
}

/// Whose session it is.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) user: String,
    /// It sent a cookie of ours, with whatever in it.
    pub(crate) keeps_cookies: bool,
}

impl Client {
    /// What its options are remembered under.
    fn place(&self) -> Place {
        (self.connection, self.user.clone())
    }
}

/// A connection and its user.
type Place = (Connection, String);

impl Sessions {
    pub(crate) fn new(remembers: bool) -> Self {
        Self { by_connection: Mutex::new(Bounded::new(CONNECTIONS)), remembers }
    }

    /// The options of a client's session: those of its cookie, or of its connection.
    pub(crate) fn terms(&self, headers: &MetadataMap, client: Option<&Client>, key: &Key) -> Terms {
        if let Some(terms) = of_cookie(headers, key) {
            return terms;
        }
        let mut remembered = locked(&self.by_connection);
        client.and_then(|client| remembered.get(&client.place()).cloned()).unwrap_or_default()
    }

    /// A cookie for a client that sent none, where it cannot be known without: nothing is set in it.
    pub(crate) fn offered(&self, headers: &MetadataMap, key: &Key) -> Option<String> {
        (!self.remembers && !keeps_cookies(headers)).then(|| cookie(&Terms::default(), key))
    }

    /// Sets what can be set and says what cannot; gives the answer's body and the cookie to set. What would be forgotten is not set.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a body that is not a `SetSessionOptionsRequest`.
    pub(crate) fn set(
        &self,
        body: &[u8],
        mut terms: Terms,
        client: Option<Client>,
        schemas: &[String],
        key: &Key,
    ) -> Result<(Vec<u8>, String), Status> {
        let asked = SessionOptions::decode(body).map_err(|_| status::of_body("SetSessionOptionsRequest"))?;
        let is_kept = client.as_ref().is_some_and(|client| client.keeps_cookies || self.remembers);
        let mut errors = HashMap::new();
        for (name, option) in asked.session_options {
            let mut changed = terms.clone();
            match set_one(&mut changed, &name, option.value.as_ref(), schemas) {
                Ok(()) if is_kept || changed == terms => terms = changed,
                Ok(()) => _ = errors.insert(name, OptionError { value: OptionErrorValue::Error as i32 }),
                Err(error) => _ = errors.insert(name, OptionError { value: error as i32 }),
            }
        }
        let cookie = cookie(&terms, key);
        if let Some(client) = client.filter(|_| self.remembers) {
            locked(&self.by_connection).insert(client.place(), terms);
        }
        Ok((SetSessionOptionsResult { errors }.encode_to_vec(), cookie))
    }

    /// Ends a session; gives the answer's body and the cookie that takes the other's place.
    pub(crate) fn close(&self, client: Option<&Client>) -> (Vec<u8>, String) {
        if let Some(client) = client {
            locked(&self.by_connection).remove(&client.place());
        }
        (CloseSessionResult { status: CLOSED }.encode_to_vec(), format!("{COOKIE}="))
    }
}

/// The options as they are; ADBC reads the current catalog and schema from here.
pub(crate) fn get(terms: &Terms) -> Vec<u8> {
    let text = |text: &str| SessionOptionValue { value: Some(OptionValue::Text(text.to_owned())) };
    let mut session_options = HashMap::from([
        ("catalog".to_owned(), text(CATALOG)),
        ("schema".to_owned(), text(terms.schema.as_deref().unwrap_or(DEFAULT_SCHEMA))),
        ("types".to_owned(), text(terms.wire.name())),
    ]);
    session_options.extend(terms.as_of.map(|as_of| ("as_of".to_owned(), text(&as_of.to_string()))));
    SessionOptions { session_options }.encode_to_vec()
}

fn set_one(
    terms: &mut Terms,
    name: &str,
    value: Option<&OptionValue>,
    schemas: &[String],
) -> Result<(), OptionErrorValue> {
    let text = match value {
        // A value that is not there takes an option back.
        None => String::new(),
        Some(OptionValue::Text(text)) => text.clone(),
        // A version is a number to some clients.
        Some(OptionValue::Whole(number)) if name == "as_of" => number.to_string(),
        Some(_) => return Err(OptionErrorValue::InvalidValue),
    };
    match name {
        "catalog" if text.is_empty() || text == CATALOG => {}
        "schema" if text.is_empty() => terms.schema = None,
        "schema" if schemas.contains(&text) => terms.schema = Some(text),
        "types" if text.is_empty() => terms.wire = Default::default(),
        "types" => terms.wire = text.parse().map_err(|_| OptionErrorValue::InvalidValue)?,
        "as_of" => terms.as_of = as_of(&text).map_err(|_| OptionErrorValue::InvalidValue)?,
        "catalog" | "schema" => return Err(OptionErrorValue::InvalidValue),
        _ => return Err(OptionErrorValue::InvalidName),
    }
    Ok(())
}

/// Without Max-Age: arrow-java reads one that is in it as the age of the epoch.
fn cookie(terms: &Terms, key: &Key) -> String {
    format!("{COOKIE}={}", URL_SAFE_NO_PAD.encode(key.sign(Kind::Session, &terms.carried())))
}

/// Whether a client sent our cookie back, be it one of another server's or of a session that was closed.
pub(crate) fn keeps_cookies(headers: &MetadataMap) -> bool {
    sent(headers).is_some()
}

/// Gives a client a cookie, unless the answer has one.
pub(crate) fn set_cookie(headers: &mut MetadataMap, cookie: Option<String>) {
    if let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok())
        && !headers.contains_key(SET_COOKIE)
    {
        headers.insert(SET_COOKIE, cookie);
    }
}

/// What a cookie of ours says. One that is another server's, or was changed, says nothing.
fn of_cookie(headers: &MetadataMap, key: &Key) -> Option<Terms> {
    let handle = URL_SAFE_NO_PAD.decode(sent(headers)?.trim_matches('"')).ok()?;
    key.open::<CarriedTerms>(Kind::Session, &handle).ok().map(|carried| Terms::of_carried(Some(carried)))
}

/// What is in our cookie.
fn sent(headers: &MetadataMap) -> Option<&str> {
    let cookies = headers.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
    let cookies = cookies.flat_map(|value| value.split(';'));
    let mut ours = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    ours.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use lakebed_query::AsOf;

    use super::*;
    use crate::wire::Wire;

    fn text(text: &str) -> SessionOptionValue {
        SessionOptionValue { value: Some(OptionValue::Text(text.to_owned())) }
    }

    fn request(options: &[(&str, SessionOptionValue)]) -> Vec<u8> {
        let session_options = options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        SessionOptions { session_options }.encode_to_vec()
    }

    #[test]
    fn what_can_be_set_is_kept_by_cookie_and_connection_and_the_rest_refused_by_name() {
        let (sessions, key) = (Sessions::new(true), Key::of_this_process());
        let client = |number, user: &str| {
            Some(Client { connection: Connection(number), user: user.to_owned(), keeps_cookies: false })
        };
        let ana = client(1, "ana");
        let schemas = ["gold".to_owned(), "silver".to_owned()];
        let asked = request(&[
            ("catalog", text("lakebed")),
            ("schema", text("silver")),
            ("types", text("grafana")),
            ("as_of", SessionOptionValue { value: Some(OptionValue::Whole(7)) }),
            ("colour", SessionOptionValue { value: None }),
        ]);
        let (answer, cookie) = sessions.set(&asked, Terms::default(), ana.clone(), &schemas, &key).unwrap();
        let answer = SetSessionOptionsResult::decode(&*answer).unwrap();
        assert_eq!(answer.errors.len(), 1);
        assert_eq!(answer.errors["colour"].value(), OptionErrorValue::InvalidName);
        let set = Terms { as_of: Some(AsOf::Version(7)), wire: Wire::Grafana, schema: Some("silver".into()) };
        let nothing = MetadataMap::new();
        assert_eq!(sessions.terms(&nothing, ana.as_ref(), &key), set);
        for other in [client(2, "ana"), client(1, "bob"), None] {
            assert_eq!(sessions.terms(&nothing, other.as_ref(), &key), Terms::default());
        }
        let mut headers = MetadataMap::new();
        headers.insert("cookie", format!("a=b; {cookie}").parse().unwrap());
        assert_eq!(sessions.terms(&headers, None, &key), set);
        assert_eq!(sessions.terms(&headers, None, &Key::of_this_process()), Terms::default(), "not its cookie");
        for (name, value) in [("schema", "none"), ("catalog", "other"), ("types", "fancy"), ("as_of", "yesterday")] {
            let (answer, _) =
                sessions.set(&request(&[(name, text(value))]), set.clone(), None, &schemas, &key).unwrap();
            let answer = SetSessionOptionsResult::decode(&*answer).unwrap();
            assert_eq!(answer.errors[name].value(), OptionErrorValue::InvalidValue, "{name}");
        }
        assert!(sessions.set(&[0xff], Terms::default(), None, &schemas, &key).is_err());
        sessions.close(ana.as_ref());
        assert_eq!(sessions.terms(&nothing, ana.as_ref(), &key), Terms::default());
    }

    /// Where a connection is of many clients.
    #[test]
    fn what_nothing_would_keep_is_not_set() {
        let (sessions, key) = (Sessions::new(false), Key::of_this_process());
        let client = |keeps_cookies| Some(Client { connection: Connection(1), user: "ana".to_owned(), keeps_cookies });
        let asked = request(&[("as_of", text("7")), ("catalog", text("lakebed")), ("types", text("fancy"))]);
        let set = |client| {
            let (answer, cookie) = sessions.set(&asked, Terms::default(), client, &[], &key).unwrap();
            let mut headers = MetadataMap::new();
            headers.insert("cookie", cookie.parse().unwrap());
            let errors = SetSessionOptionsResult::decode(&*answer).unwrap().errors;
            (errors, sessions.terms(&headers, None, &key), headers)
        };
        for nowhere in [client(false), None] {
            let (errors, terms, _) = set(nowhere);
            assert_eq!((errors.len(), &terms), (2, &Terms::default()), "the catalog is what it was");
            assert_eq!(errors["as_of"].value(), OptionErrorValue::Error);
            assert_eq!(errors["types"].value(), OptionErrorValue::InvalidValue);
        }
        let (errors, terms, headers) = set(client(true));
        assert_eq!((errors.len(), terms.as_of), (1, Some(AsOf::Version(7))));
        assert_eq!(sessions.terms(&MetadataMap::new(), client(true).as_ref(), &key), Terms::default());
        // Each is offered a cookie, once; that of a closed session is one.
        assert_eq!(sessions.offered(&headers, &key), None);
        assert!(sessions.offered(&MetadataMap::new(), &key).is_some_and(|cookie| cookie.starts_with(COOKIE)));
        let mut closed = MetadataMap::new();
        closed.insert("cookie", sessions.close(None).1.parse().unwrap());
        assert!(keeps_cookies(&closed));
        assert_eq!(Sessions::new(true).offered(&MetadataMap::new(), &key), None);
    }

    #[test]
    fn catalog_and_schema_are_always_answered() {
        let options = SessionOptions::decode(&*get(&Terms::default())).unwrap().session_options;
        assert_eq!(options["catalog"].value, Some(OptionValue::Text("lakebed".to_owned())));
        assert_eq!(options["schema"].value, Some(OptionValue::Text("gold".to_owned())));
        assert!(!options.contains_key("as_of"));
    }
}
