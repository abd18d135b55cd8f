//! Colours, for terminals that have them.

use protocol::UserName;

/// What the terminal writes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ground {
    /// It does not say.
    #[default]
    Unknown,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Ground {
    /// What `COLORFGBG` says: the numbers of the colours of text and ground, the ground last.
    #[must_use]
    pub fn detect(colours: Option<&str>) -> Self {
        let ground = colours.and_then(|colours| colours.rsplit(';').next()?.parse::<u8>().ok());
        match ground {
            Some(0..=6 | 8) => Self::Dark,
            Some(7 | 9..=15) => Self::Light,
            _ => Self::Unknown,
        }
    }

    /// The colours that can be read there. The theme of the terminal decides what they look like.
    const fn nick_colours(self) -> &'static [&'static str] {
        match self {
            // Neither the dark blue nor the yellows, nor the pale ones.
            Self::Unknown => &[
                "31", "32", "35", "36", "91", "94", "95", "1;31", "1;35", "1;36",
            ],
            Self::Light => &[
                "31", "32", "34", "35", "36", "91", "94", "95", "1;31", "1;34", "1;35", "1;36",
            ],
            Self::Dark => &[
                "31", "32", "33", "35", "36", "91", "92", "93", "94", "95", "96", "1;36",
            ],
        }
    }
}

/// The colour of a person, the same everywhere and always on one ground (FNV-1a of the whole
/// name).
#[must_use]
pub(super) fn of_person(user: &UserName, ground: Ground) -> &'static str {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in user.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let colours = ground.nick_colours();
    let index = usize::try_from(hash % colours.len() as u64).unwrap_or_default();
    colours[index]
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
        let colour = |name: &str| of_person(&name.parse().unwrap(), Ground::Dark);
        assert_eq!(colour("alice@ada"), colour("alice@ada"));
        let names = ["alice", "bob", "carol", "dan", "eve", "frank"];
        let colours: std::collections::BTreeSet<_> = names
            .iter()
            .map(|nick| colour(&format!("{nick}@ada")))
            .collect();
        assert!(colours.len() >= 4, "{colours:?}");
    }

    #[test]
    fn names_can_be_read_on_a_light_and_on_a_dark_ground() {
        for (colours, ground) in [
            (Some("0;15"), Ground::Light),
            (Some("0;default;7"), Ground::Light),
            (Some("15;0"), Ground::Dark),
            (Some("12;8"), Ground::Dark),
            (Some("default;default"), Ground::Unknown),
            (None, Ground::Unknown),
        ] {
            assert_eq!(Ground::detect(colours), ground, "{colours:?}");
        }
        let pale = ["33", "92", "93", "96", "37", "97"];
        let deep = ["34", "1;34", "30", "90"];
        let has = |ground: Ground, colours: &[&str]| {
            let mut all = ground.nick_colours().iter();
            all.any(|colour| colours.contains(colour))
        };
        assert!(!has(Ground::Light, &pale) && !has(Ground::Dark, &deep));
        assert!(!has(Ground::Unknown, &pale) && !has(Ground::Unknown, &deep));
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
