//! The first words with a server.

use super::{LinkError, stream::Stream};
use crate::hub::Hub;
use bytes::BytesMut;
use futures_util::StreamExt;
use protocol::{
    Epoch, FrameCodec, HandshakeError, Invitation, RequestId, Vocabulary, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    handshake,
    limits::HANDSHAKE_TIMEOUT,
};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::codec::FramedRead;

/// The ids of the first requests: those of the connection begin with 1 again, after both are
/// answered.
const HELLO: RequestId = RequestId(0);
const ENROL: RequestId = RequestId(1);

/// What the server said first.
#[derive(Debug)]
pub(super) struct Welcome {
    /// The life of its log.
    pub(super) epoch: Epoch,
    /// Program and version.
    pub(super) software: String,
    /// What came behind it already.
    pub(super) rest: BytesMut,
}

/// Says who this agent is, and hears who the server is. An invitation is shown first.
pub(super) async fn introduce(
    stream: &mut Stream,
    invitation: Option<Invitation>,
    hub: &Hub,
) -> Result<Welcome, LinkError> {
    timeout(HANDSHAKE_TIMEOUT, exchange(stream, invitation, hub))
        .await
        .map_err(|_| LinkError::TooSlow(HANDSHAKE_TIMEOUT))?
}

async fn exchange(
    stream: &mut Stream,
    invitation: Option<Invitation>,
    hub: &Hub,
) -> Result<Welcome, LinkError> {
    handshake(stream, Vocabulary::Federation).await?;
    let mut said = BytesMut::new();
    if let Some(invitation) = invitation {
        let request = Request::Enrol {
            host: hub.host().clone(),
            invitation,
        };
        let frame = AgentFrame { id: ENROL, request };
        said.extend_from_slice(&encode_frame(&frame)?);
    }
    let hello = Request::Hello {
        host: hub.host().clone(),
        agent: hub.agent(),
        software: crate::SOFTWARE.to_owned(),
    };
    let frame = AgentFrame {
        id: HELLO,
        request: hello,
    };
    said.extend_from_slice(&encode_frame(&frame)?);
    stream.write_all(&said).await?;
    stream.flush().await?;
    let mut frames = FramedRead::new(stream, FrameCodec::<ServerFrame, AgentFrame>::new());
    let mut first = frames.next().await;
    if invitation.is_some()
        && let Some(Ok(ServerFrame::Reply {
            id: ENROL,
            result: Ok(Reply::Done),
        })) = &first
    {
        first = frames.next().await;
    }
    let rest = frames.read_buffer().clone();
    match first {
        Some(Ok(ServerFrame::Reply {
            result: Ok(Reply::Welcome { epoch, software }),
            ..
        })) => Ok(Welcome {
            epoch,
            software,
            rest,
        }),
        Some(Ok(
            ServerFrame::Reply {
                result: Err(refusal),
                ..
            }
            | ServerFrame::Event(Event::Closing { reason: refusal }),
        )) => Err(LinkError::Refused(refusal)),
        Some(Ok(_)) => Err(LinkError::Refused(Refusal::Malformed {
            reason: "the server did not begin with a welcome".to_owned(),
        })),
        Some(Err(error)) => Err(error.into()),
        None => Err(LinkError::Handshake(HandshakeError::Closed)),
    }
}
