//! Policies in PostgreSQL: a role reads there what a reader of the same name reads here, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use lakebed_project::{Secret, SinkKind};
use lakebed_query::{Error, Lakehouse, Policies, ReadSession};
use lakebed_tests::postgres::Database;
use tempfile::TempDir;

use crate::pipeline::{append, project_over, write};
use crate::postgres::kept_in;

/// Roles are of a whole server, which other tests have theirs on.
struct Roles(String);

impl Roles {
    fn of(database: &Database) -> Self {
        Self(database.url().rsplit_once('/').unwrap().1.to_owned())
    }

    /// A text in which `@name` is a role of this test.
    fn in_text(&self, text: &str) -> String {
        text.replace('@', &format!("{}_", self.0))
    }
}

fn as_role(database: &Database, role: &str, sql: &str) -> Result<String, String> {
    database.ask(&format!("SET ROLE \"{role}\"; {sql}"))
}

fn write_policies(directory: &Path, roles: &Roles, text: &str) {
    write(directory, "sql/policies/all.sql", &roles.in_text(text));
}

/// A project whose models are kept in PostgreSQL alone, by the user of a URL, and the log with them if it is asked for.
async fn kept_at(directory: &Path, url: &str, events: bool) -> Lakehouse {
    project_over(directory, |config| {
        config.sinks = vec![SinkKind::Postgres];
        config.postgres.url = Some(Secret::new(url));
        config.postgres.events = events;
    })
    .await
}

const POLICIES: &str = "
    GRANT @analysts TO @ana; GRANT @managers TO @boss;
    GRANT SELECT ON ALL TABLES IN SCHEMA gold TO @analysts;
    GRANT SELECT (day, revenue, country) ON gold.revenue TO @clerks;
    GRANT SELECT ON silver.purchases TO @analysts, @managers;
    CREATE POLICY known ON gold.revenue TO @analysts, @clerks USING (country <> 'unknown');
    CREATE POLICY some ON gold.revenue AS RESTRICTIVE TO @clerks USING (country IN ('DE', 'FR', 'US', 'unknown'));
    CREATE POLICY phones ON silver.purchases TO @analysts USING (device = 'mobile' AND pg_has_role('@analysts', 'member'));
    CREATE POLICY all_of_them ON silver.purchases TO @managers USING (true);
    CREATE MASK ON silver.purchases (user_id, page) TO @analysts USING ('somebody');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_reads_there_what_it_reads_here() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    write_policies(directory.path(), &roles, POLICIES);
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    let masked = BTreeSet::from(["user_id", "page"]);
    compare(&lakehouse, directory.path(), &database, &roles, &masked).await;
    assert!(as_role(&database, &roles.in_text("@analysts"), "SELECT user_id FROM silver.purchases").is_err());
    let managers =
        as_role(&database, &roles.in_text("@boss"), "SELECT count(DISTINCT user_id) > 1 FROM silver.purchases");
    assert_eq!(managers.unwrap(), "t");
    // What grants were made by hand stays with its role, and with ours only what the files say.
    let by_hand = roles.in_text("@by_hand");
    database.ask(&format!("CREATE ROLE {by_hand}; GRANT USAGE ON SCHEMA gold TO {by_hand}; GRANT SELECT ON gold.hourly_traffic TO {by_hand}")).unwrap();
    let changed = POLICIES.replace("GRANT SELECT ON ALL TABLES IN SCHEMA gold", "GRANT SELECT ON gold.daily_activity");
    write_policies(directory.path(), &roles, &changed.replace("GRANT @managers TO @boss;", ""));
    assert!(lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap().unchanged, "no row is written");
    compare(&lakehouse, directory.path(), &database, &roles, &masked).await;
    assert!(as_role(&database, &roles.in_text("@ana"), "SELECT 1 FROM gold.hourly_traffic").is_err());
    assert!(as_role(&database, &roles.in_text("@boss"), "SELECT 1 FROM silver.purchases").is_err());
    assert!(as_role(&database, &by_hand, "SELECT 1 FROM gold.hourly_traffic").is_ok());
    // A table that is made anew is granted and secured as the one before.
    database.ask("DROP TABLE gold.revenue").unwrap();
    append(&lakehouse, 1).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    compare(&lakehouse, directory.path(), &database, &roles, &masked).await;
    // What locks nobody out: a refresh that finds all of it as it is.
    let reads = as_role(&database, &roles.in_text("@ana"), "BEGIN; SELECT count(*) FROM gold.daily_activity; COMMIT");
    assert!(reads.is_ok(), "{reads:?}");
    std::fs::remove_dir_all(directory.path().join("sql/policies")).unwrap();
    // A process that knew them takes nothing for everything; the next one has none.
    lakehouse.refresh(&[], &()).await.unwrap();
    assert!(as_role(&database, &roles.in_text("@ana"), "SELECT 1 FROM gold.daily_activity").is_err());
    drop(lakehouse);
    let lakehouse = kept_in(directory.path(), &database).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    assert_eq!(
        database.ask("SELECT count(*) FROM pg_policy WHERE polname IN ('known', 'some', 'phones')").unwrap(),
        "0"
    );
    assert_eq!(database.ask("SELECT count(*) FROM pg_class WHERE relrowsecurity").unwrap(), "0");
    assert!(as_role(&database, &by_hand, "SELECT 1 FROM gold.hourly_traffic").is_ok());
}

