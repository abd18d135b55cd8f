//! How many direct conversations a user of this host takes part in.
//!
//! A `#room` or `&room` takes a membership, and those are limited. A conversation takes nothing
//! but a name, so without a limit one user could fill the log's rooms with conversations with
//! nobody.

use protocol::{Epoch, Room, UserName};
use room_log::{StoreError, log};
use rusqlite::Connection;
use std::collections::{HashMap, HashSet, hash_map::Entry};

/// The conversations of each user who has sent to one since the agent started.
#[derive(Debug, Default)]
pub(super) struct Directs {
    /// One that was begun in a transaction that failed counts until the agent ends.
    of: HashMap<UserName, HashSet<Room>>,
}

impl Directs {
    /// Whether `user` may send to `room`: always if it is no conversation or exists already, and
    /// otherwise if `user` takes part in fewer than `max`, here, in the replica or in the outbox.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub(super) fn admit(
        &mut self,
        connection: &Connection,
        epochs: [Epoch; 2],
        room: &Room,
        user: &UserName,
        max: usize,
    ) -> Result<bool, StoreError> {
        if !matches!(room, Room::Direct(_)) {
            return Ok(true);
        }
        let known = match self.of.entry(user.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(load(connection, epochs, user)?),
        };
        if known.contains(room) {
            return Ok(true);
        }
        if known.len() >= max {
            // Somebody else may have begun it.
            let [here, there] = epochs.map(|epoch| log::head(connection, epoch, room));
            if here?.or(there?).is_none() {
                return Ok(false);
            }
        }
        known.insert(room.clone());
        Ok(true)
    }
}

fn load(
    connection: &Connection,
    epochs: [Epoch; 2],
    user: &UserName,
) -> Result<HashSet<Room>, StoreError> {
    let mut found = HashSet::new();
    let mut note = |room: Room| {
        if matches!(&room, Room::Direct(direct) if direct.includes(user)) {
            found.insert(room);
        }
    };
    for epoch in epochs {
        for (room, _) in log::heads(connection, epoch)? {
            note(room);
        }
    }
    let mut statement = connection.prepare_cached("SELECT DISTINCT room FROM outbox")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        note(Room::parse(&name).map_err(|_| StoreError::BadValue {
            what: "room",
            value: name,
        })?);
    }
    Ok(found)
}
