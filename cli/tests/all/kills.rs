//! A run that is killed while it brings the sinks up, again and again, later each time.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

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
