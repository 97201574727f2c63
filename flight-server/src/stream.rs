//! One result on its way to a client: the plan runs, is cast and encoded on the query threads, or here where that is light, and waits
//! in a short queue for the connection. A client that reads slowly slows the plan down; one that goes away stops it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::{FutureExt, Stream, StreamExt};
use lakebed_query::Interrupt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tonic::Status;

use crate::admission::{Admission, Turn};
use crate::messages::{self, Coalescer, Encoder, Message};
use crate::metrics::Metrics;
use crate::plans::Planned;
use crate::runtime::{self, StopOnDrop};
use crate::service::Shared;
use crate::statements::Redeemed;
use crate::status;
use crate::wire::{self, wire_batch, wire_schema};

/// What DoGet answers with.
pub(crate) type Batches = Messages<Message>;

/// Messages that wait for the connection: with 1–2 MiB each, what one stream holds in memory.
const QUEUE: usize = 3;

/// Where the first rows are not there so soon, the schema goes before them: until then a client cannot even break off.
const SOON: Duration = Duration::from_millis(50);

/// A client that reads nothing for so long has its result broken off.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// And where there is no more memory for one that pauses, for so long.
const LONGEST_STAND: Duration = Duration::from_secs(5);

enum Piece<M> {
    Message(M),
    /// Without it, a plan that broke off would look like one that ended.
    End,
}

/// From batches of one schema to the messages of a protocol.
pub(crate) trait Encode: Send + 'static {
    type Message: Send + 'static;

    /// Whether encoding does no more than copy: then an answer that is light to compute is light to send.
    const COPIES: bool;

    /// Rows of a batch that are encoded at once: what they are then may be far more than they were.
    fn rows_at_once(&self) -> usize {
        usize::MAX
    }

    /// What comes before all batches.
    fn begin(&mut self) -> Result<Vec<Self::Message>, ArrowError>;

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Self::Message>, ArrowError>;

    /// What comes after all batches.
    fn end(self) -> Result<Vec<Self::Message>, ArrowError>;

    fn bytes(message: &Self::Message) -> usize;
}

impl Encode for Encoder {
    type Message = Message;

    const COPIES: bool = true;

    fn begin(&mut self) -> Result<Vec<Message>, ArrowError> {
        Ok(vec![self.schema()])
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Message>, ArrowError> {
        Self::batch(self, batch)
    }

    fn end(self) -> Result<Vec<Message>, ArrowError> {
        Ok(Vec::new())
    }

    fn bytes(message: &Message) -> usize {
        message.bytes()
    }
}

/// Messages of one result.
pub(crate) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Starts a plan and returns its messages, once the first of them is there, or the end.
///
/// # Errors
/// The status of a plan that cannot be started.
pub(crate) async fn results<E: Encode>(
    Redeemed { planned, mut reading }: Redeemed,
    shared: &Shared,
    encoder: impl FnOnce(&SchemaRef) -> Result<E, Status> + Send + 'static,
) -> Result<Messages<E::Message>, Status> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let active = shared.metrics.stream_started();
    let (metrics, admission) = (Arc::clone(&shared.metrics), Arc::clone(&shared.admission));
    let is_light = E::COPIES && matches!(planned.plans.as_slice(), [plan] if plan.is_light());
    let threads = (!is_light).then(|| shared.threads.clone());
    let mut work = Box::pin(async move {
        let interrupt = CallOffOnDrop(Arc::default());
        let (stopping, to) = (Arc::clone(&interrupt.0), sender.clone());
        let producing = async move {
            let _active = active;
            produce(&planned, encoder(&planned.schema)?, &to, &metrics, &admission, stopping).await
        };
        let producing = async move {
            match threads {
                // In a task of its own: one that computes for long keeps nobody from calling it off.
                Some(threads) => threads.run(producing).await.flatten(),
                None => AssertUnwindSafe(producing).catch_unwind().await.unwrap_or_else(|_| Err(runtime::panicked())),
            }
        };
        let last = tokio::select! {
            produced = producing => produced.map(|()| Piece::End),
            status = reading.called_off() => Err(status),
        };
        // A client that has gone does not hear the end.
        let _ = sender.send(last).await;
    });
    // Waking one thread, and being woken by it, would take longer than the whole of what is light: as much of it as goes into the
    // queue is done here. A client that does not take it is waited for elsewhere.
    let is_done = is_light && futures::poll!(&mut work).is_ready();
    let stop = (!is_done).then(|| shared.threads.start(work).1);
    let mut results = Results { pieces: receiver, ended: false, _stop: stop };
    // An error here is the call's own status, which every client shows.
    let first = results.next().await.transpose()?;
    Ok(Box::pin(futures::stream::iter(first.map(Ok)).chain(results)))
}

/// The whole answer to a call whose rows are at hand.
///
/// # Errors
/// Where arrow cannot write one of the types.
pub(crate) fn listing(batch: &RecordBatch, metrics: &Metrics) -> Result<Batches, Status> {
    let messages = messages::encode_all(batch).map_err(|error| status::of_arrow(&error))?;
    metrics.sent(batch.num_rows(), messages.iter().map(Message::bytes).sum());
    Ok(Box::pin(futures::stream::iter(messages.into_iter().map(Ok))))
}

