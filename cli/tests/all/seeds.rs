//! Seeds, as people use them: written, joined, edited, listed, checked, kept from readers, and wrong.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::served::Served;
use crate::shop::{Shop, says};

const COUNTRIES: &str = "code,name,zone\nDE,Germany,007\nUS,United States,001\nGB,\"United Kingdom, the\",\n";

const PLACED: &str = "-- What was done where.\n-- key: event_id\n-- check: relationships(code, seeds.countries.code)\n\
    SELECT e.event_id, e.event_type, c.code, c.name\nFROM silver.events e LEFT JOIN seeds.countries c ON e.country = c.code\n";

const BY_NAME: &str = "SELECT name, count(*) AS events FROM silver.placed GROUP BY name";

/// A project with a seed, two models that hang on it, and a version in its log.
fn with_seed() -> Shop {
    let shop = Shop::new();
    shop.done(&["ingest", shop.events(200).to_str().unwrap()]);
    fs::create_dir_all(shop.path().join("sql/seeds")).unwrap();
    shop.edit("sql/seeds/countries.csv", COUNTRIES);
    shop.edit("sql/silver/placed.sql", PLACED);
    shop.edit("sql/gold/events_by_name.sql", BY_NAME);
    shop.done(&["run"]);
    shop
}

fn query(shop: &Shop, sql: &str, more: &[&str]) -> String {
    shop.done(&[&["query", sql, "-o", "csv"], more].concat())
}

#[test]
fn a_seed_is_a_table_and_a_join_with_it_costs_what_is_new() {
    let shop = with_seed();
    let rows = query(&shop, "SELECT * FROM seeds.countries ORDER BY code", &[]);
    assert_eq!(rows, "code,name,zone\nDE,Germany,007\nGB,\"United Kingdom, the\",\nUS,United States,001\n");
    let text = shop.done(&["explain", "silver.placed", "gold.events_by_name", "seeds.countries"]);
    says(
        &text,
        &[
            "silver.placed\n  strategy   append, its rows only ever come",
            "gold.events_by_name\n  strategy   merge",
            "seeds.countries\n  strategy   seed, its rows are those of its file",
        ],
    );
    let before: u64 = query(&shop, "SELECT count(*) FROM silver.placed", &[]).lines().last().unwrap().parse().unwrap();
    shop.done(&["ingest", shop.events(300).to_str().unwrap()]);
    let said = shop.command(&["run"]).output().unwrap();
    assert!(said.status.success());
    let ran = query(
        &shop,
        "SELECT model, rows, rows_added FROM lakebed.runs WHERE epoch = 2 AND model IN ('silver.placed', 'seeds.countries')",
        &[],
    );
    let mut cells = ran.lines().last().unwrap().split(',');
    assert_eq!(cells.next(), Some("silver.placed"), "{ran}");
    let (now, added): (u64, u64) = (cells.next().unwrap().parse().unwrap(), cells.next().unwrap().parse().unwrap());
    assert!(added > 0 && now == before + added && ran.lines().count() == 2, "{ran}");
    shop.done(&["verify"]);
}

