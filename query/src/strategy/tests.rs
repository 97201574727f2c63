//! Which shape of a query gets which strategy, and which is no function of the log.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use lakebed_log::Store;

use super::*;
use crate::catalog;
use crate::slots::Slot;

/// What is derived for a query over `bronze.events`, `silver.seen` (append), `silver.users` (its rows go) and `seeds.kinds`.
async fn derived(sql: &str) -> Result<Strategy, Refused> {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let fields = vec![
        text("event_id"),
        text("event_type"),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("amount", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        text("tags"),
        Field::new("_row", DataType::Int64, false),
        Field::new("_offset", DataType::Int64, false),
    ];
    let schema = Arc::new(Schema::new(fields));
    for (layer, name) in [("bronze", "events"), ("silver", "seen"), ("silver", "users"), ("seeds", "kinds")] {
        catalog::register(&context, layer, name, Arc::new(Slot(Arc::clone(&schema)))).unwrap();
    }
    let state = context.state();
    let plan = state.create_logical_plan(sql).await.unwrap();
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| ()).unwrap();
    match derive(&state, &plan, &|table| table != "silver.users") {
        Ok(derived) => Ok(derived.strategy),
        Err(NotDerived::Refused(refused)) => Err(refused),
        Err(NotDerived::Failed(error)) => panic!("{sql}: {error}"),
    }
}

#[tokio::test]
async fn what_only_adds_is_appended() {
    for sql in [
        "SELECT * FROM bronze.events",
        "SELECT event_id AS id, upper(event_type) FROM bronze.events WHERE amount > 1",
        "SELECT event_id, unnest(json_get_array(tags)) AS tag FROM silver.seen",
        "SELECT event_id FROM bronze.events UNION ALL SELECT event_id FROM silver.seen",
        "WITH some AS (SELECT * FROM silver.seen) SELECT event_id FROM some WHERE event_type = 'x'",
    ] {
        assert_eq!(derived(sql).await, Ok(Strategy::Append { first_wins: false }), "{sql}");
    }
}

#[tokio::test]
async fn the_first_row_of_each_key_is_appended() {
    let numbered = "row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS place";
    for sql in [
        format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events) WHERE place = 1"),
        format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events WHERE amount > 1) WHERE 1 = place"),
        format!(
            "WITH e AS (SELECT event_id, _offset FROM bronze.events) \
                 SELECT event_id FROM (SELECT *, {numbered} FROM e) AS t WHERE place = 1"
        ),
        format!(
            "SELECT event_id, unnest(json_get_array(tags)) FROM (SELECT *, {numbered} FROM bronze.events) WHERE place = 1"
        ),
    ] {
        assert_eq!(derived(&sql).await, Ok(Strategy::Append { first_wins: true }), "{sql}");
    }
}

/// An offset that is not one row's alone, or no offset of the log, says nothing of which copy came first: then the first row
/// so far is kept, and may be replaced.
#[tokio::test]
async fn one_row_of_each_key_is_the_latest_so_far() {
    let numbered = "row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS n";
    for from in [
        "(SELECT *, unnest(json_get_array(tags)) AS tag FROM bronze.events)",
        "(SELECT event_id, _offset FROM bronze.events UNION ALL SELECT event_id, _offset FROM bronze.events)",
        "(SELECT event_id, -_offset AS _offset FROM bronze.events)",
        "(SELECT event_id, _row AS _offset FROM bronze.events)",
        "silver.seen",
        "silver.users",
    ] {
        let sql = format!("SELECT event_id FROM (SELECT event_id, {numbered} FROM {from}) WHERE n = 1");
        assert_eq!(derived(&sql).await, Ok(Strategy::Latest), "{sql}");
    }
    let descending = numbered.replace("_offset)", "_offset DESC)");
    for sql in [
        format!(
            "SELECT event_id FROM (SELECT event_id, {descending} FROM bronze.events) WHERE n = 1 AND event_id <> ''"
        ),
        "SELECT DISTINCT ON (event_id) event_id, amount FROM silver.seen ORDER BY event_id, event_time DESC".to_owned(),
    ] {
        assert_eq!(derived(&sql).await, Ok(Strategy::Latest), "{sql}");
    }
    let twice = format!("SELECT event_id FROM (SELECT event_id, {numbered} FROM bronze.events) WHERE n = 1");
    let both = derived(&format!("{twice} UNION ALL {twice}")).await;
    assert_eq!(both, Ok(Strategy::Append { first_wins: true }), "rows of either only ever come");
}

