//! `lakebed test`: unit tests of models, without a lake and beside one.

use std::fs;

use crate::shop::{Shop, says, stderr};

/// A project without pins, with one model and these tests of it.
fn shop_with(model: &str, tests: &str) -> Shop {
    let shop = Shop::new();
    fs::remove_dir_all(shop.path().join("sql")).unwrap();
    for folder in ["sql/gold", "sql/tests/deep"] {
        fs::create_dir_all(shop.path().join(folder)).unwrap();
    }
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[columns]\nprice = \"DECIMAL(8,2)\"\n");
    shop.edit("sql/gold/paid.sql", model);
    shop.edit("sql/tests/deep/paid.toml", tests);
    shop
}

/// What is said of a run that exits with this code, and its rows.
fn tried(shop: &Shop, arguments: &[&str], code: i32) -> (String, String) {
    let output = shop.command(arguments).output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    (said, String::from_utf8(output.stdout).unwrap())
}

const PAID: &str = "SELECT user_id, sum(price) AS paid, count(*) AS n FROM bronze.events GROUP BY user_id";

const EVENTS: &str = r#"given.bronze.events = '''
{"event_id": "1", "event_type": "paid", "event_time": "2026-11-01T10:00:00Z", "price": 10.5}
{"event_id": "2", "event_type": "paid", "event_time": "2026-11-01T11:00:00Z", "price": 2, "user_id": "ana"}

