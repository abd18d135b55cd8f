//! A connection to the server on this machine, for whoever runs it.

use crate::{args::server::Place, daemons, exit::Failure, trust};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    Features, FrameCodec, RequestId, Vocabulary,
    admin::{CommandFrame, Refusal, Reply, Request, ServerFrame},
    handshake,
    limits::HANDSHAKE_TIMEOUT,
};
use std::{fmt, path::PathBuf};
use tokio::{net::UnixStream, time::timeout};
use tokio_util::codec::Framed;

/// A running server that is told something.
pub struct Server {
    frames: Framed<UnixStream, FrameCodec<ServerFrame, CommandFrame>>,
    state_dir: PathBuf,
    next_id: u32,
    features: Features,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Connects to the server whose place this is.
    ///
    /// # Errors
    ///
    /// [`Failure`]; exit code 69 if none runs there.
    pub async fn connect(place: &Place) -> Result<Self, Failure> {
        let state_dir = daemons::server_state_dir(place).map_err(Failure::usage)?;
        let silent = |reason: &dyn fmt::Display| {
            Failure::new(
                crate::exit::Exit::Unreachable,
                format_args!(
                    "no server answers in {}: {reason}; does `chat server` run here, as this \
                     user? Name its --state-dir",
                    state_dir.display()
                ),
            )
        };
        let path = daemons::server_socket(&state_dir);
        // The directory is kept open while its socket is connected to.
        let (path, _dir) = path.map_err(|error| silent(&error))?;
        let connected = UnixStream::connect(&path).await;
        let mut stream = connected.map_err(|error| silent(&error))?;
        let owner = stream.peer_cred().map_err(|error| silent(&error))?.uid();
        if trust::uid() != owner && trust::uid() != 0 {
            return Err(Failure::new(
                crate::exit::Exit::Permission,
                format_args!(
                    "the server in {} is run by uid {owner}: only that user, and root, administer \
                     it",
                    state_dir.display()
                ),
            ));
        }
        let greeting = handshake(&mut stream, Vocabulary::Admin);
        let features = match timeout(HANDSHAKE_TIMEOUT, greeting).await {
            Ok(Ok(agreed)) => agreed.features,
            Ok(Err(error)) => return Err(silent(&error)),
            Err(_) => return Err(silent(&"it does not answer")),
        };
        Ok(Self {
            features,
            frames: Framed::new(stream, FrameCodec::new()),
            state_dir,
            next_id: 1,
        })
    }

    /// What this program and the server both understand beside what every one does.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let broken = |reason: &dyn fmt::Display| {
            Failure::failed(format_args!("the server did not answer: {reason}"))
        };
        let asking = async {
            let frame = CommandFrame { id, request };
            self.frames.send(&frame).await?;
            self.frames.next().await.transpose()
        };
        let answer = match timeout(HANDSHAKE_TIMEOUT, asking).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return Err(broken(&"it closed the connection")),
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => return Err(broken(&"it takes too long")),
        };
        match answer {
            ServerFrame { id: of, result } if of == id => result.map_err(|refusal| {
                let exit = match refusal {
                    Refusal::NotAllowed { .. } => crate::exit::Exit::Permission,
                    _ => crate::exit::Exit::Failed,
                };
                Failure::new(exit, refusal)
            }),
            _ => Err(broken(&"it answered something else")),
        }
    }
}
