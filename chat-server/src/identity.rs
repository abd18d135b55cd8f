//! From an accepted connection to what is known of who is behind it.

use crate::{
    keys::Keys,
    register::{Admitted, Register},
};
use protocol::{
    HandshakeError, HostName, Invitation, KeyFingerprint, Preface, Vocabulary,
    federation::{Event, Refusal},
    handshake,
};
use std::{io, sync::Arc};
use thiserror::Error;
use tokio::{
    io::{AsyncWriteExt, copy, sink},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use trust::Peer;

/// By what the server knows its agents.
#[derive(Debug, Clone)]
pub enum Door {
    /// Not at all: whoever connects takes part, under the name that they give.
    Plaintext,
    /// By their keys.
    Tls {
        /// The server's own.
        keys: Arc<Keys>,
        /// Whom it lets in.
        register: Register,
    },
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// Whoever they say.
    Plaintext,
    /// Whoever has this key.
    Key(Peer, Register),
}

/// Why nobody was found at the other end.
#[derive(Debug, Error)]
pub(crate) enum DoorError {
    #[error("no TLS: {0}")]
    Tls(#[from] io::Error),
    #[error("the agent spoke without TLS")]
    Plaintext,
    #[error("the agent showed no certificate")]
    NoCertificate,
}

impl Identity {
    /// Lets the agent in with an invitation. Returns the name that its key had before, if that
    /// is another one: nobody may speak under it any more.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn enrol(
        &self,
        host: HostName,
        invitation: Invitation,
    ) -> Result<Option<HostName>, Refusal> {
        match self {
            Self::Plaintext => Err(Refusal::NoKey),
            Self::Key(peer, register) => register.enrol(peer.key, host, invitation).await,
        }
    }

    /// Whether the agent may speak for `host`.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn admit(&self, host: &HostName) -> Result<Admitted, Refusal> {
        match self {
            Self::Plaintext => Ok(Admitted::AsBefore),
            Self::Key(peer, register) => register.admit(peer, host).await,
        }
    }

    /// Lets the agent of `host` come with `next` too.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] to answer.
    pub(crate) async fn note_next_key(
        self,
        host: HostName,
        next: KeyFingerprint,
    ) -> Result<(), Refusal> {
        match self {
            Self::Plaintext => Err(Refusal::NoKey),
            Self::Key(peer, register) => register.note_next_key(host, peer.key, next).await,
        }
    }

    /// Changes with every host or key that is let in no more.
    pub(crate) fn revocations(&self) -> u64 {
        match self {
            Self::Plaintext => 0,
            Self::Key(_, register) => register.revocations(),
        }
    }
}

/// Proves both ends' keys to each other. The caller sets the deadline.
pub(crate) async fn meet(
    mut stream: TcpStream,
    keys: &Keys,
    register: &Register,
) -> Result<(TlsStream<TcpStream>, Identity), DoorError> {
    if speaks_plainly(&stream).await? {
        // It understands no alert of TLS.
        refuse_plaintext(&mut stream).await;
        return Err(DoorError::Plaintext);
    }
    let current = keys.current();
    let stream = current.acceptor.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let peer = Peer::of(session, current.authorities.as_ref()).ok_or(DoorError::NoCertificate)?;
    Ok((stream, Identity::Key(peer, register.clone())))
}

/// Whether the other end begins with a preface in the clear: no record of TLS begins so.
async fn speaks_plainly(stream: &TcpStream) -> io::Result<bool> {
    let preface = Preface::ours(Vocabulary::Federation).to_bytes();
    let mut first = [0; 1];
    let seen = stream.peek(&mut first).await?;
    Ok(seen == 1 && first[0] == preface[0])
}

async fn refuse_plaintext(stream: &mut TcpStream) {
    let closing = crate::reply::event_frame(Event::Closing {
        reason: Refusal::TlsRequired,
    });
    let told = async {
        handshake(stream, Vocabulary::Federation).await?;
        stream.write_all(&closing).await?;
        stream.shutdown().await?;
        // Closing with its hello unread would make the kernel throw the reason away.
        copy(stream, &mut sink())
            .await
            .map_err(HandshakeError::from)
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "an agent without TLS did not hear why it is turned away");
    }
}
