//! Tables that are easily taken for what they are not: after edits that are undone, columns that come, refreshes that overtake a
//! replay. Each is what its SQL says over all events.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lakebed_log::Ack;
use lakebed_project::{Config, Flags};
use lakebed_query::{AsOf, Lakehouse, Progress, Project, Replay};
use lakebed_tests::batches::{at, batch, decoded, event, settings_of};
use tempfile::TempDir;

use crate::grouped::shown;
use crate::models::{append, assert_verified, lake_of, reopened};

/// Appends events, each its id and the rest of its text, and refreshes.
async fn taken_up(lake: &Lakehouse, number: i64, events: &[(&str, &str)]) {
    append(lake, number, events).await;
    lake.refresh(&[], &()).await.unwrap();
}

/// The lake with a model's file as it is now. One that was open is closed first: it has the state cache to itself.
async fn edited(lake: Lakehouse, directory: &Path, file: &str, sql: &str) -> Lakehouse {
    drop(lake);
    std::fs::write(directory.join("sql").join(file), sql).unwrap();
    reopened(directory).await
}

/// The greatest of a number without a sign is no count, from which what goes is taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greatest_of_distinct_counts() {
    const MODELS: &[(&str, &str)] = &[
        ("gold/days.sql", "SELECT day, country, approx_distinct(who) AS buyers FROM bronze.events GROUP BY 1, 2"),
        (
            "gold/peaks.sql",
            "SELECT country, max(buyers) AS most, min(buyers) AS least, bit_or(buyers) AS bits FROM gold.days GROUP BY 1",
        ),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let of = |who: usize| format!(r#","day":"d{}","country":"de","who":"w{who}""#, who % 2);
    for number in 0..6 {
        let events: Vec<_> = (0..=number).map(|who| (format!("{number}-{who}"), of(who))).collect();
        let events: Vec<_> = events.iter().map(|(id, rest)| (id.as_str(), rest.as_str())).collect();
        taken_up(&lake, number as i64 + 1, &events).await;
    }
    assert_eq!(shown(&lake, None, "SELECT most, least FROM gold.peaks").await, ["3|3"]);
    assert_verified(&lake).await;
}

/// A mean of nothing is none, of decimals too, whenever a group comes to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn means_of_groups_without_values() {
    const MODELS: &[(&str, &str)] = &[
        (
            "silver/orders.sql",
            "SELECT id, kind, CAST(amount AS DECIMAL(12, 2)) AS amount FROM (
                 SELECT *, row_number() OVER (PARTITION BY id ORDER BY _offset DESC) AS n FROM bronze.events) AS r WHERE n = 1",
        ),
        ("gold/means.sql", "SELECT kind, avg(amount) AS mean, sum(amount) AS sum FROM silver.orders GROUP BY 1"),
        ("gold/mean.sql", "SELECT avg(amount) FILTER (WHERE kind = 'x') AS mean FROM silver.orders"),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let order = |id: &str, kind: &str, amount: &str| format!(r#","id":"{id}","kind":"{kind}","amount":{amount}"#);
    for (number, amount, expected) in [
        (1, "null", ["x|∅|∅", "y|1.500000|1.50"]),
        (2, "2.5", ["x|2.500000|2.50", "y|1.500000|1.50"]),
        (3, "null", ["x|∅|∅", "y|1.500000|1.50"]),
    ] {
        let (one, other) = (order("1", "x", amount), order("2", "y", "1.5"));
        taken_up(&lake, number, &[(&format!("a{number}"), &one), (&format!("b{number}"), &other)]).await;
        assert_eq!(shown(&lake, None, "SELECT * FROM gold.means").await, expected);
        assert_verified(&lake).await;
    }
}

/// Holds a replay up until it is told to go on.
struct HeldUp {
    began: AtomicBool,
    goes_on: AtomicBool,
}

impl Progress for HeldUp {
    fn replayed(&self, _: u64, _: u64) {
        self.began.store(true, Ordering::SeqCst);
        while !self.goes_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A refresh that comes in the middle of a replay in place is not taken back by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refresh_overtakes_a_replay() {
    const MODELS: &[(&str, &str)] = &[
        ("silver/orders.sql", "SELECT event_id, kind, _offset AS at FROM bronze.events"),
        ("gold/kinds.sql", "SELECT kind, count(*) AS orders FROM silver.orders GROUP BY 1"),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    taken_up(&lake, 1, &[("a", r#","kind":"x""#), ("b", r#","kind":"y""#)]).await;
    let held = Arc::new(HeldUp { began: AtomicBool::new(false), goes_on: AtomicBool::new(false) });
    let (other, progress) = (reopened(directory.path()).await, Arc::clone(&held));
    let replaying = tokio::spawn(async move {
        let replay = Replay { models: vec!["gold.kinds".to_owned()], ..Replay::default() };
        other.replay(&replay, &*progress).await
    });
    while !held.began.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    taken_up(&lake, 2, &[("c", r#","kind":"x""#)]).await;
    held.goes_on.store(true, Ordering::SeqCst);
    let replayed = replaying.await.unwrap().unwrap();
    assert_eq!(replayed.version, 2, "it follows the tables");
    taken_up(&lake, 3, &[("d", r#","kind":"x""#)]).await;
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.kinds").await, ["x|3", "y|1"]);
    assert_verified(&lake).await;
}

/// A query that becomes what it was before, over rows that are not, is another table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_is_undone() {
    const LATEST: &str = "SELECT who, plan FROM (
        SELECT *, row_number() OVER (PARTITION BY who ORDER BY _offset DESC) AS n FROM bronze.events) AS r WHERE n = 1";
    const MODELS: &[(&str, &str)] = &[
        ("silver/customers.sql", LATEST),
        ("gold/plans.sql", "SELECT plan, count(*) AS customers FROM silver.customers GROUP BY 1"),
    ];
    let customer = |who: &str, plan: &str| format!(r#","who":"{who}","plan":"{plan}""#);
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let first = [("1", customer("a", "p")), ("2", customer("b", "p")), ("3", customer("c", "p"))];
    taken_up(&lake, 1, &first.each_ref().map(|(id, rest)| (*id, rest.as_str()))).await;
    taken_up(&lake, 2, &[("4", &customer("b", "q"))]).await;
    let lake = edited(lake, directory.path(), "silver/customers.sql", &LATEST.replace("n = 1", "n < 2")).await;
    lake.refresh(&[], &()).await.unwrap();
    assert_verified(&lake).await;
    let lake = edited(lake, directory.path(), "silver/customers.sql", LATEST).await;
    taken_up(&lake, 3, &[("5", &customer("c", "r"))]).await;
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.plans").await, ["p|1", "q|1", "r|1"]);
    taken_up(&lake, 4, &[("6", &customer("c", "p"))]).await;
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.plans").await, ["p|2", "q|1"]);
    assert_verified(&lake).await;
}

/// What is kept of a table goes by whether its rows go, which an edit may change while its rows are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_whose_rows_go_from_now_on() {
    const ADDS: &str = "SELECT event_id, who, amount, coupon FROM bronze.events";
    const LATEST: &str = "SELECT event_id, who, amount, coupon FROM (
        SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset DESC) AS n FROM bronze.events) AS r WHERE n = 1";
    const MODELS: &[(&str, &str)] = &[
        ("silver/orders.sql", ADDS),
        ("gold/top.sql", "SELECT event_id, amount FROM silver.orders ORDER BY amount DESC, event_id LIMIT 3"),
        (
            "gold/coupons.sql",
            "SELECT who, count(coupon) AS coupons, sum(amount) AS amount FROM silver.orders GROUP BY 1",
        ),
    ];
    let order = |who: &str, amount: u64| format!(r#","who":"{who}","amount":{amount}"#);
    let directory = TempDir::new().unwrap();
    let mut lake = lake_of(directory.path(), MODELS).await;
    let events: Vec<_> = (0..9).map(|n| (format!("o{n}"), order(["a", "b"][n as usize % 2], 10 * n))).collect();
    let events: Vec<_> = events.iter().map(|(id, rest)| (id.as_str(), rest.as_str())).collect();
    taken_up(&lake, 1, &[("c", r#","who":"a","amount":1,"coupon":"x""#)]).await;
    taken_up(&lake, 2, &events).await;
    for (number, sql) in [(3, LATEST), (4, ADDS), (5, LATEST)] {
        lake = edited(lake, directory.path(), "silver/orders.sql", sql).await;
        lake.refresh(&[], &()).await.unwrap();
        assert_verified(&lake).await;
        // The greatest becomes a small one where the latest counts.
        let event = if sql == LATEST { ("o8", order("a", 2)) } else { ("new", order("b", 3)) };
        taken_up(&lake, number, &[(event.0, &event.1)]).await;
        assert_verified(&lake).await;
    }
}

/// A model is of the columns that it goes by: where one comes to `*` or to a NATURAL JOIN, it is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_comes_to_what_names_none() {
    const MODELS: &[(&str, &str)] = &[
        ("silver/users.sql", "SELECT DISTINCT user_id, plan, country FROM bronze.events WHERE event_id LIKE 'u%'"),
        (
            "gold/payloads.sql",
            "SELECT count(*) AS payloads FROM (SELECT DISTINCT * EXCEPT (event_id, event_time, event_date, _doc, _batch_id,
                 _row, _ingested_at, _offset) FROM bronze.events) AS p",
        ),
        (
            "gold/plans.sql",
            "SELECT o.event_id, u.plan FROM (SELECT * EXCEPT (plan, country) FROM bronze.events WHERE event_id LIKE 'o%') AS o
             NATURAL JOIN (SELECT user_id, plan, channel FROM silver.users CROSS JOIN (SELECT 'web' AS channel) AS c) AS u",
        ),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    taken_up(&lake, 1, &[("u1", r#","user_id":"1","plan":"p","country":"de""#), ("o1", r#","user_id":"1""#)]).await;
    // The same payload again, and a column that counts in the join.
    taken_up(&lake, 2, &[("o2", r#","user_id":"1""#), ("o3", r#","user_id":"1","channel":"shop""#)]).await;
    assert_verified(&lake).await;
    taken_up(&lake, 3, &[("o4", r#","user_id":"1","channel":"web""#), ("o5", r#","user_id":"1""#)]).await;
    assert_eq!(shown(&lake, None, "SELECT event_id FROM gold.plans").await, ["o4"]);
    assert_verified(&lake).await;
}

/// A pin that changes before its column has a value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_of_a_column_without_values() {
    const MODELS: &[(&str, &str)] =
        &[("silver/texts.sql", "SELECT event_id, CAST(coalesce(x, 0) AS VARCHAR) AS text FROM bronze.events")];
    let pinned = |directory: &Path, kind: &str| {
        let settings = format!("[project]\nname = \"shop\"\n[columns]\nx = \"{kind}\"\n");
        std::fs::write(directory.join("lakebed.toml"), settings).unwrap();
    };
    let directory = TempDir::new().unwrap();
    drop(lake_of(directory.path(), MODELS).await);
    pinned(directory.path(), "BIGINT");
    taken_up(&reopened(directory.path()).await, 1, &[("a", "")]).await;
    pinned(directory.path(), "DOUBLE");
    let lake = reopened(directory.path()).await;
    taken_up(&lake, 2, &[("b", "")]).await;
    assert_eq!(shown(&lake, None, "SELECT * FROM silver.texts").await, ["a|0.0", "b|0.0"]);
    assert_verified(&lake).await;
}

/// Of the rows that UNNEST makes of a group's, the group's key tells none from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_what_groups_were_unnested_to() {
    const MODELS: &[(&str, &str)] = &[(
        "gold/kinds.sql",
        "SELECT who, count(*) AS kinds FROM (
             SELECT who, kind FROM (
                 SELECT who, unnest(kinds) AS kind FROM (SELECT who, array_agg(kind) AS kinds FROM bronze.events GROUP BY who) AS g
             ) AS u GROUP BY who, kind
         ) AS k GROUP BY who",
    )];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let of = |who: &str, kind: u64| format!(r#","who":"{who}","kind":"k{kind}""#);
    taken_up(&lake, 1, &[("1", &of("a", 1)), ("2", &of("a", 2))]).await;
    taken_up(&lake, 2, &[("3", &of("b", 1)), ("4", &of("b", 2)), ("5", &of("a", 3))]).await;
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.kinds").await, ["a|3", "b|2"]);
    assert_verified(&lake).await;
}

/// The columns of the log are as many as it may have; further values are in `_doc`, and pinned ones have theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_has_as_many_columns_as_it_may() {
    let directory = TempDir::new().unwrap();
    drop(lake_of(directory.path(), &[]).await);
    let settings = "[project]\nname = \"shop\"\n[ingest]\nmax_columns = 3\n[columns]\npinned = \"BIGINT\"\n";
    std::fs::write(directory.path().join("lakebed.toml"), settings).unwrap();
    let config = Config::load(directory.path(), &|_| None, &Flags::default()).unwrap();
    let lake = reopened(directory.path()).await;
    let intake = lakebed_ingest::Intake::new(lake.log().clone(), &config, || at(100));
    for (number, rest) in
        [r#","prices":{"a":1,"b":2}"#, r#","prices":{"c":3,"d":4}"#, r#","pinned":5,"prices":{"e":6}"#]
            .into_iter()
            .enumerate()
    {
        let batch = batch(&format!("b{number}"), &[event(&format!("e{number}"), rest)]);
        intake.log().append(&batch, Ack::Committed, at(number as i64 + 1)).await.unwrap();
    }
    let snapshot = lake.log().snapshot().await.unwrap();
    let names: Vec<_> = snapshot.claims.iter().map(|claim| claim.name.clone()).collect();
    assert_eq!(names[names.len() - 4..], ["prices_a", "prices_b", "prices_c", "pinned"], "{names:?}");
    assert_eq!(shown(&lake, None, "SELECT prices_c, pinned FROM bronze.events").await, ["3.0|∅", "∅|5.0", "∅|∅"]);
    let texts = shown(&lake, None, "SELECT _doc ->> 'prices' FROM bronze.events WHERE event_id = 'e1'").await;
    assert_eq!(texts, [r#"{"c":3,"d":4}"#]);
}

/// A copy of a lake has epochs of the same numbers, and the table's id: what one of them learnt is not the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_lake() {
    const MODELS: &[(&str, &str)] =
        &[("gold/kinds.sql", "SELECT kind, count(*) AS events FROM bronze.events GROUP BY 1")];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    taken_up(&lake, 1, &[("a", r#","kind":"both""#)]).await;
    drop(lake);
    let copied = Command::new("cp").args(["-r", "lake", "copy"]).current_dir(&directory).status().unwrap();
    assert!(copied.success());
    let opened = async |place: &str| {
        let flags = Flags { lake: Some(place.to_owned()), ..Flags::default() };
        let config = Config::load(directory.path(), &|_| None, &flags).unwrap();
        Lakehouse::open(Project::load(directory.path(), config).unwrap()).await.unwrap()
    };
    for number in 2..5 {
        for place in ["lake", "copy"] {
            let (id, kind) = (format!("{place}{number}"), format!(r#","kind":"{place}""#));
            taken_up(&opened(place).await, number, &[(&id, &kind)]).await;
        }
    }
    for place in ["lake", "copy"] {
        let lake = opened(place).await;
        let mut expected = vec!["both|1".to_owned(), format!("{place}|3")];
        expected.sort();
        assert_eq!(shown(&lake, None, "SELECT * FROM gold.kinds").await, expected);
        assert_verified(&lake).await;
    }
}

/// A file may be called as people call things; what its table is stored under is spelled as a path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_other_letters() {
    const COUNTS: &str = "SELECT kind, count(*) AS events FROM bronze.events GROUP BY 1";
    const MODELS: &[(&str, &str)] = &[
        ("gold/ums\u{e4}tze.sql", COUNTS),
        ("gold/n~old.sql", COUNTS),
        ("gold/n#1.sql", COUNTS),
        ("gold/n%2.sql", COUNTS),
        ("gold/n[1].sql", COUNTS),
        ("gold/sum.sql", "SELECT sum(events) AS events FROM gold.\"ums\u{e4}tze\""),
    ];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    // So often that runs are folded, and those that were deleted.
    for number in 1..12 {
        let kind = format!(r#","kind":"k{}""#, number % 2);
        taken_up(&lake, number, &[(&format!("e{number}"), &kind)]).await;
    }
    for name in ["ums\u{e4}tze", "n~old", "n#1", "n%2", "n[1]"] {
        let sql = format!("SELECT * FROM gold.\"{name}\"");
        assert_eq!(shown(&lake, None, &sql).await, ["k0|5", "k1|6"], "{name}");
        assert_eq!(shown(&lake, Some(AsOf::Version(3)), &sql).await, ["k0|1", "k1|2"], "{name}");
    }
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.sum").await, ["11"]);
    assert_verified(&lake).await;
    let lake = edited(lake, directory.path(), "gold/n#1.sql", &format!("-- sinks: delta\n{COUNTS}")).await;
    let refused = lake.refresh(&[], &()).await.unwrap_err().to_string();
    assert!(refused.contains("n#1.sql:1: a Delta table cannot be called 'n#1'"), "{refused}");
}

/// The extremes of two columns, where files have values in one of them only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extremes_of_columns_with_few_values() {
    const MODELS: &[(&str, &str)] = &[("gold/m.sql", "SELECT max(a) AS a, max(b) AS b FROM bronze.events")];
    let directory = TempDir::new().unwrap();
    drop(lake_of(directory.path(), MODELS).await);
    let settings = "[project]\nname = \"shop\"\n[columns]\na = \"INTEGER\"\nb = \"INTEGER\"\n";
    std::fs::write(directory.path().join("lakebed.toml"), settings).unwrap();
    let lake = reopened(directory.path()).await;
    for (number, (day, value)) in (1..).zip([(3, r#""a":3"#), (2, r#""b":2"#), (1, r#""a":1"#)]) {
        let time = format!("2026-11-0{day}T00:00:00Z");
        let line = format!(r#"{{"event_id":"e{day}","event_type":"t","event_time":"{time}",{value}}}"#);
        let batch = Arc::new(decoded(&format!("b{number}"), line.as_bytes(), &settings_of(settings)));
        lake.log().append(&batch, Ack::Committed, at(number)).await.unwrap();
        lake.refresh(&[], &()).await.unwrap();
    }
    for _ in 0..5 {
        assert_eq!(shown(&lake, None, "SELECT max(a), max(b) FROM bronze.events").await, ["3|2"]);
    }
    assert_eq!(shown(&lake, None, "SELECT a, b FROM gold.m").await, ["3|2"]);
    assert_verified(&lake).await;
}

/// A difference of times beside days and months.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differences_of_times_beside_intervals() {
    const MODELS: &[(&str, &str)] = &[(
        "gold/gaps.sql",
        "SELECT gap > INTERVAL '1 day' AS day, gap <= INTERVAL '7 days' AS week, gap > INTERVAL '1 month' AS month,
                gap BETWEEN INTERVAL '2 days' AND INTERVAL '3 days' AS within, greatest(gap, INTERVAL '5 days') > INTERVAL '4 days' AS most
         FROM (SELECT CAST(later AS TIMESTAMP) - CAST(earlier AS TIMESTAMP) AS gap FROM bronze.events) AS g",
    )];
    let directory = TempDir::new().unwrap();
    let lake = lake_of(directory.path(), MODELS).await;
    let between = |earlier: &str, later: &str| format!(r#","earlier":"{earlier}","later":"{later}""#);
    for (number, (earlier, later)) in (1..).zip([
        ("2026-01-01T00:00:00", "2026-01-01T23:00:00"),
        ("2026-01-01T00:00:00", "2026-01-03T01:30:00"),
        ("2026-01-01T00:00:00", "2026-02-20T00:00:00"),
    ]) {
        taken_up(&lake, number, &[(&format!("e{number}"), &between(earlier, later))]).await;
    }
    let expected = ["false|true|false|false|true", "true|false|true|false|true", "true|true|false|true|true"];
    assert_eq!(shown(&lake, None, "SELECT * FROM gold.gaps").await, expected);
    assert_verified(&lake).await;
}
