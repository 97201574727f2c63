//! The PostgreSQL sink on a real server: what it holds, through kills, crowds and hands that should not have been there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lakebed_project::{Config, Flags, Secret, SinkKind};
use lakebed_query::{Error, Lakehouse, Project};
use lakebed_tests::batches::{at, settings_of};
use lakebed_tests::postgres::{Database, Server};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::pipeline::{append, bring, project_over, write};

/// A project whose models are kept in DuckDB and in a database.
pub(crate) async fn kept_in(directory: &Path, database: &Database) -> Lakehouse {
    project_over(directory, |config| keep_in(config, database)).await
}

/// A project as its files say, with its models in a database as well, if there is one.
async fn open(directory: &Path, database: Option<&Database>) -> Lakehouse {
    let mut config = Config::load(directory, &|_| None, &Flags::default()).unwrap();
    if let Some(database) = database {
        keep_in(&mut config, database);
    }
    Lakehouse::open_or_create(Project::load(directory, config).unwrap(), at(0)).await.unwrap()
}

fn keep_in(config: &mut Config, database: &Database) {
    config.sinks = vec![SinkKind::DuckDb, SinkKind::Postgres];
    config.postgres.url = Some(Secret::new(database.url()));
}

async fn holds(lakehouse: &Lakehouse) {
    for verified in lakehouse.verify(&[]).await.unwrap() {
        assert!(verified.holds() && verified.sinks.get(&SinkKind::Postgres) == Some(&true), "{verified:?}");
    }
}

/// What a doctor hears of the database.
async fn look(lakehouse: &Lakehouse) -> lakebed_query::Result<String> {
    let lake = lakehouse.log().table_id().await.simple().to_string();
    let models: Vec<String> = lakehouse.project().models.iter().map(|model| model.name.to_string()).collect();
    lakehouse.postgres().unwrap().look(Some(&lake), &models).await
}

fn number(database: &Database, sql: &str) -> u64 {
    database.ask(sql).unwrap().parse().unwrap()
}

