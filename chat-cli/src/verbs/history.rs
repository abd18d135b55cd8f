//! `chat history`: a room's last messages, oldest first.

use crate::{
    args::HistoryArgs,
    client::{CallError, Session},
    exit::Failure,
    json,
    output::Output,
    paths::Settings,
    render::Style,
};
use protocol::{
    Committed, Cursor, Epoch, Room,
    limits::MAX_PAGE_ENTRIES,
    local::{Reply, Request},
};
use std::{collections::VecDeque, io::IsTerminal};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &HistoryArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let room = args.room.resolve(session.user());
    let messages = read(&mut session, &room, args.before, args.limit).await?;
    let me = session.user();
    let style = Style::detect(std::io::stdout().is_terminal());
    let mut output = Output::default();
    for (epoch, message) in &messages {
        let line = if args.json {
            json::message(message, me, json::cursor(*epoch, message.seq))
        } else {
            style.message(message, me, None)
        };
        output.line(&line)?;
    }
    output.flush()
}

/// Reads pages backwards until there are `limit` messages or no more.
async fn read(
    session: &mut Session,
    room: &Room,
    mut before: Option<Cursor>,
    limit: u32,
) -> Result<VecDeque<(Epoch, Committed)>, Failure> {
    let mut read = VecDeque::new();
    let limit = limit as usize;
    while read.len() < limit {
        let wanted = (limit - read.len()).min(MAX_PAGE_ENTRIES);
        let request = Request::History {
            room: room.clone(),
            before,
            limit: u32::try_from(wanted).unwrap_or(u32::MAX),
        };
        let reply = session.call(request).await?;
        let Reply::History {
            epoch,
            messages,
            more,
        } = reply
        else {
            return Err(CallError::Misfit.into());
        };
        let Some(oldest) = messages.first() else {
            break;
        };
        before = Some(Cursor {
            epoch,
            seq: oldest.seq,
        });
        for message in messages.into_iter().rev().take(wanted) {
            read.push_front((epoch, message));
        }
        if !more {
            break;
        }
    }
    Ok(read)
}
