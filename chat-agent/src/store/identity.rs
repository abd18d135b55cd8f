//! Who this agent is, and which servers it remembers.

use protocol::{AgentId, Epoch, HostName, ServerAddress, ServerTrust};
use room_log::StoreError;
use rusqlite::{Connection, OptionalExtension, params};

/// The life of the server's log before any server was met.
pub const NO_EPOCH: Epoch = Epoch::from_bytes([0; 8]);

/// Servers whose keys are remembered. When there are more, the one met longest ago is forgotten.
const MAX_MET: usize = 64;

/// What a state directory says of the agent it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which agent this is, for the server.
    pub agent: AgentId,
    /// What this host is called.
    pub host: HostName,
    /// The life of this agent's own log: `&rooms` and conversations on this host.
    pub local_epoch: Epoch,
    /// The life of the server's log that the replica belongs to; [`NO_EPOCH`] before the first.
    pub server_epoch: Epoch,
    /// The servers to try in turn.
    pub servers: Vec<ServerAddress>,
}

impl Identity {
    /// Reads it, or makes it up for `host` the first time.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn load_or_create(connection: &Connection, host: &HostName) -> Result<Self, StoreError> {
        if let Some(found) = Self::load(connection)? {
            return Ok(found);
        }
        let new = Self {
            agent: AgentId::new(),
            host: host.clone(),
            local_epoch: Epoch::new(),
            server_epoch: NO_EPOCH,
            servers: Vec::new(),
        };
        connection.execute_batch("BEGIN IMMEDIATE")?;
        put(connection, "agent", &new.agent.to_bytes())?;
        put(connection, "host", new.host.as_str().as_bytes())?;
        put(connection, "local_epoch", &new.local_epoch.to_bytes())?;
        set_server_epoch(connection, new.server_epoch)?;
        set_servers(connection, &new.servers)?;
        connection.execute_batch("COMMIT")?;
        Ok(new)
    }

    /// Reads it; `None` if this state directory is new.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn load(connection: &Connection) -> Result<Option<Self>, StoreError> {
        let Some(agent) = array(connection, "agent")? else {
            return Ok(None);
        };
        let missing = |what| StoreError::BadValue {
            what,
            value: "nothing".to_owned(),
        };
        let host = text(connection, "host")?.ok_or_else(|| missing("host"))?;
        let servers = text(connection, "servers")?.unwrap_or_default();
        Ok(Some(Self {
            agent: AgentId::from_bytes(agent),
            host: HostName::parse(&host).map_err(|_| StoreError::BadValue {
                what: "host",
                value: host,
            })?,
            local_epoch: array(connection, "local_epoch")?
                .map(Epoch::from_bytes)
                .ok_or_else(|| missing("local epoch"))?,
            server_epoch: array(connection, "server_epoch")?.map_or(NO_EPOCH, Epoch::from_bytes),
            servers: parse_servers(&servers)?,
        }))
    }
}

/// Gives this agent's own log a new epoch and keeps all that is in it. For state that was restored
/// from a backup, and so may give seqs again that it gave before.
///
/// # Errors
///
/// [`StoreError`]; nothing was changed then.
pub fn renew_local_epoch(connection: &mut Connection) -> Result<Epoch, StoreError> {
    let new = Epoch::new();
    let transaction = connection.transaction()?;
    if let Some(old) = array::<8>(&transaction, "local_epoch")? {
        put(&transaction, "local_epoch", &new.to_bytes())?;
        for table in ["rooms", "read_markers"] {
            transaction.execute(
                &format!("UPDATE {table} SET epoch = ?1 WHERE epoch = ?2"),
                params![new.to_bytes(), old],
            )?;
        }
    }
    transaction.commit()?;
    Ok(new)
}

/// Makes this agent another one, of a host with another name.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub(super) fn set_name(
    transaction: &Connection,
    agent: AgentId,
    host: &HostName,
) -> Result<(), StoreError> {
    put(transaction, "agent", &agent.to_bytes())?;
    put(transaction, "host", host.as_str().as_bytes())
}

