//! The register's tables, and what each operation does to them.

use super::{NewInvitation, operation::Admitted};
use protocol::{
    HostName, KeyFingerprint, Timestamp,
    admin::{AgentInfo, AgentState, InvitationInfo, InvitationState},
    federation::{BadInvitation, Refusal},
    likeness,
};
use room_log::{Application, BASE_SCHEMA, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The tables: `BASE_SCHEMA` is every database's first.
const REGISTER_SCHEMA: &str = "
-- Which key may speak for which host. A revoked key stays, so that it is told why.
CREATE TABLE agents (
    key         BLOB PRIMARY KEY,
    host        TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    invitation  INTEGER,
    next_key    BLOB UNIQUE,
    revoked_at  INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX agents_by_host ON agents (host) WHERE revoked_at IS NULL;

-- Digests only: who reads this file can let nobody in.
CREATE TABLE invitations (
    invitation INTEGER PRIMARY KEY AUTOINCREMENT,
    digest     BLOB NOT NULL UNIQUE,
    host       TEXT,
    uses_left  INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked    INTEGER NOT NULL DEFAULT 0
);
";

/// How far the stream of a register that several servers share was followed; nothing in the file of
/// one that has its own.
const FOLLOWED_SCHEMA: &str = "
CREATE TABLE followed (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    stream  TEXT NOT NULL,
    applied INTEGER NOT NULL
);
";

pub(super) const REGISTER: Application = Application {
    name: "register",
    // \"chtr\" in ASCII.
    id: 0x6368_7472,
    migrations: &[BASE_SCHEMA, REGISTER_SCHEMA, FOLLOWED_SCHEMA],
};

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) host: HostName,
    pub(super) revoked: bool,
    /// Whether it is the host's key, not the one it said it will have next.
    pub(super) is_current: bool,
    /// The host's key.
    current: KeyFingerprint,
}

/// What is known of `key`, current or next.
pub(super) fn find(tables: &Connection, key: KeyFingerprint) -> Result<Option<Entry>, StoreError> {
    let sql = "SELECT host, revoked_at IS NOT NULL, key FROM agents WHERE key = ?1 OR next_key = ?1
               ORDER BY key = ?1 DESC LIMIT 1";
    let row = tables
        .prepare_cached(sql)?
        .query_row([key.to_bytes()], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get::<_, [u8; 32]>(2)?,
            ))
        })
        .optional()?;
    let Some((host, revoked, current)) = row else {
        return Ok(None);
    };
    Ok(Some(Entry {
        host: parse_host(host)?,
        revoked,
        is_current: current == key.to_bytes(),
        current: KeyFingerprint::from_bytes(current),
    }))
}

/// The key that speaks for `host`, if one does.
fn key_of(tables: &Connection, host: &HostName) -> Result<Option<KeyFingerprint>, StoreError> {
    let sql = "SELECT key FROM agents WHERE host = ?1 AND revoked_at IS NULL";
    let key = tables
        .prepare_cached(sql)?
        .query_row([host.as_str()], |row| row.get(0))
        .optional()?;
    Ok(key.map(KeyFingerprint::from_bytes))
}

/// What comes of it when a key enrols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enrolment {
    /// It is in already.
    Already,
    /// This invitation lets it in, and this is the name that it gives up for it.
    New {
        invitation: u32,
        gives_up: Option<HostName>,
    },
}

