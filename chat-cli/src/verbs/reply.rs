//! `chat reply`: sending what answers a message.

use crate::{
    args::{ReplyArgs, SendArgs},
    exit::Failure,
    paths::Settings,
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &ReplyArgs) -> Result<(), Failure> {
    let send = SendArgs {
        room: args.room.clone(),
        text: Some(args.text.clone()),
        whole: false,
        reply_to: Some(args.id),
        wait: args.wait,
        timeout: args.timeout,
        id: None,
        json: args.json,
        connection: args.connection.clone(),
    };
    super::send::run(settings, &send).await
}
