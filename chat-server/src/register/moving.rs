//! The register when it is moved: all that its tables say, row by row.

use super::{
    Follower, OpenRegisterError, Register, RegisterStreamError,
    operation::Operation,
    store::{self, REGISTER},
    stream::RegisterStream,
};
use crate::log::JetStreamSettings;
use protocol::{HostName, KeyFingerprint, Timestamp};
use room_log::{Database, StoreError};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// In the table `meta`, while the register is one that an import wrote which has not ended.
const RESTORING: &str = "restoring";

/// A key, and whose it is or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentRow {
    pub(crate) key: KeyFingerprint,
    pub(crate) host: HostName,
    pub(crate) enrolled_at: Timestamp,
    /// The invitation that it came with.
    pub(crate) invitation: Option<u32>,
    /// The key that it announced.
    pub(crate) next_key: Option<KeyFingerprint>,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl AgentRow {
    fn place(&self) -> (&str, u64, [u8; 32]) {
        let at = self.enrolled_at.micros();
        (self.host.as_str(), at, self.key.to_bytes())
    }
}

/// An invitation; only its digest is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationRow {
    pub(crate) invitation: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) host: Option<HostName>,
    pub(crate) uses_left: u32,
    pub(crate) made_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) revoked: bool,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) agents: Vec<AgentRow>,
    pub(crate) invitations: Vec<InvitationRow>,
}

impl Rows {
    pub(crate) const fn is_empty(&self) -> bool {
        self.agents.is_empty() && self.invitations.is_empty()
    }

    /// What stands there twice that can be there once, if something does.
    pub(crate) fn conflict(&self) -> Option<String> {
        let mut keys = HashSet::new();
        let mut hosts = HashSet::new();
        for agent in &self.agents {
            let all = [Some(agent.key), agent.next_key];
            if !all.into_iter().flatten().all(|key| keys.insert(key)) {
                return Some(format!("a key of {} is there twice", agent.host));
            }
            if agent.revoked_at.is_none() && !hosts.insert(&agent.host) {
                return Some(format!("{} is let in twice", agent.host));
            }
        }
        let (mut numbers, mut digests) = (HashSet::new(), HashSet::new());
        let twice = self
            .invitations
            .iter()
            .find(|one| !numbers.insert(one.invitation) || !digests.insert(one.digest));
        twice.map(|one| format!("invitation {} is there twice", one.invitation))
    }

    /// Puts them in the order in which they are read.
    pub(crate) fn sort(&mut self) {
        self.agents
            .sort_by(|one, other| one.place().cmp(&other.place()));
        self.invitations.sort_by_key(|one| one.invitation);
    }

    /// All of them, as operations that put them where there is nothing.
    fn operations(&self) -> impl Iterator<Item = Operation> {
        let invitations = self.invitations.iter().cloned();
        let agents = self.agents.iter().cloned();
        invitations
            .map(Operation::RestoreInvitation)
            .chain(agents.map(Operation::RestoreAgent))
    }
}

/// Where the register of a server with this state directory is.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(REGISTER.name).with_extension("db")
}

/// What the register in `state_dir` says, if it is this server's own; nothing if there is none, if it is a
/// cache of what servers share, or if an import that did not come to its end has written it.
pub(crate) fn own_rows(state_dir: &Path) -> Result<Rows, OpenRegisterError> {
    if !is_there(state_dir)? {
        return Ok(Rows::default());
    }
    let (_, connection) = Database::open(state_dir, REGISTER)?;
    if store::followed(&connection)?.is_some() || is_half(&connection)? {
        return Ok(Rows::default());
    }
    Ok(rows(&connection)?)
}

fn is_half(tables: &Connection) -> Result<bool, StoreError> {
    let found = tables
        .prepare("SELECT 1 FROM meta WHERE key = ?1")?
        .exists([RESTORING])?;
    Ok(found)
}

fn is_there(state_dir: &Path) -> Result<bool, OpenRegisterError> {
    let path = path(state_dir);
    path.try_exists()
        .map_err(|reason| OpenRegisterError::Open(room_log::OpenError::Io { path, reason }))
}

/// What the register says that the servers of a log on NATS share; nothing if there is none.
pub(crate) async fn shared_rows(
    state_dir: &Path,
    settings: &JetStreamSettings,
) -> Result<Rows, OpenRegisterError> {
    if !RegisterStream::exists(settings).await? {
        return Ok(Rows::default());
    }
    let (register, _follower): (Register, Follower) =
        Register::open_shared(state_dir, settings).await?;
    Ok(register.readers.run(rows).await?)
}

/// Writes `rows` into the register of `state_dir`, which has none of its own, all at once, and reads them
/// back. It says that an import wrote it until [`end`].
pub(crate) fn restore(state_dir: &Path, expected: &Rows) -> Result<(), OpenRegisterError> {
    let (_, mut connection) = Database::open(state_dir, REGISTER)?;
    let transaction = connection.transaction().map_err(StoreError::from)?;
    store::forget_all(&transaction)?;
    store::follow_nothing(&transaction)?;
    transaction
        .execute(
            "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, x'01')",
            [RESTORING],
        )
        .map_err(StoreError::from)?;
    for operation in expected.operations() {
        operation.apply(&transaction)?;
    }
    let found = rows(&transaction)?;
    if found != *expected {
        let what = format!(
            "{} keys and {} invitations",
            found.agents.len(),
            found.invitations.len()
        );
        return Err(StoreError::bad("register, read back", what).into());
    }
    transaction.commit().map_err(StoreError::from)?;
    Database::settle(&connection)?;
    Ok(())
}

