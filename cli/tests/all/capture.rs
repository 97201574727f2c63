//! `lakebed capture` over a real PostgreSQL: what its changes become, and that each of them is in the log once, whatever happens.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lakebed_tests::postgres::{Database, Server};

use crate::shop::{Shop, says, stderr};

/// The customers as they are, also after a TRUNCATE: what was before it does not count.
const CUSTOMERS: &str = "-- key: id\n-- sequence: sequence\n-- delete: op = 'd'\n\
    SELECT CAST(coalesce(_doc -> 'after' ->> 'id', _doc -> 'before' ->> 'id') AS BIGINT) AS id,\n\
    _doc -> 'after' ->> 'name' AS name, op, source_sequence AS sequence, _offset\n\
    FROM bronze.events AS changes JOIN (SELECT event_type, max(source_sequence) AS last FROM bronze.events\n\
    WHERE op = 't' GROUP BY event_type) AS truncates ON truncates.event_type = changes.event_type\n\
    WHERE changes.event_type = 'customers' AND op <> 't' AND source_sequence > last";

/// The orders, which nobody truncates.
const ORDERS: &str = "-- key: customer, number\n-- sequence: sequence\n-- delete: op = 'd'\n\
    SELECT CAST(coalesce(_doc -> 'after' ->> 'customer', _doc -> 'before' ->> 'customer') AS BIGINT) AS customer,\n\
    coalesce(_doc -> 'after' ->> 'number', _doc -> 'before' ->> 'number') AS number,\n\
    CAST(_doc -> 'after' ->> 'amount' AS DECIMAL(18, 2)) AS amount, op, source_sequence AS sequence\n\
    FROM bronze.events WHERE event_type = 'orders' AND op <> 't'";

/// A shop that captures a database with two tables.
struct Captured {
    shop: Shop,
    server: Server,
    database: Database,
}

impl Captured {
    fn new() -> Self {
        let server = Server::start_with(&["wal_level=logical"]);
        let (shop, database) = (Shop::new(), server.database());
        let ask = |sql: &str| database.ask(sql).unwrap();
        ask("CREATE TABLE customers (id bigint PRIMARY KEY, name text)");
        ask(
            "CREATE TABLE orders (customer bigint, number text, amount numeric(18, 2), PRIMARY KEY (customer, number))",
        );
        ask("CREATE PUBLICATION lakebed FOR TABLE customers, orders");
        let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
        shop.edit("lakebed.toml", &format!("{toml}\n[capture.crm]\nurl = \"{}\"\n", database.url()));
        for layer in ["silver", "gold"] {
            fs::remove_dir_all(shop.path().join("sql").join(layer)).unwrap();
            fs::create_dir(shop.path().join("sql").join(layer)).unwrap();
        }
        shop.edit("sql/silver/customers.sql", CUSTOMERS);
        shop.edit("sql/silver/orders.sql", ORDERS);
        Self { shop, server, database }
    }

    fn ask(&self, sql: &str) -> String {
        self.database.ask(sql).unwrap()
    }

    /// Rows of the lake, as CSV without its first line.
    fn rows(&self, sql: &str) -> Vec<String> {
        let csv = self.shop.done(&["query", sql, "-o", "csv"]);
        csv.lines().skip(1).map(str::to_owned).collect()
    }

