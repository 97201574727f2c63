//! Where the columns of queries of each shape come from.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use lakebed_log::Store;

use super::*;
use crate::catalog;
use crate::slots::Slot;

/// What is traced of a query over `bronze.events` and `silver.users`: a line for the rows, and one for each column.
async fn traced(sql: &str) -> Vec<String> {
    let (lake, runs) = (Store::memory(), Store::memory());
    let context = catalog::session(&lake, &runs).unwrap();
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let tags = DataType::new_list(DataType::Utf8, true);
    let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let events = vec![text("id"), text("kind"), Field::new("at", at, false), Field::new("n", DataType::Int64, true)];
    let events = [events, vec![Field::new("tags", tags, true), Field::new("_offset", DataType::Int64, false)]].concat();
    let users = vec![text("user"), text("country"), Field::new("age", DataType::Int64, true)];
    for (layer, name, columns) in [("bronze", "events", events), ("silver", "users", users)] {
        catalog::register(&context, layer, name, Arc::new(Slot(Arc::new(Schema::new(columns))))).unwrap();
    }
    let state = context.state();
    let plan = state.create_logical_plan(sql).await.unwrap();
    let mut analyzer = state.analyzer().clone();
    analyzer.rules.retain(|rule| rule.name() != "total_order");
    let plan = analyzer.execute_and_check(plan, state.config_options(), |_, _| ()).unwrap();
    let traced = trace(&plan).unwrap();
    assert_eq!(traced.columns.len(), plan.schema().fields().len(), "{sql}");
    let said = |name: &str, sources: Sources| {
        let short = |table: &str| table.split_once('.').unwrap().1.chars().next().unwrap();
        let one =
            |((table, column), how): (&(String, String), &How)| format!("{} {}.{column}", how.name(), short(table));
        format!("{name}: {}", sources.iter().map(one).collect::<Vec<_>>().join(", "))
    };
    let columns = plan.schema().fields().iter().map(|field| field.name().clone()).zip(traced.columns);
    let rows = said("rows", traced.rows);
    [rows].into_iter().chain(columns.map(|(name, sources)| said(&name, sources))).collect()
}

#[track_caller]
fn are(sql: &str, said: &[String], expected: &[&str]) {
    assert_eq!(said, expected, "{sql}");
}

/// Each query with what is said of it.
async fn all(cases: &[(&str, &[&str])]) {
    for (sql, expected) in cases {
        are(sql, &traced(sql).await, expected);
    }
}

#[tokio::test]
async fn what_is_taken_what_is_made_of_it_and_what_only_chooses() {
    all(&[
        (
            "SELECT id, upper(kind) AS kind, n + 1 AS more, 7 AS seven FROM bronze.events WHERE n > 0 AND kind <> 'x'",
            &[
                "rows: chosen e.kind, chosen e.n",
                "id: taken e.id",
                "kind: computed e.kind",
                "more: computed e.n",
                "seven: ",
            ],
        ),
        (
            "WITH some AS (SELECT id AS a, n FROM bronze.events) SELECT x.a AS b, coalesce(x.n, 0) AS n FROM some AS x",
            &["rows: ", "b: taken e.id", "n: computed e.n"],
        ),
        (
            "SELECT CASE WHEN n > 1 THEN id ELSE kind END AS c FROM bronze.events",
            &["rows: ", "c: computed e.id, computed e.kind, computed e.n"],
        ),
        // Which rows there are hangs on the order below a LIMIT, and on no other.
        ("SELECT id FROM bronze.events ORDER BY at, n LIMIT 3", &["rows: chosen e.at, chosen e.n", "id: taken e.id"]),
        ("SELECT id FROM bronze.events ORDER BY at", &["rows: ", "id: taken e.id"]),
        ("SELECT 1 AS one", &["rows: ", "one: "]),
    ])
    .await;
}

