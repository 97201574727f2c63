//! Policies over a small lake in memory: what they say, what a reader sees, and what nobody gets out of what is hidden.

mod quarantines;
mod random;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use chrono::DateTime;
use datafusion::datasource::MemTable;
use futures::TryStreamExt;

use super::*;
use crate::catalog;
use crate::session::{ReadSession, TableInfo, TableKind};

/// Ten sales: amounts 0 to 9, of three countries, each of one of three owners.
const SALES: &str = "SELECT value::INT AS id, value::INT AS amount, ['DE', 'FR', 'IT'][value % 3 + 1] AS country,
    ['ana', 'bob', 'eve'][value % 3 + 1] AS owner, 'mail' || value AS email FROM range(10)";

async fn lake() -> ReadSession {
    lake_of(&[("gold", "sales", SALES), ("gold", "other", "SELECT 1 AS x"), ("silver", "raw", "SELECT 'secret' AS s")])
        .await
}

async fn lake_of(tables: &[(&str, &str, &str)]) -> ReadSession {
    let store = lakebed_log::Store::memory();
    let context = catalog::session(&store, &store).unwrap();
    let mut infos = Vec::new();
    for (schema, name, sql) in tables {
        let rows = context.sql(sql).await.unwrap();
        let columns = Arc::new(rows.schema().as_arrow().clone());
        let batches = rows.collect().await.unwrap();
        let table = MemTable::try_new(Arc::clone(&columns), vec![batches]).unwrap();
        catalog::register(&context, schema, name, Arc::new(table)).unwrap();
        infos.push(TableInfo {
            schema: (*schema).to_owned(),
            name: (*name).to_owned(),
            kind: TableKind::Table,
            description: None,
            key: Vec::new(),
            foreign_keys: Vec::new(),
            columns,
        });
    }
    infos.extend(catalog::information_schema(&context).await.unwrap());
    ReadSession::new(1, DateTime::UNIX_EPOCH, infos, context)
}

fn rules(text: &str) -> Rules {
    let mut rules = Rules::default();
    parse::parse(Path::new("policies.sql"), text, &mut rules).unwrap();
    rules
}

async fn seen(lake: &ReadSession, text: &str, name: &str) -> ReadSession {
    let rules = rules(text);
    lake.for_reader(&rules, &rules.reader(name)).await.unwrap()
}

async fn try_rows(session: &ReadSession, sql: &str) -> Result<Vec<RecordBatch>> {
    let plan = session.plan(sql).await?;
    session.stream(plan).await?.try_collect().await.map_err(Error::Execution)
}