    /// The documents of events, in the order of the log.
    fn documents(&self, condition: &str) -> Vec<serde_json::Value> {
        let sql = format!("SELECT _doc FROM bronze.events WHERE {condition} ORDER BY _offset");
        let rows = self.shop.done(&["query", &sql, "-o", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&rows).unwrap();
        rows.iter().map(|row| serde_json::from_str(row["_doc"].as_str().unwrap()).unwrap()).collect()
    }

    fn follow(&self, batch_events: usize) -> Child {
        let mut command = self.shop.command(&["capture"]);
        command.env("LAKEBED_INGEST_BATCH_EVENTS", batch_events.to_string());
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The tables of the lake are those of the database, and no event is there twice.
    fn holds(&self) {
        self.shop.done(&["run"]);
        let of_lake = self.rows("SELECT id, name FROM silver.customers ORDER BY id");
        let of_source = self.ask("COPY (SELECT id, name FROM customers ORDER BY id) TO STDOUT CSV");
        assert_eq!(of_lake, of_source.lines().collect::<Vec<_>>());
        let of_lake = self.rows("SELECT customer, number, amount FROM silver.orders ORDER BY customer, number");
        let of_source = self.ask("COPY (SELECT * FROM orders ORDER BY customer, number COLLATE \"C\") TO STDOUT CSV");
        assert_eq!(of_lake, of_source.lines().collect::<Vec<_>>());
        let twice = "SELECT event_id FROM bronze.events GROUP BY event_id HAVING count(*) > 1";
        assert_eq!(self.rows(twice), Vec::<String>::new());
        self.shop.done(&["verify"]);
    }
}

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < until, "{what} does not come");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_change_is_an_event_of_what_changed() {
    let captured = Captured::new();
    captured.ask("INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob')");
    captured.shop.done(&["capture", "--once"]);
    captured.holds();
    let read = captured.documents("op = 'r'");
    assert_eq!(read.len(), 2);
    assert_eq!(read[0]["after"], serde_json::json!({"id": 1, "name": "Ann"}));
    assert_eq!(read[0]["source"]["snapshot"], true);
    assert_eq!(captured.documents("op = 't'").len(), 2, "each table begins anew");
    captured.ask("INSERT INTO customers VALUES (3, 'Cid')");
    captured.ask("UPDATE customers SET name = 'Anna' WHERE id = 1");
    captured.ask("UPDATE customers SET id = 22 WHERE id = 2");
    captured.ask("DELETE FROM customers WHERE id = 3");
    captured.ask("INSERT INTO orders VALUES (1, 'a', 12.50), (1, 'b', -0.01), (22, 'c', 1234567890123456.78)");
    captured.shop.done(&["capture", "crm", "--once"]);
    captured.holds();
    let changes = captured.documents("op <> 'r' AND op <> 't' AND event_type = 'customers'");
    let what = changes.iter().map(|change| {
        let id = change["event_id"].as_str().unwrap();
        assert!(id.contains("/lakebed_crm/"), "{id}");
        assert_eq!(change["source"]["schema"], "public");
        assert!(change["source"]["lsn"].as_u64().unwrap() > 0 && change["source"]["txId"].as_u64().unwrap() > 0);
        format!("{} {} {}", change["op"].as_str().unwrap(), change["before"], change["after"])
    });
    let expected = [
        r#"c null {"id":3,"name":"Cid"}"#,
        r#"u null {"id":1,"name":"Anna"}"#,
        r#"d {"id":2} null"#,
        r#"c null {"id":22,"name":"Bob"}"#,
        r#"d {"id":3} null"#,
    ];
    assert_eq!(what.collect::<Vec<_>>(), expected);
    // A new column, and a table that is emptied.
    captured.ask("ALTER TABLE customers ADD COLUMN vip boolean");
    captured.ask("INSERT INTO customers VALUES (4, 'Dee', true)");
    captured.ask("TRUNCATE customers");
    captured.ask("INSERT INTO customers VALUES (5, 'Eve', false), (22, 'Bo', null)");
    captured.shop.done(&["capture", "--once"]);
    captured.holds();
    assert_eq!(captured.rows("SELECT id, name FROM silver.customers ORDER BY id"), ["5,Eve", "22,Bo"]);
    let created = captured.documents("event_type = 'customers' AND op = 'c'");
    let vips: Vec<_> = created.iter().filter_map(|change| change["after"].get("vip")).collect();
    assert_eq!(vips, [&serde_json::json!(true), &serde_json::json!(false), &serde_json::Value::Null]);
    // Nothing more is there to come.
    let before = captured.shop.count();
    captured.shop.done(&["capture", "--once"]);
    assert_eq!(captured.shop.count(), before);
}

/// Every common type, read when the capture begins and as it changes: each the same JSON.
#[test]
fn values_are_json_of_their_types() {
    let captured = Captured::new();
    captured.ask("CREATE TYPE mood AS ENUM ('glad', 'so so'); CREATE DOMAIN percent AS int CHECK (VALUE <= 100)");
    captured.ask(
        "CREATE TABLE kinds (id int PRIMARY KEY, b boolean, s smallint, l bigint, r real, d double precision, n numeric, t text, \
         v varchar(9), c char(3), y bytea, at timestamptz, local timestamp, day date, time time, span interval, u uuid, j json, \
         jb jsonb, ints int[], texts text[], moods mood[], m mood, p percent, ps percent[], net inet, range int4range, \
         twice int GENERATED ALWAYS AS (id * 2) STORED)",
    );
    captured.ask("ALTER PUBLICATION lakebed ADD TABLE kinds");
    let row = "true, -3, 9007199254740993, 1.5, 1e-300, 12345678901234567890.123456789, E'a\\tb\\n\\\\\"ä😀', 'x', 'y', '\\x00ff', \
        '2026-01-02 03:04:05.678901+02', '2026-01-02 03:04:05', '2026-01-02', '03:04:05', '1 day 2 hours', \
        'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', E'{\"a\":\\n [1, 2]}', '{\"b\": null}', '{1,NULL,3}', '{a,\"b,c\",NULL}', \
        '{glad,\"so so\"}', 'so so', 7, '{8,9}', '10.0.0.1/8', '[1,4)'";
    captured.ask(&format!("INSERT INTO kinds VALUES (1, {row}); INSERT INTO kinds (id) VALUES (2)"));
    captured.ask(
        "INSERT INTO kinds (id, r, d, n, at, day) VALUES (3, 'NaN', '-Infinity', 'NaN', 'infinity', '0044-03-15 BC')",
    );
    captured.shop.done(&["capture", "--once"]);
    captured.ask("UPDATE kinds SET s = s");
    captured.shop.done(&["capture", "--once"]);
    let read = captured.documents("event_type = 'kinds' AND op = 'r'");
    let changed = captured.documents("event_type = 'kinds' AND op = 'u'");
    assert_eq!((read.len(), changed.len()), (3, 3));
    for (read, changed) in read.iter().zip(&changed) {
        assert_eq!(read["after"], changed["after"]);
    }
    assert_eq!(
        read[0]["after"],
        serde_json::json!({
            "id": 1, "b": true, "s": -3, "l": 9007199254740993_u64, "r": 1.5, "d": 1e-300, "n": "12345678901234567890.123456789",
            "t": "a\tb\n\\\"ä😀", "v": "x", "c": "y  ", "y": "AP8=", "at": "2026-01-02T01:04:05.678901Z",
            "local": "2026-01-02T03:04:05", "day": "2026-01-02", "time": "03:04:05", "span": "P1DT2H",
            "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "j": {"a": [1, 2]}, "jb": {"b": null}, "ints": [1, null, 3],
            "texts": ["a", "b,c", null], "moods": ["glad", "so so"], "m": "so so", "p": 7, "ps": [8, 9], "net": "10.0.0.1/8",
            "range": "[1,4)"
        })
    );
    assert!(read[1]["after"].as_object().unwrap().iter().all(|(name, value)| name == "id" || value.is_null()));
    let odd = &read[2]["after"];
    let odd = ["r", "d", "n", "at", "day"].map(|name| odd[name].as_str().unwrap());
    assert_eq!(odd, ["NaN", "-Infinity", "NaN", "infinity", "0044-03-15 BC"]);
}

/// A long value that did not change is not sent: it is left out, unless the old row has it.
#[test]
fn a_long_value_that_did_not_change_is_left_out_or_filled_in() {
    let captured = Captured::new();
    captured.ask("CREATE TABLE notes (id int PRIMARY KEY, title text, body text); ALTER TABLE notes ALTER body SET STORAGE EXTERNAL");
    captured.ask("ALTER PUBLICATION lakebed ADD TABLE notes");
    captured.shop.done(&["capture", "--once"]);
    captured.ask("INSERT INTO notes VALUES (1, 'a', repeat('x', 100000))");
    captured.ask("UPDATE notes SET title = 'b'");
    captured.ask("ALTER TABLE notes REPLICA IDENTITY FULL");
    captured.ask("UPDATE notes SET title = 'c'");
    captured.ask("UPDATE notes SET id = 2");
    captured.ask("DELETE FROM notes");
    captured.shop.done(&["capture", "--once"]);
    let events = captured.documents("event_type = 'notes' AND op <> 't'");
    let body = |row: &serde_json::Value| row.get("body").map(|body| body.as_str().unwrap().len());
    let what =
        events.iter().map(|event| (event["op"].as_str().unwrap(), body(&event["before"]), body(&event["after"])));
    let whole = Some(100_000);
    let expected = [
        ("c", None, whole),
        ("u", None, None),
        ("u", whole, whole),
        ("d", whole, None),
        ("c", None, whole),
        ("d", whole, None),
    ];
    assert_eq!(what.collect::<Vec<_>>(), expected);
    assert_eq!(events[1]["after"], serde_json::json!({"id": 1, "title": "b"}));
}

/// A column that the key's index includes is not of the key.
#[test]
fn an_included_column_is_changed_as_others_are() {
    let captured = Captured::new();
    captured.ask("CREATE TABLE included (id int, name text, PRIMARY KEY (id) INCLUDE (name))");
    captured.ask("ALTER TABLE included REPLICA IDENTITY FULL");
    captured.ask("ALTER PUBLICATION lakebed ADD TABLE included");
    captured.ask("INSERT INTO included VALUES (1, 'Ann')");
    captured.shop.done(&["capture", "--once"]);
    captured.ask("UPDATE included SET name = 'Anna'");
    captured.ask("UPDATE included SET id = 2");
    captured.shop.done(&["capture", "--once"]);
    captured.shop.done(&["run"]);
    let ops = captured.rows("SELECT op FROM bronze.events WHERE event_type = 'included' ORDER BY _offset");
    assert_eq!(ops, ["t", "r", "u", "d", "c"]);
}

/// Works while somebody writes, round after round, until the work is done or has failed.
fn beside(write: impl Fn(u64) + Send, work: impl FnOnce()) {
    struct Ends<'d>(&'d AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _ends = Ends(&done);
        scope.spawn(|| (0..).take_while(|_| !done.load(Ordering::Relaxed)).for_each(write));
        work();
    });
}

