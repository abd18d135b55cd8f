//! The verbs: one file each, and what they share.

pub mod history;
pub mod join;
pub mod leave;
pub mod rooms;
pub mod send;
pub mod status;
pub mod tail;
pub mod topic;
pub mod who;

use crate::{
    client::{Session, connect},
    exit::Failure,
    paths::Settings,
};

/// A session for one question. Verbs never start an agent: a script should notice.
async fn session(settings: &Settings) -> Result<Session, Failure> {
    Ok(connect(&settings.socket, &settings.nick, false).await?)
}
