//! What each mistake says, and that nothing is half-written after it.

use std::fs;

use crate::shop::{Shop, says, stderr};

#[test]
fn a_wrong_command_line_exits_2() {
    let shop = Shop::new();
    says(&shop.fails(&["qurey", "SELECT 1"], 2), &["qurey", "similar subcommand", "query"]);
    says(&shop.fails(&["ingest", "--sorce", "x"], 2), &["--sorce"]);
    says(&shop.fails(&["query", "SELECT 1", "--as-of", "yesterday"], 2), &["neither a version nor a time"]);
    says(&shop.fails(&["ingest", "a", "b", "--batch-id", "x"], 2), &["hint: "]);
    says(&shop.fails(&["serve", "--http", "off", "--flight", "off"], 2), &["nowhere to listen", "hint: "]);
    says(&shop.fails(&["serve", "--http", "of"], 2), &["neither an address such as 127.0.0.1:8080 nor off"]);
}

#[test]
fn what_is_missing_is_named() {
    let shop = Shop::new();
    let nowhere = shop.root().join("nowhere");
    let said = shop.fails(&["--project", nowhere.to_str().unwrap(), "run"], 1);
    says(&said, &["is not a lakebed project", "hint: ", "lakebed init"]);
    for looks in [&["query", "SELECT 1"][..], &["token", "list"], &["token", "remove", "x"], &["quarantine", "list"]] {
        says(&shop.fails(looks, 1), &["there is no log", "lakebed ingest"]);
    }
    shop.done(&["user", "list"]);
    assert!(!shop.path().join("lake").exists(), "whoever looks makes no lake");
    says(&shop.fails(&["ingest", "missing.ndjson"], 1), &["missing.ndjson", "hint: "]);
    assert!(!shop.path().join("lake/events").exists() || shop.count() == r#"[{"n":0}]"#, "nothing half-written");
}

#[test]
fn a_wrong_setting_is_named_with_its_line() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[lake]\nurll = \"./lake\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:4", "urll", "did you mean", "url"]);
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[columns]\nprice = \"DECIMALS(3)\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:4", "DECIMALS(3)"]);
    shop.edit("lakebed.toml", "[project\nname = \"shop\"\n");
    says(&shop.fails(&["run"], 1), &["lakebed.toml:1"]);
}

#[test]
fn a_level_that_cannot_be_read_is_told_once() {
    let shop = Shop::new();
    let said = stderr(&shop.command(&["log", "show"]).env("LAKEBED_LOG", "lakebed_log=loud").output().unwrap());
    assert_eq!(said.matches("LAKEBED_LOG is 'lakebed_log=loud'").count(), 1, "{said}");
}

#[test]
fn a_wrong_model_is_named_with_its_line() {
    let shop = Shop::new();
    shop.edit("sql/gold/extra.sql", "SELECT user_id\nFROM silver.evnts");
    says(&shop.fails(&["run"], 1), &["extra.sql:2", "silver.evnts", "did you mean 'silver.events'?"]);
    shop.edit("sql/gold/extra.sql", "SELECT\n    contry\nFROM silver.events");
    says(&shop.fails(&["run"], 1), &["extra.sql:2", "contry", "did you mean 'country'?"]);
    shop.edit("sql/gold/extra.sql", "SELECT * FROM gold.circle");
    shop.edit("sql/gold/circle.sql", "SELECT * FROM gold.extra");
    says(&shop.fails(&["run"], 1), &["circle", "gold.circle → gold.extra → gold.circle"]);
    fs::remove_file(shop.path().join("sql/gold/circle.sql")).unwrap();
    shop.edit("sql/gold/extra.sql", "SELECT random() AS r FROM silver.events");
    says(&shop.fails(&["run"], 1), &["extra.sql", "random()", "no function of the log"]);
    shop.edit("sql/gold/extra.sql", "SELECT user_id,\n    INTERVAL '1 day' AS span FROM silver.events");
    says(&shop.fails(&["run"], 1), &["extra.sql:2", "column 'span' is an INTERVAL", "CAST"]);
    let found = shop.command(&["doctor", "-o", "csv"]).output().unwrap();
    says(&String::from_utf8_lossy(&found.stdout), &["models,wrong,", "column 'span' is an INTERVAL"]);
}

#[test]
fn a_wrong_query_is_answered_with_the_nearest_name() {
    let shop = Shop::with_tables();
    says(
        &shop.fails(&["query", "SELECT * FROM gold.revenu"], 1),
        &["no table 'gold.revenu'", "did you mean 'gold.revenue'?"],
    );
    says(
        &shop.fails(&["query", "SELECT contry FROM gold.revenue"], 1),
        &["no column 'contry'", "did you mean 'country'?"],
    );
    says(&shop.fails(&["query", "DROP TABLE gold.revenue"], 1), &["would write"]);
    says(&shop.fails(&["query", "SELECT 1", "--as-of", "99"], 1), &["no version 99", "log show"]);
    says(&shop.fails(&["run", "gold.revenu"], 1), &["did you mean 'gold.revenue'?"]);
}

#[test]
fn another_lake_than_ours_is_left_alone() {
    let (ours, theirs) = (Shop::with_tables(), Shop::new());
    theirs.edit("lakebed.toml", "[project]\nname = \"other\"\n");
    let lake = ours.path().join("lake");
    let said = theirs.fails(&["--lake", lake.to_str().unwrap(), "ingest", "/dev/null"], 1);
    says(&said, &["belongs to the project 'shop', not to 'other'", "hint: "]);
    let identity = fs::read_to_string(lake.join("lake.json")).unwrap();
    fs::write(lake.join("lake.json"), identity.replace("\"format\":1", "\"format\":2")).unwrap();
    says(&ours.fails(&["run"], 1), &["has format 2", "formats up to 1", "newer lakebed"]);
}

#[test]
fn a_lake_at_no_place_is_refused() {
    let shop = Shop::new();
    let said = shop.fails(&["--lake", "s3://", "run"], 1);
    says(&said, &["'s3://' is no place for a lake or its tables: it names no bucket", "hint: "]);
    let mut run = shop.command(&["--lake", "gs://bucket", "run"]);
    says(&stderr(&run.output().unwrap()), &["neither a local directory nor s3://", "hint: "]);
}