/// Killed in the middle, again and again: while the tables are read, and while transactions of one change and of 20,000 come.
#[test]
fn a_capture_that_is_killed_goes_on_where_the_log_is() {
    let captured = Captured::new();
    captured.ask("INSERT INTO customers SELECT i, 'n' || i FROM generate_series(1, 30000) AS i");
    captured.ask("INSERT INTO orders SELECT i % 500, i::text, i / 7.0 FROM generate_series(1, 20000) AS i");
    let write = |round: u64| {
        let at = 100_000 + round * 10;
        captured.ask(&format!("INSERT INTO customers VALUES ({at}, 'x'), ({at} + 1, 'y')"));
        captured.ask(&format!("UPDATE customers SET name = name || '{round}' WHERE id % 3000 = {}", round % 3000));
        captured.ask(&format!("UPDATE customers SET id = -id WHERE id = {}", 7 + round * 13));
        captured.ask(&format!("DELETE FROM orders WHERE customer = {}", round % 500));
        if round % 12 == 5 {
            captured
                .ask(&format!("INSERT INTO orders SELECT -{round}, i::text, i FROM generate_series(1, 20000) AS i"));
        }
        thread::sleep(Duration::from_millis(20));
    };
    beside(write, || {
        for round in 0..14u64 {
            let mut following = captured.follow(2_000);
            thread::sleep(Duration::from_millis(350 + 90 * round));
            let _ = following.kill();
            following.wait().unwrap();
        }
    });
    captured.shop.done(&["capture", "--once"]);
    captured.holds();
}