/// Whether `key` may enrol as `host` with the invitation of this digest. Writes nothing.
pub(super) fn judge_enrolment(
    tables: &Connection,
    key: KeyFingerprint,
    host: &HostName,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<Result<Enrolment, Refusal>, StoreError> {
    let entry = find(tables, key)?;
    let mut gives_up = None;
    match entry {
        // A retry, or a line that was pasted twice, costs no invitation.
        Some(entry) if entry.host == *host && !entry.revoked => return Ok(Ok(Enrolment::Already)),
        Some(entry) if entry.is_current && !entry.revoked => gives_up = Some(entry.host),
        _ => {}
    }
    let sql = "SELECT invitation, host, uses_left, expires_at, revoked FROM invitations
               WHERE digest = ?1";
    let row = tables
        .prepare_cached(sql)?
        .query_row([digest], |row| {
            Ok((
                row.get::<_, u32>(0)?,
                row.get::<_, Option<String>>(1)?,
                row.get::<_, u32>(2)?,
                row.get::<_, u64>(3)?,
                row.get::<_, bool>(4)?,
            ))
        })
        .optional()?;
    let bad = |reason| Ok(Err(Refusal::BadInvitation { reason }));
    let Some((invitation, only, uses_left, expires_at, revoked)) = row else {
        return bad(BadInvitation::Unknown);
    };
    if revoked {
        return bad(BadInvitation::Revoked);
    }
    if expires_at <= now.micros() {
        return bad(BadInvitation::Expired);
    }
    if uses_left == 0 {
        return bad(BadInvitation::Used);
    }
    if only.is_some_and(|only| only != host.as_str()) {
        return bad(BadInvitation::OtherHost);
    }
    if key_of(tables, host)?.is_some_and(|other| other != key) {
        return Ok(Err(Refusal::HostEnrolled { host: host.clone() }));
    }
    if let Some(reason) = deception(tables, host)? {
        return Ok(Err(Refusal::Deceptive {
            host: host.clone(),
            reason,
        }));
    }
    Ok(Ok(Enrolment::New {
        invitation,
        gives_up,
    }))
}

/// Lets `key` in as `host`. Returns the name that it gave up for it.
pub(super) fn enrol(
    tables: &Connection,
    key: KeyFingerprint,
    host: &HostName,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<Result<Option<HostName>, Refusal>, StoreError> {
    let (invitation, gave_up) = match judge_enrolment(tables, key, host, digest, now)? {
        Ok(Enrolment::New {
            invitation,
            gives_up,
        }) => (invitation, gives_up),
        Ok(Enrolment::Already) => return Ok(Ok(None)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    tables
        .prepare_cached("UPDATE invitations SET uses_left = uses_left - 1 WHERE invitation = ?1")?
        .execute([invitation])?;
    put(tables, key, host, Some(invitation), now)?;
    Ok(Ok(gave_up))
}

/// What a new name could be taken for, if it could.
fn deception(tables: &Connection, host: &HostName) -> Result<Option<String>, StoreError> {
    let sql = "SELECT host FROM agents WHERE revoked_at IS NULL AND host <> ?1";
    let mut statement = tables.prepare_cached(sql)?;
    let mut rows = statement.query([host.as_str()])?;
    while let Some(row) = rows.next()? {
        let other: String = row.get(0)?;
        if likeness::look_alike(host.as_str(), &other) {
            return Ok(Some(format!("looks like {other}, which is another host")));
        }
    }
    Ok(None)
}

pub(super) fn admit(
    tables: &Connection,
    key: KeyFingerprint,
    host: &HostName,
    vouched: bool,
    now: Timestamp,
) -> Result<Result<Admitted, Refusal>, StoreError> {
    match find(tables, key)? {
        Some(entry) if entry.revoked => return Ok(Err(Refusal::Revoked)),
        Some(entry) if entry.host != *host => {
            return Ok(Err(Refusal::OtherHost {
                enrolled: entry.host,
                given: host.clone(),
            }));
        }
        Some(entry) if entry.is_current => return Ok(Ok(Admitted::AsBefore)),
        Some(entry) => {
            // It came with the key that it had announced.
            tables
                .prepare_cached("UPDATE agents SET key = ?2, next_key = NULL WHERE key = ?1")?
                .execute(params![entry.current.to_bytes(), key.to_bytes()])?;
            return Ok(Ok(Admitted::WithNextKey));
        }
        None => {}
    }
    if !vouched {
        return Ok(Err(Refusal::NotEnrolled));
    }
    // An authority's word does not undo what was decided here.
    let revoked: bool = tables
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM agents WHERE host = ?1 AND revoked_at IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM agents WHERE host = ?1 AND revoked_at IS NULL)",
        )?
        .query_row([host.as_str()], |row| row.get(0))?;
    if revoked {
        return Ok(Err(Refusal::Revoked));
    }
    tables
        .prepare_cached("DELETE FROM agents WHERE host = ?1 AND revoked_at IS NULL")?
        .execute([host.as_str()])?;
    put(tables, key, host, None, now)?;
    Ok(Ok(Admitted::AsBefore))
}

/// Lets `key` in as `host`, in the place of whatever it was before.
fn put(
    tables: &Connection,
    key: KeyFingerprint,
    host: &HostName,
    invitation: Option<u32>,
    now: Timestamp,
) -> Result<(), StoreError> {
    tables
        .prepare_cached(
            "INSERT OR REPLACE INTO agents (key, host, enrolled_at, invitation)
             VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            key.to_bytes(),
            host.as_str(),
            now.micros(),
            invitation
        ])?;
    Ok(())
}

/// Whether `host` has said before that `next` is its next key.
pub(super) fn has_noted(
    tables: &Connection,
    host: &HostName,
    next: KeyFingerprint,
) -> Result<bool, StoreError> {
    let found = find(tables, next)?;
    Ok(found.is_some_and(|entry| entry.host == *host && !entry.revoked && !entry.is_current))
}

pub(super) fn next_key(
    tables: &Connection,
    host: &HostName,
    key: KeyFingerprint,
    next: KeyFingerprint,
) -> Result<Result<(), Refusal>, StoreError> {
    let of = find(tables, next)?;
    if of.is_some_and(|entry| entry.host != *host || entry.revoked) {
        return Ok(Err(Refusal::Revoked));
    }
    // Who speaks on an old connection may have lost the name since.
    if key_of(tables, host)? != Some(key) {
        return Ok(Err(Refusal::NotEnrolled));
    }
    let sql = "UPDATE agents SET next_key = ?2
               WHERE host = ?1 AND revoked_at IS NULL AND key <> ?2";
    tables
        .prepare_cached(sql)?
        .execute(params![host.as_str(), next.to_bytes()])?;
    Ok(Ok(()))
}

pub(super) fn invite(
    tables: &Connection,
    digest: &[u8; 32],
    new: &NewInvitation,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let sql = "INSERT INTO invitations (digest, host, uses_left, made_at, expires_at)
               VALUES (?1, ?2, ?3, ?4, ?5) RETURNING invitation";
    let host = new.host.as_ref().map(HostName::as_str);
    let invitation = tables.prepare_cached(sql)?.query_row(
        params![
            digest,
            host,
            new.uses,
            now.micros(),
            new.expires_at.micros()
        ],
        |row| row.get(0),
    )?;
    Ok(invitation)
}

/// Takes an invitation back; returns whether there is one with this number.
pub(super) fn revoke_invitation(tables: &Connection, invitation: u32) -> Result<bool, StoreError> {
    let sql = "UPDATE invitations SET revoked = 1 WHERE invitation = ?1";
    Ok(tables.prepare_cached(sql)?.execute([invitation])? > 0)
}

/// Lets a host in no more; returns whether it was.
pub(super) fn revoke_agent(
    tables: &Connection,
    host: &HostName,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Whoever is to stay out may still have it.
    let sql = "UPDATE invitations SET revoked = 1 WHERE invitation IN
               (SELECT invitation FROM agents WHERE host = ?1 AND revoked_at IS NULL)";
    tables.prepare_cached(sql)?.execute([host.as_str()])?;
    let sql = "UPDATE agents SET revoked_at = ?2, next_key = NULL
               WHERE host = ?1 AND revoked_at IS NULL";
    let changed = tables
        .prepare_cached(sql)?
        .execute(params![host.as_str(), now.micros()])?;
    Ok(changed > 0)
}

/// Which stream the tables follow, and up to where; none if they are this server's own.
pub(super) fn followed(tables: &Connection) -> Result<Option<(String, u64)>, StoreError> {
    let found = tables
        .prepare_cached("SELECT stream, applied FROM followed")?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found)
}

