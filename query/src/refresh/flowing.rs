//! A refresh by a model's operators: what changed below goes in, and what changed of the model's rows comes out.

use arrow::array::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use roaring::RoaringTreemap;

use super::addresses::{Addressed, give, put_addresses};
use super::planning::{changes, history, no_changes};
use super::{Computed, Inputs, ModelRefresh, Said};
use crate::dataflow::Dataflow;
use crate::dataflow::run::{Applied, TableChanges};
use crate::epoch::{ModelState, Work};
use crate::error::{Error, Result};
use crate::rows;
use crate::state_cache::{Entries, ModelCache};

impl ModelRefresh {
    /// The state after the operators took in what changed. A cache that turns out not to be what it says it is is made anew.
    pub(super) async fn flowed(
        &self,
        inputs: &Inputs,
        flow: &Dataflow,
        before: &ModelState,
        cache: &ModelCache,
        computed: &mut Computed,
    ) -> Result<ModelState> {
        let tables = changes(inputs, &self.model, &computed.manifest, &computed.gone).await?;
        if cache.stand() != Some(before.stand()) {
            self.learn(inputs, flow, before, cache).await?;
        }
        let (applied, addressed, mut entries) = match self.take_in(flow, &tables, cache).await {
            Err(Error::CacheBroken) => {
                self.warn_of_broken_cache();
                self.learn(inputs, flow, before, cache).await?;
                self.take_in(flow, &tables, cache).await?
            }
            taken => taken?,
        };
        let mut state = before.clone();
        state.changed = computed.manifest.epoch;
        state.content_hash = state.content_hash.without(addressed.hash);
        if !addressed.gone.is_empty() {
            state.rows -= addressed.gone.len();
            let images = addressed.in_order(&applied.changes.gone, &self.schema)?;
            self.delete(inputs, &mut state, &addressed.gone, vec![images], computed).await?;
        }
        let added = futures::stream::iter(applied.changes.added.into_iter().map(Ok));
        let added = Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), added));
        let hashes = if flow.only_adds { 0 } else { usize::MAX };
        let added = self.write_rows(inputs, added, hashes, computed).await?;
        give(added.hashes.as_deref().unwrap_or_default(), before.end(), &mut entries);
        state.work =
            Work { added: added.rows, gone: addressed.gone.len(), touched: applied.rows as u64, ..Work::default() };
        state.take(added);
        computed.gone.insert(self.model.name.to_string(), applied.changes.gone);
        self.remember(entries, Said::Changes, computed);
        Ok(state)
    }

    /// What the operators make of changes, where the rows are that it takes away, and what the cache is to know of both.
    async fn take_in(
        &self,
        flow: &Dataflow,
        tables: &TableChanges,
        cache: &ModelCache,
    ) -> Result<(Applied, Addressed, Entries)> {
        let mut applied = flow.apply(&self.runner, tables, cache, Some(&self.schema)).await?;
        let mut entries = std::mem::take(&mut applied.entries);
        let mut addressed = Addressed::default();
        debug_assert!(!flow.only_adds || applied.changes.gone.iter().all(|batch| batch.num_rows() == 0));
        if !flow.only_adds {
            addressed.take_away(&applied.changes.gone, cache, &mut entries)?;
        }
        Ok((applied, addressed, entries))
    }

    /// Deletes rows, whose images are given ascending by address.
    pub(super) async fn delete(
        &self,
        inputs: &Inputs,
        state: &mut ModelState,
        gone: &RoaringTreemap,
        images: Vec<RecordBatch>,
        computed: &mut Computed,
    ) -> Result<()> {
        let images = Box::pin(RecordBatchStreamAdapter::new(
            self.schema.clone(),
            futures::stream::iter(images.into_iter().map(Ok)),
        ));
        let mut images = self.new_runs(inputs, 0).write(0, images).await?.runs;
        computed.written.extend(images.iter().map(|run| run.path.clone()));
        // So many that one run does not hold them are as well read from where they were.
        let images = images.pop().filter(|_| images.is_empty());
        let deletion = rows::put_deletion(&inputs.runs, &self.model.name, &self.fingerprint, gone, images).await?;
        computed.written.push(deletion.path.clone());
        state.deletions.push(deletion);
        Ok(())
    }

    /// Has the operators learn the history that led to a state, piece by piece; the cache then stands where that does.
    pub(super) async fn learn(
        &self,
        inputs: &Inputs,
        flow: &Dataflow,
        state: &ModelState,
        cache: &ModelCache,
    ) -> Result<()> {
        let Some(epoch) = &inputs.before else { return Ok(()) };
        cache.clear()?;
        let mut pieces = history(inputs, &self.model, epoch, flow.at_once()).await?;
        if pieces.is_empty() {
            // A count of no rows is a row as well.
            pieces.push(no_changes(inputs, &self.model, epoch).await?);
        }
        for piece in pieces {
            let learnt = flow.apply(&self.runner, &piece, cache, None).await?;
            cache.put(learnt.entries, None)?;
        }
        match flow.only_adds {
            true => cache.put(Entries::default(), Some(state.stand())),
            false => put_addresses(&inputs.runs, state, cache, Some(state.stand())).await,
        }
    }
}
