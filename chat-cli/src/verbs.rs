//! The verbs: one file each, and what they share.

pub mod bot;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod exec;
pub mod history;
pub mod join;
pub mod leave;
pub mod man;
pub mod mount;
pub mod pending;
pub mod reply;
pub mod request;
pub mod room;
pub mod rooms;
pub mod search;
pub mod send;
pub mod server;
pub mod status;
pub mod tail;
pub mod topic;
pub mod wait;
pub mod who;

use crate::{
    client::{CallError, Session, connect},
    conversation::Options,
    exit::{Failure, say},
    paths::Settings,
    refused::is_refusal,
    search::find,
};
use protocol::{
    Features, LogStatus, Room, UserName,
    limits::MAX_KEY_BYTES,
    local::{LinkStatus, Reply, Request},
};

/// A session for one question. Without an agent there is nothing to ask, so none is started.
async fn session(settings: &Settings) -> Result<Session, Failure> {
    Ok(connect(&settings.socket, &settings.nick, false).await?)
}

/// As [`session`], for verbs that make sense on a host where nobody has talked yet.
async fn session_or_start(settings: &Settings) -> Result<Session, Failure> {
    let options = Options {
        autostart: may_start(settings),
        ..Options::default()
    };
    let (session, _) = find(settings, options).await?;
    Ok(session)
}

/// Whether a verb may start an agent: only at this user's own default socket. A script that names
/// a socket means the agent there, and should notice that it is gone.
const fn may_start(settings: &Settings) -> bool {
    !settings.socket_given
}

/// How the server's log is, if the agent and its server tell.
pub(crate) async fn server_log(session: &mut Session) -> Result<Option<LogStatus>, CallError> {
    if !session.features().has(Features::LOG_STATUS) {
        return Ok(None);
    }
    match session.call(Request::Log).await? {
        Reply::Log { status } => Ok(status),
        _ => Err(CallError::Misfit),
    }
}

/// Checks a key that a message is to be sent under.
fn check_key(key: &str) -> Result<(), Failure> {
    if !key.is_empty() && key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(Failure::usage(format_args!(
        "--id has {} bytes, it must have 1 to {MAX_KEY_BYTES}",
        key.len()
    )))
}

/// For what only rooms have: `lacks` says what a conversation with one person is not for.
fn refuse_direct(room: &Room, me: &UserName, lacks: &str) -> Result<(), Failure> {
    match room {
        Room::Direct(_) => Err(Failure::failed(format_args!(
            "a conversation with {} {lacks}",
            room.seen_by(me)
        ))),
        Room::Federated(_) | Room::Local(_) => Ok(()),
    }
}

/// Says so if what is known of a `#room` may not be all, as the server cannot be asked.
async fn say_if_offline(
    session: &mut Session,
    room: &Room,
    consequence: &str,
) -> Result<(), Failure> {
    if !matches!(room, Room::Federated(_)) {
        return Ok(());
    }
    let Reply::Status(status) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    match status.link {
        LinkStatus::Online { .. } => {}
        LinkStatus::LocalOnly => say(&format!("this host has no server: {consequence}")),
        LinkStatus::Waiting { error, .. } if is_refusal(&error) => {
            say(&format!("the server refuses this host: {consequence}"));
        }
        _ => say(&format!("the server cannot be reached: {consequence}")),
    }
    Ok(())
}
