//! Who a session speaks as: the nick it asks for, if it may be this OS user's.

use super::Services;
use crate::store::{
    Command,
    person::{self, Claim},
};
use nix::unistd::User;
use protocol::{
    Nick,
    limits::{MAX_NICKS_PER_UID, MAX_SOFTWARE_BYTES},
    local::{Refusal, Request, TerminalFrame},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

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
    // Who runs the agent can write its state anyway: a rule would only keep them from being bob
    // on a machine that happens to have one.
    if uid != owner() {
        services.check_login_name(nick, uid).await?;
    }
    services.claim(nick, uid).await?;
    Ok((nick.clone(), *interactive))
}

impl Services {
    /// Refuses a nick that nobody has yet and that is somebody else's login name.
    async fn check_login_name(&self, nick: &Nick, uid: u32) -> Result<(), Refusal> {
        let wanted = nick.clone();
        let known = self.read(move |connection| person::owner(connection, &wanted));
        if known.await?.is_some() {
            return Ok(());
        }
        match login(&self.lookups, nick).await {
            Some(login) if login != uid => Err(Refusal::NickTaken {
                nick: nick.clone(),
                uid: login,
            }),
            _ => Ok(()),
        }
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
            Ok(Claim::TooMany) => Err(Refusal::TooMany {
                what: "nicks of one OS user".to_owned(),
                max: u32::try_from(MAX_NICKS_PER_UID).unwrap_or(u32::MAX),
            }),
            Err(reason) => Err(Refusal::StorageFailed { reason }),
        }
    }
}

/// The uid with this login name; `None` if there is none or nobody can say.
async fn login(lookups: &Arc<Semaphore>, name: &Nick) -> Option<u32> {
    let name = name.to_string();
    let lookup = async {
        let place = Arc::clone(lookups).acquire_owned().await.ok()?;
        let found = tokio::task::spawn_blocking(move || {
            let _place = place;
            User::from_name(&name)
        });
        found.await.ok()?.ok()?
    };
    let user = timeout(LOOKUP_TIMEOUT, lookup).await.ok()?;
    user.map(|user| user.uid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_login_name_is_found() {
        let root = Nick::parse("root").unwrap();
        let lookups = Arc::new(Semaphore::new(1));
        assert_eq!(login(&lookups, &root).await, Some(0));
    }

    #[tokio::test]
    async fn a_failed_look_up_keeps_nobody_out() {
        let root = Nick::parse("root").unwrap();
        let closed = Arc::new(Semaphore::new(1));
        closed.close();
        assert_eq!(login(&closed, &root).await, None);
    }
}
