//! One result on its way to a client: the plan runs, is cast and encoded on the query threads, and waits in a
//! short queue for the connection. A client that reads slowly slows the plan down; one that goes away stops it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::messages::{self, Coalescer, Encoder};
use crate::metrics::Metrics;
use crate::runtime::{QueryThreads, StopOnDrop};
use crate::statements::Planned;
use crate::status;
use crate::wire::{self, wire_batch, wire_schema};

/// What DoGet answers with.
pub(crate) type FlightDataStream = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

/// Messages that wait for the connection: with 1–2 MiB each, what one stream holds in memory.
const QUEUE: usize = 3;

enum Piece {
    Message(FlightData),
    /// Without it, a plan that broke off would look like one that ended.
    End,
}

/// Starts a plan and returns its messages, once the first of them is there.
///
/// # Errors
/// The status of a plan that cannot be started.
pub(crate) async fn results(
    planned: Arc<Planned>,
    threads: &QueryThreads,
    metrics: &Arc<Metrics>,
) -> Result<FlightDataStream, Status> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let active = metrics.stream_started();
    let metrics = Arc::clone(metrics);
    let (_task, stop) = threads.start(async move {
        let _active = active;
        let last = match produce(&planned, &sender, &metrics).await {
            Ok(()) => Ok(Piece::End),
            Err(status) => Err(status),
        };
        // A client that has gone does not hear the end.
        let _ = sender.send(last).await;
    });
    let mut results = Results { pieces: receiver, ended: false, _stop: stop };
    // The schema, or why there is none: an error here is the call's own status, which every client shows.
    let first = results.next().await.unwrap_or_else(|| Err(broken_off()))?;
    Ok(Box::pin(futures::stream::iter([Ok(first)]).chain(results)))
}

/// The whole answer to a call whose rows are at hand.
///
/// # Errors
/// Where arrow cannot write one of the types.
pub(crate) fn listing(batch: &RecordBatch, metrics: &Metrics) -> Result<FlightDataStream, Status> {
    let messages = messages::encode_all(batch).map_err(|error| status::of_arrow(&error))?;
    metrics.sent(batch.num_rows(), messages.iter().map(messages::message_bytes).sum());
    Ok(Box::pin(futures::stream::iter(messages.into_iter().map(Ok))))
}

async fn produce(planned: &Planned, sender: &Sender, metrics: &Metrics) -> Result<(), Status> {
    let plan = planned.plan.clone();
    let mut batches = planned.session.stream(plan).await.map_err(|error| status::of_query(&error))?;
    if let Some(difference) = wire::difference(&planned.schema, &wire_schema(&batches.schema())) {
        return Err(Status::internal(format!(
            "the plan changed its mind: {difference}; this is a fault of the server"
        )));
    }
    let mut encoder = Encoder::new(Arc::clone(&planned.schema));
    let mut coalescer = Coalescer::new(Arc::clone(&planned.schema));
    if sender.send(Ok(Piece::Message(encoder.schema()))).await.is_err() {
        return Ok(());
    }
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|error| status::of_execution(&error))?;
        let batch = wire_batch(&batch, &planned.schema).map_err(|error| status::of_arrow(&error))?;
        let ready = coalescer.push(batch).map_err(|error| status::of_arrow(&error))?;
        send(ready, &mut encoder, sender, metrics).await?;
    }
    let rest = coalescer.flush().map_err(|error| status::of_arrow(&error))?;
    send(rest, &mut encoder, sender, metrics).await
}

type Sender = mpsc::Sender<Result<Piece, Status>>;

async fn send(
    batches: Vec<RecordBatch>,
    encoder: &mut Encoder,
    sender: &Sender,
    metrics: &Metrics,
) -> Result<(), Status> {
    for batch in batches {
        let mut bytes = 0;
        for message in encoder.batch(&batch).map_err(|error| status::of_arrow(&error))? {
            bytes += messages::message_bytes(&message);
            let sent = sender.send(Ok(Piece::Message(message))).await;
            sent.map_err(|_| Status::cancelled("the client has gone"))?;
        }
        metrics.sent(batch.num_rows(), bytes);
    }
    Ok(())
}

/// The client's end of the queue. Dropping it stops the plan.
struct Results {
    pieces: mpsc::Receiver<Result<Piece, Status>>,
    ended: bool,
    _stop: StopOnDrop,
}

impl Stream for Results {
    type Item = Result<FlightData, Status>;

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
