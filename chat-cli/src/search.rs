//! Looking for the agent: at the beginning, and again after it was lost.
//!
//! A terminal starts an agent only in the place of none, or of one that it could have started
//! itself. Another's has its own files: in its place an empty one would stand, without what was
//! said and without what waits in the outbox, and the right one could not come back.

use crate::{
    client::{CallError, ConnectError, Session, SessionError, connect},
    conversation::Options,
    exit::{Exit, Failure},
    paths::Settings,
    start::start_agent,
    trust,
};
use protocol::local::{Refusal, Reply, Request};
use rustix::fs::{Access, access};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Shortest and longest wait between attempts to find the agent again.
const RETRY_MIN: Duration = Duration::from_millis(50);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a lost agent has to come back by itself before this terminal starts another.
const RESTART_AFTER: Duration = Duration::from_millis(1_500);

/// Agents that are started before a conversation gives up beginning: more than one is needed only
/// if somebody ends them.
const MAX_STARTS: u32 = 3;

/// Sessions that may end while a conversation begins before it gives up.
const MAX_LOST: u32 = 5;

/// Whose an agent is that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This terminal would start the same.
    Ours,
    /// It has other files, another user or a group; where its files are, if that is known.
    Others(Option<String>),
}

/// Why an attempt came to nothing.
enum Miss {
    /// There was no session.
    Connect(ConnectError),
    /// It was over before it was known whose the agent is.
    Session(SessionError),
}

impl Miss {
    const fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => error.may_pass(),
            Self::Session(error) => error.may_pass(),
        }
    }
}

impl From<Miss> for Failure {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Connect(error) => error.into(),
            Miss::Session(error) => error.into(),
        }
    }
}

/// One attempt: a session, and whose the agent is, if it tells.
async fn attempt(settings: &Settings, options: Options) -> Result<(Session, Option<Origin>), Miss> {
    let connected = connect(&settings.socket, &settings.nick, options.interactive).await;
    let mut session = connected.map_err(Miss::Connect)?;
    let origin = meet(&mut session, settings, options).await;
    Ok((session, origin.map_err(Miss::Session)?))
}

/// Finds the agent, or starts one; an agent that is just ending is replaced, too.
pub(crate) async fn find(
    settings: &Settings,
    options: Options,
) -> Result<(Session, Option<Origin>), Failure> {
    let mut starts = 0;
    let mut lost = 0;
    loop {
        let miss = match attempt(settings, options).await {
            Ok(found) => return Ok(found),
            Err(miss) => miss,
        };
        let gone_again = matches!(
            miss,
            Miss::Session(SessionError::Lost(_) | SessionError::Closed(_))
        );
        if gone_again && miss.may_pass() && lost < MAX_LOST {
            sleep(backoff(lost)).await;
            lost += 1;
            continue;
        }
        let gone = matches!(
            miss,
            Miss::Connect(
                ConnectError::Unreachable { .. } | ConnectError::Refused(Refusal::ShuttingDown)
            )
        );
        if !gone || !options.autostart || starts == MAX_STARTS {
            return Err(miss.into());
        }
        if let Some(owner) = foreign_owner(&settings.socket) {
            return Err(Failure::new(
                Exit::Unreachable,
                format_args!(
                    "no agent at {}, and uid {owner} alone can start one there: ask whoever runs \
                     it, or name another socket with --socket",
                    settings.socket.display()
                ),
            ));
        }
        starts += 1;
        start_agent(settings)
            .await
            .map_err(|error| Failure::new(Exit::Unreachable, error))?;
    }
}

/// Who alone can start an agent at `socket`, if that is neither this user nor anybody: an agent
/// locks a file beside its socket.
fn foreign_owner(socket: &Path) -> Option<u32> {
    let dir = socket.parent()?;
    let owner = fs::metadata(dir).ok()?.uid();
    let is_others = owner != trust::uid() && owner != 0;
    let is_closed = owner != trust::uid() && access(dir, Access::WRITE_OK).is_err();
    (is_others || is_closed).then_some(owner)
}

/// Asks a new session whose its agent is, for the time when it is lost; `None` if it does not
/// tell, or if that makes no difference.
async fn meet(
    session: &mut Session,
    settings: &Settings,
    options: Options,
) -> Result<Option<Origin>, SessionError> {
    if !options.autostart {
        return Ok(None);
    }
    let status = match session.call(Request::Status).await {
        Ok(Reply::Status(status)) => status,
        Err(CallError::Session(error)) => return Err(error),
        Ok(_) | Err(CallError::Refused(_) | CallError::Misfit) => return Ok(None),
    };
    // Others may use a shared one, and would be kept out by one that is started here.
    let private = fs::metadata(&settings.socket)
        .is_ok_and(|found| found.uid() == trust::uid() && found.mode() & 0o077 == 0);
    let same_files = resolved(Path::new(&status.state_dir)) == resolved(&settings.state_dir);
    Ok(Some(if private && same_files {
        Origin::Ours
    } else {
        Origin::Others(Some(status.state_dir))
    }))
}