/// Every table, for every role: the same rows where there are rows, and a refusal where there is no table.
async fn compare(lakehouse: &Lakehouse, directory: &Path, database: &Database, roles: &Roles, masked: &BTreeSet<&str>) {
    let rules = Policies::of(directory).rules().unwrap().unwrap();
    let whole = lakehouse.read(None).await.unwrap();
    for role in ["@ana", "@analysts", "@clerks", "@managers", "@boss"].map(|role| roles.in_text(role)) {
        let seen = whole.for_reader(&rules, &rules.reader(&role)).await.unwrap();
        for table in whole.tables().iter().filter(|table| ["silver", "gold"].contains(&table.schema.as_str())) {
            let name = format!("{}.{}", table.schema, table.name);
            let Some(here) = seen.tables().iter().find(|here| here.schema == table.schema && here.name == table.name)
            else {
                let refused = as_role(database, &role, &format!("SELECT 1 FROM {name}")).unwrap_err();
                assert!(refused.contains("permission denied"), "{role}, {name}: {refused}");
                continue;
            };
            let plain: Vec<&str> = here.columns.fields().iter().map(|field| field.name().as_str()).collect();
            let is_masked = name == "silver.purchases" && !role.ends_with("managers") && !role.ends_with("boss");
            let plain: Vec<&str> = plain.into_iter().filter(|column| !is_masked || !masked.contains(column)).collect();
            let columns = plain.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
            let there = as_role(database, &role, &format!("SELECT count(*) FROM (SELECT {columns} FROM {name}) t"));
            let there = there.unwrap_or_else(|error| panic!("{role}, {name}: {error}"));
            assert_eq!(there, count(&seen, &name).await.to_string(), "{role}, {name}");
        }
    }
}

async fn count(session: &ReadSession, table: &str) -> i64 {
    let plan = session.plan(&format!("SELECT count(*) FROM {table}")).await.unwrap();
    let batches: Vec<RecordBatch> = session.stream(plan).await.unwrap().try_collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_cannot_be_made_is_told_and_nothing_is_published() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    let user = roles.in_text("@plain");
    let name = &roles.0;
    database.ask(&format!("CREATE ROLE {user} LOGIN; GRANT CREATE, TEMPORARY ON DATABASE {name} TO {user}")).unwrap();
    write_policies(directory.path(), &roles, "GRANT SELECT ON ALL TABLES IN SCHEMA gold TO @readers");
    let url = database.url().replacen("lakebed@", &format!("{user}@"), 1);
    let lakehouse = kept_at(directory.path(), &url, false).await;
    append(&lakehouse, 0).await;
    let refused = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(&refused, Error::PostgresRole { role, .. } if role.ends_with("_readers")), "{refused}");
    assert!(refused.hint().unwrap().contains("CREATE ROLE"), "{refused}");
    database.ask(&roles.in_text("CREATE ROLE @readers")).unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
    let answer = as_role(&database, &roles.in_text("@readers"), "SELECT count(*) > 0 FROM gold.revenue");
    assert_eq!(answer.unwrap(), "t");
    // A file that is wrong stops the publication, and leaves what was granted.
    write_policies(directory.path(), &roles, "GRANT SELECT ON gold.revenu TO @readers");
    append(&lakehouse, 1).await;
    let refused = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(refused, Error::Policy { line: 1, .. }), "{refused}");
}

