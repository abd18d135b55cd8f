//! The one place for machine output: one JSON object a line, told apart by its `type`.
//!
//! docs/json.md is what scripts rely on: each type with its fields, which are only ever added. A test
//! compares what is printed with it, so a new type or field begins there.

use crate::{
    daemons::Moved,
    doctor::Finding,
    paths::{Setting, Source},
    render,
    verbs::server,
};
use protocol::{
    Committed, Content, Epoch, KeyFingerprint, LogStatus, MessageId, Outgoing, Room, Seq,
    Timestamp, UserName,
    admin::{AgentInfo, InvitationInfo, InvitationState},
    governance::{Act, Charter, Mode, Rank},
    local::{Delivery, LinkStatus, RoomInfo, Status},
};
use serde::Serialize;
use std::fmt::Write;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Sent {
        id: String,
        room: String,
        state: &'static str,
        seq: Option<u64>,
    },
    Message(Event),
    Edit(Event),
    Delete(Event),
    Reaction(Event),
    Pending {
        room: String,
        id: String,
        from: String,
        body: Option<String>,
        sent_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<&'static str>,
    },
    Topic {
        room: String,
        topic: &'a str,
    },
    Act(Event),
    Governed {
        id: String,
        room: String,
        seq: Option<u64>,
    },
    Charter {
        room: String,
        mode: String,
        owners: Vec<String>,
        moderators: Vec<String>,
        members: Vec<String>,
        banned: Vec<String>,
        muted: Vec<String>,
        max_age_seconds: Option<u64>,
        max_messages: Option<u64>,
    },
    Room {
        room: String,
        joined: bool,
        members: Option<u32>,
        head: u64,
        unread: u32,
        topic: &'a str,
    },
    Member {
        room: String,
        user: String,
        availability: &'static str,
    },
    Status {
        user: String,
        software: &'a str,
        pid: u32,
        state_dir: &'a str,
        sessions: u32,
        outbox: Outbox,
        link: Link<'a>,
        log: Option<Log<'a>>,
        problems: &'a [String],
    },
    Server {
        software: &'a str,
        connected: u32,
        users: u32,
        draining: bool,
        log: Log<'a>,
    },
    Setting {
        of: &'static str,
        name: &'static str,
        value: &'a serde_json::Value,
        origin: &'static str,
        source: Option<String>,
    },
    Invitation {
        invitation: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<Option<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        uses_left: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        made_at: Option<String>,
        expires_at: String,
    },
    Agent {
        host: String,
        key: String,
        enrolled_at: String,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    Key {
        key: String,
        current: bool,
        connected: u32,
        enrolled: u32,
    },
    Drain {
        draining: bool,
        connected: u32,
        sent: u32,
    },
    Moved {
        log: &'a str,
        rooms: u64,
        messages: u64,
        hosts: u64,
        invitations: u64,
        notes: &'a [String],
    },
    Check {
        check: &'static str,
        result: &'static str,
        found: &'a str,
        advice: Option<&'a str>,
    },
}

/// What stands in a room's log.
#[derive(Default, Serialize)]
struct Event {
    room: String,
    seq: u64,
    id: String,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    sent_at: String,
    committed_at: String,
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emoji: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    act: Option<Deed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<bool>,
}

/// What was done to a room.
#[derive(Default, Serialize)]
struct Deed {
    act: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Log<'a> {
    keeper: &'static str,
    durability: &'static str,
    state: &'static str,
    reason: Option<&'a str>,
    weaker: Option<&'a str>,
}

