//! Values for unit tests.

use protocol::{
    Committed, Content, Cursor, Durability, Epoch, LogHealth, LogKeeper, LogStatus, MessageId,
    Room, Seq, Timestamp,
    local::{LinkStatus, Status},
};

/// 2024-03-01T12:00:00.000042Z.
pub(crate) const NOON: Timestamp = Timestamp::from_micros(1_709_294_400_000_042);

pub(crate) fn epoch(number: u8) -> Epoch {
    Epoch::from_bytes([0, 0, 0, 0, 0, 0, 0, number])
}

pub(crate) fn room(text: &str) -> Room {
    text.parse().unwrap()
}

/// Message `seq` in the first life of a log.
pub(crate) fn at(seq: u64) -> Cursor {
    Cursor {
        epoch: epoch(1),
        seq: Seq::new(seq),
    }
}

/// A message whose predecessor is at `seq - 1`.
pub(crate) fn message(room: &str, seq: u64, author: &str, text: &str) -> Committed {
    Committed {
        room: room.parse().unwrap(),
        seq: Seq::new(seq),
        prev_seq: Seq::new(seq - 1),
        committed_at: NOON,
        id: MessageId::from_bytes([7; 16]),
        author: author.parse().unwrap(),
        sent_at: NOON,
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

/// A log of which nobody says whether it is synced, away.
pub(crate) fn weaker_log() -> LogStatus {
    LogStatus {
        keeper: LogKeeper::JetStream,
        durability: Durability::Unknown,
        weaker: Some("nobody has vouched".to_owned()),
        health: LogHealth::Away {
            reason: "NATS: not connected".to_owned(),
        },
    }
}

pub(crate) fn status() -> Status {
    Status {
        user: "alice@ada".parse().unwrap(),
        software: "chat-agent 0.1.0".to_owned(),
        pid: 42,
        state_dir: "/s".to_owned(),
        sessions: 2,
        outbox_messages: 3,
        outbox_bytes: 300,
        outbox_limit_bytes: 1_000,
        link: LinkStatus::Waiting {
            server: "hub:7667".to_owned(),
            error: "connection refused".to_owned(),
            attempt: 2,
            until: NOON,
        },
        problems: Vec::new(),
    }
}