/// The rows as text, in their order.
async fn rows(session: &ReadSession, sql: &str) -> String {
    let batches = try_rows(session, sql).await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let lines = table.lines().skip(3).filter(|line| !line.starts_with('+'));
    lines
        .map(|line| line.replace([' ', '|'], " ").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ")
}

const OWN: &str = "GRANT SELECT ON ALL TABLES IN SCHEMA gold TO analysts; GRANT analysts TO ana, \"Bob B\";
    CREATE POLICY own ON gold.sales TO analysts USING (owner = current_user)";

#[tokio::test]
async fn who_is_granted_nothing_sees_nothing() {
    let lake = lake().await;
    for (name, tables) in [("ana", "other; sales"), ("Bob B", "other; sales"), ("bob b", ""), ("", ""), ("eve", "")] {
        let session = seen(&lake, OWN, name).await;
        let listed =
            "SELECT table_name FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1";
        assert_eq!(rows(&session, listed).await, tables, "{name}");
        let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema IN ('gold', 'silver')";
        assert_eq!(rows(&session, columns).await, if tables.is_empty() { "0" } else { "6" }, "{name}");
        let infos = session.tables().iter().filter(|info| info.schema != "information_schema");
        let mut names: Vec<&str> = infos.map(|info| info.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names.join("; "), tables, "{name}");
    }
    // What is hidden is answered as what is not there.
    let session = seen(&lake, OWN, "ana").await;
    let (hidden, absent) = (
        try_rows(&session, "SELECT * FROM silver.raw").await.unwrap_err(),
        try_rows(&session, "SELECT * FROM silver.nay").await.unwrap_err(),
    );
    assert_eq!(hidden.to_string().replace("raw", "nay"), absent.to_string());
    assert_eq!(hidden.hint(), absent.hint());
}

#[tokio::test]
async fn rows_are_those_of_one_permissive_and_each_restrictive_policy() {
    let lake = lake().await;
    let amounts = "SELECT amount FROM gold.sales ORDER BY amount";
    assert_eq!(rows(&seen(&lake, OWN, "ana").await, amounts).await, "0; 3; 6; 9");
    assert_eq!(rows(&seen(&lake, OWN, "Bob B").await, amounts).await, "", "no sale is of 'Bob B'");
    let more = format!(
        "{OWN}; GRANT managers TO ana; CREATE POLICY all_of_it ON gold.sales TO managers USING (true);
         CREATE POLICY small ON gold.sales AS RESTRICTIVE FOR SELECT USING (amount < 5)"
    );
    assert_eq!(rows(&seen(&lake, &more, "ana").await, amounts).await, "0; 1; 2; 3; 4");
    // A table without policies is seen in whole; a policy for others leaves nothing.
    let others = "GRANT SELECT ON gold.sales TO PUBLIC; CREATE POLICY p ON gold.sales TO bob USING (true)";
    assert_eq!(rows(&seen(&lake, others, "ana").await, amounts).await, "");
    assert_eq!(
        rows(&seen(&lake, "GRANT SELECT ON gold.sales TO PUBLIC", "").await, "SELECT count(*) FROM gold.sales").await,
        "10"
    );
    let null = "GRANT SELECT ON gold.sales TO PUBLIC; CREATE POLICY p ON gold.sales USING (NULL)";
    assert_eq!(rows(&seen(&lake, null, "ana").await, amounts).await, "");
    let role = "GRANT SELECT ON gold.sales TO PUBLIC; GRANT german TO ana;
        CREATE POLICY p ON gold.sales USING (country = 'DE' AND pg_has_role('german', 'member'))";
    assert_eq!(rows(&seen(&lake, role, "ana").await, amounts).await, "0; 3; 6; 9");
    assert_eq!(rows(&seen(&lake, role, "bob").await, amounts).await, "");
}

#[tokio::test]
async fn values_are_masked_and_columns_left_out() {
    let lake = lake().await;
    let text = "GRANT SELECT (id, email, country) ON gold.sales TO clerks; GRANT SELECT ON gold.sales TO managers;
        GRANT managers TO boss; GRANT clerks TO managers;
        CREATE MASK hide ON gold.sales (email) TO clerks USING (CASE WHEN pg_has_role('managers', 'member') THEN email ELSE '***' END);
        CREATE MASK ON gold.sales (amount) USING (NULL)";
    let clerk = seen(&lake, text, "clerks").await;
    assert_eq!(rows(&clerk, "SELECT * FROM gold.sales WHERE id = 4").await, "4 FR ***");
    assert_eq!(rows(&clerk, "SELECT count(*) FROM gold.sales WHERE email = 'mail4'").await, "0");
    assert_eq!(rows(&clerk, "SELECT count(*) FROM gold.sales WHERE email = '***'").await, "10");
    let hidden = try_rows(&clerk, "SELECT amount FROM gold.sales").await.unwrap_err();
    assert!(matches!(hidden, Error::UnknownColumn { .. }), "{hidden}");
    let boss = seen(&lake, text, "boss").await;
    assert_eq!(rows(&boss, "SELECT id, amount, email FROM gold.sales WHERE id = 4").await, "4 mail4");
    let kinds = boss.tables().iter().find(|info| info.name == "sales").unwrap();
    assert_eq!(kinds.columns.field_with_name("amount").unwrap().data_type(), &arrow::datatypes::DataType::Int32);
}

#[tokio::test]
async fn nothing_is_computed_of_a_hidden_row() {
    let lake = lake().await;
    let ana = seen(&lake, OWN, "ana").await;
    // Bob's are amounts 1, 4, 7.
    for fails_at in [1, 4, 7] {
        for sql in [
            format!("SELECT count(*) FROM gold.sales WHERE 1 / (amount - {fails_at}) < 100"),
            format!("SELECT sum(1 / (amount - {fails_at})) FROM gold.sales"),
            format!(
                "SELECT amount FROM gold.sales WHERE amount > {fails_at} OR 1 / (amount - {fails_at}) < 100 ORDER BY 1 / (amount - {fails_at}) LIMIT 3"
            ),
            format!("SELECT a.amount FROM gold.sales a JOIN gold.sales b ON 1 / (a.amount - {fails_at}) = b.amount"),
            format!("SELECT (SELECT max(1 / (amount - {fails_at})) FROM gold.sales)"),
            "SELECT CAST(replace(email, 'mail', CASE WHEN amount % 3 = 1 THEN 'x' ELSE '' END) AS INT) FROM gold.sales"
                .to_owned(),
        ] {
            try_rows(&ana, &sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
    // One of her own does fail.
    assert!(try_rows(&ana, "SELECT 1 / (amount - 3) FROM gold.sales").await.is_err());
}

#[tokio::test]
async fn plans_tell_nothing_of_policies() {
    let lake = lake().await;
    let text = format!("{OWN}; CREATE POLICY hush ON gold.sales AS RESTRICTIVE USING (country <> 'ATLANTIS')");
    let ana = seen(&lake, &text, "ana").await;
    for sql in [
        "EXPLAIN SELECT id FROM gold.sales WHERE amount = 3",
        "EXPLAIN ANALYZE SELECT amount FROM gold.sales",
        "EXPLAIN VERBOSE SELECT count(*) FROM gold.sales",
    ] {
        let shown = rows(&ana, sql).await;
        assert!(shown.contains("GuardedExec"), "{shown}");
        for secret in ["ATLANTIS", "owner", "DataSourceExec", "FilterExec: country", "output_rows=10"] {
            assert!(!shown.contains(secret), "{sql}: {secret} in {shown}");
        }
    }
}

/// In files, where the reader of Parquet evaluates policies itself, and in memory, where nobody does it for them.
#[tokio::test]
async fn a_policy_that_fails_tells_no_value() {
    let (lake, directory) = (lake().await, tempfile::tempdir().unwrap());
    let context = datafusion::prelude::SessionContext::new();
    let file = directory.path().join("sales.parquet").to_str().unwrap().to_owned();
    context.sql(&format!("COPY ({SALES}) TO '{file}' STORED AS PARQUET")).await.unwrap().collect().await.unwrap();
    let options = datafusion::prelude::ParquetReadOptions { skip_metadata: Some(true), ..Default::default() };
    let files = context.read_parquet(file, options).await.unwrap().into_view();
    let name = crate::models::TableName { schema: "gold".to_owned(), name: "sales".to_owned() };
    let in_memory = lake.table(&name).await.unwrap().unwrap();
    let text = "GRANT SELECT ON gold.sales TO PUBLIC; CREATE POLICY p ON gold.sales USING (CAST(replace(email, 'mail', 'm') AS INT) > 0)";
    for table in [files, in_memory] {
        let store = lakebed_log::Store::memory();
        let context = catalog::session(&store, &store).unwrap();
        catalog::register(&context, "gold", "sales", table).unwrap();
        let infos = lake.tables().iter().filter(|info| info.name == "sales").cloned().collect();
        let narrowed = seen(&ReadSession::new(1, DateTime::UNIX_EPOCH, infos, context), text, "ana").await;
        let told = try_rows(&narrowed, "SELECT 1 FROM gold.sales WHERE email = 'mail3'").await.unwrap_err().to_string();
        assert!(told.contains("gold.sales cannot be read") && !told.contains("m3"), "{told}");
    }
}

#[tokio::test]
async fn a_recursive_query_reads_a_table_again() {
    let ana = seen(&lake().await, OWN, "ana").await;
    let sql = "WITH RECURSIVE r(n, a) AS (SELECT 1, 0 UNION ALL SELECT n + 1, s.amount FROM r JOIN gold.sales s ON s.amount > r.a WHERE n < 3)
        SELECT count(*) FROM r";
    assert_eq!(rows(&ana, sql).await, "7");
}

/// Whether a condition contradicts a policy shows in no plan.
#[tokio::test]
async fn plans_are_the_same_whatever_a_policy_says() {
    let ana = seen(&lake().await, OWN, "ana").await;
    let plan = |owner: &str| format!("EXPLAIN SELECT count(*) FROM gold.sales WHERE owner = '{owner}'");
    assert_eq!(rows(&ana, &plan("ana")).await, rows(&ana, &plan("bob")).await.replace("bob", "ana"));
}

#[tokio::test]
async fn masks_are_computed_of_what_is_seen_alone() {
    let text = "GRANT SELECT ON gold.sales TO PUBLIC; CREATE POLICY p ON gold.sales USING (country = 'DE');
        CREATE MASK ON gold.sales (owner) USING (CAST(100 / (CASE WHEN length(email || country) > 0 AND country = 'FR' THEN 0 ELSE 1 END) AS VARCHAR))";
    let ana = seen(&lake().await, text, "ana").await;
    assert_eq!(rows(&ana, "SELECT country, owner FROM gold.sales WHERE id = 3").await, "DE 100");
}

#[tokio::test]
async fn wrong_policies_are_told_with_their_line() {
    let lake = lake().await;
    for (text, line, what) in [
        ("GRANT SELECT ON gold.sales TO a;\nGRANT INSERT ON gold.sales TO a", 2, "SELECT"),
        ("REVOKE SELECT ON gold.sales FROM a", 1, "GRANT, CREATE POLICY or CREATE MASK"),
        ("GRANT SELECT ON sales TO a", 1, "with its schema"),
        ("GRANT SELECT ON gold.sales", 1, "TO"),
        ("GRANT analysts", 1, "TO"),
        ("GRANT analysts TO PUBLIC", 1, "a user or a role"),
        ("\n\nCREATE POLICY p ON gold.sales USING amount", 3, "("),
        ("CREATE POLICY p ON gold.sales FOR UPDATE USING (true)", 1, "SELECT"),
        ("CREATE TABLE x (a INT)", 1, "POLICY or MASK"),
        ("GRANT SELECT ON gold.sales TO a GRANT b TO c", 1, ";"),
    ] {
        let wrong = parse::parse(Path::new("p.sql"), text, &mut Rules::default()).unwrap_err();
        assert!(wrong.to_string().starts_with(&format!("p.sql:{line}: ")), "{text}: {wrong}");
        assert!(wrong.to_string().contains(what), "{text}: {wrong}");
        assert!(wrong.hint().is_some());
    }
    let over =
        |using: &str| format!("GRANT SELECT ON gold.sales TO PUBLIC;\nCREATE POLICY p ON gold.sales USING ({using})");
    for (using, what) in [
        ("nay = 1", "there is no column 'nay'"),
        ("amount + 1", "a condition"),
        ("amount > (SELECT max(x) FROM gold.other)", "more than its row"),
        ("sum(amount) > 1", "more than its row"),
        ("nay(amount)", "nay"),
    ] {
        let rules = rules(&over(using));
        let wrong = lake.for_reader(&rules, &rules.reader("a")).await.err().unwrap();
        assert!(
            wrong.to_string().starts_with("policies.sql:2: ") && wrong.to_string().contains(what),
            "{using}: {wrong}"
        );
    }
}

#[tokio::test]
async fn a_misspelled_column_is_an_error() {
    let lake = lake().await;
    for text in [
        "GRANT SELECT (id, mail) ON gold.sales TO a",
        "GRANT SELECT ON gold.sales TO a; CREATE MASK ON gold.sales (mail) USING (1)",
    ] {
        let wrong = rules(text).check_over(&lake).await.unwrap_err();
        assert!(wrong.to_string().contains("there is no column 'mail' in gold.sales"), "{wrong}");
        assert_eq!(wrong.hint().unwrap(), "did you mean 'email'?");
    }
    // Of an earlier version it may not have been there yet.
    let grants = rules(
        "GRANT SELECT ON gold.sales TO a; GRANT SELECT ON gold.other TO a; CREATE MASK ON gold.sales (mail) USING (1)",
    );
    let earlier = lake.earlier_for_reader(&grants, &grants.reader("a")).await.unwrap();
    assert_eq!(rows(&earlier, "SELECT count(*) FROM gold.sales").await, "10");
    let grants =
        rules("GRANT SELECT ON ALL TABLES IN SCHEMA gold TO a; CREATE POLICY p ON gold.sales TO a USING (mail = 'x')");
    let earlier = lake.earlier_for_reader(&grants, &grants.reader("a")).await.unwrap();
    assert!(try_rows(&earlier, "SELECT * FROM gold.sales").await.is_err());
    assert_eq!(rows(&earlier, "SELECT count(*) FROM gold.other").await, "1");
    let role = rules("GRANT SELECT ON gold.sales TO a; CREATE POLICY p ON gold.sales TO a USING (nay)");
    assert!(role.check_over(&lake).await.is_err(), "a role that nobody has yet is looked at too");
}

#[test]
fn a_misspelled_table_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("sql").join(FOLDER);
    for layer in [FOLDER, "gold"] {
        std::fs::create_dir_all(directory.path().join("sql").join(layer)).unwrap();
    }
    std::fs::write(directory.path().join("sql/gold/sales.sql"), "SELECT 1 AS x").unwrap();
    let policies = Policies::of(directory.path());
    assert_eq!(policies.rules().unwrap(), None, "an empty folder says nothing");
    let write = |text: &str| std::fs::write(folder.join("p.sql"), text).unwrap();
    write(
        "GRANT SELECT ON gold.sales, bronze.events, lakebed.versions TO a; GRANT SELECT ON ALL TABLES IN SCHEMA lakebed TO a",
    );
    let rules = policies.rules().unwrap().unwrap();
    assert_eq!(rules.roles().into_iter().collect::<Vec<_>>(), ["a"]);
    assert!(Arc::ptr_eq(&rules, &policies.rules().unwrap().unwrap()), "it was read again");
    for (text, what) in [
        ("GRANT SELECT ON gold.salse TO a", "there is no table 'gold.salse'"),
        ("CREATE POLICY p ON gold.salse USING (true)", "there is no table"),
        ("CREATE MASK ON gold.salse (x) USING (1)", "there is no table"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA golt TO a", "there is no schema 'golt'"),
        ("CREATE POLICY p ON gold.sales USING (true); CREATE POLICY p ON gold.sales USING (false)", "two policies"),
        ("GRANT a TO b;\nGRANT b TO a", "would be in itself"),
        ("GRANT SELECT ON gold.sales TO \"Public\"", "no name of a role"),
    ] {
        write(text);
        let wrong = policies.rules().unwrap_err();
        assert!(wrong.to_string().contains(what), "{wrong}");
    }
    // Policies that are gone open nothing.
    std::fs::remove_file(folder.join("p.sql")).unwrap();
    assert!(policies.rules().unwrap().unwrap().is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(policies.rules().unwrap().unwrap().is_empty());
    assert_eq!(Policies::of(directory.path()).rules().unwrap(), None);
}

#[test]
fn what_looks_like_policies_and_is_not_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("sql").join(FOLDER);
    std::fs::create_dir_all(folder.join("..data")).unwrap();
    std::fs::write(folder.join("README.md"), "who reads what").unwrap();
    let rules = || Policies::of(directory.path()).rules();
    assert_eq!(rules().unwrap(), None, "what is hidden, or no SQL, is in nobody's way");
    std::fs::write(folder.join("P.SQL"), "GRANT SELECT ON bronze.events TO a").unwrap();
    let wrong = rules().unwrap_err();
    assert!(wrong.to_string().contains("P.SQL") && wrong.to_string().contains("it is not read"), "{wrong}");
    std::fs::remove_file(folder.join("P.SQL")).unwrap();
    std::fs::create_dir(folder.join("old")).unwrap();
    assert!(rules().unwrap_err().to_string().contains("old"));
}
