//! The threads that plan and run statements, but for light ones, apart from those that serve connections: a heavy query must not
//! delay a ping, a login or a health check.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinHandle};
use tonic::Status;

use crate::error::{Error, Result};

/// A runtime of its own that can be dropped inside another one.
pub(crate) struct QueryRuntime {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl QueryRuntime {
    /// One thread per core.
    ///
    /// # Errors
    /// [`Error::QueryThreads`] where the system gives no threads.
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("lakebed-query")
            .thread_stack_size(lakebed_query::statement::STACK)
            .enable_all()
            .build()
            .map_err(Error::QueryThreads)?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// What requests hold: it can start work, but does not keep the threads alive.
    pub(crate) fn threads(&self) -> QueryThreads {
        QueryThreads(self.handle.clone())
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // Waiting for the threads is not allowed inside another runtime, where a server usually ends.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts work on the query threads.
#[derive(Clone)]
pub(crate) struct QueryThreads(Handle);

impl QueryThreads {
    /// Runs `work` and waits for it; dropping the returned future stops the work.
    ///
    /// # Errors
    /// UNAVAILABLE where the server is stopping, INTERNAL where the work broke off.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Status> {
        let (task, _stop) = self.start(work);
        task.await.map_err(|broken| match broken.is_cancelled() {
            true => Status::unavailable("the server is stopping"),
            false => panicked(),
        })
    }

    /// Starts `work`, which lasts until it ends or the guard is dropped.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> (JoinHandle<T>, StopOnDrop) {
        let task = self.0.spawn(work);
        let stop = StopOnDrop(task.abort_handle());
        (task, stop)
    }
}

/// The status of work that panicked.
pub(crate) fn panicked() -> Status {
    Status::internal("the work on this request broke off; this is a fault of the server")
}

/// Stops a task when nobody waits for it any more.
pub(crate) struct StopOnDrop(AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
