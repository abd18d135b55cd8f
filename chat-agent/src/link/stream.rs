//! The bytes between agent and server: TLS, or what somebody chose instead.

use super::{LinkError, dial};
use crate::keys::Keys;
use protocol::{KeyFingerprint, ServerAddress, limits::HANDSHAKE_TIMEOUT};
use std::{io, pin::Pin, task, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use trust::{Explained, Peer};

/// A connection to a server.
#[derive(Debug)]
pub(super) enum Stream {
    /// Without encryption.
    Plain(TcpStream),
    /// TLS 1.3.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The key that the server has proved to have; `None` without TLS.
    pub(super) fn server_key(&self) -> Option<KeyFingerprint> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Peer::of(stream.get_ref().1, None).map(|server| server.key),
        }
    }
}

/// Connects to `server`, which has the time given for it, and makes sure that it is the right one.
///
/// # Errors
///
/// [`LinkError`].
pub(super) async fn connect(
    server: &ServerAddress,
    within: Duration,
    keys: &Keys,
) -> Result<Stream, LinkError> {
    let tls = keys.tls(server)?;
    let stream = dial::dial(server.place(), within).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Stream::Plain(stream));
    };
    let connecting = TlsConnector::from(tls.config).connect(tls.name, stream);
    match timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(explain(error)),
        Err(_) => Err(LinkError::TooSlow(HANDSHAKE_TIMEOUT)),
    }
}

fn explain(error: io::Error) -> LinkError {
    match trust::explain(&error) {
        Some(Explained::OtherKey(mismatch)) => LinkError::OtherKey(mismatch.found),
        Some(Explained::NoTls) => LinkError::NoTls,
        Some(Explained::BadCertificate(reason)) => LinkError::BadCertificate(reason),
        None => LinkError::Tls(error),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> task::Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(
        self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
