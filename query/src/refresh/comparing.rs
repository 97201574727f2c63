//! A refresh from everything, compared with what was there: rows that stay keep their addresses, so that whoever reads the
//! table, model or sink, is told what changed and no more.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;
use roaring::RoaringTreemap;

use super::planning::everything;
use super::{Computed, Inputs, ModelRefresh};
use crate::epoch::{ModelState, Work};
use crate::error::Result;
use crate::hash::{TableHash, row_hashes, short};
use crate::run_files::{StoredRuns, cast};
use crate::sinks::ReadRun;

/// The rows that were there: the hash and the address of each, ascending, and which of them are there still.
struct Stored {
    rows: Vec<(u128, u64)>,
    stays: Vec<bool>,
}

impl ModelRefresh {
    /// The state after the query ran over everything.
    pub(super) async fn compared(
        &self,
        inputs: &Inputs,
        before: &ModelState,
        computed: &mut Computed,
    ) -> Result<ModelState> {
        let tables = everything(inputs, &self.model, &computed.manifest).await?;
        let stored = Arc::new(Mutex::new(Stored::read(inputs, before).await?));
        let (known, schema) = (Arc::clone(&stored), Arc::clone(&self.schema));
        let new = self.stream(&self.plan, &tables).await?.and_then(move |batch| {
            let new = cast(batch.columns(), &schema).and_then(|batch| {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let is_new: BooleanArray =
                    row_hashes(&batch)?.iter().map(|hash| Some(!known.has_one_more(short(hash)))).collect();
                Ok(filter_record_batch(&batch, &is_new)?)
            });
            futures::future::ready(new.map_err(|error| DataFusionError::External(Box::new(error))))
        });
        let new = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), new));
        let added = self.write_rows(inputs, new, 0, computed).await?;
        let gone = stored.lock().unwrap_or_else(PoisonError::into_inner).gone();
        let mut state = before.clone();
        state.changed = computed.manifest.epoch;
        state.work = Work { added: added.rows, gone: gone.len(), ..Work::default() };
        if !gone.is_empty() {
            let (all, runs) = (before.stored(&inputs.runs).await?, StoredRuns(inputs.runs.clone()));
            let mut batches = Vec::new();
            for (run, selection) in all.at(&gone) {
                batches.extend(runs.read(run, Some(selection)).try_collect::<Vec<_>>().await?);
            }
            for batch in &batches {
                state.content_hash = state.content_hash.without(TableHash::of_batch(batch)?);
            }
            state.rows -= gone.len();
            self.delete(inputs, &mut state, &gone, batches.clone(), computed).await?;
            computed.gone.insert(self.model.name.to_string(), batches);
        }
        state.take(added);
        Ok(state)
    }
}

impl Stored {
    async fn read(inputs: &Inputs, state: &ModelState) -> Result<Self> {
        let (all, runs) = (state.stored(&inputs.runs).await?, StoredRuns(inputs.runs.clone()));
        let mut rows = Vec::with_capacity(usize::try_from(state.rows).unwrap_or_default());
        for (run, selection) in all.in_runs() {
            let mut addresses = run.addresses().filter(|address| all.has(*address));
            let mut batches = runs.read(run, selection);
            while let Some(batch) = batches.try_next().await? {
                rows.extend(row_hashes(&batch)?.iter().map(short).zip(&mut addresses));
            }
        }
        rows.sort_unstable();
        Ok(Self { stays: vec![false; rows.len()], rows })
    }

    /// Whether there was another row with this hash than those that were asked for before.
    fn has_one_more(&mut self, hash: u128) -> bool {
        let first = self.rows.partition_point(|(known, _)| *known < hash);
        let same = self.rows[first..].iter().take_while(|(known, _)| *known == hash).count();
        let free = (first..first + same).find(|at| !self.stays[*at]);
        if let Some(at) = free {
            self.stays[at] = true;
        }
        free.is_some()
    }

    fn gone(&self) -> RoaringTreemap {
        let rows = self.rows.iter().zip(&self.stays).filter(|(_, stays)| !**stays);
        rows.map(|((_, address), _)| *address).collect()
    }
}
