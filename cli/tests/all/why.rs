//! Which events a row comes from, and what is said where there is none.

use crate::shop::{Shop, says, stderr};

fn json(text: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

/// A group of the starter's table: `COLUMN=VALUE` of its key, and how many purchases it has.
fn a_group(shop: &Shop, order: &str) -> (Vec<String>, u64) {
    let sql = format!("SELECT day, country, currency, purchases FROM gold.revenue ORDER BY {order} LIMIT 1");
    let row = json(&shop.done(&["query", &sql, "-o", "json"])).remove(0);
    let key = ["day", "country", "currency"].map(|column| format!("{column}={}", row[column].as_str().unwrap()));
    (key.to_vec(), row["purchases"].as_u64().unwrap())
}

fn why<'a>(key: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let key = key.iter().map(String::as_str);
    ["why", "gold.revenue"].into_iter().chain(key).chain(more.iter().copied()).collect()
}

#[test]
fn a_row_is_told_by_its_events() {
    let shop = Shop::with_tables();
    let (key, purchases) = a_group(&shop, "purchases DESC, day, country, currency");
    let events = json(&shop.done(&why(&key, &["-o", "json"])));
    assert_eq!(events.len() as u64, purchases, "each purchase is an event");
    let offsets: Vec<_> = events.iter().map(|event| event["_offset"].as_u64().unwrap()).collect();
    assert!(offsets.is_sorted());
    for event in &events {
        assert_eq!((event["event_type"].as_str(), event["version"].as_u64()), (Some("purchase"), Some(1)));
        let document: serde_json::Value = serde_json::from_str(event["_doc"].as_str().unwrap()).unwrap();
        assert_eq!(document["event_id"], event["event_id"]);
    }
    // People get the first of them, and are told of the others.
    let one = shop.command(&why(&key, &["--limit", "1"])).output().unwrap();
    let table = String::from_utf8_lossy(&one.stdout).into_owned();
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(!table.contains("_doc"), "{table}");
    assert!(purchases > 1);
    let said = format!(
        "1 row of gold.revenue as of version 1 from {purchases} events; the first 1 are shown: --limit shows more"
    );
    says(&stderr(&one), &[&said]);
    let all = shop.command(&["why", "gold.daily_activity", "country=DE", "-o", "csv"]).output().unwrap();
    let (rows, said) = (String::from_utf8_lossy(&all.stdout).into_owned(), stderr(&all));
    says(&rows, &["_offset,event_id,event_type,event_time,source,version,_doc\n"]);
    says(&said, &["of gold.daily_activity as of version 1 from "]);
    assert!(!said.contains("are shown"), "whoever asks for a format gets all: {said}");
}

#[test]
fn an_earlier_version_knows_its_own_events() {
    let shop = Shop::of_two_versions();
    let count = |more: &[&str]| {
        let arguments = ["why", "silver.page_views", "device=desktop", "-o", "json"];
        json(&shop.done(&[&arguments, more].concat()))
    };
    let (then, now) = (count(&["--as-of", "1"]), count(&[]));
    assert!(!then.is_empty() && then.len() < now.len(), "{} and {}", then.len(), now.len());
    assert!(then.iter().all(|event| event["version"] == 1));
    assert!(now.iter().any(|event| event["version"] == 2));
    says(&shop.fails(&["why", "silver.page_views", "device=desktop", "--as-of", "9"], 1), &["no version 9"]);
}

#[test]
fn what_cannot_be_asked_is_told() {
    let shop = Shop::with_tables();
    says(&shop.fails(&["why", "gold.revenue"], 2), &["COLUMN=VALUE"]);
    says(&shop.fails(&["why", "gold.revenue", "country"], 2), &["'country' is no column with its value"]);
    says(&shop.fails(&["why", "gold.revenue", "country=DE", "--limit", "0"], 2), &["--limit"]);
    says(
        &shop.fails(&["why", "gold.revenues", "country=DE"], 1),
        &["there is no table 'gold.revenues'", "did you mean 'gold.revenue'?"],
    );
    says(
        &shop.fails(&["why", "gold.revenue", "contry=DE"], 1),
        &["there is no column 'contry'", "did you mean 'country'?"],
    );
    says(
        &shop.fails(&["why", "gold.revenue", "day=soon"], 1),
        &["'soon' is no DATE, which column 'day' is", "hint: ", "day=2026-11-01"],
    );
    says(
        &shop.fails(&["why", "gold.revenue", "day=1999-01-01", "country=NULL"], 1),
        &[
            "gold.revenue has no row where day = '1999-01-01' AND country IS NULL, as of version 1",
            "its key is day, country, currency",
        ],
    );
    says(&shop.fails(&["why", "bronze.events", "event_id=1"], 1), &["bronze.events is the log itself", "hint: "]);
    shop.edit(
        "sql/gold/revenue.sql",
        "SELECT event_date AS day, count(*) AS purchases FROM silver.purchases GROUP BY 1",
    );
    let sql = "SELECT min(event_date) AS day FROM silver.purchases";
    let day = json(&shop.done(&["query", sql, "-o", "json"]))[0]["day"].as_str().unwrap().to_owned();
    let edited = shop.command(&["why", "gold.revenue", &format!("day={day}")]).output().unwrap();
    says(&stderr(&edited), &["1 row of gold.revenue", "gold.revenue is stored by other SQL than its file has now"]);
}
