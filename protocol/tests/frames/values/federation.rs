//! Random values of the vocabulary of agents and servers.

use super::{
    act, availability, committed, denied, direct, epoch, federated_room, host, log_status, maybe,
    members, message_id, nick, outgoing, request_id, room, seq, text, user,
};
use proptest::{collection::vec, prelude::*, result::maybe_ok};
use protocol::{
    AgentId, Invitation, KeyFingerprint, Room,
    federation::{
        AgentFrame, BadInvitation, Event, LimitedText, Refusal, Reply, Request, RoomInfo,
        ServerFrame, TooMany,
    },
};

pub(crate) fn agent_frame() -> impl Strategy<Value = AgentFrame> {
    (request_id(), request()).prop_map(|(id, request)| AgentFrame { id, request })
}

pub(crate) fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
        (request_id(), maybe_ok(reply(), refusal()))
            .prop_map(|(id, result)| ServerFrame::Reply { id, result }),
        event().prop_map(ServerFrame::Event),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (host(), any::<[u8; 16]>(), text()).prop_map(|(host, agent, software)| Request::Hello {
            host,
            agent: AgentId::from_bytes(agent),
            software,
        }),
        (any::<u32>(), outgoing())
            .prop_map(|(attempt, message)| Request::Append { attempt, message }),
        (federated_room(), nick()).prop_map(|(room, nick)| Request::Join { room, nick }),
        (federated_room(), nick()).prop_map(|(room, nick)| Request::Leave { room, nick }),
        (room(), seq(), maybe(message_id())).prop_map(|(room, after, after_id)| {
            Request::Subscribe {
                room,
                after,
                after_id,
            }
        }),
        room().prop_map(|room| Request::Unsubscribe { room }),
        room().prop_map(|room| Request::Head { room }),
        (nick(), availability())
            .prop_map(|(nick, availability)| Request::Presence { nick, availability }),
        (federated_room(), nick(), text()).prop_map(|(room, nick, topic)| Request::SetTopic {
            room,
            nick,
            topic
        }),
        maybe(federated_room()).prop_map(|after| Request::Rooms { after }),
        (federated_room(), maybe(user())).prop_map(|(room, after)| Request::Who { room, after }),
        maybe(room()).prop_map(|after| Request::Directs { after }),
        Just(Request::Ping),
        (host(), any::<[u8; 16]>()).prop_map(|(host, bits)| Request::Enrol {
            host,
            invitation: Invitation::from_bytes(bits),
        }),
        key().prop_map(|key| Request::NextKey { key }),
        (room(), nick(), message_id(), act()).prop_map(|(room, nick, id, act)| Request::Govern {
            room,
            nick,
            id,
            act
        }),
        (nick(), maybe(federated_room()))
            .prop_map(|(nick, after)| Request::RoomsFor { nick, after }),
        (federated_room(), nick(), maybe(user())).prop_map(|(room, nick, after)| Request::WhoFor {
            room,
            nick,
            after
        }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (epoch(), text()).prop_map(|(epoch, software)| Reply::Welcome { epoch, software }),
        seq().prop_map(|seq| Reply::Appended { seq }),
        (seq(), text()).prop_map(|(head, topic)| Reply::Joined { head, topic }),
        Just(Reply::Done),
        seq().prop_map(|head| Reply::Head { head }),
        (vec(room_info(), 0..8), any::<bool>())
            .prop_map(|(rooms, more)| Reply::Rooms { rooms, more }),
        (members(), any::<bool>()).prop_map(|(members, more)| Reply::Members { members, more }),
        (vec(direct().prop_map(Room::Direct), 0..8), any::<bool>()).prop_map(
            |(conversations, more)| Reply::Directs {
                conversations,
                more
            }
        ),
        Just(Reply::Pong),
    ]
}