/// Texts of any language would not fit: nothing is begun there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_another_encoding_is_refused() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let (server, name) = database.url().rsplit_once('/').unwrap();
    let latin = format!("{name}_latin");
    database.ask(&format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).unwrap();
    let lakehouse = project_over(directory.path(), |config| {
        config.sinks = vec![SinkKind::Postgres];
        config.postgres.url = Some(Secret::new(format!("{server}/{latin}")));
    });
    let lakehouse = lakehouse.await;
    append(&lakehouse, 0).await;
    let refused = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(refused, Error::PostgresUnfit { .. }), "{refused}");
    assert!(refused.to_string().contains("its encoding is LATIN1, and has to be UTF8"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_follows_the_models() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!((published.version, published.tables_rebuilt, published.unchanged), (1, 12, false));
    holds(&lakehouse).await;
    let silver = number(&database, "SELECT count(*) FROM silver.events");
    append(&lakehouse, 1).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!((published.version, published.tables_rebuilt), (2, 0));
    assert!(published.tables_changed > 6, "{published:?}");
    holds(&lakehouse).await;
    let more = number(&database, "SELECT count(*) FROM silver.events") - silver;
    assert!(more > 500, "{more}");
    let watermarks = lakehouse.postgres().unwrap().watermarks().await.unwrap();
    assert!(watermarks.len() == 12 && watermarks.iter().all(|watermark| watermark.version == 2));
    assert!(lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap().unchanged, "I6");
    // As people find them: with a description, and by their key.
    let comment = database.ask("SELECT obj_description('gold.revenue'::regclass)").unwrap();
    assert!(comment.starts_with("Revenue"), "{comment}");
    let model = directory.path().join("sql/gold/revenue.sql");
    let edited = std::fs::read_to_string(&model).unwrap().replacen("Revenue", "Takings", 1);
    std::fs::write(&model, edited).unwrap();
    let lakehouse = lakehouse.reloaded(Default::default()).unwrap();
    append(&lakehouse, 2).await;
    assert_eq!(lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap().tables_rebuilt, 0);
    let comment = database.ask("SELECT obj_description('gold.revenue'::regclass)").unwrap();
    assert!(comment.starts_with("Takings"), "{comment}");
    assert_eq!(database.ask("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'silver.events'::regclass AND attname = 'event_time'").unwrap(), "timestamp with time zone");
}

/// Every kind of column, and keys that are null, long, or none at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_and_every_key_comes_through() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let write = |path: &str, text: &str| write(directory.path(), path, text);
    write("lakebed.toml", "[columns]\nn = \"BIGINT\"\nx = \"DOUBLE\"\nd = \"DECIMAL(20,3)\"\ns = \"VARCHAR\"\n");
    write(
        "sql/silver/types.sql",
        "SELECT event_id, arrow_cast(n, 'UInt64') AS u, arrow_cast(n, 'Int8') AS tiny, CAST(n AS INTEGER) AS i, x, \
         CAST(x AS REAL) AS r, d, CAST(d AS DECIMAL(38,3)) AS wide, s, s || chr(0) AS nul, n > 1 AS b, event_date, event_time, \
         arrow_cast(event_time, 'Timestamp(Nanosecond, None)') AS naive, CAST('01:02:03.5' AS TIME) AS t, \
         arrow_cast(s, 'Binary') AS bytes, make_array(n, NULL, 7) AS list, named_struct('a', n, 'b', s) AS pair, \
         arrow_cast(s, 'Dictionary(Int32, Utf8)') AS dictionary, \
         x / 0.0 AS infinite, NULL AS nothing FROM bronze.events",
    );
    write("sql/gold/by_s.sql", "SELECT s, x, count(*) AS events, sum(n) AS n FROM bronze.events GROUP BY s, x");
    write("sql/gold/by_text.sql", "SELECT s, i, count(*) AS events FROM silver.types GROUP BY s, i");
    // No key is known, rows repeat, and all of it is computed anew each time.
    write("sql/gold/no_key.sql", "SELECT s, sum(x) OVER (PARTITION BY s) AS x FROM bronze.events");
    let lakehouse = open(directory.path(), Some(&database)).await;
    let settings = settings_of("[columns]\nn = \"BIGINT\"\nx = \"DOUBLE\"\nd = \"DECIMAL(20,3)\"\ns = \"VARCHAR\"\n");
    let long = "x".repeat(9_000);
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    let noise: String = (0..9_000).map(|_| dice.random_range('a'..='z')).collect();
    for step in 0..4i64 {
        let mut text = String::new();
        for event in 0..40 {
            let s = match event % 8 {
                0 => "null".to_owned(),
                1 => format!("\"{long}\""),
                // What no compression makes short comes in the third epoch.
                2 if step >= 2 => format!("\"{noise}\""),
                3 => "\"ä€😀\\u0000'\\\\u0000\"".to_owned(),
                _ => format!("\"{}\"", event % 5),
            };
            let (n, x) = (event % 7 + step, ["null", "-0.0", "0.0", "1.5", "1e308", "-2.5e-300"][event as usize % 6]);
            text += &format!(
                "{{\"event_id\":\"{step}-{event}\",\"event_type\":\"t\",\"event_time\":{},\"n\":{n},\"x\":{x},\"d\":{n}.125,\"s\":{s}}}\n",
                1_700_000_000 + event
            );
        }
        bring(&lakehouse, step, &text, &settings).await;
        lakehouse.refresh(&[], &()).await.unwrap();
        holds(&lakehouse).await;
    }
    assert_eq!(number(&database, "SELECT count(*) FROM silver.types"), 160);
    let indexes = database.ask("SELECT indexdef FROM pg_indexes WHERE schemaname = 'gold'").unwrap();
    assert!(indexes.contains("(md5(s), i)"), "{indexes}");
    let kinds = database.ask(
        "SELECT string_agg(format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = 'silver.types'::regclass AND attnum > 0",
    );
    assert_eq!(
        kinds.unwrap(),
        "text,numeric(20,0),smallint,integer,double precision,real,numeric(20,3),numeric(38,3),text,text,boolean,date,\
         timestamp with time zone,timestamp without time zone,time without time zone,bytea,jsonb,jsonb,text,\
         double precision,text"
    );
    // Its index is lost with the table, and with that what told of long keys: they come in the first load now.
    database.ask("DROP TABLE gold.by_text").unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
    holds(&lakehouse).await;
    let indexes = database.ask("SELECT indexdef FROM pg_indexes WHERE schemaname = 'gold'").unwrap();
    assert!(indexes.contains("(md5(s), i)"), "{indexes}");
}

