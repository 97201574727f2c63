//! Which shape of a query gets which strategy, and which is no function of the log.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::datasource::empty::EmptyTable;
use lakebed_log::Store;

use super::*;
use crate::catalog;

/// What is derived for a query over `bronze.events`, `silver.seen` (append) and `silver.users` (full).
async fn derived(sql: &str) -> Result<Strategy, Refused> {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let fields = vec![
        text("event_id"),
        text("event_type"),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("amount", DataType::Float64, true),
        text("tags"),
        Field::new("_row", DataType::Int64, false),
        Field::new("_offset", DataType::Int64, false),
    ];
    let schema = Arc::new(Schema::new(fields));
    for (layer, name) in [("bronze", "events"), ("silver", "seen"), ("silver", "users")] {
        catalog::register(&context, layer, name, Arc::new(EmptyTable::new(Arc::clone(&schema)))).unwrap();
    }
    let silver = |name: &str| TableName { schema: "silver".to_owned(), name: name.to_owned() };
    let full = Strategy::Full { because: "it needs all rows".to_owned() };
    let parents = BTreeMap::from([(silver("seen"), Strategy::Append { first_wins: false }), (silver("users"), full)]);
    let plan = context.state().create_logical_plan(sql).await.unwrap();
    derive(&plan, &parents)
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
    let numbered = "row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS n";
    for sql in [
        format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events) WHERE n = 1"),
        format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events WHERE amount > 1) WHERE 1 = n"),
        format!(
            "WITH e AS (SELECT event_id, _offset FROM bronze.events) \
                 SELECT event_id FROM (SELECT *, {numbered} FROM e) AS t WHERE n = 1"
        ),
        format!(
            "SELECT event_id, unnest(json_get_array(tags)) FROM (SELECT *, {numbered} FROM bronze.events) WHERE n = 1"
        ),
    ] {
        assert_eq!(derived(&sql).await, Ok(Strategy::Append { first_wins: true }), "{sql}");
    }
}

/// An offset that is not one row's alone, or no offset of the log, says nothing of which copy came first.
#[tokio::test]
async fn a_first_row_of_other_rows_than_the_logs_is_computed_in_full() {
    let numbered = "row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS n";
    for from in [
        "(SELECT *, unnest(json_get_array(tags)) AS tag FROM bronze.events)",
        "(SELECT * FROM bronze.events UNION ALL SELECT * FROM bronze.events)",
        "(SELECT event_id, -_offset AS _offset FROM bronze.events)",
        "(SELECT event_id, _row AS _offset FROM bronze.events)",
        "silver.seen",
    ] {
        let sql = format!("SELECT event_id FROM (SELECT *, {numbered} FROM {from}) WHERE n = 1");
        let derived = derived(&sql).await.unwrap();
        assert!(
            matches!(&derived, Strategy::Full { because } if because.contains("bronze.events")),
            "{sql}: {derived:?}"
        );
    }
    let descending = numbered.replace("_offset)", "_offset DESC)");
    let twice = format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events) WHERE n = 1");
    for sql in [
        format!("SELECT event_id FROM (SELECT *, {descending} FROM bronze.events) WHERE n = 1"),
        format!("SELECT event_id FROM (SELECT *, {numbered} FROM bronze.events) WHERE n = 2"),
        format!("{twice} UNION ALL {twice}"),
    ] {
        assert_eq!(derived(&sql).await.unwrap().name(), "full", "{sql}");
    }
}

#[tokio::test]
async fn what_needs_all_rows_says_why() {
    for (sql, because) in [
        ("SELECT event_type, count(*) FROM silver.seen GROUP BY 1", "GROUP BY"),
        ("SELECT DISTINCT event_type FROM silver.seen", "DISTINCT"),
        ("SELECT a.event_id FROM silver.seen a JOIN silver.users b ON a.event_id = b.event_id", "JOIN"),
        ("SELECT event_id, sum(amount) OVER (PARTITION BY event_type) FROM silver.seen", "a window function"),
        ("SELECT event_id FROM silver.seen ORDER BY event_id LIMIT 3", "LIMIT"),
        ("SELECT event_id FROM silver.users", "silver.users is rewritten"),
        ("SELECT event_id FROM silver.seen WHERE amount > (SELECT avg(amount) FROM silver.seen)", "a subquery"),
        ("SELECT event_id FROM silver.seen WHERE event_time > now()", "the time"),
        ("SELECT 1 AS one", "rows that are not from the log"),
    ] {
        let derived = derived(sql).await.unwrap();
        assert!(matches!(&derived, Strategy::Full { because: said } if said.contains(because)), "{sql}: {derived:?}");
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
