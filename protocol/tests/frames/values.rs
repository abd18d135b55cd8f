//! Random values of what both vocabularies are made of.

pub(crate) mod federation;
pub(crate) mod local;

use proptest::{collection::vec, option, prelude::*};
use protocol::{
    Availability, Committed, ConsumerName, Content, Cursor, Direct, Durability, EncodedBody, Epoch,
    FederatedRoom, HostName, LocalRoom, LogHealth, LogKeeper, LogStatus, Member, MessageId, Nick,
    Outgoing, RequestId, Room, Seq, Timestamp, UserName,
    governance::{Act, Denied, Keep, Mode, Rank, Subject},
};
use tokio_util::bytes::Bytes;

pub(crate) fn request_id() -> impl Strategy<Value = RequestId> {
    any::<u32>().prop_map(RequestId)
}

pub(crate) fn message_id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 16]>().prop_map(MessageId::from_bytes)
}

pub(crate) fn epoch() -> impl Strategy<Value = Epoch> {
    any::<[u8; 8]>().prop_map(Epoch::from_bytes)
}

/// Numbers around the places where the width of their encoding changes, and any others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..=300_u64,
        65_530..=65_540_u64,
        0xffff_fff0..=0x1_0000_0010_u64,
        any::<u64>(),
    ]
}

pub(crate) fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq::new)
}

pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    number().prop_map(Timestamp::from_micros)
}

pub(crate) fn cursor() -> impl Strategy<Value = Cursor> {
    (epoch(), seq()).prop_map(|(epoch, seq)| Cursor { epoch, seq })
}

pub(crate) fn nick() -> impl Strategy<Value = Nick> {
    "[a-zA-Z0-9_äöüßλшא李雷가][a-zA-Z0-9_.äλш李-]{0,9}".prop_map(|text| Nick::parse(&text).unwrap())
}

pub(crate) fn consumer() -> impl Strategy<Value = ConsumerName> {
    "[a-z0-9_][a-z0-9._-]{0,20}".prop_map(|text| ConsumerName::parse(&text).unwrap())
}

pub(crate) fn host() -> impl Strategy<Value = HostName> {
    "[a-zA-Z0-9][a-zA-Z0-9.-]{0,63}".prop_map(|text| HostName::parse(&text).unwrap())
}

pub(crate) fn user() -> impl Strategy<Value = UserName> {
    (nick(), host()).prop_map(|(nick, host)| UserName::new(nick, host))
}

pub(crate) fn federated_room() -> impl Strategy<Value = FederatedRoom> {
    "#[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| FederatedRoom::parse(&text).unwrap())
}

fn local_room() -> impl Strategy<Value = LocalRoom> {
    "&[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| LocalRoom::parse(&text).unwrap())
}

pub(crate) fn direct() -> impl Strategy<Value = Direct> {
    (user(), user()).prop_map(|(one, other)| Direct::between(one, other))
}

pub(crate) fn room() -> impl Strategy<Value = Room> {
    prop_oneof![
        federated_room().prop_map(Room::Federated),
        local_room().prop_map(Room::Local),
        direct().prop_map(Room::Direct),
    ]
}

/// Any Unicode, control characters included: free text is the reader's to neutralise.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect()),
        1 => Just(String::new()),
    ]
}

pub(crate) fn log_status() -> impl Strategy<Value = LogStatus> {
    let keeper = prop_oneof![Just(LogKeeper::Database), Just(LogKeeper::JetStream)];
    let durability = prop_oneof![
        Just(Durability::Synced),
        Just(Durability::NotSynced),
        Just(Durability::Unknown)
    ];
    let health = prop_oneof![
        Just(LogHealth::Well),
        text().prop_map(|reason| LogHealth::Away { reason }),
        text().prop_map(|reason| LogHealth::Slow { reason }),
        text().prop_map(|reason| LogHealth::Full { reason }),
    ];
    (keeper, durability, maybe(text()), health).prop_map(|(keeper, durability, weaker, health)| {
        LogStatus {
            keeper,
            durability,
            weaker,
            health,
        }
    })
}

