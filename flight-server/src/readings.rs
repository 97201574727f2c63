//! Results that are being read, so that whoever asked can call them off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tonic::Status;

use crate::bounded::{Bounded, locked};

/// Tickets that were called off, of which it is remembered.
const CALLED_OFF: usize = 4_096;

/// A word for each result that is being read, by the number of its ticket.
type Words = Mutex<HashMap<u64, Vec<oneshot::Sender<()>>>>;

/// The results of tickets, by the tickets' numbers.
pub(crate) struct Readings {
    words: Arc<Words>,
    called_off: Mutex<Bounded<u64, ()>>,
}

impl Readings {
    pub(crate) fn new() -> Self {
        Self { words: Arc::default(), called_off: Mutex::new(Bounded::new(CALLED_OFF)) }
    }

    /// Begins to read what a ticket is for.
    ///
    /// # Errors
    /// CANCELLED for one that was called off.
    pub(crate) fn begin(&self, ticket: u64) -> Result<Reading, Status> {
        let mut words = locked(&self.words);
        if locked(&self.called_off).get(&ticket).is_some() {
            return Err(called_off());
        }
        let (word, called_off) = oneshot::channel();
        words.entry(ticket).or_default().push(word);
        Ok(Reading { called_off, of: Some((ticket, Arc::clone(&self.words))) })
    }

    /// Stops what is being read of a ticket, and lets nobody begin any more. Says whether there was anything to stop.
    pub(crate) fn call_off(&self, ticket: u64) -> bool {
        let mut words = locked(&self.words);
        locked(&self.called_off).insert(ticket, ());
        let words = words.remove(&ticket).unwrap_or_default();
        // Each is to hear it.
        words.into_iter().map(|word| word.send(()).is_ok()).fold(false, |any, heard| any | heard)
    }
}

/// One result that is being read.
pub(crate) struct Reading {
    called_off: oneshot::Receiver<()>,
    of: Option<(u64, Arc<Words>)>,
}

impl Reading {
    /// One of no ticket: nobody can call it off.
    pub(crate) fn of_no_ticket() -> Self {
        Self { called_off: oneshot::channel().1, of: None }
    }

    /// Resolves once it is called off.
    pub(crate) async fn called_off(&mut self) -> Status {
        match (&mut self.called_off).await {
            Ok(()) => called_off(),
            // Nobody can say the word any more.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Some((ticket, words)) = &self.of else { return };
        self.called_off.close();
        let mut words = locked(words);
        if let Some(of_ticket) = words.get_mut(ticket) {
            of_ticket.retain(|word| !word.is_closed());
            if of_ticket.is_empty() {
                words.remove(ticket);
            }
        }
    }
}

/// The status of a result that was called off.
fn called_off() -> Status {
    Status::cancelled("the statement was cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_reading_of_a_ticket_hears_the_word_and_none_is_remembered_after_its_end() {
        let readings = Readings::new();
        let (mut first, second) = (readings.begin(7).unwrap(), readings.begin(7).unwrap());
        drop(second);
        assert_eq!(locked(&readings.words)[&7].len(), 1);
        assert!(readings.call_off(7));
        assert_eq!(first.called_off().await.code(), tonic::Code::Cancelled);
        assert!(readings.begin(7).is_err() && !readings.call_off(7));
        drop(readings.begin(8).unwrap());
        drop(first);
        assert!(locked(&readings.words).is_empty());
    }
}
