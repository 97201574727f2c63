//! Statements between the calls of a client: planned, announced by a ticket, read.
//!
//! A handle carries all that is needed to plan its statement (see [`crate::handles`]). So that this need not be done again, plans
//! wait here: under the number of a ticket until it is redeemed, and under what was asked until the log moves on. All maps are
//! bounded: a client that forgets its handles costs a fixed amount of memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use datafusion::logical_expr::LogicalPlan;
use lakebed_query::catalog::DEFAULT_SCHEMA;
use lakebed_query::parameters::Prepared;
use lakebed_query::{AsOf, ReadSession, Statement};
use tokio::sync::{oneshot, watch};
use tonic::Status;
use uuid::Uuid;

use crate::bounded::{Bounded, locked};
use crate::handles::{CarriedStatement, CarriedTransaction, Key, Kind};
use crate::parameters::{read_parameters, write_parameters};
use crate::runtime::QueryThreads;
use crate::server::Served;
use crate::status;
use crate::terms::Terms;
use crate::wire::{Wire, wire_schema};

/// Plans that wait for their ticket. Each holds the session it was planned on.
const WAITING_PLANS: usize = 256;
/// Statements whose plans are kept for whoever asks the same again.
const KEPT_PLANS: usize = 1_024;
/// Bytes of parameters whose plan is kept.
const KEPT_PARAMETERS: usize = 64 << 10;
/// Results that are being read, or were called off before they were.
const RUNNING: usize = 4_096;
/// A ticket is answered for so long.
const TICKET_LIFE: Duration = Duration::from_secs(3_600);
/// Bytes of a statement's text: more than people write, and less than a message holds.
const LONGEST_STATEMENT: usize = 1 << 20;

/// A statement planned at one version of the log.
pub(crate) struct Planned {
    /// What the statement reads; held so that a refresh does not move it.
    pub(crate) session: Arc<ReadSession>,
    /// One for each row of values for its parameters; their answers follow one another.
    pub(crate) plans: Vec<LogicalPlan>,
    /// The columns as clients get them.
    pub(crate) schema: SchemaRef,
    pub(crate) wire: Wire,
    /// The session that it was asked of; while it is held, no other has its address.
    base: Arc<ReadSession>,
    sql: String,
    terms: Terms,
    parameters: Bytes,
}

/// A statement that is planned but for the values of its parameters.
pub(crate) struct PreparedAt {
    base: Arc<ReadSession>,
    session: Arc<ReadSession>,
    prepared: Prepared,
    wire: Wire,
}

impl PreparedAt {
    /// The columns of its answer, as clients get them.
    pub(crate) fn schema(&self) -> SchemaRef {
        wire_schema(self.prepared.plan().schema().as_arrow(), self.wire)
    }

