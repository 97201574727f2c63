//! The clients that people have, on a lake that is served and published.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lakebed_tests::python::{dashboard, jdbc, python};

use crate::served::Served;
use crate::shop::{Shop, says};

pub(crate) fn client(script: &str, arguments: &[&str]) -> String {
    run(&python().unwrap(), script, arguments)
}

pub(crate) fn run(python: &Path, script: &str, arguments: &[&str]) -> String {
    let scripts: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python");
    let output = Command::new(python).arg(scripts.join(script)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

/// Runs a program with DBeaver's driver. It needs Java 17 or newer.
pub(crate) fn jdbc_client(program: &str, arguments: &[&str]) -> String {
    let java = Command::new("java")
        .args(["--add-opens=java.base/java.nio=ALL-UNNAMED", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(jdbc().unwrap())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/java").join(program))
        .args(arguments)
        .output();
    let output = java.expect("java starts; install a JDK, 17 or newer (Debian, Ubuntu: default-jdk-headless)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn adbc_and_pyarrow_list_and_query() {
    let shop = Shop::of_two_versions();
    let served = Served::start(&shop, &[]);
    let (host, port) = served.flight.rsplit_once(':').unwrap();
    let said = client("flight_clients.py", &[host, port, "1"]);
    assert!(said.contains("gold.revenue") && said.lines().count() > 60, "{said}");
    served.stop();
}

/// The page, without a browser.
#[test]
fn the_dashboard_shows_any_version() {
    let shop = Shop::of_versions(&[2_000, 4_000]);
    let served = Served::start(&shop, &[]);
    let (host, port) = served.flight.rsplit_once(':').unwrap();
    let said = run(&dashboard().unwrap(), "dashboard.py", &[host, port, "1"]);
    assert!(said.lines().filter(|line| line.starts_with("ok")).count() >= 20, "{said}");
    served.stop();
}

/// DBeaver's driver, by the calls that DBeaver makes.
#[test]
fn jdbc_walks_the_lake_as_dbeaver_does() {
    let shop = Shop::of_two_versions();
    let key = "-- check: revenue >= 0";
    let revenue = std::fs::read_to_string(shop.path().join("sql/gold/revenue.sql")).unwrap();
    let refers = format!("-- check: relationships(day, silver.events.event_date)\n{key}");
    shop.edit("sql/gold/revenue.sql", &revenue.replace(key, &refers));
    let served = Served::start(&shop, &[]);
    let (host, port) = served.flight.rsplit_once(':').unwrap();
    let said = jdbc_client("JdbcWalk.java", &[host, port, "1"]);
    assert!(said.lines().filter(|line| line.starts_with("ok")).count() > 300, "{said}");
    served.stop();
}

#[test]
fn a_server_that_watches_refreshes_as_events_come() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let before = served.version();
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    served.comes_to(before + 1);
    assert_eq!(served.version(), before + 1);
    // The sink comes after what is served.
    let until = Instant::now() + Duration::from_secs(120);
    while served.metric("lakebed_tables_behind_seconds") > 0.0 {
        assert!(Instant::now() < until, "{}", served.get("/metrics").1);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(served.metric("lakebed_log_version"), served.metric("lakebed_log_newest_version"));
    assert!(served.metric("lakebed_refresh_seconds_count{outcome=\"done\"}") >= 1.0);
    assert!(served.metric("lakebed_publication_seconds_count{outcome=\"done\"}") >= 1.0);
    served.stop();
    let rows = shop.done(&["query", "SELECT count(*) FROM silver.events", "-o", "csv"]);
    assert_eq!(rows.lines().last(), Some("400"), "the server refreshed the tables, and the stretches begin alike");
}

/// While events come in and are published, what stands in a sink is of another epoch at every look.
#[test]
fn verify_holds_while_events_come_in() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let events = std::fs::read_to_string(shop.events(1_000)).unwrap();
    let (before, is_over) = (served.version(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for event in events.lines().skip(300).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                assert_eq!(served.post("/v1/events", &[], event.as_bytes()).0, 200);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let verified: Vec<_> = (0..2).map(|_| shop.command(&["verify"]).output().unwrap()).collect();
        is_over.store(true, Ordering::Relaxed);
        for output in verified {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    served.comes_to(before + 3);
    served.stop();
}

/// A database that takes connections and never answers keeps nobody waiting but itself.
#[test]
fn tables_are_served_while_a_sink_hangs() {
    let shop = Shop::with_tables();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = std::fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    let address = silent.local_addr().unwrap();
    shop.edit("lakebed.toml", &format!("{toml}\n[postgres]\nurl = \"postgres://me@{address}/shop\"\n"));
    let kinds = "SELECT event_type, count(*) AS events FROM silver.events GROUP BY 1";
    shop.edit("sql/gold/kinds.sql", &format!("-- sinks: postgres\n{kinds}"));
    let served = Served::start(&shop, &["--watch"]);
    let (_connection, _) = silent.accept().unwrap();
    for (version, events) in [(2, 400), (3, 500)] {
        shop.done(&["ingest", shop.events(events).to_str().unwrap()]);
        served.comes_to(version);
    }
    assert!(served.metric("lakebed_tables_behind_seconds") > 0.0, "the sink has not got them");
    served.stop();
}

/// It takes up models as they are edited, and goes on with the ones before where one is wrong.
#[test]
fn a_server_that_watches_takes_up_edited_models() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let write = |sql: &str| shop.edit("sql/gold/revenue.sql", sql);
    let has = |column: &str| {
        let query = format!("SELECT {column} FROM gold.revenue LIMIT 1");
        (0..300).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            shop.command(&["query", &query]).output().unwrap().status.success()
        })
    };
    write("SELECT event_date AS day, count(*) AS first FROM silver.purchases GROUP BY 1");
    assert!(has("first"));
    // One that does not parse stops whoever reads the project, but not the server; one that does not plan stops nobody else.
    write("SELECT nothing, count(*) AS second FROM silver.purchases GROUP BY 1");
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    served.comes_to(2);
    served.comes_to_say("there is no column 'nothing'");
    write("SELECT event_date AS day, count(*) AS third FROM silver.purchases GROUP BY 1");
    assert!(has("third"));
    shop.comes_to_hold();
    let said = served.stop();
    assert!(said.contains("there is no column 'nothing'") && said.contains("the models go on as they were"), "{said}");
}

fn event(id: &str, kind: &str) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"{kind}","event_time":"2026-11-01T00:00:00Z"}}"#)
}

/// A model that fails at every event of a type.
const RISKY: &str =
    "SELECT event_id, 100 / CASE WHEN event_type = 'broken' THEN 0 ELSE 1 END AS share FROM bronze.events";

/// What a model meets in an event is told once, and in nobody's way: not while events come, and not at the next start.
#[test]
fn a_model_that_fails_keeps_nobody_from_being_served() {
    let shop = Shop::with_tables();
    shop.edit("sql/gold/risky.sql", RISKY);
    let served = Served::start(&shop, &["--watch"]);
    let before = served.version();
    let post = |id: &str, kind: &str| {
        let (status, _, said) = served.post("/v1/events", &[], event(id, kind).as_bytes());
        assert_eq!(status, 200, "{said}");
    };
    post("a", "broken");
    served.comes_to_say("tries again when events come or a model is edited");
    post("b", "view");
    // Time for another try, of which nothing is told.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(served.version(), before, "the tables are as they were");
    let (status, _, rows) = served.post("/v1/sql", &[], b"SELECT count(*) AS n FROM gold.risky");
    assert_eq!((status, rows.trim()), (200, "[{\"n\":300}]"));
    let said = served.stop();
    assert_eq!(said.matches("risky.sql:1: Divide by zero").count(), 1, "{said}");
    says(&said, &["tries again when events come or a model is edited"]);
    says(&shop.fails(&["run"], 1), &["risky.sql:1: Divide by zero"]);

    let served = Served::start(&shop, &["--watch"]);
    assert_eq!(served.version(), before);
    assert_eq!(served.post("/v1/events", &[], event("c", "view").as_bytes()).0, 200);
    shop.edit("sql/gold/risky.sql", &RISKY.replace("0 ELSE", "2 ELSE"));
    served.comes_to(before + 3);
    served.stop();
    shop.done(&["run"]);
    shop.done(&["verify"]);
}

/// Nor where there are no tables yet.
#[test]
fn events_are_taken_in_while_no_table_can_be_built() {
    let shop = Shop::new();
    shop.edit("sql/gold/risky.sql", RISKY);
    shop.edit("broken.ndjson", &event("a", "broken"));
    shop.done(&["ingest", "broken.ndjson"]);
    let served = Served::start(&shop, &["--watch"]);
    assert_eq!(served.post("/v1/events", &[], event("b", "view").as_bytes()).0, 200);
    served.comes_to(2);
    let rows = |sql: &str| served.post("/v1/sql", &[], sql.as_bytes()).2;
    assert_eq!(rows("SELECT count(*) AS n FROM bronze.events"), "[{\"n\":2}]\n");
    shop.edit("sql/gold/risky.sql", &RISKY.replace("0 ELSE", "2 ELSE"));
    let comes = (0..1_200).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        rows("SELECT sum(share) AS shares FROM gold.risky") == "[{\"shares\":150}]\n"
    });
    assert!(comes, "{}", rows("SELECT * FROM gold.risky"));
    served.stop();
}

