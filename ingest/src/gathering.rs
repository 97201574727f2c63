//! Batches that come while others are being appended wait for them, and then go into the log together: the more there are, the
//! fewer files and commits are made of each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use lakebed_log::{Ack, Appended, Batch};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::Error;
use crate::intake::{Intake, Prepared, Tally};

/// The most that goes together: batches, and the bytes of memory that they take once they are decoded. So many bytes wait for
/// nobody.
const MOST_BATCHES: usize = 64;
const MOST_BYTES: usize = 32 << 20;

/// So many appends go on at once at most: the rest is up to the memory for what is on its way.
const MOST_AT_WORK: usize = 8;

/// The way into a log for batches that come from many senders at once. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Gathering {
    intake: Intake,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// The bytes of what waits.
    bytes: usize,
    /// How many appends go on.
    at_work: usize,
}

/// A batch whose sender waits.
struct Waiting {
    batch: Arc<Batch>,
    bytes: usize,
    ack: Ack,
    answer: oneshot::Sender<Result<Appended, lakebed_log::Error>>,
    /// The room that it takes, whether its sender still waits or not.
    held: Option<OwnedSemaphorePermit>,
}

impl Gathering {
    pub(crate) fn new(intake: Intake) -> Self {
        Self { intake, state: Arc::default() }
    }

    /// Appends a batch, with those that wait at the same time. `held` is given back when that has been done.
    ///
    /// # Errors
    /// As [`Intake::append`].
    pub(crate) async fn append(
        &self,
        prepared: &Prepared,
        ack: Ack,
        held: Option<OwnedSemaphorePermit>,
    ) -> Result<Tally, Error> {
        let (answer, told) = oneshot::channel();
        let (batch, bytes) = (Arc::clone(prepared.batch()), prepared.memory());
        let begins = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.waiting.push_back(Waiting { batch, bytes, ack, answer, held });
            state.bytes += bytes;
            let begins = state.at_work == 0 || state.bytes >= MOST_BYTES && state.at_work < MOST_AT_WORK;
            state.at_work += usize::from(begins);
            begins
        };
        if begins {
            tokio::spawn(self.clone().work());
        }
        match told.await {
            Ok(appended) => Ok(prepared.tally(appended?)),
            Err(_) => Err(Error::Ending),
        }
    }

    /// Appends what waits, until nothing does.
    async fn work(self) {
        while let Some(group) = self.next() {
            let batches: Vec<_> = group.iter().map(|waiting| Arc::clone(&waiting.batch)).collect();
            let ack = group.first().map_or(Ack::default(), |first| first.ack);
            let (log, at) = (self.intake.log().clone(), self.intake.now());
            // On a task of its own: should it die, those who wait are told.
            match tokio::spawn(async move { log.append_together(&batches, ack, at).await }).await {
                Ok(appended) => {
                    for (waiting, appended) in group.into_iter().zip(appended) {
                        waiting.tell(appended);
                    }
                }
                Err(died) => {
                    let died = Arc::new(lakebed_log::Error::from(died));
                    group.into_iter().for_each(|waiting| waiting.tell(Err(Arc::clone(&died).into())));
                }
            }
        }
    }

    /// Who goes next, together. `None` where nobody waits, or too few for another append beside those that go on; and then one fewer
    /// goes on.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.at_work > 1 && state.bytes < MOST_BYTES {
            state.at_work -= 1;
            return None;
        }
        let group = together(&mut state.waiting);
        state.bytes -= group.iter().map(|waiting| waiting.bytes).sum::<usize>();
        state.at_work -= usize::from(group.is_empty());
        Some(group).filter(|group| !group.is_empty())
    }
}

impl Waiting {
    fn tell(self, appended: Result<Appended, lakebed_log::Error>) {
        // The room is free before the sender hears of it, and may come again.
        drop(self.held);
        // Who has gone away is not told.
        drop(self.answer.send(appended));
    }
}