    /// Its parameters, as clients are to send them. Times are in milliseconds: JDBC's driver (18.3) writes a number of them into
    /// whatever unit it is told. What comes is cast to the parameter's own type, so that others may send what they have.
    pub(crate) fn parameters(&self) -> SchemaRef {
        let wire = wire_schema(self.prepared.parameters(), self.wire);
        let fields = wire.fields().iter().map(|field| match field.data_type() {
            DataType::Timestamp(_, zone) => {
                field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                field.as_ref().clone().with_data_type(DataType::Time32(TimeUnit::Millisecond))
            }
            _ => field.as_ref().clone(),
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// What a plan is kept under.
type PlanKey = [u8; blake3::OUT_LEN];

/// All statements of one server.
pub(crate) struct Statements {
    lake: watch::Receiver<Served>,
    threads: QueryThreads,
    key: Key,
    numbers: AtomicU64,
    prepared: Mutex<Bounded<PlanKey, Arc<PreparedAt>>>,
    planned: Mutex<Bounded<PlanKey, Arc<Planned>>>,
    waiting: Mutex<Bounded<u64, Arc<Planned>>>,
    running: Mutex<Bounded<u64, Running>>,
}

/// What became of a ticket.
enum Running {
    /// It is being read; a word stops it.
    Reading(oneshot::Sender<()>),
    /// It was called off, before or while it was read.
    CalledOff,
}

/// A plan whose ticket was redeemed, and the word that would stop it.
pub(crate) struct Redeemed {
    pub(crate) planned: Arc<Planned>,
    pub(crate) called_off: oneshot::Receiver<()>,
}

impl Statements {
    pub(crate) fn new(lake: watch::Receiver<Served>, threads: QueryThreads, key: Key) -> Self {
        // Tickets of two processes with one key must not have the same numbers.
        let first = Uuid::new_v4().as_u64_pair().0;
        Self {
            lake,
            threads,
            key,
            numbers: AtomicU64::new(first),
            prepared: Mutex::new(Bounded::new(KEPT_PLANS)),
            planned: Mutex::new(Bounded::new(KEPT_PLANS)),
            waiting: Mutex::new(Bounded::new(WAITING_PLANS)),
            running: Mutex::new(Bounded::new(RUNNING)),
        }
    }

    /// The lake as of the version that is asked for, by default the newest, with where other versions are of the same models.
    ///
    /// # Errors
    /// The status of a version that is not there, or cannot be read.
    pub(crate) async fn session(&self, terms: &Terms) -> Result<Served, Status> {
        let served = self.lake.borrow().clone();
        match terms.as_of {
            None => Ok(served),
            Some(AsOf::Version(version)) if version == served.session.version() => Ok(served),
            Some(as_of) => {
                let versions = Arc::clone(&served.versions);
                let session = self.threads.run(async move { versions.as_of(as_of).await }).await?;
                Ok(Served { session: session.map_err(|error| status::of_query(&error))?, ..served })
            }
        }
    }

    /// Plans a statement but for the values of its parameters.
    ///
    /// # Errors
    /// The status of what is wrong with it, see [`status::of_query`].
    pub(crate) async fn prepared(&self, sql: &str, terms: &Terms) -> Result<Arc<PreparedAt>, Status> {
        if sql.len() > LONGEST_STATEMENT {
            let (bytes, most) = (sql.len(), LONGEST_STATEMENT);
            return Err(Status::invalid_argument(format!("the statement has {bytes} bytes, and {most} is the most")));
        }
        let Served { session: base, versions } = self.session(terms).await?;
        let key = plan_key(&base, sql, terms, &Bytes::new());
        if let Some(prepared) = locked(&self.prepared).get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let (sql, terms) = (sql.to_owned(), terms.clone());
        let preparing = self.threads.run(async move {
            let statement = Statement::parse_in(&sql, terms.schema.as_deref().unwrap_or(DEFAULT_SCHEMA))?;
            let session = match &terms.schema {
                Some(schema) => base.in_schema(schema),
                None => Arc::clone(&base),
            };
            let session = session.for_statement(&statement, versions.as_ref()).await?;
            let prepared = session.prepare(&statement).await?;
            Ok::<_, lakebed_query::Error>(PreparedAt { base, session, prepared, wire: terms.wire })
        });
        let prepared = Arc::new(preparing.await?.map_err(|error| status::of_query(&error))?);
        if self.is_served(&prepared.base) {
            locked(&self.prepared).insert(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// Plans a statement with values for its parameters, an IPC stream of one batch.
    ///
    /// # Errors
    /// As [`Self::prepared`].
    pub(crate) async fn plan(&self, sql: &str, terms: &Terms, parameters: &Bytes) -> Result<Arc<Planned>, Status> {
        let prepared = self.prepared(sql, terms).await?;
        let key = plan_key(&prepared.base, sql, terms, parameters);
        if let Some(planned) = locked(&self.planned).get(&key) {
            return Ok(Arc::clone(planned));
        }
        let (binding, values) = (Arc::clone(&prepared), parameters.clone());
        let plans = self.threads.run(async move {
            let values = read_parameters(&values)?;
            binding.session.bind(&binding.prepared, &values).map_err(|error| status::of_query(&error))
        });
        let plans = plans.await??;
        let planned = Arc::new(Planned {
            session: Arc::clone(&prepared.session),
            schema: prepared.schema(),
            plans,
            wire: terms.wire,
            base: Arc::clone(&prepared.base),
            sql: sql.to_owned(),
            terms: terms.clone(),
            parameters: parameters.clone(),
        });
        // An earlier version would be held with what was computed for it, and large values as long as the log stands still.
        if self.is_served(&planned.base) && parameters.len() <= KEPT_PARAMETERS {
            locked(&self.planned).insert(key, Arc::clone(&planned));
        }
        Ok(planned)
    }

    /// Keeps a plan for the client that will ask for its rows; returns the statement handle of its ticket.
    pub(crate) fn announce(&self, planned: &Arc<Planned>, user: &str) -> Bytes {
        let number = self.next_number();
        locked(&self.waiting).insert(number, Arc::clone(planned));
        // Whoever redeems it reads the version that was announced.
        let terms = Terms { as_of: Some(AsOf::Version(planned.base.version())), ..planned.terms.clone() };
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
        let (word, called_off) = oneshot::channel();
        {
            let mut running = locked(&self.running);
            if matches!(running.get(&ticket.number), Some(Running::CalledOff)) {
                return Err(called_off_status());
            }
            running.insert(ticket.number, Running::Reading(word));
        }
        let waited = locked(&self.waiting).remove(&ticket.number);
        let planned = match waited {
            Some(planned) => planned,
            None => {
                let planned = self.plan(&ticket.sql, &Terms::of_carried(ticket.terms), &ticket.parameters).await?;
                kept_promise(&planned, &ticket.promised, "send the statement again")?;
                planned
            }
        };
        Ok(Redeemed { planned, called_off })
    }

    /// Calls a ticket off: what is read of it stops, and nobody reads it any more. Says whether there was anything to stop.
    pub(crate) fn cancel(&self, handle: &[u8], user: &str) -> bool {
        let Ok(ticket) = self.open(Kind::Ticket, handle, user) else { return false };
        let waited = locked(&self.waiting).remove(&ticket.number).is_some();
        let mut running = locked(&self.running);
        let was = running.remove(&ticket.number);
        running.insert(ticket.number, Running::CalledOff);
        let stopped = match was {
            // A word to somebody who has read all is lost, and there was nothing to stop.
            Some(Running::Reading(word)) => word.send(()).is_ok(),
            Some(Running::CalledOff) | None => false,
        };
        waited || stopped
    }

    /// The handle of a prepared statement, with the statement's columns and parameters.
    ///
    /// # Errors
    /// As [`Self::prepared`].
    pub(crate) async fn prepare(
        &self,
        sql: &str,
        terms: &Terms,
        user: &str,
    ) -> Result<(Bytes, Arc<PreparedAt>), Status> {
        let prepared = self.prepared(sql, terms).await?;
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
        self.plan(&carried.sql, &Terms::of_carried(carried.terms.clone()), &carried.parameters).await?;
        Ok(self.key.sign(Kind::Prepared, &carried))
    }

    /// The plan of a prepared statement at the version now served.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a handle that is not signed with this key, FAILED_PRECONDITION where the columns are no longer those
    /// promised.
    pub(crate) async fn prepared_plan(&self, handle: &[u8], user: &str) -> Result<Arc<Planned>, Status> {
        let carried = self.open(Kind::Prepared, handle, user)?;
        let planned = self.plan(&carried.sql, &Terms::of_carried(carried.terms), &carried.parameters).await?;
        kept_promise(&planned, &carried.promised, "prepare it again")?;
        Ok(planned)
    }

    /// A transaction: the version that all of its statements read.
    ///
    /// # Errors
    /// As [`Self::session`].
    pub(crate) async fn begin(&self, terms: &Terms) -> Result<Bytes, Status> {
        let version = self.session(terms).await?.session.version();
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

    /// Lets go of the plans that only a session before the one served would be asked for.
    pub(crate) fn forget_plans_before(&self, served: &Arc<ReadSession>) {
        locked(&self.planned).retain(|planned| Arc::ptr_eq(&planned.base, served));
        locked(&self.prepared).retain(|prepared| Arc::ptr_eq(&prepared.base, served));
    }

    /// Reads a handle that was given to this user.
    fn open(&self, kind: Kind, handle: &[u8], user: &str) -> Result<CarriedStatement, Status> {
        let carried: CarriedStatement = self.key.open(kind, handle)?;
        match carried.user == user {
            true => Ok(carried),
            false => Err(Status::permission_denied("this was given to another user\nhint: send the statement again")),
        }
    }

    fn is_served(&self, base: &Arc<ReadSession>) -> bool {
        Arc::ptr_eq(base, &self.lake.borrow().session)
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// The status of a result that was called off.
pub(crate) fn called_off_status() -> Status {
    Status::cancelled("the statement was cancelled")
}

fn plan_key(base: &Arc<ReadSession>, sql: &str, terms: &Terms, parameters: &Bytes) -> PlanKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(Arc::as_ptr(base) as usize).to_le_bytes());
    let Terms { as_of: _, wire, schema } = terms;
    for part in [wire.name().as_bytes(), schema.as_deref().unwrap_or_default().as_bytes(), sql.as_bytes(), parameters] {
        hasher.update(&part.len().to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
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
