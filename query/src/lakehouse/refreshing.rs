//! Refreshes: the models of a project, from one version of the log to another.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Lakehouse;
use super::publishing::{Publications, Publish};
use crate::epoch::{Manifest, ModelState};
use crate::error::{Error, Result};
use crate::folding;
use crate::models::Model;
use crate::refresh::{self, Alone, Computed, Inputs, ModelRefreshed, Progress, Remembered, Said};
use crate::state_cache::{ADDRESSES, ModelCache, StateCache};

/// How often a refresh starts again because another was first.
pub(crate) const TRIES: usize = 5;

/// What a refresh came to.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The log version that every model stands at.
    pub version: u64,
    /// The epoch that says so; 0 before the first.
    pub epoch: u64,
    /// Everything was up to date already.
    pub unchanged: bool,
    /// What was done to each model.
    pub models: Vec<ModelRefreshed>,
    /// What it was published to.
    pub published: Publications,
}

/// What a refresh is to come to.
struct Goal<'a> {
    /// By default the newest.
    version: Option<u64>,
    models: &'a [Arc<Model>],
    publish: Publish<'a>,
    /// The version that was the newest when another refresh was first: to have come so far is enough from then on, or of two that
    /// refresh as events come one would run after the other for ever.
    least: Option<u64>,
}

/// What one epoch came to.
enum Advanced {
    /// The version that was asked for.
    ToTheEnd(Box<Refreshed>),
    /// A version before it.
    Partly,
    /// Nothing: another refresh was first. This one was on the way to version `end`.
    Overtaken { end: u64 },
}

impl Lakehouse {
    /// Brings every model to the newest version of the log, all in one epoch, and the sinks with them.
    ///
    /// `only` names models that have to exist; the whole DAG is refreshed all the same, because an epoch is there for
    /// every table or for none.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a name in `only`; whatever goes wrong in a model, the store or a sink. The epoch before
    /// is then what it was.
    pub async fn refresh(&self, only: &[String], progress: &dyn Progress) -> Result<Refreshed> {
        self.check_names(only)?;
        self.refresh_to(None, &self.project().models, Publish::Models, progress).await
    }

    /// Brings every model to the newest version of the log, as [`Self::refresh`] does, and leaves the sinks to
    /// [`Self::publish_newest`]: who refreshes again and again need not wait for them.
    ///
    /// # Errors
    /// As [`Self::refresh`], but for what goes wrong in a sink.
    pub async fn refresh_models(&self, progress: &dyn Progress) -> Result<Refreshed> {
        let models = &self.project().models;
        self.check_sinks(models)?;
        self.refresh_to(None, models, Publish::Nothing, progress).await
    }

    /// Brings every model to a version of the log that is not behind where they stand.
    ///
    /// # Errors
    /// [`Error::ReplayBack`] for a version before that of the tables, and as [`Self::refresh`].
    pub async fn run_to(&self, version: u64, only: &[String], progress: &dyn Progress) -> Result<Refreshed> {
        self.check_names(only)?;
        let stored = self.chain().newest(self.log().store()).await?;
        if let Some(stored) = stored.filter(|stored| stored.version > version) {
            return Err(Error::ReplayBack { version, stands_at: stored.version });
        }
        self.refresh_to(Some(version), &self.project().models, Publish::Models, progress).await
    }

