//! `chat topic`: shows or sets a room's topic.

use crate::{
    args::TopicArgs,
    exit::{Failure, say},
    json,
    output::Output,
    paths::Settings,
    render, table,
};
use protocol::local::Request;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &TopicArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let room = args.room.resolve(session.user());
    super::refuse_direct(&room, session.user(), "has no topic")?;
    if let Some(text) = &args.text {
        let topic = text.clone();
        session.command(Request::SetTopic { room, topic }).await?;
        return Ok(());
    }
    let mut topic = None;
    super::rooms::each(&mut session, async |info| {
        if info.room == room {
            topic = Some(info.topic.clone());
        }
        Ok(())
    })
    .await?;
    super::say_if_offline(&mut session, &room, "only what is known here is shown").await?;
    let Some(topic) = topic else {
        let me = session.user();
        return Err(Failure::failed(format_args!(
            "no room {} is known here: see `chat rooms`",
            room.seen_by(me)
        )));
    };
    let me = session.user();
    if topic.is_empty() && !args.json {
        say(&format!("no topic is set in {}", room.seen_by(me)));
        return Ok(());
    }
    let mut output = Output::default();
    let printed = if args.json {
        output.line(&json::topic(&room, &topic, me))
    } else {
        let broken = table::lines(&[[topic]], render::columns());
        output.print_all(&broken).await
    };
    output.finish(printed).await
}
