//! The console: which files are given to whom, with what a browser is told to do with them, and what its page may ask.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lakebed_project::Users;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::lake::{Polls, lake, lake_with_polls};
use super::{Running, eventually, standing};
use crate::Limits;

/// Bytes of all files together: a page that is there at once.
const MOST_BYTES: usize = 64 << 10;
const MOST_LINES: usize = 400;

/// What is answered: status, headers with names in small letters, and body.
async fn answered(server: &Running, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{request} HTTP/1.0\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let mut connection = TcpStream::connect(server.http).await.unwrap();
    connection.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

/// What is answered to a statement of a page at `origin`, at the name `host` of the server.
async fn asked_by(server: &Running, host: &str, origin: &str) -> (u16, String) {
    let headers = [("Host", host), ("Origin", origin)];
    let (status, _, body) = answered(server, "POST /v1/sql", &headers, "SELECT 1 AS a").await;
    (status, body)
}

/// Names and texts of the files that are to be served.
fn files() -> Vec<(String, String)> {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("console")).unwrap();
    let file = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
    };
    entries.map(|entry| file(entry.unwrap().path())).collect()
}

fn path_of(name: &str) -> String {
    if name == "index.html" { "/".to_owned() } else { format!("/console/{name}") }
}

#[tokio::test]
async fn every_file_is_given_with_what_a_browser_is_to_do_with_it() {
    let server = Running::start(lake(1, 0)).await;
    for (name, text) in files() {
        let path = path_of(&name);
        let (status, head, body) = answered(&server, &format!("GET {path}"), &[], "").await;
        assert_eq!((status, body), (200, text), "{path}");
        let media = match name.rsplit_once('.').unwrap().1 {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            other => panic!("{other} has no media type"),
        };
        for line in [
            &format!("content-type: {media}\r\n"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' \
             data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; ",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-cache\r\n",
        ] {
            assert!(head.contains(line), "{path} lacks {line}: {head}");
        }
        assert!(!head.contains("access-control-"), "{path} is for no other site: {head}");
        // A head alone has the same headers.
        let (status, alone, body) = answered(&server, &format!("HEAD {path}"), &[], "").await;
        let but_date =
            |head: &str| head.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
        assert_eq!((status, but_date(&alone), body.as_str()), (200, but_date(&head), ""), "{path}");
        // Who has it is told that it is the same.
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        for (known, status) in [(tag, 304), (&*format!("\"x\", W/{tag}"), 304), ("\"x\"", 200)] {
            let (answered, head, body) =
                answered(&server, &format!("GET {path}"), &[("If-None-Match", known)], "").await;
            assert_eq!(answered, status, "{path} {known}");
            assert_eq!(body.is_empty(), status == 304, "{path} {known}");
            assert!(head.contains(&format!("etag: {tag}")) && head.contains("content-security-policy"), "{head}");
        }
    }
}

#[tokio::test]
async fn there_is_nothing_else() {
    let server = Running::start(lake(1, 0)).await;
    for path in
        ["/console", "/console/", "/console/nothing.js", "/console/index.html", "/console/../lib.rs", "/index.html"]
    {
        assert_eq!(answered(&server, &format!("GET {path}"), &[], "").await.0, 404, "{path}");
    }
    for request in ["POST /", "PUT /console/main.js", "DELETE /"] {
        assert_eq!(answered(&server, request, &[], "").await.0, 405, "{request}");
    }
}

/// As much is read as the code of the server is, and as little is loaded.
#[test]
fn the_files_are_small_and_load_each_other_alone() {
    let files = files();
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for (name, text) in &files {
        assert!(text.lines().count() < MOST_LINES, "{name} has {} lines", text.lines().count());
        let begin = text.strip_prefix("<!doctype html>\n").unwrap_or(text);
        assert!(["// ", "/* ", "<!-- "].iter().any(|comment| begin.starts_with(comment)), "{name} says what it is for");
        for load in ["\nimport \"", "} from \"", "import(", "src=\"", "href=\"", "url("] {
            for (target, _) in text.split(load).skip(1).filter_map(|rest| rest.split_once(['"', ')'])) {
                let own = target.strip_prefix("./").or(target.strip_prefix("console/"));
                let is_known = own.is_some_and(|own| names.contains(own)) || target.starts_with("data:");
                assert!(is_known || ["metrics", "healthz"].contains(&target), "{name} loads {target}");
            }
        }
        for elsewhere in ["innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", " style=\"", " onclick="] {
            assert!(!text.contains(elsewhere), "{name} has {elsewhere}");
        }
    }
}

#[tokio::test]
async fn the_servers_own_page_may_ask_and_no_other() {
    let server = Running::start(lake(1, 1)).await;
    let port = server.http.port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let host = format!("{host}:{port}");
        assert_eq!(asked_by(&server, &host, &format!("http://{host}")).await.0, 200, "{host}");
    }
    let here = format!("127.0.0.1:{port}");
    for (host, origin) in [
        (here.as_str(), "https://elsewhere.example"),
        (&here, "http://127.0.0.1:1"),
        (&here, &format!("http://localhost:{port}")),
        (&here, &format!("https://{here}")),
        (&here, "null"),
        // A name of somebody's own that leads here: its pages are of this origin.
        (&format!("rebound.example:{port}"), &format!("http://rebound.example:{port}")),
    ] {
        let (status, said) = asked_by(&server, host, origin).await;
        assert_eq!(status, 403, "{host} {origin}: {said}");
        assert!(said.contains("not to other web pages"), "{said}");
    }
}

