//! Who is computed, and with how much: so many statements at once, each within its memory and its time. Others wait in line, and
//! where the line is too long they are asked to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, MemoryReservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::line::{Line, TooLong};
use crate::status;

/// What statements may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many are computed at once, and as many again of those whose client was slow.
    pub at_once: usize,
    /// So many wait at most.
    pub waiting: usize,
    /// Bytes that one may hold.
    pub memory: usize,
    /// Bytes that all may hold together.
    pub memory_of_all: usize,
    /// How long one may be computed. Waiting for its turn and for a client that reads slowly does not count.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_once: 16, waiting: 1_000, memory: 1 << 30, memory_of_all: 4 << 30, time: Duration::from_secs(300) }
    }
}

/// The line, and what is left of the memory.
pub(crate) struct Admission {
    limits: Limits,
    line: Line,
    /// As many for those who had to wait for their client: they hold memory, and are not to stand in line again.
    again: Arc<Semaphore>,
    /// Places for those who wait for their client.
    pauses: Arc<Semaphore>,
    memory: Arc<dyn MemoryPool>,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            line: Line::new(limits.at_once, limits.waiting),
            again: Arc::new(Semaphore::new(limits.at_once)),
            pauses: Arc::new(Semaphore::new((limits.memory_of_all / 2 / OF_A_PAUSE).max(1))),
            memory: Arc::new(GreedyMemoryPool::new(limits.memory_of_all)),
        }
    }

    /// How many statements are being computed.
    pub(crate) fn running(&self) -> usize {
        self.line.taken() + self.limits.at_once - self.again.available_permits()
    }

    /// How many wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.line.waiting()
    }

    /// How long a statement may be computed.
    pub(crate) fn time(&self) -> Duration {
        self.limits.time
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED, with the time to come again, where too many wait already.
    pub(crate) async fn turn(&self) -> Result<Turn, Status> {
        let taken = self.line.turn().await.map_err(|TooLong(waiting)| {
            let computed = self.limits.at_once;
            status::come_again(&format!("{computed} statements are computed and {waiting} wait for their turn already"))
        })?;
        let (again, pauses) = (Arc::clone(&self.again), Arc::clone(&self.pauses));
        Ok(Turn { again, pauses, taken: Some(taken), pausing: None })
    }

    /// Memory for one statement.
    pub(crate) fn memory(&self) -> Arc<dyn MemoryPool> {
        Arc::new(OneOfMany { all: Arc::clone(&self.memory), limit: self.limits.memory, used: AtomicUsize::new(0) })
    }
}

/// What a result that waits for its client holds: batches of wide rows in each step of its plan. Seen: 50 to 170 MB.
const OF_A_PAUSE: usize = 64 << 20;

/// The right to be computed now. Whoever waits for a client gives it to others meanwhile.
pub(crate) struct Turn {
    again: Arc<Semaphore>,
    pauses: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    pausing: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Gives it to others; says whether: so many may wait for their clients already that no more memory is to be held for one.
    pub(crate) fn give(&mut self) -> bool {
        self.pausing = Arc::clone(&self.pauses).try_acquire_owned().ok();
        if self.pausing.is_some() {
            self.taken = None;
        }
        self.pausing.is_some()
    }

    /// Who has begun does not wait for those who wait to begin: what it holds is there already.
    pub(crate) async fn take_again(&mut self) {
        if self.taken.is_none() {
            self.taken = Arc::clone(&self.again).acquire_owned().await.ok();
        }
        self.pausing = None;
    }
}

/// A bound for one statement within that for all.
#[derive(Debug)]
struct OneOfMany {
    all: Arc<dyn MemoryPool>,
    limit: usize,
    used: AtomicUsize,
}

impl std::fmt::Display for OneOfMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "statement({} of {})", self.reserved(), self.limit)
    }
}

impl MemoryPool for OneOfMany {
    fn name(&self) -> &str {
        "statement"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.all.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.all.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        let before = self.used.fetch_add(additional, Ordering::Relaxed);
        let grown = match before + additional <= self.limit {
            true => self.all.try_grow(reservation, additional),
            false => {
                let message = format!("a statement may hold {} bytes, and this one needs more", self.limit);
                Err(DataFusionError::ResourcesExhausted(message))
            }
        };
        if grown.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        grown
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;

    #[tokio::test]
    async fn so_many_at_once_others_wait_and_the_rest_come_again() {
        let admission = Admission::new(Limits { at_once: 1, waiting: 1, ..Limits::default() });
        let mut first = admission.turn().await.unwrap();
        let mut waiting = std::pin::pin!(admission.turn());
        assert!(futures::poll!(&mut waiting).is_pending());
        let refused = admission.turn().await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert_eq!(refused.metadata().get(status::PUSHBACK).unwrap(), "1000");
        assert!(first.give());
        assert!(waiting.await.is_ok());
        first.take_again().await;
    }

    #[tokio::test]
    async fn so_many_wait_for_their_clients_as_memory_is_there_for() {
        let admission = Admission::new(Limits { memory_of_all: 4 * OF_A_PAUSE, ..Limits::default() });
        let mut turns = Vec::new();
        for _ in 0..3 {
            turns.push(admission.turn().await.unwrap());
        }
        assert_eq!(turns.iter_mut().map(Turn::give).collect::<Vec<_>>(), [true, true, false]);
        turns[0].take_again().await;
        assert!(turns[2].give());
        turns.remove(1);
        assert!(turns[0].give(), "who is gone waits no more");
    }

    #[test]
    fn a_statement_has_its_own_bound_and_that_of_all() {
        let admission = Admission::new(Limits { memory: 100, memory_of_all: 150, ..Limits::default() });
        let (first, second) = (admission.memory(), admission.memory());
        let of_first = MemoryConsumer::new("a").register(&first);
        let of_second = MemoryConsumer::new("b").register(&second);
        of_first.try_grow(90).unwrap();
        assert!(of_first.try_grow(20).is_err(), "its own bound");
        assert!(of_second.try_grow(70).is_err(), "that of all");
        of_second.try_grow(60).unwrap();
        drop(of_first);
        of_second.try_grow(40).unwrap();
        assert_eq!((first.reserved(), second.reserved()), (0, 100));
    }
}
