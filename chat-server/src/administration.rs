//! The server's own socket: whoever runs the server says whom it lets in, while it runs.
//!
//! `<state dir>/server.sock`, in a directory that is the user's alone; whoever connects is asked
//! of the kernel all the same.

use crate::{
    drain::Pace,
    identity::Door,
    keys::{Keys, KeysError},
    opening::SOFTWARE,
    register::{NewInvitation, Register, RegisterError},
    service::Service,
};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    FrameCodec, HostName, Invitation, ServerLine, ServerTrust, Timestamp, Vocabulary,
    admin::{AgentState, CommandFrame, Refusal, Reply, Request, ServerFrame},
    federation::{self, Event},
    handshake,
    limits::HANDSHAKE_TIMEOUT,
};
use rustix::{
    fs::{Mode, OFlags},
    process::geteuid,
};
use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::codec::Framed;
use tracing::{debug, info, warn};

/// The socket's name in the state directory.
pub const SOCKET: &str = "server.sock";

/// Commands that are served at once. Further ones wait.
const MAX_COMMANDS: usize = 16;

/// Most hosts that one invitation lets in.
const MAX_USES: u32 = 10_000;

/// Longest time that an invitation lets hosts in: a year.
const MAX_VALID: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The least and the most time from one group of agents that are sent away to the next.
const EVERY_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;

/// How long nobody is accepted after the process ran out of file descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// The path of a socket in `dir`, short enough for the kernel wherever that is, and the directory
/// that must stay open while it is used.
///
/// # Errors
///
/// What the system says of the directory.
pub fn socket_path(dir: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let opened = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd());
    Ok((path.into(), opened))
}

/// The socket of the server whose directory this is. The caller holds the directory's lock.
///
/// # Errors
///
/// What the system says.
pub(crate) fn bind(state_dir: &Path) -> io::Result<UnixListener> {
    let (path, _dir) = socket_path(state_dir)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    rustix::fs::chmod(&path, Mode::RUSR | Mode::WUSR)?;
    Ok(listener)
}

/// What a command needs to know of the server it is for.
#[derive(Debug, Clone)]
pub(crate) struct Administration {
    pub(crate) service: Service,
    /// What invitations tell agents to connect to: `HOST[:PORT]`, or several with commas.
    pub(crate) public_address: String,
}

