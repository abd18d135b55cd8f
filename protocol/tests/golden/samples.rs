//! One value of every variant, with numbers of every width that varints distinguish.

use protocol::{
    AgentId, Availability, Committed, ConsumerName, Content, Cursor, Direct, Durability, Epoch,
    FederatedRoom, HostName, Invitation, KeyFingerprint, LogHealth, LogKeeper, LogStatus, Member,
    MessageId, Nick, Outgoing, RequestId, Room, Seq, Timestamp, UserName, admin, federation,
    governance::{Act, Charter, Denied, Keep, Mode, Rank, Subject},
    local,
};

pub(crate) const REQUEST: RequestId = RequestId(7);

fn id() -> MessageId {
    MessageId::from_bytes(*b"\x01\x93\xa1\xb2\xc3\xd4\x7e\x5f\x80\x11\x22\x33\x44\x55\x66\x77")
}

fn epoch() -> Epoch {
    Epoch::from_bytes([0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3])
}

fn time() -> Timestamp {
    Timestamp::from_micros(1_700_000_000_123_456)
}

fn nick(text: &str) -> Nick {
    Nick::parse(text).unwrap()
}

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn user(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn room(text: &str) -> Room {
    Room::parse(text).unwrap()
}

fn ops() -> FederatedRoom {
    FederatedRoom::parse("#ops").unwrap()
}

fn pair() -> Room {
    Direct::between(user("bob@bee"), user("alice@ada")).into()
}

fn cursor() -> Cursor {
    Cursor {
        epoch: epoch(),
        seq: Seq::new(251),
    }
}

fn text() -> Content {
    Content::Text("grüße, 世界".to_owned())
}

fn committed() -> Committed {
    Committed {
        room: room("#ops"),
        seq: Seq::new(70_000),
        prev_seq: Seq::new(300),
        committed_at: Timestamp::from_micros(1_700_000_000_654_321),
        id: id(),
        author: user("alice@ada.example"),
        sent_at: time(),
        body: text().encode().unwrap(),
    }
}

fn members() -> Vec<Member> {
    vec![
        Member {
            user: user("alice@ada"),
            availability: Availability::Away,
        },
        Member {
            user: user("Zoë@bee"),
            availability: Availability::Unknown,
        },
    ]
}

pub(crate) fn acts() -> Vec<Act> {
    let user = || user("bob@bee");
    vec![
        Act::Opened {
            mode: Mode::InviteOnly,
            members: vec![user()],
        },
        Act::Mode {
            mode: Mode::ReadOnly,
            members: Vec::new(),
        },
        Act::Invite { user: user() },
        Act::Kick { user: user() },
        Act::Ban {
            subject: Subject::User(user()),
        },
        Act::Unban {
            subject: Subject::Host(host("bee")),
        },
        Act::Mute { user: user() },
        Act::Unmute { user: user() },
        Act::Promote {
            user: user(),
            rank: Rank::Moderator,
        },
        Act::Demote { user: user() },
        Act::Retention {
            keep: Keep {
                max_age_seconds: Some(86_400),
                max_messages: None,
            },
        },
        Act::Erase {
            messages: vec![id()],
        },
        Act::Left,
    ]
}

pub(crate) fn denials() -> Vec<Denied> {
    let (user, ask) = (|| user("bob@bee"), || vec![user("alice@ada")]);
    vec![
        Denied::Nobodys,
        Denied::NeedsOwner { ask: ask() },
        Denied::NeedsModerator { ask: ask() },
        Denied::NotBelow {
            user: user(),
            rank: Rank::Owner,
            ask: ask(),
        },
        Denied::LastOwner { user: user() },
        Denied::OpenToAll,
        Denied::NotIn { user: user() },
        Denied::Banned {
            user: user(),
            ask: ask(),
        },
        Denied::Muted {
            user: user(),
            ask: ask(),
        },
        Denied::ReadOnly { ask: ask() },
        Denied::Kicked { user: user() },
        Denied::TooMany {
            what: "bans".to_owned(),
            max: 512,
        },
        Denied::Senseless {
            reason: "name the messages to erase".to_owned(),
        },
        Denied::Exists,
    ]
}

fn charter() -> Charter {
    let mut charter =
        Charter::open(&user("alice@ada"), Mode::InviteOnly, &[user("carl@cat")]).unwrap();
    for act in &acts()[2..] {
        let _as_far_as_it_goes = charter.apply(&user("alice@ada"), act);
    }
    charter
}

pub(crate) fn contents() -> [Content; 8] {
    [
        text(),
        Content::Action("waves".to_owned()),
        Content::Reply {
            to: id(),
            text: "yes".to_owned(),
        },
        Content::Edit {
            of: id(),
            text: "no".to_owned(),
        },
        Content::Delete { of: id() },
        Content::React {
            to: id(),
            emoji: "\u{1f44d}".to_owned(),
            on: true,
        },
        Content::Act(Act::Left),
        Content::Erased,
    ]
}

pub(crate) fn availabilities() -> [Availability; 4] {
    [
        Availability::Online,
        Availability::Away,
        Availability::Offline,
        Availability::Unknown,
    ]
}

fn log_status() -> LogStatus {
    LogStatus {
        keeper: LogKeeper::JetStream,
        durability: Durability::Unknown,
        weaker: Some("nobody has vouched".to_owned()),
        health: LogHealth::Away {
            reason: "NATS: not connected".to_owned(),
        },
    }
}

pub(crate) fn log_keepers() -> [LogKeeper; 2] {
    [LogKeeper::Database, LogKeeper::JetStream]
}

pub(crate) fn durabilities() -> [Durability; 3] {
    [
        Durability::Synced,
        Durability::NotSynced,
        Durability::Unknown,
    ]
}

pub(crate) fn log_healths() -> [LogHealth; 4] {
    [
        LogHealth::Well,
        LogHealth::Away {
            reason: "not connected".to_owned(),
        },
        LogHealth::Slow {
            reason: "no answer".to_owned(),
        },
        LogHealth::Full {
            reason: "maximum bytes exceeded".to_owned(),
        },
    ]
}

pub(crate) fn limited_texts() -> [federation::LimitedText; 3] {
    use federation::LimitedText;
    [LimitedText::Body, LimitedText::Topic, LimitedText::Software]
}

pub(crate) fn too_many() -> [federation::TooMany; 6] {
    use federation::TooMany;
    [
        TooMany::Rooms,
        TooMany::RoomsOfUser,
        TooMany::Agents,
        TooMany::Users,
        TooMany::RoomsOfHost,
        TooMany::Subscriptions,
    ]
}

pub(crate) fn server_frames() -> [federation::ServerFrame; 2] {
    use federation::{Event, Reply, ServerFrame};
    [
        ServerFrame::Reply {
            id: RequestId(u32::MAX),
            result: Ok(Reply::Done),
        },
        ServerFrame::Event(Event::GoingAway { reconnect_in_ms: 0 }),
    ]
}

pub(crate) fn federation_requests() -> Vec<federation::Request> {
    use federation::Request;
    vec![
        Request::Hello {
            host: host("ada.example"),
            agent: AgentId::from_bytes([0x5a; 16]),
            software: "chat 0.1.0".to_owned(),
        },
        Request::Append {
            attempt: 3,
            message: Outgoing {
                id: id(),
                room: pair(),
                author: user("alice@ada"),
                sent_at: time(),
                body: text().encode().unwrap(),
            },
        },
        Request::Join {
            room: ops(),
            nick: nick("李雷"),
        },
        Request::Leave {
            room: ops(),
            nick: nick("alice"),
        },
        Request::Subscribe {
            room: room("#ops"),
            after: Seq::new(u64::MAX),
            after_id: Some(id()),
        },
        Request::Unsubscribe { room: pair() },
        Request::Head { room: room("#ops") },
        Request::Presence {
            nick: nick("alice"),
            availability: Availability::Offline,
        },
        Request::SetTopic {
            room: ops(),
            nick: nick("alice"),
            topic: "deploys".to_owned(),
        },
        Request::Rooms { after: Some(ops()) },
        Request::Who {
            room: ops(),
            after: Some(user("bob@bee")),
        },
        Request::Directs { after: None },
        Request::Ping,
        Request::Enrol {
            host: host("ada"),
            invitation: Invitation::from_bytes([0x1f; 16]),
        },
        Request::NextKey { key: key() },
        Request::Govern {
            room: room("#ops"),
            nick: nick("alice"),
            id: id(),
            act: Act::Left,
        },
        Request::RoomsFor {
            nick: nick("alice"),
            after: Some(ops()),
        },
        Request::WhoFor {
            room: ops(),
            nick: nick("alice"),
            after: None,
        },
    ]
}

pub(crate) fn federation_replies() -> Vec<federation::Reply> {
    use federation::{Reply, RoomInfo};
    vec![
        Reply::Welcome {
            epoch: epoch(),
            software: "chat 0.1.0".to_owned(),
        },
        Reply::Appended {
            seq: Seq::new(70_000),
        },
        Reply::Joined {
            head: Seq::new(250),
            topic: "deploys".to_owned(),
        },
        Reply::Done,
        Reply::Head { head: Seq::START },
        Reply::Rooms {
            rooms: vec![RoomInfo {
                room: ops(),
                members: 65_536,
                head: Seq::new(9),
                topic: String::new(),
            }],
            more: true,
        },
        Reply::Members {
            members: members(),
            more: false,
        },
        Reply::Directs {
            conversations: vec![pair()],
            more: false,
        },
        Reply::Pong,
    ]
}

pub(crate) fn federation_events() -> Vec<federation::Event> {
    use federation::{Event, Refusal};
    vec![
        Event::Committed(committed()),
        Event::Presence {
            user: user("bob@bee"),
            availability: Availability::Online,
        },
        Event::Joined {
            room: ops(),
            user: user("bob@bee"),
        },
        Event::Left {
            room: ops(),
            user: user("bob@bee"),
        },
        Event::Topic {
            room: ops(),
            user: user("bob@bee"),
            topic: "tea".to_owned(),
        },
        Event::DirectOpened {
            conversation: pair(),
        },
        Event::GoingAway {
            reconnect_in_ms: 2_000,
        },
        Event::Closing {
            reason: Refusal::Replaced,
        },
        Event::Unsubscribed {
            room: room("#ops"),
            reason: Refusal::Replaced,
        },
        Event::NextKey { key: key() },
        Event::Log {
            status: log_status(),
        },
    ]
}

pub(crate) fn federation_refusals() -> Vec<federation::Refusal> {
    use federation::{BadInvitation, LimitedText, Refusal, TooMany};
    vec![
        Refusal::NotYet {
            retry_after_ms: 100,
            reason: "disk full".to_owned(),
        },
        Refusal::IdConflict { id: id() },
        Refusal::NoSuchRoom { room: room("#ops") },
        Refusal::NotYours {
            host: host("bee"),
            room: pair(),
        },
        Refusal::HostInUse { host: host("ada") },
        Refusal::TooLong {
            what: LimitedText::Body,
            len: 66_561,
            max: 66_560,
        },
        Refusal::BadText {
            what: LimitedText::Topic,
        },
        Refusal::TooMany {
            what: TooMany::RoomsOfUser,
            max: 1_000,
        },
        Refusal::Diverged {
            room: room("#ops"),
            head: Seq::new(12),
        },
        Refusal::HelloOutOfPlace,
        Refusal::Malformed {
            reason: "2 bytes after the end of the frame's value".to_owned(),
        },
        Refusal::TimedOut,
        Refusal::Replaced,
        Refusal::ShuttingDown,
        Refusal::Unavailable {
            reason: "disk I/O error".to_owned(),
        },
        Refusal::Unreadable {
            reason: "bad author".to_owned(),
        },
        Refusal::NotEnrolled,
        Refusal::BadInvitation {
            reason: BadInvitation::Expired,
        },
        Refusal::HostEnrolled { host: host("ada") },
        Refusal::OtherHost {
            enrolled: host("ada"),
            given: host("bee"),
        },
        Refusal::Revoked,
        Refusal::TlsRequired,
        Refusal::NoKey,
        Refusal::Denied {
            room: room("#ops"),
            denied: Denied::OpenToAll,
        },
        Refusal::NotOpen { room: room("#ops") },
        Refusal::NoReader { room: room("#ops") },
        Refusal::Deceptive {
            host: host("ada"),
            reason: "looks like adam".to_owned(),
        },
        Refusal::IdOfAnother {
            id: id(),
            author: user("bob@bee"),
        },
        Refusal::Draining,
    ]
}

pub(crate) fn agent_frames() -> [local::AgentFrame; 2] {
    use local::{AgentFrame, Event, Reply};
    [
        AgentFrame::Reply {
            id: RequestId(251),
            result: Ok(Reply::Done),
        },
        AgentFrame::Event(Event::GoingAway { reconnect_in_ms: 0 }),
    ]
}

fn consumer() -> ConsumerName {
    ConsumerName::parse("backup.1").unwrap()
}

pub(crate) fn authors() -> [local::Author; 2] {
    use local::Author;
    [Author::Nick(nick("alice")), Author::User(user("alice@ada"))]
}

pub(crate) fn froms() -> [local::From; 5] {
    use local::From;
    [
        From::Beginning,
        From::After(cursor()),
        From::Newest(20),
        From::Unread(1_000),
        From::Since(time()),
    ]
}

pub(crate) fn deliveries() -> [local::Delivery; 2] {
    use local::Delivery;
    [
        Delivery::Queued,
        Delivery::Committed {
            epoch: epoch(),
            seq: Seq::new(42),
        },
    ]
}

pub(crate) fn links() -> [local::LinkStatus; 4] {
    use local::LinkStatus;
    let server = || "chat.example:7667".to_owned();
    [
        LinkStatus::LocalOnly,
        LinkStatus::Connecting { server: server() },
        LinkStatus::Waiting {
            server: server(),
            error: "connection refused".to_owned(),
            attempt: 4,
            until: time(),
        },
        LinkStatus::Online {
            server: server(),
            epoch: epoch(),
            software: "chat 0.1.0".to_owned(),
            since: time(),
        },
    ]
}

pub(crate) fn local_requests() -> Vec<local::Request> {
    use local::{Author, From, Request, SearchMark, SearchQuery};
    vec![
        Request::Hello {
            nick: nick("alice"),
            software: "chat 0.1.0".to_owned(),
            interactive: true,
        },
        Request::Send {
            id: id(),
            room: room("&lobby"),
            content: text(),
        },
        Request::Open {
            room: room("#ops"),
            from: From::After(cursor()),
        },
        Request::Close { room: room("#ops") },
        Request::OpenDirects,
        Request::History {
            room: pair(),
            before: Some(cursor()),
            limit: 1_000,
        },
        Request::Join { room: room("#ops") },
        Request::Leave {
            room: room("&lobby"),
        },
        Request::MarkRead {
            room: room("#ops"),
            cursor: cursor(),
        },
        Request::SetTopic {
            room: room("&lobby"),
            topic: String::new(),
        },
        Request::SetAway { away: true },
        Request::Rooms { after: None },
        Request::Who {
            room: room("#ops"),
            after: Some(user("alice@ada")),
        },
        Request::Status,
        Request::Federate {
            servers: vec!["one.example:7667".to_owned(), "[::1]:7667".to_owned()],
        },
        Request::Defederate,
        Request::Ping,
        Request::Search {
            query: SearchQuery {
                words: vec!["grüße".to_owned()],
                room: Some(room("#ops")),
                from: Some(Author::Nick(nick("alice"))),
                since: Some(time()),
                before: None,
            },
            older_than: Some(SearchMark(300)),
            limit: 20,
        },
        Request::Confirm {
            consumer: consumer(),
            room: room("#ops"),
            cursor: cursor(),
        },
        Request::Position {
            consumer: consumer(),
            room: room("#ops"),
        },
        Request::Pending {
            query: SearchQuery::default(),
            after: Some(SearchMark(301)),
        },
        Request::Govern {
            room: room("&lobby"),
            id: id(),
            act: Act::Left,
        },
        Request::Charter { room: room("#ops") },
        Request::Log,
    ]
}

pub(crate) fn local_replies() -> Vec<local::Reply> {
    use local::{Delivery, Hit, LinkStatus, Reply, RoomInfo, SearchMark, Status};
    vec![
        Reply::Welcome {
            user: user("alice@ada"),
            software: "chat 0.1.0".to_owned(),
        },
        Reply::Sent {
            state: Delivery::Queued,
        },
        Reply::Opened {
            epoch: epoch(),
            after: Seq::new(60_000),
            head: Seq::new(70_000),
            topic: "deploys".to_owned(),
            read: Some(Seq::new(69_999)),
        },
        Reply::Done,
        Reply::History {
            epoch: epoch(),
            messages: vec![committed()],
            more: true,
        },
        Reply::Rooms {
            rooms: vec![RoomInfo {
                room: pair(),
                joined: true,
                members: Some(2),
                head: Seq::new(5),
                unread: 251,
                topic: String::new(),
            }],
            more: false,
        },
        Reply::Members {
            members: members(),
            more: true,
        },
        Reply::Status(Box::new(Status {
            user: user("alice@ada"),
            software: "chat 0.1.0".to_owned(),
            pid: 4_321,
            state_dir: "/home/alice/.local/state/chat".to_owned(),
            sessions: 2,
            outbox_messages: 3,
            outbox_bytes: 4_096,
            outbox_limit_bytes: 1 << 30,
            link: LinkStatus::LocalOnly,
            problems: vec!["the disk is full".to_owned()],
        })),
        Reply::Found {
            hits: vec![Hit {
                epoch: epoch(),
                message: committed(),
            }],
            next: Some(SearchMark(299)),
        },
        Reply::Position {
            cursor: Some(cursor()),
        },
        Reply::Pending {
            messages: vec![Outgoing {
                id: id(),
                room: room("#ops"),
                author: user("alice@ada"),
                sent_at: time(),
                body: text().encode().unwrap(),
            }],
            next: Some(SearchMark(302)),
        },
        Reply::Charter {
            charter: Some(Box::new(charter())),
        },
        Reply::Log {
            status: Some(log_status()),
        },
    ]
}

pub(crate) fn local_events() -> Vec<local::Event> {
    use local::{Delivery, Event, LinkStatus, Refusal};
    vec![
        Event::Committed(committed()),
        Event::CaughtUp {
            room: room("#ops"),
            complete: false,
        },
        Event::Outcome {
            id: id(),
            room: room("#ops"),
            result: Ok(Delivery::Committed {
                epoch: epoch(),
                seq: Seq::new(42),
            }),
        },
        Event::EpochChanged {
            room: room("#ops"),
            epoch: epoch(),
        },
        Event::DirectOpened {
            room: pair(),
            epoch: epoch(),
        },
        Event::Presence {
            user: user("bob@bee"),
            availability: Availability::Away,
        },
        Event::Joined {
            room: room("#ops"),
            user: user("bob@bee"),
        },
        Event::Left {
            room: room("#ops"),
            user: user("bob@bee"),
        },
        Event::Topic {
            room: room("&lobby"),
            user: user("bob@ada"),
            topic: "tea".to_owned(),
        },
        Event::Link(LinkStatus::LocalOnly),
        Event::GoingAway {
            reconnect_in_ms: 2_000,
        },
        Event::Closing {
            reason: Refusal::ShuttingDown,
        },
        Event::Closed {
            room: room("#ops"),
            reason: Refusal::Offline,
        },
        Event::HeldUp {
            reason: "alice@ada sends more than 20 messages a second".to_owned(),
            retry_in_ms: 3_000,
        },
        Event::Log { status: None },
    ]
}

pub(crate) fn local_refusals() -> Vec<local::Refusal> {
    use local::Refusal;
    vec![
        Refusal::NickTaken {
            nick: nick("alice"),
            uid: 1_000,
        },
        Refusal::NotAllowed {
            uid: 65_534,
            serves: "group chat".to_owned(),
        },
        Refusal::NotYours {
            room: pair(),
            user: user("eve@ada"),
        },
        Refusal::BadBody {
            reason: "a message cannot be empty".to_owned(),
        },
        Refusal::BadText {
            reason: "a topic is at most 512 bytes".to_owned(),
        },
        Refusal::IdConflict { id: id() },
        Refusal::OutboxFull {
            used: 1 << 30,
            limit: 1 << 30,
        },
        Refusal::StorageFailed {
            reason: "no space left on device".to_owned(),
        },
        Refusal::Busy { retry_after_ms: 50 },
        Refusal::EpochChanged {
            room: room("#ops"),
            given: Epoch::from_bytes([0; 8]),
            current: epoch(),
        },
        Refusal::ByServer(federation::Refusal::HelloOutOfPlace),
        Refusal::Offline,
        Refusal::LocalOnly,
        Refusal::TooMany {
            what: "sessions".to_owned(),
            max: 4_096,
        },
        Refusal::Left {
            room: room("#ops"),
            user: user("alice@ada"),
        },
        Refusal::HelloOutOfPlace,
        Refusal::Malformed {
            reason: "2 bytes after the end of the frame's value".to_owned(),
        },
        Refusal::TimedOut { seconds: 5 },
        Refusal::ShuttingDown,
        Refusal::Unreadable {
            reason: "bad author".to_owned(),
        },
        Refusal::NotOwner {
            uid: 1_001,
            owner: 998,
        },
        Refusal::CursorAhead {
            room: room("&lobby"),
            given: Seq::new(10),
            head: Seq::new(5),
        },
        Refusal::Denied {
            room: room("&lobby"),
            denied: Denied::OpenToAll,
        },
        Refusal::NotOpen {
            room: room("&lobby"),
        },
        Refusal::Removed {
            room: room("#ops"),
            user: user("bob@bee"),
        },
        Refusal::NoSuchRoom { room: room("#ops") },
        Refusal::Deceptive {
            nick: nick("mike"),
            reason: "looks like mikey".to_owned(),
        },
        Refusal::IdOfAnother {
            id: id(),
            user: user("bob@bee"),
        },
    ]
}

fn key() -> KeyFingerprint {
    KeyFingerprint::from_bytes([0x3c; 32])
}

pub(crate) fn bad_invitations() -> [federation::BadInvitation; 5] {
    use federation::BadInvitation;
    [
        BadInvitation::Unknown,
        BadInvitation::Expired,
        BadInvitation::Used,
        BadInvitation::Revoked,
        BadInvitation::OtherHost,
    ]
}

pub(crate) fn admin_requests() -> Vec<admin::Request> {
    use admin::Request;
    vec![
        Request::Invite {
            uses: 3,
            valid_for_s: 86_400,
            host: Some(host("ada")),
        },
        Request::Invitations { after: Some(7) },
        Request::RevokeInvitation { invitation: 7 },
        Request::Agents {
            after: Some(host("ada")),
        },
        Request::RevokeAgent { host: host("ada") },
        Request::NextKey,
        Request::ChangeKey,
        Request::Drain {
            group: 100,
            every_ms: 1_000,
        },
        Request::DrainProgress,
        Request::Undrain,
        Request::Status,
    ]
}

pub(crate) fn admin_replies() -> Vec<admin::Reply> {
    use admin::{AgentInfo, AgentState, InvitationInfo, InvitationState, Reply};
    vec![
        Reply::Invited {
            invitation: 7,
            address: "chat://hub:7667/KEY/SECRET".to_owned(),
            expires_at: Timestamp::from_micros(1_700_000_000_000_000),
        },
        Reply::Invitations {
            invitations: vec![InvitationInfo {
                invitation: 7,
                host: None,
                uses_left: 2,
                made_at: Timestamp::from_micros(1_700_000_000_000_000),
                expires_at: Timestamp::from_micros(1_700_000_086_400_000),
                state: InvitationState::Open,
            }],
            more: false,
        },
        Reply::Agents {
            agents: vec![AgentInfo {
                host: host("ada"),
                key: key(),
                enrolled_at: Timestamp::from_micros(1_700_000_000_000_000),
                state: AgentState::Connected,
            }],
            more: true,
        },
        Reply::Done,
        Reply::Key {
            key: key(),
            connected: 2,
            enrolled: 3,
        },
        Reply::Drain {
            draining: true,
            connected: 2,
            sent: 3,
        },
        Reply::Status {
            software: "chat 0.1.0".to_owned(),
            connected: 2,
            users: 3,
            draining: false,
            log: log_status(),
        },
    ]
}

pub(crate) fn admin_refusals() -> Vec<admin::Refusal> {
    use admin::Refusal;
    vec![
        Refusal::Plaintext,
        Refusal::NoSuchInvitation { invitation: 7 },
        Refusal::NoSuchAgent { host: host("ada") },
        Refusal::BadNumber {
            reason: "0 uses".to_owned(),
        },
        Refusal::NoNextKey,
        Refusal::OwnCertificate,
        Refusal::Unavailable {
            reason: "disk full".to_owned(),
        },
        Refusal::Malformed {
            reason: "2 bytes left".to_owned(),
        },
        Refusal::NotAllowed { uid: 1_000 },
    ]
}

pub(crate) fn invitation_states() -> [admin::InvitationState; 4] {
    use admin::InvitationState;
    [
        InvitationState::Open,
        InvitationState::Expired,
        InvitationState::Used,
        InvitationState::Revoked,
    ]
}

pub(crate) fn agent_states() -> [admin::AgentState; 4] {
    use admin::AgentState;
    [
        AgentState::Connected,
        AgentState::Away,
        AgentState::Revoked,
        AgentState::ConnectedTo {
            server: "hub".to_owned(),
        },
    ]
}
