//! SQL files and seeds that are edited between two refreshes.

use std::collections::BTreeSet;

use super::case::{Case, Step};
use super::catalogue::readers;
use super::findings::Findings;
use super::lake::Lake;
use rand::seq::IndexedRandom;

/// A model, a part of its text, and what is there instead.
const EDITS: [(&str, &str, &str); 9] = [
    ("silver.current", "op <> 'd'", "op <> 'd' AND id <> 'i3'"),
    ("silver.people", "newest = 1", "newest = 1 AND city <> 'oslo'"),
    ("silver.rows", "= 'row'", "= 'row' AND kind IS DISTINCT FROM 'k1'"),
    ("gold.counts", "FROM silver.rows", "FROM silver.rows WHERE flag"),
    ("gold.by_day", "sum(n) AS n", "sum(n) + 1 AS n"),
    ("gold.sessions", "1800", "3600"),
    ("gold.checked_rows", "n > 0", "n > 4"),
    ("gold.checked_groups", "rows < 12", "rows < 7"),
    ("gold.checked_changes", "n > 3  quarantine", "n > 5  quarantine"),
];

/// The same of seeds.
const EDITS_OF_SEEDS: [(&str, &str, &str); 3] =
    [("seeds.kinds", "012,2", "012,4"), ("seeds.kinds", "dé,1e5,3\n", ""), ("seeds.towns", "rome,IT,1", "rome,FR,1")];

/// I10 of a case: a changed file rebuilds what depends on it and nothing else, and comes to what a replay gives.
pub(super) async fn check(case: &Case) {
    check_one(case, &EDITS).await;
}

/// The same for a changed seed.
pub(super) async fn check_seeds(case: &Case) {
    check_one(case, &EDITS_OF_SEEDS).await;
}

async fn check_one(case: &Case, edits: &[(&str, &str, &str)]) {
    const INVARIANT: &str = "I10 (a changed file)";
    let known = |(name, ..): &&(&str, &str, &str)| case.queries.iter().any(|query| query.name == *name);
    let edits: Vec<_> = edits.iter().filter(known).collect();
    let Some((changed, from, to)) = edits.choose(&mut case.dice()) else { return };
    let edited = case.with_queries(|query| match query.name == *changed {
        true => {
            assert!(query.text().is_some_and(|text| text.contains(from)), "{changed} has no {from}");
            query.edited(|text| text.replacen(from, to, 1))
        }
        // Nothing that rows depend on are quotes, line ends and the order of a seed's rows; nor comments and layout, those of checks
        // neither.
        false if query.is_seed() => query.edited(written_otherwise),
        false => query.edited(|text| {
            let checks = text.replace(" > ", ">").replace("  quarantine", "     quarantine");
            let text = if text.contains("-- check:") { checks } else { text.to_owned() };
            format!("-- Edited.\n{text}  -- too\n")
        }),
    });
    println!("seed {}: {changed}", case.seed);
    let depends: BTreeSet<_> = readers(&case.queries, changed);
    let last = case.batches.len() - 1;
    let mut lake = Lake::after(case, &case.at_once(last)).await;
    lake.edit(&edited).await;
    let mut findings = Findings::default();
    for model in lake.refresh().await.models {
        if model.rows_written > 0 && !depends.contains(model.name.as_str()) {
            findings.add(INVARIANT, &model.name, &format!("{} rows were written", model.rows_written));
        }
    }
    lake.step(Step::Append(last)).await;
    lake.refresh().await;
    let replay = Lake::after(&edited, &edited.at_once(last + 1)).await;
    findings.same(INVARIANT, &lake, &replay, &BTreeSet::new()).await;
    findings.none();
}

/// The same rows in another order, with other line ends, and in quotes.
fn written_otherwise(csv: &str) -> String {
    let mut lines: Vec<_> = csv.lines().map(|line| line.replacen("k1,", "\"k1\",", 1) + "\r\n").collect();
    lines[1..].reverse();
    format!("\u{feff}{}", lines.concat())
}
