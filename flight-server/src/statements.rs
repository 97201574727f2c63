//! Statements between the moment they are planned and the moment they are read.
//!
//! A plan is made once and waits under a handle: for the ticket of a FlightInfo until it is redeemed, for a
//! prepared statement until it is closed or the log moves on. Both maps are bounded, so that a client that
//! forgets its handles costs a fixed amount of memory; the longest unused goes first.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::logical_expr::LogicalPlan;
use lakebed_query::ReadSession;
use prost::Message;
use tokio::sync::watch;
use tonic::Status;

use crate::runtime::QueryThreads;
use crate::status;
use crate::wire::wire_schema;

/// Plans that wait for their ticket. Each holds the session it was planned on.
const WAITING_PLANS: usize = 256;
/// Prepared statements of all clients together; a connection pool keeps some hundreds.
const PREPARED_STATEMENTS: usize = 4_096;

/// A statement planned at one version of the log.
pub(crate) struct Planned {
    /// What the statement reads; held so that a refresh does not move it.
    pub(crate) session: Arc<ReadSession>,
    pub(crate) plan: LogicalPlan,
    /// The columns as clients get them.
    pub(crate) schema: SchemaRef,
    sql: String,
}

/// What `TicketStatementQuery.statement_handle` holds.
#[derive(Clone, PartialEq, Message)]
struct StatementTicket {
    /// The log version that the statement was planned at.
    #[prost(uint64, tag = "1")]
    version: u64,
    /// Where the plan waits.
    #[prost(bytes = "bytes", tag = "2")]
    handle: Bytes,
    /// To plan it again where it waits no more.
    #[prost(string, tag = "3")]
    sql: String,
}

struct Prepared {
    sql: String,
    /// The columns that were promised when it was prepared.
    schema: SchemaRef,
    /// `None` once the log has moved past it: an old plan would hold an old session in memory.
    planned: Option<Arc<Planned>>,
}

/// All statements of one server.
pub(crate) struct Statements {
    lake: watch::Receiver<Arc<ReadSession>>,
    threads: QueryThreads,
    handles: Handles,
    waiting: Mutex<Bounded<Arc<Planned>>>,
    prepared: Mutex<Bounded<Prepared>>,
}

impl Statements {
    pub(crate) fn new(lake: watch::Receiver<Arc<ReadSession>>, threads: QueryThreads) -> Self {
        Self {
            lake,
            threads,
            handles: Handles::new(),
            waiting: Mutex::new(Bounded::new(WAITING_PLANS)),
            prepared: Mutex::new(Bounded::new(PREPARED_STATEMENTS)),
        }
    }

    /// Plans a statement at the version now served.
    ///
    /// # Errors
    /// The status of what is wrong with it, see [`status::of_query`].
    pub(crate) async fn plan(&self, sql: &str) -> Result<Arc<Planned>, Status> {
        let session = Arc::clone(&self.lake.borrow());
        let sql = sql.to_owned();
        let planned = self.threads.run(async move {
            let plan = session.plan(&sql).await?;
            let schema = wire_schema(plan.schema().as_arrow());
            Ok::<_, lakebed_query::Error>(Planned { session, plan, schema, sql })
        });
        planned.await?.map(Arc::new).map_err(|error| status::of_query(&error))
    }

    /// Keeps a plan for the client that will ask for its rows; returns the statement handle of its ticket.
    pub(crate) fn announce(&self, planned: &Arc<Planned>) -> Bytes {
        let handle = self.handles.next();
        locked(&self.waiting).insert(handle.clone(), Arc::clone(planned));
        let ticket = StatementTicket { version: planned.session.version(), handle, sql: planned.sql.clone() };
        ticket.encode_to_vec().into()
    }

    /// The plan behind a ticket. It waits there once; a ticket that is redeemed again is planned again, as long
    /// as its version is the one served.
    ///
    /// # Errors
    /// FAILED_PRECONDITION where the ticket's version is no longer held.
    pub(crate) async fn redeem(&self, statement_handle: &[u8]) -> Result<Arc<Planned>, Status> {
        let ticket = StatementTicket::decode(statement_handle).map_err(|_| status::of_body("ticket"))?;
        if let Some(planned) = locked(&self.waiting).remove(&ticket.handle) {
            return Ok(planned);
        }
        let served = self.lake.borrow().version();
        if ticket.version == served {
            let planned = self.plan(&ticket.sql).await?;
            if planned.session.version() == ticket.version {
                return Ok(planned);
            }
        }
        Err(Status::failed_precondition(format!(
            "the ticket is for log version {}, which is no longer held; version {served} is served now\n\
             hint: send the statement again",
            ticket.version
        )))
    }

