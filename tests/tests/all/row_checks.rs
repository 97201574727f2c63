//! Checks that keep rows out of a model: what is left, what is kept of the others, and what an edit of them does.

use lakebed_query::checks::Severity;
use lakebed_query::{Action, AsOf, ColumnValue, Error, Lakehouse, Question};
use tempfile::TempDir;

use crate::grouped::shown;
use crate::models::{append, assert_verified, lake_of, reopened};
use crate::pipeline::{tables, write};

/// A model of each strategy.
const MODELS: &[(&str, &str)] = &[
    (
        "silver/orders.sql",
        "-- key: event_id\n-- check: not_null(country)  drop\n-- check: paid > 0  quarantine\n-- check: paid < 100  fail\n\
         SELECT event_id, country, CAST(paid AS BIGINT) AS paid FROM bronze.events",
    ),
    (
        "silver/last.sql",
        "-- key: country\n-- sequence: paid\n-- check: paid <> 7  quarantine\n\
         SELECT country, CAST(paid AS BIGINT) AS paid FROM bronze.events",
    ),
    (
        "gold/paid.sql",
        "-- check: orders < 3  quarantine\n-- check: paid >= 2  quarantine\n\
         SELECT country, count(*) AS orders, sum(paid) AS paid FROM silver.orders GROUP BY country",
    ),
    (
        "gold/steps.sql",
        "-- check: step IS NULL OR step > 0  drop\n\
         SELECT event_id, paid - lag(paid) OVER (PARTITION BY country ORDER BY event_id) AS step FROM silver.orders",
    ),
    ("gold/bad.sql", "SELECT failed_checks, count(*) AS rows FROM silver.orders_quarantine GROUP BY failed_checks"),
];