/// The log as a table: every event once in its order, its document as jsonb, and columns as they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_a_table_too() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    write(directory.path(), "lakebed.toml", "[columns]\nn = \"BIGINT\"\n[postgres]\nevents = \"on\"\n");
    write(
        directory.path(),
        "sql/gold/counts.sql",
        "SELECT event_type, count(*) AS events FROM bronze.events GROUP BY 1",
    );
    let lakehouse = open(directory.path(), Some(&database)).await;
    let rest = [
        r#""n":1"#,
        r#""n":2,"s":"x\u0000y","deep":{"a":[1,{"b":"\ud800"}]}"#,
        r#""n":"three","big":1e999999,"s":"\ud83d\ude00""#,
        r#""other":true,"deep":{"a":"text"}"#,
    ];
    let mut sent = 0;
    for step in 0..4i64 {
        let text: String = (0..50)
            .map(|at| {
                let rest = rest[(at % (step + 1)) as usize];
                format!("{{\"event_id\":\"{step}-{at}\",\"event_type\":\"t{}\",\"event_time\":{at},{rest}}}\n", at % 3)
            })
            .collect();
        sent += bring(&lakehouse, step, &text, &settings_of("[columns]\nn = \"BIGINT\"\n")).await;
        if step == 2 {
            // Files that are put together meanwhile bring nothing twice.
            lakehouse.log().compact(&lakebed_log::Compaction::default(), at(60 * (step + 1) + 1)).await.unwrap();
        }
        let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
        assert!(published.rows_written < 60, "{published:?}");
        holds(&lakehouse).await;
    }
    assert_eq!(number(&database, "SELECT count(*) FROM bronze.events"), sent);
    assert_eq!(number(&database, "SELECT max(_offset) + 1 FROM bronze.events"), sent);
    assert_eq!(
        database.ask("SELECT sum(n) FROM bronze.events WHERE _doc->>'n' = '2'").unwrap(),
        database.ask("SELECT 2 * count(*) FROM bronze.events WHERE n = 2").unwrap()
    );
    assert_eq!(database.ask("SELECT DISTINCT _doc->>'big' FROM bronze.events WHERE _doc ? 'big'").unwrap(), "1e999999");
    assert_eq!(
        database.ask("SELECT DISTINCT _doc#>>'{deep,a,1,b}' FROM bronze.events WHERE n = 2").unwrap(),
        "\u{FFFD}"
    );
    assert_eq!(database.ask("SELECT bool_or(other) FROM bronze.events").unwrap(), "t", "a column that came later");
    assert!(lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap().unchanged);
    database.ask("UPDATE bronze.events SET n = 7 WHERE _offset = 3").unwrap();
    let wrong: Vec<_> = lakehouse.verify(&[]).await.unwrap().into_iter().filter(|model| !model.holds()).collect();
    assert!(matches!(&wrong[..], [only] if only.model == "bronze.events"), "{wrong:?}");
    let named = lakehouse.verify(&["bronze.events".to_owned()]).await.unwrap();
    assert_eq!(named, wrong);
    let both = lakehouse.verify(&["bronze.events".to_owned(), "gold.counts".to_owned()]).await.unwrap();
    assert_eq!(both.iter().map(|model| model.model.as_str()).collect::<Vec<_>>(), ["gold.counts", "bronze.events"]);
    database.ask("ALTER TABLE bronze.events DROP COLUMN s").unwrap();
    database.ask("DELETE FROM lakebed.watermarks WHERE model = 'gold.counts'; DROP TABLE gold.counts").unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
}

