//! What operators have: targets, a doctor, checks, and alerts.

use std::fs;
use std::io::{Read, Write};
use std::iter;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use lakebed_log::{Log, Store};
use sha2::Sha256;

use crate::served::Served;
use crate::shop::{Shop, says, stderr};

/// A target is a lake of its own, and no other target's.
#[test]
fn targets_keep_apart() {
    let shop = Shop::new();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    shop.edit(
        "lakebed.toml",
        &format!("{toml}\n[target.prod.lake]\nurl = \"./prod\"\n[target.copy.lake]\nurl = \"./lake\"\n"),
    );
    let events = shop.events(300);
    shop.done(&["ingest", events.to_str().unwrap()]);
    shop.done(&["--target", "prod", "ingest", events.to_str().unwrap()]);
    shop.done(&["--target", "prod", "run"]);
    assert!(shop.path().join("prod/published/lakebed.duckdb").exists());
    assert!(!shop.path().join("lake/published").exists());
    let output = shop.command(&["run"]).env("LAKEBED_TARGET", "copy").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["belongs to the project 'shop'", "hint: "]);
    shop.edit(
        "lakebed.toml",
        &format!("{toml}\n[duckdb]\ndirectory = \"./out\"\n[target.prod.lake]\nurl = \"./prod\"\n"),
    );
    shop.done(&["run"]);
    let said = shop.fails(&["--target", "prod", "run"], 1);
    says(&said, &["lakebed.duckdb' is published by 'shop'", "hint: "]);
    // Another lake of the same project, mistyped, say, has no tables, and they are not to take the place of these.
    let said = shop.fails(&["--lake", "./lkae", "run"], 1);
    says(&said, &["lakebed.duckdb' is published by another lake of 'shop'", "hint: "]);
    says(&shop.fails(&["--target", "pord", "run"], 1), &["there is no target 'pord'", "there are prod"]);
}

/// Each thing is tried, and what does not work comes with what to do.
#[test]
fn the_doctor_knows_what_a_server_refuses() {
    let shop = Shop::new();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    for (settings, said) in [
        ("flight = \"off\"\nhttp = \"off\"", "flight and http are both off"),
        ("flight = \"127.0.0.1:8080\"", "flight and http are both at 127.0.0.1:8080"),
        ("tls_cert = \"./server.pem\"", "a certificate and its key go together"),
        ("tls_cert = \"./server.pem\"\ntls_key = \"./server.key\"", "server.pem"),
    ] {
        shop.edit("lakebed.toml", &format!("{toml}\n[serve]\n{settings}\n"));
        for command in ["doctor", "serve"] {
            let output = shop.command(&[command]).output().unwrap();
            let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
            assert!(!output.status.success() && told.contains(said), "{command}: {told}");
        }
    }
}

