//! `chat room show`: what a room's charter says.

use crate::{
    client::{CallError, Session},
    exit::{Failure, say},
    json,
    output::Output,
    render,
};
use protocol::{
    Room,
    governance::{Charter, Rank},
    local::{Reply, Request},
};

/// Prints who may do what in `room`.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub(super) async fn run(session: &mut Session, room: &Room, json: bool) -> Result<(), Failure> {
    super::super::say_if_offline(session, room, "it may have changed since").await?;
    let me = session.user().clone();
    let request = Request::Charter { room: room.clone() };
    let Reply::Charter { charter } = session.call(request).await? else {
        return Err(CallError::Misfit.into());
    };
    let mut output = Output::default();
    let printed = if json {
        output.line(&json::charter(room, charter.as_deref(), &me))
    } else if let Some(charter) = charter {
        let lines = lines(&charter);
        lines.iter().try_for_each(|line| output.line(line))
    } else {
        say(&format!(
            "{} is open to all, and nobody has changed that",
            room.seen_by(&me)
        ));
        Ok(())
    };
    output.finish(printed).await
}

fn lines(charter: &Charter) -> Vec<String> {
    let mut lines = vec![format!("mode       {}", charter.mode())];
    for (what, rank) in [
        ("owner", Rank::Owner),
        ("moderator", Rank::Moderator),
        ("member", Rank::Member),
    ] {
        let of_rank = charter.people().filter(|(_, found)| *found == rank);
        lines.extend(of_rank.map(|(user, _)| format!("{what:<10} {user}")));
    }
    lines.extend(charter.banned().map(|who| format!("banned     {who}")));
    lines.extend(charter.muted().map(|user| format!("muted      {user}")));
    lines.push(format!("kept       {}", render::keep(charter.keep())));
    lines
}