/// What others refreshed with other SQL is of that SQL at earlier versions, too.
#[test]
fn a_server_takes_up_the_models_of_whoever_refreshes() {
    let shop = Shop::of_two_versions();
    let write =
        |word: &str| shop.edit("sql/gold/t.sql", &format!("SELECT count(*) AS n, '{word}' AS word FROM bronze.events"));
    write("old");
    shop.done(&["run"]);
    let served = Served::start(&shop, &[]);
    let both = "SELECT now.word AS now, past.word AS past, past.n FROM gold.t AS now, gold.t VERSION AS OF 1 AS past";
    let answered = |sql: &str| served.post("/v1/sql", &[], sql.as_bytes()).2.trim().to_owned();
    let comes = |sql: &str, rows: &str| {
        (0..1_200).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            answered(sql) == rows
        })
    };
    assert!(comes(both, r#"[{"now":"old","past":"old","n":200}]"#), "{}", answered(both));
    write("new");
    shop.edit("sql/gold/t_two.sql", "SELECT count(*) AS n FROM bronze.events");
    shop.done(&["run"]);
    assert!(comes(both, r#"[{"now":"new","past":"new","n":200}]"#), "{}", answered(both));
    let added = "SELECT n FROM gold.t_two VERSION AS OF 1";
    assert!(comes(added, r#"[{"n":200}]"#), "{}", answered(added));
    // Files that nobody has built yet are told at the next start.
    assert!(!served.stop().contains("of other SQL"));
    write("newest");
    let mut other = shop.command(&["serve", "--flight", "off", "--http", "127.0.0.1:0"]);
    let mut other = other.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let read = BufReader::new(other.stderr.take().unwrap()).read_line(&mut first);
    other.kill().unwrap();
    other.wait().unwrap();
    read.unwrap();
    says(&first, &["for gold.t the tables are of other SQL than the models here", "lakebed run"]);
}

/// A client that would use its connection again is told where an answer ends it.
#[test]
fn an_answer_that_leaves_a_body_unread_says_that_it_closes() {
    let shop = Shop::new();
    let served = Served::start(&shop, &[]);
    let closes = |request: &str, length: usize, body: &str, status: &str| {
        let mut stream = TcpStream::connect(&served.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        let head = request.replacen('\n', " HTTP/1.1\r\n", 1);
        write!(stream, "{head}Host: localhost\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let answer: Vec<_> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
        assert!(answer[0].contains(status), "{request}: {answer:?}");
        answer.iter().any(|line| line == "connection: close")
    };
    assert!(closes("POST /nowhere\n", 1_000_000, "", "404"));
    assert!(closes("GET /v1/events\n", 1_000_000, "", "405"));
    assert!(closes("POST /v1/events\nOrigin: https://elsewhere.example\r\n", 1_000_000, "", "403"));
    assert!(closes("POST /v1/events\n", 1_000_000_000_000, "", "413"));
    assert!(!closes("POST /v1/sql\n", 8, "SELECT 1", "200"));
    assert!(!closes("POST /v1/sql\n", 7, "SELEC 1", "400"), "it was read");
    assert!(!closes("GET /healthz\n", 0, "", "200"));
    served.stop();
}

/// Without `--watch` it refreshes nothing, and moves on with whoever does.
#[test]
fn a_server_moves_on_with_the_refreshes_of_others() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &[]);
    let before = served.version();
    shop.done(&["ingest", shop.events(400).to_str().unwrap()]);
    shop.done(&["run"]);
    served.comes_to(before + 1);
    served.stop();
}

#[test]
fn duckdb_1_opens_what_is_published() {
    let shop = Shop::with_tables();
    let published = shop.path().join("lake/published/lakebed.duckdb");
    let said = client("published_file.py", &[published.to_str().unwrap()]);
    assert!(said.contains("12 tables"), "{said}");
}

/// For people with curl.
#[test]
fn statements_are_answered_over_http() {
    const PATH: &str = "/v1/sql";
    let shop = Shop::of_two_versions();
    let served = Served::start(&shop, &[]);
    let count = b"SELECT count(*) AS n FROM bronze.events";
    let json = "Content-Type: application/json";
    let answered = |path: &str, headers: &[&str], body: &[u8]| {
        let (status, head, body) = served.post(path, headers, body);
        (status, head.lines().find_map(|line| line.strip_prefix("lakebed-version: ")).map(str::to_owned), body)
    };
    let version = |version: &str| Some(version.to_owned());
    assert_eq!(answered(PATH, &[], count), (200, version("2"), "[{\"n\":500}]\n".to_owned()));
    for (path, headers) in [
        ("/v1/sql?format=csv&as_of=1", vec![]),
        ("/v1/sql?as_of=1", vec!["Accept: text/csv;q=0.9, */*"]),
        ("/v1/sql?format=csv", vec!["lakebed-as-of: 1"]),
    ] {
        assert_eq!(answered(path, &headers, count), (200, version("1"), "n\n200\n".to_owned()), "{path}");
    }
    let bound =
        br#"{"sql": "SELECT ? AS a, CAST(? AS INT) + 1 AS b, ? IS NULL AS c", "parameters": ["x'y", 41, null]}"#;
    assert_eq!(answered(PATH, &[json], bound).2, "[{\"a\":\"x'y\",\"b\":42,\"c\":true}]\n");
    let exact = br#"{"sql": "SELECT CAST(? AS DECIMAL(30, 2)) AS d, CAST(? AS DOUBLE) AS e", "parameters": [12345678901234567.89, 1.5e2]}"#;
    assert_eq!(answered(PATH, &[json], exact).2, "[{\"d\":12345678901234567.89,\"e\":150.0}]\n");
    let ors =
        |count: usize| format!("SELECT count(*) AS n FROM bronze.events WHERE false{}", " OR _row = 1".repeat(count));
    assert_eq!(answered(PATH, &[], ors(950).as_bytes()).0, 200, "a statement as long as tools write them");
    assert_eq!(answered(PATH, &[], ors(1_100).as_bytes()).0, 400, "and longer");
    for (path, headers, body, status, what) in [
        (PATH, vec![], "SELECT * FROM gold.revenu", 404, "did you mean 'gold.revenue'?"),
        (PATH, vec![], "SELEC 1", 400, "Line: 1, Column: 1"),
        (PATH, vec![], "DROP TABLE gold.revenue", 403, "only queries"),
        (PATH, vec![], "SELECT 1 / (count(*) - count(*)) FROM gold.revenue", 400, "ivide by zero"),
        (PATH, vec![], "SELECT 1 FROM bronze.events WHERE 1 / (_offset - _offset) > 0", 400, "ivide by zero"),
        (PATH, vec![], "SELECT 1 FROM gold.revenue VERSION AS OF 99", 404, "no version 99"),
        (PATH, vec![json], "{\"sql\": \"SELECT ?\"}", 400, "has 1 parameter, and 0 were given"),
        (PATH, vec![json], "{\"sqll\": \"SELECT 1\"}", 400, "sqll"),
        (PATH, vec!["Accept: image/png"], "SELECT 1", 400, "application/json"),
        ("/v1/sql?format=xml", vec![], "SELECT 1", 400, "json, csv, parquet or arrow"),
        ("/v1/sql?formt=csv", vec![], "SELECT 1", 400, "formt"),
        (PATH, vec!["Origin: https://elsewhere.example"], "SELECT 1", 403, "programs on this machine"),
    ] {
        let (answered, _, said) = served.post(path, &headers, body.as_bytes());
        assert_eq!(answered, status, "{body}: {said}");
        assert!(said.contains(what) && said.starts_with("{\"code\":"), "{said}");
    }
    served.stop();
}

/// The statement's own words for it, on the command line.
#[test]
fn a_query_names_its_version() {
    let shop = Shop::of_two_versions();
    let lines = |sql: &str| shop.done(&["query", sql, "-o", "csv"]);
    let came = "SELECT b.n - a.n AS came FROM (SELECT count(*) AS n FROM silver.events VERSION AS OF 1) a, \
                (SELECT count(*) AS n FROM silver.events) b";
    assert_eq!(
        lines(came),
        "came\n300\n".replace("300", lines("SELECT count(*) - 200 FROM silver.events").lines().last().unwrap())
    );
    assert_eq!(lines("SELECT count(*) AS n FROM bronze.events FOR VERSION AS OF 1"), "n\n200\n");
    says(&shop.fails(&["query", "SELECT 1 FROM silver.events VERSION AS OF 99"], 1), &["no version 99", "log show"]);
    says(
        &shop.fails(&["query", "SELECT 1 FROM silver.events VERSION AS OF 'x'"], 1),
        &["'x' is no version", "Line: 1", "VERSION AS OF 42"],
    );
    says(&shop.fails(&["query", "SELECT ?"], 1), &["1 parameter", "hint: "]);
}