/// Groups, and the first few rows of an order, over rows that only come or that go as well.
#[tokio::test]
async fn what_has_states_that_merge_is_merged() {
    for sql in [
        "SELECT event_type, count(*) FROM silver.seen GROUP BY 1",
        "SELECT event_type, sum(amount) / count(*) AS mean FROM silver.seen WHERE amount > 0 GROUP BY 1 HAVING count(*) > 1",
        "SELECT count(*), min(event_time), approx_distinct(event_id) FROM bronze.events",
        "SELECT event_type, count(DISTINCT event_id), count(*) FILTER (WHERE amount > 0) FROM silver.seen GROUP BY 1",
        "SELECT event_type, n + 1 FROM (SELECT event_type, count(*) AS n FROM silver.seen GROUP BY 1) WHERE n > 2",
        "SELECT DISTINCT event_type FROM silver.seen",
        "SELECT event_type, count(*), sum(n), avg(amount) FROM silver.users GROUP BY 1",
        "SELECT count(*) FROM silver.users",
        "SELECT n, count(*) FROM (SELECT event_type, count(*) AS n FROM silver.seen GROUP BY event_type) GROUP BY n",
        "SELECT event_type, count(*) AS n FROM silver.seen GROUP BY 1 ORDER BY n, 1 LIMIT 3",
        "SELECT event_id FROM silver.seen ORDER BY event_id LIMIT 3",
        "SELECT event_id FROM (SELECT event_id, row_number() OVER (PARTITION BY event_type ORDER BY _offset) AS n \
             FROM bronze.events) WHERE n <= 2",
        "SELECT event_id FROM silver.users",
        "SELECT event_type, map(['rows'], [count(*)]) AS m FROM silver.seen GROUP BY 1",
    ] {
        assert_eq!(derived(sql).await, Ok(Strategy::Merge), "{sql}");
    }
}

/// Windows, joins, and aggregates without states that merge: what they give for a key depends on that key's rows alone.
#[tokio::test]
async fn what_goes_by_key_is_recomputed_for_touched_keys() {
    for sql in [
        "SELECT event_type, array_agg(event_id ORDER BY event_id) FROM silver.seen GROUP BY 1",
        "SELECT event_type, median(amount) FROM silver.seen GROUP BY 1",
        "SELECT event_type, count(DISTINCT amount) FROM silver.seen GROUP BY 1",
        "SELECT amount, count(*) FROM silver.seen GROUP BY 1",
        "SELECT event_type, max(n) FROM silver.users GROUP BY 1",
        "SELECT a.event_id FROM silver.seen a JOIN silver.users b ON a.event_id = b.event_id",
        "SELECT a.event_id FROM silver.seen a, silver.users b WHERE a.event_id = b.event_id",
        "SELECT a.event_id, b.n FROM silver.seen a LEFT JOIN silver.users b ON a.event_id = b.event_id AND b.n > a.n",
        "SELECT event_id, sum(amount) OVER (PARTITION BY event_type) FROM silver.seen",
        "SELECT event_id FROM silver.seen WHERE event_id IN (SELECT event_id FROM silver.users)",
        "SELECT event_id FROM silver.seen AS s WHERE NOT EXISTS (SELECT 1 FROM silver.users AS u WHERE u.event_id = s.event_id)",
        "SELECT event_id FROM silver.seen AS s WHERE n > (SELECT max(u.n) FROM silver.users AS u WHERE u.event_id = s.event_id)",
        "SELECT event_id FROM silver.seen EXCEPT SELECT event_id FROM silver.users",
        "SELECT event_id FROM silver.seen INTERSECT SELECT event_id FROM silver.users",
    ] {
        assert_eq!(derived(sql).await, Ok(Strategy::Recompute), "{sql}");
    }
}

#[tokio::test]
async fn what_needs_all_rows_says_why() {
    for (sql, code) in [
        (
            "SELECT event_type, event_id, count(*) FROM silver.seen GROUP BY ROLLUP (event_type, event_id)",
            "aggregate-of-all-rows",
        ),
        ("SELECT median(amount) FROM silver.seen", "aggregate-of-all-rows"),
        ("SELECT max(n) FROM (SELECT count(*) AS n FROM silver.seen GROUP BY event_type)", "aggregate-of-all-rows"),
        ("SELECT event_type, count(*), now() FROM silver.seen GROUP BY 1", "shows-time"),
        ("SELECT event_id FROM silver.seen WHERE event_time > now()", "shows-time"),
        ("SELECT event_id, sum(amount) OVER (ORDER BY event_id) FROM silver.seen", "window-of-all-rows"),
        ("SELECT a.event_id FROM silver.seen a JOIN silver.users b ON a.n < b.n", "join-without-equality"),
        ("SELECT event_id FROM silver.seen WHERE event_id NOT IN (SELECT event_id FROM silver.users)", "not-in"),
        ("SELECT event_id FROM silver.seen WHERE amount > (SELECT avg(amount) FROM silver.seen)", "subquery"),
        ("SELECT 1 AS one", "unknown-node"),
    ] {
        let derived = derived(sql).await.unwrap();
        assert!(matches!(&derived, Strategy::Full { because } if because.code == code), "{sql}: {derived:?}");
    }
}

