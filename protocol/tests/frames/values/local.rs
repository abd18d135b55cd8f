//! Random values of the vocabulary of terminals and agents.

use super::{
    act, availability, committed, consumer, content, cursor, denied, epoch, federation, log_status,
    maybe, members, message_id, nick, outgoing, request_id, room, seq, text, time, user,
};
use proptest::{collection::vec, prelude::*, result::maybe_ok};
use protocol::governance::{Charter, Mode};
use protocol::local::{
    AgentFrame, Author, Delivery, Event, From, Hit, LinkStatus, Refusal, Reply, Request, RoomInfo,
    SearchMark, SearchQuery, Status, TerminalFrame,
};

pub(crate) fn terminal_frame() -> impl Strategy<Value = TerminalFrame> {
    (request_id(), request()).prop_map(|(id, request)| TerminalFrame { id, request })
}

pub(crate) fn agent_frame() -> impl Strategy<Value = AgentFrame> {
    prop_oneof![
        (request_id(), maybe_ok(reply(), refusal()))
            .prop_map(|(id, result)| AgentFrame::Reply { id, result }),
        event().prop_map(AgentFrame::Event),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (nick(), text(), any::<bool>()).prop_map(|(nick, software, interactive)| {
            Request::Hello {
                nick,
                software,
                interactive,
            }
        }),
        (message_id(), room(), content()).prop_map(|(id, room, content)| Request::Send {
            id,
            room,
            content
        }),
        (room(), from()).prop_map(|(room, from)| Request::Open { room, from }),
        room().prop_map(|room| Request::Close { room }),
        Just(Request::OpenDirects),
        (room(), maybe(cursor()), any::<u32>()).prop_map(|(room, before, limit)| {
            Request::History {
                room,
                before,
                limit,
            }
        }),
        room().prop_map(|room| Request::Join { room }),
        room().prop_map(|room| Request::Leave { room }),
        (room(), cursor()).prop_map(|(room, cursor)| Request::MarkRead { room, cursor }),
        (room(), text()).prop_map(|(room, topic)| Request::SetTopic { room, topic }),
        any::<bool>().prop_map(|away| Request::SetAway { away }),
        maybe(room()).prop_map(|after| Request::Rooms { after }),
        (room(), maybe(user())).prop_map(|(room, after)| Request::Who { room, after }),
        Just(Request::Status),
        vec(text(), 0..5).prop_map(|servers| Request::Federate { servers }),
        Just(Request::Defederate),
        Just(Request::Ping),
        position(),
    ]
}

/// Apart from the others: one strategy tuple holds only so many.
fn position() -> impl Strategy<Value = Request> {
    prop_oneof![
        (search_query(), maybe(any::<u64>()), any::<u32>()).prop_map(
            |(query, older_than, limit)| Request::Search {
                query,
                older_than: older_than.map(SearchMark),
                limit,
            }
        ),
        (consumer(), room(), cursor()).prop_map(|(consumer, room, cursor)| Request::Confirm {
            consumer,
            room,
            cursor,
        }),
        (consumer(), room()).prop_map(|(consumer, room)| Request::Position { consumer, room }),
        (search_query(), maybe(any::<u64>())).prop_map(|(query, after)| Request::Pending {
            query,
            after: after.map(SearchMark),
        }),
        (room(), message_id(), act()).prop_map(|(room, id, act)| Request::Govern { room, id, act }),
        room().prop_map(|room| Request::Charter { room }),
        Just(Request::Log),
    ]
}

fn search_query() -> impl Strategy<Value = SearchQuery> {
    let times = (maybe(time()), maybe(time()));
    (vec(text(), 0..4), maybe(room()), maybe(author()), times).prop_map(
        |(words, room, from, (since, before))| SearchQuery {
            words,
            room,
            from,
            since,
            before,
        },
    )
}

fn author() -> impl Strategy<Value = Author> {
    prop_oneof![nick().prop_map(Author::Nick), user().prop_map(Author::User)]
}

