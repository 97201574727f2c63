//! Connections with a number of their own: an address comes again with another client, a number does not.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

/// Which connection of this process a call came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection(pub(crate) u64);

impl Connection {
    /// That of a request with these extensions; with TLS it is told by another name.
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        let plain = extensions.get::<Self>().copied();
        plain.or_else(|| extensions.get::<TlsConnectInfo<Self>>().map(|tls| *tls.get_ref()))
    }
}

/// A stream that knows its number.
pub(crate) struct Numbered {
    stream: TcpStream,
    number: u64,
}

impl Numbered {
    pub(crate) fn new(stream: TcpStream) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { stream, number: NEXT.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Connected for Numbered {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        Connection(self.number)
    }
}

impl AsyncRead for Numbered {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Numbered {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
