//! From an accepted stream to an agent that has said who it is, and back to a closed one.

use crate::{
    identity::Identity,
    inbound::{Inbound, Received},
    query::LogPages,
    register::Admitted,
    reply::{Answer, PendingReply, event_frame},
    router::{Handle, HostInUse},
    rules,
    service::Service,
};
use protocol::{
    CodecError, Features, HandshakeError, HostName, Vocabulary,
    federation::{AgentFrame, Event, Refusal, Reply, Request},
    handshake,
    limits::{AGENT_QUEUE_BYTES, HANDSHAKE_TIMEOUT, MAX_WAITING_BYTES},
};
use room_log::{Delivery, Outbound, ReaderId};
use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, copy, sink, split},
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tracing::{debug, info};

/// What this program calls itself.
pub(crate) const SOFTWARE: &str = concat!("chat-server ", env!("CARGO_PKG_VERSION"));

/// How long the last frames of a connection may take, and then how long the peer may take to
/// close its end: closing with something unread would make the kernel throw them away.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection never got to its first request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("nothing sensible came within {HANDSHAKE_TIMEOUT:?}")]
    TimedOut,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the peer left before it said who it is")]
    Closed,
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Line<S> {
    pub(crate) reader: ReaderId,
    pub(crate) inbound: Inbound<ReadHalf<S>>,
    pub(crate) delivery: Delivery<WriteHalf<S>>,
    pub(crate) outbound: Arc<Outbound>,
    /// Whose agent it is, once that is known: only then its pages are read.
    pub(crate) host: Arc<OnceLock<HostName>>,
}

/// A connection whose agent has a seat in the router. The caller makes it give the seat back.
#[derive(Debug)]
pub(crate) struct Opened<S> {
    pub(crate) line: Line<S>,
    pub(crate) handle: Arc<Handle>,
    /// What the agent understands beside what every one does.
    pub(crate) features: Features,
}

/// Exchanges prefaces, waits for `Hello` (and `Enrol` before it) until `deadline`, and answers it.
///
/// # Errors
///
/// [`OpenError`]; the peer was told as well as it could be, and the stream is closed.
pub(crate) async fn open<S>(
    mut stream: S,
    identity: &Identity,
    deadline: Instant,
    service: &Service,
) -> Result<Opened<S>, OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let agreed = timeout_at(deadline, handshake(&mut stream, Vocabulary::Federation));
    let features = agreed.await.map_err(|_| OpenError::TimedOut)??.features;
    let mut line = Line::new(stream, service);
    match timeout_at(deadline, introduced(&mut line, identity, service)).await {
        Ok(Ok(handle)) => Ok(Opened {
            line,
            handle,
            features,
        }),
        Ok(Err(error)) => {
            match &error {
                OpenError::Refused(refusal) => line.close(refusal.clone()).await,
                OpenError::Codec(error) => line.close(malformed(error)).await,
                _ => {}
            }
            Err(error)
        }
        Err(_) => {
            line.close(Refusal::TimedOut).await;
            Err(OpenError::TimedOut)
        }
    }
}

/// Hears who the agent is.
async fn introduced<S>(
    line: &mut Line<S>,
    identity: &Identity,
    service: &Service,
) -> Result<Arc<Handle>, OpenError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut received = line.hear().await?;
    if let Request::Enrol { host, invitation } = received.frame.request {
        let enrolled = identity.enrol(host.clone(), invitation).await;
        let reply = PendingReply::new(
            received.frame.id,
            Arc::clone(&line.outbound),
            received.in_flight,
        );
        reply.answer(enrolled.clone().map(|_| Reply::Done));
        if let Some(before) = enrolled.map_err(OpenError::Refused)? {
            let reason = Refusal::OtherHost {
                enrolled: host.clone(),
                given: before.clone(),
            };
            service.router().close(&before, reason);
            info!(%before, "its key has another name now");
        }
        info!(%host, "enrolled");
        received = line.hear().await?;
    }
    let (outbound, in_flight) = (&line.outbound, line.inbound.in_flight());
    hello(outbound, in_flight, received, identity, service)
        .await
        .map_err(OpenError::Refused)
}

