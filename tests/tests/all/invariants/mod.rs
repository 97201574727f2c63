//! The invariants of the design over a catalogue of models of every shape: whatever way a lake has come, its tables are
//! the same pure function of their SQL and the log.
//!
//! Each case is a seed: `LAKEBED_TEST_SEED=SEED` runs that one alone, `LAKEBED_TEST_SEED=FROM..TO` those from one up to
//! another, and `LAKEBED_TEST_LONG=1` as many as fit into `LAKEBED_TEST_MINUTES`, 60 where it is not set.
//! `LAKEBED_TEST_MODELS=gold.x,joins` leaves only these models and shapes, and what they read, and `-gold.x,-joins` all but
//! these.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use lakebed_tests::long;
use tokio::runtime::{Builder, Runtime};

use self::case::{Case, shuffled};
use self::catalogue::{REFUSED, in_log_order};
use self::events::Events;
use self::findings::Findings;
use self::lake::{Content, Lake};

mod case;
mod catalogue;
mod cells;
mod edits;
mod events;
mod findings;
mod kills;
mod lake;
mod oracles;
mod splits;
mod why;

/// How many batches a case has.
const BATCHES: usize = 6;

/// How many properties share the minutes of a long run.
const PROPERTIES: u32 = 11;

/// Says to a child process whose seed's tables it is to print.
const CHILD: &str = "LAKEBED_TESTS_INVARIANTS";

/// Whether somebody asked for cases, and has time for them.
fn asked() -> bool {
    long() || std::env::var_os("LAKEBED_TEST_SEED").is_some()
}

/// The seeds that are asked for, or else from 0 as many as are usual; in a long run until the time is over.
fn seeds(usual: u64) -> Range<u64> {
    match std::env::var("LAKEBED_TEST_SEED") {
        Ok(asked) => {
            let number = |text: &str| text.parse().unwrap();
            let alone = || (number(&asked), number(&asked) + 1);
            let (from, to) = asked.split_once("..").map_or_else(alone, |(from, to)| (number(from), number(to)));
            from..to
        }
        Err(_) if long() => 0..u64::MAX,
        Err(_) => 0..usual,
    }
}

/// Runs the cases of the property that a test of this name holds.
fn cases(property: &str, usual: u64, case: impl Fn(u64)) {
    let minutes = std::env::var("LAKEBED_TEST_MINUTES").map_or(60, |minutes| minutes.parse().unwrap());
    let (began, time) = (Instant::now(), Duration::from_secs(60 * minutes) / PROPERTIES);
    for seed in seeds(usual) {
        if catch_unwind(AssertUnwindSafe(|| case(seed))).is_err() {
            let models = std::env::var("LAKEBED_TEST_MODELS").map(|models| format!(" LAKEBED_TEST_MODELS='{models}'"));
            let again = format!("cargo test --workspace --test all -- --exact invariants::{property}");
            panic!("seed {seed} failed: LAKEBED_TEST_SEED={seed}{} {again}", models.unwrap_or_default());
        }
        if long() && began.elapsed() > time {
            break;
        }
    }
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

#[test]
fn i1_i2_i3_i6_i7_i9_any_way_is_one_replay() {
    cases("i1_i2_i3_i6_i7_i9_any_way_is_one_replay", 1, |seed| {
        runtime(2).block_on(splits::check(&Case::of_catalogue(seed, BATCHES)));
    });
}

#[test]
fn the_reference_models_hold_them_too() {
    cases("the_reference_models_hold_them_too", 1, |seed| {
        runtime(2).block_on(splits::check(&Case::of_reference(seed, 4)));
    });
}

/// DataFusion cuts its work in as many parts as it sees processors: in the child that is one.
#[test]
fn i4_threads_change_nothing() {
    cases("i4_threads_change_nothing", 1, |seed| {
        let case = Case::of_catalogue(seed, 4);
        let lake = runtime(4);
        let here = lake.block_on(async { Lake::after(&case, &case.at_once(4)).await.tables().await });
        let mut findings = Findings::default();
        let there = of_a_child(seed);
        for (name, content) in here {
            if there.get(&name) != Some(&content) {
                findings.add("I4", &name, &format!("{content:?} in 4 threads, {:?} in one", there.get(&name)));
            }
        }
        findings.none();
    });
}

/// The tables of a process that has one processor.
fn of_a_child(seed: u64) -> BTreeMap<String, Content> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(str::trim);
    let itself = std::env::current_exe().unwrap();
    let mut child = match allowed.and_then(|list| list.split([',', '-']).next()) {
        Some(processor) => {
            let mut child = Command::new("taskset");
            child.args(["-c", processor]).arg(itself);
            child
        }
        None => Command::new(itself),
    };
    let child = child.args(["--exact", "invariants::a_child", "--nocapture", "--test-threads", "1"]);
    let output = child.env(CHILD, seed.to_string()).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{failed}");
    let table = |line: &str| {
        let words: Vec<_> = line.strip_prefix("table ")?.split(' ').collect();
        Some((words[0].to_owned(), (words[1].parse().unwrap(), words[2].to_owned())))
    };
    said.lines().filter_map(table).collect()
}

