//! The first words with a server.

use super::LinkError;
use crate::hub::Hub;
use bytes::BytesMut;
use futures_util::StreamExt;
use protocol::{
    Epoch, FrameCodec, HandshakeError, RequestId, Vocabulary, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request, ServerFrame},
    handshake,
    limits::HANDSHAKE_TIMEOUT,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_util::codec::FramedRead;

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

/// Says who this agent is, and hears who the server is.
pub(super) async fn introduce(stream: &mut TcpStream, hub: &Hub) -> Result<Welcome, LinkError> {
    timeout(HANDSHAKE_TIMEOUT, exchange(stream, hub))
        .await
        .map_err(|_| LinkError::TooSlow(HANDSHAKE_TIMEOUT))?
}

async fn exchange(stream: &mut TcpStream, hub: &Hub) -> Result<Welcome, LinkError> {
    handshake(stream, Vocabulary::Federation).await?;
    let hello = Request::Hello {
        host: hub.host().clone(),
        agent: hub.agent(),
        software: crate::SOFTWARE.to_owned(),
    };
    let frame = AgentFrame {
        id: RequestId(0),
        request: hello,
    };
    stream.write_all(&encode_frame(&frame)?).await?;
    let (read, _) = stream.split();
    let mut frames = FramedRead::new(read, FrameCodec::<ServerFrame, AgentFrame>::new());
    let first = frames.next().await;
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
