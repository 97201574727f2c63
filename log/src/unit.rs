//! Units of several batches: those that come at the same moment share their data files, their place in the inbox and their commit.
//!
//! A unit comes into the log whole or not at all. Its batches have receipts that this process put and that name it, so that nobody
//! else commits one of them alone while it may still come: who wants to puts an empty object in its place in the inbox first,
//! and then it cannot be announced any more. Whoever is in doubt sends each batch alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use futures::future::join_all;

use crate::append::{Ack, Appended, is_recent};
use crate::batch::Batch;
use crate::encoding::Claimed;
use crate::error::{Error, Result};
use crate::inbox::Receipt;
use crate::log::Log;

impl Log {
    /// Appends batches that came at the same moment, at the time `at`; gives what became of each, in order, as
    /// [`Log::append`] does.
    ///
    /// Those that nobody has sent before become one unit: a file for each of its days instead of one for each of every batch's.
    /// What was sent before, or belongs to a lane, is appended by itself.
    pub async fn append_together(&self, batches: &[Arc<Batch>], ack: Ack, at: DateTime<Utc>) -> Vec<Result<Appended>> {
        if let [alone] = batches {
            return vec![self.append(alone, ack, at).await];
        }
        let receipts = join_all(batches.iter().map(|batch| self.receipt(batch))).await;
        let mut ids = BTreeSet::new();
        let mut is_new = |(batch, receipt): (&Arc<Batch>, Result<Option<Receipt>>)| {
            matches!(receipt, Ok(None)) && batch.lane.is_none() && ids.insert(batch.id.clone())
        };
        let is_in: Vec<bool> = batches.iter().zip(receipts).map(&mut is_new).collect();
        let members = batches.iter().zip(&is_in).filter(|(_, is_in)| **is_in).map(|(batch, _)| Arc::clone(batch));
        let appended = match members.collect::<Vec<_>>() {
            members if members.len() > 1 => self.append_unit(members, ack, at).await,
            _ => Ok(None),
        };
        // What will not pass may be one batch's fault, which is not the others'.
        let appended = appended.or_else(|error| if error.may_pass() { Err(Arc::new(error)) } else { Ok(None) });
        join_all(batches.iter().zip(is_in).map(async |(batch, is_in)| match (&appended, is_in) {
            (Ok(Some(appended)), true) => Ok(*appended),
            (Err(error), true) => Err(Error::Shared(Arc::clone(error))),
            _ => self.append(batch, ack, at).await,
        }))
        .await
    }

    /// Appends batches without receipts as one unit; `None` where that is not to be: then what was written is deleted, and each
    /// comes alone.
    async fn append_unit(&self, batches: Vec<Arc<Batch>>, ack: Ack, at: DateTime<Utc>) -> Result<Option<Appended>> {
        let since = SystemTime::now();
        let mut members = Vec::with_capacity(batches.len());
        for batch in batches {
            members.push(Claimed { columns: self.claim(&batch).await?, batch });
        }
        let entry = self.write(&members, at).await?;
        let put = members.iter().map(|member| self.put_receipt(&member.batch, entry.head, Some(entry.unit)));
        let receipts = if is_recent(since) { join_all(put).await } else { Vec::new() };
        let receipts = receipts.into_iter().collect::<Result<Vec<_>>>()?;
        let are_ours = receipts.iter().filter(|receipt| receipt.unit == Some(entry.unit)).count() == members.len();
        if !are_ours || !is_recent(since) {
            self.discard(&entry).await?;
            return Ok(None);
        }
        let Some(entry) = self.announce(entry).await? else { return Ok(None) };
        match ack {
            Ack::Durable => {
                self.look_for_files_after(since, &entry).await?;
                Ok(Some(Appended::Durable))
            }
            Ack::Committed => self.commit(&entry, false, at).await.map(Some),
        }
    }
}