#[tokio::test]
async fn what_is_no_function_of_the_log_is_refused() {
    for (sql, because) in [
        ("SELECT random() AS r FROM silver.seen", "random()"),
        ("SELECT event_id FROM silver.seen WHERE uuid() > event_id", "uuid()"),
        ("SELECT event_id FROM silver.seen WHERE amount > (SELECT max(random()) FROM silver.seen)", "random()"),
        ("SELECT event_id FROM silver.seen LIMIT 3", "LIMIT without ORDER BY"),
    ] {
        let refused = derived(sql).await.unwrap_err();
        assert!(refused.message.contains(because) && sql.contains(&refused.word), "{sql}: {refused:?}");
    }
}

/// A seed does not change: what is joined with it goes row by row, on whichever side and by whatever condition.
#[tokio::test]
async fn a_join_with_a_seed_is_a_projection() {
    let appended = Strategy::Append { first_wins: false };
    let joined = "SELECT e.event_id, k.n FROM silver.seen e JOIN seeds.kinds k ON e.event_type = k.event_type";
    let first = "SELECT event_id, event_type FROM (SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) \
                 AS place FROM bronze.events) WHERE place = 1";
    for (sql, strategy) in [
        (joined.to_owned(), appended.clone()),
        (joined.replace(" JOIN", " LEFT JOIN"), appended.clone()),
        (joined.replace("e.event_type = k.event_type", "e.n BETWEEN k.n AND k.amount"), appended.clone()),
        (joined.replace("JOIN seeds.kinds k ON e.event_type = k.event_type", "CROSS JOIN seeds.kinds k"), appended.clone()),
        (joined.replace("seeds.kinds", "(SELECT event_type, max(n) AS n FROM seeds.kinds GROUP BY 1)"), appended.clone()),
        (joined.replace("seeds.kinds", "(SELECT * FROM seeds.kinds ORDER BY n, event_id LIMIT 3)"), appended.clone()),
        (joined.replace("seeds.kinds k", "(VALUES ('a', 1)) AS k (event_type, n)"), appended.clone()),
        (format!("{joined} JOIN seeds.kinds o ON o.n > e.n"), appended.clone()),
        (
            "SELECT e.event_id, k.n FROM seeds.kinds k RIGHT JOIN bronze.events e USING (event_type)".to_owned(),
            appended.clone(),
        ),
        ("SELECT event_id FROM silver.seen WHERE n IN (SELECT n FROM seeds.kinds)".to_owned(), appended.clone()),
        ("SELECT event_id FROM silver.seen WHERE n NOT IN (SELECT n FROM seeds.kinds)".to_owned(), appended.clone()),
        ("SELECT event_id FROM silver.seen WHERE n > (SELECT max(n) FROM seeds.kinds)".to_owned(), appended.clone()),
        (
            "SELECT event_id FROM silver.seen e WHERE amount > 3 OR EXISTS (SELECT 1 FROM seeds.kinds k WHERE k.n = e.n)"
                .to_owned(),
            appended.clone(),
        ),
        (
            "SELECT event_id FROM silver.seen e WHERE NOT EXISTS (SELECT 1 FROM seeds.kinds k WHERE k.n = e.n)".to_owned(),
            appended.clone(),
        ),
        (format!("{joined} UNION ALL SELECT event_id, n FROM seeds.kinds"), appended.clone()),
        ("SELECT event_id FROM seeds.kinds WHERE n > 1".to_owned(), appended),
        (
            format!("SELECT f.event_id, k.n FROM ({first}) f JOIN seeds.kinds k ON f.event_type = k.event_type"),
            Strategy::Append { first_wins: true },
        ),
        (joined.replace("silver.seen", "silver.users"), Strategy::Merge),
        (format!("SELECT n, count(*), sum(n) FROM ({joined}) GROUP BY n"), Strategy::Merge),
        (format!("SELECT DISTINCT ON (n) n, event_id FROM ({joined}) ORDER BY n, event_id"), Strategy::Latest),
        // Rows of the seed are there for what is found among all others, and so are not each by itself.
        (
            "SELECT k.n, e.event_id FROM seeds.kinds k LEFT JOIN silver.seen e ON k.event_type = e.event_type".to_owned(),
            Strategy::Recompute,
        ),
        (joined.replace(" JOIN", " FULL JOIN"), Strategy::Recompute),
        (
            "SELECT n FROM seeds.kinds k WHERE NOT EXISTS (SELECT 1 FROM silver.seen e WHERE e.n = k.n)".to_owned(),
            Strategy::Recompute,
        ),
    ] {
        assert_eq!(derived(&sql).await, Ok(strategy), "{sql}");
    }
    let by_nothing = "SELECT k.n, e.event_id FROM seeds.kinds k LEFT JOIN silver.seen e ON k.n < e.n";
    let strategy = derived(by_nothing).await.unwrap();
    assert!(matches!(&strategy, Strategy::Full { because } if because.code == "join-without-equality"), "{strategy:?}");
    let shows_time = joined.replace("seeds.kinds", "(SELECT *, now() FROM seeds.kinds)");
    assert!(matches!(derived(&shows_time).await, Ok(Strategy::Full { because }) if because.code == "shows-time"));
}