/// The import that wrote the register of `state_dir` has come to its end.
pub(crate) fn end(state_dir: &Path) -> Result<(), OpenRegisterError> {
    if !is_there(state_dir)? {
        return Ok(());
    }
    let (_, connection) = Database::open(state_dir, REGISTER)?;
    unmark(&connection)?;
    Database::settle(&connection)?;
    Ok(())
}

/// Whoever wrote it, it is the register now.
pub(super) fn unmark(tables: &Connection) -> Result<(), StoreError> {
    tables.execute("DELETE FROM meta WHERE key = ?1", [RESTORING])?;
    Ok(())
}

/// Writes `rows` into the stream of a register that was not there, and reads them back.
pub(crate) async fn restore_shared(
    settings: &JetStreamSettings,
    rows: &Rows,
) -> Result<(), OpenRegisterError> {
    let (stream, _) = RegisterStream::open(settings).await?;
    let not_followed = |reason: String| RegisterStreamError::NotFollowed {
        stream: stream.name().to_owned(),
        reason,
    };
    for operation in rows.operations() {
        let appended = stream.append("moved", &operation).await;
        appended.map_err(|error| not_followed(error.to_string()))?;
    }
    let mut applied = 0;
    let mut expected = rows.operations().peekable();
    while expected.peek().is_some() {
        let page = stream
            .read(applied)
            .await
            .map_err(RegisterStreamError::from)?;
        if page.is_empty() {
            return Err(not_followed(format!("nothing comes behind entry {applied}")).into());
        }
        for entry in page {
            if entry.operation.ok() != expected.next() {
                let reason = format!("entry {} is not what was written", entry.seq);
                return Err(not_followed(reason).into());
            }
            applied = entry.seq;
        }
    }
    Ok(())
}

/// All rows.
fn rows(tables: &Connection) -> Result<Rows, StoreError> {
    let mut found = Rows::default();
    let mut statement = tables.prepare(
        "SELECT key, host, enrolled_at, invitation, next_key, revoked_at FROM agents
         ORDER BY host, enrolled_at, key",
    )?;
    let mut agents = statement.query(())?;
    while let Some(row) = agents.next()? {
        let next_key: Option<[u8; 32]> = row.get(4)?;
        let revoked_at: Option<u64> = row.get(5)?;
        found.agents.push(AgentRow {
            key: KeyFingerprint::from_bytes(row.get(0)?),
            host: store::parse_host(row.get(1)?)?,
            enrolled_at: Timestamp::from_micros(row.get(2)?),
            invitation: row.get(3)?,
            next_key: next_key.map(KeyFingerprint::from_bytes),
            revoked_at: revoked_at.map(Timestamp::from_micros),
        });
    }
    let mut statement = tables.prepare(
        "SELECT invitation, digest, host, uses_left, made_at, expires_at, revoked FROM invitations
         ORDER BY invitation",
    )?;
    let mut invitations = statement.query(())?;
    while let Some(row) = invitations.next()? {
        let host: Option<String> = row.get(2)?;
        found.invitations.push(InvitationRow {
            invitation: row.get(0)?,
            digest: row.get(1)?,
            host: host.map(store::parse_host).transpose()?,
            uses_left: row.get(3)?,
            made_at: Timestamp::from_micros(row.get(4)?),
            expires_at: Timestamp::from_micros(row.get(5)?),
            revoked: row.get(6)?,
        });
    }
    Ok(found)
}

/// Puts an agent where it was.
pub(super) fn put_agent(tables: &Connection, agent: &AgentRow) -> Result<(), StoreError> {
    tables
        .prepare_cached(
            "INSERT OR REPLACE INTO agents (key, host, enrolled_at, invitation, next_key, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            agent.key.to_bytes(),
            agent.host.as_str(),
            agent.enrolled_at.micros(),
            agent.invitation,
            agent.next_key.map(KeyFingerprint::to_bytes),
            agent.revoked_at.map(Timestamp::micros),
        ])?;
    Ok(())
}

/// Puts an invitation where it was.
pub(super) fn put_invitation(
    tables: &Connection,
    invitation: &InvitationRow,
) -> Result<(), StoreError> {
    tables
        .prepare_cached(
            "INSERT OR REPLACE INTO invitations
             (invitation, digest, host, uses_left, made_at, expires_at, revoked)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            invitation.invitation,
            invitation.digest,
            invitation.host.as_ref().map(HostName::as_str),
            invitation.uses_left,
            invitation.made_at.micros(),
            invitation.expires_at.micros(),
            invitation.revoked,
        ])?;
    Ok(())
}