    /// Lets go of the plan behind a ticket; says whether it still waited.
    pub(crate) fn cancel(&self, statement_handle: &[u8]) -> bool {
        StatementTicket::decode(statement_handle)
            .is_ok_and(|ticket| locked(&self.waiting).remove(&ticket.handle).is_some())
    }

    /// Plans a statement and keeps it until it is closed.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub(crate) async fn prepare(&self, sql: &str) -> Result<(Bytes, Arc<Planned>), Status> {
        let planned = self.plan(sql).await?;
        let handle = self.handles.next();
        let prepared =
            Prepared { sql: sql.to_owned(), schema: Arc::clone(&planned.schema), planned: Some(Arc::clone(&planned)) };
        locked(&self.prepared).insert(handle.clone(), prepared);
        Ok((handle, planned))
    }

    /// The plan of a prepared statement at the version now served: the one it was prepared with, or a new one
    /// where the log has moved on.
    ///
    /// # Errors
    /// NOT_FOUND for a handle that is not held, FAILED_PRECONDITION where the columns are no longer those promised.
    pub(crate) async fn prepared(&self, handle: &Bytes) -> Result<Arc<Planned>, Status> {
        let served = self.lake.borrow().version();
        let (sql, schema) = {
            let mut held = locked(&self.prepared);
            let prepared = held.get(handle).ok_or_else(unknown_handle)?;
            match &prepared.planned {
                Some(planned) if planned.session.version() == served => return Ok(Arc::clone(planned)),
                _ => (prepared.sql.clone(), Arc::clone(&prepared.schema)),
            }
        };
        let planned = self.plan(&sql).await?;
        if planned.schema != schema {
            return Err(Status::failed_precondition(
                "the columns of this prepared statement changed with the lake\nhint: prepare it again",
            ));
        }
        if let Some(prepared) = locked(&self.prepared).get(handle) {
            prepared.planned = Some(Arc::clone(&planned));
        }
        Ok(planned)
    }

    /// Forgets a prepared statement. Closing one that is not held is no error: it may have been the longest unused.
    pub(crate) fn close(&self, handle: &Bytes) {
        locked(&self.prepared).remove(handle);
    }

    /// Lets go of the plans of prepared statements that no request would use any more at version `served`.
    pub(crate) fn forget_plans_before(&self, served: u64) {
        for prepared in locked(&self.prepared).values() {
            if prepared.planned.as_ref().is_some_and(|planned| planned.session.version() < served) {
                prepared.planned = None;
            }
        }
    }
}

fn unknown_handle() -> Status {
    Status::not_found("there is no prepared statement under this handle\nhint: prepare it again")
}

/// A map whose holder panicked is still a map: nothing is changed in two steps under these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles that no other process gives out: an old client's handle must not find a stranger's statement after a
/// restart.
struct Handles {
    process: u64,
    given: AtomicU64,
}

impl Handles {
    fn new() -> Self {
        Self { process: RandomState::new().hash_one("process"), given: AtomicU64::new(0) }
    }

    fn next(&self) -> Bytes {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let mut handle = self.process.to_be_bytes().to_vec();
        handle.extend(number.to_be_bytes());
        handle.into()
    }
}

/// A map of at most `limit` entries; the longest unused makes room.
struct Bounded<V> {
    limit: usize,
    uses: u64,
    entries: HashMap<Bytes, (u64, V)>,
}

impl<V> Bounded<V> {
    fn new(limit: usize) -> Self {
        Self { limit, uses: 0, entries: HashMap::new() }
    }

    fn insert(&mut self, handle: Bytes, value: V) {
        if self.entries.len() >= self.limit {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(handle, _)| handle.clone());
            oldest.and_then(|oldest| self.entries.remove(&oldest));
        }
        self.uses += 1;
        self.entries.insert(handle, (self.uses, value));
    }

    fn get(&mut self, handle: &Bytes) -> Option<&mut V> {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(handle)?;
        *used = self.uses;
        Some(value)
    }

    fn remove(&mut self, handle: &Bytes) -> Option<V> {
        self.entries.remove(handle).map(|(_, value)| value)
    }

    fn values(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_makes_room() {
        let mut map = Bounded::new(2);
        let (first, second, third) = (Bytes::from("1"), Bytes::from("2"), Bytes::from("3"));
        map.insert(first.clone(), 1);
        map.insert(second.clone(), 2);
        assert_eq!(map.get(&first), Some(&mut 1));
        map.insert(third.clone(), 3);
        assert_eq!(map.get(&second), None);
        assert_eq!(map.get(&first), Some(&mut 1));
        assert_eq!(map.get(&third), Some(&mut 3));
    }

    #[test]
    fn two_processes_give_out_different_handles() {
        assert_ne!(Handles::new().next(), Handles::new().next());
    }
}