/// Remembers the servers to try in turn.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn set_servers(transaction: &Connection, servers: &[ServerAddress]) -> Result<(), StoreError> {
    put(transaction, "servers", join(servers).as_bytes())
}

/// The servers that somebody named, with what is known of them: one that is named without a key is
/// known by the key it had when this host was connected with it.
///
/// # Errors
///
/// [`StoreError`].
pub fn recognise(
    connection: &Connection,
    servers: &[ServerAddress],
) -> Result<Vec<ServerAddress>, StoreError> {
    let met = parse_servers(&text(connection, "met_servers")?.unwrap_or_default())?;
    let recognised = servers.iter().map(|server| {
        let met = met.iter().find(|met| met.place() == server.place());
        match (&server.trust, met) {
            (ServerTrust::Authority, Some(met)) => met.clone(),
            _ => server.clone(),
        }
    });
    Ok(recognised.collect())
}

/// Remembers the key of a server that let this host in, also when others are tried instead of it.
fn meet(transaction: &Connection, server: &ServerAddress) -> Result<(), StoreError> {
    if !matches!(server.trust, ServerTrust::Key { .. }) {
        return Ok(());
    }
    let mut met = parse_servers(&text(transaction, "met_servers")?.unwrap_or_default())?;
    met.retain(|other| other.place() != server.place());
    met.push(server.clone());
    let surplus = met.len().saturating_sub(MAX_MET);
    met.drain(..surplus);
    put(transaction, "met_servers", join(&met).as_bytes())
}

/// Remembers `server` as `learned`, if it is among the servers to try, and of it what holds for the
/// others of its log; returns the servers to try.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn learn(
    transaction: &Connection,
    server: &ServerAddress,
    learned: &ServerAddress,
) -> Result<Vec<ServerAddress>, StoreError> {
    let mut servers = parse_servers(&text(transaction, "servers")?.unwrap_or_default())?;
    for known in &mut servers {
        if !known.is_same(server) {
            learn_of_another(&mut known.trust, &server.trust, &learned.trust);
            continue;
        }
        let pasted = known.trust.invitation();
        let fresh = pasted.filter(|pasted| server.trust.invitation() != Some(*pasted));
        known.clone_from(learned);
        // A line that was pasted again meanwhile has an invitation that was not shown yet.
        known.trust.set_invitation(fresh);
    }
    set_servers(transaction, &servers)?;
    meet(transaction, learned)?;
    Ok(servers)
}

/// What a server of the same log says of this one. Which key this one has now is for itself to prove:
/// servers do not change theirs in the same moment. But what one announces comes to all, and a host
/// that was let in by one of them is let in.
fn learn_of_another(known: &mut ServerTrust, shown: &ServerTrust, learned: &ServerTrust) {
    if !known.agrees(shown) {
        return;
    }
    if known.invitation() == shown.invitation() {
        known.set_invitation(None);
    }
    if let (
        ServerTrust::Key { key, next, .. },
        ServerTrust::Key {
            key: theirs,
            next: Some(announced),
            ..
        },
    ) = (known, learned)
        && key != announced
        && *next != Some(*announced)
    {
        *key = *theirs;
        *next = Some(*announced);
    }
}

fn join(servers: &[ServerAddress]) -> String {
    let lines: Vec<String> = servers.iter().map(ServerAddress::reveal).collect();
    lines.join("\n")
}

fn parse_servers(lines: &str) -> Result<Vec<ServerAddress>, StoreError> {
    let parsed = lines.lines().map(ServerAddress::parse);
    let parsed: Result<Vec<_>, _> = parsed.collect();
    parsed.map_err(|error| StoreError::BadValue {
        what: "server",
        value: error.to_string(),
    })
}

/// Lets the servers of the settings win if they are others than the last time. What `chat join`
/// and `chat leave` have said since then stays otherwise. Returns whether they won.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn configure(transaction: &Connection, servers: &[ServerAddress]) -> Result<bool, StoreError> {
    let setting = join(servers);
    if text(transaction, "servers_setting")?.unwrap_or_default() == setting {
        return Ok(false);
    }
    let wins = !servers.is_empty();
    if wins {
        set_servers(transaction, servers)?;
    }
    put(transaction, "servers_setting", setting.as_bytes())?;
    Ok(wins)
}

