//! `chat rooms`: the rooms of this host, of its server, and one's own conversations.

use crate::{
    args::RoomsArgs,
    client::{CallError, Session},
    exit::Failure,
    json,
    output::Output,
    paths::Settings,
    render::Style,
};
use protocol::local::{Reply, Request, RoomInfo};
use std::io::IsTerminal;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &RoomsArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let me = session.user().clone();
    let style = Style::detect(std::io::stdout().is_terminal());
    let mut output = Output::default();
    let result = each(&mut session, async |info| {
        let line = if args.json {
            json::room(info, &me)
        } else {
            style.room(info, &me)
        };
        output.print(&line).await
    })
    .await;
    output.finish(result).await
}

/// Calls `visit` with every room, page by page.
pub(super) async fn each(
    session: &mut Session,
    mut visit: impl AsyncFnMut(&RoomInfo) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let request = Request::Rooms {
            after: after.take(),
        };
        let Reply::Rooms { rooms, more } = session.call(request).await? else {
            return Err(CallError::Misfit.into());
        };
        for info in &rooms {
            visit(info).await?;
        }
        after = rooms.last().map(|info| info.room.clone());
        if !more || after.is_none() {
            return Ok(());
        }
    }
}
