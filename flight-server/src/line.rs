//! A line before something that only so many can do at once; it has an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns, and those who wait for one.
pub(crate) struct Line {
    turns: Arc<Semaphore>,
    at_once: usize,
    waiting: AtomicUsize,
    most: usize,
}

/// So many wait already, that nobody else may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

impl Line {
    /// `at_once` turns, for which `most` may wait.
    pub(crate) fn new(at_once: usize, most: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), at_once, waiting: AtomicUsize::new(0), most }
    }

    /// How many have their turn.
    pub(crate) fn taken(&self) -> usize {
        self.at_once - self.turns.available_permits()
    }

    /// How many wait for theirs.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits for a turn, which lasts until what is returned is dropped.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, TooLong> {
        if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
            return Ok(turn);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if before >= self.most {
            return Err(TooLong(before));
        }
        // It is never closed.
        Arc::clone(&self.turns).acquire_owned().await.map_err(|_| TooLong(before))
    }
}

/// A place in the line.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_at_once_others_wait_and_the_rest_are_told() {
        let line = Arc::new(Line::new(1, 1));
        let first = line.turn().await.unwrap();
        let waiting = Arc::clone(&line);
        let waiting = tokio::spawn(async move { waiting.turn().await.is_ok() });
        while line.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(line.turn().await.unwrap_err(), TooLong(1));
        drop(first);
        assert!(waiting.await.unwrap());
        assert_eq!(line.waiting(), 0);
    }
}