fn from() -> impl Strategy<Value = From> {
    prop_oneof![
        Just(From::Beginning),
        cursor().prop_map(From::After),
        any::<u32>().prop_map(From::Newest),
        any::<u32>().prop_map(From::Unread),
        time().prop_map(From::Since),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        (user(), text()).prop_map(|(user, software)| Reply::Welcome { user, software }),
        delivery().prop_map(|state| Reply::Sent { state }),
        (epoch(), seq(), seq(), text(), maybe(seq())).prop_map(
            |(epoch, after, head, topic, read)| {
                Reply::Opened {
                    epoch,
                    after,
                    head,
                    topic,
                    read,
                }
            }
        ),
        Just(Reply::Done),
        (epoch(), vec(committed(), 0..5), any::<bool>()).prop_map(|(epoch, messages, more)| {
            Reply::History {
                epoch,
                messages,
                more,
            }
        }),
        (vec(room_info(), 0..8), any::<bool>())
            .prop_map(|(rooms, more)| Reply::Rooms { rooms, more }),
        (members(), any::<bool>()).prop_map(|(members, more)| Reply::Members { members, more }),
        status().prop_map(|status| Reply::Status(Box::new(status))),
        (vec((epoch(), committed()), 0..4), maybe(any::<u64>())).prop_map(|(hits, next)| {
            Reply::Found {
                hits: hits
                    .into_iter()
                    .map(|(epoch, message)| Hit { epoch, message })
                    .collect(),
                next: next.map(SearchMark),
            }
        }),
        maybe(cursor()).prop_map(|cursor| Reply::Position { cursor }),
        (vec(outgoing(), 0..3), maybe(any::<u64>())).prop_map(|(messages, next)| Reply::Pending {
            messages,
            next: next.map(SearchMark),
        }),
        maybe((user(), vec(user(), 0..4))).prop_map(|found| Reply::Charter {
            charter: found.map(|(owner, members)| {
                Box::new(Charter::open(&owner, Mode::InviteOnly, &members).unwrap())
            }),
        }),
        maybe(log_status()).prop_map(|status| Reply::Log { status }),
    ]
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::Queued),
        (epoch(), seq()).prop_map(|(epoch, seq)| Delivery::Committed { epoch, seq }),
    ]
}

