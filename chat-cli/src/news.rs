//! What a command without a terminal says of happenings that are no data.

use crate::{
    client::exit_of,
    conversation::Happening,
    exit::{Failure, say},
};
use protocol::{UserName, local::Event};

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
        Happening::Event(Event::HeldUp {
            reason,
            retry_in_ms,
        }) => say(&held_up(&reason, retry_in_ms)),
        _ => {}
    }
    Ok(())
}

/// What to say of messages that the server does not take yet.
pub(crate) fn held_up(reason: &str, retry_in_ms: u32) -> String {
    let next = match retry_in_ms {
        0..1_000 => "next try in under 1 s".to_owned(),
        _ => format!("next try in {} s", retry_in_ms.div_ceil(1_000)),
    };
    format!("held up: {reason}; {next}, nothing is lost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_up_hears_why_and_for_how_long() {
        let told = held_up("alice@ada sends more than 20 messages a second", 2_001);
        assert_eq!(
            told,
            "held up: alice@ada sends more than 20 messages a second; next try in 3 s, nothing is \
             lost"
        );
        assert!(held_up("", 50).contains("next try in under 1 s"));
    }
}
