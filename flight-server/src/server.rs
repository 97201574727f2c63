//! From addresses to a running server: bind, serve, end cleanly.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::StreamExt;
use lakebed_project::Users;
use lakebed_query::{Policies, ReadSession, Versions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::admission::{Admission, Limits};
use crate::calls::Answering;
use crate::connections::Numbered;
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::handles::Key;
use crate::http;
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::plans::Plans;
use crate::readers::Readers;
use crate::runtime::QueryRuntime;
use crate::service::{LakeService, Shared};
use crate::session_options::Sessions;
use crate::sql::Door;
use crate::statements::Statements;

/// How long streams under way may go on after a shutdown began.
const GRACE: Duration = Duration::from_secs(5);
/// How long connections have after that to tell their clients that the result broke off.
const BREAK_OFF: Duration = Duration::from_millis(500);

/// HTTP/2 pings find clients that went away without a word; proxies close what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client may send before it waits for us. The default, 64 KiB, makes an upload crawl over a long line.
const RECEIVE_WINDOW: u32 = 8 << 20;
/// Calls that one connection may have under way: whoever has more waits with them, and one that never ends what it asks holds no more.
const MOST_CALLS: u32 = 256;
/// Who connects has so long to agree on TLS.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// The largest message sent out. Results are cut to 2 MiB, but a single huge value cannot be cut.
const MOST_SENT: usize = i32::MAX as usize;

/// Where to listen; port 0 is any free one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Flight SQL.
    pub flight: Option<SocketAddr>,
    /// Statements, the console, `/healthz` and `/metrics`, and the routes of other rooms.
    pub http: Option<SocketAddr>,
}

/// What a server answers from.
#[derive(Clone)]
pub struct Served {
    /// The lake as of the newest refresh.
    pub session: Arc<ReadSession>,
    /// Where other versions are.
    pub versions: Arc<dyn Versions>,
}

/// A server that is bound and not yet serving: clients can connect, and wait.
pub struct Server {
    flight: Option<Listener>,
    http: Option<Listener>,
    runtime: QueryRuntime,
    shared: Arc<Shared>,
    routes: Router,
    tls: Option<Tls>,
    pub(crate) grace: Duration,
    pub(crate) tls_handshake: Duration,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// What a server is given besides its addresses and its lake.
pub struct Options {
    /// What signs that which clients carry from one call to the next.
    pub key: Key,
    /// What statements may cost.
    pub limits: Limits,
    /// Who may ask.
    pub users: Users,
    /// Who reads what.
    pub policies: Policies,
    /// What Flight SQL is spoken over with TLS, if it is.
    pub tls: Option<Tls>,
    /// A proxy before it speaks TLS with the clients.
    pub behind_tls_proxy: bool,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, and the chain behind it.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
    /// Who signs the certificates that clients have to show, where they have to.
    pub client_ca: Option<Vec<u8>>,
}

/// Whether Flight SQL may listen there: beyond loopback there have to be users, and TLS for their passwords.
///
/// # Errors
/// [`Error::NoUsers`] and [`Error::NoTls`] for an address that others can reach.
pub fn check_flight(address: SocketAddr, has_users: bool, has_tls: bool) -> Result<()> {
    match address.ip().to_canonical().is_loopback() {
        true => Ok(()),
        false if !has_users => Err(Error::NoUsers { address }),
        false if !has_tls => Err(Error::NoTls { address }),
        false => Ok(()),
    }
}

impl Server {
    /// Listens on `addresses` for questions about the newest session of `lake`.
    ///
    /// # Errors
    /// As [`check_flight`]; [`Error::Users`] where the users cannot be read, [`Error::Bind`] for one that is taken,
    /// [`Error::QueryThreads`] where the system gives no threads.
    pub async fn bind(addresses: Addresses, lake: watch::Receiver<Served>, options: Options) -> Result<Self> {
        let Options { key, limits, users, policies, tls, behind_tls_proxy } = options;
        if let Some(address) = addresses.flight {
            check_flight(address, users.are_there()?, tls.is_some() || behind_tls_proxy)?;
        }
        let is_reachable = addresses.flight.is_some_and(|address| !address.ip().to_canonical().is_loopback());
        let flight = listen(addresses.flight).await?;
        let http = listen(addresses.http).await?;
        let runtime = QueryRuntime::start()?;
        let metrics = Arc::new(Metrics::new()?);
        metrics.serve_version(lake.borrow().session.version());
        let admission = Arc::new(Admission::new(limits));
        let (running, waiting) = (Arc::clone(&admission), Arc::clone(&admission));
        let help = "Statements that are being computed";
        metrics.gauge("lakebed_queries_running", help, move || running.running() as f64)?;
        let help = "Statements that wait for their turn";
        metrics.gauge("lakebed_queries_waiting", help, move || waiting.waiting() as f64)?;
        let readers = Readers::new(lake.clone(), policies, runtime.threads());
        let shared = Shared {
            statements: Statements::new(Plans::new(readers, runtime.threads()), key.clone()),
            gate: Gate::new(users, key, is_reachable || behind_tls_proxy),
            // Behind a proxy a connection is of many clients, and those that keep no cookies cannot be told apart.
            sessions: Sessions::new(!behind_tls_proxy),
            metadata: Metadata::new()?,
            metrics,
            threads: runtime.threads(),
            admission,
            lake,
        };
        let (shared, routes) = (Arc::new(shared), Router::new());
        Ok(Self { flight, http, runtime, shared, routes, tls, grace: GRACE, tls_handshake: TLS_HANDSHAKE })
    }

