//! Accepting sessions.

use crate::{
    session::{self, Services},
    socket::Access,
};
use protocol::{limits::MAX_SESSIONS, local::Refusal};
use std::{sync::Arc, time::Duration};
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
    let places = Arc::new(Semaphore::new(MAX_SESSIONS));
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
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let session = admit(stream, access, place, services.clone(), stop.child_token());
        sessions.spawn(session.instrument(debug_span!("session", number)));
    }
}

async fn admit(
    mut stream: UnixStream,
    access: Access,
    place: Option<OwnedSemaphorePermit>,
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
    let refusal = if !access.allows(uid) {
        warn!(
            uid,
            "an OS user without the right to it tried to use the agent"
        );
        Some(Refusal::NotAllowed {
            uid,
            serves: access.to_string(),
        })
    } else if place.is_none() {
        let max = u32::try_from(MAX_SESSIONS).unwrap_or(u32::MAX);
        Some(Refusal::TooMany {
            what: "sessions".to_owned(),
            max,
        })
    } else {
        None
    };
    if let Some(refusal) = refusal {
        let told = session::turn_away(&mut stream, refusal).await;
        debug!(uid, ?told, "turned away");
        return;
    }
    match session::serve(stream, uid, services, stop).await {
        Ok(closed) => debug!(uid, ?closed, "session ended"),
        Err(error) => debug!(uid, %error, "session broke"),
    }
    drop(place);
}