/// Serves commands on `listener` for ever.
///
/// # Cancel safety
///
/// Cancel safe: commands that are being served end with it, between two requests.
pub(crate) async fn serve(listener: UnixListener, administration: Administration) {
    let places = Arc::new(Semaphore::new(MAX_COMMANDS));
    let mut commands = tokio::task::JoinSet::new();
    loop {
        while commands.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let administration = administration.clone();
                commands.spawn(async move {
                    if let Err(error) = administration.attend(stream).await {
                        debug!(%error, "a command was not served");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept commands");
                sleep(PAUSE).await;
            }
        }
    }
}

impl Administration {
    async fn attend(&self, mut stream: UnixStream) -> io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        let greeting = handshake(&mut stream, Vocabulary::Admin);
        match timeout(HANDSHAKE_TIMEOUT, greeting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(io::Error::other(error)),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let mut frames = Framed::new(stream, FrameCodec::<CommandFrame, ServerFrame>::new());
        loop {
            let received = match timeout(HANDSHAKE_TIMEOUT, frames.next()).await {
                Ok(Some(Ok(received))) => received,
                Ok(Some(Err(error))) => return Err(io::Error::other(error)),
                Ok(None) | Err(_) => return Ok(()),
            };
            let CommandFrame { id, request } = received;
            // Root may read the key from the disk anyway.
            let result = if uid == geteuid().as_raw() || uid == 0 {
                self.answer(request).await
            } else {
                Err(Refusal::NotAllowed { uid })
            };
            let answer = ServerFrame { id, result };
            frames.send(&answer).await.map_err(io::Error::other)?;
        }
    }

    async fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Invite {
                uses,
                valid_for_s,
                host,
            } => {
                let valid = Duration::from_secs(valid_for_s);
                let (invitation, line, expires_at) = self.invite(uses, valid, host).await?;
                Ok(Reply::Invited {
                    invitation,
                    address: line.reveal(),
                    expires_at,
                })
            }
            Request::Invitations { after } => {
                let (_, register) = self.keyed()?;
                let (invitations, more) = register.invitations(after).await.map_err(unavailable)?;
                Ok(Reply::Invitations { invitations, more })
            }
            Request::RevokeInvitation { invitation } => {
                let (_, register) = self.keyed()?;
                let revoked = register.revoke_invitation(invitation).await;
                revoked.map_err(|error| match error {
                    RegisterError::Missing => Refusal::NoSuchInvitation { invitation },
                    other => unavailable(other),
                })?;
                info!(invitation, "invitation revoked");
                Ok(Reply::Done)
            }
            Request::Agents { after } => {
                let (_, register) = self.keyed()?;
                let (mut agents, more) = register.agents(after).await.map_err(unavailable)?;
                for agent in &mut agents {
                    if agent.state == AgentState::Away {
                        agent.state = self.state_of(&agent.host);
                    }
                }
                Ok(Reply::Agents { agents, more })
            }
            Request::RevokeAgent { host } => {
                let (_, register) = self.keyed()?;
                let revoked = register.revoke_agent(host.clone()).await;
                revoked.map_err(|error| match error {
                    RegisterError::Missing => Refusal::NoSuchAgent { host: host.clone() },
                    other => unavailable(other),
                })?;
                self.service
                    .router()
                    .close(&host, federation::Refusal::Revoked);
                info!(%host, "let in no more");
                Ok(Reply::Done)
            }
            Request::NextKey => {
                let (keys, register) = self.keyed()?;
                let key = keys.prepare_next().map_err(key_refusal)?;
                let connected = self.service.router().tell_all(Event::NextKey { key });
                info!(%key, connected, "the next key was told");
                Ok(Reply::Key {
                    key,
                    connected: u32::try_from(connected).unwrap_or(u32::MAX),
                    enrolled: register.enrolled().await.map_err(unavailable)?,
                })
            }
            Request::ChangeKey => {
                let (keys, register) = self.keyed()?;
                let key = keys.change().map_err(key_refusal)?;
                info!(%key, "the key was changed");
                let (connected, _) = self.service.router().snapshot();
                Ok(Reply::Key {
                    key,
                    connected: u32::try_from(connected.len()).unwrap_or(u32::MAX),
                    enrolled: register.enrolled().await.map_err(unavailable)?,
                })
            }
            Request::Drain { group, every_ms } => {
                if group == 0 || !EVERY_MS.contains(&every_ms) {
                    let reason =
                        "a group has one host at least, and the next one leaves 100 ms to \
                                  an hour later"
                            .to_owned();
                    return Err(Refusal::BadNumber { reason });
                }
                let every = Duration::from_millis(every_ms.into());
                self.service.drain().begin(Pace { group, every });
                Ok(self.drained())
            }
            Request::DrainProgress => Ok(self.drained()),
            Request::Status => {
                let (agents, users) = self.service.router().snapshot();
                Ok(Reply::Status {
                    software: SOFTWARE.to_owned(),
                    connected: u32::try_from(agents.len()).unwrap_or(u32::MAX),
                    users: u32::try_from(users).unwrap_or(u32::MAX),
                    draining: self.service.drain().is_on(),
                    log: self.service.look_at_log(),
                })
            }
            Request::Undrain => {
                self.service.drain().end();
                Ok(self.drained())
            }
        }
    }

    /// What agents are known by.
    fn keyed(&self) -> Result<(&Keys, &Register), Refusal> {
        match self.service.door() {
            Door::Tls { keys, register } => Ok((keys, register)),
            Door::Plaintext => Err(Refusal::Plaintext),
        }
    }

    /// How far the server's agents have gone elsewhere.
    fn drained(&self) -> Reply {
        let drain = self.service.drain();
        let (connected, _) = self.service.router().snapshot();
        Reply::Drain {
            draining: drain.is_on(),
            connected: u32::try_from(connected.len()).unwrap_or(u32::MAX),
            sent: drain.sent(),
        }
    }

    /// Whether `host` is connected, and to which of several servers.
    fn state_of(&self, host: &HostName) -> AgentState {
        let router = self.service.router();
        let at = |server| AgentState::ConnectedTo { server };
        match (self.service.name(), router.is_connected(host)) {
            (None, true) => AgentState::Connected,
            (Some(name), true) => at(name.to_owned()),
            (_, false) => router.server_of(host).map_or(AgentState::Away, at),
        }
    }

    /// Makes an invitation: its number, what `chat join` takes, and when it ends.
    pub(crate) async fn invite(
        &self,
        uses: u32,
        valid: Duration,
        host: Option<HostName>,
    ) -> Result<(u32, ServerLine, Timestamp), Refusal> {
        let (keys, register) = self.keyed()?;
        let bad = |reason| Err(Refusal::BadNumber { reason });
        if uses == 0 || uses > MAX_USES {
            return bad(format!(
                "an invitation is for 1 to {MAX_USES} hosts, not {uses}"
            ));
        }
        if valid.is_zero() || valid > MAX_VALID {
            return bad("an invitation is valid for a second to a year".to_owned());
        }
        let invitation = Invitation::from_bytes(rand::random());
        let expires_at = Timestamp::from(SystemTime::now() + valid);
        let new = NewInvitation {
            uses,
            expires_at,
            host,
        };
        let number = register
            .invite(&invitation, new)
            .await
            .map_err(unavailable)?;
        info!(invitation = number, uses, ?valid, "invitation made");
        let trust = ServerTrust::Key {
            key: keys.key(),
            next: keys.next(),
            invitation: Some(invitation),
        };
        let line = ServerLine::new(&self.public_address, trust);
        let line = line.map_err(|error| Refusal::BadNumber {
            reason: format!("set a public address: {error}"),
        })?;
        Ok((number, line, expires_at))
    }
}

fn unavailable(error: RegisterError) -> Refusal {
    Refusal::Unavailable {
        reason: error.to_string(),
    }
}

fn key_refusal(error: KeysError) -> Refusal {
    match error {
        KeysError::NotOwn => Refusal::OwnCertificate,
        KeysError::NoNext => Refusal::NoNextKey,
        other => Refusal::Unavailable {
            reason: other.to_string(),
        },
    }
}