/// What people did to the tables by hand is put right by the next run that meets it, and what is not lakebed's is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_changed_by_hand_are_put_right() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    database.ask("DROP TABLE gold.revenue").unwrap();
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!(published.tables_rebuilt, 1, "without an event more");
    holds(&lakehouse).await;
    database
        .ask("ALTER TABLE gold.revenue ADD COLUMN mine text; CREATE VIEW public.mine AS SELECT * FROM silver.events")
        .unwrap();
    database.ask("DELETE FROM gold.daily_activity").unwrap();
    append(&lakehouse, 1).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    holds(&lakehouse).await;
    assert!(number(&database, "SELECT count(*) FROM public.mine") > 500, "a view on a table that stays is left alone");

    let (other, taken) = (TempDir::new().unwrap(), Database::new());
    taken.ask("CREATE SCHEMA gold; CREATE TABLE gold.revenue (x int); INSERT INTO gold.revenue VALUES (7)").unwrap();
    let lakehouse = kept_in(other.path(), &taken).await;
    append(&lakehouse, 0).await;
    let error = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(&error, Error::TableTaken { table } if table == "gold.revenue"), "{error}");
    let looked = look(&lakehouse).await.unwrap_err();
    assert_eq!(looked.to_string(), error.to_string());
    assert_eq!(taken.ask("SELECT x FROM gold.revenue").unwrap(), "7");
    assert_eq!(taken.ask("SELECT to_regclass('silver.events') IS NULL").unwrap(), "t", "all tables or none");
    taken.ask("DROP TABLE gold.revenue").unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
    holds(&lakehouse).await;
    look(&lakehouse).await.unwrap();
    // Without the watermarks nobody knows whose the tables are; the hint says what to do.
    taken.ask("DROP TABLE lakebed.watermarks").unwrap();
    let error = lakehouse.refresh(&[], &()).await.unwrap_err();
    let drop = "DROP SCHEMA IF EXISTS bronze, silver, gold CASCADE";
    assert!(matches!(&error, Error::TableTaken { .. }) && error.hint().unwrap().contains(drop), "{error}");
    taken.ask(drop).unwrap();
    lakehouse.refresh(&[], &()).await.unwrap();
    holds(&lakehouse).await;
}

/// A database is one lake's; and rows that another lake left under the same addresses are not taken for this one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_lake_keeps_out() {
    let (directory, other, database) = (TempDir::new().unwrap(), TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    let stranger = kept_in(other.path(), &database).await;
    append(&stranger, 0).await;
    let error = stranger.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(error, Error::DatabaseTaken { .. }), "{error}");
    assert!(error.hint().unwrap().contains("DROP SCHEMA IF EXISTS lakebed, bronze, silver, gold CASCADE"), "{error}");
    let looked = look(&stranger).await.unwrap_err();
    assert_eq!(looked.to_string(), error.to_string());
    look(&lakehouse).await.unwrap();
    holds(&lakehouse).await;

    // The same lake says that it is at the rows of a table that somebody has filled with others: only their hash tells.
    database.ask("UPDATE lakebed.watermarks SET content_hash = repeat('0', 64) WHERE model LIKE 'gold.%'").unwrap();
    append(&lakehouse, 1).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!(published.tables_rebuilt, 7, "{published:?}");
    holds(&lakehouse).await;
}

/// Columns of any name are kept under one that PostgreSQL can have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_postgres_cannot_have_are_changed() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let long = "x".repeat(70);
    write(directory.path(), "lakebed.toml", "");
    let sql = format!(
        "SELECT event_type AS \"user\", count(*) AS {long}, min(event_id) AS xmin FROM bronze.events GROUP BY 1"
    );
    write(directory.path(), &format!("sql/gold/{long}.sql"), &sql);
    let lakehouse = open(directory.path(), Some(&database)).await;
    for step in 0..3i64 {
        let event = format!("{{\"event_id\":\"{step}\",\"event_type\":\"t\",\"event_time\":{step}}}\n");
        bring(&lakehouse, step, &event, &settings_of("[columns]\nn = \"BIGINT\"\n")).await;
        let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
        assert_eq!(published.tables_rebuilt, usize::from(step == 0));
        holds(&lakehouse).await;
    }
    let columns = "SELECT string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'gold'";
    let columns = database.ask(columns).unwrap();
    assert!(columns.starts_with("user xxxx") && columns.ends_with(" xmin_"), "{columns}");
}

