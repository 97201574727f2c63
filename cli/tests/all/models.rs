//! What is said of models and done to them: explain, plan, replay, and an edit in between.

use std::fs;

use crate::shop::{Shop, says, stderr};

#[test]
fn explain_says_how_every_model_is_kept_up_to_date() {
    let shop = Shop::with_tables();
    let text = shop.done(&["explain", "silver.events", "gold.cohort_retention"]);
    says(
        &text,
        &["silver.events\n  strategy   append, its rows only ever come", "strategy   recompute", "keeps rows by key"],
    );
    says(&text, &["silver.events.user_id", "last       epoch 1: 300 rows came, 0 went, of 300"]);
    let rows = shop.done(&["explain", "-o", "csv"]);
    assert_eq!(rows.lines().count(), 13, "{rows}");
    assert!(!rows.contains(",full,"), "no model of the starter needs all its rows: {rows}");

    let model =
        "-- Running.\nSELECT event_id,\n  sum(duration_ms) OVER (ORDER BY event_id) AS ran\nFROM silver.events\n";
    fs::write(shop.path().join("sql/gold/running.sql"), model).unwrap();
    let text = shop.done(&["explain", "gold.running"]);
    says(
        &text,
        &[
            "strategy   full, its rows come and go",
            "(window-of-all-rows)",
            "sql/gold/running.sql:3",
            "add PARTITION BY",
        ],
    );
    let json = shop.done(&["explain", "gold.running", "-o", "json"]);
    says(&json, &[r#""code":"window-of-all-rows""#, r#""last_epoch":null"#, r#""next_rows":300"#]);
    says(&shop.fails(&["explain", "gold.revenues"], 1), &["there is no table 'gold.revenues'", "gold.revenue"]);
    says(&shop.fails(&["explain", "--deep"], 2), &["--deep"]);
}

#[test]
fn a_plan_says_what_an_edit_will_cost() {
    let shop = Shop::with_tables();
    let plan = |shop: &Shop| {
        let output = shop.command(&["plan", "-o", "csv"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    says(&plan(&shop).1, &["a run would change nothing"]);
    let file = shop.path().join("sql/silver/purchases.sql");
    let purchases = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("-- Edited.\n{purchases}")).unwrap();
    says(&plan(&shop).1, &["a run would change nothing"]);
    fs::write(&file, purchases.replace("WHERE", "WHERE quantity > 0 AND")).unwrap();
    let (rows, said) = plan(&shop);
    says(&said, &["a run would rebuild 2 models and update 0"]);
    says(&rows, &["silver.purchases,rebuild,its SQL says something else,append,append,300,"]);
    says(&rows, &["gold.revenue,rebuild,\"silver.purchases is rebuilt, which it reads\""]);
    shop.done(&["run"]);
    says(&plan(&shop).1, &["a run would change nothing"]);
    shop.done(&["verify"]);
}

#[test]
fn a_replay_goes_beside_the_tables_or_puts_them_right() {
    let shop = Shop::with_tables();
    let beside = shop.command(&["replay", "gold.revenue", "--to", "1", "--into", "first"]).output().unwrap();
    says(&stderr(&beside), &["1 models as of version 1, in ", "first.duckdb"]);
    let published = shop.path().join("lake/published");
    let count = |file: &str| {
        let duckdb = duckdb::Connection::open_in_memory().unwrap();
        duckdb.execute_batch(&format!("ATTACH '{}' AS it (READ_ONLY)", published.join(file).display())).unwrap();
        duckdb.query_row("SELECT sum(purchases)::BIGINT FROM it.gold.revenue", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count("first.duckdb"), count("lakebed.duckdb"));

    let duckdb = duckdb::Connection::open(published.join("lakebed.duckdb")).unwrap();
    duckdb.execute("UPDATE gold.revenue SET purchases = purchases + 1", []).unwrap();
    drop(duckdb);
    assert_ne!(count("first.duckdb"), count("lakebed.duckdb"));
    let replay = shop.command(&["replay", "-o", "csv"]).output().unwrap();
    says(&stderr(&replay), &["gold.revenue was not what the log gives, and has been put right", "1 of 12 models"]);
    assert_eq!(count("first.duckdb"), count("lakebed.duckdb"));
    shop.done(&["verify"]);
    says(
        &stderr(&shop.command(&["run", "--full-refresh"]).output().unwrap()),
        &["12 models at version 1 are what the log gives"],
    );

    says(&shop.fails(&["replay", "--to", "0"], 1), &["the tables stand at version 1, beyond version 0", "--into NAME"]);
    says(&shop.fails(&["replay", "--to", "9"], 1), &["9"]);
    says(&shop.fails(&["replay", "--into", "a/b"], 1), &["a replay cannot be called 'a/b'"]);
    says(&shop.fails(&["replay", "gold.nothing"], 1), &["there is no table 'gold.nothing'"]);
    says(&shop.fails(&["replay", "--to", "1", "--as-of", "2026-11-01"], 2), &["--as-of"]);
}

#[test]
fn a_file_that_is_wrong_is_in_no_other_tables_way() {
    let shop = Shop::with_tables();
    shop.edit("sql/gold/bad.sql", "SELECT sum(amount AS s FROM bronze.events");
    shop.edit("sql/gold/worse.sql", "SELECT s FROM gold.bad");
    let output = shop.command(&["query", "SELECT count(*) AS n FROM silver.events", "-o", "csv"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\n300\n", "{}", stderr(&output));
    says(&stderr(&output), &["left out: ", "bad.sql:1", "there is no table 'gold.bad'"]);
    says(&shop.fails(&["run"], 1), &["bad.sql:1"]);
}
