//! A case: a project, the batches that come, and what is done to its lake between them.

use std::path::Path;
use std::sync::Arc;

use lakebed_log::Batch;
use lakebed_tests::batches::{STARTER, decoded, generated, settings_of};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::catalogue::{Query, catalogue};
use super::events::{Events, SETTINGS};

/// What may be done to a lake without changing what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    Compact,
    Checkpoint,
    VacuumLog,
    FoldRuns,
    VacuumRuns,
    Thin,
    /// The state cache is deleted, and the project opened again.
    ForgetCache,
    Reopen,
}

const UPKEEP: [Upkeep; 8] = [
    Upkeep::Compact,
    Upkeep::Checkpoint,
    Upkeep::VacuumLog,
    Upkeep::FoldRuns,
    Upkeep::VacuumRuns,
    Upkeep::Thin,
    Upkeep::ForgetCache,
    Upkeep::Reopen,
];

/// What happens to a lake next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The batch of this number comes.
    Append(usize),
    Refresh,
    Upkeep(Upkeep),
}

/// A project, and the batches that its lake gets.
pub(super) struct Case {
    pub(super) seed: u64,
    /// Its lakebed.toml.
    pub(super) settings: String,
    pub(super) queries: Vec<Query>,
    pub(super) batches: Vec<Arc<Batch>>,
}

impl Case {
    /// The catalogue over events of that seed, in so many batches.
    pub(super) fn of_catalogue(seed: u64, batches: usize) -> Self {
        Self::over(seed, Events::new(seed).batches(batches))
    }

    /// The catalogue over these lines.
    pub(super) fn over(seed: u64, lines: Vec<Vec<String>>) -> Self {
        let settings = settings_of(SETTINGS);
        let batch = |(number, lines): (usize, Vec<String>)| {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            Arc::new(decoded(&format!("b{number}"), text.as_bytes(), &settings))
        };
        let batches = lines.into_iter().enumerate().map(batch).collect();
        Self { seed, settings: SETTINGS.to_owned(), queries: catalogue(), batches }
    }

    /// The product's reference pipeline over mock events.
    pub(super) fn of_reference(seed: u64, batches: u64) -> Self {
        let lines = 250;
        let feed =
            lakebed_generator::Settings { seed, late: 0.05, duplicates: 0.05, malformed: 0.01, ..Default::default() };
        let settings = settings_of(STARTER);
        // The last lines of the batch before come once more.
        let text = |number: u64| generated(&feed, (number * lines).saturating_sub(20), lines);
        let batch = |number: u64| Arc::new(decoded(&format!("b{number}"), &text(number), &settings));
        let batches = (0..batches).map(batch).collect();
        Self { seed, settings: STARTER.replace("{name}", "shop"), queries: reference(), batches }
    }

    /// The same case with other models.
    pub(super) fn with_queries(&self, change: impl Fn(Query) -> Query) -> Self {
        let queries = self.queries.iter().copied().map(change).collect();
        Self { seed: self.seed, settings: self.settings.clone(), queries, batches: self.batches.clone() }
    }

    pub(super) fn dice(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed ^ 0x5EED)
    }

    /// All batches in some epochs, with upkeep between them; a refresh at the end, and sometimes one before any event.
    pub(super) fn split(&self, dice: &mut ChaCha8Rng) -> Vec<Step> {
        let mut steps = Vec::new();
        if dice.random_bool(0.3) {
            steps.push(Step::Refresh);
        }
        let refreshes: Vec<_> = self.batches.iter().map(|_| dice.random_bool(0.65)).collect();
        let mut upkeep = |steps: &mut Vec<Step>| {
            while dice.random_bool(0.45) {
                steps.extend(UPKEEP.choose(dice).map(|upkeep| Step::Upkeep(*upkeep)));
            }
        };
        for (number, refreshes) in refreshes.into_iter().enumerate() {
            steps.push(Step::Append(number));
            upkeep(&mut steps);
            if refreshes && number + 1 < self.batches.len() {
                steps.push(Step::Refresh);
                upkeep(&mut steps);
            }
        }
        steps.push(Step::Refresh);
        steps
    }

    /// The first so many batches in one epoch.
    pub(super) fn at_once(&self, batches: usize) -> Vec<Step> {
        (0..batches).map(Step::Append).chain([Step::Refresh]).collect()
    }
}

/// The same lines in another order and in other batches.
pub(super) fn shuffled(lines: &[Vec<String>], dice: &mut ChaCha8Rng) -> Vec<Vec<String>> {
    let mut all: Vec<_> = lines.iter().flatten().filter(|line| line.starts_with('{')).cloned().collect();
    all.shuffle(dice);
    let mut batches = vec![Vec::new(); lines.len()];
    for line in all {
        let number = dice.random_range(0..batches.len());
        batches[number].push(line);
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// The models under `sql/`, each of which only reads those before it.
fn reference() -> Vec<Query> {
    let mut queries = Vec::new();
    for layer in ["silver", "gold"] {
        let directory = format!("{}/../sql/{layer}", env!("CARGO_MANIFEST_DIR"));
        let mut files: Vec<_> = Path::new(&directory).read_dir().unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = format!("{layer}.{}", file.file_stem().unwrap().to_str().unwrap());
            queries.push(Query::of_file(name, std::fs::read_to_string(file).unwrap()));
        }
    }
    queries
}
