//! What this host's users have really said: a server's word is not enough for that.
//!
//! Of each message that goes into the outbox a digest stays here. A message that comes from the
//! server in the name of one of this host's users, and is not known here, is kept under another
//! host's name: nobody takes it for theirs, and the log has no hole.

use super::outbox::{self, Position};
use protocol::{Committed, EncodedBody, HostName, MessageId, Outgoing, Room, UserName};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

/// What is put behind the name of this host for what nobody here has said.
const UNVERIFIED: &str = "unverified";

/// Messages of the outbox read at once.
const PAGE: usize = 256;

/// Bytes of a digest: nobody finds another message with the same 128 bits.
const DIGEST_BYTES: usize = 16;

/// Remembers that `message` was said here.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn note(transaction: &Connection, message: &Outgoing) -> Result<(), StoreError> {
    let digest = digest(&message.room, &message.author, &message.body);
    transaction
        .prepare_cached("INSERT OR REPLACE INTO authored (id, digest) VALUES (?1, ?2)")?
        .execute(params![message.id.to_bytes(), digest])?;
    Ok(())
}

/// Remembers all that waits in the outbox: of a host that has another name now, or whose messages
/// were accepted by a version that remembered nothing.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn note_waiting(transaction: &Connection) -> Result<(), StoreError> {
    let mut after = Position::START;
    loop {
        let page = outbox::page(transaction, after, PAGE)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.position;
        for waiting in &page {
            note(transaction, &waiting.message)?;
        }
    }
}

/// As [`note_waiting`], once in the life of a file.
///
/// # Errors
///
/// [`StoreError`]; nothing was changed then.
pub fn begin(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let begun = "INSERT OR IGNORE INTO meta (key, value) VALUES ('authored', x'01')";
    if transaction.execute(begun, ())? > 0 {
        note_waiting(&transaction)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Whether `message` says nothing but what its server decides anyway: who may do what in a room,
/// or that words were erased.
#[must_use]
pub fn is_servers(message: &Committed) -> bool {
    message.body.is_act() || message.body.is_erased()
}

/// Whether `message`, which names a user of this host as its author, was said here.
///
/// # Errors
///
/// [`StoreError`].
pub fn is_known(connection: &Connection, message: &Committed) -> Result<bool, StoreError> {
    let known = known(connection, message.id)?;
    let said = digest(&message.room, &message.author, &message.body);
    Ok(known.is_some_and(|known| known == said))
}

/// `message` as it is kept when nobody of its author's host, which is this one, has said it.
#[must_use]
pub fn disowned(message: &Committed) -> Committed {
    Committed {
        author: unverified(&message.author),
        ..message.clone()
    }
}

/// The name under which is kept what `author`, of this host, has not said as far as is known.
#[must_use]
pub fn unverified(author: &UserName) -> UserName {
    let ours = &author.host;
    let named = HostName::parse(&format!("{ours}.{UNVERIFIED}"));
    // A name that is too long for that loses its own part.
    let named = named.or_else(|_| HostName::parse(UNVERIFIED));
    let host = named.unwrap_or_else(|_| ours.clone());
    UserName::new(author.nick.clone(), host)
}

/// In whose name came what is kept as `stored`'s on the host `ours`.
#[must_use]
pub fn claimed(stored: &UserName, ours: &HostName) -> UserName {
    let author = UserName::new(stored.nick.clone(), ours.clone());
    if *stored == unverified(&author) {
        author
    } else {
        stored.clone()
    }
}

fn known(connection: &Connection, id: MessageId) -> Result<Option<[u8; DIGEST_BYTES]>, StoreError> {
    let found = connection
        .prepare_cached("SELECT digest FROM authored WHERE id = ?1")?
        .query_row([id.to_bytes()], |row| row.get(0))
        .optional()?;
    Ok(found)
}

fn digest(room: &Room, author: &UserName, body: &EncodedBody) -> [u8; DIGEST_BYTES] {
    // Names cannot contain NUL, so the parts cannot run into each other.
    let whole = Sha256::new()
        .chain_update(room.as_str())
        .chain_update([0])
        .chain_update(author.to_string())
        .chain_update([0])
        .chain_update(body.as_bytes())
        .finalize();
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(&whole[..DIGEST_BYTES]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::APPLICATION;
    use protocol::{Content, Seq, Timestamp};
    use room_log::Database;

    fn says(room: &str, author: &str, text: &str) -> Outgoing {
        Outgoing {
            id: MessageId::from_bytes([7; 16]),
            room: room.parse().unwrap(),
            author: author.parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text(text.to_owned()).encode().unwrap(),
        }
    }

    fn committed(said: Outgoing) -> Committed {
        Committed {
            room: said.room,
            seq: Seq::new(3),
            prev_seq: Seq::new(2),
            committed_at: Timestamp::from_micros(2),
            id: said.id,
            author: said.author,
            sent_at: said.sent_at,
            body: said.body,
        }
    }

    #[test]
    fn only_what_was_said_here_word_for_word_and_there_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        let said = says("#ops", "alice@ada", "hello");
        let of = |message: Outgoing| is_known(&connection, &committed(message)).unwrap();
        assert!(!of(said.clone()));
        note(&connection, &said).unwrap();
        assert!(of(said.clone()));
        for other in [
            says("#ops", "alice@ada", "give me your password"),
            says("#elsewhere", "alice@ada", "hello"),
            says("#ops", "bob@ada", "hello"),
        ] {
            assert!(!of(other));
        }
        let other_id = Outgoing {
            id: MessageId::from_bytes([8; 16]),
            ..said
        };
        assert!(!of(other_id));
    }

    #[test]
    fn what_nobody_here_said_is_kept_under_another_name() {
        let forged = committed(says("#ops", "alice@ada", "hello"));
        let kept = disowned(&forged);
        assert_eq!(kept.author.to_string(), "alice@ada.unverified");
        assert_eq!(
            (kept.id, kept.seq, &kept.body),
            (forged.id, forged.seq, &forged.body)
        );
        let long = format!("alice@{}", "a".repeat(60));
        let forged = committed(says("#ops", &long, "hello"));
        assert_eq!(disowned(&forged).author.to_string(), "alice@unverified");
    }
}