/// A transaction of many batches is in the log in part, and the rest of it follows.
#[test]
fn a_transaction_of_many_batches_goes_on_in_its_middle() {
    let captured = Captured::new();
    captured.shop.done(&["capture", "--once"]);
    captured.ask("INSERT INTO orders SELECT 1, i::text, i FROM generate_series(1, 20000) AS i");
    let versions = || fs::read_dir(captured.shop.path().join("lake/events/_delta_log")).unwrap().count();
    for _ in 0..3 {
        let (mut following, before) = (captured.follow(500), versions());
        wait_until("a batch of the transaction", || versions() > before + 2);
        following.kill().unwrap();
        following.wait().unwrap();
    }
    let there = captured.rows("SELECT count(*) FROM bronze.events WHERE event_type = 'orders' AND op = 'c'");
    let there = there[0].parse::<u64>().unwrap();
    assert!((1_000..20_000).contains(&there) && there.is_multiple_of(500), "{there}");
    captured.shop.done(&["capture", "--once"]);
    captured.holds();
    let all = captured.rows("SELECT count(*) FROM bronze.events WHERE event_type = 'orders' AND op = 'c'");
    assert_eq!(all, ["20000"]);
}

#[test]
fn a_password_is_asked_for_and_never_shown() {
    let captured = Captured::new();
    captured.ask(
        "CREATE ROLE teller LOGIN REPLICATION PASSWORD 'open: se@me'; GRANT SELECT ON customers, orders TO teller",
    );
    let file = captured.ask("SHOW hba_file");
    captured.ask(&format!(
        "COPY (VALUES ('local all teller scram-sha-256'), ('local all all trust')) TO '{file}'; SELECT pg_reload_conf()"
    ));
    let url = captured.database.url().replace("lakebed@", "teller@");
    let as_teller = |variable: &str, value: &str| {
        let mut once = captured.shop.command(&["capture", "--once"]);
        once.env("LAKEBED_CAPTURE_CRM_URL", &url).env_remove("PGPASSWORD").env(variable, value).output().unwrap()
    };
    let refused = as_teller("LAKEBED_CAPTURE_CRM_PASSWORD", "wrong: se@me");
    assert_eq!(refused.status.code(), Some(1));
    says(&stderr(&refused), &["password authentication failed", "LAKEBED_CAPTURE_NAME_PASSWORD"]);
    assert!(!stderr(&refused).contains("se@me"), "{}", stderr(&refused));
    fs::write(captured.shop.path().join("password"), "open: se@me\n").unwrap();
    for (variable, value) in [
        ("LAKEBED_CAPTURE_CRM_PASSWORD", "open: se@me"),
        ("LAKEBED_CAPTURE_CRM_URL", &url.replace("teller@", "teller:open%3A%20se%40me@")),
        ("LAKEBED_CAPTURE_CRM_PASSWORD_FILE", "password"),
        ("PGPASSWORD", "open: se@me"),
    ] {
        let output = as_teller(variable, value);
        assert!(output.status.success(), "{variable}: {}", stderr(&output));
    }
    captured.holds();
}