/// Tells a peer for whom there is no seat why.
pub(crate) async fn turn_away<S>(mut stream: S, refusal: Refusal, service: &Service)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let spoken = handshake(&mut stream, Vocabulary::Federation);
    match timeout(HANDSHAKE_TIMEOUT, spoken).await {
        Ok(Ok(_)) => Line::new(stream, service).close(refusal).await,
        Ok(Err(error)) => debug!(%error, "turned away"),
        Err(_) => debug!("turned away without a word"),
    }
}

pub(crate) fn malformed(error: &CodecError) -> Refusal {
    Refusal::Malformed {
        reason: error.to_string(),
    }
}

async fn hello(
    outbound: &Arc<Outbound>,
    all_in_flight: &Arc<Semaphore>,
    first: Received,
    identity: &Identity,
    service: &Service,
) -> Result<Arc<Handle>, Refusal> {
    let Received {
        frame: AgentFrame { id, request },
        in_flight,
    } = first;
    let reply = PendingReply::new(id, Arc::clone(outbound), in_flight);
    let entered = match request {
        Request::Hello {
            host,
            agent,
            software,
        } => {
            let handle = Handle::new(
                service.router().connection_id(),
                host,
                agent,
                software,
                Arc::clone(outbound),
                Arc::clone(all_in_flight),
            );
            enter(Arc::new(handle), identity, service).await
        }
        _ => Err(Refusal::HelloOutOfPlace),
    };
    let answer: Answer = match &entered {
        Ok(_) => Ok(Reply::Welcome {
            epoch: service.log().epoch(),
            software: SOFTWARE.to_owned(),
        }),
        Err(refusal) => Err(refusal.clone()),
    };
    reply.answer(answer);
    entered
}

async fn enter(
    handle: Arc<Handle>,
    identity: &Identity,
    service: &Service,
) -> Result<Arc<Handle>, Refusal> {
    let in_use = |HostInUse| Refusal::HostInUse {
        host: handle.host.clone(),
    };
    rules::software(&handle.software)?;
    let revocations = identity.revocations();
    if identity.admit(&handle.host).await? == Admitted::WithNextKey {
        // Whoever has only the key before.
        service.router().close(&handle.host, Refusal::Replaced);
    }
    if service.drain().is_on() {
        return Err(Refusal::Draining);
    }
    service.router().enter(&handle).map_err(in_use)?;
    // From here on a drain finds the connection; one that began before is found here.
    if service.drain().is_on() {
        service.router().leave(&handle);
        return Err(Refusal::Draining);
    }
    // From here on a revocation finds the connection; one before is found here.
    if identity.revocations() != revocations
        && let Err(refusal) = identity.admit(&handle.host).await
    {
        service.router().leave(&handle);
        return Err(refusal);
    }
    Ok(handle)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    fn new(stream: S, service: &Service) -> Self {
        let (read, write) = split(stream);
        let outbound = Arc::new(Outbound::new(AGENT_QUEUE_BYTES));
        let reader = service.feed().reader();
        let host = Arc::new(OnceLock::new());
        let pages = LogPages {
            log: Arc::clone(service.log()),
            frames: service.feed().frames(),
            host: Arc::clone(&host),
        };
        Self {
            reader,
            inbound: Inbound::new(read, Arc::clone(&outbound), MAX_WAITING_BYTES),
            delivery: Delivery::new(
                write,
                reader,
                Arc::clone(&outbound),
                Arc::clone(service.feed()),
                Box::new(pages),
            ),
            outbound,
            host,
        }
    }

    /// The next frame; meanwhile what is queued is written, for who waits for an answer first.
    async fn hear(&mut self) -> Result<Received, OpenError> {
        loop {
            tokio::select! {
                received = self.inbound.next() => return received?.ok_or(OpenError::Closed),
                // Nothing is followed yet, so there is no progress to speak of.
                written = self.delivery.run() => drop(written.map_err(CodecError::from)?),
            }
        }
    }

    /// Says why as the last thing, and closes.
    pub(crate) async fn close(self, reason: Refusal) {
        self.outbound
            .push_reply(event_frame(Event::Closing { reason }));
        if timeout(FAREWELL, self.finish()).await.is_err() {
            debug!("the peer did not take the last words");
        }
    }

    /// Writes what is queued, then closes this end and waits for the other.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        self.delivery.finish().await?;
        let mut rest = self.inbound.into_inner();
        match timeout(FAREWELL, copy(&mut rest, &mut sink())).await {
            Ok(copied) => copied.map(drop),
            Err(_) => Ok(()),
        }
    }
}
