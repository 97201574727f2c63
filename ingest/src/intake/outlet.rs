//! Many batches on their way into the log at once: some are read and decoded, some encoded, and one is committed, in their order.

use std::collections::VecDeque;
use std::io::BufRead;
use std::sync::Arc;

use lakebed_log::{Ack, BatchId, Staged};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle};

use super::{Intake, Prepared, Tally};
use crate::error::Error;
use crate::frame::RawBatches;
use crate::raw_batch::RawBatch;
use crate::settings::Settings;

/// So many batches are on their way at a time, at most, however many cores there are: each takes memory.
const MOST_AT_ONCE: usize = 5;

/// Where a producer puts its batches.
pub struct Outlet {
    settings: Arc<Settings>,
    /// For batches on their way, from when they are read until they are appended.
    room: Arc<Semaphore>,
    taken: mpsc::UnboundedSender<Decoding>,
    runtime: Handle,
}

/// A batch that is being decoded, and its room.
struct Decoding {
    prepared: JoinHandle<Prepared>,
    room: OwnedSemaphorePermit,
}

/// A batch whose files are being written, and its room.
struct Staging {
    prepared: Prepared,
    staged: JoinHandle<lakebed_log::Result<Staged>>,
    room: OwnedSemaphorePermit,
}

impl Outlet {
    /// How the events are read.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Hands a batch on, to be decoded by these settings, as soon as there is room for it; blocks. False where nobody takes it any
    /// more, and the producer should return.
    pub fn put(&self, raw: RawBatch, id: BatchId, source: &str, settings: &Arc<Settings>) -> bool {
        self.room().is_some_and(|room| self.hand_on(room, raw, id, source, settings))
    }

    /// Hands on all events of a source, in batches called `id`, `id#2`, … or by the hash of their content; blocks. False where
    /// nobody takes them any more.
    ///
    /// # Errors
    /// [`Error::Read`] where the source fails; what came before it is on its way.
    pub fn put_all(&self, reader: impl BufRead, id: Option<&str>, source: &str) -> Result<bool, Error> {
        let mut batches = (1u64..).zip(RawBatches::new(reader, &self.settings));
        // There is room for a batch before it is read.
        while let Some(room) = self.room() {
            let Some((number, raw)) = batches.next() else { return Ok(true) };
            let raw = raw?;
            let id = batch_id(id, number, &raw);
            if !self.hand_on(room, raw, id, source, &self.settings) {
                break;
            }
        }
        Ok(false)
    }

    fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.runtime.block_on(Arc::clone(&self.room).acquire_owned()).ok()
    }

    fn hand_on(
        &self,
        room: OwnedSemaphorePermit,
        raw: RawBatch,
        id: BatchId,
        source: &str,
        settings: &Arc<Settings>,
    ) -> bool {
        let (source, settings) = (source.to_owned(), Arc::clone(settings));
        let prepared = self.runtime.spawn_blocking(move || Prepared::new(&raw, id, &source, &settings));
        self.taken.send(Decoding { prepared, room }).is_ok()
    }
}

impl Intake {
    /// Appends every batch that `produce` puts into its outlet, in that order. It runs on a thread of its own; a few batches are
    /// on their way at a time, so that some are decoded and encoded while another is committed.
    /// `each` is told how many events were appended.
    ///
    /// # Errors
    /// What `produce` says; what an append says, and then nothing is taken from the outlet any more.
    pub async fn take<P, E>(&self, ack: Ack, each: impl FnMut(u64), produce: P) -> Result<Tally, E>
    where
        P: FnOnce(&Outlet) -> Result<(), E> + Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (tally, outcome) = self.take_what_can_be(ack, each, produce).await;
        outcome.map(|()| tally)
    }

    /// As [`Intake::take`], for who tells what was appended before something failed: the tally has that, whatever the outcome.
    pub async fn take_what_can_be<P, E>(
        &self,
        ack: Ack,
        mut each: impl FnMut(u64),
        produce: P,
    ) -> (Tally, Result<(), E>)
    where
        P: FnOnce(&Outlet) -> Result<(), E> + Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let room = Arc::new(Semaphore::new((cores + 1).min(MOST_AT_ONCE)));
        let (taken, mut decoding) = mpsc::unbounded_channel();
        let settings = Arc::new(self.settings());
        let outlet = Outlet { settings, room: Arc::clone(&room), taken, runtime: Handle::current() };
        let producer = tokio::task::spawn_blocking(move || produce(&outlet));
        let mut tally = Tally::default();
        let taken = self.take_all(&mut decoding, ack, (&mut tally, &mut each)).await;
        // A producer that waits for room is told that there will be none.
        room.close();
        let outcome = match taken {
            Ok(()) => producer.await.map_err(|died| E::from(Error::from(died))).and_then(|produced| produced),
            Err(error) => Err(E::from(error)),
        };
        (tally, outcome)
    }

    async fn take_all(
        &self,
        decoding: &mut mpsc::UnboundedReceiver<Decoding>,
        ack: Ack,
        (tally, each): (&mut Tally, &mut impl FnMut(u64)),
    ) -> Result<(), Error> {
        let mut staging = VecDeque::<Staging>::new();
        let (mut all_read, mut failed) = (false, None);
        loop {
            // Without an oldest one, there is nothing to finish.
            let oldest = async { staging.front_mut().map(|oldest| &mut oldest.staged)?.await.into() };
            tokio::select! {
                decoded = decoding.recv(), if !all_read => match decoded {
                    Some(decoding) => match self.begin(decoding).await {
                        Ok(begun) => staging.push_back(begun),
                        // What came before it is finished.
                        Err(error) => (all_read, failed) = (true, Some(error)),
                    },
                    None => all_read = true,
                },
                Some(staged) = oldest => {
                    let staged: std::result::Result<_, JoinError> = staged;
                    let appended = staged??.finish(ack).await?;
                    if let Some(Staging { prepared, room, .. }) = staging.pop_front() {
                        tally.add(&prepared.tally(appended));
                        each(prepared.events());
                        drop((prepared, room));
                    }
                }
                else => return failed.map_or(Ok(()), Err),
            }
        }
    }

    /// Waits until a batch is decoded, and begins its append.
    async fn begin(&self, Decoding { prepared, room }: Decoding) -> Result<Staging, Error> {
        let prepared = prepared.await?;
        let begun = self.log.begin(Arc::clone(&prepared.batch), (self.clock)()).await?;
        Ok(Staging { prepared, staged: tokio::spawn(begun.stage()), room })
    }
}

/// The id of a source's batch: the sender's, numbered from the second on, or that of its content.
fn batch_id(id: Option<&str>, number: u64, raw: &RawBatch) -> BatchId {
    match id {
        None => BatchId::of_content(raw.content()),
        Some(id) if number == 1 => BatchId::new(id),
        Some(id) => BatchId::new(format!("{id}#{number}")),
    }
}
