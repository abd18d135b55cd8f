//! `chat who`: a room's members and whether they are there.

use crate::{
    args::WhoArgs,
    client::{CallError, Session},
    exit::Failure,
    json, listing,
    output::Output,
    paths::Settings,
    render,
};
use protocol::{
    Room, UserName,
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
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let request = Request::Who {
            room: room.clone(),
            after: after.take(),
        };
        let Reply::Members { members, more } = session.call(request).await? else {
            return Err(CallError::Misfit.into());
        };
        if json {
            for member in &members {
                output.print(&json::member(room, member, &me)).await?;
            }
        }
        after = members.last().map(|member| member.user.clone());
        if !json {
            // Their columns are known when all are there.
            all.extend(members);
        }
        if !more || after.is_none() {
            return output
                .print_all(&listing::members(
                    &all,
                    UserName::to_string,
                    render::columns(),
                ))
                .await;
        }
    }
}
