//! An agent for unit tests: says what the test tells it to say.

use bytes::BytesMut;
use futures_util::StreamExt;
use protocol::{
    FrameCodec, RequestId, Vocabulary, handshake,
    local::{AgentFrame, Event, Refusal, Reply, TerminalFrame},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::codec::{Encoder, FramedRead};

/// The agent's end of a stream before the handshake.
pub(crate) struct FakeAgent<S = DuplexStream>(pub(crate) S);

/// The agent's end of a session.
pub(crate) struct FakeSession<S = DuplexStream> {
    reader: FramedRead<ReadHalf<S>, FrameCodec<TerminalFrame, AgentFrame>>,
    writer: WriteHalf<S>,
}

impl FakeAgent {
    pub(crate) fn pair() -> (DuplexStream, Self) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        (ours, Self(theirs))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FakeAgent<S> {
    pub(crate) async fn welcome(self, user: &str) -> FakeSession<S> {
        let (mut session, id) = self.hello().await;
        let welcome = Reply::Welcome {
            user: user.parse().unwrap(),
            software: "fake".to_owned(),
        };
        session.reply(id, Ok(welcome)).await;
        session
    }

    pub(crate) async fn refuse_hello(self, refusal: Refusal) {
        let (mut session, id) = self.hello().await;
        session.reply(id, Err(refusal)).await;
    }

    async fn hello(mut self) -> (FakeSession<S>, RequestId) {
        handshake(&mut self.0, Vocabulary::Local).await.unwrap();
        let (reader, writer) = tokio::io::split(self.0);
        let mut session = FakeSession {
            reader: FramedRead::new(reader, FrameCodec::new()),
            writer,
        };
        let hello = session.read().await;
        (session, hello.id)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FakeSession<S> {
    pub(crate) async fn read(&mut self) -> TerminalFrame {
        self.reader.next().await.unwrap().unwrap()
    }

    pub(crate) async fn reply(&mut self, id: RequestId, result: Result<Reply, Refusal>) {
        self.write(&AgentFrame::Reply { id, result }).await;
    }

    pub(crate) async fn event(&mut self, event: Event) {
        self.write(&AgentFrame::Event(event)).await;
    }

    async fn write(&mut self, frame: &AgentFrame) {
        let mut bytes = BytesMut::new();
        let mut codec: FrameCodec<TerminalFrame, AgentFrame> = FrameCodec::new();
        codec.encode(frame, &mut bytes).unwrap();
        self.writer.write_all(&bytes).await.unwrap();
    }
}
