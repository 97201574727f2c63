//! Policies, as their author tries them out and an operator serves by them.

use std::fs;

use crate::served::Served;
use crate::shop::Shop;

const POLICIES: &str = "GRANT sellers TO ana; GRANT SELECT ON gold.revenue TO sellers;
    CREATE POLICY known ON gold.revenue USING (country <> 'unknown');
    CREATE MASK ON gold.revenue (buyers) TO sellers USING (NULL)";

fn write(shop: &Shop, text: &str) {
    let folder = shop.path().join("sql/policies");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("all.sql"), text).unwrap();
}

#[test]
fn an_author_sees_what_others_will() {
    let shop = Shop::with_tables();
    let said = shop.fails(&["policy", "test", "--as", "ana"], 1);
    assert!(said.contains("there are no policies"), "{said}");
    write(&shop, POLICIES);
    let shown = shop.done(&["policy", "test", "--as", "ana", "-o", "csv"]);
    let line = |table: &str| shown.lines().find(|line| line.starts_with(table)).unwrap().to_owned();
    assert!(line("gold.revenue").contains("(country <> 'unknown'),,buyers: NULL"), "{shown}");
    assert!(line("bronze.events").starts_with("bronze.events,not there,"), "{shown}");
    let count = |arguments: &[&str]| -> u64 {
        let sql = "SELECT count(*) AS n, count(buyers) AS buyers FROM gold.revenue WHERE country = 'unknown'";
        let shown = shop.done(&[&["query", sql, "-o", "csv"], arguments].concat());
        shown.lines().last().unwrap().split(',').next().unwrap().parse().unwrap()
    };
    assert_eq!(count(&["--as", "ana"]), 0);
    assert_eq!(count(&["--as", "ana", "--as-of", "1"]), 0);
    let said = shop.fails(&["query", "SELECT 1 FROM silver.events", "--as", "sellers"], 1);
    assert!(said.contains("there is no table 'silver.events'"), "{said}");
    let said = shop.fails(&["query", "SELECT 1 FROM gold.revenue VERSION AS OF 1", "--as", "nobody"], 1);
    assert!(said.contains("there is no table 'gold.revenue'"), "{said}");
    for (wrong, what) in [
        ("GRANT SELECT ON gold.revenu TO x", "sql/policies/all.sql:1: there is no table 'gold.revenu'"),
        ("CREATE MASK ON gold.revenue (buyer) USING (1)", "there is no column 'buyer' in gold.revenue"),
        ("CREATE POLICY p ON gold.revenue TO x USING (nay = 1)", "there is no column 'nay'"),
    ] {
        write(&shop, &format!("{wrong}; GRANT SELECT ON gold.revenue TO x"));
        let said = shop.fails(&["serve", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"], 1);
        assert!(said.contains(what), "{said}");
        let said = shop.fails(&["policy", "test", "--as", "x"], 1);
        assert!(said.contains(what), "{said}");
    }
    write(&shop, "GRANT everything TO ana");
    assert!(shop.done(&["doctor", "-o", "csv"]).contains("policies,ok,1 under sql/policies"));
}

#[test]
fn a_server_answers_by_them() {
    let shop = Shop::with_tables();
    write(&shop, &format!("{POLICIES}; GRANT SELECT ON gold.daily_activity TO PUBLIC"));
    let served = Served::start(&shop, &[]);
    // Nobody has logged in, and so it is PUBLIC that asks.
    let (status, _, rows) = served.post("/v1/sql", &[], b"SELECT count(*) > 0 AS some FROM gold.daily_activity");
    assert_eq!((status, rows.trim()), (200, r#"[{"some":true}]"#));
    assert_eq!(served.post("/v1/sql", &[], b"SELECT * FROM gold.revenue").0, 404);
    served.stop();
}