/// Forgets everything.
pub(super) fn forget_all(tables: &Connection) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM agents",
        "DELETE FROM invitations",
        // So that invitations get the same numbers everywhere.
        "DELETE FROM sqlite_sequence WHERE name = 'invitations'",
    ] {
        tables.prepare_cached(sql)?.execute(())?;
    }
    Ok(())
}

/// Forgets everything, and follows `stream` from its beginning.
pub(super) fn begin_anew(tables: &Connection, stream: &str) -> Result<(), StoreError> {
    forget_all(tables)?;
    tables
        .prepare_cached("INSERT OR REPLACE INTO followed (one, stream, applied) VALUES (1, ?1, 0)")?
        .execute([stream])?;
    Ok(())
}

/// The tables are this server's own from now on.
pub(super) fn follow_nothing(tables: &Connection) -> Result<(), StoreError> {
    tables.prepare_cached("DELETE FROM followed")?.execute(())?;
    Ok(())
}

/// Everything up to `seq` of the stream was done.
pub(super) fn note_applied(tables: &Connection, seq: u64) -> Result<(), StoreError> {
    tables
        .prepare_cached("UPDATE followed SET applied = ?1")?
        .execute([seq])?;
    Ok(())
}

/// One page of invitations after the one with this number, and whether another follows.
pub(super) fn invitations(
    tables: &Connection,
    after: Option<u32>,
    now: Timestamp,
    limit: usize,
) -> Result<(Vec<InvitationInfo>, bool), StoreError> {
    let sql = "SELECT invitation, host, uses_left, made_at, expires_at, revoked FROM invitations
               WHERE invitation > ?1 ORDER BY invitation LIMIT ?2";
    let mut statement = tables.prepare_cached(sql)?;
    let rows = statement.query_map(params![after.unwrap_or(0), limit + 1], |row| {
        Ok((row.get::<_, Option<String>>(1)?, invitation_info(row, now)?))
    })?;
    let mut page = Vec::new();
    for row in rows {
        let (host, info) = row?;
        let host = host.map(parse_host).transpose()?;
        page.push(InvitationInfo { host, ..info });
    }
    Ok(cut(page, limit))
}