#[test]
fn an_edit_rebuilds_what_reads_it_and_every_version_has_the_seed_as_it_is() {
    let shop = with_seed();
    shop.done(&["ingest", shop.events(300).to_str().unwrap()]);
    shop.done(&["run"]);
    let plan = || shop.done(&["plan", "-o", "csv"]);
    let quoted =
        "\u{feff}code,name,zone\r\nUS,\"United States\",001\r\n\"GB\",\"United Kingdom, the\",\r\nDE,Germany,007\r\n";
    shop.edit("sql/seeds/countries.csv", quoted);
    assert!(!plan().contains("rebuild"), "{}", plan());
    shop.edit("sql/seeds/countries.csv", &COUNTRIES.replace("Germany", "Deutschland"));
    says(
        &plan(),
        &[
            "seeds.countries,rebuild,seed countries changed,seed,seed,",
            "silver.placed,rebuild,seed countries changed,append,append,",
            "gold.events_by_name,rebuild,\"silver.placed is rebuilt, which it reads\"",
            "gold.revenue,nothing,",
        ],
    );
    assert_eq!(plan().matches(",rebuild,").count(), 3);
    // Until a run the tables are as they were, all of them.
    let germany = "SELECT count(*) > 0 AS some FROM silver.placed p JOIN seeds.countries c ON p.name = c.name WHERE c.name = 'Germany'";
    assert_eq!(query(&shop, germany, &[]), "some\ntrue\n");
    assert_eq!(query(&shop, germany, &["--as-of", "1"]), "some\nfalse\n");
    shop.done(&["run"]);
    assert_eq!(query(&shop, germany, &[]), "some\nfalse\n");
    let named = "SELECT name FROM gold.events_by_name VERSION AS OF 1 WHERE name LIKE 'D%'";
    assert_eq!(query(&shop, named, &[]), "name\nDeutschland\n");
    let named = "SELECT count(*) AS n FROM seeds.countries VERSION AS OF 1 WHERE name = 'Deutschland'";
    assert_eq!(query(&shop, named, &[]), "n\n1\n");
    shop.done(&["verify"]);
    shop.done(&["replay", "--to", "1", "--into", "first"]);
    assert!(shop.path().join("lake/published/first.duckdb").exists());
    // What is taken back is what was there before.
    shop.edit("sql/seeds/countries.csv", COUNTRIES);
    shop.done(&["run"]);
    assert_eq!(query(&shop, germany, &[]), "some\ntrue\n");
    shop.done(&["verify"]);
    fs::remove_file(shop.path().join("sql/seeds/countries.csv")).unwrap();
    says(
        &shop.fails(&["run"], 1),
        &["sql/silver/placed.sql:3: there is no table 'seeds.countries'", "write sql/seeds/countries.csv"],
    );
}

#[test]
fn a_seed_is_listed_traced_and_checked() {
    let shop = with_seed();
    let listed = query(
        &shop,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'seeds' ORDER BY 1",
        &[],
    );
    assert_eq!(listed, "column_name,data_type\ncode,Utf8\nname,Utf8\nzone,Utf8\n");
    let read = query(&shop, "SELECT model FROM lakebed.lineage WHERE reads = 'seeds.countries'", &[]);
    assert_eq!(read, "model\nsilver.placed\n");
    let text = shop.done(&["lineage", "silver.placed", "seeds.countries"]);
    says(
        &text,
        &[
            "seeds.countries\n  reads      nothing\n  read by    silver.placed\n  column     code: from no column",
            "rows       chosen by seeds.countries.code, silver.events.country",
            "column     name: seeds.countries.name",
        ],
    );
    let id = query(&shop, "SELECT event_id FROM silver.placed WHERE code = 'DE' LIMIT 1", &[]);
    let why = shop.done(&["why", "silver.placed", &format!("event_id={}", id.lines().last().unwrap()), "-o", "csv"]);
    assert_eq!(why.lines().count(), 2, "{why}");
    let said = shop.fails(&["why", "seeds.countries", "code=DE"], 1);
    says(&said, &["seeds.countries is a seed: its rows are those of ", "ask about a model that reads it"]);
    says(
        &shop.done(&["test", "silver.placed", "-o", "csv"]),
        &["\"relationships(code, seeds.countries.code)\",holds,0"],
    );

    let event = r#"{"event_id": "1", "event_type": "purchase", "event_time": "2026-11-01T10:00:00Z", "location": {"country": "DE"}, "properties": {"price": 2, "quantity": 1}}"#;
    let test = |given: &str, name: &str| {
        format!(
            "[it_is_there]\nmodel = \"silver.placed\"\n{given}\ngiven.bronze.events = '''\n{event}\n'''\nexpect = '''\nname\n{name}\n'''\n"
        )
    };
    shop.edit("sql/tests/placed.toml", &test("", "Germany"));
    says(
        &shop.done(&["test", "--unit", "silver.placed", "-o", "csv"]),
        &["silver.placed,it_is_there,holds,0,unit test"],
    );
    shop.edit("sql/tests/placed.toml", &test("given.seeds.countries = '''\ncode,name\nDE,here\n'''", "here"));
    says(
        &shop.done(&["test", "--unit", "silver.placed", "-o", "csv"]),
        &["silver.placed,it_is_there,holds,0,unit test"],
    );
}

