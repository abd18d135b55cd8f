//! What servers of one cluster tell each other, and in which form.
//!
//! JSON, on a subject that all of them listen to. Nothing of it is stored, and each message may be
//! lost: what a server tells is numbered, so that a loss is noticed and everything is asked for.

use crate::presence::MAX_USERS;
use bytes::Bytes;
use protocol::{AgentId, Availability, Epoch, HostName, Nick, limits::MAX_AGENTS};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A message is begun anew when it has grown to about this many bytes: a quarter of what NATS takes.
const FULL_BYTES: usize = 256 * 1_024;

/// Longest name of a server.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// One life of a server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ServerId(pub(crate) u64);

impl ServerId {
    /// One that no other has.
    pub(crate) fn new() -> Self {
        Self(u64::from_be_bytes(Epoch::new().to_bytes()))
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Since when an agent has its seat, in microseconds: a point in time that is later than whatever the
/// server knew of this host before, whatever its clock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Since(pub(crate) u64);

/// Something that a server tells all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) from: ServerId,
    /// What people call it.
    pub(crate) name: String,
    pub(crate) what: What,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// "I am here, and what I told last was this."
    Alive { number: u64 },
    /// What has changed since the one before.
    Changed {
        number: u64,
        hosts: BTreeMap<HostName, Change>,
    },
    /// Everything, in parts that follow each other from 0 on, as it was when this number was told.
    Everything {
        number: u64,
        part: u32,
        last: bool,
        hosts: BTreeMap<HostName, Seat>,
    },
    /// "Tell me everything": to one, or to all.
    Ask { of: Option<ServerId> },
    /// "I end, and all my seats are free."
    Goodbye,
}

/// An agent that is connected to a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) agent: AgentId,
    pub(crate) since: Since,
    /// Which of its users are there.
    pub(crate) users: BTreeMap<Nick, Availability>,
}

/// What has changed with one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// It has this seat now, whatever was before.
    Seated(Seat),
    /// It has none any more.
    Left,
    /// Its seat is as it was, and of these users this is true now.
    Users(BTreeMap<Nick, Availability>),
}

impl News {
    /// As it is sent.
    pub(crate) fn encode(&self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(self).map(Bytes::from)
    }

    /// What was sent; `None` if it is no news that this program understands.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let news: Self = serde_json::from_slice(payload).ok()?;
        let hosts = match &news.what {
            What::Changed { hosts, .. } => hosts.len(),
            What::Everything { hosts, .. } => hosts.len(),
            What::Alive { .. } | What::Ask { .. } | What::Goodbye => 0,
        };
        (hosts <= MAX_AGENTS && news.name.len() <= MAX_NAME_BYTES).then_some(news)
    }
}

impl Seat {
    fn bytes(&self) -> usize {
        // Ids, punctuation and the longest word for how somebody is.
        160 + users_bytes(&self.users)
    }
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Seated(seat) => seat.bytes(),
            Self::Left => 16,
            Self::Users(users) => 32 + users_bytes(users),
        }
    }
}

fn users_bytes(users: &BTreeMap<Nick, Availability>) -> usize {
    let each = users.keys().map(|nick| nick.as_str().len() + 16);
    each.sum()
}

/// Cuts seats into parts of messages.
pub(crate) fn seats_in_parts(
    seats: impl IntoIterator<Item = (HostName, Seat)>,
) -> Vec<BTreeMap<HostName, Seat>> {
    in_parts(seats, Seat::bytes)
}

/// Cuts changes into parts of messages.
pub(crate) fn changes_in_parts(
    changes: impl IntoIterator<Item = (HostName, Change)>,
) -> Vec<BTreeMap<HostName, Change>> {
    in_parts(changes, Change::bytes)
}

/// At least one part, which may be empty. A host is never cut: with [`MAX_USERS`] users it is still
/// half of what NATS takes.
fn in_parts<T>(
    entries: impl IntoIterator<Item = (HostName, T)>,
    bytes: impl Fn(&T) -> usize,
) -> Vec<BTreeMap<HostName, T>> {
    let mut parts = vec![BTreeMap::new()];
    let mut filled = 0;
    for (host, entry) in entries {
        let more = host.as_str().len() + bytes(&entry);
        if filled + more > FULL_BYTES && filled > 0 {
            parts.push(BTreeMap::new());
            filled = 0;
        }
        filled += more;
        if let Some(part) = parts.last_mut() {
            part.insert(host, entry);
        }
    }
    parts
}

/// Whether `users` are as many as a host can have.
pub(crate) fn is_too_many(users: &BTreeMap<Nick, Availability>) -> bool {
    users.len() > MAX_USERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_host_fits_into_a_message_and_everything_into_several() {
        let longest = |n: usize| format!("{n:0>width$}", width = protocol::limits::MAX_NICK_BYTES);
        let users = (0..MAX_USERS).map(|n| (longest(n).parse().unwrap(), Availability::Offline));
        let seat = Seat {
            agent: AgentId::new(),
            since: Since(u64::MAX),
            users: users.collect(),
        };
        let hosts = ["ada", "bee", "cow"].map(|host| (host.parse().unwrap(), seat.clone()));
        let parts = seats_in_parts(hosts);
        assert_eq!(parts.len(), 3);
        for hosts in parts {
            let what = What::Everything {
                number: u64::MAX,
                part: 0,
                last: true,
                hosts,
            };
            let news = News {
                from: ServerId::new(),
                name: "n".repeat(MAX_NAME_BYTES),
                what,
            };
            let encoded = news.encode().unwrap();
            assert!(encoded.len() < 700_000, "{}", encoded.len());
            assert_eq!(News::decode(&encoded), Some(news));
        }
    }

    #[test]
    fn what_is_no_news_is_nothing() {
        for bad in [
            &b""[..],
            b"{}",
            br#"{"from":1,"name":"a","what":{"Alive":{"number":-1}}}"#,
            br#"{"from":1,"name":"a","what":{"Changed":{"number":1,"hosts":{"not a host":"Left"}}}}"#,
        ] {
            assert_eq!(News::decode(bad), None);
        }
        let long = format!(
            r#"{{"from":1,"name":"{}","what":"Goodbye"}}"#,
            "n".repeat(MAX_NAME_BYTES + 1)
        );
        assert_eq!(News::decode(long.as_bytes()), None);
    }
}
