//! What a refresh reads, and what it came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakebed_log::{ColumnType, Snapshot, Store};
use tokio::sync::OwnedMutexGuard;

use super::planning::Gone;
use super::{ModelRefreshed, model_cache};
use crate::epoch::Manifest;
use crate::error::Error;
use crate::models::{Model, TableName};
use crate::state_cache::{Entries, ModelCache, StateCache};

/// Everything that a refresh reads.
#[derive(Clone)]
pub(crate) struct Inputs {
    /// Parents before children; none reads another one.
    pub(crate) models: Vec<Arc<Model>>,
    pub(crate) pinned: Vec<(String, ColumnType)>,
    pub(crate) snapshot: Snapshot,
    /// The epoch to start from; without one everything is computed from version 0.
    pub(crate) before: Option<Manifest>,
    /// Which keys were seen before; without it they are read from the log.
    pub(crate) cache: Option<StateCache>,
    /// Holds the log.
    pub(crate) lake: Store,
    /// Takes the runs: the lake's store, or a replay's own.
    pub(crate) runs: Store,
    /// That no other refresh works on the state cache: nobody else begins before the last task with these inputs has ended,
    /// also where a refresh is given up and what it started goes on for a while.
    pub(crate) _alone: Option<Alone>,
}

/// Held by one refresh at a time.
pub(crate) type Alone = Arc<OwnedMutexGuard<()>>;

/// A refresh that is computed and not yet there for anybody.
pub(crate) struct Computed {
    pub(crate) manifest: Manifest,
    pub(crate) models: Vec<ModelRefreshed>,
    pub(crate) remembered: Vec<Remembered>,
    /// Objects that this refresh wrote, by their paths.
    pub(crate) written: Vec<String>,
    /// The rows of each model that went.
    pub(super) gone: Gone,
    /// A model was computed from everything whose operators do not know that yet.
    pub(crate) unlearnt: bool,
}

impl Computed {
    /// Nothing yet.
    pub(super) fn new(manifest: Manifest) -> Self {
        let (models, remembered, written, gone) = (Vec::new(), Vec::new(), Vec::new(), Gone::new());
        Self { manifest, models, remembered, written, gone, unlearnt: false }
    }

    /// Whether all is computed that a model reads.
    pub(super) fn has_parents_of(&self, model: &Model, inputs: &Inputs) -> bool {
        let is_due = |name: &TableName| inputs.models.iter().any(|model| model.name == *name);
        model.references.iter().all(|name| self.manifest.models.contains_key(&name.to_string()) || !is_due(name))
    }

    /// What a model's refresh has to know of this one: the tables that it reads, and what went of them.
    pub(super) fn parents_of(&self, model: &Model) -> Self {
        let mut parents = Self::new(Manifest { models: BTreeMap::new(), ..self.manifest });
        for name in model.references.iter().map(ToString::to_string) {
            parents.manifest.models.extend(self.manifest.models.get(&name).map(|state| (name.clone(), state.clone())));
            parents.gone.extend(self.gone.get(&name).map(|gone| (name, gone.clone())));
        }
        parents
    }

    /// Tells the cache what waits of first computations, if that is much: it stands at no epoch then either.
    pub(super) fn put_rests(&mut self, inputs: &Inputs) {
        let Some(cache) = &inputs.cache else { return };
        let mut rests: Vec<_> = self.remembered.iter_mut().filter(|new| new.said == Said::Rest).collect();
        if rests.iter().map(|rest| rest.entries.len()).sum::<usize>() <= WAITING {
            return;
        }
        let models: Vec<_> = rests.iter().map(|rest| model_cache(cache, &rest.model, &rest.fingerprint)).collect();
        let puts = models.iter().zip(&mut rests).map(|(model, rest)| (model, std::mem::take(&mut rest.entries), None));
        if let Err(error) = ModelCache::put_together(puts.collect()) {
            not_kept(&error);
            self.remembered.retain(|new| new.said != Said::Rest);
            self.unlearnt = true;
        }
    }

    /// Takes up what became of a model.
    pub(super) fn take(&mut self, done: Self) {
        self.manifest.models.extend(done.manifest.models);
        self.models.extend(done.models);
        self.remembered.extend(done.remembered);
        self.written.extend(done.written);
        self.gone.extend(done.gone);
        self.unlearnt |= done.unlearnt;
    }
}

/// What the state cache is to know once the manifest is there, besides what it may have been told already, at no epoch.
pub(crate) struct Remembered {
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) entries: Entries,
    pub(crate) said: Said,
}

/// What entries are of all that a model has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// What changed since the epoch before.
    Changes,
    /// All: what the cache holds of the model goes.
    Everything,
    /// What the cache does not hold of it yet, at no epoch.
    Rest,
}

/// Of all models together not much more than so many entries of a first computation wait for the manifest; few where it is to be
/// tried what comes of many.
const WAITING: usize = if cfg!(debug_assertions) { 1_000 } else { 4_000_000 };

/// Says that the cache did not take what was learnt. The refresh is right without it; the next one meets the cache again.
pub(crate) fn not_kept(error: &Error) {
    tracing::warn!("what is learnt is not kept: {error}");
}
