//! One lake in many epochs with upkeep between them, and what it has to be the same as.

use std::collections::BTreeSet;

use rand::RngExt;

use super::asked;
use super::case::{Case, Step, Upkeep};
use super::findings::{Findings, difference};
use super::lake::{Lake, content};

/// I1, I2, I3, I6, I7 and I9 of a case.
pub(super) async fn check(case: &Case) {
    let (mut dice, mut findings) = (case.dice(), Findings::default());
    let steps = case.split(&mut dice);
    println!("seed {}: {steps:?}", case.seed);
    let mut stepped = Lake::in_every_sink_after(case, &steps).await;
    let whole = Lake::after(case, &case.at_once(case.batches.len())).await;
    findings.same("I1, I9 (epochs with upkeep are one replay)", &stepped, &whole, &BTreeSet::new()).await;
    twice(&mut stepped, &mut findings).await;
    verified(&stepped, "I7 (stored = DuckDB = PostgreSQL = replay)", &mut findings).await;
    by_themselves(&stepped, case, &mut findings).await;
    let mut stops: Vec<_> =
        stepped.stops.iter().copied().filter(|(batches, _)| *batches < case.batches.len()).collect();
    stops.dedup();
    // A usual run takes one of them.
    if !asked() && !stops.is_empty() {
        stops = vec![stops[dice.random_range(0..stops.len())]];
    }
    for (batches, version) in stops {
        let prefix = Lake::after(case, &case.at_once(batches)).await;
        let invariant = format!("I2 (as of version {version}, a replay of {batches} batches)");
        findings.same_as_of(&invariant, (&stepped, Some(version)), &prefix, &BTreeSet::new()).await;
    }
    findings.none();
}

/// A refresh without news changes nothing, nor does one after a version that has no rows.
async fn twice(lake: &mut Lake<'_>, findings: &mut Findings) {
    let before = lake.tables().await;
    for (invariant, upkeep) in [("I6 (twice is once)", None), ("I9 (a compaction is no news)", Some(Upkeep::Compact))] {
        if let Some(upkeep) = upkeep {
            lake.step(Step::Upkeep(upkeep)).await;
        }
        let refreshed = lake.refresh().await;
        if upkeep.is_none() && !refreshed.unchanged {
            findings.add(invariant, "all", "the second refresh says that something changed");
        }
        for model in refreshed.models.iter().filter(|model| model.rows_written > 0) {
            findings.add(invariant, &model.name, &format!("{} rows were written", model.rows_written));
        }
        if lake.tables().await != before {
            findings.add(invariant, "all", "a table changed");
        }
    }
}

/// What is stored is what the epoch says, what DuckDB has, and what a replay gives.
pub(super) async fn verified(lake: &Lake<'_>, invariant: &str, findings: &mut Findings) {
    for verified in lake.house().verify(&[]).await.unwrap() {
        if !verified.holds() {
            findings.add(invariant, &verified.model, &format!("{verified:?}"));
        }
    }
}

/// What is stored is what the SQL gives over the lake as it is now.
async fn by_themselves(lake: &Lake<'_>, case: &Case, findings: &mut Findings) {
    const INVARIANT: &str = "I3 (stored = its SQL over the lake)";
    let tables = lake.tables().await;
    for query in &case.queries {
        let (stored, computed) = (&tables[query.name], lake.query(None, query.sql).await);
        match &computed {
            Ok(rows) if content(rows) == *stored => {}
            Ok(rows) => {
                let expected = content(rows);
                let rows = (lake.query(None, &format!("SELECT * FROM {}", query.name)).await, computed);
                findings.add(INVARIANT, query.name, &difference(Some(stored), &expected, rows));
            }
            Err(error) => findings.add(INVARIANT, query.name, error),
        }
    }
}
