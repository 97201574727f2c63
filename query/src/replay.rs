//! Replays: models computed again from version 0 of the log, beside the tables that are there, in steps that each fit memory.
//!
//! A replay is a line of epochs of its own. Each step of it is a refresh to a version some way on, so a kill costs the step
//! that was under way. What is computed in full waits for the last step. A replay in place takes the place of the tables at
//! its end, in one epoch of theirs; a model that came out as it is stored stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakebed_project::SinkKind;

use crate::catalog::BRONZE;
use crate::epoch::{Manifest, ModelState, another_identity, new_mark};
use crate::error::{Error, Result};
use crate::lakehouse::{AsOf, Lakehouse, Publish, Refreshed, TRIES};
use crate::models::Model;
use crate::refresh::shape::{Look, shapes};
use crate::refresh::{ModelRefreshed, Progress};
use crate::strategy::Strategy;

/// The name of a replay that takes the place of the tables.
const IN_PLACE: &str = "in-place";

/// What is replayed, how far, and where to.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Models such as `gold.revenue`, and with them what they read; all of them if none is named.
    pub models: Vec<String>,
    /// To which version; by default the newest.
    pub to: Option<AsOf>,
    /// The name under which the tables are published beside the others; without one they take their place.
    pub into: Option<String>,
}

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The log version that the tables stand at.
    pub version: u64,
    /// What was done to each model that was asked for.
    pub models: Vec<ModelRefreshed>,
    /// Models whose stored rows were not what the replay gave; it has put them right.
    pub differed: Vec<String>,
    /// The file in which the tables are, where they were replayed beside the others.
    pub published: Option<std::path::PathBuf>,
}

impl Lakehouse {
    /// Replays the log into models. One that was interrupted goes on from its last step, if the SQL is still the same.
    ///
    /// # Errors
    /// [`Error::UnknownTable`] for a name that is no model's; [`Error::ReplayName`]; [`Error::ReplayBack`] for a version that
    /// the tables in place are beyond; any failure of a refresh. Nothing has changed for readers then.
    pub async fn replay(&self, replay: &Replay, progress: &dyn Progress) -> Result<Replayed> {
        self.check_names(&replay.models)?;
        let name = match &replay.into {
            Some(name) => checked(name)?,
            None => IN_PLACE,
        };
        let version = match replay.to {
            Some(AsOf::Version(version)) => self.log().snapshot_at(version).await?.version,
            Some(AsOf::Time(time)) => self.log().version_at(time).await?,
            None => self.log().snapshot().await?.version,
        };
        let stored = self.chain().newest(self.log().store()).await?;
        if let Some(stored) = stored.filter(|stored| replay.into.is_none() && stored.version > version) {
            return Err(Error::ReplayBack { version, stands_at: stored.version });
        }
        let beside = self.beside(name);
        if let Some(there) = beside.chain().newest(self.log().store()).await?.filter(|there| there.version > version) {
            if replay.into.is_some() {
                return Err(Error::ReplayBack { version, stands_at: there.version });
            }
            beside.chain().delete(self.log().store()).await?;
        }
        let wanted = self.with_ancestors(&replay.models);
        beside.step_by_step(version, &wanted, progress).await?;
        let named: Vec<String> = match replay.models.is_empty() {
            true => wanted.iter().map(|model| model.name.to_string()).collect(),
            false => replay.models.clone(),
        };
        let publish = if replay.into.is_some() { Publish::Named(&named) } else { Publish::Nothing };
        let last = beside.refresh_to(Some(version), &wanted, publish, progress).await?;
        if replay.into.is_some() {
            return Ok(beside_the_others(&beside, last, &named));
        }
        let mut version = version;
        for _ in 0..TRIES {
            match self.take_over(&beside, version, &named, progress).await {
                // Somebody refreshed the tables meanwhile: what was replayed follows them.
                Err(Error::ReplayBack { stands_at, .. }) if replay.to.is_none() => {
                    version = stands_at;
                    beside.refresh_to(Some(version), &wanted, Publish::Nothing, progress).await?;
                }
                taken => return taken,
            }
        }
        Err(Error::Overtaken { tries: TRIES })
    }

    /// The models that are named, or all, and what they read; parents before children.
    pub(crate) fn with_ancestors(&self, names: &[String]) -> Vec<Arc<Model>> {
        let models = &self.project().models;
        let mut wanted: BTreeSet<String> = names.iter().cloned().collect();
        for model in models.iter().rev() {
            if wanted.contains(&model.name.to_string()) {
                let parents = model.references.iter().filter(|parent| parent.schema != BRONZE);
                wanted.extend(parents.map(ToString::to_string));
            }
        }
        let is_wanted = |model: &&Arc<Model>| names.is_empty() || wanted.contains(&model.name.to_string());
        models.iter().filter(is_wanted).cloned().collect()
    }

    /// Takes the models up to just before a version, as far as they are kept up to date by what changes.
    async fn step_by_step(&self, to: u64, wanted: &[Arc<Model>], progress: &dyn Progress) -> Result<()> {
        let end = self.log().snapshot_at(to).await?;
        let before = self.chain().newest(self.log().store()).await?;
        let stands_at = before.as_ref().map_or(0, |epoch| epoch.next_offset);
        let inputs = self.inputs(&end, None, None, self.log().store());
        let mut steady = BTreeSet::new();
        for shape in shapes(&inputs, Look::Plan).await? {
            let parents = shape.model.references.iter();
            let rests = parents.filter(|parent| parent.schema != BRONZE).all(|parent| steady.contains(parent));
            if rests && !matches!(shape.strategy, Strategy::Full { .. }) {
                steady.insert(shape.model.name.clone());
            }
        }
        let models: Vec<Arc<Model>> = wanted.iter().filter(|model| steady.contains(&model.name)).cloned().collect();
        progress.replayed(stands_at, end.next_offset);
        for (version, events) in self.steps(before.as_ref(), to).await? {
            self.refresh_to(Some(version), &models, Publish::Nothing, &()).await?;
            progress.replayed(events, end.next_offset);
        }
        Ok(())
    }

