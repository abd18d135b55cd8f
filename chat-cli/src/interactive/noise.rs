//! Comings and goings, folded into one line now and then.

use crate::render::count;
use std::collections::BTreeMap;

/// Names that are told of each kind; of more only the number is.
const MAX_NAMED: usize = 6;

/// What somebody did that is worth a word, not a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// Is there.
    Here,
    /// Is away.
    Away,
    /// Is gone.
    Gone,
    /// Became a member of a room.
    Joined(String),
    /// Is no member of a room any more.
    Left(String),
}

impl Change {
    /// Whether this takes the other back, so that neither is worth a word.
    fn undoes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Here, Self::Gone | Self::Away) | (Self::Gone, Self::Here) => true,
            (Self::Joined(room), Self::Left(of)) | (Self::Left(room), Self::Joined(of)) => {
                room == of
            }
            _ => false,
        }
    }

    /// Whether both are about the same thing, so that the later one counts.
    fn replaces(&self, other: &Self) -> bool {
        let presence = |change: &Self| matches!(change, Self::Here | Self::Away | Self::Gone);
        self == other || (presence(self) && presence(other)) || self.undoes(other)
    }
}

/// What happened since the last line about it.
#[derive(Debug, Default)]
pub(super) struct Noise(Vec<(String, Change)>);

impl Noise {
    /// Notes what `who` did.
    pub(super) fn take(&mut self, who: String, change: Change) {
        let earlier = self
            .0
            .iter()
            .position(|(name, did)| *name == who && change.replaces(did));
        let undone = earlier.is_some_and(|index| {
            let (_, did) = self.0.remove(index);
            change.undoes(&did)
        });
        if !undone {
            self.0.push((who, change));
        }
    }

    /// All of it in one line, if there is any.
    pub(super) fn fold(&mut self) -> Option<String> {
        let mut kinds: BTreeMap<Change, Vec<String>> = BTreeMap::new();
        for (who, change) in self.0.drain(..) {
            kinds.entry(change).or_default().push(who);
        }
        let parts: Vec<String> = kinds
            .into_iter()
            .map(|(change, who)| {
                let be = if who.len() == 1 { "is" } else { "are" };
                let names = names(&who);
                match change {
                    Change::Here => format!("{names} {be} here"),
                    Change::Away => format!("{names} {be} away"),
                    Change::Gone => format!("{names} {be} gone"),
                    Change::Joined(room) => format!("{names} joined {room}"),
                    Change::Left(room) => format!("{names} left {room}"),
                }
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join(" · "))
    }
}

fn names(who: &[String]) -> String {
    match who.split_at_checked(MAX_NAMED) {
        Some((named, more)) if !more.is_empty() => {
            let more = count(more.len() as u64, "other");
            format!("{} and {more}", named.join(", "))
        }
        _ => who.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(changes: &[(&str, Change)]) -> Option<String> {
        let mut noise = Noise::default();
        for (who, change) in changes {
            noise.take((*who).to_owned(), change.clone());
        }
        let folded = noise.fold();
        assert_eq!(noise.fold(), None);
        folded
    }

    fn joined() -> Change {
        Change::Joined("#ops".to_owned())
    }

    fn left() -> Change {
        Change::Left("#ops".to_owned())
    }

    #[test]
    fn many_comings_and_goings_are_one_line() {
        let folded = fold(&[
            ("bob", joined()),
            ("carol", joined()),
            ("dan", Change::Gone),
            ("eve", left()),
        ]);
        let line = "dan is gone · bob, carol joined #ops · eve left #ops";
        assert_eq!(folded.as_deref(), Some(line));
        assert_eq!(fold(&[]), None);
    }

    #[test]
    fn who_comes_and_goes_at_once_is_not_worth_a_word() {
        assert_eq!(fold(&[("bob", joined()), ("bob", left())]), None);
        assert_eq!(fold(&[("bob", Change::Gone), ("bob", Change::Here)]), None);
        let away = fold(&[("bob", Change::Here), ("bob", Change::Away)]);
        assert_eq!(away.as_deref(), Some("bob is away"));
    }

    #[test]
    fn a_crowd_is_counted() {
        let crowd: Vec<_> = (1..=9).map(|n| format!("u{n}")).collect();
        let crowd: Vec<_> = crowd.iter().map(|who| (who.as_str(), joined())).collect();
        let line = "u1, u2, u3, u4, u5, u6 and 3 others joined #ops";
        assert_eq!(fold(&crowd).as_deref(), Some(line));
    }
}
