//! A refresh from nothing: the query over everything, into runs that begin a table.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use super::addresses::give;
use super::flowing::STATES_AT_ONCE;
use super::{Computed, Inputs, ModelRefresh, planning};
use crate::dataflow::whole::Whole;
use crate::epoch::{ModelState, Work, columns_of};
use crate::error::Result;
use crate::run_files::Written;
use crate::slots::Filling;

impl ModelRefresh {
    /// The state after a computation from nothing. Where one pass is enough the operators have then learnt what they have to
    /// know, and the addresses of the rows are known.
    pub(super) async fn anew(&self, inputs: &Inputs, computed: &mut Computed) -> Result<ModelState> {
        let tables = planning::everything(inputs, &self.model, &computed.manifest).await?;
        let (written, noted) = match self.whole(inputs, &tables).await? {
            Some(Whole { rows, noted }) => {
                (self.new_runs(inputs, STATES_AT_ONCE).write_all(0, rows).await?, noted.entries())
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
        match noted.zip(written.hashes.as_deref()) {
            Some((mut entries, hashes)) => {
                give(hashes, 0, &mut entries);
                self.remember(entries, true, computed);
            }
            None => computed.unlearnt |= self.flow.is_some(),
        }
        Ok(self.table(computed.manifest.epoch, written))
    }

    /// The query by its operators, where that is one pass and there is somebody to tell what they learn.
    async fn whole(&self, inputs: &Inputs, tables: &Filling) -> Result<Option<Whole>> {
        match &self.flow {
            // Operators know nothing of the order in which a table's rows are first written.
            Some(flow) if inputs.cache.is_some() && !is_sorted(&self.plan)? => {
                flow.whole(&self.runner, tables, STATES_AT_ONCE).await
            }
            _ => Ok(None),
        }
    }

    /// A table of its own with these rows.
    pub(super) fn table(&self, changed: u64, written: Written) -> ModelState {
        ModelState {
            identity: self.fingerprint.clone(),
            query: self.query.clone(),
            fingerprint: self.fingerprint.clone(),
            strategy: self.strategy.name().to_owned(),
            changed,
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
        sorted |= matches!(node, LogicalPlan::Sort(_));
        Ok(if sorted { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(sorted)
}
