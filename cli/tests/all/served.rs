//! A server to ask, and to stop as an operator does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::shop::Shop;

/// Far longer than anything takes that a server is waited for, on a machine that has other work.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// A server on ports of its own; killed where a test fails.
pub(crate) struct Served {
    child: Child,
    /// What it said since it told where it listens, and who reads it: a server whose words nobody reads is held up by them.
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) flight: String,
    pub(crate) http: String,
}

impl Served {
    pub(crate) fn start(shop: &Shop, more: &[&str]) -> Self {
        Self::at(shop, "127.0.0.1", more)
    }

    /// One whose HTTP is at an address of this machine.
    pub(crate) fn at(shop: &Shop, host: &str, more: &[&str]) -> Self {
        Self::with_environment(shop, host, more, &[])
    }

    /// The same with variables of its environment.
    pub(crate) fn with_environment(shop: &Shop, host: &str, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let http = format!("{host}:0");
        let mut serve = shop.command(&[&["serve", "--flight", "127.0.0.1:0", "--http", &http], more].concat());
        let mut child =
            serve.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut flight, mut http, mut said) = (None, None, String::new());
        while flight.is_none() || http.is_none() {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            said.push_str(&line);
            let address = |scheme: &str| line.trim().split_once(scheme).map(|(_, address)| address.to_owned());
            flight = flight.or_else(|| address("grpc://")).or_else(|| address("grpc+tls://"));
            http = http.or_else(|| address("http://"));
        }
        let said = Arc::new(Mutex::new(String::new()));
        let told = Arc::clone(&said);
        let reader = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut said = told.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, said, reader: Some(reader), flight: flight.unwrap(), http: http.unwrap() }
    }

    /// What it said so far, since it told where it listens.
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said something.
    pub(crate) fn comes_to_say(&self, what: &str) {
        let began = Instant::now();
        while !self.said().contains(what) {
            assert!(began.elapsed() < LONG, "it did not say '{what}' within {LONG:?}: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a GET is answered: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(&format!("GET {path} HTTP/1.1\r\n"), b"");
        (status, body)
    }

    /// What posted events are answered: status, headers and body.
    pub(crate) fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> (u16, String, String) {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        self.ask(&format!("POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n{headers}"), body)
    }

    fn ask(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.write_all(format!("{head}Host: localhost\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        // A server that refuses may have answered before all of it came.
        let _ = stream.write_all(body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = head.to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        (status, head, body)
    }

    /// A number among the metrics.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.get("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {name}: {metrics}")).parse().unwrap()
    }

    /// The version that `/healthz` tells.
    pub(crate) fn version(&self) -> u64 {
        let (status, answer) = self.get("/healthz");
        assert_eq!(status, 200, "{answer}");
        let version = answer.split("\"version\":").nth(1).unwrap();
        version.split('}').next().unwrap().parse().unwrap()
    }

    /// Waits until a version is served.
    pub(crate) fn comes_to(&self, version: u64) {
        let began = Instant::now();
        while self.version() < version {
            assert!(began.elapsed() < LONG, "version {version} was not served within {LONG:?}: {}", self.said());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as an operator does, and gives the rest of what it said.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        // To the end of what it said.
        self.reader.take().unwrap().join().unwrap();
        let said = self.said();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

/// A body that came in pieces, each with its length before it.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = &rest[(length + 2).min(rest.len())..];
    }
    whole
}

impl Drop for Served {
    fn drop(&mut self) {
        // Not there any more, where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
