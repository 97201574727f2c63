//! The clients that people have, on a lake that is served and published.

use std::path::{Path, PathBuf};
use std::process::Command;

use lakebed_tests::python::python;

use crate::served::Served;
use crate::shop::Shop;

fn client(script: &str, arguments: &[&str]) -> String {
    let scripts: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python");
    let output = Command::new(python().unwrap()).arg(scripts.join(script)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn adbc_and_pyarrow_list_and_query() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &[]);
    let (host, port) = served.flight.rsplit_once(':').unwrap();
    let said = client("flight_clients.py", &[host, port]);
    assert!(said.contains("gold.revenue") && said.lines().count() > 60, "{said}");
    served.stop();
}

#[test]
fn a_server_that_watches_refreshes_as_events_come() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let before = served.version();
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    served.comes_to(before + 1);
    assert_eq!(served.version(), before + 1);
    served.stop();
    let rows = shop.done(&["query", "SELECT count(*) FROM silver.events", "-o", "csv"]);
    assert_eq!(rows.lines().last(), Some("400"), "the server refreshed the tables, and the stretches begin alike");
}

/// It takes up models as they are edited, and goes on with the ones before where one is wrong.
#[test]
fn a_server_that_watches_takes_up_edited_models() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let write = |sql: &str| shop.edit("sql/gold/revenue.sql", sql);
    let has = |column: &str| {
        let query = format!("SELECT {column} FROM gold.revenue LIMIT 1");
        (0..300).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            shop.command(&["query", &query]).output().unwrap().status.success()
        })
    };
    write("SELECT event_date AS day, count(*) AS first FROM silver.purchases GROUP BY 1");
    assert!(has("first"));
    // One that does not parse stops whoever reads the project, but not the server; one that does not plan stops nobody else.
    write("SELECT nothing, count(*) AS second FROM silver.purchases GROUP BY 1");
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    served.comes_to(2);
    write("SELECT event_date AS day, count(*) AS third FROM silver.purchases GROUP BY 1");
    assert!(has("third"));
    let said = served.stop();
    assert!(said.contains("there is no column 'nothing'") && said.contains("the models go on as they were"), "{said}");
    shop.done(&["verify"]);
}

/// Without `--watch` it refreshes nothing, and moves on with whoever does.
#[test]
fn a_server_moves_on_with_the_refreshes_of_others() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &[]);
    let before = served.version();
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    shop.done(&["run"]);
    served.comes_to(before + 1);
    served.stop();
}

#[test]
fn duckdb_1_opens_what_is_published() {
    let shop = Shop::with_tables();
    let published = shop.path().join("lake/published/lakebed.duckdb");
    let said = client("published_file.py", &[published.to_str().unwrap()]);
    assert!(said.contains("12 tables"), "{said}");
}
