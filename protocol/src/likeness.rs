//! Names that look like other names, as Unicode Technical Standard #39 tells.
//!
//! Names of today and of other hosts stay what they are: whoever gives a new one asks here, and
//! whoever shows one marks it.

use unicode_security::{
    RestrictionLevel, RestrictionLevelDetection, confusable_detection::skeleton,
};

/// Whether `name` mixes letters of scripts that nobody writes in one word, such as Latin and
/// Cyrillic. Latin beside Chinese, Japanese or Korean is none.
#[must_use]
pub fn mixes_scripts(name: &str) -> bool {
    // Most names, for which the tables need not be asked.
    !name.is_ascii() && !name.check_restriction_level(RestrictionLevel::HighlyRestrictive)
}

/// Whether the two look alike, in whichever case they are written.
#[must_use]
pub fn look_alike(one: &str, other: &str) -> bool {
    let (ones, others) = (bones(one), bones(other));
    ones.iter().any(|bones| others.contains(bones))
}

/// What is left of a name once all that looks alike is the same: as it is written, because `I` and `l`
/// are alike, and in small letters, because `ALICE` is taken for `alice`.
fn bones(name: &str) -> [String; 2] {
    let of = |name: &str| skeleton(name).flat_map(char::to_lowercase).collect();
    [of(name), of(&name.to_lowercase())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_scripts_that_do_not_go_together_are_mixed() {
        for mixed in ["\u{430}lice", "pay\u{440}al", "bob\u{3bf}"] {
            assert!(mixes_scripts(mixed), "{mixed}");
        }
        for plain in [
            "alice",
            "алиса",
            "ada-2",
            "世界",
            "tanaka世界",
            "josé",
            "عمر",
        ] {
            assert!(!mixes_scripts(plain), "{plain}");
        }
    }

    #[test]
    fn names_that_people_would_take_for_each_other_look_alike() {
        for (one, other) in [
            ("alice", "Alice"),
            ("scope", "\u{455}\u{441}\u{43e}\u{440}\u{435}"),
            ("rnike", "mike"),
            ("bill", "bi1l"),
            ("alice", "aIice"),
            ("ALICE", "alice"),
            ("ALICE", "aIice"),
        ] {
            assert!(look_alike(one, other), "{one} {other}");
        }
        for (one, other) in [("alice", "alicia"), ("bob", "rob"), ("ann", "anne")] {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }
}
