//! What `lakebed explain` and `lakebed plan` say: how each model is kept up to date and why, and what a run would do.

use std::collections::{BTreeMap, BTreeSet};

use crate::dataflow::{By, Said};
use crate::epoch::{self, Manifest, ModelState, Work};
use crate::error::Result;
use crate::lakehouse::Lakehouse;
use crate::refresh::shape::{Look, Shape, shapes};
use crate::strategy::Strategy;

/// How a model is kept up to date.
#[derive(Clone, Debug)]
pub struct Explained {
    /// `schema.name`.
    pub model: String,
    /// The strategy's word.
    pub strategy: &'static str,
    /// `append`: its rows only ever come. `keyed`: they come and go.
    pub kind: &'static str,
    /// Its operators, those below before those above.
    pub steps: Vec<Step>,
    /// Where it is computed from everything: why.
    pub fallback: Option<Fallback>,
    /// The rows that the next run reads, as far as the log says it now.
    pub predicted: Predicted,
    /// What the refresh that last changed it did, at which version, and the rows that it has since.
    pub last: Option<(u64, u64, Work)>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is kept: `seen keys`, `first rows`, `states`, `rows by key`.
    pub keeps: &'static str,
    /// The part of the query, in the words of SQL.
    pub node: String,
    /// By what its rows are told apart.
    pub keys: Vec<String>,
    /// Its aggregates, and what is kept of each.
    pub aggregates: Vec<(String, String)>,
}

/// Why a model is computed from everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The same in every release.
    pub code: &'static str,
    /// The part of the query, in the words of SQL.
    pub node: String,
    /// The file.
    pub file: String,
    /// The line of the file, where it is known.
    pub line: Option<usize>,
    /// What to write instead.
    pub instead: &'static str,
}

/// What the next run reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Events, or rows of parents.
    pub rows: u64,
    /// Bytes of the files that they are in, all columns together.
    pub bytes: u64,
}

/// What a run would do to a model.
#[derive(Clone, Debug)]
pub struct Planned {
    /// `schema.name`.
    pub model: String,
    /// What would be done.
    pub action: Action,
    /// The strategy's word, now and then.
    pub strategy: (Option<String>, Option<&'static str>),
    /// Why, one sentence.
    pub because: String,
    /// What it would read.
    pub reads: Predicted,
}

/// What a run would do to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it is up to date.
    Nothing,
    /// It takes up what is new.
    Update,
    /// It is computed from version 0.
    Rebuild,
    /// It is no model of the project any more, and leaves the next epoch and the sinks.
    Drop,
}

impl Action {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Update => "update",
            Self::Rebuild => "rebuild",
            Self::Drop => "drop",
        }
    }
}

impl Lakehouse {
    /// How models are kept up to date: those that are named, or all of them.
    ///
    /// # Errors
    /// [`crate::Error::UnknownTable`] for a name that is no model's, [`crate::Error::Model`] for a query that does not plan.
    pub async fn explain(&self, only: &[String]) -> Result<Vec<Explained>> {
        self.check_names(only)?;
        let (snapshot, stored) = (self.log().snapshot().await?, epoch::newest(self.log().store()).await?);
        let inputs = self.inputs(&snapshot, stored.as_ref(), None, self.log().store());
        let shapes = shapes(&inputs, Look::Run).await?;
        let reads = Reads::of(&shapes, stored.as_ref(), &snapshot);
        let named = |shape: &&Shape| only.is_empty() || only.contains(&shape.model.name.to_string());
        Ok(shapes.iter().filter(named).map(|shape| explained(shape, stored.as_ref(), &reads)).collect())
    }

    /// What a run would do now, model by model.
    ///
    /// # Errors
    /// [`crate::Error::Model`] for a query that does not plan.
    pub async fn plan(&self) -> Result<Vec<Planned>> {
        let (snapshot, stored) = (self.log().snapshot().await?, epoch::newest(self.log().store()).await?);
        let inputs = self.inputs(&snapshot, stored.as_ref(), None, self.log().store());
        let shapes = shapes(&inputs, Look::Run).await?;
        let reads = Reads::of(&shapes, stored.as_ref(), &snapshot);
        let known = |name: &str| stored.as_ref().and_then(|stored| stored.models.get(name));
        let mut planned: Vec<Planned> = Vec::new();
        for shape in &shapes {
            let name = shape.model.name.to_string();
            let (action, because) = match known(&name) {
                None => (Action::Rebuild, "it is new".to_owned()),
                Some(stored) if stored.fingerprint != shape.state.fingerprint => {
                    (Action::Rebuild, difference(stored, shape, &planned))
                }
                Some(_) if reads.of[&name].rows == 0 => {
                    (Action::Nothing, "nothing that it reads has changed".to_owned())
                }
                Some(_) => (Action::Update, update(shape)),
            };
            let strategy = (known(&name).map(|stored| stored.strategy.clone()), Some(shape.strategy.name()));
            planned.push(Planned { reads: reads.of[&name], model: name, action, strategy, because });
        }
        let names: BTreeSet<String> = shapes.iter().map(|shape| shape.model.name.to_string()).collect();
        let gone = stored.iter().flat_map(|stored| &stored.models).filter(|(name, _)| !names.contains(*name));
        planned.extend(gone.map(|(name, state)| Planned {
            model: name.clone(),
            action: Action::Drop,
            strategy: (Some(state.strategy.clone()), None),
            because: "there is no such model in sql/ any more".to_owned(),
            reads: Predicted::default(),
        }));
        Ok(planned)
    }
}

