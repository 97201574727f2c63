//! A real S3 server on loopback, one for each test process, behind a proxy that can be told to misbehave.
//!
//! The server is moto's. It checks `If-None-Match` and then puts, without a lock in between, which S3 does not: the proxy
//! lets such PUTs through one after the other. With `LAKEBED_TEST_S3=http://HOST:PORT` and AWS's usual variables another
//! server is used instead, and its bucket `lakebed-tests`.

#![allow(clippy::expect_used, reason = "a test says what it expects by panicking")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lakebed_log::{S3Settings, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::python::python;

/// The bucket that all lakes of the tests are in.
const BUCKET: &str = "lakebed-tests";

/// How often the proxy misbehaves towards one lake: probabilities for each request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// For the same faults in the same order.
    pub seed: u64,
    /// The request is not passed on, and the answer is 503.
    pub fail: f64,
    /// The request is done, and the answer is 500.
    pub lose: f64,
    /// The request is done, and instead of an answer the connection ends.
    pub cut: f64,
    /// The request is passed on up to this many milliseconds late.
    pub delay_ms: u64,
    /// Only the request of this number meets them, counted from 0 since they were set.
    pub only: Option<u64>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Failed,
    Lost,
    Cut,
}

/// The connection ends here.
#[derive(Debug, thiserror::Error)]
#[error("the proxy cut the connection")]
struct Cut;

/// The proxy's view of the lakes, by prefix.
#[derive(Debug, Default)]
struct Lakes(Mutex<HashMap<String, LakeState>>);

#[derive(Debug)]
struct LakeState {
    faults: Faults,
    dice: ChaCha8Rng,
    /// Requests since the faults were set.
    since: u64,
    requests: Arc<AtomicU64>,
}

impl LakeState {
    fn set(&mut self, faults: Faults) {
        (self.faults, self.dice, self.since) = (faults, ChaCha8Rng::seed_from_u64(faults.seed), 0);
    }

    /// What becomes of the next request, and how late.
    fn next(&mut self) -> (Duration, Fate) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let number = self.since;
        self.since += 1;
        let Faults { fail, lose, cut, delay_ms, only, .. } = self.faults;
        if only.is_some_and(|only| only != number) {
            return (Duration::ZERO, Fate::Answered);
        }
        let late = Duration::from_millis(self.dice.random_range(0..=delay_ms));
        let fate = match self.dice.random::<f64>() {
            thrown if thrown < fail => Fate::Failed,
            thrown if thrown < fail + lose => Fate::Lost,
            thrown if thrown < fail + lose + cut => Fate::Cut,
            _ => Fate::Answered,
        };
        (late, fate)
    }
}

/// A server that runs, and the way to it through the proxy.
#[derive(Debug)]
struct Server {
    endpoint: String,
    lakes: Arc<Lakes>,
    /// Ends with this process, when its standard input is closed.
    _moto: Option<Child>,
}

/// A lake's place on the server.
#[derive(Debug)]
pub struct Bucket {
    prefix: String,
    requests: Arc<AtomicU64>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new()
    }
}