async fn produce<E: Encode>(
    planned: &Planned,
    mut encoder: E,
    sender: &Sender<E::Message>,
    metrics: &Metrics,
    admission: &Admission,
    interrupt: Arc<Interrupt>,
) -> Result<(), Status> {
    let mut sending = Sending { sender, turn: admission.turn().await?, opening: Vec::new() };
    let mut clock = Clock { left: admission.time(), limit: admission.time(), interrupt: Arc::clone(&interrupt) };
    let mut coalescer = Coalescer::new(Arc::clone(&planned.schema));
    let mut begun = false;
    for plan in &planned.plans {
        let started = planned.session.stream_within(plan, admission.memory(), Arc::clone(&interrupt));
        let mut batches = clock.run(started).await?.map_err(|error| status::of_query(&error))?;
        if let Some(difference) = wire::difference(&planned.schema, &wire_schema(&batches.schema(), planned.terms.wire))
        {
            return Err(Status::internal(format!(
                "the plan changed its mind: {difference}; this is a fault of the server"
            )));
        }
        if !std::mem::replace(&mut begun, true) {
            sending.opening = encoder.begin().map_err(|error| status::of_arrow(&error))?;
        }
        let mut next = {
            let mut first = pin!(clock.run(batches.next()));
            match timeout(SOON, &mut first).await {
                Ok(first) => first?,
                Err(_) => {
                    sending.messages::<E>(Ok(Vec::new())).await?;
                    first.await?
                }
            }
        };
        while let Some(batch) = next {
            let batch = batch.map_err(|error| status::of_execution(&error))?;
            let batch = wire_batch(&batch, &planned.schema).map_err(|error| status::of_arrow(&error))?;
            let ready = coalescer.push(batch).map_err(|error| status::of_arrow(&error))?;
            sending.rows(ready, &mut encoder, metrics).await?;
            next = clock.run(batches.next()).await?;
        }
    }
    let rest = coalescer.flush().map_err(|error| status::of_arrow(&error))?;
    sending.rows(rest, &mut encoder, metrics).await?;
    sending.messages::<E>(encoder.end()).await.map(drop)
}

/// Calls a statement off when nobody waits for it any more.
struct CallOffOnDrop(Arc<Interrupt>);

impl Drop for CallOffOnDrop {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

/// The time that a statement has left.
struct Clock {
    left: Duration,
    limit: Duration,
    interrupt: Arc<Interrupt>,
}

impl Clock {
    async fn run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Status> {
        let began = Instant::now();
        self.interrupt.end_at(Some(began + self.left));
        let done = timeout(self.left, work).await;
        self.interrupt.end_at(None);
        self.left = self.left.saturating_sub(began.elapsed());
        // What was interrupted at its end has an error of its own.
        done.ok().filter(|_| !self.left.is_zero()).ok_or_else(|| {
            let seconds = self.limit.as_secs_f64();
            Status::deadline_exceeded(format!(
                "the statement took more than the {seconds} s that one may\nhint: ask for less, or raise [serve] query_seconds"
            ))
        })
    }
}

type Sender<M> = mpsc::Sender<Result<Piece<M>, Status>>;

/// The plan's end of the queue.
struct Sending<'a, M> {
    sender: &'a Sender<M>,
    turn: Turn,
    /// What goes before everything else, and with it: a client that is woken for a schema alone is woken once too often.
    opening: Vec<M>,
}

impl<M: Send + 'static> Sending<'_, M> {
    async fn rows<E: Encode<Message = M>>(
        &mut self,
        batches: Vec<RecordBatch>,
        encoder: &mut E,
        metrics: &Metrics,
    ) -> Result<(), Status> {
        let most = encoder.rows_at_once();
        for batch in batches {
            let rows = batch.num_rows();
            for from in (0..rows).step_by(most) {
                let piece = if rows <= most { batch.clone() } else { batch.slice(from, most.min(rows - from)) };
                let bytes = self.messages::<E>(encoder.batch(&piece)).await?;
                metrics.sent(piece.num_rows(), bytes);
            }
        }
        Ok(())
    }

    /// Sends messages; gives their bytes.
    async fn messages<E: Encode<Message = M>>(
        &mut self,
        messages: Result<Vec<M>, ArrowError>,
    ) -> Result<usize, Status> {
        let mut bytes = 0;
        let messages = messages.map_err(|error| status::of_arrow(&error))?;
        for message in std::mem::take(&mut self.opening).into_iter().chain(messages) {
            bytes += E::bytes(&message);
            self.message(message).await?;
        }
        Ok(bytes)
    }

    /// Sends a message. While the client has not read those before it, others have the turn.
    async fn message(&mut self, message: M) -> Result<(), Status> {
        let room = match self.sender.try_reserve() {
            Ok(room) => room,
            Err(TrySendError::Closed(())) => return Err(gone()),
            Err(TrySendError::Full(())) => {
                let pause = if self.turn.give() { LONGEST_PAUSE } else { LONGEST_STAND };
                let room = timeout(pause, self.sender.reserve()).await;
                let room = room.map_err(|_| match pause {
                    LONGEST_PAUSE => Status::deadline_exceeded("the client has stopped reading"),
                    _ => status::come_again("too many results wait for clients that read slowly, this one among them"),
                })?;
                let room = room.map_err(|_| gone())?;
                self.turn.take_again().await;
                room
            }
        };
        room.send(Ok(Piece::Message(message)));
        Ok(())
    }
}

fn gone() -> Status {
    Status::cancelled("the client has gone")
}

/// The client's end of the queue. Dropping it stops the plan.
struct Results<M> {
    pieces: mpsc::Receiver<Result<Piece<M>, Status>>,
    ended: bool,
    _stop: Option<StopOnDrop>,
}

impl<M> Stream for Results<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.pieces.poll_recv(context));
        let item = match piece {
            Some(Ok(Piece::Message(message))) => return Poll::Ready(Some(Ok(message))),
            Some(Ok(Piece::End)) => None,
            Some(Err(status)) => Some(Err(status)),
            None => Some(Err(broken_off())),
        };
        self.ended = true;
        Poll::Ready(item)
    }
}

fn broken_off() -> Status {
    Status::unavailable("the result broke off before its end\nhint: send the statement again")
}