/// What is written while the tables are read comes once, by the reading or by the slot.
#[test]
fn tables_are_read_beside_those_who_write() {
    let captured = Captured::new();
    captured.ask("INSERT INTO customers SELECT i, 'n' FROM generate_series(1, 60000) AS i");
    let write = |round: u64| {
        captured.ask(&format!(
            "UPDATE customers SET name = '{round}' WHERE id % 97 = {0}; DELETE FROM customers WHERE id = {0}; \
             INSERT INTO customers VALUES (-{round}, 'new')",
            round % 97
        ));
    };
    beside(write, || {
        let mut once = captured.shop.command(&["capture", "--once"]);
        let output = once.env("LAKEBED_INGEST_BATCH_EVENTS", "3000").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    });
    captured.shop.done(&["capture", "--once"]);
    captured.holds();
    let (read, twice) = (
        captured.rows("SELECT count(*) FROM bronze.events WHERE op = 'r'"),
        captured.rows(
            "SELECT _doc -> 'after' ->> 'id' AS id FROM bronze.events WHERE op = 'r' GROUP BY 1 HAVING count(*) > 1",
        ),
    );
    assert!(read[0].parse::<u64>().unwrap() > 50_000 && twice.is_empty(), "{read:?} {twice:?}");
}

/// A server that goes away and comes back is waited for; who ends the capture ends it well.
#[test]
fn a_lost_connection_is_found_again() {
    let mut captured = Captured::new();
    captured.ask("INSERT INTO customers VALUES (1, 'Ann')");
    let mut following = captured.follow(1_000);
    // Before there is a lake, and one with such events, the answer is an error.
    let names = |captured: &Captured| {
        let sql = "SELECT count(*) FROM bronze.events WHERE event_type = 'customers' AND op <> 't'";
        let output = captured.shop.command(&["query", sql, "-o", "csv"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().nth(1).map_or(0, |count| count.parse().unwrap())
    };
    wait_until("the reading", || names(&captured) == 1);
    captured.server.stop();
    captured.server.restart();
    captured.ask("INSERT INTO customers VALUES (2, 'Bob')");
    wait_until("the change after the restart", || names(&captured) == 2);
    captured.server.kill();
    captured.server.restart();
    let before = captured.ask("SELECT pg_current_wal_lsn()");
    captured.ask("INSERT INTO customers VALUES (3, 'Cid')");
    wait_until("the change after the crash", || names(&captured) == 3);
    let confirmed = format!("SELECT confirmed_flush_lsn > '{before}' FROM pg_replication_slots");
    wait_until("that the server need not keep it", || captured.ask(&confirmed) == "t");
    assert!(following.try_wait().unwrap().is_none(), "it follows");
    assert!(Command::new("kill").args(["-TERM", &following.id().to_string()]).status().unwrap().success());
    let output = following.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    says(
        &stderr(&output),
        &["following the changes of", "tried again in 1 s", "5 changes in the log, 0 in quarantine"],
    );
    captured.holds();
}

#[test]
fn what_stands_in_the_way_is_said() {
    let shop = Shop::new();
    says(&shop.fails(&["capture"], 2), &["lakebed.toml has no [capture.NAME]", "postgres://user@host"]);
    let plain = Database::new();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    let with = |rest: &str| shop.edit("lakebed.toml", &format!("{toml}\n{rest}\n"));
    with("[capture.a]\n[capture.b]");
    says(&shop.fails(&["capture"], 2), &["several captures", "name one of a, b"]);
    says(&shop.fails(&["capture", "c"], 2), &["no [capture.c]", "there are a, b"]);
    says(&shop.fails(&["capture", "a"], 1), &["[capture.a] has no url", "LAKEBED_CAPTURE_A_URL"]);
    with(&format!("[capture.a]\nurl = \"{}\"", plain.url()));
    says(&shop.fails(&["capture"], 1), &["wal_level replica", "ALTER SYSTEM SET wal_level = logical"]);
    with("[capture.a]\nurl = \"postgres://me@127.0.0.1:1/none\"");
    says(&shop.fails(&["capture"], 1), &["postgres at 127.0.0.1:1/none: ", "check that the server runs"]);

    let captured = Captured::new();
    let shop = &captured.shop;
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    let with = |rest: &str| shop.edit("lakebed.toml", &format!("{toml}{rest}\n"));
    with("publication = \"other\"");
    says(&shop.fails(&["capture"], 1), &["no publication 'other'", "CREATE PUBLICATION other FOR TABLE"]);
    with("tables = \"customers, bills\"");
    says(
        &shop.fails(&["capture"], 1),
        &["no table 'public.bills'", "ALTER PUBLICATION lakebed ADD TABLE public.bills"],
    );
    assert_eq!(captured.ask("SELECT count(*) FROM pg_replication_slots"), "0", "no slot is left of what did not begin");
    captured.ask("CREATE ROLE weak LOGIN");
    with("");
    let url = captured.database.url().replace("lakebed@", "weak@");
    let output = shop.command(&["capture"]).env("LAKEBED_CAPTURE_CRM_URL", &url).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["ALTER ROLE … REPLICATION"]);
    let secret = url.replace("weak@", "weak:pa%20ss@") + "?pasword=pa";
    let output = shop.command(&["capture"]).env("LAKEBED_CAPTURE_CRM_URL", &secret).output().unwrap();
    assert!(!stderr(&output).contains("pa%20ss") && stderr(&output).contains("'pasword'"), "{}", stderr(&output));

    // The doctor before, while and after.
    let doctor = || {
        let output = shop.command(&["doctor", "-o", "json"]).output().unwrap();
        let found: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        found.into_iter().find(|found| found["what"] == "capture").unwrap()
    };
    says(&doctor()["found"].to_string(), &["crm: 2 tables of", "makes the slot 'lakebed_crm'"]);
    let mut following = captured.follow(1_000);
    wait_until("the slot's reader", || captured.ask("SELECT count(*) FROM pg_replication_slots WHERE active") == "1");
    let began = Instant::now();
    let output = shop.command(&["capture", "--once"]).output().unwrap();
    assert!(began.elapsed() > Duration::from_secs(5), "it waits for one that may be ending");
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["error: the slot 'lakebed_crm' is in use by another", "active_pid"]);
    assert_eq!(doctor()["state"], "ok");
    following.kill().unwrap();
    following.wait().unwrap();
    shop.done(&["capture", "--once"]);

    // Somebody moves the slot, drops it, and makes another of its name.
    captured.ask("INSERT INTO customers VALUES (1, 'lost')");
    captured.ask("SELECT pg_replication_slot_advance('lakebed_crm', pg_current_wal_lsn())");
    says(
        &shop.fails(&["capture", "--once"], 1),
        &["are lost", "pg_drop_replication_slot('lakebed_crm')", "name a new slot"],
    );
    assert_eq!(doctor()["state"], "wrong");
    captured.ask("SELECT pg_drop_replication_slot('lakebed_crm')");
    says(&shop.fails(&["capture", "--once"], 1), &["the slot 'lakebed_crm' is gone", "name a new slot"]);
    captured.ask("SELECT pg_create_logical_replication_slot('lakebed_crm', 'test_decoding')");
    says(&shop.fails(&["capture", "--once"], 1), &["none of pgoutput's", "name another slot"]);
    // As the hint says: the tables are read anew, and are those of the source again.
    captured.ask("DELETE FROM customers");
    captured.ask("INSERT INTO customers VALUES (2, 'found')");
    with("slot = \"again\"");
    shop.done(&["capture", "--once"]);
    captured.holds();
    assert_eq!(captured.rows("SELECT name FROM silver.customers"), ["found"]);
}