    /// Brings some models, which read no others than these, to a version of the log, by default the newest.
    ///
    /// # Errors
    /// [`Error::ReplayBack`] where they stand beyond that version, and as [`Self::refresh`].
    pub(crate) async fn refresh_to(
        &self,
        version: Option<u64>,
        models: &[Arc<Model>],
        publish: Publish<'_>,
        progress: &dyn Progress,
    ) -> Result<Refreshed> {
        if matches!(publish, Publish::Models) {
            self.check_sinks(models)?;
        }
        let alone = Arc::new(Arc::clone(&self.inner.refreshing).lock_owned().await);
        let mut goal = Goal { version, models, publish, least: None };
        let (mut overtaken, mut steps) = (0, Vec::new());
        while overtaken < TRIES {
            match self.advance(&alone, &goal, &mut steps, progress).await? {
                Advanced::ToTheEnd(refreshed) => return Ok(*refreshed),
                Advanced::Partly => {}
                // Another refresh was first: what it did counts, and ours starts from there.
                Advanced::Overtaken { end } => {
                    overtaken += 1;
                    goal.least.get_or_insert(end);
                }
            }
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    /// One epoch on the way to a version: all the way, or as far as what changed fits memory. `steps` are the versions on the
    /// way, once they were looked for.
    async fn advance(
        &self,
        alone: &Alone,
        &Goal { version, models, publish, least }: &Goal<'_>,
        steps: &mut Vec<(u64, u64)>,
        progress: &dyn Progress,
    ) -> Result<Advanced> {
        let (store, cache) = (self.log().store(), self.cache().await?);
        let before = self.chain().newest(store).await?;
        // Looked up after the epoch, which is of no later version than the log has then: tables never go back.
        let end = match (version, &before) {
            (Some(version), Some(before)) if before.version > version => {
                return Err(Error::ReplayBack { version, stands_at: before.version });
            }
            (Some(version), _) => self.log().snapshot_at(version).await?,
            (None, before) => match least {
                Some(least) => {
                    self.log().snapshot_at(before.as_ref().map_or(least, |before| before.version.max(least))).await?
                }
                None => self.log().snapshot().await?,
            },
        };
        let goal = end.version;
        let at_once = self.project().config.refresh.events_at_once;
        let step = match before.as_ref().filter(|before| before.next_offset + at_once < end.next_offset) {
            Some(before) => {
                steps.retain(|(_, end)| *end > before.next_offset);
                if steps.is_empty() {
                    *steps = self.steps(Some(before), end.version).await?;
                }
                steps.first().copied()
            }
            None => None,
        };
        let (snapshot, publish) = match step {
            Some((version, _)) => (self.log().snapshot_at(version).await?, Publish::Nothing),
            None => (end, publish),
        };
        let inputs = self.inputs(&snapshot, before.as_ref(), cache.as_ref(), store);
        let inputs = Arc::new(Inputs { models: models.to_vec(), _alone: Some(Arc::clone(alone)), ..inputs });
        let mut computed = refresh::compute(&inputs, progress).await?;
        if let Some(before) = before.filter(|before| same_state(before, &computed.manifest)) {
            let published = self.publish(&before, publish).await?;
            let (version, epoch) = (before.version, before.epoch);
            let refreshed = Refreshed { version, epoch, unchanged: true, models: computed.models, published };
            return Ok(Advanced::ToTheEnd(Box::new(refreshed)));
        }
        if !self.chain().put(store, &computed.manifest).await? {
            refresh::discard(store, &computed).await?;
            return Ok(Advanced::Overtaken { end: goal });
        }
        progress.stored(computed.manifest.epoch);
        let published = self.publish_and_learn(Arc::unwrap_or_clone(inputs), &mut computed, publish).await?;
        let epoch = self.renew(cache.as_ref(), &computed.manifest).await?;
        let version = computed.manifest.version;
        let refreshed = Refreshed { version, epoch, unchanged: false, models: computed.models, published };
        Ok(if step.is_some() { Advanced::Partly } else { Advanced::ToTheEnd(Box::new(refreshed)) })
    }

    /// Brings the sinks up. Meanwhile the state cache takes up what changed, and operators that have their history still to
    /// learn do so, in tasks of their own.
    async fn publish_and_learn(
        &self,
        inputs: Inputs,
        computed: &mut Computed,
        publish: Publish<'_>,
    ) -> Result<Publications> {
        let inputs = Arc::new(Inputs { before: Some(computed.manifest.clone()), ..inputs });
        let new = std::mem::take(&mut computed.remembered);
        // They do not stand at this epoch before they are remembered, and must not be learnt meanwhile.
        let known: BTreeSet<String> = new.iter().map(|new| new.model.clone()).collect();
        let learning = async {
            match computed.unlearnt {
                true => refresh::prepare(&inputs, &known).await,
                false => Ok(()),
            }
        };
        let of_it = Arc::clone(&inputs);
        let remembering = tokio::task::spawn_blocking(move || remember(&of_it, new));
        let publishing = self.publish(&computed.manifest, publish);
        let (published, learnt, remembered) = futures::join!(publishing, learning, remembering);
        // The refresh is over, and this is no failure of it; the next one meets it again.
        for error in [learnt, remembered?].into_iter().filter_map(Result::err) {
            tracing::warn!("the next refresh has to learn the models' history first: {error}");
        }
        published
    }

    /// Writes tables anew that are mostly deleted rows; gives the epoch that is the newest then.
    async fn renew(&self, cache: Option<&StateCache>, before: &Manifest) -> Result<u64> {
        let store = self.log().store();
        let Some((manifest, renewed)) = folding::renew(store, self.chain(), before).await? else {
            return Ok(before.epoch);
        };
        for name in renewed {
            let (Some(cache), Some(old), Some(new)) = (cache, before.models.get(&name), manifest.models.get(&name))
            else {
                continue;
            };
            let cache = refresh::model_cache(cache, &name, &new.fingerprint);
            // What is not up to date is built from nothing when it is needed.
            if cache.stand() == Some(old.stand()) {
                cache.empty(ADDRESSES)?;
                refresh::put_addresses(store, new, &cache, Some(new.stand())).await?;
            }
        }
        Ok(manifest.epoch)
    }
}

/// Whether a new manifest says nothing that the one before does not say.
fn same_state(before: &Manifest, now: &Manifest) -> bool {
    let same = |(left, right): ((&String, &ModelState), (&String, &ModelState))| {
        let rows =
            |state: &ModelState| (state.fingerprint.clone(), state.objects().map(str::to_owned).collect::<Vec<_>>());
        left.0 == right.0 && rows(left.1) == rows(right.1)
    };
    let models = (before.models.iter(), now.models.iter());
    before.version == now.version && before.models.len() == now.models.len() && models.0.zip(models.1).all(same)
}

/// Has the state cache take up what the epoch `inputs.before` changed.
fn remember(inputs: &Inputs, new: Vec<Remembered>) -> Result<()> {
    let Some((cache, stored)) = inputs.cache.as_ref().zip(inputs.before.as_ref()) else { return Ok(()) };
    let mut models = Vec::new();
    for new in new {
        let model = refresh::model_cache(cache, &new.model, &new.fingerprint);
        if new.said == Said::Everything {
            model.clear()?;
        }
        models.push((model, new.entries, stored.models.get(&new.model).map(ModelState::stand)));
    }
    let puts = models.iter_mut().map(|(model, new, stand)| (&*model, std::mem::take(new), *stand)).collect();
    match ModelCache::put_together(puts) {
        Err(Error::CacheBroken) => models.iter().try_for_each(|(model, ..)| model.clear()),
        put => put,
    }
}
