//! Unit tests of models tried over given rows and events: what holds, what differs and how it is told, and what is no test.

use std::path::Path;

use arrow::array::AsArray;
use lakebed_project::{Config, GivenTable, Written};

use super::*;
use crate::catalog::{BRONZE, EVENTS};

/// A project of these models, without pins.
fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
    let directory = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = directory.path().join("sql").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let project = Project::load(directory.path(), Config::default()).unwrap();
    (directory, project)
}

fn test(model: &str, given: &[(&str, &str)], expect: &str) -> UnitTest {
    let written = |text: &str, line| Written { text: text.to_owned(), line };
    let given = given.iter().zip(1..).map(|((name, rows), nth)| GivenTable {
        name: (*name).to_owned(),
        line: 10 * nth,
        rows: written(rows, 10 * nth + 1),
    });
    UnitTest {
        name: "it_holds".to_owned(),
        file: Path::new("t.toml").to_owned(),
        line: 1,
        model: written(model, 2),
        now: None,
        given: given.collect(),
        expect: written(expect, 91),
    }
}

async fn failures(project: &Project, test: &UnitTest) -> Result<Vec<Failure>> {
    project.try_out(test, &GivenEvents::default()).await
}

async fn holds(project: &Project, test: &UnitTest) {
    let failures = failures(project, test).await.unwrap();
    assert!(failures.is_empty(), "{failures:?}");
}

const SHOP: &[(&str, &str)] = &[
    (
        "silver/orders.sql",
        "SELECT event_id AS order_id, event_date AS day, CAST(_doc ->> 'amount' AS DECIMAL(10,2)) AS amount, \
         CAST(_doc ->> 'tax' AS DOUBLE) AS tax, event_time AS at, event_type = 'test' AS is_test, \
         json_get_array(_doc ->> 'tags') AS tags FROM bronze.events",
    ),
    ("silver/days.sql", "SELECT DISTINCT day FROM silver.orders"),
    (
        "gold/revenue.sql",
        "SELECT o.day, sum(amount) AS revenue, sum(tax) AS tax, max(at) AS last, count(is_test) AS marked, min(order_id) AS first \
         FROM silver.orders AS o JOIN silver.days AS d ON o.day = d.day GROUP BY o.day",
    ),
    ("gold/age.sql", "SELECT now() AS at, count(*) AS n FROM silver.orders"),
    ("gold/tagged.sql", "SELECT order_id, tags, named_struct('a', order_id, 'b', amount) AS pair FROM silver.orders"),
];

const ORDERS: &str = "order_id,day,amount,tax,at,is_test\n\
                      a,2026-11-01,10.50,0.1,2026-11-01T10:00:00Z,false\n\
                      'b',2026-11-01,0.25,0.2,2026-11-01T13:00:00+01:00,\n\
                      \"\",2026-11-02,,,,true\n";

#[tokio::test]
async fn given_rows_stand_in_the_place_of_a_tables_sql() {
    let (_directory, project) = project(SHOP);
    let expect =
        "day,revenue,tax,last,marked,first\n2026-11-02,,,,1,\"\"\n2026-11-01,10.75,0.3,2026-11-01 12:00:00,1,'b'\n";
    holds(&project, &test("gold.revenue", &[("silver.orders", ORDERS)], expect)).await;
    let none = ("silver.days", "day\n");
    holds(&project, &test("gold.revenue", &[("silver.orders", ORDERS), none], "day,revenue\n")).await;
    holds(&project, &test("silver.orders", &[], "order_id\n")).await;

    let test = test("gold.revenue", &[("silver.orders", ORDERS)], "day,revenue\n2026-11-01,10.74\n2026-11-02,\n");
    let failures = failures(&project, &test).await.unwrap();
    let [Failure { way: Way::Any, instead: Instead::Rows(difference) }] = failures.as_slice() else {
        panic!("{failures:?}")
    };
    assert_eq!((difference.missing, difference.too_many), (1, 1));
    let words: Vec<_> = difference.rows.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(words, ["missing", "too many"]);
}

#[tokio::test]
async fn now_is_what_the_test_says() {
    let (_directory, project) = project(SHOP);
    let mut test = test("gold.age", &[("silver.orders", "order_id\na\n")], "at,n\n2026-11-01T12:00:00Z,1\n");
    let failed = failures(&project, &test).await.unwrap();
    assert_eq!(failed.len(), 1, "without an event and a time it is 2000");
    test.now = Some(Written { text: "2026-11-01T12:00:00Z".to_owned(), line: 3 });
    holds(&project, &test).await;
    test.now = Some(Written { text: "noon".to_owned(), line: 3 });
    let error = failures(&project, &test).await.unwrap_err();
    assert_eq!(error.to_string(), "t.toml:3: 'noon' is no time");
}