fn room_info() -> impl Strategy<Value = RoomInfo> {
    (federated_room(), any::<u32>(), seq(), text()).prop_map(|(room, members, head, topic)| {
        RoomInfo {
            room,
            members,
            head,
            topic,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => committed().prop_map(Event::Committed),
        1 => (user(), availability())
            .prop_map(|(user, availability)| Event::Presence { user, availability }),
        1 => (federated_room(), user()).prop_map(|(room, user)| Event::Joined { room, user }),
        1 => (federated_room(), user()).prop_map(|(room, user)| Event::Left { room, user }),
        1 => (federated_room(), user(), text())
            .prop_map(|(room, user, topic)| Event::Topic { room, user, topic }),
        1 => room().prop_map(|conversation| Event::DirectOpened { conversation }),
        1 => any::<u32>().prop_map(|reconnect_in_ms| Event::GoingAway { reconnect_in_ms }),
        1 => refusal().prop_map(|reason| Event::Closing { reason }),
        1 => (room(), refusal()).prop_map(|(room, reason)| Event::Unsubscribed { room, reason }),
        1 => key().prop_map(|key| Event::NextKey { key }),
        1 => log_status().prop_map(|status| Event::Log { status }),
    ]
}

fn limited_text() -> impl Strategy<Value = LimitedText> {
    prop_oneof![
        Just(LimitedText::Body),
        Just(LimitedText::Topic),
        Just(LimitedText::Software)
    ]
}

fn too_many() -> impl Strategy<Value = TooMany> {
    prop_oneof![
        Just(TooMany::Rooms),
        Just(TooMany::RoomsOfUser),
        Just(TooMany::Agents),
        Just(TooMany::Users),
        Just(TooMany::RoomsOfHost),
        Just(TooMany::Subscriptions)
    ]
}

pub(crate) fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        (any::<u32>(), text()).prop_map(|(retry_after_ms, reason)| Refusal::NotYet {
            retry_after_ms,
            reason,
        }),
        message_id().prop_map(|id| Refusal::IdConflict { id }),
        room().prop_map(|room| Refusal::NoSuchRoom { room }),
        (host(), room()).prop_map(|(host, room)| Refusal::NotYours { host, room }),
        host().prop_map(|host| Refusal::HostInUse { host }),
        (limited_text(), any::<u32>(), any::<u32>())
            .prop_map(|(what, len, max)| Refusal::TooLong { what, len, max }),
        limited_text().prop_map(|what| Refusal::BadText { what }),
        (too_many(), any::<u32>()).prop_map(|(what, max)| Refusal::TooMany { what, max }),
        (room(), seq()).prop_map(|(room, head)| Refusal::Diverged { room, head }),
        Just(Refusal::HelloOutOfPlace),
        text().prop_map(|reason| Refusal::Malformed { reason }),
        Just(Refusal::TimedOut),
        Just(Refusal::Replaced),
        Just(Refusal::ShuttingDown),
        Just(Refusal::Draining),
        text().prop_map(|reason| Refusal::Unavailable { reason }),
        text().prop_map(|reason| Refusal::Unreadable { reason }),
        enrolment_refusal(),
        (room(), denied()).prop_map(|(room, denied)| Refusal::Denied { room, denied }),
        room().prop_map(|room| Refusal::NotOpen { room }),
        room().prop_map(|room| Refusal::NoReader { room }),
        (host(), text()).prop_map(|(host, reason)| Refusal::Deceptive { host, reason }),
        (message_id(), user()).prop_map(|(id, author)| Refusal::IdOfAnother { id, author }),
    ]
}

fn enrolment_refusal() -> impl Strategy<Value = Refusal> {
    let reason = prop_oneof![
        Just(BadInvitation::Unknown),
        Just(BadInvitation::Expired),
        Just(BadInvitation::Used),
        Just(BadInvitation::Revoked),
        Just(BadInvitation::OtherHost),
    ];
    prop_oneof![
        Just(Refusal::NotEnrolled),
        reason.prop_map(|reason| Refusal::BadInvitation { reason }),
        host().prop_map(|host| Refusal::HostEnrolled { host }),
        (host(), host()).prop_map(|(enrolled, given)| Refusal::OtherHost { enrolled, given }),
        Just(Refusal::Revoked),
        Just(Refusal::TlsRequired),
        Just(Refusal::NoKey),
    ]
}

fn key() -> impl Strategy<Value = KeyFingerprint> {
    any::<[u8; 32]>().prop_map(KeyFingerprint::from_bytes)
}
