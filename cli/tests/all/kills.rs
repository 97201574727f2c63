//! Processes that are killed or told to end in the middle of their work, again and again, later each time.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lakebed_tests::postgres::Database;

use crate::shop::{Shop, stderr};

#[test]
fn a_run_that_is_killed_leaves_every_sink_to_the_next() {
    let (shop, database) = (Shop::new(), Database::new());
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    shop.edit("lakebed.toml", &format!("{toml}\n[models]\nsinks = \"duckdb, postgres, delta\"\n"));
    let lakebed = |arguments: &[&str]| {
        let mut command = shop.command(arguments);
        command.env("LAKEBED_POSTGRES_URL", database.url());
        command
    };
    let done = |arguments: &[&str]| {
        let output = lakebed(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    };
    let mut ended = 0;
    for round in 0..10u64 {
        let events = shop.root().join(format!("{round}.ndjson"));
        let (first, to) = ((round * 200).to_string(), events.to_str().unwrap());
        shop.done(&["generate", "--first", &first, "--events", "200", "--to", to]);
        done(&["ingest", to]);
        let mut run = lakebed(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(120 * (round + 1)));
        ended += usize::from(run.try_wait().unwrap().is_some());
        let _ = run.kill();
        run.wait().unwrap();
    }
    assert!(ended < 10, "none was killed");
    done(&["run"]);
    done(&["verify"]);
}

/// Waits until a process hears of SIGTERM: one that is loaded from a slow disk would die of it. Where the system does not tell,
/// it has a second.
fn wait_for_a_handler(pid: &str) {
    const SIGTERM: u64 = 1 << 14;
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let Ok(told) = fs::read_to_string(format!("/proc/{pid}/status")) else { return };
        let caught = told.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        if caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & SIGTERM != 0) {
            return;
        }
        assert!(Instant::now() < until, "it does not hear of SIGTERM: {told}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing reaches a statement while it is planned; its process ends without it.
#[test]
fn a_query_that_is_being_planned_ends_when_it_is_told_to() {
    let shop = Shop::new();
    shop.done(&["ingest", shop.events(10).to_str().unwrap()]);
    let sum = vec!["CASE WHEN _offset > 1 THEN 1 ELSE 2 END"; 900].join(" * ");
    let mut query = shop.command(&["query", &format!("SELECT {sum} FROM bronze.events")]);
    let query = query.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = query.id().to_string();
    wait_for_a_handler(&pid);
    thread::sleep(Duration::from_secs(1));
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = thread::spawn(move || query.wait_with_output().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    while !ended.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    if !ended.is_finished() {
        Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        panic!("it is planned on, a minute after SIGTERM");
    }
    let output = ended.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("error: interrupted"), "{}", stderr(&output));
}
