//! The agent that answers at the socket already, and whether it is the one that was asked for.

use crate::{
    SOFTWARE,
    config::{Config, Origin},
    lock::{Note, STATE_LOCK},
    paths::{Process, Surroundings, login_name_in},
};
use anyhow::{Context, bail};
use futures_util::StreamExt;
use protocol::{
    FrameCodec, HandshakeError, HostName, Nick, RequestId, Vocabulary, encode_frame, handshake,
    local::{AgentFrame, Event, Refusal, Reply, Request, TerminalFrame},
};
use std::{fs, io, path::Path, time::Duration};
use thiserror::Error;
use tokio::{io::AsyncWriteExt, net::UnixStream, time::timeout};
use tokio_util::codec::FramedRead;

const HELLO: RequestId = RequestId(1);
const STATUS: RequestId = RequestId(2);

/// How long an agent has to answer that was found by its lock. One that is slower is waited for
/// as one that is ending.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(2);

/// Who serves the socket.
#[derive(Debug)]
pub(super) struct Incumbent {
    pid: i32,
    host: HostName,
    state_dir: String,
}

/// Why an agent does not say who it is.
#[derive(Debug, Error)]
enum Unheard {
    /// There is none, or none any more.
    #[error("nobody is there")]
    Gone,
    #[error("no answer within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error(transparent)]
    Handshake(HandshakeError),
    #[error(transparent)]
    Codec(#[from] protocol::CodecError),
    #[error("{0}")]
    Refused(Refusal),
}

/// Asks who serves `socket`; `None` if nobody does. An agent that is only coming up gets as long as
/// `patience` to answer.
///
/// # Errors
///
/// If somebody does, and does not say who it is.
pub(super) fn ask(socket: &Path, patience: Duration) -> anyhow::Result<Option<Incumbent>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let nick = nick()?;
    runtime.block_on(async {
        let Ok(mut stream) = UnixStream::connect(socket).await else {
            return Ok(None);
        };
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let pid = peer.unwrap_or_default();
        let asked = timeout(patience, question(&mut stream, nick)).await;
        match asked.unwrap_or(Err(Unheard::TooSlow(patience))) {
            Ok((host, state_dir)) => Ok(Some(Incumbent {
                pid,
                host,
                state_dir,
            })),
            Err(Unheard::Gone) => Ok(None),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "{} is served by process {pid}, which does not say which agent it is (name \
                     another --socket, or end it with `kill {pid}`)",
                    socket.display()
                )
            }),
        }
    })
}

/// Refuses to wait for the state directory of an agent that answers at another socket than
/// `wanted`: it will not end, and there is nothing wrong with it.
///
/// # Errors
///
/// If one does: with where, and what to do.
pub(crate) fn refuse_elsewhere(state_dir: &Path, wanted: &Path) -> anyhow::Result<()> {
    let note = Note::read(&state_dir.join(STATE_LOCK));
    let Some(socket) = note.and_then(|note| note.socket) else {
        return Ok(());
    };
    if is_same(&socket, &wanted.display().to_string()) {
        return Ok(());
    }
    // Whoever else is there now, or does not say who it is: then the lock tells.
    match ask(&socket, ELSEWHERE_PATIENCE) {
        Ok(Some(other)) if is_same(state_dir, &other.state_dir) => bail!(
            "another agent (process {pid}) has the state in {state_dir} and answers at {socket}: \
             use --socket {socket}, or another --state-dir",
            pid = other.pid,
            state_dir = state_dir.display(),
            socket = socket.display(),
        ),
        _ => Ok(()),
    }
}

async fn question(stream: &mut UnixStream, nick: Nick) -> Result<(HostName, String), Unheard> {
    match handshake(stream, Vocabulary::Local).await {
        Ok(_) => {}
        Err(HandshakeError::Closed | HandshakeError::Io(_)) => return Err(Unheard::Gone),
        Err(error) => return Err(Unheard::Handshake(error)),
    }
    let hello = Request::Hello {
        nick,
        software: SOFTWARE.to_owned(),
        interactive: false,
    };
    for (id, request) in [(HELLO, hello), (STATUS, Request::Status)] {
        let frame = encode_frame(&TerminalFrame { id, request })?;
        // What it says before it hangs up tells more than the failed write.
        let _hung_up: io::Result<()> = stream.write_all(&frame).await;
    }
    let mut frames = FramedRead::new(stream, FrameCodec::<AgentFrame, ()>::new());
    while let Some(frame) = frames.next().await.transpose()? {
        match frame {
            AgentFrame::Reply {
                result: Ok(Reply::Status(status)),
                ..
            } => return Ok((status.user.host, status.state_dir)),
            AgentFrame::Reply {
                result: Err(refusal),
                ..
            }
            | AgentFrame::Event(Event::Closing { reason: refusal }) => {
                return Err(match refusal {
                    Refusal::ShuttingDown => Unheard::Gone,
                    refusal => Unheard::Refused(refusal),
                });
            }
            AgentFrame::Reply { .. } | AgentFrame::Event(_) => {}
        }
    }
    Err(Unheard::Gone)
}

/// Whoever starts the agent, as their terminals would call them.
fn nick() -> anyhow::Result<Nick> {
    if let Some(nick) = login_name_in(&Process).and_then(|name| Nick::parse(&name).ok()) {
        return Ok(nick);
    }
    Ok(Nick::parse(&format!("uid{}", Process.uid()))?)
}

impl Incumbent {
    /// Whether this is the agent that `config` asks for, as far as it names one.
    ///
    /// # Errors
    ///
    /// If it is another: with what it is and what to do.
    pub(super) fn check(&self, config: &Config) -> anyhow::Result<()> {
        let state_dir = &config.state_dir;
        let mut wanted = Vec::new();
        if state_dir.origin != Origin::Default && !is_same(&state_dir.value, &self.state_dir) {
            wanted.push(format!("state in {}", state_dir.value.display()));
        }
        if let Some(host) = config
            .host
            .value
            .as_ref()
            .filter(|host| **host != self.host)
        {
            wanted.push(format!("host {host}"));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        bail!(
            "{} is served by process {pid} with state in {} for host {}, but {} was asked for: name \
             another --socket, or end that agent with `kill {pid}` and try again",
            config.socket.value.display(),
            self.state_dir,
            self.host,
            wanted.join(" and "),
            pid = self.pid,
        )
    }
}

fn is_same(wanted: &Path, told: &str) -> bool {
    let canonical = |path: &Path| fs::canonicalize(path).ok();
    wanted.display().to_string() == told
        || canonical(wanted).is_some_and(|wanted| canonical(Path::new(told)) == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::unix::net::UnixListener, thread};

    #[test]
    fn nobody_at_the_socket_is_no_agent() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        assert!(ask(&socket, Duration::from_secs(60)).unwrap().is_none());
        // A killed agent's.
        drop(UnixListener::bind(&socket).unwrap());
        assert!(ask(&socket, Duration::from_secs(60)).unwrap().is_none());
    }

    #[test]
    fn what_is_no_agent_is_named_instead_of_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        });
        let refused = ask(&socket, Duration::from_secs(60)).unwrap_err();
        let process = format!("process {}", std::process::id());
        assert!(refused.to_string().contains(&process), "{refused}");
        other.join().unwrap();
    }

    #[test]
    fn an_agent_that_hangs_up_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let ending = thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(ask(&socket, Duration::from_secs(60)).unwrap().is_none());
        ending.join().unwrap();
    }
}
