//! `chat rooms`: the rooms of this host, of its server, and one's own conversations.

use crate::{
    args::RoomsArgs,
    client::{CallError, Session},
    exit::Failure,
    json, listing,
    output::Output,
    paths::Settings,
    render,
};
use protocol::local::{Reply, Request, RoomInfo};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &RoomsArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let me = session.user().clone();
    let mut output = Output::default();
    let result = if args.json {
        each(&mut session, async |info| {
            output.print(&json::room(info, &me)).await
        })
        .await
    } else {
        // Their columns are known when all are there.
        let mut rooms = Vec::new();
        let all = each(&mut session, async |info| {
            rooms.push(info.clone());
            Ok(())
        })
        .await;
        let lines = listing::rooms(&rooms, &me, |_| String::new(), render::columns());
        all.and(output.print_all(&lines).await)
    };
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
