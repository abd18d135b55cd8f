//! What a command without a terminal says of happenings that are no data.

use crate::{
    client::exit_of,
    conversation::Happening,
    exit::{Failure, say},
};
use protocol::UserName;

/// Says what a person should know; fails if a room cannot be read.
pub(crate) fn tell<Q>(happening: Happening<Q>, me: &UserName) -> Result<(), Failure> {
    match happening {
        Happening::OpenRefused(room, refusal) => {
            let name = room.seen_by(me);
            return Err(Failure::new(
                exit_of(&refusal),
                format_args!("{name} cannot be read: {refusal}"),
            ));
        }
        Happening::NewLife(room) => say(&format!(
            "the log of {} was recreated or restored: going on with the new one from its \
             beginning",
            room.seen_by(me)
        )),
        Happening::CaughtUp {
            room,
            complete: false,
        } => say(&format!(
            "{} may have more: the server could not be asked, see `chat status`",
            room.seen_by(me)
        )),
        Happening::Disconnected(reason) => say(&format!("{reason}; looking for it")),
        Happening::NotStarted(reason) => say(&reason),
        _ => {}
    }
    Ok(())
}
