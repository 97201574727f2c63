//! The clients that people have, on a lake that is served and published.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use lakebed_tests::python::python;

use crate::shop::Shop;

/// A server on ports of its own; killed where a test fails.
struct Served {
    child: Child,
    stderr: BufReader<ChildStderr>,
    flight: String,
    http: String,
}

impl Served {
    fn start(shop: &Shop, more: &[&str]) -> Self {
        let mut serve = shop.command(&[&["serve", "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"], more].concat());
        let mut child = serve.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut flight, mut http, mut said) = (None, None, String::new());
        while flight.is_none() || http.is_none() {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            said.push_str(&line);
            let address = |scheme: &str| line.trim().split_once(scheme).map(|(_, address)| address.to_owned());
            flight = flight.or_else(|| address("grpc://"));
            http = http.or_else(|| address("http://"));
        }
        Self { child, stderr, flight: flight.unwrap(), http: http.unwrap() }
    }

    /// The version that `/healthz` tells.
    fn version(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let version = answer.split("\"version\":").nth(1).unwrap();
        version.split('}').next().unwrap().parse().unwrap()
    }

    /// Waits until a version is served.
    fn comes_to(&self, version: u64) {
        let began = Instant::now();
        while self.version() < version {
            assert!(began.elapsed() < Duration::from_secs(60), "version {version} was not served within a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as an operator does, and gives the rest of what it said.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Not there any more, where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(script: &str, arguments: &[&str]) -> String {
    let scripts: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python");
    let output = Command::new(python().unwrap()).arg(scripts.join(script)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn adbc_and_pyarrow_list_and_query() {
    let shop = Shop::with_tables();
    let served = Served::start(&shop, &[]);
    let (host, port) = served.flight.rsplit_once(':').unwrap();
    let said = client("flight_clients.py", &[host, port]);
    assert!(said.contains("gold.revenue") && said.lines().count() > 60, "{said}");
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
    served.stop();
    let rows = shop.done(&["query", "SELECT count(*) FROM silver.events", "-o", "csv"]);
    assert_eq!(rows.lines().last(), Some("400"), "the server refreshed the tables, and the stretches begin alike");
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