fn room_info() -> impl Strategy<Value = RoomInfo> {
    let counts = (maybe(any::<u32>()), seq(), any::<u32>());
    (room(), any::<bool>(), counts, text()).prop_map(
        |(room, joined, (members, head, unread), topic)| RoomInfo {
            room,
            joined,
            members,
            head,
            unread,
            topic,
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let outbox = (any::<u64>(), any::<u64>(), any::<u64>());
    (
        (user(), text(), any::<u32>(), text(), any::<u32>()),
        outbox,
        link(),
        vec(text(), 0..3),
    )
        .prop_map(|(agent, outbox, link, problems)| {
            let (user, software, pid, state_dir, sessions) = agent;
            let (outbox_messages, outbox_bytes, outbox_limit_bytes) = outbox;
            Status {
                user,
                software,
                pid,
                state_dir,
                sessions,
                outbox_messages,
                outbox_bytes,
                outbox_limit_bytes,
                link,
                problems,
            }
        })
}

fn link() -> impl Strategy<Value = LinkStatus> {
    prop_oneof![
        Just(LinkStatus::LocalOnly),
        text().prop_map(|server| LinkStatus::Connecting { server }),
        (text(), text(), any::<u32>(), time()).prop_map(|(server, error, attempt, until)| {
            LinkStatus::Waiting {
                server,
                error,
                attempt,
                until,
            }
        }),
        (text(), epoch(), text(), time()).prop_map(|(server, epoch, software, since)| {
            LinkStatus::Online {
                server,
                epoch,
                software,
                since,
            }
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => committed().prop_map(Event::Committed),
        1 => (room(), any::<bool>())
            .prop_map(|(room, complete)| Event::CaughtUp { room, complete }),
        1 => (message_id(), room(), maybe_ok(delivery(), federation::refusal()))
            .prop_map(|(id, room, result)| Event::Outcome { id, room, result }),
        1 => (room(), epoch()).prop_map(|(room, epoch)| Event::EpochChanged { room, epoch }),
        1 => (room(), epoch()).prop_map(|(room, epoch)| Event::DirectOpened { room, epoch }),
        1 => (user(), availability())
            .prop_map(|(user, availability)| Event::Presence { user, availability }),
        1 => (room(), user()).prop_map(|(room, user)| Event::Joined { room, user }),
        1 => (room(), user()).prop_map(|(room, user)| Event::Left { room, user }),
        1 => (room(), user(), text())
            .prop_map(|(room, user, topic)| Event::Topic { room, user, topic }),
        1 => link().prop_map(Event::Link),
        1 => any::<u32>().prop_map(|reconnect_in_ms| Event::GoingAway { reconnect_in_ms }),
        1 => refusal().prop_map(|reason| Event::Closing { reason }),
        1 => (room(), refusal()).prop_map(|(room, reason)| Event::Closed { room, reason }),
        1 => (text(), any::<u32>())
            .prop_map(|(reason, retry_in_ms)| Event::HeldUp { reason, retry_in_ms }),
        1 => maybe(log_status()).prop_map(|status| Event::Log { status }),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    // In two halves: one strategy tuple holds only so many.
    prop_oneof![refusal_of_this_agent(), refusal_of_a_session()]
}

fn refusal_of_this_agent() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        (nick(), any::<u32>()).prop_map(|(nick, uid)| Refusal::NickTaken { nick, uid }),
        (any::<u32>(), text()).prop_map(|(uid, serves)| Refusal::NotAllowed { uid, serves }),
        (room(), user()).prop_map(|(room, user)| Refusal::NotYours { room, user }),
        text().prop_map(|reason| Refusal::BadBody { reason }),
        text().prop_map(|reason| Refusal::BadText { reason }),
        message_id().prop_map(|id| Refusal::IdConflict { id }),
        (any::<u64>(), any::<u64>()).prop_map(|(used, limit)| Refusal::OutboxFull { used, limit }),
        text().prop_map(|reason| Refusal::StorageFailed { reason }),
        any::<u32>().prop_map(|retry_after_ms| Refusal::Busy { retry_after_ms }),
        (room(), epoch(), epoch()).prop_map(|(room, given, current)| Refusal::EpochChanged {
            room,
            given,
            current,
        }),
    ]
}

fn refusal_of_a_session() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        federation::refusal().prop_map(Refusal::ByServer),
        Just(Refusal::Offline),
        Just(Refusal::LocalOnly),
        (text(), any::<u32>()).prop_map(|(what, max)| Refusal::TooMany { what, max }),
        (room(), user()).prop_map(|(room, user)| Refusal::Left { room, user }),
        Just(Refusal::HelloOutOfPlace),
        text().prop_map(|reason| Refusal::Malformed { reason }),
        any::<u32>().prop_map(|seconds| Refusal::TimedOut { seconds }),
        Just(Refusal::ShuttingDown),
        text().prop_map(|reason| Refusal::Unreadable { reason }),
        (room(), denied()).prop_map(|(room, denied)| Refusal::Denied { room, denied }),
        room().prop_map(|room| Refusal::NotOpen { room }),
        (room(), user()).prop_map(|(room, user)| Refusal::Removed { room, user }),
        room().prop_map(|room| Refusal::NoSuchRoom { room }),
        (nick(), text()).prop_map(|(nick, reason)| Refusal::Deceptive { nick, reason }),
        (message_id(), user()).prop_map(|(id, user)| Refusal::IdOfAnother { id, user }),
        (any::<u32>(), any::<u32>()).prop_map(|(uid, owner)| Refusal::NotOwner { uid, owner }),
        (room(), seq(), seq()).prop_map(|(room, given, head)| Refusal::CursorAhead {
            room,
            given,
            head
        }),
    ]
}