/// Why a model that is there is computed anew.
fn difference(stored: &ModelState, shape: &Shape, parents: &[Planned]) -> String {
    let rebuilt = |parent: &&Planned| {
        let reads = shape.model.references.iter().any(|name| name.to_string() == parent.model);
        reads && parent.action == Action::Rebuild
    };
    let (old, new) = (&stored.columns, &shape.state.columns);
    let added: Vec<_> = new.iter().filter(|column| !old.contains(column)).map(|column| column.name.as_str()).collect();
    let lost: Vec<_> = old.iter().filter(|column| !new.contains(column)).map(|column| column.name.as_str()).collect();
    let strategy = shape.strategy.name();
    match (stored.query == shape.state.query, parents.iter().find(rebuilt)) {
        (true, Some(Planned { model, .. })) if let Some(seed) = model.strip_prefix("seeds.") => seed_changed(seed),
        (true, Some(parent)) => format!("{} is rebuilt, which it reads", parent.model),
        (true, None) if stored.strategy != strategy => format!("its strategy is {strategy} now"),
        (true, None) => "this release computes it in another way, or its columns have other types".to_owned(),
        (false, _) if shape.model.seed.is_some() => seed_changed(&shape.model.name.name),
        (false, _) if !added.is_empty() && lost.is_empty() => format!("its SQL has new columns: {}", added.join(", ")),
        (false, _) if added.is_empty() && lost.is_empty() => "its SQL says something else".to_owned(),
        (false, _) => format!("its SQL gives other columns: {}", [added, lost].concat().join(", ")),
    }
}

fn seed_changed(name: &str) -> String {
    format!("seed {name} changed")
}

fn update(shape: &Shape) -> String {
    match &shape.strategy {
        Strategy::Full { because } => format!("rows are new, and {because}"),
        _ => "rows are new".to_owned(),
    }
}

/// What each model would read.
struct Reads {
    of: BTreeMap<String, Predicted>,
}

impl Reads {
    fn of(shapes: &[Shape], stored: Option<&Manifest>, snapshot: &lakebed_log::Snapshot) -> Self {
        let mut of: BTreeMap<String, Predicted> = BTreeMap::new();
        let events_from = |offset: u64| Predicted {
            rows: snapshot.next_offset.saturating_sub(offset),
            bytes: snapshot.files_from(offset).map(|file| file.staged.bytes).sum(),
        };
        for shape in shapes {
            let known = stored.and_then(|stored| stored.models.get(&shape.model.name.to_string()));
            let known = known.filter(|known| known.fingerprint == shape.state.fingerprint);
            let all = known.is_none() || matches!(shape.strategy, Strategy::Full { .. });
            let mut reads = Predicted::default();
            let mut moved = known.is_none();
            for parent in &shape.model.references {
                let name = parent.to_string();
                let (new, everything) = match (of.get(&name), stored.and_then(|stored| stored.models.get(&name))) {
                    _ if parent.schema == crate::catalog::BRONZE => {
                        (events_from(stored.map_or(0, |stored| stored.next_offset)), events_from(0))
                    }
                    (Some(new), Some(state)) => {
                        let bytes = state.runs.iter().map(|run| run.bytes).sum::<u64>();
                        (*new, Predicted { rows: state.rows + new.rows, bytes: bytes + new.bytes })
                    }
                    (Some(new), None) => (*new, *new),
                    _ => continue,
                };
                moved |= new.rows > 0;
                let counted = if all { everything } else { new };
                reads = Predicted { rows: reads.rows + counted.rows, bytes: reads.bytes + counted.bytes };
            }
            let reads = if moved { reads } else { Predicted::default() };
            of.insert(shape.model.name.to_string(), reads);
        }
        Self { of }
    }
}

fn explained(shape: &Shape, stored: Option<&Manifest>, reads: &Reads) -> Explained {
    let name = shape.model.name.to_string();
    let state = stored.and_then(|stored| stored.models.get(&name));
    let state = state.filter(|state| state.fingerprint == shape.state.fingerprint);
    Explained {
        strategy: shape.strategy.name(),
        kind: if shape.strategy.only_adds() { "append" } else { "keyed" },
        steps: shape.operators.iter().map(step).collect(),
        fallback: match &shape.strategy {
            Strategy::Full { because } => Some(Fallback {
                code: because.code,
                node: because.node.clone(),
                file: shape.model.path.display().to_string(),
                line: shape.model.line_of(&because.word),
                instead: because.instead,
            }),
            _ => None,
        },
        predicted: reads.of[&name],
        last: state.map(|state| (state.changed, state.rows, state.work)),
        model: name,
    }
}

fn step(said: &Said) -> Step {
    let keeps = match said.by {
        By::First => "seen keys",
        By::Ranking { .. } => "first rows",
        By::Merging => "states",
        By::Recomputing => "rows by key",
    };
    Step { keeps, node: said.node.clone(), keys: said.keys.clone(), aggregates: said.aggregates.clone() }
}