/// A row that was changed by hand is named by its table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_tells_of_a_changed_row() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    let one = "ctid = (SELECT min(ctid) FROM gold.user_activity)";
    let changed =
        database.ask(&format!("UPDATE gold.user_activity SET events = events + 1 WHERE {one} RETURNING user_id"));
    let user = changed.unwrap();
    let verified = lakehouse.verify(&[]).await.unwrap();
    let wrong: Vec<_> = verified.iter().filter(|model| !model.holds()).map(|model| model.model.as_str()).collect();
    assert_eq!(wrong, ["gold.user_activity"]);
    let wrong = verified.iter().find(|model| !model.holds()).unwrap();
    let told = wrong.differences.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told, [format!("postgres: user_id={user} has other values")]);
    let replayed = lakehouse.replay(&lakebed_query::Replay::default(), &()).await.unwrap();
    assert_eq!(replayed.differed, ["gold.user_activity"]);
    holds(&lakehouse).await;
}

/// A table whose columns were given other types by hand is named with them, and the others are looked at all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_tells_of_a_changed_column() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    database.ask("ALTER TABLE gold.revenue ALTER COLUMN day TYPE text").unwrap();
    let verified = lakehouse.verify(&[]).await.unwrap();
    assert_eq!(verified.len(), 12);
    let wrong: Vec<_> = verified.iter().filter(|model| !model.holds()).collect();
    assert!(matches!(&wrong[..], [only] if only.model == "gold.revenue"), "{wrong:?}");
    let told = wrong[0].differences.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told, ["postgres: column day is text there, date here"]);
    let replayed = lakehouse.replay(&lakebed_query::Replay::default(), &()).await.unwrap();
    assert_eq!(replayed.differed, ["gold.revenue"]);
    holds(&lakehouse).await;
}

