//! What tells whether a room is what it was: how many messages it has, and a digest over them in order.

use protocol::Committed;
use sha2::{Digest, Sha256};
use std::fmt;

/// The messages of a room so far.
///
/// The digest (SHA-256) is over, for each message: its id (16 bytes), the number of bytes of its author's
/// name (2, big-endian) and these, when it was sent and committed (microseconds, 8 each), the number of
/// bytes of its body (4) and these. Where it stands is not part of it: another log has other places.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    messages: u64,
    digest: Sha256,
}

/// All messages of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) messages: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
}

impl Tally {
    /// The next message.
    pub(super) fn add(&mut self, message: &Committed) {
        self.messages += 1;
        let author = message.author.to_string();
        let body = message.body.as_bytes();
        // Names and bodies are shorter than that everywhere.
        let author_bytes = u16::try_from(author.len()).unwrap_or(u16::MAX);
        let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.digest.update(message.id.to_bytes());
        self.digest.update(author_bytes.to_be_bytes());
        self.digest.update(author.as_bytes());
        self.digest.update(message.sent_at.micros().to_be_bytes());
        self.digest
            .update(message.committed_at.micros().to_be_bytes());
        self.digest.update(body_bytes.to_be_bytes());
        self.digest.update(body);
    }

    pub(super) fn sum(self) -> Sum {
        Sum {
            messages: self.messages,
            sha256: data_encoding::HEXLOWER.encode(&self.digest.finalize()),
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, sha256 } = self;
        let some = sha256.get(..12).unwrap_or(sha256);
        write!(f, "{messages} messages ({some}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Content, MessageId, Room, Seq, Timestamp};

    fn message(number: u8) -> Committed {
        Committed {
            room: Room::parse("#ops").unwrap(),
            seq: Seq::new(number.into()),
            prev_seq: Seq::START,
            committed_at: Timestamp::from_micros(2),
            id: MessageId::from_bytes([number; 16]),
            author: "alice@ada".parse().unwrap(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hello".to_owned()).encode().unwrap(),
        }
    }

    fn sum(messages: &[Committed]) -> Sum {
        let mut tally = Tally::default();
        messages.iter().for_each(|message| tally.add(message));
        tally.sum()
    }

    #[test]
    fn another_order_or_another_word_is_another_sum_and_another_place_is_not() {
        let (one, two) = (message(1), message(2));
        let first = sum(&[one.clone(), two.clone()]);
        assert_ne!(sum(&[two.clone(), one.clone()]), first);
        assert_ne!(sum(std::slice::from_ref(&one)), first);
        let mut other = two.clone();
        other.body = Content::Text("hullo".to_owned()).encode().unwrap();
        assert_ne!(sum(&[one.clone(), other]), first);
        let mut elsewhere = two;
        elsewhere.seq = Seq::new(99);
        assert_eq!(sum(&[one, elsewhere]), first);
    }
}
