//! Giving this host another name, with all that is its own.
//!
//! Two machines that were cloned have one name, and a server takes one of them. The other one
//! needs another name and another agent id, and keeps its history, its memberships and what waits
//! in its outbox.
//!
//! What was said stays as it was said, under the old name. Conversations with people of other
//! hosts stay what they are, too: the server keeps them for the host with the old name, and under
//! the new one they begin anew. What was replicated of them, and how far it was read, is kept for
//! a host that takes its old name back.

use super::{
    authored,
    identity::{self, Identity},
};
use protocol::{AgentId, Direct, Epoch, HostName, MessageId, Room, UserName};
use room_log::{StoreError, charters};
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

/// Tables with users of this host, and the column that names them. Where there is a room too, it
/// is in `room`.
const USERS: [(&str, &str); 7] = [
    ("members", "user"),
    ("founders", "user"),
    ("read_markers", "user"),
    ("positions", "user"),
    ("departures", "user"),
    ("outbox", "author"),
    ("refused", "author"),
];

/// What became of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renamed {
    /// It was this one already, or there was none yet.
    Nothing,
    /// It was this one.
    From(HostName),
}

/// Gives the host in this database the name `new`, and makes another agent of it.
///
/// The caller holds the lock of the state directory. `before_commit` is what must not be left undone
/// when the host has its new name: after a crash in between it has the old one, and is told again.
/// Asked again, it does nothing.
///
/// # Errors
///
/// [`StoreError`], or that of `before_commit`; nothing was changed here then.
pub fn rename_host<E: From<StoreError>>(
    connection: &mut Connection,
    new: &HostName,
    before_commit: impl FnOnce() -> Result<(), E>,
) -> Result<Renamed, E> {
    let transaction = connection.transaction().map_err(StoreError::from)?;
    let Some(found) = Identity::load(&transaction)? else {
        return Ok(Renamed::Nothing);
    };
    if found.host == *new {
        return Ok(Renamed::Nothing);
    }
    let old = found.host;
    let rename = Rename { old: &old, new };
    for (table, column) in USERS {
        rename.users(&transaction, table, column)?;
    }
    keep_keys(&transaction)?;
    // What waits is said by the same people, who are called otherwise now.
    authored::note_waiting(&transaction)?;
    rename.log(&transaction, found.local_epoch)?;
    rename.charters(&transaction)?;
    identity::set_name(&transaction, AgentId::new(), new)?;
    before_commit()?;
    transaction.commit().map_err(StoreError::from)?;
    Ok(Renamed::From(old))
}

/// What waits under somebody's key stays under it: its id is one of their new name.
fn keep_keys(transaction: &Connection) -> Result<(), StoreError> {
    let waiting: Vec<([u8; 16], String)> = transaction
        .prepare("SELECT id, author FROM outbox")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut update = transaction.prepare("UPDATE outbox SET id = ?1 WHERE id = ?2")?;
    for (stored, author) in waiting {
        let id = MessageId::from_bytes(stored);
        let kept = id.made_over_to(&parse_user(&author)?);
        if kept != id {
            update.execute(params![kept.to_bytes(), stored])?;
        }
    }
    Ok(())
}

struct Rename<'a> {
    old: &'a HostName,
    new: &'a HostName,
}

