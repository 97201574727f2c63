//! What ends a process from outside: Ctrl-C, and the SIGTERM of a service manager.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

/// Resolves at the first SIGINT or SIGTERM. They are listened for from the call on, not from the first poll.
pub(crate) fn stop() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