/// Remembers which life of the server's log the replica belongs to.
///
/// # Errors
///
/// [`StoreError`]; the transaction must be rolled back then.
pub fn set_server_epoch(transaction: &Connection, epoch: Epoch) -> Result<(), StoreError> {
    put(transaction, "server_epoch", &epoch.to_bytes())
}

fn put(transaction: &Connection, key: &str, value: &[u8]) -> Result<(), StoreError> {
    transaction
        // What is so already writes nothing: a server is learned of at every connection.
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
        )?
        .execute(params![key, value])?;
    Ok(())
}

fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(found)
}

fn array<const N: usize>(
    connection: &Connection,
    key: &str,
) -> Result<Option<[u8; N]>, StoreError> {
    let Some(bytes) = get(connection, key)? else {
        return Ok(None);
    };
    let bad = |bytes| StoreError::BadValue {
        what: "setting",
        value: format!("{key}: {bytes:?}"),
    };
    <[u8; N]>::try_from(bytes).map(Some).map_err(bad)
}

fn text(connection: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let Some(bytes) = get(connection, key)? else {
        return Ok(None);
    };
    let bad = |error| StoreError::BadValue {
        what: "setting",
        value: format!("{key}: {error}"),
    };
    String::from_utf8(bytes).map(Some).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::APPLICATION;
    use protocol::{Invitation, KeyFingerprint, ServerLine};
    use room_log::Database;

    fn key(of: &str) -> KeyFingerprint {
        KeyFingerprint::of_spki(of.as_bytes())
    }

    fn at(place: &str, keys: &str) -> ServerAddress {
        let keys: Vec<String> = keys
            .chars()
            .map(|k| key(&k.to_string()).to_string())
            .collect();
        let keys = keys.join("+");
        ServerAddress::parse(&format!("chat://{place}/{keys}")).unwrap()
    }

    /// What is known of `known` after `server` was learned to be `learned`.
    fn after(
        known: &[ServerAddress],
        server: &ServerAddress,
        learned: &ServerAddress,
    ) -> Vec<ServerAddress> {
        let dir = tempfile::tempdir().unwrap();
        let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        set_servers(&connection, known).unwrap();
        learn(&connection, server, learned).unwrap()
    }

    #[test]
    fn the_key_that_one_server_of_a_log_announces_will_be_that_of_all() {
        let known = [at("a", "1"), at("b", "1"), at("other", "9")];
        let learned = after(&known, &at("a", "1"), &at("a", "12"));
        assert_eq!(learned, [at("a", "12"), at("b", "12"), at("other", "9")]);
        // One has changed its key, and the other takes its time.
        let learned = after(&learned, &at("a", "12"), &at("a", "2"));
        assert_eq!(learned, [at("a", "2"), at("b", "12"), at("other", "9")]);
        // The next change begins where it was not heard yet how the last one ended.
        let learned = after(&learned, &at("a", "2"), &at("a", "23"));
        assert_eq!(learned, [at("a", "23"), at("b", "23"), at("other", "9")]);
    }

    #[test]
    fn a_server_that_is_behind_takes_no_key_of_another_away() {
        let known = [at("a", "12"), at("b", "23")];
        assert_eq!(after(&known, &known[0], &known[0]), known);
    }

    #[test]
    fn an_invitation_is_shown_to_one_server_of_its_log() {
        let trust = |invitation: u8| ServerTrust::Key {
            key: key("1"),
            next: None,
            invitation: Some(Invitation::from_bytes([invitation; 16])),
        };
        let line = ServerLine::new("a,b", trust(1)).unwrap();
        let mut known = line.servers();
        known.push(ServerAddress::new("c", trust(2)).unwrap());
        let learned = after(&known, &known[0], &at("a", "1"));
        assert_eq!(learned, [at("a", "1"), at("b", "1"), known[2].clone()]);
    }
}