/// Two refreshes of one lake by two processes' worth of lakehouses, again and again, while somebody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_whole_versions_whoever_publishes() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let one = kept_in(directory.path(), &database).await;
    append(&one, 0).await;
    one.refresh(&[], &()).await.unwrap();
    let other = kept_in(directory.path(), &database).await;
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reading = {
        let (database, done, reads) = (database.clone(), Arc::clone(&done), Arc::clone(&reads));
        tokio::task::spawn_blocking(move || {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let read = database.ask(
                    "SELECT (SELECT count(*) FROM silver.events), (SELECT sum(events) FROM gold.user_activity), \
                     (SELECT max(version) FROM lakebed.watermarks), (SELECT rows FROM lakebed.watermarks WHERE model = 'silver.events')",
                );
                seen.push(read.unwrap());
                reads.store(seen.len(), Ordering::Relaxed);
            }
            seen
        })
    };
    for round in 1..50 {
        append(&one, round).await;
        let (left, right) = tokio::join!(one.refresh(&[], &()), other.refresh(&[], &()));
        left.unwrap();
        right.unwrap();
        if round >= 4 && reads.load(Ordering::Relaxed) > 5 {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    let seen = reading.await.unwrap();
    for read in &seen {
        let values: Vec<&str> = read.split('|').collect();
        assert_eq!((values[0], values[0]), (values[1], values[3]), "{read}");
    }
    assert!(seen.len() > 5, "{seen:?}");
    holds(&one).await;
}

/// A server that dies in the middle of publications, and one that was not there for many epochs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_is_made_good() {
    let directory = TempDir::new().unwrap();
    let mut server = Server::start();
    let database = server.database();
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    for round in 1..4u64 {
        append(&lakehouse, round).await;
        let refreshing = {
            let lakehouse = lakehouse.clone();
            tokio::spawn(async move { lakehouse.refresh(&[], &()).await.map(|_| ()) })
        };
        tokio::time::sleep(std::time::Duration::from_millis(40 * round * round)).await;
        server.kill();
        let refreshed = refreshing.await.unwrap();
        if let Err(error) = &refreshed {
            assert!(error.may_pass() && error.hint().is_some(), "{error}");
        }
        // The lake goes on without it.
        append(&lakehouse, 10 + round).await;
        let error = lakehouse.refresh(&[], &()).await.unwrap_err();
        assert!(matches!(error, Error::Postgres { .. }), "{error}");
        server.restart();
        let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
        assert_eq!(published.version, 2 * round + 1);
        holds(&lakehouse).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_away_for_fifty_epochs_catches_up() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    write(directory.path(), "lakebed.toml", "[columns]\nuser = \"VARCHAR\"\n");
    write(directory.path(), "sql/silver/events.sql", "SELECT event_id, user FROM bronze.events");
    write(directory.path(), "sql/gold/users.sql", "SELECT user, count(*) AS events FROM silver.events GROUP BY user");
    let append = async |lakehouse: &Lakehouse, round: i64| {
        let event = format!(
            "{{\"event_id\":\"{round}\",\"event_type\":\"t\",\"event_time\":{round},\"user\":\"u{}\"}}\n",
            round % 3
        );
        let settings = settings_of("[columns]\nuser = \"VARCHAR\"\n");
        bring(lakehouse, round, &event, &settings).await;
    };
    let lakehouse = open(directory.path(), Some(&database)).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    drop(lakehouse);
    let alone = open(directory.path(), None).await;
    for round in 1..51 {
        append(&alone, round).await;
        assert!(alone.refresh(&[], &()).await.unwrap().published.postgres.is_none());
    }
    drop(alone);
    let lakehouse = open(directory.path(), Some(&database)).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!(
        (published.version, published.tables_rebuilt, published.rows_written),
        (51, 0, 50 + 4),
        "what it missed"
    );
    holds(&lakehouse).await;
}

/// A model whose SQL changed is another table, which is there whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_model_is_swapped_in() {
    let (directory, database) = (TempDir::new().unwrap(), Database::new());
    let lakehouse = kept_in(directory.path(), &database).await;
    append(&lakehouse, 0).await;
    lakehouse.refresh(&[], &()).await.unwrap();
    drop(lakehouse);
    let sql = "SELECT event_date AS day, count(*) AS purchases, 'new' AS kind FROM silver.purchases GROUP BY 1";
    write(directory.path(), "sql/gold/revenue.sql", sql);
    let lakehouse = open(directory.path(), Some(&database)).await;
    append(&lakehouse, 1).await;
    let published = lakehouse.refresh(&[], &()).await.unwrap().published.postgres.unwrap();
    assert_eq!(published.tables_rebuilt, 1);
    assert_eq!(database.ask("SELECT DISTINCT kind FROM gold.revenue").unwrap(), "new");
    assert_eq!(database.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'lakebed'").unwrap(), "1");
    holds(&lakehouse).await;
}

/// What cannot be reached is told in one sentence, without a password.
#[tokio::test]
async fn a_server_that_is_not_there_is_told_without_its_password() {
    let directory = TempDir::new().unwrap();
    let lakehouse = project_over(directory.path(), |config| {
        config.sinks = vec![SinkKind::Postgres];
        config.postgres.url = Some(Secret::new("postgres://me:hush@127.0.0.1:1/shop"));
    })
    .await;
    append(&lakehouse, 0).await;
    let error = lakehouse.refresh(&[], &()).await.unwrap_err();
    let said = format!("{error} {:?}", error.hint());
    assert!(said.starts_with("postgres at 127.0.0.1:1/shop: ") && !said.contains("hush"), "{said}");
    assert!(!format!("{:?}", lakehouse.project().config).contains("hush"));
    drop(lakehouse);
    let lakehouse = project_over(directory.path(), |config| config.sinks = vec![SinkKind::Postgres]).await;
    let error = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(error, Error::NoPostgres { .. }) && error.hint().is_some(), "{error}");
    drop(lakehouse);
    // Who does not ask the database needs no password for it.
    let lakehouse = project_over(directory.path(), |config| {
        config.sinks = vec![SinkKind::Postgres];
        config.postgres.url = Some(Secret::new("postgres://me@127.0.0.1:1/shop"));
        config.postgres.password_file = Some("not_there".into());
    })
    .await;
    lakehouse.read(None).await.unwrap();
    let error = lakehouse.refresh(&[], &()).await.unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if path.ends_with("not_there")), "{error}");
}
