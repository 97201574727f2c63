//! A refresh of rows that only come: the query over what is new, without the rows whose key was seen before.

use datafusion::logical_expr::LogicalPlan;

use super::{Computed, Inputs, ModelRefresh, Said, planning};
use crate::epoch::{ModelState, Work};
use crate::error::{Error, Result};
use crate::first_wins::{self, FirstRows};
use crate::slots::Filling;
use crate::state_cache::SEEN;
use crate::strategy::Strategy;

impl ModelRefresh {
    /// The state with the rows that the query gives over new rows.
    pub(super) async fn appended(
        &self,
        inputs: &Inputs,
        before: &ModelState,
        computed: &mut Computed,
    ) -> Result<ModelState> {
        let tables = planning::changes(inputs, &self.model, &computed.manifest, &computed.gone).await?;
        let plan = self.statement(inputs, &tables.added, Some(before), computed).await?;
        let rows = self.stream(&plan, &tables.added).await?;
        let added = self.write_rows(inputs, rows, 0, computed).await?;
        let mut state = before.clone();
        state.changed = computed.manifest.epoch;
        state.work = Work { added: added.rows, ..Work::default() };
        state.take(added);
        Ok(state)
    }

    /// The query as it runs over new rows: all that there are, or those that come to what was there. Where it keeps the first row of
    /// each key, those are left out whose key came before, among the new rows or in an earlier epoch.
    pub(super) async fn statement(
        &self,
        inputs: &Inputs,
        tables: &Filling,
        to: Option<&ModelState>,
        computed: &mut Computed,
    ) -> Result<LogicalPlan> {
        if let (Some(appending), Some(_)) = (&self.appending, to) {
            return Ok(appending.clone());
        }
        if self.flow.is_some() || !matches!(self.strategy, Strategy::Append { first_wins: true }) {
            return Ok(self.plan.clone());
        }
        let first = self.first_rows(tables).await?;
        let (seen, said) = match to {
            Some(before) => (self.seen(inputs, before, first.keys()).await?, Said::Changes),
            None => (vec![false; first.keys().len()], Said::Everything),
        };
        let (later, keys) = first.finish(&seen);
        self.remember(first_wins::seen(keys), said, computed);
        first_wins::without_window(self.plan.clone(), &later)
    }

    async fn first_rows(&self, tables: &Filling) -> Result<FirstRows> {
        let plan = tables.bind_or_empty(&first_wins::keys_and_offsets(&self.plan)?)?;
        FirstRows::read(self.runner.streams(&plan).await?).await
    }

    /// Which keys were seen by the epoch before: from the cache, or where it is not there or not up to date, from the log.
    async fn seen(&self, inputs: &Inputs, before: &ModelState, keys: &[u128]) -> Result<Vec<bool>> {
        let cached = inputs.cache.as_ref().map(|cache| self.cache(cache));
        if let Some(cached) = cached.as_ref().filter(|cached| cached.stand() == Some(before.stand())) {
            match cached.read(SEEN).and_then(|mut seen| seen.has(keys)) {
                Err(Error::CacheBroken) => self.warn_of_broken_cache(),
                seen => return seen,
            }
        }
        let tables = planning::before(inputs, &self.model).await?;
        let old = self.first_rows(&tables).await?;
        if let Some(cached) = cached {
            cached.clear()?;
            cached.put(first_wins::seen(old.keys().iter().copied()), Some(before.stand()))?;
        }
        Ok(keys.iter().map(|key| old.keys().binary_search(key).is_ok()).collect())
    }
}