fn resolved(path: &Path) -> PathBuf {
    let found = path.canonicalize();
    found
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

/// The wait before attempt number `attempt`, counted from 0: doubling, capped.
pub(crate) fn backoff(attempt: u32) -> Duration {
    RETRY_MIN
        .saturating_mul(2_u32.saturating_pow(attempt))
        .min(RETRY_MAX)
}

/// What a search for the agent came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A session, and whose the agent is, if it tells.
    Session(Box<Session>, Option<Origin>),
    /// It is gone and there is no other, for this reason; search on.
    NotStarted(String),
}

/// The agent that was lost.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub(crate) origin: Origin,
    /// Whether it was told to end. It stays ended then, until something is said here.
    pub(crate) ended: bool,
    /// Whether it is known to have crashed: it left its socket, or another was tried to be started
    /// in its place, which takes the socket away again if it fails.
    pub(crate) crashed: Arc<AtomicBool>,
    pub(crate) at: Instant,
    /// Whether something that was said here waits for an agent.
    pub(crate) wanted: Arc<AtomicBool>,
}

impl Lost {
    /// Why no agent is started in its place now; `None` if one may be.
    fn objection(&self, socket: &Path) -> Option<String> {
        match &self.origin {
            Origin::Ours if self.ended && !self.wanted.load(Ordering::Relaxed) => {
                Some("the agent was ended; it is started again for the next message".to_owned())
            }
            Origin::Ours => None,
            Origin::Others(Some(dir)) => Some(format!(
                "the agent at {} is not one that this terminal starts (its state is in {dir}): \
                 this goes on when whoever runs it has started it again",
                socket.display()
            )),
            Origin::Others(None) => Some(format!(
                "the agent at {} is not known to be one that this terminal starts: this goes on \
                 when it is back",
                socket.display()
            )),
        }
    }
}

pub(crate) async fn find_again(
    settings: Settings,
    options: Options,
    mut lost: Lost,
    pause: Duration,
) -> Result<Found, Failure> {
    sleep(pause).await;
    let mut attempts = 0;
    loop {
        let miss = match attempt(&settings, options).await {
            Ok((session, origin)) => return Ok(Found::Session(Box::new(session), origin)),
            Err(miss) => miss,
        };
        let searched = lost.at.elapsed();
        if !miss.may_pass()
            || options
                .patience
                .is_some_and(|patience| searched >= patience)
        {
            return Err(miss.into());
        }
        let gone = if let Miss::Connect(ConnectError::Unreachable { absent, .. }) = miss {
            // Who reads slowly may not have heard that the agent ends; it takes its socket away
            // then, and leaves it in a crash.
            if absent {
                lost.ended |= !lost.crashed.load(Ordering::Relaxed);
            } else if !lost.ended {
                lost.crashed.store(true, Ordering::Relaxed);
            }
            true
        } else {
            false
        };
        if gone && options.autostart && searched >= pause + RESTART_AFTER {
            let objection = lost.objection(&settings.socket);
            let not_started = match objection {
                Some(objection) => Some(objection),
                None => {
                    if !lost.ended {
                        lost.crashed.store(true, Ordering::Relaxed);
                    }
                    start_agent(&settings)
                        .await
                        .err()
                        .map(|error| error.to_string())
                }
            };
            if let Some(reason) = not_started {
                return Ok(Found::NotStarted(reason));
            }
        }
        sleep(backoff(attempts)).await;
        attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(origin: Origin, ended: bool, wanted: bool) -> Lost {
        Lost {
            origin,
            ended,
            crashed: Arc::default(),
            at: Instant::now(),
            wanted: Arc::new(AtomicBool::new(wanted)),
        }
    }

    #[test]
    fn only_an_agent_of_ones_own_is_replaced_and_an_ended_one_only_if_wanted() {
        let socket = Path::new("/s");
        for (origin, ended, wanted, replaced) in [
            (Origin::Ours, false, false, true),
            (Origin::Ours, true, false, false),
            (Origin::Ours, true, true, true),
            (Origin::Others(Some("/d".to_owned())), false, true, false),
            (Origin::Others(None), true, true, false),
        ] {
            let lost = lost(origin, ended, wanted);
            let objection = lost.objection(socket);
            assert_eq!(objection.is_none(), replaced, "{lost:?}: {objection:?}");
        }
    }
}
