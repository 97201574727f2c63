//! Rows from the asynchronous store to the blocking thread that DuckDB runs on, one run at a time, as they are asked for.

use arrow::array::RecordBatch;
use futures::StreamExt;
use parquet::arrow::arrow_reader::RowSelection;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::error::{Error, Result};
use crate::rows::Run;
use crate::sinks::ReadRun;

/// Batches that wait for DuckDB, so that the next are read and decoded while one is written.
const AHEAD: usize = 4;

/// A run, and which of its rows, if not all.
type Asked = (Run, Option<RowSelection>);

/// The asking end, on DuckDB's thread.
pub(super) struct Runs {
    asked: Sender<Asked>,
    answers: Receiver<Result<Option<RecordBatch>>>,
}

/// The answering end, in the task of the caller.
pub(super) struct Feed {
    asked: Receiver<Asked>,
    answers: Sender<Result<Option<RecordBatch>>>,
}

/// Two ends of a feed.
pub(super) fn feed() -> (Runs, Feed) {
    let (ask, asked) = channel(1);
    let (answer, answers) = channel(AHEAD);
    (Runs { asked: ask, answers }, Feed { asked, answers: answer })
}

impl Runs {
    /// Gives every batch of a run's rows, or of those that are selected, to `each`, in file order.
    ///
    /// # Errors
    /// The first failure of the store or of `each`, and [`Error::Interrupted`] if the caller has gone away. After an
    /// error the feed is of no more use.
    pub(super) fn read(
        &mut self,
        run: &Run,
        rows: Option<RowSelection>,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        self.asked.blocking_send((run.clone(), rows)).map_err(|_| Error::Interrupted)?;
        while let Some(batch) = self.answers.blocking_recv().ok_or(Error::Interrupted)?? {
            each(batch)?;
        }
        Ok(())
    }
}

impl Feed {
    /// Answers until nobody asks any more.
    pub(super) async fn serve(mut self, runs: &dyn ReadRun) {
        while let Some((run, rows)) = self.asked.recv().await {
            let mut batches = runs.read(&run, rows);
            while let Some(batch) = batches.next().await {
                if self.answers.send(batch.map(Some)).await.is_err() {
                    return;
                }
            }
            if self.answers.send(Ok(None)).await.is_err() {
                return;
            }
        }
    }
}
