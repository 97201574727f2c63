//! Verification and the upkeep of the log, by commands.

use std::fs;

use crate::shop::{Shop, says, stderr};

#[test]
fn the_log_is_kept_up_by_commands() {
    let shop = Shop::new();
    for count in [100, 200, 300] {
        shop.done(&["ingest", shop.events(count).to_str().unwrap(), "--ack", "durable"]);
    }
    assert_eq!(shop.count(), r#"[{"n":0}]"#, "durable, and not yet in the log");
    shop.done(&["log", "recover"]);
    assert_eq!(shop.count(), r#"[{"n":600}]"#);
    let compact = shop.command(&["log", "compact"]).output().unwrap();
    says(&stderr(&compact), &["files", "→", "checkpoint at version"]);
    assert_eq!(shop.count(), r#"[{"n":600}]"#);
    let objects = shop.done(&["log", "show", "--objects", "-o", "csv"]);
    says(&objects, &["checkpoint,2,", "replaced data file,", "receipt,3,"]);
    let vacuum = shop.command(&["log", "vacuum", "--retain", "1h"]).output().unwrap();
    assert!(vacuum.status.success() && stderr(&vacuum).contains("deleted 0 files"), "{}", stderr(&vacuum));
    says(&shop.fails(&["log", "vacuum", "--retain", "0h"], 2), &["an hour at least"]);
    says(&shop.fails(&["log", "vacuum", "--retain", "soon"], 2), &["'soon' is not a time such as 7d or 12h"]);
    shop.done(&["run"]);
    shop.done(&["ingest", shop.events(700).to_str().unwrap()]);
    shop.done(&["run"]);
    let compact = shop.command(&["log", "compact"]).output().unwrap();
    says(&stderr(&compact), &["model runs → "]);
    shop.done(&["verify"]);
}

#[test]
fn a_log_may_have_no_partitions() {
    let shop = Shop::new();
    let days = "SELECT event_date, count(*) AS n FROM bronze.events GROUP BY 1 ORDER BY 1";
    let settings = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    let partitioned = |by: &str| shop.edit("lakebed.toml", &format!("{settings}\n[log]\npartition_by = {by}\n"));
    partitioned("\"event_type\"");
    says(
        &shop.fails(&["ingest", shop.events(10).to_str().unwrap()], 1),
        &["'event_type' is neither \"event_date\" nor \"none\""],
    );
    partitioned("\"none\"");
    let late = |n: u32| {
        format!(r#"{{"event_id":"{n}","event_type":"late","event_time":"2026-10-{:02}T12:00:00Z"}}"#, 1 + n % 7)
    };
    let file = shop.path().join("late.ndjson");
    fs::write(&file, (0..50).map(late).collect::<Vec<_>>().join("\n")).unwrap();
    for events in [shop.events(3_000), file] {
        shop.done(&["ingest", events.to_str().unwrap()]);
        shop.done(&["run"]);
    }
    let objects = || shop.done(&["log", "show", "--objects", "-o", "csv"]);
    says(&objects(), &["data file,2,"]);
    let of_days = shop.done(&["query", "-o", "csv", days]);
    assert_eq!(of_days.lines().count(), 1 + 7 + 1, "{of_days}");
    says(&of_days, &["2026-10-01,8", "2026-10-07,7", ",3000"]);
    shop.done(&["log", "compact"]);
    says(&objects(), &["data file,1,", "replaced data file,2,"]);
    assert_eq!(shop.done(&["query", "-o", "csv", days]), of_days);
    shop.done(&["verify"]);
    // What a lake is partitioned by is settled when it is made.
    partitioned("\"event_date\"");
    says(&shop.done(&["doctor", "-o", "csv"]), &["with partition_by = \"\"none\"\" as it was made"]);
    shop.done(&["ingest", shop.events(7_000).to_str().unwrap()]);
    says(&objects(), &["data file,2,"]);
    assert!(
        !shop
            .path()
            .join("lake/events")
            .read_dir()
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with("event_date") })
    );
}

#[test]
fn verify_names_what_was_changed_by_hand() {
    let shop = Shop::with_tables();
    let verified = |models: &[&str]| {
        let output = shop.command(&[&["verify", "-o", "csv"], models].concat()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    };
    assert_eq!(verified(&[]).0, Some(0));

    let published = shop.path().join("lake/published/lakebed.duckdb");
    let duckdb = duckdb::Connection::open(&published).unwrap();
    duckdb.execute("UPDATE gold.revenue SET purchases = purchases + 1 WHERE country = 'DE'", []).unwrap();
    drop(duckdb);
    let (code, rows, said) = verified(&[]);
    assert_eq!(code, Some(1), "{said}");
    says(
        &said,
        &[
            "error: what is published in duckdb is not what a replay of the log gives: gold.revenue",
            "hint: what is stored is right",
        ],
    );
    let wrong: Vec<_> = rows.lines().filter(|row| row.contains("false")).collect();
    assert!(
        matches!(wrong[..], [row] if row.starts_with("gold.revenue,") && row.contains(",true,false,,,true,false,") && row.contains("duckdb: day=")),
        "{rows}"
    );
    assert_eq!(verified(&["silver.events"]).0, Some(0), "the others hold");

    // An epoch that says other rows than its runs have.
    let epoch = shop.path().join("lake/epochs/00000000000000000001.json");
    let text = fs::read_to_string(&epoch).unwrap();
    let at = text.find("\"silver.purchases\"").unwrap();
    let at = at + text[at..].find("\"content_hash\":\"").unwrap() + 16;
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    fs::write(&epoch, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
    let (code, rows, _) = verified(&["silver.purchases"]);
    assert_eq!(code, Some(1), "{rows}");
    says(
        &rows,
        &[
            "silver.purchases,",
            ",false,false,,,false,false,",
            "stored: the rows are those of a replay, and the epoch says other ones",
        ],
    );
}

#[test]
fn verify_says_what_a_run_has_to_do_first() {
    let shop = Shop::new();
    shop.done(&["ingest", shop.events(50).to_str().unwrap()]);
    says(
        &shop.fails(&["verify"], 1),
        &["what is stored is not of the SQL as it is now", "gold.revenue", "lakebed run"],
    );
    shop.done(&["run"]);
    shop.edit("sql/gold/extra.sql", "SELECT event_type, count(*) AS events FROM silver.events GROUP BY 1");
    says(&shop.fails(&["verify"], 1), &["for: gold.extra", "lakebed run"]);
    shop.done(&["verify", "gold.revenue"]);
}

/// A log alone is as it shall be.
#[test]
fn verify_of_no_models_holds() {
    let shop = Shop::new();
    fs::remove_dir_all(shop.path().join("sql")).unwrap();
    shop.done(&["ingest", shop.events(50).to_str().unwrap()]);
    for _ in 0..2 {
        let verified = shop.command(&["verify"]).output().unwrap();
        assert!(verified.status.success() && stderr(&verified).contains("0 models hold"), "{}", stderr(&verified));
        says(&shop.fails(&["verify", "gold.revenue"], 1), &["there is no table 'gold.revenue'"]);
        shop.done(&["run"]);
    }
}
