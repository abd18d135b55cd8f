//! What this agent has when a connection begins.

use super::LinkError;
use crate::{
    hub::{Hub, Roll},
    store::{AgentWriter, Command, has_epoch, person},
};
use protocol::{Epoch, FederatedRoom, Nick, Room};
use room_log::{Head, Readers, StoreError, log};
use tokio::sync::oneshot;
use tracing::warn;

/// What the replica has of each room, and what the server must still be told.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) heads: Vec<(Room, Head)>,
    pub(super) departures: Vec<(person::DepartureNumber, FederatedRoom, Nick)>,
    /// Who was where before the departures were looked up, and which version of it that is.
    pub(super) roll: Roll,
    pub(super) roll_version: u64,
}

/// Makes the replica belong to the server's log.
///
/// # Errors
///
/// [`LinkError::Store`].
///
/// # Cancel safety
///
/// Cancel safe: at worst the replica belongs to the server's log already when it is asked again.
pub(super) async fn prepare(
    hub: &Hub,
    writer: &AgentWriter,
    readers: &Readers,
    epoch: Epoch,
) -> Result<Replica, LinkError> {
    let old = hub.server_epoch();
    if old != epoch {
        if has_epoch(old) {
            warn!(%old, new = %epoch, "the server has another log than before");
        }
        let ending = || LinkError::Store("the agent is ending".to_owned());
        let (done, begun) = oneshot::channel();
        writer
            .submit(Command::BeginEpoch { epoch, done })
            .await
            .map_err(|_| ending())?;
        begun
            .await
            .map_err(|_| ending())?
            .map_err(LinkError::Store)?;
    }
    // Taken first: a departure that is stored too late to be found is missing from a later roll.
    let roll_version = hub.roll_version();
    let roll = hub.roll();
    let read = readers.run(move |connection| {
        Ok(Replica {
            heads: log::heads(connection, epoch)?,
            departures: person::departures(connection)?,
            roll,
            roll_version,
        })
    });
    read.await
        .map_err(|error: StoreError| LinkError::Store(error.to_string()))
}
