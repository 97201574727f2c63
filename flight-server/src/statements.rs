//! Statements between the calls of a client: planned, announced by a ticket, read.
//!
//! A handle carries all that is needed to plan its statement (see [`crate::handles`]). So that this need not be done again, a plan
//! waits here under the number of its ticket until it is redeemed; of those that never are, a fixed number is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use lakebed_query::AsOf;
use tonic::Status;
use uuid::Uuid;

use crate::bounded::{Bounded, locked};
use crate::handles::{CarriedStatement, CarriedTransaction, Key, Kind};
use crate::parameters::write_parameters;
use crate::plans::{Planned, Plans, PreparedAt};
use crate::readings::{Reading, Readings};
use crate::terms::Terms;

/// Plans that wait for their ticket. Each holds the session it was planned on.
const WAITING_PLANS: usize = 256;
/// A ticket is answered for so long.
const TICKET_LIFE: Duration = Duration::from_secs(3_600);

/// All statements of one server.
pub(crate) struct Statements {
    pub(crate) plans: Plans,
    key: Key,
    numbers: AtomicU64,
    waiting: Mutex<Bounded<u64, Arc<Planned>>>,
    readings: Readings,
}

/// A plan that is to be read.
pub(crate) struct Redeemed {
    pub(crate) planned: Arc<Planned>,
    pub(crate) reading: Reading,
}

impl Redeemed {
    /// One that no ticket was given out for.
    pub(crate) fn at_once(planned: Arc<Planned>) -> Self {
        Self { planned, reading: Reading::of_no_ticket() }
    }
}

impl Statements {
    pub(crate) fn new(plans: Plans, key: Key) -> Self {
        // Tickets of two processes with one key must not have the same numbers.
        let first = Uuid::new_v4().as_u64_pair().0;
        let waiting = Mutex::new(Bounded::new(WAITING_PLANS));
        Self { plans, key, numbers: AtomicU64::new(first), waiting, readings: Readings::new() }
    }

    /// Keeps a plan for the client that will ask for its rows; returns the statement handle of its ticket.
    pub(crate) fn announce(&self, planned: &Arc<Planned>, user: &str) -> Bytes {
        let number = self.next_number();
        locked(&self.waiting).insert(number, Arc::clone(planned));
        // Whoever redeems it reads the version that was announced.
        let terms = Terms { as_of: Some(AsOf::Version(planned.seen.session.version())), ..planned.terms.clone() };
        let ticket = CarriedStatement {
            sql: planned.sql.clone(),
            terms: Some(terms.carried()),
            parameters: planned.parameters.clone(),
            promised: hash_of(&planned.schema),
            number,
            expires: seconds_since_1970() + TICKET_LIFE.as_secs(),
            user: user.to_owned(),
        };
        self.key.sign(Kind::Ticket, &ticket)
    }

    /// The plan behind a ticket, which waits there once; one that is redeemed again, or by another server, is planned again at
    /// its version.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a ticket that is not signed with this key, FAILED_PRECONDITION for one that is too old or whose columns
    /// are no longer those promised, CANCELLED for one that was called off.
    pub(crate) async fn redeem(&self, handle: &[u8], user: &str) -> Result<Redeemed, Status> {
        let ticket = self.open(Kind::Ticket, handle, user)?;
        if ticket.expires < seconds_since_1970() {
            return Err(Status::failed_precondition("the ticket is too old\nhint: send the statement again"));
        }
        let reading = self.readings.begin(ticket.number)?;
        let waited = locked(&self.waiting).remove(&ticket.number);
        let planned = match waited {
            Some(planned) if self.plans.readers.is_by_todays_rules(&planned.seen)? => planned,
            _ => {
                let terms = Terms::of_carried(ticket.terms);
                let planned = self.plans.plan(&ticket.sql, &terms, &ticket.parameters, user).await?;
                kept_promise(&planned, &ticket.promised, "send the statement again")?;
                planned
            }
        };
        Ok(Redeemed { planned, reading })
    }