#[test]
fn the_doctor_tries_everything() {
    let shop = Shop::new();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    let free = "[serve]\nflight = \"off\"\nhttp = \"127.0.0.1:0\"\n";
    shop.edit("lakebed.toml", &format!("{toml}\n{free}"));
    let found = shop.done(&["doctor", "-o", "csv"]);
    says(
        &found,
        &["settings,ok,", "lake,ok,", "is not there yet", "models,ok,12 models", "duckdb,ok,", "flight,ok,off"],
    );
    let events = shop.events(300);
    shop.done(&["ingest", events.to_str().unwrap()]);
    shop.done(&["run"]);
    says(&shop.done(&["doctor", "-o", "csv"]), &["lake,ok,", "version 1", "at version 1"]);
    let before: Vec<_> =
        fs::read_dir(shop.path().join("lake")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!before.iter().any(|name| name.to_string_lossy().contains("trial")), "{before:?}");

    let no_directory = shop.command(&["--lake", "lakebed.toml", "doctor", "-o", "csv"]).output().unwrap();
    says(&String::from_utf8(no_directory.stdout).unwrap(), &["lake,wrong,", "it is a file, and no directory"]);
    // A machine whose clock is wrong has appended.
    let far = Shop::new();
    let ahead = Utc::now() + TimeDelta::days(365);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = Store::local(far.path().join("lake")).unwrap();
    runtime.block_on(Log::open_or_create(store, "shop", ahead)).unwrap();
    let output = far.command(&["doctor", "-o", "csv"]).output().unwrap();
    says(
        &String::from_utf8(output.stdout).unwrap(),
        &["lake,wrong,\"version 0 of the log is of ", "set this machine's clock"],
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    shop.edit(
        "lakebed.toml",
        &format!("{toml}\n[models]\nsinks = \"duckdb, postgres\"\n[postgres]\nurl = \"postgres://me@127.0.0.1:1/shop\"\n[serve]\nflight = \"off\"\nhttp = \"{port}\"\n"),
    );
    shop.edit("sql/gold/wrong.sql", "SELECT 1 FROM gold.nowhere");
    let output = shop.command(&["doctor", "-o", "csv"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    says(&found, &["models,wrong,", "gold.nowhere", "http,wrong,cannot listen on", "another server may have port"]);
    says(&stderr(&output), &["2 of the things above do not work"]);
    fs::remove_file(shop.path().join("sql/gold/wrong.sql")).unwrap();
    let output = shop.command(&["doctor", "-o", "csv"]).output().unwrap();
    says(&String::from_utf8(output.stdout).unwrap(), &["postgres,wrong,postgres at 127.0.0.1:1/shop"]);
    shop.edit("lakebed.toml", "[lake]\nurl = 5\n");
    let output = shop.command(&["doctor", "-o", "csv"]).output().unwrap();
    says(&String::from_utf8(output.stdout).unwrap(), &["settings,wrong,", "lakebed.toml:2:7"]);
}

/// Before anything is computed, and by name.
#[test]
fn a_query_that_cannot_run_is_told_with_its_file() {
    let shop = Shop::with_tables();
    for (select, why) in [
        ("event_type IN (SELECT event_type FROM silver.events) AS again FROM silver.events", "does not support"),
        (
            "a.event_type, b.event_type FROM silver.events a JOIN silver.events b ON a.event_id = b.event_id",
            "two columns",
        ),
        ("count(*) AS n FROM silver.events PREWHERE event_type = 'a'", "PREWHERE is not answered here"),
        ("CAST(event_type AS INTEGER) AS n FROM silver.events", "Cannot cast string"),
    ] {
        shop.edit("sql/gold/kinds.sql", &format!("SELECT {select}"));
        says(&shop.fails(&["run"], 1), &["kinds.sql:1", why]);
        if !why.starts_with("Cannot cast") {
            says(&shop.fails(&["plan"], 1), &["kinds.sql:1", why]);
        }
    }
}

#[test]
fn checks_are_asked_of_the_tables() {
    let shop = Shop::with_tables();
    let with = |checks: &str| {
        shop.edit(
            "sql/gold/kinds.sql",
            &format!("-- Kinds.\n{checks}SELECT event_type, count(*) AS events FROM silver.events GROUP BY 1"),
        );
        shop.done(&["run"]);
    };
    with(
        "-- check: not_null(event_type)  fail\n-- check: unique(event_type)\n-- check: relationships(event_type, silver.events.event_type)\n-- check: events > 100000\n",
    );
    let found = shop.done(&["test", "-o", "csv"]);
    says(
        &found,
        &[
            "gold.kinds,not_null(event_type),holds,0",
            "unique(event_type),holds,0",
            "silver.events.event_type)\",holds,0",
        ],
    );
    says(&found, &["gold.kinds,events > 100000,warns,"]);
    with("-- check: events > 100000  fail\n");
    let output = shop.command(&["test", "gold.kinds", "-o", "csv"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["1 check does not hold", "hint: "]);
    shop.edit("sql/gold/kinds.sql", "-- check: nothing > 0\nSELECT event_type FROM silver.events");
    let output = shop.command(&["test"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&stderr(&output), &["gold.kinds: the check 'nothing > 0'", "there is no column 'nothing'", "1 check"]);
    shop.edit("sql/gold/kinds.sql", "-- check: a > 0  often\nSELECT event_type FROM silver.events");
    says(&shop.fails(&["test"], 1), &["kinds.sql:1", "'often' is no severity"]);
}

#[test]
fn checks_keep_rows_out_and_say_how_many() {
    let shop = Shop::with_tables();
    let with = |checks: &str| {
        let select = "SELECT event_type, count(*) AS events FROM silver.events GROUP BY 1";
        shop.edit("sql/gold/kinds.sql", &format!("-- Kinds.\n{checks}{select}"));
    };
    let last = |sql: &str| shop.done(&["query", sql, "-o", "csv"]).lines().last().unwrap().to_owned();
    with("");
    shop.done(&["run"]);
    let others = last("SELECT count(*) FROM gold.kinds WHERE event_type <> 'purchase'");
    with("-- check: event_type <> 'purchase'  drop\n-- check: events < 0   quarantine\n-- check: events > 0  fail\n");
    let plan = shop.command(&["plan", "-o", "csv"]).output().unwrap();
    let rows = String::from_utf8_lossy(&plan.stdout);
    says(&rows, &["gold.kinds,rebuild,its SQL says", "gold.kinds_quarantine,rebuild,it is new"]);
    says(&stderr(&plan), &["a run would rebuild 2 models and update 0"]);
    shop.done(&["run"]);
    says(
        &shop.done(&["test", "gold.kinds", "-o", "csv"]),
        &[
            "gold.kinds,event_type <> 'purchase',drops,,check",
            &format!("gold.kinds,events < 0,quarantines,{others},check"),
            "gold.kinds,events > 0,holds,0,check",
        ],
    );
    assert_eq!(last("SELECT count(*) FROM gold.kinds"), "0");
    let quarantined = "SELECT failed_checks, count(*) FROM gold.kinds_quarantine GROUP BY 1";
    assert_eq!(last(quarantined), format!("events < 0,{others}"));
    let expected = "[q]\nmodel = 'gold.kinds_quarantine'\ngiven.silver.events = '''\nevent_type\npurchase\npage_view\n'''\n\
                    expect = '''\nevent_type,events,failed_checks\npage_view,1,events < 0\n'''\n";
    shop.edit("sql/tests/kinds.toml", expected);
    let tried = shop.done(&["test", "--unit", "gold.kinds_quarantine", "-o", "csv"]);
    says(&tried, &["gold.kinds_quarantine,q,holds,0,unit test"]);
    shop.done(&["verify", "gold.kinds_quarantine"]);
    for (wrong, what) in [
        ("-- check: unique(event_type)  drop\n", "kinds.sql:2: unique(…) is asked of a whole table"),
        ("-- check: events > 0 quarantine\n", "kinds.sql:2: 'quarantine' is taken for a part of the check"),
        ("-- check: events > (SELECT 1)  drop\n", "kinds.sql:2: 'events > (SELECT 1)' reads more than its row"),
    ] {
        with(wrong);
        says(&shop.fails(&["run"], 1), &[what]);
    }
}

/// A receiver of alerts, which refuses the first one that comes.
fn receiver() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (told, hear) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let length = text
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split('\r').next()?.parse().ok());
                let body = text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
                if read == 0 || length.is_some_and(|length: usize| body >= length) {
                    break;
                }
            }
            let status = if number == 0 { "503 Busy" } else { "200 OK" };
            let _ = stream
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
            let text = String::from_utf8_lossy(&request).into_owned();
            if number > 0 && told.send(text.split_once("\r\n\r\n").unwrap().1.to_owned()).is_err() {
                return;
            }
        }
    });
    (url, hear)
}

