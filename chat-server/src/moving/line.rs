//! The lines of the file: one JSON object each, as `docs/export.md` describes them.

use crate::register::moving::{AgentRow, InvitationRow};
use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use protocol::{
    Committed, EncodedBody, HostName, KeyFingerprint, MessageId, Room, Seq, Timestamp, UserName,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    /// The first one.
    Export {
        version: u32,
        software: String,
        /// `sqlite` or `jetstream`.
        log: String,
        epoch: String,
        /// The newest place that it had given.
        newest: u64,
        /// An estimate.
        messages: u64,
    },
    Host {
        host: String,
        key: String,
        next_key: Option<String>,
        enrolled_at_us: u64,
        invitation: Option<u32>,
        revoked_at_us: Option<u64>,
    },
    Invitation {
        invitation: u32,
        digest: String,
        host: Option<String>,
        uses_left: u32,
        made_at_us: u64,
        expires_at_us: u64,
        revoked: bool,
    },
    Made {
        host: String,
        rooms: u32,
    },
    /// A room begins: what follows is about it, until `checked`.
    Room {
        room: String,
        topic: String,
        founder: Option<String>,
        charter: Option<String>,
    },
    People {
        members: Vec<String>,
        kicked: Vec<String>,
    },
    Message {
        seq: u64,
        id: String,
        author: String,
        sent_at_us: u64,
        committed_at_us: u64,
        body: String,
    },
    /// A room ends.
    Checked {
        room: String,
        messages: u64,
        sha256: String,
    },
    /// Messages that were kept for long enough, and where they were.
    Gone {
        room: String,
        ids: Vec<(String, u64)>,
    },
    /// The last one.
    End {
        rooms: u64,
        messages: u64,
        gone: u64,
        hosts: u64,
        invitations: u64,
        /// Over all lines before this one.
        sha256: String,
    },
}

/// Places and times from here on are none: a log that began with them could not go on.
const ENDLESS: u64 = 1 << 60;

/// What is wrong with a value.
#[derive(Debug)]
pub(super) struct Bad(String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes `text` for a `what`.
pub(super) fn parse<T, E: fmt::Display>(
    what: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Bad> {
    parse(text).map_err(|error| Bad(format!("{what} {text:?}: {error}")))
}

pub(super) fn parse_room(text: &str) -> Result<Room, Bad> {
    parse("room", text, Room::parse)
}

pub(super) fn parse_users(texts: &[String]) -> Result<Vec<UserName>, Bad> {
    let user = |text: &String| parse("user", text, UserName::parse);
    texts.iter().map(user).collect()
}

pub(super) fn parse_host(text: &str) -> Result<HostName, Bad> {
    parse("host", text, HostName::parse)
}

pub(super) fn parse_id(text: &str) -> Result<MessageId, Bad> {
    parse("id", text, str::parse::<MessageId>)
}

pub(super) fn parse_bytes(what: &str, text: &str) -> Result<Bytes, Bad> {
    parse(what, text, |text| BASE64.decode(text.as_bytes())).map(Bytes::from)
}

fn parse_key(text: &str) -> Result<KeyFingerprint, Bad> {
    parse("key", text, str::parse::<KeyFingerprint>)
}

/// A message of the room that the line stands in.
pub(super) fn message(message: &Committed) -> Line {
    Line::Message {
        seq: message.seq.number(),
        id: message.id.to_string(),
        author: message.author.to_string(),
        sent_at_us: message.sent_at.micros(),
        committed_at_us: message.committed_at.micros(),
        body: BASE64.encode(message.body.as_bytes()),
    }
}

/// The message that a line of `room` holds; `None` if it holds something else.
pub(super) fn parse_message(room: &Room, line: &Line) -> Result<Option<Committed>, Bad> {
    let Line::Message {
        seq,
        id,
        author,
        sent_at_us,
        committed_at_us,
        body,
    } = line
    else {
        return Ok(None);
    };
    if let Some(number) = [*seq, *sent_at_us, *committed_at_us]
        .into_iter()
        .find(|number| *number >= ENDLESS)
    {
        return Err(Bad(format!("{number} of {id} is no place or time")));
    }
    let bytes = parse_bytes("body", body)?;
    let encoded = EncodedBody::from_bytes(bytes);
    let encoded = encoded.map_err(|error| Bad(format!("body of {id}: {error}")))?;
    encoded
        .check()
        .map_err(|error| Bad(format!("body of {id}: {error}")))?;
    Ok(Some(Committed {
        room: room.clone(),
        seq: Seq::new(*seq),
        prev_seq: Seq::START,
        committed_at: Timestamp::from_micros(*committed_at_us),
        id: parse_id(id)?,
        author: parse("author", author, UserName::parse)?,
        sent_at: Timestamp::from_micros(*sent_at_us),
        body: encoded,
    }))
}

pub(super) fn host(agent: &AgentRow) -> Line {
    Line::Host {
        host: agent.host.to_string(),
        key: agent.key.to_string(),
        next_key: agent.next_key.map(|key| key.to_string()),
        enrolled_at_us: agent.enrolled_at.micros(),
        invitation: agent.invitation,
        revoked_at_us: agent.revoked_at.map(Timestamp::micros),
    }
}

pub(super) fn invitation(row: &InvitationRow) -> Line {
    Line::Invitation {
        invitation: row.invitation,
        digest: HEXLOWER.encode(&row.digest),
        host: row.host.as_ref().map(ToString::to_string),
        uses_left: row.uses_left,
        made_at_us: row.made_at.micros(),
        expires_at_us: row.expires_at.micros(),
        revoked: row.revoked,
    }
}

/// The host that a line holds; `None` if it holds something else.
pub(super) fn parse_agent(line: &Line) -> Result<Option<AgentRow>, Bad> {
    let Line::Host {
        host,
        key,
        next_key,
        enrolled_at_us,
        invitation,
        revoked_at_us,
    } = line
    else {
        return Ok(None);
    };
    Ok(Some(AgentRow {
        key: parse_key(key)?,
        host: parse_host(host)?,
        enrolled_at: Timestamp::from_micros(*enrolled_at_us),
        invitation: *invitation,
        next_key: next_key.as_deref().map(parse_key).transpose()?,
        revoked_at: revoked_at_us.map(Timestamp::from_micros),
    }))
}

/// The invitation that a line holds; `None` if it holds something else.
pub(super) fn parse_invitation(line: &Line) -> Result<Option<InvitationRow>, Bad> {
    let Line::Invitation {
        invitation,
        digest,
        host,
        uses_left,
        made_at_us,
        expires_at_us,
        revoked,
    } = line
    else {
        return Ok(None);
    };
    let bytes = parse("digest", digest, |text| HEXLOWER.decode(text.as_bytes()))?;
    let sized = <[u8; 32]>::try_from(bytes.as_slice());
    Ok(Some(InvitationRow {
        invitation: *invitation,
        digest: sized.map_err(|_| Bad(format!("digest {digest:?} has not 32 bytes")))?,
        host: host.as_deref().map(parse_host).transpose()?,
        uses_left: *uses_left,
        made_at: Timestamp::from_micros(*made_at_us),
        expires_at: Timestamp::from_micros(*expires_at_us),
        revoked: *revoked,
    }))
}
