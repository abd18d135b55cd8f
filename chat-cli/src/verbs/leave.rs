//! `chat leave`: ends a membership, or forgets the server.

use crate::{args::LeaveArgs, exit::Failure, paths::Settings};
use protocol::local::Request;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &LeaveArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    let request = match &args.room {
        Some(room) => Request::Leave {
            room: room.resolve(session.user()),
        },
        None => Request::Defederate,
    };
    session.command(request).await?;
    Ok(())
}
