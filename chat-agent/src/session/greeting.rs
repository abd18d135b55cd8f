//! Who a session speaks as: the nick it asks for, if it may be this OS user's.

use super::Services;
use crate::store::{
    Command,
    person::{self, Claim},
};
use nix::{errno::Errno, unistd::User};
use protocol::{
    Nick,
    limits::{MAX_NICKS_PER_UID, MAX_SOFTWARE_BYTES},
    local::{Refusal, Request, TerminalFrame},
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tracing::warn;

/// How long the host's list of users, which may be a directory server's, has to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// Look-ups at a time: one that hangs keeps a thread.
pub(crate) const MAX_LOOKUPS: usize = 4;

/// The OS user who runs this agent, and may do everything to it.
pub(super) fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who the session speaks as, if it may, and whether somebody reads there.
pub(super) async fn introduce(
    hello: &TerminalFrame,
    uid: u32,
    services: &Services,
) -> Result<(Nick, bool), Refusal> {
    let Request::Hello {
        nick,
        software,
        interactive,
    } = &hello.request
    else {
        return Err(Refusal::HelloOutOfPlace);
    };
    if software.len() > MAX_SOFTWARE_BYTES {
        let reason = format!("the software description is over {MAX_SOFTWARE_BYTES} bytes");
        return Err(Refusal::Malformed { reason });
    }
    // Nothing is written for a nick that is known: whoever has one comes in while the disk is full.
    // Who runs the agent can write its state anyway: a rule would only keep them from being bob
    // on a machine that happens to have one.
    match services.owner_of(nick).await? {
        Some(known) if known == uid => {}
        Some(known) => {
            return Err(Refusal::NickTaken {
                nick: nick.clone(),
                uid: known,
            });
        }
        None => {
            if uid != owner() {
                services.check_login_name(nick, uid).await?;
            }
            services.claim(nick, uid).await?;
        }
    }
    Ok((nick.clone(), *interactive))
}

impl Services {
    /// Refuses a nick that nobody has yet and that is, or may be, somebody else's login name.
    ///
    /// What is claimed once is kept for good. So while the host's list of users cannot be asked
    /// nobody gets a nick that is new here: a directory server that is away must not be the
    /// chance to become one of its users. Whoever has a nick already goes on under it. Where the
    /// list never answers, only the user who runs the agent gets new nicks, who is not checked.
    async fn check_login_name(&self, nick: &Nick, uid: u32) -> Result<(), Refusal> {
        may_be(nick, uid, login(&self.lookups, nick).await)
    }

    /// Whose nick it is, if somebody's.
    async fn owner_of(&self, nick: &Nick) -> Result<Option<u32>, Refusal> {
        let wanted = nick.clone();
        self.read(move |connection| person::owner(connection, &wanted))
            .await
    }

    async fn claim(&self, nick: &Nick, uid: u32) -> Result<(), Refusal> {
        let (done, claimed) = oneshot::channel();
        let command = Command::Claim {
            nick: nick.clone(),
            uid,
            done,
        };
        let submitted = self.writer.submit(command).await;
        submitted.map_err(|_| Refusal::ShuttingDown)?;
        match claimed.await.map_err(|_| Refusal::ShuttingDown)? {
            Ok(Claim::Owned) => Ok(()),
            Ok(Claim::TakenBy { uid }) => Err(Refusal::NickTaken {
                nick: nick.clone(),
                uid,
            }),
            Ok(Claim::LooksLike(other)) => Err(Refusal::Deceptive {
                nick: nick.clone(),
                reason: format!("looks like {other}, which is somebody else's on this host"),
            }),
            Ok(Claim::Mixed) => Err(Refusal::Deceptive {
                nick: nick.clone(),
                reason: "mixes letters of several scripts".to_owned(),
            }),
            Ok(Claim::TooMany) => Err(Refusal::TooMany {
                what: "nicks of one OS user".to_owned(),
                max: u32::try_from(MAX_NICKS_PER_UID).unwrap_or(u32::MAX),
            }),
            Err(reason) => Err(Refusal::StorageFailed { reason }),
        }
    }
}

/// Why nobody knows whose login name a nick is.
#[derive(Debug, Error)]
enum LookupError {
    #[error("no answer within {} s", LOOKUP_TIMEOUT.as_secs())]
    TooSlow,
    #[error(transparent)]
    System(#[from] Errno),
    #[error("nobody could be asked")]
    NotAsked,
}

/// Whether `uid` may be the first with this nick, after whose `login` name it is was looked up.
fn may_be(nick: &Nick, uid: u32, login: Result<Option<u32>, LookupError>) -> Result<(), Refusal> {
    match login {
        Ok(Some(login)) if login != uid => Err(Refusal::NickTaken {
            nick: nick.clone(),
            uid: login,
        }),
        Ok(_) => Ok(()),
        Err(error) => {
            warn!(%nick, uid, %error, "a login name could not be looked up");
            let reason = format!(
                "this host's list of users does not tell whether {nick} is a login name \
                 ({error}), so nobody can take it as a nick now: try again later"
            );
            Err(Refusal::StorageFailed { reason })
        }
    }
}

/// The uid with this login name; `None` if the host's list of users has no such name.
async fn login(lookups: &Arc<Semaphore>, name: &Nick) -> Result<Option<u32>, LookupError> {
    let name = name.to_string();
    let lookup = async {
        let place = Arc::clone(lookups).acquire_owned().await;
        let place = place.map_err(|_| LookupError::NotAsked)?;
        let found = tokio::task::spawn_blocking(move || {
            let _place = place;
            User::from_name(&name)
        });
        let found = found.await.map_err(|_| LookupError::NotAsked)?;
        Ok::<_, LookupError>(found?)
    };
    let user = timeout(LOOKUP_TIMEOUT, lookup).await;
    let user = user.map_err(|_| LookupError::TooSlow)??;
    Ok(user.map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nick(text: &str) -> Nick {
        Nick::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_login_name_is_only_for_its_own_user() {
        let lookups = Arc::new(Semaphore::new(1));
        let root = nick("root");
        let login = || login(&lookups, &root);
        assert_eq!(may_be(&root, 0, login().await), Ok(()));
        let taken = Refusal::NickTaken {
            nick: root.clone(),
            uid: 0,
        };
        assert_eq!(may_be(&root, 1, login().await), Err(taken));
    }

    #[tokio::test]
    async fn a_name_that_no_user_has_is_for_anybody() {
        let lookups = Arc::new(Semaphore::new(1));
        let name = nick("no-such-user");
        let found = login(&lookups, &name).await;
        assert_eq!(may_be(&name, 1, found), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_gives_no_login_name_away() {
        let root = nick("root");
        let hung = Arc::new(Semaphore::new(0));
        let closed = Arc::new(Semaphore::new(1));
        closed.close();
        let failures = [
            login(&hung, &root).await,
            login(&closed, &root).await,
            Err(LookupError::System(Errno::ECONNREFUSED)),
        ];
        for failure in failures {
            let refused = may_be(&root, 1, failure);
            assert!(
                matches!(refused, Err(Refusal::StorageFailed { .. })),
                "{refused:?}"
            );
        }
    }
}
