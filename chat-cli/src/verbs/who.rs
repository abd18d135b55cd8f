//! `chat who`: a room's members and whether they are there.

use crate::{
    args::WhoArgs,
    client::{CallError, Session},
    exit::Failure,
    json,
    output::Output,
    paths::Settings,
    render,
};
use protocol::{
    Room,
    local::{Reply, Request},
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &WhoArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let room = args.room.resolve(session.user());
    super::say_if_offline(&mut session, &room, "only members on this host are known").await?;
    let mut output = Output::default();
    let result = print(&mut session, &room, args.json, &mut output).await;
    output.finish(result).await
}

async fn print(
    session: &mut Session,
    room: &Room,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let me = session.user().clone();
    let mut after = None;
    loop {
        let request = Request::Who {
            room: room.clone(),
            after: after.take(),
        };
        let Reply::Members { members, more } = session.call(request).await? else {
            return Err(CallError::Misfit.into());
        };
        for member in &members {
            let line = if json {
                json::member(room, member, &me)
            } else {
                let name = render::pad(&member.user.to_string(), 24);
                format!("{name} {}", render::availability(member.availability))
            };
            output.print(&line).await?;
        }
        after = members.last().map(|member| member.user.clone());
        if !more || after.is_none() {
            return Ok(());
        }
    }
}