fn invitation_info(row: &Row<'_>, now: Timestamp) -> Result<InvitationInfo, rusqlite::Error> {
    let (uses_left, expires_at): (u32, u64) = (row.get(2)?, row.get(4)?);
    let state = if row.get(5)? {
        InvitationState::Revoked
    } else if uses_left == 0 {
        InvitationState::Used
    } else if expires_at <= now.micros() {
        InvitationState::Expired
    } else {
        InvitationState::Open
    };
    Ok(InvitationInfo {
        invitation: row.get(0)?,
        host: None,
        uses_left,
        made_at: Timestamp::from_micros(row.get(3)?),
        expires_at: Timestamp::from_micros(expires_at),
        state,
    })
}

/// One page of agents after this host, and whether another follows. Of a host whose key was
/// revoked and that has another now, the one that counts.
pub(super) fn agents(
    tables: &Connection,
    after: Option<&HostName>,
    limit: usize,
) -> Result<(Vec<AgentInfo>, bool), StoreError> {
    let sql = "SELECT host, key, enrolled_at, min(revoked_at IS NOT NULL) FROM agents
               WHERE host > ?1 GROUP BY host ORDER BY host LIMIT ?2";
    let after = after.map_or("", HostName::as_str);
    let mut statement = tables.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, limit + 1], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, [u8; 32]>(1)?,
            row.get::<_, u64>(2)?,
            row.get::<_, bool>(3)?,
        ))
    })?;
    let mut page = Vec::new();
    for row in rows {
        let (host, key, enrolled_at, revoked) = row?;
        page.push(AgentInfo {
            host: parse_host(host)?,
            key: KeyFingerprint::from_bytes(key),
            enrolled_at: Timestamp::from_micros(enrolled_at),
            state: if revoked {
                AgentState::Revoked
            } else {
                AgentState::Away
            },
        });
    }
    Ok(cut(page, limit))
}

/// How many agents are let in.
pub(super) fn enrolled(tables: &Connection) -> Result<u32, StoreError> {
    let sql = "SELECT count(*) FROM agents WHERE revoked_at IS NULL";
    Ok(tables
        .prepare_cached(sql)?
        .query_row((), |row| row.get(0))?)
}

/// Whether there is nothing.
pub(super) fn is_new(tables: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM agents)
               AND NOT EXISTS (SELECT 1 FROM invitations)";
    Ok(tables
        .prepare_cached(sql)?
        .query_row((), |row| row.get(0))?)
}

fn cut<T>(mut page: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let more = page.len() > limit;
    page.truncate(limit);
    (page, more)
}

pub(super) fn parse_host(text: String) -> Result<HostName, StoreError> {
    HostName::parse(&text).map_err(|_| StoreError::BadValue {
        what: "host",
        value: text,
    })
}