/// A server that does not refresh tells that nobody does.
#[test]
fn tables_that_nobody_refreshes_are_stale() {
    let shop = Shop::with_tables();
    let (url, hear) = receiver();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    shop.edit("lakebed.toml", &format!("{toml}\n[alerts]\nwebhook = \"{url}\"\nstale_after = 1\n"));
    let served = Served::start(&shop, &[]);
    shop.done(&["ingest", shop.events(500).to_str().unwrap()]);
    let told = hear.recv_timeout(Duration::from_secs(180)).unwrap();
    says(&told, &["\"alert\":\"stale\"", "\"resolved\":false"]);
    shop.done(&["run"]);
    let told = hear.recv_timeout(Duration::from_secs(180)).unwrap();
    says(&told, &["\"alert\":\"stale\"", "\"resolved\":true"]);
    served.stop();
}

/// A burst of quarantine, a check that fails, an edit that is wrong and a sink that is away are told to a webhook and to a command,
/// again where it is busy.
#[test]
fn somebody_is_called_when_something_goes_wrong() {
    let shop = Shop::with_tables();
    let (url, hear) = receiver();
    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    shop.edit(
        "lakebed.toml",
        &format!("{toml}\n[alerts]\nwebhook = \"{url}\"\ncommand = \"cat >> alerts.json; echo >> alerts.json\"\nstale_after = 10\nquarantine_burst = 3\ncheck_every = 1\n"),
    );
    shop.edit(
        "sql/gold/kinds.sql",
        "-- check: events < 5\nSELECT event_type, count(*) AS events FROM silver.events GROUP BY 1",
    );
    let served = Served::start(&shop, &["--watch"]);
    served.post("/v1/events", &[], b"{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
    let next = || hear.recv_timeout(Duration::from_secs(180)).unwrap();
    let is_stale = |told: &String| told.contains("\"alert\":\"stale\"");
    // A machine that has other work may take so long for the tables that this is told, too.
    let other = || iter::repeat_with(next).find(|told| !is_stale(told)).unwrap();
    let mut told = [other(), other()];
    told.sort();
    says(
        &told[0],
        &[
            "\"alert\":\"check\"",
            "\"resolved\":false",
            "rows of gold.kinds fail the check 'events < 5'",
            "\"project\":\"shop\"",
        ],
    );
    says(&told[1], &["\"alert\":\"quarantine\"", "3 events went to quarantine within a minute", "\"hint\":"]);
    // The command is called beside the webhook, and may be later.
    let commanded = || fs::read_to_string(shop.path().join("alerts.json")).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(180);
    while !(commanded().contains("\"alert\"") && commanded().contains('\n')) {
        assert!(Instant::now() < until, "{}", commanded());
        thread::sleep(Duration::from_millis(50));
    }
    // An edit that is wrong, whether it is no SQL or names what is not there, and one that is right again.
    let whole = fs::read_to_string(shop.path().join("sql/gold/kinds.sql")).unwrap();
    for (wrong, why) in [("SELECT FROM WHERE", "sql/gold/kinds.sql:1"), ("SELECT nope FROM silver.events", "nope")] {
        shop.edit("sql/gold/kinds.sql", wrong);
        says(&other(), &["\"alert\":\"model\"", "\"resolved\":false", why, "go on as they were"]);
    }
    shop.edit("sql/gold/kinds.sql", &whole);
    says(&other(), &["\"alert\":\"model\"", "\"resolved\":true"]);
    served.stop();

    let toml = fs::read_to_string(shop.path().join("lakebed.toml")).unwrap();
    shop.edit("lakebed.toml", &format!("{toml}\n[postgres]\nurl = \"postgres://me@127.0.0.1:1/shop\"\n"));
    shop.edit(
        "sql/gold/kinds.sql",
        "-- sinks: postgres\nSELECT event_type, count(*) AS events FROM silver.events GROUP BY 1",
    );
    let served = Served::start(&shop, &["--watch"]);
    let stale = iter::repeat_with(next).take(10).find(|told| is_stale(told) && told.contains("postgres at ")).unwrap();
    says(&stale, &["\"resolved\":false", "postgres at 127.0.0.1:1/shop"]);
    shop.edit("sql/gold/kinds.sql", "SELECT event_type, count(*) AS events FROM silver.events GROUP BY 1");
    let over = iter::repeat_with(next).take(10).find(is_stale).unwrap();
    says(&over, &["\"resolved\":true"]);
    served.stop();
}

/// A webhook of GitHub's, as GitHub sends it: signed, and what it is in its headers.
#[test]
fn a_signed_webhook_needs_no_token() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[events]\npreset = \"github\"\n");
    let secret = "It's a Secret to Everybody";
    let served = Served::with_environment(&shop, "0.0.0.0", &[], &[("LAKEBED_SERVE_WEBHOOK_SECRET", secret)]);
    let payload = concat!(env!("CARGO_MANIFEST_DIR"), "/../ingest/tests/payloads/github_issues_opened.json");
    let body = fs::read(payload).unwrap();
    let sign = |body: &[u8]| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        hmac.update(body);
        hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let signature = format!("X-Hub-Signature-256: sha256={}", sign(&body));
    let headers =
        [signature.as_str(), "X-GitHub-Event: issues", "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958"];
    let (status, _, said) = served.post("/v1/events", &headers, &body);
    assert_eq!(status, 200, "{said}");
    says(&said, &["\"accepted\":1"]);
    says(&served.post("/v1/events", &headers, &body).2, &["\"duplicate\":1"]);
    let (status, _, said) = served.post("/v1/events", &headers, b"{}");
    assert_eq!(status, 401, "{said}");
    assert_eq!(served.post("/v1/events", &headers[1..], &body).0, 401, "neither signed nor with a token");
    served.stop();
    let rows = shop.done(&[
        "query",
        "SELECT event_id, event_type, source, issue_title, action FROM bronze.events",
        "-o",
        "csv",
    ]);
    says(&rows, &["72d3162e-cc78-11e3-81ab-4c9367dc0958,issues,webhook,", ",opened"]);
}