impl<'a> Log<'a> {
    fn new(status: &'a LogStatus) -> Self {
        Self {
            keeper: status.keeper.word(),
            durability: status.durability.word(),
            state: status.health.word(),
            reason: status.health.reason(),
            weaker: status.weaker.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Outbox {
    messages: u64,
    bytes: u64,
    limit_bytes: u64,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum Link<'a> {
    LocalOnly,
    Connecting {
        server: &'a str,
    },
    Waiting {
        server: &'a str,
        error: &'a str,
        attempt: u32,
        until: String,
    },
    Online {
        server: &'a str,
        epoch: String,
        software: &'a str,
        since: String,
    },
}

/// What became of a sent message.
#[must_use]
pub fn sent(id: MessageId, room: &Room, state: Delivery, me: &UserName) -> String {
    let (state, seq) = match state {
        Delivery::Queued => ("queued", None),
        Delivery::Committed { seq, .. } => ("committed", Some(seq.number())),
    };
    text(&Line::Sent {
        id: id.to_string(),
        room: room.seen_by(me),
        state,
        seq,
    })
}

/// One message, edit, deletion or reaction; `cursor` is the text that resumes after it.
#[must_use]
pub fn message(message: &Committed, me: &UserName, cursor: String) -> String {
    text(&event(message, me, cursor, None))
}

/// As [`message`], for a reader that goes on: whether it came just now or was there already.
#[must_use]
pub fn read(message: &Committed, me: &UserName, cursor: String, live: bool) -> String {
    text(&event(message, me, cursor, Some(live)))
}

fn event(message: &Committed, me: &UserName, cursor: String, live: Option<bool>) -> Line<'static> {
    let event = Event {
        room: message.room.seen_by(me),
        seq: message.seq.number(),
        id: message.id.to_string(),
        from: message.author.to_string(),
        sent_at: time(message.sent_at),
        committed_at: time(message.committed_at),
        cursor,
        live,
        ..Event::default()
    };
    let says = |body| Some(Some(body));
    let unreadable = |reason, event| {
        Line::Message(Event {
            body: Some(None),
            unreadable: Some(reason),
            ..event
        })
    };
    match message.body.decode() {
        Ok(Content::Text(text)) => Line::Message(Event {
            body: says(text),
            ..event
        }),
        Ok(Content::Action(text)) => Line::Message(Event {
            body: says(text),
            kind: Some("action"),
            ..event
        }),
        Ok(Content::Reply { to, text }) => Line::Message(Event {
            body: says(text),
            kind: Some("reply"),
            to: Some(to.to_string()),
            ..event
        }),
        Ok(Content::Edit { of, text }) => Line::Edit(Event {
            body: says(text),
            of: Some(of.to_string()),
            ..event
        }),
        Ok(Content::Delete { of }) => Line::Delete(Event {
            of: Some(of.to_string()),
            ..event
        }),
        Ok(Content::React { to, emoji, on }) => Line::Reaction(Event {
            to: Some(to.to_string()),
            emoji: Some(emoji),
            on: Some(on),
            ..event
        }),
        Ok(Content::Act(act)) => Line::Act(Event {
            act: Some(deed(&act)),
            ..event
        }),
        Ok(Content::Erased) => Line::Message(Event {
            body: Some(None),
            kind: Some("erased"),
            ..event
        }),
        Ok(_) => unreadable(
            "this version does not know this kind of message".to_owned(),
            event,
        ),
        Err(error) => unreadable(error.to_string(), event),
    }
}

/// One message that waits for the server.
#[must_use]
pub fn pending(message: &Outgoing, me: &UserName) -> String {
    let content = message.body.decode().ok();
    let kind = match &content {
        Some(Content::Text(_)) => None,
        Some(Content::Action(_)) => Some("action"),
        Some(Content::Reply { .. }) => Some("reply"),
        Some(Content::Edit { .. }) => Some("edit"),
        Some(Content::Delete { .. }) => Some("delete"),
        Some(Content::React { .. }) => Some("reaction"),
        _ => Some("unknown"),
    };
    let body = match &content {
        Some(Content::React { emoji, .. }) => Some(emoji.clone()),
        Some(content) => content.text().map(str::to_owned),
        None => None,
    };
    text(&Line::Pending {
        room: message.room.seen_by(me),
        id: message.id.to_string(),
        from: message.author.to_string(),
        body,
        sent_at: time(message.sent_at),
        kind,
    })
}

/// A room's topic.
#[must_use]
pub fn topic(room: &Room, topic: &str, me: &UserName) -> String {
    let room = room.seen_by(me);
    text(&Line::Topic { room, topic })
}

fn deed(act: &Act) -> Deed {
    let with = |act, user: String| Deed {
        act,
        user: Some(user),
        ..Deed::default()
    };
    let mode = |act, mode: &Mode, members: &[UserName]| Deed {
        act,
        mode: Some(mode.to_string()),
        members: (*mode == Mode::InviteOnly).then(|| texts(members.iter())),
        ..Deed::default()
    };
    match act {
        Act::Opened { mode: to, members } => mode("opened", to, members),
        Act::Mode { mode: to, members } => mode("mode", to, members),
        Act::Invite { user } => with("invite", user.to_string()),
        Act::Kick { user } => with("kick", user.to_string()),
        Act::Ban { subject } => with("ban", subject.to_string()),
        Act::Unban { subject } => with("unban", subject.to_string()),
        Act::Mute { user } => with("mute", user.to_string()),
        Act::Unmute { user } => with("unmute", user.to_string()),
        Act::Promote { user, rank } => Deed {
            rank: Some(rank.to_string()),
            ..with("promote", user.to_string())
        },
        Act::Demote { user } => with("demote", user.to_string()),
        Act::Retention { keep } => Deed {
            act: "retention",
            max_age_seconds: keep.max_age_seconds,
            max_messages: keep.max_messages,
            ..Deed::default()
        },
        Act::Erase { messages } => Deed {
            act: "erase",
            erased: Some(texts(messages.iter())),
            ..Deed::default()
        },
        Act::Left => Deed {
            act: "left",
            ..Deed::default()
        },
        _ => Deed {
            act: "unknown",
            ..Deed::default()
        },
    }
}

fn texts<T: ToString>(values: impl Iterator<Item = T>) -> Vec<String> {
    values.map(|value| value.to_string()).collect()
}

/// What came of an act: `None` if it changed nothing.
#[must_use]
pub fn governed(id: MessageId, room: &Room, state: Option<Delivery>, me: &UserName) -> String {
    let seq = match state {
        Some(Delivery::Committed { seq, .. }) => Some(seq.number()),
        _ => None,
    };
    text(&Line::Governed {
        id: id.to_string(),
        room: room.seen_by(me),
        seq,
    })
}

/// Who may do what in a room.
#[must_use]
pub fn charter(room: &Room, charter: Option<&Charter>, me: &UserName) -> String {
    let of = |rank: Rank| {
        let people = charter.into_iter().flat_map(Charter::people);
        texts(people.filter(|(_, one)| *one == rank).map(|(user, _)| user))
    };
    let keep = charter.map(Charter::keep).unwrap_or_default();
    text(&Line::Charter {
        room: room.seen_by(me),
        mode: charter.map(Charter::mode).unwrap_or_default().to_string(),
        owners: of(Rank::Owner),
        moderators: of(Rank::Moderator),
        members: of(Rank::Member),
        banned: texts(charter.into_iter().flat_map(Charter::banned)),
        muted: texts(charter.into_iter().flat_map(Charter::muted)),
        max_age_seconds: keep.max_age_seconds,
        max_messages: keep.max_messages,
    })
}

/// The cursor after `seq` in a room read alone.
#[must_use]
pub fn cursor(epoch: Epoch, seq: Seq) -> String {
    protocol::Cursor { epoch, seq }.to_string()
}

/// One room of a list.
#[must_use]
pub fn room(info: &RoomInfo, me: &UserName) -> String {
    text(&Line::Room {
        room: info.room.seen_by(me),
        joined: info.joined,
        members: info.members,
        head: info.head.number(),
        unread: info.unread,
        topic: &info.topic,
    })
}

/// One member of a room.
#[must_use]
pub fn member(room: &Room, member: &protocol::Member, me: &UserName) -> String {
    text(&Line::Member {
        room: room.seen_by(me),
        user: member.user.to_string(),
        availability: render::availability(member.availability),
    })
}

/// How things are, with the server's log if that is known.
#[must_use]
pub fn status(status: &Status, log: Option<&LogStatus>) -> String {
    let link = match &status.link {
        LinkStatus::LocalOnly => Link::LocalOnly,
        LinkStatus::Connecting { server } => Link::Connecting { server },
        LinkStatus::Waiting {
            server,
            error,
            attempt,
            until,
        } => Link::Waiting {
            server,
            error,
            attempt: *attempt,
            until: time(*until),
        },
        LinkStatus::Online {
            server,
            epoch,
            software,
            since,
        } => Link::Online {
            server,
            epoch: epoch.to_string(),
            software,
            since: time(*since),
        },
    };
    text(&Line::Status {
        user: status.user.to_string(),
        software: &status.software,
        pid: status.pid,
        state_dir: &status.state_dir,
        sessions: status.sessions,
        outbox: Outbox {
            messages: status.outbox_messages,
            bytes: status.outbox_bytes,
            limit_bytes: status.outbox_limit_bytes,
        },
        link,
        log: log.map(Log::new),
        problems: &status.problems,
    })
}

/// How a server is, to whoever runs it.
#[must_use]
pub fn server(
    software: &str,
    connected: u32,
    users: u32,
    draining: bool,
    log: &LogStatus,
) -> String {
    text(&Line::Server {
        software,
        connected,
        users,
        draining,
        log: Log::new(log),
    })
}

/// One setting and where it comes from.
#[must_use]
pub fn setting(setting: &Setting) -> String {
    let (origin, source) = match &setting.source {
        Source::Flag => ("flag", None),
        Source::Environment(name) => ("environment", Some((*name).to_owned())),
        Source::File(path) => ("file", Some(path.display().to_string())),
        Source::Default => ("default", None),
    };
    text(&Line::Setting {
        of: setting.of,
        name: setting.name,
        value: &setting.value,
        origin,
        source,
    })
}

/// What was found of one thing.
#[must_use]
pub fn check(finding: &Finding) -> String {
    text(&Line::Check {
        check: finding.check,
        result: finding.level.word(),
        found: &finding.found,
        advice: finding.advice.as_deref(),
    })
}

/// An invitation that was just made, secret and all.
#[must_use]
pub fn invited(invitation: u32, address: &str, expires_at: Timestamp) -> String {
    text(&Line::Invitation {
        invitation,
        address: Some(address),
        host: None,
        state: None,
        uses_left: None,
        made_at: None,
        expires_at: time(expires_at),
    })
}

/// One invitation of a list.
#[must_use]
pub fn invitation(info: &InvitationInfo) -> String {
    text(&Line::Invitation {
        invitation: info.invitation,
        address: None,
        host: Some(info.host.as_ref().map(ToString::to_string)),
        state: Some(match info.state {
            InvitationState::Open => "open",
            InvitationState::Expired => "expired",
            InvitationState::Used => "used",
            InvitationState::Revoked => "revoked",
        }),
        uses_left: Some(info.uses_left),
        made_at: Some(time(info.made_at)),
        expires_at: time(info.expires_at),
    })
}

/// One agent that a server knows.
#[must_use]
pub fn agent(info: &AgentInfo) -> String {
    text(&Line::Agent {
        host: info.host.to_string(),
        key: info.key.to_string(),
        enrolled_at: time(info.enrolled_at),
        state: server::state(&info.state),
        server: server::server_of(&info.state).map(str::to_owned),
    })
}

/// A server's key: the one that it has, or will have.
#[must_use]
pub fn key(key: &KeyFingerprint, current: bool, connected: u32, enrolled: u32) -> String {
    text(&Line::Key {
        key: key.to_string(),
        current,
        connected,
        enrolled,
    })
}

/// How far a server is that gives its hosts to the others.
#[must_use]
pub fn drain(draining: bool, connected: u32, sent: u32) -> String {
    text(&Line::Drain {
        draining,
        connected,
        sent,
    })
}

/// What was moved out of a log or into one.
pub fn moved(moved: &Moved) -> String {
    text(&Line::Moved {
        log: &moved.log,
        rooms: moved.rooms,
        messages: moved.messages,
        hosts: moved.hosts,
        invitations: moved.invitations,
        notes: &moved.notes,
    })
}

fn time(at: Timestamp) -> String {
    format!("{:.6}", render::instant(at))
}

/// The object on one line. What a terminal might obey is written as `\uXXXX`, which is the same
/// string to a parser: people pipe to a terminal too.
fn text(line: &Line<'_>) -> String {
    let json = serde_json::to_string(line).expect("strings, numbers and lists of them are JSON");
    if json.chars().all(render::is_harmless) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if render::is_harmless(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn me() -> UserName {
        "alice@ada".parse().unwrap()
    }

    #[test]
    fn a_message_has_the_promised_shape() {
        let committed = sample::message("#ops", 7, "bob@bee", "hi \"there\"\n\u{1b}");
        assert_eq!(
            message(&committed, &me(), cursor(sample::epoch(3), committed.seq)),
            concat!(
                r##"{"type":"message","room":"#ops","seq":7,"id":"07070707-0707-0707-0707-070707070707","##,
                r#""from":"bob@bee","body":"hi \"there\"\n\u001b","sent_at":"2024-03-01T12:00:00.000042Z","#,
                r#""committed_at":"2024-03-01T12:00:00.000042Z","cursor":"0000000000000003.7"}"#
            )
        );
    }

    #[test]
    fn a_reader_that_goes_on_is_told_last_whether_a_message_is_live() {
        let committed = sample::message("#ops", 7, "bob@bee", "hi");
        let printed = read(&committed, &me(), "0".to_owned(), true);
        assert!(
            printed.ends_with(r#","cursor":"0","live":true}"#),
            "{printed}"
        );
    }

    #[test]
    fn what_is_about_another_message_has_a_type_or_a_kind() {
        let about = MessageId::from_bytes([9; 16]);
        let id = about.to_string();
        let shown = |content: Content| -> serde_json::Value {
            let mut committed = sample::message("#ops", 7, "bob@bee", "x");
            committed.body = content.encode().unwrap();
            serde_json::from_str(&message(&committed, &me(), "0".to_owned())).unwrap()
        };
        let text = "yes".to_owned();
        let reply = shown(Content::Reply { to: about, text });
        assert_eq!(
            (&reply["type"], &reply["kind"]),
            (&"message".into(), &"reply".into())
        );
        assert_eq!(
            (&reply["body"], &reply["to"]),
            (&"yes".into(), &id.as_str().into())
        );
        assert_eq!(shown(Content::Action("waves".to_owned()))["kind"], "action");
        let text = "no".to_owned();
        let edit = shown(Content::Edit { of: about, text });
        assert_eq!(
            (&edit["type"], &edit["of"]),
            (&"edit".into(), &id.as_str().into())
        );
        let delete = shown(Content::Delete { of: about });
        assert_eq!(delete["type"], "delete");
        assert!(delete.get("body").is_none() && delete["of"] == id);
        let emoji = "\u{1f44d}".to_owned();
        let react = shown(Content::React {
            to: about,
            emoji,
            on: true,
        });
        assert_eq!(react["type"], "reaction");
        assert_eq!(
            (&react["emoji"], &react["on"]),
            (&"\u{1f44d}".into(), &true.into())
        );
    }

    #[test]
    fn an_unreadable_body_is_null_and_says_why() {
        let mut committed = sample::message("alice@ada,bob@bee", 7, "bob@bee", "hi");
        committed.body =
            protocol::EncodedBody::from_bytes(bytes::Bytes::from_static(&[9, 9])).unwrap();
        let printed = message(&committed, &me(), "0".to_owned());
        let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(value["room"], "bob@bee");
        assert!(value["body"].is_null());
        assert!(value["unreadable"].as_str().unwrap().contains("read"));
    }

    #[test]
    fn a_parser_sees_the_body_as_it_was_and_a_terminal_nothing_to_obey() {
        let body = "\u{9b}31m\u{202e}\u{e0041}\u{7f}\u{1b}[m 世界";
        let committed = sample::message("#ops", 7, "bob@bee", body);
        let printed = message(&committed, &me(), "0".to_owned());
        assert!(printed.chars().all(render::is_harmless), "{printed}");
        let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(value["body"], body);
    }

    #[test]
    fn what_waits_and_cannot_be_read_is_no_plain_text() {
        let committed = sample::message("#ops", 7, "bob@bee", "hi");
        let body = bytes::Bytes::from_static(&[9, 9]);
        let waits = Outgoing {
            id: committed.id,
            room: committed.room,
            author: committed.author,
            sent_at: committed.sent_at,
            body: protocol::EncodedBody::from_bytes(body).unwrap(),
        };
        let value: serde_json::Value = serde_json::from_str(&pending(&waits, &me())).unwrap();
        assert_eq!(
            (&value["body"], value["kind"].as_str()),
            (&serde_json::Value::Null, Some("unknown"))
        );
    }

    #[test]
    fn a_sent_message_has_the_promised_shape() {
        let room = "#ops".parse().unwrap();
        let id = MessageId::from_bytes([7; 16]);
        assert_eq!(
            sent(id, &room, Delivery::Queued, &me()),
            r##"{"type":"sent","id":"07070707-0707-0707-0707-070707070707","room":"#ops","state":"queued","seq":null}"##
        );
        let committed = Delivery::Committed {
            epoch: sample::epoch(1),
            seq: Seq::new(9),
        };
        assert!(sent(id, &room, committed, &me()).ends_with(r#""state":"committed","seq":9}"#));
    }

    #[test]
    fn status_names_the_state_of_the_link() {
        let value: serde_json::Value =
            serde_json::from_str(&status(&sample::status(), Some(&sample::weaker_log()))).unwrap();
        assert_eq!(value["type"], "status");
        assert_eq!(value["outbox"]["messages"], 3);
        assert_eq!(value["link"]["state"], "waiting");
        assert_eq!(value["link"]["until"], "2024-03-01T12:00:00.000042Z");
        assert_eq!(value["log"]["durability"], "unknown");
        assert_eq!(value["log"]["state"], "away");
    }

    #[test]
    fn rooms_and_members_are_one_object_each() {
        let info = RoomInfo {
            room: "#ops".parse().unwrap(),
            joined: true,
            members: None,
            head: Seq::new(4),
            unread: 2,
            topic: String::new(),
        };
        assert_eq!(
            room(&info, &me()),
            r##"{"type":"room","room":"#ops","joined":true,"members":null,"head":4,"unread":2,"topic":""}"##
        );
        let bob = protocol::Member {
            user: "bob@bee".parse().unwrap(),
            availability: protocol::Availability::Away,
        };
        assert_eq!(
            member(&info.room, &bob, &me()),
            r##"{"type":"member","room":"#ops","user":"bob@bee","availability":"away"}"##
        );
    }
}