    /// Where Flight SQL is answered, with the real port.
    pub fn flight_address(&self) -> Option<SocketAddr> {
        self.flight.as_ref().map(|listener| listener.address)
    }

    /// Where HTTP is answered, with the real port.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|listener| listener.address)
    }

    /// What the server counts; other rooms of the process add to its registry.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Answers more over HTTP than the server does by itself.
    #[must_use]
    pub fn with_routes(self, routes: Router) -> Self {
        Self { routes: self.routes.merge(routes), ..self }
    }

    /// Answers until `shutdown` resolves, then takes no new connections, lets running streams end for five
    /// seconds, breaks off the rest with UNAVAILABLE and returns.
    ///
    /// # Errors
    /// [`Error::Flight`] and [`Error::Http`] where a listener fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self { flight, http, runtime, shared, routes, tls, grace, tls_handshake } = self;
        let tls = tls.map(|tls| (tls, tls_handshake));
        let (stop, stopped) = watch::channel(false);
        let serving = async {
            let flight = serve_flight(flight, Arc::clone(&shared), tls, ended(stopped.clone()));
            let http = serve_http(http, Arc::clone(&shared), routes, ended(stopped));
            tokio::try_join!(flight, http).map(|_| ())
        };
        tokio::pin!(serving);
        tokio::select! {
            failed = &mut serving => return failed,
            () = follow(&shared) => {}
            () = shutdown => {}
        }
        stop.send_replace(true);
        if let Ok(done) = timeout(grace, &mut serving).await {
            return done;
        }
        tracing::warn!("results were still being read after {grace:?}; they are broken off");
        drop(runtime);
        timeout(BREAK_OFF, serving).await.unwrap_or(Ok(()))
    }
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<Listener>> {
    let Some(address) = address else { return Ok(None) };
    let failed = |source| Error::Bind { address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Some(Listener { socket, address }))
}

async fn serve_flight(
    listener: Option<Listener>,
    shared: Arc<Shared>,
    tls: Option<(Tls, Duration)>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let Some(listener) = listener else {
        stopped.await;
        return Ok(());
    };
    let service = Answering::new(LakeService(shared), MOST_SENT);
    let incoming = TcpIncoming::from(listener.socket).with_nodelay(Some(true));
    let incoming = incoming.map(|stream| stream.map(Numbered::new));
    let mut server = tonic::transport::Server::builder();
    if let Some((Tls { certificate, key, client_ca }, handshake)) = tls {
        // Other libraries of the process bring another; without a word rustls takes neither. One that was chosen before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(handshake);
        let config = match client_ca {
            Some(ca) => config.client_ca_root(Certificate::from_pem(ca)),
            None => config,
        };
        server = server.tls_config(config).map_err(Error::Tls)?;
    }
    let server = server
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(MOST_CALLS)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .initial_connection_window_size(RECEIVE_WINDOW)
        .add_service(service);
    Ok(server.serve_with_incoming_shutdown(incoming, stopped).await?)
}

async fn serve_http(
    listener: Option<Listener>,
    shared: Arc<Shared>,
    routes: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let Some(listener) = listener else {
        stopped.await;
        return Ok(());
    };
    let door = Door { shared, is_open: !listener.address.ip().to_canonical().is_loopback() };
    http::serve(listener.socket, door, routes, stopped).await
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has also stopped.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Keeps count of the version served, and lets go of what only an older one needed. Never returns.
async fn follow(shared: &Shared) {
    let mut lake = shared.lake.clone();
    loop {
        let session = Arc::clone(&lake.borrow_and_update().session);
        shared.metrics.serve_version(session.version());
        shared.statements.plans.forget_before(&session);
        drop(session);
        if lake.changed().await.is_err() {
            // Nobody refreshes the lake any more; what it was is still served.
            std::future::pending::<()>().await;
        }
    }
}
