//! `chat leave`: ends a membership, or forgets the server.

use crate::{
    args::LeaveArgs,
    client::{CallError, Session},
    exit::{Failure, say},
    paths::Settings,
    render,
};
use protocol::{
    Room,
    local::{LinkStatus, Reply, Request},
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &LeaveArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    match &args.room {
        Some(room) => {
            let room = room.resolve(session.user());
            leave(&mut session, room).await
        }
        None => forget_server(&mut session).await,
    }
}

async fn leave(session: &mut Session, room: Room) -> Result<(), Failure> {
    let me = session.user().clone();
    super::refuse_direct(&room, &me, "cannot be left")?;
    let mut joined = false;
    super::rooms::each(session, async |info| {
        joined |= info.joined && info.room == room;
        Ok(())
    })
    .await?;
    // Whatever the list says: this is how it is to be.
    let left = Request::Leave { room: room.clone() };
    session.command(left).await?;
    if joined {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "{} is no member of {}: `chat rooms` marks the rooms you are in",
        me.nick,
        room.seen_by(&me)
    )))
}

async fn forget_server(session: &mut Session) -> Result<(), Failure> {
    let Reply::Status(status) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    session.command(Request::Defederate).await?;
    if status.link == LinkStatus::LocalOnly {
        say("this host was on its own already");
    }
    if status.outbox_messages > 0 {
        let messages = render::count(status.outbox_messages, "message");
        say(&format!(
            "{messages} for other hosts stay in the outbox, until `chat join` names a server again"
        ));
    }
    Ok(())
}