impl Bucket {
    /// A place of its own.
    pub fn new() -> Self {
        let prefix = Uuid::new_v4().simple().to_string();
        let requests = Arc::new(AtomicU64::new(0));
        let dice = ChaCha8Rng::seed_from_u64(0);
        let state = LakeState { faults: Faults::default(), dice, since: 0, requests: Arc::clone(&requests) };
        server().lakes.0.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.clone(), state);
        Self { prefix, requests }
    }

    /// The lake's URL.
    pub fn url(&self) -> String {
        format!("s3://{BUCKET}/{}", self.prefix)
    }

    /// How to get there.
    pub fn settings(&self) -> S3Settings {
        let other = std::env::var_os("LAKEBED_TEST_S3").is_some();
        // The keys of the server that keeps nothing secret.
        let key = || (!other).then(|| "test".to_owned());
        S3Settings {
            region: Some("us-east-1".to_owned()),
            endpoint: Some(server().endpoint.clone()),
            access_key_id: key(),
            secret_access_key: key(),
        }
    }

    /// The store, as any process would open it.
    pub fn store(&self) -> Store {
        Store::s3(&self.url(), &self.settings()).expect("the settings are whole")
    }

    /// The store of a lake below it.
    pub fn store_below(&self, name: &str) -> Store {
        Store::s3(&format!("{}/{name}", self.url()), &self.settings()).expect("the settings are whole")
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What requests meet from here on.
    pub fn set_faults(&self, faults: Faults) {
        let mut lakes = server().lakes.0.lock().unwrap_or_else(PoisonError::into_inner);
        lakes.get_mut(&self.prefix).expect("the lake is known").set(faults);
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let (upstream, moto) = match std::env::var("LAKEBED_TEST_S3") {
            Ok(other) => (other, None),
            Err(_) => {
                let (port, moto) = start_moto();
                (format!("http://127.0.0.1:{port}"), Some(moto))
            }
        };
        let lakes = Arc::new(Lakes::default());
        let endpoint = start_proxy(upstream, moto.is_some(), Arc::clone(&lakes));
        Server { endpoint, lakes, _moto: moto }
    })
}

fn start_moto() -> (u16, Child) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/s3_server.py");
    let mut command = Command::new(python().expect("the python environment of the tests is there"));
    command.arg(script).arg(BUCKET).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut moto = command.spawn().expect("the server starts");
    let mut said = BufReader::new(moto.stdout.take().expect("its output is piped"));
    let mut port = String::new();
    said.read_line(&mut port).expect("it says its port");
    (port.trim().parse().expect("a port is a number"), moto)
}

/// The proxy runs on threads of its own: the runtime of the test that came first ends before the others do.
fn start_proxy(upstream: String, one_at_a_time: bool, lakes: Arc<Lakes>) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    let conditional = one_at_a_time.then(tokio::sync::Mutex::default);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime starts").block_on(async move {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
            sender.send(listener.local_addr().expect("it is bound")).expect("the test waits for it");
            let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            let proxy = Arc::new(Proxy { upstream, client, lakes, conditional });
            loop {
                // Out of file descriptors for a moment, perhaps.
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let proxy = Arc::clone(&proxy);
                let service = service_fn(move |request| pass(Arc::clone(&proxy), request));
                // A connection that fails is its client's affair; some fail as they should.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    format!("http://{}", receiver.recv().expect("the proxy starts"))
}

struct Proxy {
    upstream: String,
    client: reqwest::Client,
    lakes: Arc<Lakes>,
    /// Held by a conditional PUT on its way to a server that needs it.
    conditional: Option<tokio::sync::Mutex<()>>,
}

impl Proxy {
    /// What becomes of the next request to a path or a listing.
    fn fate(&self, path_and_query: &str) -> (Duration, Fate) {
        let mut lakes = self.lakes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lake = lakes.iter_mut().find(|(prefix, _)| path_and_query.contains(prefix.as_str()));
        lake.map_or((Duration::ZERO, Fate::Answered), |(_, lake)| lake.next())
    }
}

async fn pass(proxy: Arc<Proxy>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    // A deletion has its paths in the body.
    let whose =
        if parts.method == Method::POST { path.clone() + &String::from_utf8_lossy(&body) } else { path.clone() };
    let (late, fate) = proxy.fate(&whose);
    if !late.is_zero() {
        tokio::time::sleep(late).await;
    }
    if fate == Fate::Failed {
        return Ok(respond(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), Bytes::new()));
    }
    let _one_at_a_time = match &proxy.conditional {
        Some(turn) if parts.headers.contains_key(header::IF_NONE_MATCH) => Some(turn.lock().await),
        _ => None,
    };
    // The host stays the one that the signature is for.
    let url = format!("{}{path}", proxy.upstream);
    let sent = proxy.client.request(parts.method, url).headers(parts.headers).body(body).send().await;
    let answer = sent.map_err(|_| Cut)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|_| Cut)?;
    match fate {
        Fate::Cut => Err(Cut),
        Fate::Lost => Ok(respond(StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new(), Bytes::new())),
        _ => Ok(respond(status, headers, body)),
    }
}

fn respond(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    response
}
