//! What differs between two versions of a model: of the starter's models, and of a join, a window, a union and a subquery.

use crate::shop::{Shop, says, stderr};

/// The rows of a diff as CSV, and what was said of them.
fn diff(shop: &Shop, arguments: &[&str]) -> (String, String) {
    let output = shop.command(&[&["diff", "-o", "csv"], arguments].concat()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    let said = stderr(&output);
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// How many rows of each change there are.
fn counts(rows: &str) -> [usize; 4] {
    ["added", "removed", "before", "after"]
        .map(|change| rows.lines().filter(|line| line.starts_with(&format!("{change},"))).count())
}

#[test]
fn what_came_went_and_changed_is_what_tells_two_versions_apart() {
    let shop = Shop::of_versions(&[200, 300]);
    let models = [
        (
            "silver/joined",
            "SELECT e.event_id, s.events AS of FROM silver.events e JOIN silver.sessions s ON e.session_id = s.session_id",
        ),
        (
            "gold/windowed",
            "-- key: event_id\nSELECT event_id, count(*) OVER (PARTITION BY session_id) AS n FROM silver.events",
        ),
        (
            "gold/united",
            "SELECT event_id, page FROM silver.page_views UNION ALL SELECT event_id, page FROM silver.purchases",
        ),
        (
            "gold/asked",
            "SELECT event_id FROM silver.page_views WHERE user_id IN (SELECT user_id FROM silver.purchases)",
        ),
    ];
    for (file, sql) in models {
        shop.edit(&format!("sql/{file}.sql"), sql);
    }
    let list = shop.done(&["plan", "-o", "csv"]);
    let names: Vec<&str> = list.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(names.len(), 16);
    for name in names {
        let (rows, said) = diff(&shop, &[name, "--from", "1", "--to", "2"]);
        let [added, removed, before, after] = counts(&rows);
        let expected = format!("{name} from version 1 to version 2: {added} row");
        assert!(
            said.starts_with(&expected) && said.ends_with(&format!(" came, {removed} went, {after} changed\n")),
            "{said}"
        );
        assert_eq!(before, after, "{name}");
        let of = |version: u8| format!("SELECT * FROM {name} VERSION AS OF {version}");
        let count = |rows: String| format!("SELECT count(*) AS n FROM ({rows})");
        let counts = [of(1), of(2), format!("{} EXCEPT {}", of(2), of(1)), format!("{} EXCEPT {}", of(1), of(2))];
        let [then, now, came, went] = counts.map(count);
        let counts = format!("SELECT ({then}) AS a, ({now}) AS b, ({came}) AS c, ({went}) AS d");
        let counts = shop.done(&["query", &counts, "-o", "csv"]);
        let counts: Vec<usize> =
            counts.lines().nth(1).unwrap().split(',').map(|count| count.parse().unwrap()).collect();
        assert_eq!(counts[0] + added - removed, counts[1], "{name}");
        // Equal rows of interactions are rows of their own, which EXCEPT takes for one.
        if name != "silver.interactions" {
            assert_eq!(counts[2..], [added + after, removed + before], "{name}");
        }
    }
    let (rows, said) = diff(&shop, &["gold.windowed", "--from", "1"]);
    says(&said, &["gold.windowed from version 1 to version 2: "]);
    let [added, _, before, _] = counts(&rows);
    assert!(added > 0 && before > 0, "sessions went on: {rows}");
    assert!(rows.starts_with("change,event_id,n\n"), "{rows}");
}

#[test]
fn without_versions_it_is_the_last_change() {
    let shop = Shop::of_versions(&[200, 300]);
    let (rows, said) = diff(&shop, &["gold.page_engagement"]);
    says(&said, &["gold.page_engagement from version 1 to version 2: "]);
    let key = |line: &str| line.split(',').nth(1).unwrap().to_owned();
    let keys: Vec<String> = rows.lines().skip(1).map(key).collect();
    assert!(keys.is_sorted(), "by its key: {rows}");
    let lines: Vec<_> = rows.lines().collect();
    let pairs: Vec<_> = lines.windows(2).filter(|pair| pair[0].starts_with("before,")).collect();
    assert!(!pairs.is_empty(), "{rows}");
    assert!(pairs.iter().all(|pair| pair[1].starts_with("after,") && key(pair[0]) == key(pair[1])), "{rows}");
    // A version that brings this model nothing.
    shop.edit(
        "other.ndjson",
        "{\"event_id\":\"o\",\"event_type\":\"other\",\"event_time\":\"2026-11-01T00:00:00Z\"}\n",
    );
    shop.done(&["ingest", "other.ndjson"]);
    shop.done(&["run"]);
    let (again, said) = diff(&shop, &["gold.page_engagement"]);
    says(&said, &["gold.page_engagement from version 1 to version 3: "]);
    assert_eq!(again, rows);
    says(
        &diff(&shop, &["silver.events"]).1,
        &["silver.events from version 2 to version 3: 1 row came, 0 went, 0 changed"],
    );
    says(
        &diff(&shop, &["gold.page_engagement", "--to", "1"]).1,
        &["gold.page_engagement from version 0 to version 1: ", " 0 went, 0 changed"],
    );
    let (none, said) = diff(&shop, &["gold.page_engagement", "--from", "2"]);
    says(&said, &["from version 2 to version 3: 0 rows came, 0 went, 0 changed"]);
    assert!(none.lines().count() == 1 && none.starts_with("change,page,views,"), "{none}");
    // The later version is that of a time, too, and every format has the rows.
    let year = "2100-01-01";
    says(&diff(&shop, &["silver.events", "--from", "2", "--to", year]).1, &["from version 2 to version 3: 1 row came"]);
    says(&shop.done(&["diff", "silver.events"]), &["| change | event_id |", "| added  | o "]);
    says(&shop.done(&["diff", "silver.events", "-o", "json"]), &[r#"[{"change":"added","event_id":"o","#]);
    // The SQL as it is now, on both sides.
    let model = std::fs::read_to_string(shop.path().join("sql/gold/page_engagement.sql")).unwrap();
    shop.edit("sql/gold/page_engagement.sql", &model.replace("avg(duration_ms) AS avg", "2 * avg(duration_ms) AS avg"));
    assert_eq!(counts(&diff(&shop, &["gold.page_engagement", "--from", "1", "--to", "2"]).0), counts(&rows));
}

#[test]
fn what_cannot_be_compared_is_told() {
    let shop = Shop::with_tables();
    says(&shop.fails(&["diff", "gold.revenu"], 1), &["there is no table 'gold.revenu'", "'gold.revenue'?"]);
    says(&shop.fails(&["diff", "gold.revenue", "--to", "9"], 1), &["no version 9", "log show"]);
    says(&shop.fails(&["diff", "gold.revenue", "--from", "9"], 1), &["no version 9", "log show"]);
    says(&shop.fails(&["diff", "gold.revenue", "--from", "2000-01-01"], 1), &["2000-01-01"]);
    let said = shop.fails(&["diff", "gold.revenue", "--from", "1", "--to", "0"], 2);
    says(&said, &["version 1 is after version 0", "hint: "]);
    says(&shop.fails(&["diff", "gold.revenue", "--from", "soon"], 2), &["neither a version nor a time"]);
    says(&shop.fails(&["diff"], 2), &["MODEL"]);
    shop.edit("sql/gold/new.sql", "SELECT event_id FROM silver.events");
    says(&shop.fails(&["diff", "gold.new"], 1), &["there is no table 'gold.new'", "lakebed run"]);
    says(&diff(&shop, &["gold.new", "--from", "0", "--to", "1"]).1, &["300 rows came, 0 went, 0 changed"]);
    shop.edit("sql/gold/new.sql", "SELECT event_idd FROM silver.events");
    says(&shop.fails(&["diff", "gold.new", "--from", "0"], 1), &["new.sql:1", "event_idd", "did you mean 'event_id'?"]);
}