/// In a child process one case's tables, in two epochs; by itself nothing.
#[test]
fn a_child() {
    let Ok(seed) = std::env::var(CHILD) else { return };
    let case = Case::of_catalogue(seed.parse().unwrap(), 4);
    let steps = [case.at_once(2), case.at_once(4)[2..].to_vec()].concat();
    let tables = runtime(1).block_on(async { Lake::after(&case, &steps).await.tables().await });
    println!();
    for (name, (rows, hash)) in tables {
        println!("table {name} {rows} {hash}");
    }
}

#[test]
fn i5_a_kill_changes_nothing() {
    cases("i5_a_kill_changes_nothing", 1, |seed| kills::check(&Case::of_catalogue(seed, 3)));
}

#[test]
fn i5_a_store_that_fails_changes_nothing() {
    cases("i5_a_store_that_fails_changes_nothing", 1, |seed| {
        runtime(2).block_on(kills::check_store(&Case::of_reference(seed, 3)));
    });
}

#[test]
fn i10_a_changed_file_rebuilds_what_depends_on_it() {
    cases("i10_a_changed_file_rebuilds_what_depends_on_it", 1, |seed| {
        runtime(2).block_on(edits::check(&Case::of_catalogue(seed, 3)));
    });
}

#[test]
fn i10_a_changed_seed_rebuilds_what_depends_on_it() {
    cases("i10_a_changed_seed_rebuilds_what_depends_on_it", 2, |seed| {
        runtime(2).block_on(edits::check_seeds(&Case::of_catalogue(seed, 3)));
    });
}

#[test]
fn i8_the_order_of_arrival_changes_nothing() {
    cases("i8_the_order_of_arrival_changes_nothing", 1, |seed| {
        let lines = Events::distinct(seed).batches(4);
        let case = Case::over(seed, lines.clone());
        let other = Case::over(seed, shuffled(&lines, &mut case.dice()));
        let hang_on_it = in_log_order(&case.queries);
        let mut findings = Findings::default();
        runtime(2).block_on(async {
            let sent = Lake::after(&case, &case.at_once(case.batches.len())).await;
            let steps = other.split(&mut other.dice());
            let arrived = Lake::after(&other, &steps).await;
            findings.same("I8 (the same events, in another order)", &arrived, &sent, &hang_on_it).await;
        });
        findings.none();
    });
}

#[test]
fn queries_mean_what_they_mean_elsewhere() {
    cases("queries_mean_what_they_mean_elsewhere", 1, |seed| {
        let case = Case::of_catalogue(seed, BATCHES);
        let mut findings = Findings::default();
        runtime(2).block_on(async {
            let lake = Lake::after(&case, &case.at_once(case.batches.len())).await;
            oracles::compare(&lake, &case.queries, &mut findings).await;
        });
        findings.none();
    });
}

#[test]
fn a_row_comes_from_the_events_that_give_it_again() {
    cases("a_row_comes_from_the_events_that_give_it_again", 1, |seed| {
        runtime(2).block_on(why::check(&why::with_more(Case::of_catalogue(seed, BATCHES))));
    });
}

#[test]
fn so_do_rows_of_the_reference_models() {
    cases("so_do_rows_of_the_reference_models", 1, |seed| {
        runtime(2).block_on(why::check(&Case::of_reference(seed, 4)));
    });
}

#[test]
fn what_is_no_function_of_the_log_is_refused() {
    runtime(2).block_on(async {
        for (sql, word) in REFUSED {
            let mut case = Case::over(0, Vec::new());
            case.queries = vec![catalogue::Query::of_file("gold.refused".to_owned(), (*sql).to_owned())];
            let lake = Lake::new(&case).await;
            match lake.house().refresh(&[], &()).await {
                Ok(_) => panic!("{sql} was not refused"),
                Err(error) => assert!(error.to_string().contains(word), "{sql}: {error}"),
            }
        }
    });
}
