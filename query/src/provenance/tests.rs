//! What plans are asked of: a question about one group reads what that group needs.

use std::path::Path;

use chrono::DateTime;
use datafusion::logical_expr::LogicalPlan;
use lakebed_project::{Config, Flags};
use tempfile::TempDir;

use super::*;
use crate::lakehouse::Project;

const SETTINGS: &str = "[project]\nname = \"shop\"\n[columns]\ncountry = \"VARCHAR\"\namount = \"BIGINT\"\n";

const FIRST: &str = "SELECT event_id, event_date AS day, country, amount FROM (
         SELECT *, row_number() OVER (PARTITION BY event_id ORDER BY _offset) AS copy FROM bronze.events
     ) WHERE copy = 1";

async fn lakehouse(directory: &Path, models: &[(&str, &str)]) -> Lakehouse {
    std::fs::write(directory.join("lakebed.toml"), SETTINGS).unwrap();
    for (file, sql) in models {
        let path = directory.join("sql").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, sql).unwrap();
    }
    let config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    let project = Project::load(directory, config).unwrap();
    Lakehouse::open_or_create(project, DateTime::UNIX_EPOCH).await.unwrap()
}

/// The optimized plan of a question over an empty log.
async fn optimized(models: &[(&str, &str)], model: &str, values: &[&str]) -> String {
    let directory = TempDir::new().unwrap();
    let lakehouse = lakehouse(directory.path(), models).await;
    let traced = lakehouse.traced(model, None).await.unwrap();
    let values: Vec<_> = values.iter().map(|value| value.parse().unwrap()).collect();
    let optimized: LogicalPlan = traced.session.state.optimize(&traced.asked(&values).unwrap()).unwrap();
    optimized.display_indent().to_string()
}

#[tokio::test]
async fn a_group_is_found_without_a_sort_of_everything() {
    let revenue = "SELECT day, coalesce(country, '?') AS country, sum(amount) AS revenue, count(*) FILTER (WHERE amount > 5) AS large
         FROM silver.orders GROUP BY 1, 2";
    let models = [("silver/orders.sql", FIRST), ("gold/revenue.sql", revenue)];
    let plan = optimized(&models, "gold.revenue", &["day=2026-11-01", "country=DE"]).await;
    assert!(!plan.contains("Sort") && !plan.contains("Window"), "{plan}");
    let scans: Vec<_> = plan.lines().filter(|line| line.contains("TableScan")).collect();
    let [asked, others] = scans.as_slice() else { panic!("{plan}") };
    assert!(asked.contains("event_date = Date32(\"2026-11-01\")"), "{plan}");
    // Of other rows it takes to know whose copy they are, and no more.
    assert!(others.contains("projection=[event_id") && !others.contains("country"), "{plan}");
}

#[tokio::test]
async fn the_key_of_a_window_or_a_latest_row_comes_down_to_the_log() {
    let latest = "-- key: country\n-- sequence: amount\nSELECT country, amount FROM bronze.events";
    let plan = optimized(&[("gold/latest.sql", latest)], "gold.latest", &["country=DE"]).await;
    let scan = plan.lines().find(|line| line.contains("TableScan")).unwrap();
    assert!(scan.contains("country = Utf8(\"DE\")"), "{plan}");
    let shares = "SELECT country, amount, sum(amount) OVER (PARTITION BY country) AS all_of_it FROM bronze.events";
    let plan = optimized(&[("gold/shares.sql", shares)], "gold.shares", &["country=DE", "amount=3"]).await;
    let scan = plan.lines().find(|line| line.contains("TableScan")).unwrap();
    assert!(scan.contains("country = Utf8(\"DE\")") && !scan.contains("amount ="), "{plan}");
}

#[tokio::test]
async fn a_part_that_is_not_understood_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let recursive = "WITH RECURSIVE steps AS (
             SELECT amount AS step FROM bronze.events UNION ALL SELECT step - 1 FROM steps WHERE step > 0
         ) SELECT step FROM steps";
    let nested = "SELECT step FROM gold.recursive";
    let models = [("gold/recursive.sql", recursive), ("gold/nested.sql", nested)];
    let lakehouse = lakehouse(directory.path(), &models).await;
    for model in ["gold.recursive", "gold.nested"] {
        let values = vec!["step=1".parse().unwrap()];
        let refused = lakehouse.why(&Question { model: model.to_owned(), values, as_of: None }).await.map(drop);
        let refused = refused.unwrap_err();
        assert!(refused.to_string().ends_with("it has WITH RECURSIVE"), "{refused}");
        assert!(refused.hint().is_some());
    }
}