pub(crate) fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        8 => text().prop_map(Content::Text),
        1 => text().prop_map(Content::Action),
        1 => (message_id(), text()).prop_map(|(to, text)| Content::Reply { to, text }),
        1 => (message_id(), text()).prop_map(|(of, text)| Content::Edit { of, text }),
        1 => message_id().prop_map(|of| Content::Delete { of }),
        1 => (message_id(), text(), any::<bool>())
            .prop_map(|(to, emoji, on)| Content::React { to, emoji, on }),
        1 => act().prop_map(Content::Act),
        1 => Just(Content::Erased),
        1 => (0..=protocol::limits::MAX_BODY_BYTES)
            .prop_map(|len| Content::Text("x".repeat(len))),
    ]
}

pub(crate) fn act() -> impl Strategy<Value = Act> {
    let mode = || {
        prop_oneof![
            Just(Mode::Public),
            Just(Mode::InviteOnly),
            Just(Mode::ReadOnly)
        ]
    };
    let subject = || {
        prop_oneof![
            user().prop_map(Subject::User),
            host().prop_map(Subject::Host)
        ]
    };
    let keep = (maybe(any::<u64>()), maybe(any::<u64>()));
    prop_oneof![
        (mode(), vec(user(), 0..4)).prop_map(|(mode, members)| Act::Opened { mode, members }),
        (mode(), vec(user(), 0..4)).prop_map(|(mode, members)| Act::Mode { mode, members }),
        user().prop_map(|user| Act::Invite { user }),
        user().prop_map(|user| Act::Kick { user }),
        subject().prop_map(|subject| Act::Ban { subject }),
        subject().prop_map(|subject| Act::Unban { subject }),
        user().prop_map(|user| Act::Mute { user }),
        user().prop_map(|user| Act::Unmute { user }),
        user().prop_map(|user| Act::Promote {
            user,
            rank: Rank::Owner
        }),
        user().prop_map(|user| Act::Demote { user }),
        keep.prop_map(|(max_age_seconds, max_messages)| Act::Retention {
            keep: Keep {
                max_age_seconds,
                max_messages
            }
        }),
        vec(message_id(), 0..4).prop_map(|messages| Act::Erase { messages }),
        Just(Act::Left),
    ]
}

pub(crate) fn denied() -> impl Strategy<Value = Denied> {
    let ask = || vec(user(), 0..4);
    prop_oneof![
        Just(Denied::Nobodys),
        ask().prop_map(|ask| Denied::NeedsOwner { ask }),
        (user(), ask()).prop_map(|(user, ask)| Denied::Muted { user, ask }),
        text().prop_map(|reason| Denied::Senseless { reason }),
    ]
}

/// What was encoded here, and what a newer or hostile sender calls a body.
fn body() -> impl Strategy<Value = EncodedBody> {
    prop_oneof![
        content().prop_filter_map("empty", |content| content.encode().ok()),
        vec(any::<u8>(), 1..60)
            .prop_map(|bytes| EncodedBody::from_bytes(Bytes::from(bytes)).unwrap()),
    ]
}

pub(crate) fn availability() -> impl Strategy<Value = Availability> {
    prop_oneof![
        Just(Availability::Online),
        Just(Availability::Away),
        Just(Availability::Offline),
        Just(Availability::Unknown),
    ]
}

pub(crate) fn members() -> impl Strategy<Value = Vec<Member>> {
    let member =
        (user(), availability()).prop_map(|(user, availability)| Member { user, availability });
    vec(member, 0..8)
}

pub(crate) fn outgoing() -> impl Strategy<Value = Outgoing> {
    (message_id(), room(), user(), time(), body()).prop_map(|(id, room, author, sent_at, body)| {
        Outgoing {
            id,
            room,
            author,
            sent_at,
            body,
        }
    })
}

pub(crate) fn committed() -> impl Strategy<Value = Committed> {
    (outgoing(), seq(), seq(), time()).prop_map(|(message, seq, prev_seq, committed_at)| {
        Committed {
            room: message.room,
            seq,
            prev_seq,
            committed_at,
            id: message.id,
            author: message.author,
            sent_at: message.sent_at,
            body: message.body,
        }
    })
}

pub(crate) fn maybe<T: Strategy>(strategy: T) -> impl Strategy<Value = Option<T::Value>> {
    option::of(strategy)
}
