//! Colours, for terminals that have them.

use protocol::UserName;

/// The six colours of every terminal that can be read on a light and on a dark ground, each plain
/// and bright. The theme of the terminal decides what they look like.
const NICK_COLOURS: [&str; 12] = [
    "31", "32", "33", "34", "35", "36", "91", "92", "94", "95", "96", "1;34",
];

/// The colour of a person, the same everywhere and always (FNV-1a of the whole name).
#[must_use]
pub(super) fn of_person(user: &UserName) -> &'static str {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in user.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let index = usize::try_from(hash % NICK_COLOURS.len() as u64).unwrap_or_default();
    NICK_COLOURS[index]
}

/// Whether `text` speaks to `nick`: the nick as a word, in any case.
#[must_use]
pub fn mentions(text: &str, nick: &str) -> bool {
    let text = text.to_lowercase();
    let nick = nick.to_lowercase();
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    text.match_indices(&nick).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + found.len()..].chars();
        // A full stop ends a sentence as often as it goes on with a name.
        let next = match after.next() {
            Some('.') => after.next(),
            next => next,
        };
        !before.is_some_and(of_name) && !next.is_some_and(of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_keeps_their_colour_and_others_mostly_have_another() {
        let colour = |name: &str| of_person(&name.parse().unwrap());
        assert_eq!(colour("alice@ada"), colour("alice@ada"));
        let names = ["alice", "bob", "carol", "dan", "eve", "frank"];
        let colours: std::collections::BTreeSet<_> = names
            .iter()
            .map(|nick| colour(&format!("{nick}@ada")))
            .collect();
        assert!(colours.len() >= 4, "{colours:?}");
    }

    #[test]
    fn a_mention_is_the_nick_as_a_word() {
        for text in [
            "bob",
            "hi Bob!",
            "@bob: hi",
            "(bob)",
            "ask bob.",
            "bob, carol",
        ] {
            assert!(mentions(text, "bob"), "{text}");
        }
        for text in ["bobby", "kabob", "bob-2", "bob.smith", "b o b", "bob_"] {
            assert!(!mentions(text, "bob"), "{text}");
        }
        assert!(mentions("李雷 你好", "李雷"));
    }
}
