//! What was done to a room, in words.

use super::name_seen_by;
use protocol::{
    UserName,
    governance::{Act, Keep, Rank, Subject},
};

/// What `author` did, as one clean line; `me` reads it.
#[must_use]
pub fn act(act: &Act, author: &UserName, me: &UserName) -> String {
    let who = name_seen_by(author, me);
    let name = |user: &UserName| name_seen_by(user, me);
    let subject = |subject: &Subject| match subject {
        Subject::User(user) => name(user),
        Subject::Host(host) => format!("everybody of {host}"),
    };
    match act {
        Act::Opened { mode, .. } => format!("{who} owns this room, which is {mode}"),
        Act::Mode { mode, .. } => format!("{who} made this room {mode}"),
        Act::Invite { user } => format!("{who} invited {}", name(user)),
        Act::Kick { user } => format!("{who} kicked {} out", name(user)),
        Act::Ban { subject: whom } => format!("{who} banned {}", subject(whom)),
        Act::Unban { subject: whom } => format!("{who} ended the ban of {}", subject(whom)),
        Act::Mute { user } => format!("{who} muted {}", name(user)),
        Act::Unmute { user } => format!("{who} lets {} speak again", name(user)),
        Act::Promote { user, rank } => {
            let rank = match rank {
                Rank::Owner => "an owner",
                Rank::Moderator => "a moderator",
                Rank::Member => "a member",
            };
            format!("{who} made {} {rank}", name(user))
        }
        Act::Demote { user } => format!("{who} made {} a member again", name(user)),
        Act::Retention { keep: kept } => format!("{who} has messages kept: {}", keep(*kept)),
        Act::Erase { messages } if messages.len() == 1 => format!("{who} erased a message"),
        Act::Erase { messages } => format!("{who} erased {} messages", messages.len()),
        Act::Left => format!("{who} left"),
        _ => format!("{who} changed something that this version does not know"),
    }
}

/// What is kept of what is said.
#[must_use]
pub fn keep(keep: Keep) -> String {
    let age = keep.max_age_seconds.map(|seconds| {
        let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
        let unit = units.iter().find(|(unit, _)| seconds % unit == 0);
        let (unit, letter) = unit.copied().unwrap_or((1, "s"));
        format!("for {}{letter}", seconds / unit)
    });
    let count = keep.max_messages.map(|count| format!("the newest {count}"));
    match (count, age) {
        (None, None) => "all, for ever".to_owned(),
        (Some(count), None) => count,
        (None, Some(age)) => age,
        (Some(count), Some(age)) => format!("{count}, {age}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_a_sentence() {
        let me: UserName = "carol@ada".parse().unwrap();
        let alice: UserName = "alice@ada".parse().unwrap();
        let promote = Act::Promote {
            user: "bob@bee".parse().unwrap(),
            rank: Rank::Moderator,
        };
        assert_eq!(act(&promote, &alice, &me), "alice made bob@bee a moderator");
        let kept = |max_age_seconds, max_messages| {
            keep(Keep {
                max_age_seconds,
                max_messages,
            })
        };
        assert_eq!(kept(None, None), "all, for ever");
        assert_eq!(kept(Some(7 * 86_400), Some(10)), "the newest 10, for 7d");
        assert_eq!(kept(Some(90), None), "for 90s");
    }
}