#[tokio::test]
async fn groups_and_windows() {
    all(&[
        (
            "SELECT kind, count(*) AS c, sum(n) FILTER (WHERE id = 'a') AS s, array_agg(id ORDER BY at) AS l FROM bronze.events GROUP BY 1",
            &[
                "rows: chosen e.kind",
                "kind: taken e.kind",
                "c: ",
                "s: chosen e.id, computed e.n",
                "l: chosen e.at, computed e.id",
            ],
        ),
        ("SELECT DISTINCT kind FROM bronze.events", &["rows: chosen e.kind", "kind: taken e.kind"]),
        (
            "SELECT kind, grouping(kind) AS g, max(n) AS n FROM bronze.events GROUP BY ROLLUP (kind) HAVING max(at) > now()",
            &["rows: chosen e.at, chosen e.kind", "kind: taken e.kind", "g: computed e.kind", "n: computed e.n"],
        ),
        (
            "SELECT id, sum(n) OVER (PARTITION BY kind ORDER BY at) AS ran FROM bronze.events",
            &["rows: ", "id: taken e.id", "ran: chosen e.at, chosen e.kind, computed e.n"],
        ),
        (
            "SELECT id FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY _offset) AS place FROM bronze.events) WHERE place = 1",
            &["rows: chosen e._offset, chosen e.id", "id: taken e.id"],
        ),
        (
            "SELECT DISTINCT ON (id) id, kind FROM bronze.events ORDER BY id, at DESC",
            &["rows: chosen e.at, chosen e.id", "id: taken e.id", "kind: taken e.kind"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn joins_unions_and_lists() {
    all(&[
        (
            "SELECT e.n, u.country FROM bronze.events e JOIN silver.users u ON e.id = u.user AND e.n > u.age",
            &["rows: chosen e.id, chosen e.n, chosen u.age, chosen u.user", "n: taken e.n", "country: taken u.country"],
        ),
        (
            "SELECT user, b.kind FROM silver.users LEFT JOIN (SELECT kind, id AS user FROM bronze.events WHERE n = 1) AS b USING (user)",
            &["rows: chosen e.id, chosen e.n, chosen u.user", "user: taken u.user", "kind: taken e.kind"],
        ),
        (
            "SELECT id, n FROM bronze.events WHERE n > 0 UNION ALL SELECT user, length(country) FROM silver.users",
            &["rows: chosen e.n", "id: taken e.id, taken u.user", "n: taken e.n, computed u.country"],
        ),
        (
            "SELECT id FROM bronze.events UNION SELECT user FROM silver.users",
            &["rows: chosen e.id, chosen u.user", "id: taken e.id, taken u.user"],
        ),
        (
            "SELECT id FROM bronze.events EXCEPT SELECT user FROM silver.users",
            &["rows: chosen e.id, chosen u.user", "id: taken e.id"],
        ),
        ("SELECT id, unnest(tags) AS tag FROM bronze.events", &[
            "rows: chosen e.tags",
            "id: taken e.id",
            "tag: computed e.tags",
        ]),
    ])
    .await;
}

#[tokio::test]
async fn subqueries_and_what_they_name_of_the_query_around_them() {
    all(&[
        (
            "SELECT id FROM bronze.events e WHERE EXISTS (SELECT 1 FROM silver.users u WHERE u.user = e.id AND u.age > 3)",
            &["rows: chosen e.id, chosen u.age, chosen u.user", "id: taken e.id"],
        ),
        (
            "SELECT id FROM bronze.events WHERE n NOT IN (SELECT age FROM silver.users WHERE country = 'NO')",
            &["rows: chosen e.n, chosen u.age, chosen u.country", "id: taken e.id"],
        ),
        (
            "SELECT id, (SELECT max(age) FROM silver.users u WHERE u.user = e.id) AS age FROM bronze.events e",
            &["rows: ", "id: taken e.id", "age: chosen e.id, computed u.age, chosen u.user"],
        ),
        (
            "SELECT e.id, l.m FROM bronze.events e CROSS JOIN LATERAL (SELECT max(age + e.n) AS m FROM silver.users u WHERE u.user = e.kind) l",
            &["rows: chosen e.kind, chosen u.user", "id: taken e.id", "m: computed e.n, computed u.age"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_recursion_is_followed_to_its_end() {
    let sql = "WITH RECURSIVE up AS (SELECT user, country, 0 AS depth FROM silver.users WHERE age > 90 \
               UNION ALL SELECT country, user, depth + 1 FROM up WHERE depth < 3) SELECT user, depth FROM up";
    all(&[(sql, &["rows: chosen u.age", "user: taken u.country, taken u.user", "depth: "])]).await;
}

#[tokio::test]
async fn of_a_node_that_is_not_understood_all_columns_below_are_told() {
    let said = traced("EXPLAIN SELECT id, kind FROM bronze.events WHERE n > 1").await;
    let all = "computed e.id, computed e.kind";
    let rows = "rows: chosen e.id, chosen e.kind, chosen e.n".to_owned();
    assert_eq!(said, [rows, format!("plan_type: {all}"), format!("plan: {all}")]);
}