async fn begun(directory: &TempDir) -> Lakehouse {
    let lake = lake_of(directory.path(), MODELS).await;
    let events = [
        ("a", r#","country":"DE","paid":5"#),
        ("b", r#","country":"DE","paid":0"#),
        ("c", r#","paid":6"#),
        ("d", r#","paid":-6"#),
        ("e", r#","country":"FR","paid":1"#),
        ("f", r#","country":"FR""#),
    ];
    append(&lake, 1, &events).await;
    lake.refresh(&[], &()).await.unwrap();
    lake
}

async fn why(lake: &Lakehouse, model: &str, column: &str, value: &str) -> u64 {
    let values = vec![ColumnValue { column: column.to_owned(), value: Some(value.to_owned()) }];
    lake.why(&Question { model: model.to_owned(), values, as_of: None }).await.unwrap().events()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_pass_is_not_there_and_what_is_quarantined_is_beside() {
    let directory = TempDir::new().unwrap();
    let lake = begun(&directory).await;
    // What is dropped is nowhere, whatever else it fails; null passes an expression.
    assert_eq!(shown(&lake, None, "SELECT * FROM silver.orders").await, ["a|DE|5", "e|FR|1", "f|FR|∅"]);
    let quarantined = "SELECT * FROM silver.orders_quarantine";
    assert_eq!(shown(&lake, None, quarantined).await, ["b|DE|0|paid > 0"]);
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.paid").await, ["DE|1|5"]);
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.paid_quarantine").await, ["FR|2|1|paid >= 2"]);
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.bad").await, ["paid > 0|1"]);
    let before = lake.log().snapshot().await.unwrap().version;
    // A group that fails both now, and a later image that passes no more; another that passes now.
    append(&lake, 2, &[("g", r#","country":"FR","paid":-1"#), ("h", r#","country":"DE","paid":7"#)]).await;
    append(&lake, 3, &[("i", r#","country":"DE","paid":2"#), ("j", r#","country":"FR""#)]).await;
    lake.refresh(&[], &()).await.unwrap();
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.paid").await, [] as [&str; 0]);
    assert_eq!(
        shown(&lake, None, "SELECT * FROM gold.paid_quarantine").await,
        ["DE|3|14|orders < 3", "FR|3|1|orders < 3; paid >= 2"]
    );
    assert_eq!(shown(&lake, None, "SELECT * FROM silver.last WHERE country = 'DE'").await, [] as [&str; 0]);
    let last = "SELECT * FROM silver.last_quarantine";
    assert_eq!(shown(&lake, None, last).await, ["DE|7|paid <> 7"]);
    append(&lake, 4, &[("k", r#","country":"DE","paid":8"#)]).await;
    lake.refresh(&[], &()).await.unwrap();
    assert_eq!(shown(&lake, None, last).await, [] as [&str; 0]);
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.steps").await, ["a|∅", "e|∅", "f|∅", "h|2", "j|∅", "k|6"]);
    // Each is a table like any other: as of a version, of some events, and verified.
    assert_eq!(shown(&lake, Some(AsOf::Version(before)), quarantined).await, ["b|DE|0|paid > 0"]);
    assert_eq!(why(&lake, "silver.orders_quarantine", "event_id", "b").await, 1);
    assert_eq!(why(&lake, "gold.paid_quarantine", "failed_checks", "orders < 3; paid >= 2").await, 3);
    assert_verified(&lake).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strategies_stay_what_they_are_and_checks_are_told() {
    let directory = TempDir::new().unwrap();
    let lake = begun(&directory).await;
    let explained = lake.explain(&[]).await.unwrap();
    let strategies: Vec<_> = explained.iter().map(|model| format!("{} {}", model.model, model.strategy)).collect();
    assert_eq!(
        strategies,
        [
            "silver.last latest",
            "silver.last_quarantine latest",
            "silver.orders append",
            "gold.paid merge",
            "gold.paid_quarantine merge",
            "gold.steps recompute",
            "silver.orders_quarantine append",
            "gold.bad merge",
        ]
    );
    let told = |of: lakebed_query::checks::Checked| (of.check, of.severity, of.failures.unwrap());
    let checked: Vec<_> = lake.check(&[]).await.unwrap().into_iter().map(told).collect();
    let expected = [
        ("paid <> 7", Severity::Quarantine, Some(0)),
        ("not_null(country)", Severity::Drop, None),
        ("paid > 0", Severity::Quarantine, Some(1)),
        ("paid < 100", Severity::Fail, Some(0)),
        ("orders < 3", Severity::Quarantine, Some(0)),
        ("paid >= 2", Severity::Quarantine, Some(1)),
        ("step IS NULL OR step > 0", Severity::Drop, None),
    ];
    assert_eq!(checked, expected.map(|(check, severity, rows)| (check.to_owned(), severity, rows)));
    let listed = "SELECT model, \"check\", severity FROM lakebed.checks WHERE model = 'silver.orders'";
    assert_eq!(
        shown(&lake, None, listed).await,
        ["silver.orders|not_null(country)|drop", "silver.orders|paid < 100|fail", "silver.orders|paid > 0|quarantine"]
    );
}

/// I10 of checks: a run does anew what an edit of one reaches, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_builds_anew_what_depends_on_it() {
    let directory = TempDir::new().unwrap();
    drop(begun(&directory).await);
    let orders = MODELS[0].1;
    let rebuilt = async |text: &str| {
        write(directory.path(), "sql/silver/orders.sql", text);
        let planned = reopened(directory.path()).await.plan().await.unwrap();
        let anew = planned.into_iter().filter(|model| matches!(model.action, Action::Rebuild | Action::Drop));
        anew.map(|model| model.model).collect::<Vec<_>>()
    };
    for cosmetic in [
        orders.replace("paid > 0  quarantine", "paid>0        quarantine"),
        orders.replace("not_null(country)  drop", "not_null( country )   drop"),
        orders.replace("  fail", ""),
    ] {
        assert_eq!(rebuilt(&cosmetic).await, [] as [&str; 0], "{cosmetic}");
    }
    let readers = ["silver.orders", "gold.paid", "gold.paid_quarantine", "gold.steps", "silver.orders_quarantine"];
    let all = [&readers[..], &["gold.bad"]].concat();
    assert_eq!(rebuilt(&orders.replace("paid > 0", "paid > 1")).await, all);
    // Without its quarantine, the table of it goes.
    std::fs::remove_file(directory.path().join("sql/gold/bad.sql")).unwrap();
    assert_eq!(rebuilt(&orders.replace("  quarantine", "  drop")).await, ["gold.bad", "silver.orders_quarantine"]);
    let lake = reopened(directory.path()).await;
    lake.refresh(&[], &()).await.unwrap();
    assert!(tables(&lake).await.iter().all(|(name, ..)| name != "silver.orders_quarantine"));
    assert_verified(&lake).await;
}

/// As in a HAVING: what may fail is asked of no row that something which only compares keeps out, and else stops the run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_fail_fails_as_in_a_having() {
    let of = |checks: &str| format!("{checks}\nSELECT event_id, CAST(n AS BIGINT) AS n FROM bronze.events");
    let events: Vec<(String, String)> = (0..200).map(|n| (format!("e{n}"), format!(r#","n":{}"#, n % 4))).collect();
    let events: Vec<_> = events.iter().map(|(id, rest)| (id.as_str(), rest.as_str())).collect();
    let cases: [(&str, &[&str]); 4] = [
        ("-- check: 6 / n > 2  quarantine\n-- check: n <> 0  quarantine", &["0|50|n <> 0", "3|50|6 / n > 2"]),
        ("-- check: 6 / n > 2 AND n <> 0  quarantine", &["0|50|6 / n > 2 AND n <> 0", "3|50|6 / n > 2 AND n <> 0"]),
        ("-- check: n <> 0  drop\n-- check: 6 / n > 2  quarantine", &["3|50|6 / n > 2"]),
        ("-- check: 6 / n > 2  drop\n-- check: n <> 0  quarantine", &["0|50|n <> 0"]),
    ];
    for (checks, out) in cases {
        let directory = TempDir::new().unwrap();
        let lake = lake_of(directory.path(), &[("gold/t.sql", &of(checks))]).await;
        append(&lake, 1, &events).await;
        lake.refresh(&[], &()).await.unwrap();
        let kept = shown(&lake, None, "SELECT n, count(*) FROM gold.t GROUP BY n").await;
        assert_eq!(kept, ["1|50", "2|50"], "{checks}");
        let sql = "SELECT n, count(*), failed_checks FROM gold.t_quarantine GROUP BY n, failed_checks";
        assert_eq!(shown(&lake, None, sql).await, out, "{checks}");
        assert_verified(&lake).await;
    }
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), &[("gold/t.sql", &of("-- check: 6 / n > 2  quarantine"))]).await;
    append(&lake, 1, &events).await;
    let failed = lake.refresh(&[], &()).await.unwrap_err().to_string();
    assert!(failed.to_lowercase().contains("divi"), "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_check_of_a_row_is_refused_at_its_line() {
    let more = "-- check: x > 0  drop\n";
    for (checks, column, says) in [
        ("-- check: random() < 0.5  drop", "x", "t.sql:2: "),
        ("-- check: missing > 1  quarantine", "x", "t.sql:2: there is no column 'missing'"),
        ("-- check: event_id  quarantine", "x", "t.sql:2: the check 'event_id' is VARCHAR"),
        (&format!("{more}-- check: x > 0 AND x + 1  drop"), "x", "t.sql:3: the check 'x > 0 AND x + 1' is BIGINT"),
        ("-- check: event_id > 0  drop", "x", "t.sql:2: the check 'event_id > 0' compares event_id, a text, with 0"),
        ("-- check: event_id > ''  quarantine", "failed_checks", "t.sql:3: 'failed_checks' is the column in which"),
    ] {
        let directory = TempDir::new().unwrap();
        let sql = format!("-- Rows.\n{checks}\nSELECT event_id, 1 AS {column} FROM bronze.events");
        let lake = lake_of(directory.path(), &[("gold/t.sql", &sql)]).await;
        append(&lake, 1, &[("a", "")]).await;
        let refused = lake.refresh(&[], &()).await.unwrap_err();
        assert!(matches!(refused, Error::Model { .. }), "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
    }
    // now() is no row's own: such a model is computed from everything, as one that shows it.
    let directory = TempDir::new().unwrap();
    let lake = lake_of(
        directory.path(),
        &[("gold/t.sql", "-- check: event_time < now()  drop\nSELECT event_id, event_time FROM bronze.events")],
    )
    .await;
    append(&lake, 1, &[("a", "")]).await;
    assert_eq!(lake.explain(&[]).await.unwrap()[0].strategy, "full");
}