    /// Calls a ticket off: what is read of it stops, and nobody reads it any more. Says whether there was anything to stop.
    pub(crate) fn cancel(&self, handle: &[u8], user: &str) -> bool {
        let Ok(ticket) = self.open(Kind::Ticket, handle, user) else { return false };
        let waited = locked(&self.waiting).remove(&ticket.number).is_some();
        let stopped = self.readings.call_off(ticket.number);
        waited || stopped
    }

    /// The handle of a prepared statement, with the statement's columns and parameters.
    ///
    /// # Errors
    /// As [`Plans::prepared`].
    pub(crate) async fn prepare(
        &self,
        sql: &str,
        terms: &Terms,
        user: &str,
    ) -> Result<(Bytes, Arc<PreparedAt>), Status> {
        let prepared = self.plans.prepared(sql, terms, user).await?;
        let carried = CarriedStatement {
            sql: sql.to_owned(),
            terms: Some(terms.carried()),
            promised: hash_of(&prepared.schema()),
            number: self.next_number(),
            user: user.to_owned(),
            ..CarriedStatement::default()
        };
        Ok((self.key.sign(Kind::Prepared, &carried), prepared))
    }

    /// The handle of a prepared statement with values for its parameters, which are checked.
    ///
    /// # Errors
    /// As [`Self::prepared_plan`].
    pub(crate) async fn bind(&self, handle: &[u8], values: &RecordBatch, user: &str) -> Result<Bytes, Status> {
        let carried = self.open(Kind::Prepared, handle, user)?;
        let carried = CarriedStatement { parameters: write_parameters(values)?, ..carried };
        self.plans.plan(&carried.sql, &Terms::of_carried(carried.terms.clone()), &carried.parameters, user).await?;
        Ok(self.key.sign(Kind::Prepared, &carried))
    }

    /// The plan of a prepared statement at the version now served.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a handle that is not signed with this key, FAILED_PRECONDITION where the columns are no longer those
    /// promised.
    pub(crate) async fn prepared_plan(&self, handle: &[u8], user: &str) -> Result<Arc<Planned>, Status> {
        let carried = self.open(Kind::Prepared, handle, user)?;
        let planned =
            self.plans.plan(&carried.sql, &Terms::of_carried(carried.terms), &carried.parameters, user).await?;
        kept_promise(&planned, &carried.promised, "prepare it again")?;
        Ok(planned)
    }

    /// A transaction: the version that all of its statements read.
    ///
    /// # Errors
    /// As [`crate::readers::Readers::seen`].
    pub(crate) async fn begin(&self, terms: &Terms, user: &str) -> Result<Bytes, Status> {
        let version = self.plans.readers.seen(terms, user).await?.session.version();
        Ok(self.key.sign(Kind::Transaction, &CarriedTransaction { version }))
    }

    /// The terms of a statement within a transaction, if it is in one.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a transaction that this server did not begin.
    pub(crate) fn within(&self, transaction: Option<&Bytes>, terms: Terms) -> Result<Terms, Status> {
        match transaction.filter(|id| !id.is_empty()) {
            Some(id) => {
                let CarriedTransaction { version } = self.key.open(Kind::Transaction, id)?;
                Ok(Terms { as_of: Some(AsOf::Version(version)), ..terms })
            }
            None => Ok(terms),
        }
    }

    /// What signs handles.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Reads a handle that was given to this user.
    fn open(&self, kind: Kind, handle: &[u8], user: &str) -> Result<CarriedStatement, Status> {
        let carried: CarriedStatement = self.key.open(kind, handle)?;
        match carried.user == user {
            true => Ok(carried),
            false => Err(Status::permission_denied("this was given to another user\nhint: send the statement again")),
        }
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

fn kept_promise(planned: &Planned, promised: &Bytes, hint: &str) -> Result<(), Status> {
    match hash_of(&planned.schema) == *promised {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!(
            "the columns of this statement changed with the lake\nhint: {hint}"
        ))),
    }
}

fn hash_of(schema: &Schema) -> Bytes {
    let columns = schema.fields().iter().map(|field| format!("{}\0{}\0", field.name(), field.data_type()));
    let hash = blake3::hash(columns.collect::<String>().as_bytes());
    Bytes::copy_from_slice(&hash.as_bytes()[..16])
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
