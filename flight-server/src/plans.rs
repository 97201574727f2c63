//! Plans: made once for what is asked, and kept until the log moves on.
//!
//! What is asked is a text, its terms and the values of its parameters; whoever asks the same again, and every execution of a
//! prepared statement, finds the plan. The maps are bounded: a client that asks ever other things costs a fixed number of plans.

use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use lakebed_query::catalog::DEFAULT_SCHEMA;
use lakebed_query::parameters::Prepared;
use lakebed_query::{BoundPlan, ReadSession, Statement};
use tonic::Status;

use crate::bounded::{Bounded, locked};
use crate::parameters::read_parameters;
use crate::readers::{Readers, Seen};
use crate::runtime::QueryThreads;
use crate::status;
use crate::terms::Terms;
use crate::wire::{Wire, wire_schema};

/// Statements whose plans are kept for whoever asks the same again.
const KEPT_PLANS: usize = 1_024;
/// Bytes of parameters whose plan is kept.
const KEPT_PARAMETERS: usize = 64 << 10;
/// Bytes of a statement's text: more than people write, and less than a message holds.
const LONGEST_STATEMENT: usize = 1 << 20;

/// A statement planned at one version of the log.
pub(crate) struct Planned {
    /// What the statement reads; held so that a refresh does not move it.
    pub(crate) session: Arc<ReadSession>,
    /// One for each row of values for its parameters; their answers follow one another.
    pub(crate) plans: Vec<BoundPlan>,
    /// The columns as clients get them.
    pub(crate) schema: SchemaRef,
    /// What it was asked of.
    pub(crate) seen: Seen,
    pub(crate) sql: String,
    pub(crate) terms: Terms,
    pub(crate) parameters: Bytes,
}

/// A statement that is planned but for the values of its parameters.
pub(crate) struct PreparedAt {
    seen: Seen,
    session: Arc<ReadSession>,
    prepared: Prepared,
    wire: Wire,
    /// It asks for earlier versions by itself.
    has_versions: bool,
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

/// The plans of one server.
pub(crate) struct Plans {
    pub(crate) readers: Readers,
    threads: QueryThreads,
    prepared: Mutex<Bounded<PlanKey, Arc<PreparedAt>>>,
    planned: Mutex<Bounded<PlanKey, Arc<Planned>>>,
}

impl Plans {
    pub(crate) fn new(readers: Readers, threads: QueryThreads) -> Self {
        let (prepared, planned) = (Mutex::new(Bounded::new(KEPT_PLANS)), Mutex::new(Bounded::new(KEPT_PLANS)));
        Self { readers, threads, prepared, planned }
    }

    /// Plans a statement but for the values of its parameters.
    ///
    /// # Errors
    /// The status of what is wrong with it, see [`status::of_query`].
    pub(crate) async fn prepared(&self, sql: &str, terms: &Terms, user: &str) -> Result<Arc<PreparedAt>, Status> {
        if sql.len() > LONGEST_STATEMENT {
            let (bytes, most) = (sql.len(), LONGEST_STATEMENT);
            return Err(Status::invalid_argument(format!("the statement has {bytes} bytes, and {most} is the most")));
        }
        let seen = self.readers.seen(terms, user).await?;
        let key = plan_key(&seen.session, sql, terms, &Bytes::new());
        if let Some(prepared) = locked(&self.prepared).get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let (sql, terms) = (sql.to_owned(), terms.clone());
        let preparing = self.threads.run(async move {
            let statement = Statement::parse_in(&sql, terms.schema.as_deref().unwrap_or(DEFAULT_SCHEMA))?;
            let session = match &terms.schema {
                Some(schema) => Arc::new(seen.session.in_schema(schema)),
                None => Arc::clone(&seen.session),
            };
            let session = session.for_statement(&statement, seen.versions.as_ref()).await?;
            let prepared = session.prepare(&statement).await?;
            let has_versions = !statement.versions().is_empty();
            Ok::<_, lakebed_query::Error>(PreparedAt { seen, session, prepared, wire: terms.wire, has_versions })
        });
        let prepared = Arc::new(preparing.await?.map_err(|error| status::of_query(&error))?);
        if self.is_kept(&prepared) {
            locked(&self.prepared).insert(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// Plans a statement with values for its parameters, an IPC stream of one batch.
    ///
    /// # Errors
    /// As [`Self::prepared`].
    pub(crate) async fn plan(
        &self,
        sql: &str,
        terms: &Terms,
        parameters: &Bytes,
        user: &str,
    ) -> Result<Arc<Planned>, Status> {
        let prepared = self.prepared(sql, terms, user).await?;
        let key = plan_key(&prepared.seen.session, sql, terms, parameters);
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
            seen: prepared.seen.clone(),
            sql: sql.to_owned(),
            terms: terms.clone(),
            parameters: parameters.clone(),
        });
        // Large values would be held as long as the log stands still.
        if self.is_kept(&prepared) && parameters.len() <= KEPT_PARAMETERS {
            locked(&self.planned).insert(key, Arc::clone(&planned));
        }
        Ok(planned)
    }

    /// Whether a plan is kept: with one of an earlier version, what was computed for that would be held, of any number of versions.
    fn is_kept(&self, prepared: &PreparedAt) -> bool {
        !prepared.has_versions && self.readers.is_served(&prepared.seen)
    }

    /// Lets go of the plans that only a session before the one served would be asked for.
    pub(crate) fn forget_before(&self, served: &Arc<ReadSession>) {
        locked(&self.planned).retain(|planned| planned.seen.is_of(served));
        locked(&self.prepared).retain(|prepared| prepared.seen.is_of(served));
        self.readers.forget_before(served);
    }
}

fn plan_key(session: &Arc<ReadSession>, sql: &str, terms: &Terms, parameters: &Bytes) -> PlanKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(Arc::as_ptr(session) as usize).to_le_bytes());
    let Terms { as_of: _, wire, schema } = terms;
    for part in [wire.name().as_bytes(), schema.as_deref().unwrap_or_default().as_bytes(), sql.as_bytes(), parameters] {
        hasher.update(&part.len().to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}