/// A model's quarantine is granted and secured as the model, and what is masked there tells nothing by the check that it fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantine_is_read_as_its_model() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    let policies = "
        GRANT @analysts TO @ana; GRANT @managers TO @boss;
        GRANT SELECT ON gold.pages TO @analysts, @managers;
        GRANT SELECT (device) ON gold.pages TO @clerks;
        CREATE POLICY phones ON gold.pages TO @analysts, @clerks USING (device = 'mobile');
        CREATE POLICY all_of_them ON gold.pages TO @managers USING (true);
        CREATE MASK ON gold.pages (user_id) TO @analysts USING ('somebody');";
    write_policies(directory.path(), &roles, policies);
    let pages = "-- check: device <> 'desktop'  drop\n-- check: event_type <> 'page_view'  quarantine\nSELECT event_id, event_type, user_id, device FROM silver.events";
    write(directory.path(), "sql/gold/pages.sql", pages);
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    let ask = |role: &str, sql: &str| as_role(&database, &roles.in_text(role), sql);
    let counted = "SELECT count(event_id), count(DISTINCT device) FROM gold.pages_quarantine";
    let phones = "SELECT count(*) FROM gold.pages_quarantine WHERE device = 'mobile'";
    let phones = database.ask(phones).unwrap();
    assert!(phones.parse::<u64>().unwrap() > 0, "{phones}");
    assert_eq!(ask("@ana", counted).unwrap(), format!("{phones}|1"));
    assert_eq!(ask("@clerks", "SELECT count(device) FROM gold.pages_quarantine").unwrap(), phones);
    assert_eq!(ask("@boss", counted).unwrap(), database.ask(counted).unwrap());
    assert_eq!(
        ask("@boss", "SELECT DISTINCT failed_checks FROM gold.pages_quarantine").unwrap(),
        "event_type <> 'page_view'"
    );
    for (role, column) in [("@ana", "user_id"), ("@ana", "failed_checks"), ("@clerks", "failed_checks")] {
        let refused = ask(role, &format!("SELECT {column} FROM gold.pages_quarantine LIMIT 1")).unwrap_err();
        assert!(refused.contains("permission denied"), "{role}, {column}: {refused}");
    }
    let rules = Policies::of(directory.path()).rules().unwrap().unwrap();
    let whole = lakehouse.read(None).await.unwrap();
    let seen = whole.for_reader(&rules, &rules.reader(&roles.in_text("@ana"))).await.unwrap();
    assert_eq!(count(&seen, "gold.pages_quarantine").await.to_string(), phones);
}

/// A table begins with what is granted by default in its schema, whatever the one before it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_by_default_opens_no_table_to_whom_policies_name() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    let policies = "
        GRANT SELECT (day, country) ON gold.revenue TO @analysts;
        GRANT SELECT ON silver.purchases TO @analysts;
        CREATE POLICY known ON gold.revenue TO @analysts USING (country <> 'unknown');
        CREATE MASK ON silver.purchases (user_id) TO @analysts USING ('somebody');";
    write_policies(directory.path(), &roles, policies);
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    drop(lakehouse);
    let by_default = "
        CREATE ROLE @by_hand; GRANT USAGE ON SCHEMA gold TO @by_hand;
        ALTER DEFAULT PRIVILEGES IN SCHEMA silver, gold GRANT SELECT ON TABLES TO @analysts, @by_hand";
    database.ask(&roles.in_text(by_default)).unwrap();
    // Two with other columns than their models' are made anew, and a third is new, and granted to nobody.
    let altered = ["gold.revenue", "silver.purchases"].map(|table| format!("ALTER TABLE {table} ADD COLUMN mine text"));
    database.ask(&altered.join("; ")).unwrap();
    let later = "SELECT country, count(*) AS events FROM silver.events GROUP BY country";
    write(directory.path(), "sql/gold/later.sql", later);
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 1).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!(published.tables_rebuilt, 3, "{published:?}");
    let analysts = roles.in_text("@analysts");
    for beyond in ["events FROM gold.later", "buyers FROM gold.revenue", "user_id FROM silver.purchases"] {
        let refused = as_role(&database, &analysts, &format!("SELECT {beyond} LIMIT 1")).unwrap_err();
        assert!(refused.contains("permission denied"), "{beyond}: {refused}");
    }
    let known = database.ask("SELECT count(day) FROM gold.revenue WHERE country <> 'unknown'").unwrap();
    assert_eq!(as_role(&database, &analysts, "SELECT count(day) FROM gold.revenue").unwrap(), known);
    let pages = as_role(&database, &analysts, "SELECT count(page) > 0 FROM silver.purchases");
    assert_eq!(pages.unwrap(), "t");
    let by_hand = as_role(&database, &roles.in_text("@by_hand"), "SELECT count(*) > 0 FROM gold.later");
    assert_eq!(by_hand.unwrap(), "t", "no policy names it");
}