impl Rename<'_> {
    /// The rows of this host's users, with the conversations they are about.
    fn users(&self, transaction: &Connection, table: &str, column: &str) -> Result<(), StoreError> {
        // What has not been sent goes to the new conversation, where nothing has been read.
        let is_about_sending = matches!(table, "outbox" | "refused");
        let mut pairs = BTreeMap::new();
        let mut select =
            transaction.prepare(&format!("SELECT DISTINCT {column}, room FROM {table}"))?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            let (user, room): (String, String) = (row.get(0)?, row.get(1)?);
            let renamed = self.pair(parse_user(&user)?, parse_room(&room)?, is_about_sending);
            if let Some(renamed) = renamed {
                pairs.insert((user, room), renamed);
            }
        }
        let mut update = transaction.prepare(&format!(
            "UPDATE {table} SET {column} = ?1, room = ?2 WHERE {column} = ?3 AND room = ?4"
        ))?;
        for ((user, room), (new_user, new_room)) in pairs {
            update.execute(params![new_user.to_string(), new_room.as_str(), user, room])?;
        }
        Ok(())
    }

    /// The rooms that this agent orders itself.
    fn log(&self, transaction: &Connection, local_epoch: Epoch) -> Result<(), StoreError> {
        let mut select = transaction.prepare("SELECT room_id, name FROM rooms WHERE epoch = ?1")?;
        let mut update = transaction.prepare("UPDATE rooms SET name = ?1 WHERE room_id = ?2")?;
        let rooms: Vec<(i64, String)> = select
            .query_map([local_epoch.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_, _>>()?;
        for (id, name) in rooms {
            let room = self.room(parse_room(&name)?);
            if room.as_str() != name {
                update.execute(params![room.as_str(), id])?;
            }
        }
        Ok(())
    }

    /// Who may do what in the rooms that this agent orders itself. Acts in their logs stay as they
    /// were written; nobody folds them again.
    fn charters(&self, transaction: &Connection) -> Result<(), StoreError> {
        let mut select =
            transaction.prepare("SELECT room FROM charters WHERE substr(room, 1, 1) = '&'")?;
        let rooms: Vec<String> = select
            .query_map((), |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for name in rooms {
            let room = parse_room(&name)?;
            if let Some(charter) = charters::load(transaction, &room)? {
                let charter = charter.with_host_renamed(self.old, self.new);
                charters::store(transaction, &room, &charter)?;
            }
        }
        Ok(())
    }

    /// What a row of `user` about `room` becomes; `None` if it stays as it is.
    fn pair(&self, user: UserName, room: Room, sending: bool) -> Option<(UserName, Room)> {
        if user.host != *self.old {
            return None;
        }
        let stays = matches!(room, Room::Direct(_)) && !room.is_local_to(self.old);
        if stays && !sending {
            return None;
        }
        Some((self.user(user), self.room(room)))
    }

    fn user(&self, user: UserName) -> UserName {
        if user.host == *self.old {
            UserName::new(user.nick, self.new.clone())
        } else {
            user
        }
    }

    fn room(&self, room: Room) -> Room {
        match room {
            Room::Direct(direct) => {
                let [one, other] = direct.ends().map(|end| self.user(end.clone()));
                // The order of the two may be another.
                Room::Direct(Direct::between(one, other))
            }
            room => room,
        }
    }
}

fn parse_user(text: &str) -> Result<UserName, StoreError> {
    UserName::parse(text).map_err(|_| StoreError::BadValue {
        what: "user",
        value: text.to_owned(),
    })
}

fn parse_room(text: &str) -> Result<Room, StoreError> {
    Room::parse(text).map_err(|_| StoreError::BadValue {
        what: "room",
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{outbox, person, position, refused, schema::APPLICATION};
    use protocol::{Content, Cursor, FederatedRoom, Outgoing, Seq, Timestamp};
    use room_log::{Database, roster};

    fn room(text: &str) -> Room {
        Room::parse(text).unwrap()
    }

    fn user(text: &str) -> UserName {
        UserName::parse(text).unwrap()
    }

    fn host(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    fn message(author: &str, to: &str) -> Outgoing {
        Outgoing {
            id: MessageId::new(),
            room: room(to),
            author: user(author),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hi".to_owned()).encode().unwrap(),
        }
    }

    fn rename(connection: &mut Connection, new: &str) -> Renamed {
        rename_host(connection, &host(new), || Ok::<_, StoreError>(())).unwrap()
    }

    #[test]
    fn a_host_whose_key_cannot_be_made_anew_keeps_its_name_until_it_is_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, mut connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let before = Identity::load_or_create(&connection, &host("vm")).unwrap();
        let fails = || Err(StoreError::DiskFull);
        rename_host(&mut connection, &host("aaa"), fails).unwrap_err();
        assert_eq!(Identity::load(&connection).unwrap(), Some(before));
        assert_eq!(rename(&mut connection, "aaa"), Renamed::From(host("vm")));
    }

    #[test]
    fn what_waits_under_a_key_is_known_under_it_after_a_new_name() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, mut connection) = Database::open(dir.path(), APPLICATION).unwrap();
        Identity::load_or_create(&connection, &host("vm")).unwrap();
        let alice = user("alice@vm");
        for to in ["#ops", "alice@vm,carl@bee"] {
            let mut waiting = message("alice@vm", to);
            waiting.id = MessageId::from_key(&alice, &waiting.room, "deploy-7");
            outbox::push(&connection, &waiting).unwrap();
        }
        rename(&mut connection, "aaa");
        let alice = user("alice@aaa");
        let found = outbox::page(&connection, outbox::Position::START, 10).unwrap();
        for (kept, to) in found.iter().zip(["#ops", "alice@aaa,carl@bee"]) {
            let id = MessageId::from_key(&alice, &room(to), "deploy-7");
            assert_eq!((kept.message.id, &kept.message.author), (id, &alice));
        }
        assert_eq!(found.len(), 2);
    }

    /// All texts of a column, in order.
    fn texts(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map((), |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn everything_that_is_the_hosts_own_gets_the_new_name_and_history_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, mut connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let before = Identity::load_or_create(&connection, &host("vm")).unwrap();
        let (alice, bob) = (user("alice@vm"), user("bob@vm"));
        let ops = FederatedRoom::parse("#ops").unwrap();
        roster::join(&connection, &room("#ops"), &alice).unwrap();
        roster::join(&connection, &room("&den"), &bob).unwrap();
        person::add_departure(&connection, &ops, &bob).unwrap();
        let at = |epoch| Cursor {
            epoch,
            seq: Seq::new(7),
        };
        let own = "alice@vm,bob@vm";
        let abroad = "alice@vm,carl@bee";
        for (name, epoch) in [
            ("#ops", before.server_epoch),
            (own, before.local_epoch),
            (abroad, before.server_epoch),
        ] {
            person::mark_read(&connection, &alice, &room(name), at(epoch)).unwrap();
            let consumer = protocol::ConsumerName::parse("c").unwrap();
            let cursor = at(epoch);
            position::confirm(&connection, &alice, &consumer, &room(name), cursor).unwrap();
        }
        for waiting in [message("alice@vm", "#ops"), message("alice@vm", abroad)] {
            outbox::push(&connection, &waiting).unwrap();
        }
        let lost = refused::Refused {
            id: MessageId::new(),
            room: room("#gone"),
            reason: "there is no such room".to_owned(),
            at: Timestamp::from_micros(1),
        };
        refused::keep(&connection, &bob, &lost).unwrap();
        for (name, epoch) in [
            ("&den", before.local_epoch),
            (own, before.local_epoch),
            (abroad, before.server_epoch),
        ] {
            let sql = "INSERT INTO rooms (epoch, name) VALUES (?1, ?2)";
            connection
                .execute(sql, params![epoch.to_bytes(), name])
                .unwrap();
        }

        let renamed = rename(&mut connection, "aaa");
        assert_eq!(renamed, Renamed::From(host("vm")));
        let after = Identity::load(&connection).unwrap().unwrap();
        assert_eq!(after.host, host("aaa"));
        assert_ne!(after.agent, before.agent);
        assert_eq!(after.local_epoch, before.local_epoch);
        let of = |sql: &str| texts(&connection, sql);
        let users = of("SELECT user FROM members ORDER BY user");
        assert_eq!(users, ["alice@aaa", "bob@aaa"]);
        assert_eq!(of("SELECT user FROM departures"), ["bob@aaa"]);
        for table in ["read_markers", "positions"] {
            let sql = format!("SELECT user || ' ' || room FROM {table} ORDER BY room");
            let expected = [
                "alice@aaa #ops",
                "alice@aaa alice@aaa,bob@aaa",
                "alice@vm alice@vm,carl@bee",
            ];
            assert_eq!(of(&sql), expected, "{table}");
        }
        let waiting = of("SELECT author || ' ' || room FROM outbox ORDER BY position");
        assert_eq!(waiting, ["alice@aaa #ops", "alice@aaa alice@aaa,carl@bee"]);
        assert_eq!(of("SELECT author FROM refused"), ["bob@aaa"]);
        let rooms = of("SELECT name FROM rooms ORDER BY name");
        assert_eq!(rooms, ["&den", "alice@aaa,bob@aaa", "alice@vm,carl@bee"]);

        let again = rename(&mut connection, "aaa");
        assert_eq!(again, Renamed::Nothing);
        assert_eq!(Identity::load(&connection).unwrap().unwrap(), after);
        // And back: nothing is in the way.
        rename(&mut connection, "vm");
        assert_eq!(
            texts(&connection, "SELECT DISTINCT user FROM read_markers"),
            ["alice@vm"]
        );
    }

    #[test]
    fn the_ends_of_a_conversation_stay_in_order() {
        let (old, new) = (host("vm"), host("zoo"));
        let rename = Rename {
            old: &old,
            new: &new,
        };
        assert_eq!(rename.room(room("bob@hub,bob@vm")), room("bob@hub,bob@zoo"));
        let (old, new) = (host("vm"), host("ada"));
        let rename = Rename {
            old: &old,
            new: &new,
        };
        assert_eq!(rename.room(room("bob@hub,bob@vm")), room("bob@ada,bob@hub"));
    }

    #[test]
    fn a_host_without_a_name_has_nothing_to_rename() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, mut connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let renamed = rename(&mut connection, "ada");
        assert_eq!(renamed, Renamed::Nothing);
        assert_eq!(Identity::load(&connection).unwrap(), None);
    }
}