#[tokio::test]
async fn what_has_no_text_is_expected_as_json_and_not_given() {
    let (_directory, project) = project(SHOP);
    let orders = ("silver.orders", "order_id,amount\na,1.5\n");
    let expect = "pair,order_id,tags\n\"{\"\"b\"\": 1.50, \"\"a\"\": \"\"a\"\"}\",a,\n";
    holds(&project, &test("gold.tagged", &[orders], expect)).await;
    let test = test("gold.tagged", &[("silver.orders", "tags\n\"[1]\"\n")], "tags\n");
    let error = failures(&project, &test).await.unwrap_err();
    assert!(error.to_string().starts_with("t.toml:11: column 'tags' of silver.orders is List"), "{error}");
}

#[tokio::test]
async fn a_test_that_would_lie_is_refused_with_its_line() {
    let (_directory, project) = project(SHOP);
    let orders = ("silver.orders", ORDERS);
    let of = |given: &[(&str, &str)], expect: &str| test("gold.revenue", given, expect);
    for (test, says, hint) in [
        (test("gold.revenu", &[], "day\n"), "t.toml:2: there is no model 'gold.revenu'", "'gold.revenue'"),
        (of(&[("silver.order", "a")], "day\n"), "t.toml:10: there is no table 'silver.order'", "'silver.orders'"),
        (of(&[("bronze.event", "a")], "day\n"), "t.toml:10: there is no table 'bronze.event'", "'bronze.events'"),
        (
            of(&[orders, ("bronze.events", "")], "day\n"),
            "t.toml:20: 'gold.revenue' does not read 'bronze.events' in this test",
            "silver.days, silver.orders",
        ),
        (of(&[("gold.age", "n\n")], "day\n"), "'gold.revenue' does not read 'gold.age'", "leave the rows"),
        (of(&[("gold.revenue", "day\n")], "day\n"), "the rows of 'gold.revenue' are what is tested", "under expect"),
        (of(&[orders], "day,revenu\n"), "t.toml:91: gold.revenue has no column 'revenu'", "'revenue'"),
        (of(&[("silver.orders", "xyz\n")], "day\n"), "t.toml:11: silver.orders has no column 'xyz'", "order_id, day"),
        (
            of(&[("silver.orders", "order_id,amount\na,1\n\nb,x'y\n")], "day\n"),
            "t.toml:14: 'x'y' is no DECIMAL(10,2), which column 'amount' is",
            "CAST",
        ),
        (of(&[orders], "day,marked\n2026-11-01,1.5x\n"), "t.toml:92: '1.5x' is no BIGINT", "CAST"),
        (of(&[("silver.orders", "order_id\n1,2\n")], "day\n"), "t.toml:12: this row has 2 of 1 values", "CSV"),
        (of(&[orders], ""), "t.toml:91: there is no line with the names of the columns", "its names alone"),
    ] {
        let error = failures(&project, &test).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error} is not: {says}");
        assert!(error.hint().is_some_and(|told| told.contains(hint)), "{error}: {:?}", error.hint());
    }
}

#[tokio::test]
async fn columns_that_nobody_knows_of_are_to_be_pinned() {
    let (_directory, project) = project(&[
        ("silver/orders.sql", "SELECT amount FROM bronze.events"),
        ("gold/revenue.sql", "SELECT sum(amount) AS revenue FROM silver.orders"),
    ]);
    let error = failures(&project, &test("gold.revenue", &[("silver.orders", "amount\n1\n")], "revenue\n1\n")).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("t.toml:10: the types of what is given are not known"), "{error}");
    assert!(error.to_string().contains("there is no column 'amount'"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("pin ")), "{error}");
    let failures = failures(&project, &test("gold.revenue", &[], "revenue\n1\n")).await.unwrap();
    let [Failure { instead: Instead::Error(error), .. }] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(error.hint().is_some_and(|hint| hint.starts_with("give an event")), "{:?}", error.hint());
}

#[test]
fn what_is_computed_ends_where_rows_are_given() {
    let (_directory, project) = project(SHOP);
    let names = |given: &[(&str, &str)]| {
        let computed = computed(&project.models, &test("gold.revenue", given, "day\n")).unwrap();
        computed.iter().map(|model| model.name.to_string()).collect::<Vec<_>>()
    };
    let events = format!("{BRONZE}.{EVENTS}");
    assert_eq!(names(&[(&events, "")]), ["silver.orders", "silver.days", "gold.revenue"]);
    assert_eq!(names(&[("silver.days", ""), (&events, "")]), ["silver.orders", "gold.revenue"]);
    assert_eq!(names(&[("silver.orders", "")]), ["silver.days", "gold.revenue"]);
}
