//! Accepting sessions.

use crate::{
    session::{self, Services},
    socket::Access,
};
use protocol::{
    limits::{MAX_SESSIONS, MAX_SESSIONS_PER_USER},
    local::Refusal,
};
use rustix::process::geteuid;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, warn};

/// How long to leave the kernel alone when it has no file descriptors or memory for another
/// connection: accepting again at once would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts sessions until `stop`, each as a task of `sessions`.
pub async fn accept(
    listener: UnixListener,
    access: Access,
    services: Services,
    sessions: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Places::new(geteuid().as_raw()));
    let mut number: u64 = 0;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a session");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number += 1;
        let session = admit(
            stream,
            access,
            Arc::clone(&places),
            services.clone(),
            stop.child_token(),
        );
        sessions.spawn(session.instrument(debug_span!("session", number)));
    }
}

async fn admit(
    mut stream: UnixStream,
    access: Access,
    places: Arc<Places>,
    services: Services,
    stop: CancellationToken,
) {
    // Read once: the kernel recorded them when the other side connected.
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            warn!(%error, "cannot tell who connected");
            return;
        }
    };
    let place = if access.allows(uid) {
        places.take(uid)
    } else {
        warn!(
            uid,
            "an OS user without the right to it tried to use the agent"
        );
        Err(Refusal::NotAllowed {
            uid,
            serves: access.to_string(),
        })
    };
    let place = match place {
        Ok(place) => place,
        Err(refusal) => {
            let told = session::turn_away(&mut stream, refusal).await;
            debug!(uid, ?told, "turned away");
            return;
        }
    };
    match session::serve(stream, uid, services, stop).await {
        Ok(closed) => debug!(uid, ?closed, "session ended"),
        Err(error) => debug!(uid, %error, "session broke"),
    }
    drop(place);
}

/// Places for sessions: so many in all, and of one OS user so many that others get in.
struct Places {
    free: Arc<Semaphore>,
    /// Sessions of OS users that have any.
    taken: Mutex<HashMap<u32, usize>>,
    /// Who may have all of them: the OS user who runs the agent.
    owner: u32,
}

/// A place for one session, given back when dropped.
struct Place {
    places: Arc<Places>,
    uid: u32,
    _free: OwnedSemaphorePermit,
}

impl Places {
    fn new(owner: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_SESSIONS)),
            taken: Mutex::default(),
            owner,
        }
    }

    fn take(self: &Arc<Self>, uid: u32) -> Result<Place, Refusal> {
        let too_many = |what: &str, max: usize| Refusal::TooMany {
            what: what.to_owned(),
            max: u32::try_from(max).unwrap_or(u32::MAX),
        };
        let free = Arc::clone(&self.free).try_acquire_owned();
        let free = free.map_err(|_| too_many("sessions", MAX_SESSIONS))?;
        let mut taken = self.taken();
        let count = taken.entry(uid).or_default();
        if *count >= MAX_SESSIONS_PER_USER && uid != self.owner {
            return Err(too_many("sessions of one OS user", MAX_SESSIONS_PER_USER));
        }
        *count += 1;
        Ok(Place {
            places: Arc::clone(self),
            uid,
            _free: free,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        // These are plain numbers.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_of_a_shared_agent_cannot_take_all_places() {
        let places = Arc::new(Places::new(1));
        let mut greedy: Vec<_> = (0..MAX_SESSIONS_PER_USER)
            .map(|_| places.take(2).unwrap())
            .collect();
        assert!(places.take(2).is_err());
        assert!(places.take(3).is_ok());
        greedy.pop();
        assert!(places.take(2).is_ok());
        drop(greedy);
        let all: Vec<_> = (0..MAX_SESSIONS).map(|_| places.take(1).unwrap()).collect();
        assert!(places.take(1).is_err());
        drop(all);
        assert!(places.taken().is_empty());
    }
}