#[test]
fn a_seed_is_kept_from_readers_as_any_table() {
    let shop = with_seed();
    fs::create_dir_all(shop.path().join("sql/policies")).unwrap();
    shop.edit(
        "sql/policies/all.sql",
        "GRANT SELECT ON seeds.countries TO ana; CREATE POLICY here ON seeds.countries TO ana USING (code <> 'US');
         CREATE MASK ON seeds.countries (zone) TO ana USING ('*'); GRANT SELECT ON ALL TABLES IN SCHEMA seeds TO ben;
         CREATE POLICY everywhere ON seeds.countries TO ben USING (true);
         GRANT SELECT ON gold.revenue TO cleo",
    );
    let rows = |who: &str| query(&shop, "SELECT code, zone FROM seeds.countries ORDER BY 1", &["--as", who]);
    assert_eq!(rows("ana"), "code,zone\nDE,*\nGB,*\n");
    assert_eq!(rows("ben"), "code,zone\nDE,007\nGB,\nUS,001\n");
    says(
        &shop.fails(&["query", "SELECT 1 FROM seeds.countries", "--as", "cleo"], 1),
        &["there is no table 'seeds.countries'"],
    );
    let listed = query(&shop, "SELECT DISTINCT table_schema FROM information_schema.tables", &["--as", "cleo"]);
    assert!(!listed.contains("seeds"), "{listed}");
}

#[test]
fn a_server_that_watches_takes_up_an_edited_seed_and_goes_on_with_a_wrong_one() {
    let shop = with_seed();
    let served = Served::start(&shop, &["--watch"]);
    shop.edit("sql/seeds/countries.csv", "code,name\nDE\n");
    served.comes_to_say("countries.csv:2: this row has 1 of 2 values");
    served.comes_to_say("the models go on as they were");
    shop.edit("sql/seeds/countries.csv", &COUNTRIES.replace("Germany", "Deutschland"));
    let began = Instant::now();
    let sql = b"SELECT count(*) AS n FROM silver.placed p JOIN seeds.countries c ON p.name = c.name WHERE c.name = 'Deutschland'";
    loop {
        let (status, _, rows) = served.post("/v1/sql", &[], sql);
        assert_eq!(status, 200, "{rows}");
        if !rows.contains("\"n\":0}") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(180), "it was not taken up: {rows}");
        thread::sleep(Duration::from_millis(50));
    }
    shop.comes_to_hold();
    served.stop();
}

#[test]
fn a_wrong_seed_is_one_sentence_and_in_no_other_tables_way() {
    let shop = with_seed();
    shop.edit("sql/seeds/prices.csv", "plan,price\nfree,0\npro,9.99\n");
    shop.edit(
        "lakebed.toml",
        &(fs::read_to_string(shop.path().join("lakebed.toml")).unwrap() + "\n[seeds.prices]\nprice = \"INTEGER\"\n"),
    );
    let said = shop.fails(&["run"], 1);
    says(
        &said,
        &[
            "sql/seeds/prices.csv:3: column 'price': '9.99' is no INTEGER, which [seeds.prices] in lakebed.toml pins",
            "hint: ",
        ],
    );
    let asked = shop.command(&["query", "SELECT count(*) AS n FROM seeds.countries", "-o", "csv"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "n\n3\n");
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap().replace("INTEGER", "DECIMAL(8,2)");
    shop.edit("lakebed.toml", &toml);
    shop.done(&["run"]);
    assert_eq!(query(&shop, "SELECT sum(price) AS price FROM seeds.prices", &[]), "price\n9.99\n");
}
