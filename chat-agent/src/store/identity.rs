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

/// Remembers `server` as `learned`, if it is among the servers to try; returns these.
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
    for known in servers.iter_mut().filter(|known| known.is_same(server)) {
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