/// Takes those that go together: the first, and those behind it that wait for the same, as far as they fit.
fn together(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let ack = waiting.front().map(|first| first.ack);
    let (mut group, mut left, mut bytes, mut is_full) = (Vec::new(), VecDeque::new(), 0, false);
    for next in waiting.drain(..) {
        let waits_for_it = Some(next.ack) == ack;
        let fits = group.is_empty() || group.len() < MOST_BATCHES && bytes + next.bytes <= MOST_BYTES;
        // None overtakes another that waits for the same.
        is_full |= waits_for_it && !fits;
        if waits_for_it && !is_full {
            bytes += next.bytes;
            group.push(next);
        } else {
            left.push_back(next);
        }
    }
    *waiting = left;
    group
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use lakebed_log::{BatchId, Log, Store};
    use lakebed_project::Config;

    use super::*;
    use crate::frame::frame_text;

    /// A batch of one event.
    fn prepared(intake: &Intake, name: &str) -> Prepared {
        let text = format!(r#"{{"event_id":"{name}","event_type":"t","event_time":"2026-11-01T00:00:00Z"}}"#);
        let settings = intake.settings();
        Prepared::new(&frame_text(text.as_bytes(), &settings).unwrap(), BatchId::new(name), "test", &settings)
    }

    fn waiting(intake: &Intake, bytes: usize, ack: Ack) -> Waiting {
        let (answer, _) = oneshot::channel();
        Waiting { batch: Arc::clone(prepared(intake, "w").batch()), bytes, ack, answer, held: None }
    }

    async fn intake() -> Intake {
        let log = Log::open_or_create(Store::memory(), "shop", Utc::now()).await.unwrap();
        Intake::new(log, &Config::default(), Utc::now)
    }

    #[tokio::test]
    async fn those_go_together_that_wait_for_the_same_and_fit() {
        let intake = intake().await;
        let of = |bytes: usize, ack| waiting(&intake, bytes, ack);
        let (durable, committed) = (Ack::Durable, Ack::Committed);
        let mut all: VecDeque<_> = [
            of(1, committed),
            of(2, committed),
            of(3, durable),
            of(5, committed),
            of(2 * MOST_BYTES, committed),
            of(4, committed),
            of(MOST_BYTES - 3, committed),
        ]
        .into();
        let mut groups = Vec::new();
        while !all.is_empty() {
            groups.push(together(&mut all).iter().map(|waiting| waiting.bytes).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![1, 2, 5], vec![3], vec![2 * MOST_BYTES], vec![4], vec![MOST_BYTES - 3]]);
        assert!(together(&mut all).is_empty());
        let mut many: VecDeque<_> = (0..MOST_BATCHES + 1).map(|_| of(1, committed)).collect();
        assert_eq!((together(&mut many).len(), many.len()), (MOST_BATCHES, 1));
    }

    /// Every sender is told of its own batch, and those that came at once share versions.
    #[tokio::test]
    async fn everybody_is_told_of_their_own() {
        let intake = intake().await;
        let gathering = Gathering::new(intake.clone());
        let batches: Vec<_> = (0..100).map(|number| prepared(&intake, &number.to_string())).collect();
        let sent = batches.iter().chain(&batches[..1]);
        let told = futures::future::join_all(sent.map(|batch| gathering.append(batch, Ack::Committed, None))).await;
        let told: Vec<_> = told.into_iter().map(Result::unwrap).collect();
        assert_eq!(told.iter().map(|tally| tally.accepted).sum::<u64>(), 100);
        assert_eq!(told.iter().map(|tally| tally.duplicates).sum::<u64>(), 1);
        let versions = intake.log().versions(u64::MAX).await.unwrap();
        assert!(versions.len() < 10, "{} versions", versions.len());
        assert_eq!(versions.iter().map(|(_, entry)| entry.record.batches.len()).sum::<usize>(), 100);
        let state = gathering.state.lock().unwrap();
        assert_eq!((state.at_work, state.bytes), (0, 0), "nobody works for nobody");
    }
    /// What went on beside the first append, because much was waiting, does not go on with little.
    #[tokio::test]
    async fn many_append_at_once_only_while_much_waits() {
        let intake = intake().await;
        let gathering = Gathering::new(intake.clone());
        let with = |at_work, bytes| {
            let mut state = gathering.state.lock().unwrap();
            (state.at_work, state.bytes) = (at_work, bytes);
            state.waiting = [waiting(&intake, bytes, Ack::Committed)].into();
        };
        with(2, MOST_BYTES - 1);
        assert!(gathering.next().is_none());
        assert_eq!(gathering.state.lock().unwrap().at_work, 1);
        assert_eq!(gathering.next().unwrap().len(), 1, "the last one takes all");
        with(2, MOST_BYTES);
        assert_eq!(gathering.next().unwrap().len(), 1);
        assert_eq!(gathering.state.lock().unwrap().at_work, 2);
    }
}