#[tokio::test]
async fn users_log_in_by_a_page_that_knows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lakebed.toml"), "").unwrap();
    Users::of(directory.path()).set_password("ana", "a password").unwrap();
    let server = Running::of_project(directory.path(), lake(1, 1), Limits::default(), |_| ()).await;
    for (name, text) in files() {
        assert_eq!(
            answered(&server, &format!("GET {}", path_of(&name)), &[], "").await.2,
            text,
            "the same for everybody"
        );
    }
    let ask = async |authorization: &str| {
        let headers = [("Host", "localhost"), ("Origin", "http://localhost"), ("Authorization", authorization)];
        answered(&server, "POST /v1/sql", &headers[..if authorization.is_empty() { 2 } else { 3 }], "SELECT 1 AS a")
            .await
    };
    let (status, head, _) = ask("").await;
    assert!(status == 401 && !head.contains("\r\nauthorization: "), "{head}");
    assert_eq!(ask(&format!("Basic {}", STANDARD.encode("ana:a passwort"))).await.0, 401);
    // What is given for the password is used in its place.
    let login = format!("Basic {}", STANDARD.encode("ana:a password"));
    let (status, head, _) = answered(&server, "POST /v1/sql", &[("Authorization", &login)], "SELECT 1 AS a").await;
    assert_eq!(status, 200, "{head}");
    let bearer = head.lines().find_map(|line| line.strip_prefix("authorization: ")).expect("it gives a bearer");
    let (status, head, body) = ask(bearer).await;
    assert_eq!((status, body.trim()), (200, r#"[{"a":1}]"#));
    assert!(!head.contains("\r\nauthorization: "), "it is not old yet: {head}");
}

/// Who cancels, and who has as many rows as the page shows.
#[tokio::test]
async fn what_is_not_read_on_is_not_computed_on() {
    let polls = Polls::default();
    let server = Running::start(lake_with_polls(1, 0, Arc::clone(&polls))).await;
    // One answer with rows all the time, one that would never have any.
    for (sql, is_answered) in
        [("SELECT n FROM gold.endless", true), ("SELECT count(*) FROM gold.endless WHERE n % 2 = 0", false)]
    {
        let before = polls.load(Ordering::SeqCst);
        let mut connection = TcpStream::connect(server.http).await.unwrap();
        let head =
            format!("POST /v1/sql?format=arrow HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", sql.len());
        connection.write_all(format!("{head}{sql}").as_bytes()).await.unwrap();
        if is_answered {
            let mut begin = [0; 12];
            connection.read_exact(&mut begin).await.unwrap();
            assert_eq!(&begin, b"HTTP/1.1 200");
        }
        eventually("the plan runs", || polls.load(Ordering::SeqCst) > before).await;
        drop(connection);
        eventually("it is over", || server.metrics.text().unwrap().contains("lakebed_queries_running 0")).await;
        standing(sql, &polls, Duration::from_millis(300)).await;
    }
}