/// Where its columns are not those of the log, the table is dropped, and what granted and secured it with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_made_anew_is_granted_and_secured_as_the_one_before() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    let policies = "
        GRANT SELECT (event_id, event_type) ON bronze.events TO @analysts, @clerks;
        CREATE POLICY purchases ON bronze.events TO @analysts, @clerks USING (event_type = 'purchase');";
    write_policies(directory.path(), &roles, policies);
    let lakehouse = kept_at(directory.path(), database.url(), true).await;
    for round in 0..2 {
        if round > 0 {
            let altered = "
                ALTER DEFAULT PRIVILEGES IN SCHEMA bronze GRANT SELECT ON TABLES TO @analysts;
                ALTER TABLE bronze.events ADD COLUMN mine text";
            database.ask(&roles.in_text(altered)).unwrap();
        }
        append(&lakehouse, round).await;
        lakehouse.refresh(&[], &()).await.unwrap();
        assert!(database.ask("SELECT mine FROM bronze.events").is_err(), "it was made anew");
        let purchases = "SELECT count(event_id) FROM bronze.events WHERE event_type = 'purchase'";
        let purchases = database.ask(purchases).unwrap();
        for role in ["@analysts", "@clerks"].map(|role| roles.in_text(role)) {
            let seen = as_role(&database, &role, "SELECT count(event_id) FROM bronze.events");
            assert_eq!(seen.unwrap(), purchases, "{role}");
            let refused = as_role(&database, &role, "SELECT _doc FROM bronze.events LIMIT 1").unwrap_err();
            assert!(refused.contains("permission denied"), "{role}: {refused}");
        }
    }
}

/// It owns the tables, and could take from itself what it writes them by, and the right to give roles to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_policies_name_goes_on_publishing() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let roles = Roles::of(&database);
    let made = format!(
        "CREATE ROLE @me LOGIN; GRANT CREATE, TEMPORARY ON DATABASE {} TO @me;
         CREATE ROLE @ben; CREATE ROLE @analysts; GRANT @analysts TO @me WITH ADMIN OPTION",
        roles.0
    );
    database.ask(&roles.in_text(&made)).unwrap();
    let (me, analysts, ben) = (roles.in_text("@me"), roles.in_text("@analysts"), roles.in_text("@ben"));
    let url = database.url().replacen("lakebed@", &format!("{me}@"), 1);
    let lakehouse = kept_at(directory.path(), &url, false).await;
    let count = "SELECT count(*) FROM gold.revenue";
    for (round, members) in (0..).zip(["@me", "@me", "@me, @ben", "@ben"]) {
        let policies = format!(
            "GRANT @analysts TO {members};
             GRANT SELECT ON ALL TABLES IN SCHEMA gold TO @analysts, @me;
             CREATE POLICY some ON gold.revenue TO @analysts, @me USING (country = 'DE');"
        );
        write_policies(directory.path(), &roles, &policies);
        append(&lakehouse, round).await;
        lakehouse.refresh(&[], &()).await.unwrap();
        assert_eq!(as_role(&database, &me, count).unwrap(), database.ask(count).unwrap(), "an owner sees every row");
        let some = database.ask(&format!("{count} WHERE country = 'DE'")).unwrap();
        assert_eq!(as_role(&database, &analysts, count).unwrap(), some);
        assert_eq!(as_role(&database, &ben, count).ok(), members.contains("@ben").then_some(some));
    }
}