    /// Versions after an epoch and before `to` at which a step ends, each with its bound: a step has as many events as are taken up
    /// at once and no more, unless one version has.
    pub(crate) async fn steps(&self, after: Option<&Manifest>, to: u64) -> Result<Vec<(u64, u64)>> {
        let at_once = self.project().config.refresh.events_at_once;
        let (from, offset) = after.map_or((0, 0), |epoch| (epoch.version, epoch.next_offset));
        let (mut steps, mut taken, mut reached) = (Vec::new(), offset, None);
        for (version, entry) in self.log().versions_between(from, to).await? {
            let bound = entry.record.next_offset;
            if let Some(step @ (_, end)) = reached.take_if(|_| bound > taken + at_once) {
                steps.push(step);
                taken = end;
            }
            reached = (bound > taken).then_some((version, bound));
        }
        Ok(steps)
    }

    /// Brings the tables to a version, and puts what was replayed in the place of those that differ from it.
    ///
    /// # Errors
    /// [`Error::ReplayBack`] where somebody has brought them beyond it, and as [`Self::replay`].
    async fn take_over(
        &self,
        beside: &Self,
        version: u64,
        named: &[String],
        progress: &dyn Progress,
    ) -> Result<Replayed> {
        let models = &self.project().models;
        let refreshed = match self.refresh_to(Some(version), models, Publish::Models, progress).await {
            Err(error) if named.len() == models.len() && is_of_what_is_stored(&error) => {
                tracing::warn!("what is stored is replaced as a whole: {error}");
                None
            }
            refreshed => Some(refreshed?),
        };
        let store = self.log().store();
        let (Some(stored), Some(replayed)) = (self.chain().newest(store).await?, beside.chain().newest(store).await?)
        else {
            return Err(Error::Interrupted);
        };
        if stored.version > version {
            return Err(Error::ReplayBack { version, stands_at: stored.version });
        }
        let epoch = stored.epoch + 1;
        let (mut manifest, differed) = match refreshed {
            Some(_) => {
                let differed = self.differing(named, &stored, &replayed).await?;
                (Manifest { epoch, ..stored }, differed)
            }
            None => (Manifest { epoch, ..replayed.clone() }, replayed.models.keys().cloned().collect()),
        };
        if !differed.is_empty() {
            for name in &differed {
                if let Some(state) = replayed.models.get(name) {
                    let identity = another_identity(&state.identity, manifest.epoch);
                    let state =
                        ModelState { identity, changed: manifest.epoch, mark: Some(new_mark()), ..state.clone() };
                    manifest.models.insert(name.clone(), state);
                }
            }
            if !self.chain().put(store, &manifest).await? {
                return Err(Error::Overtaken { tries: 1 });
            }
        }
        beside.chain().delete(store).await?;
        // What reads a table that was put right is computed anew, and the sinks follow.
        match self.refresh_to(Some(version), models, Publish::Models, progress).await {
            // Somebody else's refresh has done so already.
            Ok(_) | Err(Error::ReplayBack { .. }) => {}
            Err(error) => return Err(error),
        }
        let models = refreshed.map(|refreshed| refreshed.models).unwrap_or_default();
        let models = models.into_iter().filter(|model| named.contains(&model.name)).collect();
        Ok(Replayed { version, models, differed, published: None })
    }

    /// Which of some models are stored, or in a sink, otherwise than they were replayed.
    async fn differing(&self, named: &[String], stored: &Manifest, replayed: &Manifest) -> Result<Vec<String>> {
        let mut differing = Vec::new();
        for name in named {
            let (Some(stored), Some(replayed)) = (stored.models.get(name), replayed.models.get(name)) else { continue };
            // What is there is read, not what is said of it; what cannot be read is not there.
            let expected = (replayed.rows, replayed.content_hash);
            let mut same = self.stored(stored).await.ok() == Some(expected);
            if let Some(model) = self.project().models.iter().find(|model| model.name.to_string() == *name) {
                let table = self.table_image(model, stored).await?;
                for sink in SinkKind::ALL.into_iter().filter(|sink| model.is_kept_in(*sink)) {
                    let differs = self.differs_in(sink, model, stored, (&table, expected)).await;
                    // A published file that cannot be opened is put right; a database that cannot be reached is told.
                    same &= if sink == SinkKind::DuckDb { matches!(differs, Ok(None)) } else { differs?.is_none() };
                }
            }
            if !same {
                differing.push(name.clone());
            }
        }
        Ok(differing)
    }
}

/// Whether a failure may come of damaged tables: then a replay of all needs nothing of them.
fn is_of_what_is_stored(error: &Error) -> bool {
    let is_other = matches!(
        error,
        Error::ReplayBack { .. } | Error::Overtaken { .. } | Error::Interrupted | Error::Model { .. } | Error::Log(_)
    );
    !is_other && !error.is_of_a_sink()
}

fn beside_the_others(beside: &Lakehouse, last: Refreshed, named: &[String]) -> Replayed {
    let models = last.models.into_iter().filter(|model| named.contains(&model.name)).collect();
    let published = Some(beside.duckdb_path());
    Replayed { version: last.version, models, differed: Vec::new(), published }
}

/// A name for a replay, which is a file's name as well.
fn checked(name: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let taken = [IN_PLACE, "lakebed", "versions"].contains(&name);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && !taken {
        true => Ok(name),
        false => Err(Error::ReplayName { name: name.to_owned() }),
    }
}
