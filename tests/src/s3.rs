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

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use lakebed_log::{S3Settings, Store};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::python::python;

/// The bucket that all lakes of the tests are in.
const BUCKET: &str = "lakebed-tests";

/// The largest object that a test puts.
const LARGEST: usize = 256 << 20;

/// How often the proxy misbehaves towards one lake: probabilities for each request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// For the same faults in the same order.
    pub seed: u64,
    /// The request is not passed on, and the answer is 503.
    pub fail: f64,
    /// The request is done, and the answer is 500.
    pub lose: f64,
    /// The request is passed on up to this many milliseconds late.
    pub delay_ms: u64,
}

/// The proxy's view of the lakes, by prefix.
#[derive(Debug, Default)]
struct Lakes(Mutex<HashMap<String, LakeState>>);

#[derive(Debug)]
struct LakeState {
    faults: Faults,
    dice: ChaCha8Rng,
    requests: Arc<AtomicU64>,
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

impl Bucket {
    /// A place of its own, whose requests meet these faults.
    pub fn new(faults: Faults) -> Self {
        let prefix = Uuid::new_v4().simple().to_string();
        let requests = Arc::new(AtomicU64::new(0));
        let state = LakeState { faults, dice: ChaCha8Rng::seed_from_u64(faults.seed), requests: Arc::clone(&requests) };
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

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Changes the faults from here on.
    pub fn set_faults(&self, faults: Faults) {
        let mut lakes = server().lakes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lake = lakes.get_mut(&self.prefix).expect("the lake is known");
        (lake.faults, lake.dice) = (faults, ChaCha8Rng::seed_from_u64(faults.seed));
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
        let endpoint = start_proxy(upstream, Arc::clone(&lakes));
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
fn start_proxy(upstream: String, lakes: Arc<Lakes>) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime starts").block_on(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
            sender.send(listener.local_addr().expect("it is bound")).expect("the test waits for it");
            let client = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
            let proxy = Arc::new(Proxy { upstream, client, lakes, conditional: tokio::sync::Mutex::default() });
            let app = axum::Router::new().fallback(pass).with_state(proxy);
            axum::serve(listener, app).await.expect("it serves until the process ends");
        });
    });
    format!("http://{}", receiver.recv().expect("the proxy starts"))
}

struct Proxy {
    upstream: String,
    client: reqwest::Client,
    lakes: Arc<Lakes>,
    /// Held by a conditional PUT on its way.
    conditional: tokio::sync::Mutex<()>,
}

impl Proxy {
    /// What becomes of the next request to a path or a listing.
    fn fate(&self, path_and_query: &str) -> (Duration, f64, Faults) {
        let mut lakes = self.lakes.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lake = lakes.iter_mut().find(|(prefix, _)| path_and_query.contains(prefix.as_str()));
        let Some((_, lake)) = lake else { return (Duration::ZERO, 1.0, Faults::default()) };
        lake.requests.fetch_add(1, Ordering::Relaxed);
        if lake.faults == Faults::default() {
            return (Duration::ZERO, 1.0, lake.faults);
        }
        let late = Duration::from_millis(lake.dice.random_range(0..=lake.faults.delay_ms));
        (late, lake.dice.random(), lake.faults)
    }
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let (late, fate, faults) = proxy.fate(&path);
    if !late.is_zero() {
        tokio::time::sleep(late).await;
    }
    if fate < faults.fail {
        return refusal(StatusCode::SERVICE_UNAVAILABLE);
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else { return refusal(StatusCode::BAD_REQUEST) };
    let _one_at_a_time = match parts.headers.contains_key(header::IF_NONE_MATCH) {
        true => Some(proxy.conditional.lock().await),
        false => None,
    };
    // The host stays the one that the signature is for.
    let url = format!("{}{path}", proxy.upstream);
    let sent = proxy.client.request(parts.method, url).headers(parts.headers).body(body).send().await;
    let Ok(answer) = sent else { return refusal(StatusCode::BAD_GATEWAY) };
    if fate < faults.fail + faults.lose {
        return refusal(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    let Ok(body) = answer.bytes().await else { return refusal(StatusCode::BAD_GATEWAY) };
    respond(status, headers, Body::from(body))
}

fn refusal(status: StatusCode) -> Response<Body> {
    respond(status, HeaderMap::new(), Body::empty())
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    response
}