{"event_id": "2", "event_type": "paid", "event_time": "2026-11-01T11:00:00Z", "price": 2, "user_id": "ana"}
'''
"#;

#[test]
fn the_tests_of_a_fresh_project_hold_without_a_lake() {
    let shop = Shop::new();
    let (said, rows) = tried(&shop, &["test", "-o", "csv"], 0);
    says(&said, &["there is no lake yet, so the checks had no tables to ask"]);
    says(&rows, &["gold.revenue,a_purchase_counts_once,holds,0,unit test\n"]);
    assert_eq!(rows.matches(",holds,0,unit test\n").count(), 2, "{rows}");
    let (said, rows) = tried(&shop, &["test", "--unit", "gold.revenue", "-o", "csv"], 0);
    assert_eq!((said.as_str(), rows.lines().count()), ("", 2), "{rows}");
    for made in ["lake", ".lakebed"] {
        assert!(!shop.path().join(made).exists(), "{made} is not made");
    }
    says(&shop.fails(&["test", "--unit", "gold.revenu"], 1), &["there is no table 'gold.revenu'", "'gold.revenue'"]);
    // Nothing at all was tried of this one.
    says(&shop.fails(&["test", "gold.daily_activity"], 1), &["there is no log"]);
    let (said, rows) = tried(&shop, &["test", "--unit", "gold.daily_activity", "-o", "csv"], 0);
    says(&said, &["no model has a unit test: write one under sql/tests"]);
    assert_eq!(rows.lines().count(), 1);
}

#[test]
fn with_a_lake_the_checks_follow_and_the_lake_is_as_it_was() {
    let shop = Shop::with_tables();
    let before = shop.done(&["log", "show", "-o", "csv"]);
    let (_, rows) = tried(&shop, &["test", "-o", "csv"], 0);
    let kinds: Vec<_> = rows.lines().skip(1).map(|row| row.rsplit(',').next().unwrap()).collect();
    let tests = kinds.iter().take_while(|kind| **kind == "unit test").count();
    assert!(tests >= 2 && tests < kinds.len() && kinds[tests..].iter().all(|kind| *kind == "check"), "{rows}");
    assert_eq!(shop.done(&["log", "show", "-o", "csv"]), before);
    shop.done(&["verify"]);
}

#[test]
fn rows_that_are_missing_and_too_many_are_shown_with_their_place() {
    let whole =
        format!("[holds]\nmodel = 'gold.paid'\n{EVENTS}expect = '''\nn,user_id,paid\n2,ana,4.00\n1,,10.5\n'''\n\n");
    let wrong = format!("[fails]\nmodel = 'gold.paid'\n{EVENTS}expect = '''\nuser_id,n\nana,3\nana,2\n'''\n");
    let shop = shop_with(PAID, &(whole + &wrong));
    let (said, rows) = tried(&shop, &["test", "--unit", "-o", "json"], 1);
    says(&said, &["sql/tests/deep/paid.toml:15: 'fails': gold.paid has other rows: 1 missing, 1 too many\n"]);
    says(&said, &["| missing  | ana     | 3 |\n", "| too many | NULL    | 1 |\n"]);
    says(&said, &["error: 1 unit test does not hold\n", "hint: "]);
    assert!(!said.contains("epoch"), "both ways come to the same: {said}");
    let held = r#"{"model":"gold.paid","check":"holds","state":"holds","rows_that_fail":0,"kind":"unit test"}"#;
    let failed = r#"{"model":"gold.paid","check":"fails","state":"fails","rows_that_fail":2,"kind":"unit test"}"#;
    assert_eq!(rows.trim(), format!("[{held},{failed}]"));
}

#[test]
fn the_way_in_which_the_events_came_is_told_where_it_matters() {
    // No function of the events alone: how many batches they came in shows.
    let model = "SELECT count(DISTINCT _batch_id) AS n FROM bronze.events";
    let test = |n: u32| format!("[batches]\nmodel = 'gold.paid'\n{EVENTS}expect = '''\nn\n{n}\n'''\n");
    let shop = shop_with(model, &test(1));
    let (said, _) = tried(&shop, &["test"], 1);
    says(&said, &["gold.paid has other rows with every event an epoch of its own: 1 missing, 1 too many"]);
    assert!(!said.contains("in one append"), "{said}");
    shop.edit("sql/tests/deep/paid.toml", &test(3));
    says(&tried(&shop, &["test"], 1).0, &["gold.paid has other rows with all events in one append"]);
    shop.edit("sql/tests/deep/paid.toml", &test(2));
    says(&tried(&shop, &["test"], 1).0, &["in one append: 1 missing", "of its own: 1 missing"]);
}

#[test]
fn now_is_the_last_events_time_or_what_the_test_says() {
    let model = "SELECT event_id, now() AS at, now() - event_time < INTERVAL '1 hour' AS is_new FROM bronze.events";
    let with = |now: &str, expect: &str| {
        let events = EVENTS.replace("\"event_id\": \"2\"", "\"event_id\": \"3\"");
        format!("[times]\nmodel = 'gold.paid'\n{now}{events}expect = '''\n{expect}'''\n")
    };
    let newest = "at,is_new\n2026-11-01T11:00:00Z,true\n2026-11-01T11:00:00Z,true\n2026-11-01T11:00:00Z,false\n";
    let shop = shop_with(model, &with("", newest));
    shop.done(&["test"]);
    let later = "at,is_new\n2026-11-03,false\n2026-11-03,false\n2026-11-03,false\n";
    for now in ["now = \"2026-11-03\"\n", "now = 2026-11-03T01:00:00+01:00\n"] {
        shop.edit("sql/tests/deep/paid.toml", &with(now, later));
        shop.done(&["test"]);
    }
    // An event that is far ahead of a clock is refused, as everywhere.
    shop.edit("sql/tests/deep/paid.toml", &with("now = \"2020-01-01\"\n", later));
    says(&tried(&shop, &["test"], 1).0, &["paid.toml:5: this event would go to quarantine: event_time", "is after"]);
}

#[test]
fn what_is_wrong_with_a_test_is_told_and_keeps_no_other_from_being_tried() {
    let good = "[good]\nmodel = 'gold.paid'\nexpect = 'n'\n\n";
    let events = |lines: &str| {
        format!("{good}[bad]\nmodel = 'gold.paid'\nexpect = 'n'\ngiven.bronze.events = '''\n{lines}\n'''\n")
    };
    let shop = shop_with(PAID.replace("user_id", "user").as_str(), good);
    let user = r#"{"event_id": "1", "event_type": "a", "event_time": "2026-11-01", "user": "u"}"#;
    // Without an event nobody knows of the column.
    says(&tried(&shop, &["test"], 1).0, &["there is no column 'user'", "hint: give an event that has it, or pin it"]);
    shop.edit("sql/gold/paid.sql", PAID.replace("user_id", "event_id").as_str());
    for (lines, says_so) in [
        (format!("{user}\n{{\"event_id\": 1}}"), "paid.toml:10: this event would go to quarantine: no event_type"),
        ("{\n}".to_owned(), "paid.toml:9: this event would go to quarantine: not JSON"),
        (format!("\n[{user},{user}]"), "paid.toml:10: this line has 2 events"),
    ] {
        shop.edit("sql/tests/deep/paid.toml", &events(&lines));
        let (said, rows) = tried(&shop, &["test", "-o", "csv"], 1);
        says(&said, &["'bad' cannot be tried: ", says_so, "hint: an event is one JSON object in one line"]);
        assert!(rows.ends_with("gold.paid,good,holds,0,unit test\ngold.paid,bad,fails,,unit test\n"), "{rows}");
    }
    shop.edit("sql/tests/deep/paid.toml", "[bad]\nmodel = 'gold.pad'\nexpect = 'n'\n");
    says(&tried(&shop, &["test"], 1).0, &["paid.toml:2: there is no model 'gold.pad'", "did you mean 'gold.paid'?"]);
    for (text, says_so) in [
        ("", "there is no test in this file"),
        (&format!("{good}{good}"), "paid.toml:5:2: duplicate key"),
        ("[bad]\nmodel = 'gold.paid'\nexpects = 'n'\n", "paid.toml:3:1: a test has no key 'expects'"),
    ] {
        shop.edit("sql/tests/deep/paid.toml", text);
        says(&shop.fails(&["test"], 1), &[says_so, "hint: "]);
    }
    shop.edit("sql/gold/paid.sql", "SELECT 1 / (count(*) - count(*)) AS n FROM bronze.events");
    shop.edit("sql/tests/deep/paid.toml", &events(user));
    let (said, rows) = tried(&shop, &["test", "-o", "csv"], 1);
    says(
        &said,
        &["paid.toml:5: 'bad': gold.paid cannot be computed: ", "paid.sql:1: ", "error: 2 unit tests do not hold"],
    );
    says(&rows, &["gold.paid,bad,fails,,unit test"]);
}

#[test]
fn an_event_may_bring_a_column_that_those_before_it_had_not() {
    let model = "SELECT event_type, sum(amount) AS amount, max(note) AS note FROM bronze.events GROUP BY 1";
    let events = EVENTS
        .replacen("\"price\": 2", "\"amount\": 0.1", 1)
        .replace("\"price\": 2", "\"amount\": 0.2, \"note\": \"x\"");
    let test = format!("[sums]\nmodel = 'gold.paid'\n{events}expect = '''\nevent_type,amount,note\npaid,0.3,x\n'''\n");
    shop_with(model, &test).done(&["test", "--unit"]);
}
