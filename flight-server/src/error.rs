//! What can keep the server from starting or running; what goes wrong inside a request is a gRPC status instead.

use std::net::SocketAddr;

/// The result of this room's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of this room. `Display` is one sentence; [`Error::hint`] says what to do, if there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that others could reach, while there is no login to hold them back.
    #[error("flight cannot listen on {address}: there are no users yet, and the address is not a loopback one")]
    NoUsers {
        /// As it was asked for.
        address: SocketAddr,
    },
    /// An address that others could reach, and passwords that everybody on the way could read.
    #[error("flight cannot listen on {address} without TLS: passwords would be readable on the way")]
    NoTls {
        /// As it was asked for.
        address: SocketAddr,
    },
    /// The users of the project could not be read.
    #[error(transparent)]
    Users(#[from] lakebed_project::Error),
    /// A certificate and a key that do not fit.
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// An address that the system did not give.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As it was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The threads that run the statements could not be started.
    #[error("cannot start the query threads: {0}")]
    QueryThreads(std::io::Error),
    /// A metric that could not be registered.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The Flight listener stopped.
    #[error("the flight listener stopped: {0}")]
    Flight(#[from] tonic::transport::Error),
    /// The HTTP listener stopped.
    #[error("the http listener stopped: {0}")]
    Http(std::io::Error),
    /// The fixed tables about the server itself could not be built.
    #[error("cannot describe the server to its clients: {0}")]
    Description(#[from] arrow_flight::error::FlightError),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoUsers { address } => Some(format!(
                "add one with `lakebed user add NAME`, or listen on 127.0.0.1:{port} and reach it through a tunnel, for example \
                 ssh -L {port}:127.0.0.1:{port}",
                port = address.port()
            )),
            Self::NoTls { .. } => Some(
                "set [serve] tls_cert and tls_key, or behind_tls_proxy = \"on\" where a proxy speaks TLS with the clients"
                    .to_owned(),
            ),
            Self::Users(error) => error.hint(),
            Self::Tls(_) => Some("[serve] tls_cert and tls_key are PEM files that belong together".to_owned()),
            Self::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
                Some("another process listens there; choose another port, or 0 for any free one".to_owned())
            }
            _ => None,
        }
    }
}
