//! History that is brought along: Parquet and CSV, and the types that a sample gives.

use lakebed_tests::python::python;

use crate::shop::{Shop, says};

const CSV: &str = "event_id,event_type,event_time,zip,price,plan\n\
                   1,order,1700000000,00501,9.99,\"pro, yearly\"\n\
                   2,order,2024-05-01 10:00:00,10001,,free\n\
                   3,order,soon,10001,1,free\n";

/// The same rows from Parquet, as DuckDB writes it, and from CSV: once each, and twice is still once.
#[test]
fn parquet_and_csv_are_read_as_events() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[columns]\nprice = \"DECIMAL(18,2)\"\n");
    shop.edit("history.csv", CSV);
    let row = shop.done(&["ingest", "history.csv", "-o", "json"]);
    says(&row, &["\"accepted\":2", "\"quarantined\":1"]);
    says(&shop.done(&["ingest", "history.csv", "-o", "json"]), &["\"accepted\":0", "\"duplicates\":3"]);
    let query = "SELECT event_id, event_time, zip, price, plan, _doc FROM bronze.events ORDER BY 1";
    let rows = shop.done(&["query", query, "-o", "csv"]);
    let mut lines = rows.lines().skip(1);
    says(lines.next().unwrap(), &["1,2023-11-14T22:13:20", ",00501,9.99,\"pro, yearly\","]);
    says(lines.next().unwrap(), &["2,2024-05-01T10:00:00", ",10001,,free,"]);
    let ingested =
        shop.done(&["query", "SELECT count(*) AS n FROM bronze.events WHERE _ingested_at > event_time", "-o", "json"]);
    assert_eq!(ingested.trim(), r#"[{"n":2}]"#, "the time of an event is not the time at which it came");

    let parquet = shop.path().join("history.parquet");
    let script = "import sys, duckdb\n\
                  duckdb.sql(\"COPY (SELECT 'p' || range AS event_id, 'view' AS event_type, TIMESTAMPTZ '2024-05-01 00:00:00+00' AS event_time, \
                  {'a': range, 'b': [1, 2]} AS nested, range * 0.5 AS half FROM range(5000)) TO '\" + sys.argv[1] + \"' (FORMAT parquet)\")";
    let written = std::process::Command::new(python().unwrap()).args(["-c", script]).arg(&parquet).status().unwrap();
    assert!(written.success());
    says(&shop.done(&["ingest", "history.parquet", "-o", "json"]), &["\"accepted\":5000", "\"quarantined\":0"]);
    let sums = "SELECT count(*) AS n, sum(nested_a) AS a, sum(half) AS half, min(nested_b) AS b, min(event_time) AS at FROM bronze.events \
                WHERE event_type = 'view'";
    let found = shop.done(&["query", sums, "-o", "json"]);
    says(
        &found,
        &["\"n\":5000", "\"a\":12497500.0", "\"half\":6248750.0", "\"b\":\"[1,2]\"", "\"at\":\"2024-05-01T00:00:00Z\""],
    );
}

#[test]
fn a_table_that_is_none_is_told_before_anything_is_made() {
    let shop = Shop::new();
    shop.edit("cut.parquet", "PAR1 and no more");
    says(&shop.fails(&["ingest", "cut.parquet"], 1), &["cut.parquet' cannot be read as a table", "hint: "]);
    shop.edit("twice.csv", "event_id,event_id\n1,2\n");
    says(&shop.fails(&["ingest", "twice.csv"], 1), &["two columns are called 'event_id'"]);
    shop.edit("other.csv", "event_id;event_time\n1;2024-05-01\n");
    let said = shop.fails(&["ingest", "other.csv"], 1);
    says(&said, &["no column for an event's id, which is 'event_id'", "'event_id;event_time'", "hint: ", "by commas"]);
    shop.edit("none.parquet", "");
    says(&shop.fails(&["ingest", "none.parquet"], 1), &["none.parquet' cannot be read as a table: it is empty"]);
    assert!(!shop.path().join("lake").exists(), "nothing was made");
    shop.edit("ragged.csv", "event_id,event_type,event_time\n1,t,2024-05-01\n2,t\n");
    says(&shop.fails(&["ingest", "ragged.csv"], 1), &["cannot read on", "ragged.csv", "2 fields", "hint: "]);
}

/// Pins from a sample are what lakebed.toml takes; then nothing differs.
#[test]
fn a_sample_gives_the_pins() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n");
    shop.edit("history.csv", CSV);
    let pins = shop.done(&["schema", "infer", "history.csv"]);
    assert_eq!(pins, "[columns]\nzip = \"VARCHAR\"\nprice = \"DOUBLE\"\nplan = \"VARCHAR\"\n");
    says(&shop.done(&["schema", "infer", "history.csv", "-o", "csv"]), &["price,DOUBLE,2,\"\"\"9.99\"\"\""]);
    shop.edit("lakebed.toml", &format!("[project]\nname = \"shop\"\n{pins}"));
    shop.done(&["ingest", "history.csv"]);
    let shown = shop.done(&["schema", "show", "-o", "csv"]);
    says(&shown, &["column,type,path,field_id,pinned", "price,DOUBLE,price,", ",DOUBLE\n"]);
    assert_eq!(shop.done(&["schema", "diff", "-o", "json"]).trim(), "[]");
    shop.edit(
        "more.ndjson",
        "{\"event_id\":\"9\",\"event_type\":\"t\",\"event_time\":0,\"price\":\"much\",\"new\":{\"x\":true}}\n",
    );
    let differs = shop.done(&["schema", "diff", "more.ndjson", "-o", "csv"]);
    says(&differs, &["price,DOUBLE,VARCHAR,some values do not fit the pin", "new_x,,BOOLEAN,a new column"]);
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[columns]\nprice = \"BOOLEAN\"\nlater = \"DATE\"\n");
    let differs = shop.done(&["schema", "diff", "-o", "csv"]);
    says(&differs, &["price,DOUBLE,BOOLEAN,", "later,,DATE,\"no event had it yet", "zip,VARCHAR,,not pinned"]);
    shop.edit("nothing.ndjson", "");
    says(&shop.fails(&["schema", "infer", "nothing.ndjson"], 1), &["has no event to learn from"]);
    says(&shop.fails(&["schema", "infer", "missing.ndjson"], 1), &["missing.ndjson", "hint: "]);
}
