//! Who may do what in a room: its [`Charter`], and the [`Act`]s that change it.
//!
//! An act is a message in the room's log, written by whoever orders the room, never by an agent
//! that appends. Whoever reads the log from its beginning folds the acts into the same charter, so
//! membership at a seq is the same for everybody. No act, no charter: such a room is open to all and
//! nobody's.
//!
//! What each rank may do is [`Charter::judge`] alone:
//!
//! | | member | moderator | owner |
//! | --- | --- | --- | --- |
//! | leave; erase what one said | yes | yes | yes, but for the last owner's leaving |
//! | invite | | yes | yes |
//! | kick, ban, mute, and the end of the last two | | who is neither | all but owners |
//! | erase what others said | | yes | yes |
//! | mode, retention, promote, demote | | | yes |
//!
//! Owners are made less first ([`Act::Demote`]), and one always remains.

mod act;
mod charter;
mod denied;

pub use act::{Act, Keep, Mode, Rank, Subject};
pub use charter::Charter;
pub use denied::Denied;

#[cfg(test)]
mod tests;
