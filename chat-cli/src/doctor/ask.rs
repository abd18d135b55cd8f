//! Facts from the agent, and from the server without joining it.

use super::{
    agent::Contact,
    server::{Link, Reach},
};
use crate::{
    client::{CallError, ConnectError, Session, connect},
    paths::Settings,
    refused, verbs,
};
use protocol::{
    Committed, LogStatus, Room, Vocabulary, handshake,
    limits::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT},
    local::{LinkStatus, Reply, Request, RoomInfo, Status},
};
use std::net::SocketAddr;
use std::path::Path;
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};

/// Rooms, and messages of each, that are looked through for messages of this host.
const MAX_ROOMS: usize = 8;
const MAX_MESSAGES: u32 = 50;

/// What the agent tells.
#[derive(Debug)]
pub struct Heard {
    /// Whether it answers.
    pub contact: Contact,
    /// How it is, if it does.
    pub status: Option<Box<Status>>,
    /// How the server's log is, if that is told.
    pub log: Option<LogStatus>,
    /// For recent messages of this host: microseconds from writing to commit, by two clocks.
    pub delays: Vec<i64>,
}

/// Asks the agent.
pub async fn agent(settings: &Settings) -> Heard {
    let useless = |reason: String| Heard {
        contact: Contact::Useless(reason),
        status: None,
        log: None,
        delays: Vec::new(),
    };
    let mut session = match connect(&settings.socket, &settings.nick, false).await {
        Ok(session) => session,
        Err(ConnectError::Unreachable { path, reason, .. }) => {
            let none = format!("none at {}: {reason}", path.display());
            return Heard {
                contact: Contact::None(none),
                ..useless(String::new())
            };
        }
        Err(error) => return useless(error.to_string()),
    };
    let status = match session.call(Request::Status).await {
        Ok(Reply::Status(status)) => status,
        Ok(_) => return useless(CallError::Misfit.to_string()),
        Err(error) => return useless(error.to_string()),
    };
    let contact = Contact::Answers {
        pid: status.pid,
        uid: owner(&settings.socket).await,
        user: status.user.to_string(),
        state_dir: status.state_dir.clone(),
    };
    // Without these the clock is not known.
    let delays = match status.link {
        LinkStatus::Online { .. } => delays(&mut session).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    let log = verbs::server_log(&mut session).await.unwrap_or_default();
    Heard {
        contact,
        status: Some(status),
        log,
        delays,
    }
}

async fn owner(socket: &Path) -> Option<u32> {
    let stream = UnixStream::connect(socket).await.ok()?;
    Some(stream.peer_cred().ok()?.uid())
}

/// What the link of `status` says.
pub fn link(status: &LinkStatus) -> Link {
    match status {
        LinkStatus::LocalOnly => Link::None,
        LinkStatus::Connecting { server } => Link::Trying {
            server: server.clone(),
            error: None,
            refused: None,
        },
        LinkStatus::Waiting { server, error, .. } => Link::Trying {
            server: server.clone(),
            error: Some(error.clone()),
            refused: refused::by_server(error).map(str::to_owned),
        },
        LinkStatus::Online {
            server, software, ..
        } => Link::Online {
            server: server.clone(),
            software: software.clone(),
        },
    }
}

/// How far one gets with the server at `address`: its name, its port, its first bytes. It is told
/// no name, so that it takes nobody for a host.
pub async fn reach(address: &str) -> Reach {
    let slow = |limit: std::time::Duration| format!("no answer within {} s", limit.as_secs());
    let addresses = match timeout(CONNECT_TIMEOUT, look_up(address)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Reach::NoAddress(error.to_string()),
        Err(_) => return Reach::NoAddress(slow(CONNECT_TIMEOUT)),
    };
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&*addresses)).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Reach::NoConnection(error.to_string()),
        Err(_) => return Reach::NoConnection(slow(CONNECT_TIMEOUT)),
    };
    let spoken = handshake(&mut stream, Vocabulary::Federation);
    match timeout(HANDSHAKE_TIMEOUT, spoken).await {
        Ok(Ok(_)) => Reach::Speaks,
        Ok(Err(error)) => Reach::NoServer(error.to_string()),
        Err(_) => Reach::NoServer(slow(HANDSHAKE_TIMEOUT)),
    }
}

async fn look_up(address: &str) -> std::io::Result<Vec<SocketAddr>> {
    // The zone in `[fe80::1%eth0]:7667` is for the resolver, which knows no brackets.
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    Ok(match bare {
        Some(host_and_port) => lookup_host(host_and_port).await?.collect(),
        None => lookup_host(address).await?.collect(),
    })
}

/// Looks through the rooms with the most recent messages that this user is in.
async fn delays(session: &mut Session) -> Result<Vec<i64>, CallError> {
    let me = session.user().clone();
    let mut rooms: Vec<RoomInfo> = Vec::new();
    let mut after = None;
    loop {
        let request = Request::Rooms { after };
        let Reply::Rooms { rooms: page, more } = session.call(request).await? else {
            return Err(CallError::Misfit);
        };
        after = page.last().map(|info| info.room.clone());
        let is_ours = |info: &RoomInfo| info.joined && matches!(info.room, Room::Federated(_));
        rooms.extend(page.into_iter().filter(is_ours).take(MAX_ROOMS));
        if !more || after.is_none() || rooms.len() >= MAX_ROOMS {
            break;
        }
    }
    let mut found = Vec::new();
    for info in rooms.into_iter().take(MAX_ROOMS) {
        let request = Request::History {
            room: info.room,
            before: None,
            limit: MAX_MESSAGES,
        };
        let Reply::History { messages, .. } = session.call(request).await? else {
            return Err(CallError::Misfit);
        };
        let own = messages.iter().filter(|one| one.author.host == me.host);
        found.extend(own.filter_map(delay));
    }
    Ok(found)
}

fn delay(message: &Committed) -> Option<i64> {
    let committed = i64::try_from(message.committed_at.micros()).ok()?;
    let sent = i64::try_from(message.sent_at.micros()).ok()?;
    committed.checked_sub(sent)
}
