//! Events posted to a server: what senders are answered, and what is in the log afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use flate2::write::GzEncoder;

use crate::served::Served;
use crate::shop::{Shop, says};

const PATH: &str = "/v1/events";

fn event(id: &str) -> String {
    format!(r#"{{"event_id":"{id}","event_type":"view","event_time":"2026-11-01T00:00:00Z"}}"#)
}

/// Every metric that a server has is in the documents, with the words that it has itself.
fn assert_documented(metrics: &str) {
    let documented = include_str!("../../../docs/operating.md");
    let helps: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    assert!(helps.len() > 5, "{metrics}");
    for (name, help) in helps {
        let is_told = |line: &str| line.starts_with(&format!("| `{name}")) && line.ends_with(&format!("` | {help} |"));
        assert!(documented.lines().any(is_told), "docs/operating.md does not say of {name}: {help}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn every_form_is_taken_and_a_retry_is_not_taken_twice() {
    let shop = Shop::new();
    let served = Served::start(&shop, &[]);
    let lines = format!("{}\n{}\nnot json\n", event("a"), event("b"));
    let (status, _, body) = served.post(PATH, &[], lines.as_bytes());
    assert_eq!(status, 200, "{body}");
    says(&body, &[r#""accepted":2,"quarantined":1,"duplicate":0,"version":1"#, r#"{"position":2,"reason":"not JSON"#]);
    let (status, _, body) = served.post(PATH, &[], lines.as_bytes());
    assert_eq!(status, 200, "{body}");
    says(&body, &[r#""accepted":0,"quarantined":0,"duplicate":3,"version":1"#]);

    let array = format!("[{}, {}]", event("c"), event("d"));
    let key = ["Idempotency-Key: \"order-7\"", "Content-Encoding: gzip", "Content-Type: application/json"];
    says(&served.post(PATH, &key, &gzip(&array)).2, &[r#""accepted":2"#]);
    let (status, _, body) = served.post(PATH, &["Idempotency-Key: order-7"], array.as_bytes());
    says(&body, &[r#""duplicate":2"#]);
    assert_eq!(status, 200, "the same batch, without its compression");
    let (status, _, body) = served.post(PATH, &["Idempotency-Key: order-7"], event("e").as_bytes());
    assert_eq!(status, 409, "{body}");
    says(&body, &["batch 'order-7' is in the log already with other content", "\"hint\":"]);

    let zstd = zstd::encode_all(event("e").as_bytes(), 1).unwrap();
    let (status, _, body) = served.post(&format!("{PATH}?ack=durable"), &["Content-Encoding: zstd"], &zstd);
    assert_eq!(status, 202, "{body}");
    says(&body, &[r#""accepted":1,"quarantined":0,"duplicate":0,"version":null"#]);
    let (_, metrics) = served.get("/metrics");
    says(
        &metrics,
        &[
            "lakebed_ingest_events_total{result=\"accepted\"} 5",
            "lakebed_ingest_events_total{result=\"duplicate\"} 5",
            "lakebed_ingest_requests_total{status=\"409\"} 1",
        ],
    );
    assert_documented(&metrics);
    served.stop();
    shop.done(&["log", "recover"]);
    assert_eq!(shop.count(), r#"[{"n":5}]"#);
    let sources = shop.done(&["query", "SELECT DISTINCT source FROM bronze.events", "-o", "csv"]);
    assert_eq!(sources.lines().last(), Some("http"));
}

#[test]
fn what_cannot_be_taken_is_refused_whole_and_with_its_place() {
    let shop = Shop::new();
    shop.edit("lakebed.toml", "[project]\nname = \"shop\"\n[serve]\nmax_body_bytes = 2000\n");
    let served = Served::start(&shop, &[]);
    let refused = |headers: &[&str], body: &[u8], status: u16, parts: &[&str]| {
        let (answered, _, said) = served.post(PATH, headers, body);
        assert_eq!(answered, status, "{said}");
        says(&said, parts);
        says(&said, &["\"error\":", "\"hint\":"]);
    };
    refused(&[], b"<html>\n", 400, &["the body is no JSON: expected value at line 1 column 1"]);
    let cut = format!("[{},\n {},\n {{\"event_id\":", event("a"), event("b"));
    refused(&[], cut.as_bytes(), 400, &["EOF while parsing", "line 3 column 13", "nothing of this body was taken"]);
    refused(&[], format!("[{},", event("a")).as_bytes(), 400, &["EOF while parsing", "line 1 column"]);
    let two = format!("\n{} {}\n", event("a"), event("b"));
    refused(&[], two.as_bytes(), 400, &["trailing characters at line 2 column"]);
    refused(&[], &gzip(&event("a"))[..30], 400, &["its gzip data is damaged or cut off"]);
    refused(&["Content-Encoding: br"], event("a").as_bytes(), 415, &["Content-Encoding is 'br'"]);
    refused(&["Idempotency-Key:"], event("a").as_bytes(), 400, &["Idempotency-Key has 0 bytes"]);
    refused(&[], &vec![b' '; 2001], 413, &["more than 2000 bytes"]);
    refused(&[], &gzip(&" ".repeat(3000)), 413, &["more than 2000 bytes"]);
    let chunked = |chunk: &str| format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let mut stream = TcpStream::connect(&served.http).unwrap();
    let head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{head}{}", chunked(&"x".repeat(2001))).as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let (status, _, said) = served.post("/v1/events?ack=never", &[], event("a").as_bytes());
    assert_eq!(status, 400, "{said}");
    says(&said, &["ack is 'never'"]);
    let (status, _, said) = served.post("/v1/events?ack=durable&ack=committed", &[], event("a").as_bytes());
    assert_eq!(status, 400, "{said}");
    says(&said, &["\"error\":", "duplicate field"]);
    assert_eq!(served.get(PATH).0, 405);
    refused(&["Origin: https://example.org"], event("a").as_bytes(), 403, &["a browser needs a token"]);
    refused(&["Authorization: Bearer lakebed_guess"], event("a").as_bytes(), 401, &["nobody has this token"]);
    refused(&["Authorization: Basic eDp5"], event("a").as_bytes(), 401, &["no bearer token"]);
    let (status, _, said) = served.post(PATH, &[], b"");
    assert_eq!(status, 200, "{said}");
    says(&said, &[r#""accepted":0"#]);
    assert_eq!(shop.count(), r#"[{"n":0}]"#, "nothing of all that is in the log");
    served.stop();
}

/// What others can reach takes events from those alone who have a token.
#[test]
fn off_loopback_a_token_is_needed() {
    let shop = Shop::new();
    let secret = shop.done(&["token", "add", "web-shop", "--source", "web"]);
    let secret = secret.trim();
    let list = shop.done(&["token", "list", "-o", "csv"]);
    says(&list, &["web-shop,web,"]);
    assert!(!list.contains(secret), "{list}");
    says(&shop.fails(&["token", "add", "web-shop"], 1), &["there is a token 'web-shop' already"]);
    for name in ["a/b", "http", "sqs"] {
        says(&shop.fails(&["token", "add", name], 1), &["no token can be called", "without a slash"]);
    }
    let served = Served::at(&shop, "0.0.0.0", &[]);
    let (status, head, said) = served.post(PATH, &[], event("a").as_bytes());
    assert_eq!(status, 401, "{said}");
    says(&head, &["www-authenticate: bearer"]);
    let bearer = format!("Authorization: Bearer {secret}");
    let (status, _, said) = served.post(PATH, &[&bearer], event("a").as_bytes());
    assert_eq!(status, 200, "{said}");
    let rows = shop.done(&["query", "SELECT source FROM bronze.events", "-o", "csv"]);
    assert_eq!(rows.lines().last(), Some("web"));
    shop.done(&["token", "remove", "web-shop"]);
    says(&shop.fails(&["token", "remove", "web-shop"], 1), &["there is no token 'web-shop'"]);
    thread::sleep(Duration::from_secs(11));
    assert_eq!(served.post(PATH, &[&bearer], event("b").as_bytes()).0, 401);
    let said = served.stop();
    assert!(!said.contains(secret), "{said}");
}

/// Senders that come together share commits, and each is told of a version that has its events.
#[test]
fn many_senders_share_commits() {
    let shop = Shop::new();
    let served = Served::start(&shop, &[]);
    let senders = 24;
    thread::scope(|scope| {
        let post = |sender: usize| {
            let body: Vec<_> = (0..10).map(|number| event(&format!("{sender}-{number}"))).collect();
            let (status, _, said) = served.post(PATH, &[], body.join("\n").as_bytes());
            assert_eq!(status, 200, "{said}");
            says(&said, &[r#""accepted":10"#]);
        };
        for sender in 0..senders {
            scope.spawn(move || post(sender));
        }
    });
    served.stop();
    assert_eq!(shop.count(), format!(r#"[{{"n":{}}}]"#, senders * 10));
    let versions = shop.done(&["log", "show", "-o", "csv"]).lines().count() - 2;
    assert!(versions < senders, "{senders} posts took {versions} versions");
}

/// What comes while a refresh is under way is refreshed after it, also where nothing comes any more.
#[test]
fn the_last_events_are_served_too() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    for round in 0..6 {
        let newest = thread::scope(|scope| {
            let post = |sender: usize| {
                let versions = (0..5).map(|number| {
                    let (status, _, said) =
                        served.post(PATH, &[], event(&format!("{round}-{sender}-{number}")).as_bytes());
                    assert_eq!(status, 200, "{said}");
                    said.split("\"version\":").nth(1).unwrap().trim_end_matches('}').parse::<u64>().unwrap()
                });
                versions.max().unwrap()
            };
            let senders: Vec<_> = (0..4).map(|sender| scope.spawn(move || post(sender))).collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).max().unwrap()
        });
        served.comes_to(newest);
    }
    served.stop();
}

/// Whoever sends without a token is not in the way of who has one, nor of a queue.
#[test]
fn names_of_batches_are_their_senders() {
    let shop = Shop::new();
    let secret = shop.done(&["token", "add", "web-shop"]);
    let served = Served::start(&shop, &[]);
    let bearer = format!("Authorization: Bearer {}", secret.trim());
    for (headers, id) in [
        (vec!["Idempotency-Key: web-shop/order-9"], "a"),
        (vec!["Idempotency-Key: order-9", bearer.as_str()], "b"),
        (vec!["Idempotency-Key: order-9"], "c"),
        (vec!["Idempotency-Key: sqs/order-9"], "d"),
    ] {
        let (status, _, said) = served.post(PATH, &headers, event(id).as_bytes());
        assert_eq!(status, 200, "{said}");
        says(&said, &[r#""accepted":1"#]);
    }
    served.stop();
    let names = shop.done(&["query", "SELECT _batch_id FROM bronze.events ORDER BY event_id", "-o", "csv"]);
    let names: Vec<&str> = names.lines().skip(1).collect();
    assert_eq!(names, ["http/web-shop/order-9", "web-shop/order-9", "order-9", "http/sqs/order-9"]);
}

/// What is durable comes into the tables, also where nobody sends anything after it.
#[test]
fn durable_events_are_served_too() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &["--watch"]);
    let before = served.version();
    let (status, _, said) = served.post("/v1/events?ack=durable", &[], event("d").as_bytes());
    assert_eq!(status, 202, "{said}");
    served.comes_to(before + 1);
    served.stop();
}

/// A body that is let in is taken, however much it is once it is decoded.
#[test]
fn what_is_more_when_it_is_decoded_is_taken() {
    let shop = Shop::new();
    let limits = "max_body_bytes = 1000000\ningest_memory = 1048576";
    shop.edit("lakebed.toml", &format!("[project]\nname = \"shop\"\n[serve]\n{limits}\n"));
    let served = Served::start(&shop, &[]);
    let wide: Vec<_> = (0..500).map(|column| format!(r#""c{column}":{column}"#)).collect();
    let first = event("first").replacen('{', &format!("{{{},", wide.join(",")), 1);
    let others = (0..5_000).map(|number| event(&number.to_string()));
    let body = std::iter::once(first).chain(others).collect::<Vec<_>>().join("\n");
    let (status, _, said) = served.post(PATH, &[], body.as_bytes());
    assert_eq!(status, 200, "{said}");
    says(&said, &[r#""accepted":5001"#]);
    // Those who wait for one another's room all come to an end.
    thread::scope(|scope| {
        for sender in 0..12 {
            let (served, body) = (&served, &body);
            scope.spawn(move || {
                let small = event(&format!("small-{sender}"));
                let body = if sender % 3 == 0 { body.as_bytes() } else { small.as_bytes() };
                let (status, _, said) = served.post(PATH, &[], body);
                assert!(status == 200 || status == 429, "{said}");
            });
        }
    });
    assert_eq!(served.post(PATH, &[], event("last").as_bytes()).0, 200);
    served.stop();
}

/// Bodies that arrive slowly hold the memory that there is; whoever comes then is asked to come again, and then taken.
#[test]
fn under_pressure_senders_are_asked_to_come_again() {
    let shop = Shop::new();
    shop.edit(
        "lakebed.toml",
        "[project]\nname = \"shop\"\n[serve]\nmax_body_bytes = 1000000\ningest_memory = 1048576\n",
    );
    let served = Served::start(&shop, &[]);
    let mut slow = TcpStream::connect(&served.http).unwrap();
    let long = format!("{}\n{}", " ".repeat(995_000), event("slow"));
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        long.len()
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(&long.as_bytes()[..1000]).unwrap();
    let body = format!("{}{}", " ".repeat(60_000), event("next"));
    let refused = (0..1_000).find_map(|_| {
        // The first may come before the slow one's head was read.
        thread::sleep(Duration::from_millis(50));
        Some(served.post(PATH, &[], body.as_bytes())).filter(|(status, ..)| *status != 200)
    });
    let (status, head, said) = refused.unwrap();
    assert_eq!(status, 429, "{said}");
    says(&head, &["retry-after: 1"]);
    slow.write_all(&long.as_bytes()[1000..]).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(served.post(PATH, &[], body.as_bytes()).0, 200);
    served.stop();
    let ids = shop.done(&["query", "SELECT event_id FROM bronze.events ORDER BY 1", "-o", "csv"]);
    assert_eq!(ids.lines().skip(1).collect::<Vec<_>>(), ["next", "slow"]);
    assert!(fs::read_dir(shop.path().join("lake/events/_inbox")).map_or(true, |mut left| left.next().is_none()));
}
