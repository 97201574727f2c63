//! A refresh from nothing: the query over everything, into runs that begin a table.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, LogicalPlan};

use super::addresses::{IN_ONE_COMMIT, give};
use super::{Computed, Inputs, ModelRefresh, Said, not_kept, planning};
use crate::dataflow::whole::Whole;
use crate::epoch::{Manifest, ModelState, Work, another_identity, columns_of};
use crate::error::Result;
use crate::run_files::Written;
use crate::slots::Filling;
use crate::state_cache::Entries;

/// Of more rows the hashes are not held until their addresses are known: 128 MB.
const MOST_HASHES: usize = 8_000_000;

impl ModelRefresh {
    /// The state after a computation from nothing. Where one pass is enough the operators have then learnt what they have to
    /// know, and the addresses of the rows are known.
    pub(super) async fn anew(&self, inputs: &Inputs, computed: &mut Computed) -> Result<ModelState> {
        let tables = planning::everything(inputs, &self.model, &computed.manifest).await?;
        let only_adds = self.flow.as_ref().is_some_and(|flow| flow.only_adds);
        let (written, noted) = match self.whole(inputs, &tables, &computed.manifest).await? {
            Some(Whole { rows, noted }) => {
                let hashes = if only_adds { 0 } else { MOST_HASHES };
                (self.new_runs(inputs, hashes).write_all(0, rows).await?, noted.rest())
            }
            None => {
                let plan = self.statement(inputs, &tables, None, computed).await?;
                let rows = self.runner.streams(&tables.bind_or_empty(&plan)?).await?;
                (self.new_runs(inputs, 0).write_all(0, rows).await?, None)
            }
        };
        computed.written.extend(written.runs.iter().map(|run| run.path.clone()));
        let other = inputs.before.as_ref().and_then(|before| before.models.get(&self.model.name.to_string()));
        if let Some(same) = other.filter(|other| self.gave_the_same(other, &written)) {
            computed.unlearnt |= self.flow.is_some();
            // The runs that were just written are in no epoch.
            let (fingerprint, query, strategy) =
                (self.fingerprint.clone(), self.query.clone(), self.strategy.name().into());
            let (changed, unique) = (computed.manifest.epoch, self.unique.clone());
            return Ok(ModelState {
                fingerprint,
                query,
                strategy,
                changed,
                unique,
                work: Work::default(),
                ..same.clone()
            });
        }
        let learnt = match (noted, written.hashes.as_deref()) {
            (Some(entries), _) if only_adds => Some(entries),
            (Some(entries), Some(hashes)) => self.addressed(inputs, entries, hashes).inspect_err(not_kept).ok(),
            _ => None,
        };
        match learnt {
            Some(entries) => self.remember(entries, Said::Rest, computed),
            None => computed.unlearnt |= self.flow.is_some(),
        }
        let epoch = computed.manifest.epoch;
        let identity = match other {
            // An edit that gave the same rows was undone: the table kept the identity, and these rows are others.
            Some(other) if other.identity == self.fingerprint => another_identity(&other.identity, epoch),
            _ => self.fingerprint.clone(),
        };
        Ok(self.table(identity, epoch, written))
    }

    /// The query by its operators, where that is one pass and there is somebody to tell what they learn.
    async fn whole(&self, inputs: &Inputs, tables: &Filling, now: &Manifest) -> Result<Option<Whole>> {
        let Some((flow, cache)) = self.flow.as_ref().zip(inputs.cache.as_ref()) else { return Ok(None) };
        let (cache, rows) = (self.cache(cache), planning::rows_of_everything(&self.model, now));
        // What it holds may be of another line of epochs, with the same numbers.
        if let Err(error) = cache.restart() {
            not_kept(&error);
            return Ok(None);
        }
        // Operators know nothing of the order in which a table's rows are first written.
        match is_sorted(&self.plan)? {
            true => Ok(None),
            false => flow.whole(&self.runner, (tables, rows), (cache, inputs._alone.clone()), &self.schema).await,
        }
    }

    /// What is to be remembered, with the address of each row; all but the last of it goes to the cache at once.
    fn addressed(&self, inputs: &Inputs, mut entries: Entries, hashes: &[u128]) -> Result<Entries> {
        for (first, hashes) in (0..).step_by(IN_ONE_COMMIT).zip(hashes.chunks(IN_ONE_COMMIT)) {
            if first > 0
                && let Some(cache) = &inputs.cache
            {
                self.cache(cache).put(std::mem::take(&mut entries), None)?;
            }
            give(hashes, first, &mut entries);
        }
        Ok(entries)
    }

    /// A table of its own with these rows.
    pub(super) fn table(&self, identity: String, changed: u64, written: Written) -> ModelState {
        ModelState {
            identity,
            query: self.query.clone(),
            fingerprint: self.fingerprint.clone(),
            strategy: self.strategy.name().to_owned(),
            changed,
            mark: None,
            columns: columns_of(&self.schema),
            unique: self.unique.clone(),
            start: 0,
            work: Work { added: written.rows, ..Work::default() },
            runs: written.runs,
            deletions: Vec::new(),
            rows: written.rows,
            content_hash: written.hash,
        }
    }

    /// Whether another query gave just these rows.
    fn gave_the_same(&self, other: &ModelState, written: &Written) -> bool {
        let columns = other.columns == columns_of(&self.schema);
        columns && written.rows > 0 && (other.rows, other.content_hash) == (written.rows, written.hash)
    }
}

fn is_sorted(plan: &LogicalPlan) -> Result<bool> {
    let mut sorted = false;
    plan.apply(|node| {
        sorted |= matches!(node, LogicalPlan::Sort(_) | LogicalPlan::Distinct(Distinct::On(_)));
        Ok(if sorted { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(sorted)
}
