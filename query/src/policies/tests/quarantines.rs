//! What is said of a model holds for its quarantine.

use super::*;

/// Sales whose amount is at least 5, and beside them those of less.
async fn apart() -> ReadSession {
    let (kept, out) = (
        format!("SELECT * FROM ({SALES}) WHERE amount >= 5"),
        format!("SELECT *, 'amount >= 5' AS failed_checks FROM ({SALES}) WHERE amount < 5"),
    );
    lake_of(&[("gold", "sales", &kept), ("gold", "sales_quarantine", &out), ("gold", "other", "SELECT 1 AS x")]).await
}

fn tables() -> BTreeSet<TableName> {
    ["sales", "other"].map(|name| TableName { schema: "gold".to_owned(), name: name.to_owned() }).into()
}

async fn seen_by(lake: &ReadSession, text: &str, name: &str) -> ReadSession {
    let mut rules = rules(text);
    rules.check(&tables()).unwrap();
    let written = rules.count();
    rules.hold_for_quarantines(&tables());
    assert_eq!(rules.count(), written, "what follows is not written");
    lake.for_reader(&rules, &rules.reader(name)).await.unwrap()
}

const ALL: &str = "SELECT * FROM gold.sales_quarantine ORDER BY id";

#[tokio::test]
async fn who_may_not_read_a_model_may_not_read_its_quarantine() {
    let lake = apart().await;
    for grant in ["GRANT SELECT ON gold.other TO ana", "GRANT SELECT ON gold.sales TO bob"] {
        let error = try_rows(&seen_by(&lake, grant, "ana").await, ALL).await.unwrap_err();
        assert!(error.to_string().starts_with("there is no table 'gold.sales_quarantine'"), "{error}");
    }
    for grant in ["GRANT SELECT ON gold.sales TO ana", "GRANT SELECT ON ALL TABLES IN SCHEMA gold TO ana"] {
        let all = rows(&seen_by(&lake, grant, "ana").await, ALL).await;
        assert_eq!(all.matches("amount >= 5").count(), 5, "{all}");
    }
}

#[tokio::test]
async fn its_rows_and_values_are_hidden_as_those_of_the_model() {
    let lake = apart().await;
    let own = "GRANT SELECT ON ALL TABLES IN SCHEMA gold TO ana; CREATE POLICY own ON gold.sales TO ana USING (owner = 'ana');
        CREATE MASK ON gold.sales (email) TO ana USING ('hidden')";
    assert_eq!(rows(&seen_by(&lake, own, "ana").await, ALL).await, "0 0 DE ana hidden; 3 3 DE ana hidden");
    let reasons = "SELECT count(*), count(failed_checks) FROM gold.sales_quarantine";
    assert_eq!(rows(&seen_by(&lake, own, "ana").await, reasons).await, "2 0", "a check may tell of what is masked");
    // A policy is on the table, and none of them is bob's.
    let others = format!("{own}; GRANT SELECT ON gold.sales TO bob");
    assert_eq!(rows(&seen_by(&lake, &others, "bob").await, reasons).await, "0 0");
    let some = seen_by(&lake, "GRANT SELECT (id, country) ON gold.sales TO ana", "ana").await;
    assert_eq!(rows(&some, &format!("{ALL} LIMIT 2")).await, "0 DE; 1 FR");
}

#[test]
fn nothing_is_said_of_a_quarantine_itself() {
    for statement in [
        "GRANT SELECT ON gold.sales_quarantine TO ana",
        "CREATE POLICY p ON gold.sales_quarantine USING (true)",
        "CREATE MASK ON gold.sales_quarantine (email) USING (email)",
    ] {
        let error = rules(statement).check(&tables()).unwrap_err();
        assert_eq!(error.to_string(), "policies.sql:1: who reads gold.sales_quarantine is said of gold.sales");
        assert_eq!(error.hint().unwrap(), "write it of gold.sales: it holds for its quarantine too");
    }
    // A model that is called like one is a model.
    let named = rules("GRANT SELECT ON gold.sales TO ana; GRANT SELECT ON gold.sales_quarantine TO bob");
    let known = tables()
        .into_iter()
        .chain([TableName { schema: "gold".to_owned(), name: "sales_quarantine".to_owned() }])
        .collect();
    let mut held = named.clone();
    held.check(&known).unwrap();
    held.hold_for_quarantines(&known);
    let of =
        |rules: &Rules, name: &str| rules.access(&rules.reader(name), &tables().last().unwrap().quarantine()).is_some();
    assert!(!of(&held, "ana") && of(&held, "bob"));
}
