//! Every size, count and timeout that two parties must agree on, in one place.
//!
//! What happens at each limit is part of its description. Anything from outside is checked
//! against these before memory is set aside for it.

use std::time::Duration;

/// Largest frame on any connection, in bytes after the length prefix: 1 MiB.
///
/// The length is checked before the buffer is allocated; a longer frame ends the connection with
/// [`CodecError::FrameTooLarge`](crate::CodecError::FrameTooLarge).
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// Longest text of one message, in UTF-8 bytes: 64 KiB. Longer is refused, the session goes on.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest encoded body: the text and room for the variant tags and lengths around it.
pub const MAX_ENCODED_BODY_BYTES: usize = MAX_BODY_BYTES + 1024;

/// Longest reaction, in UTF-8 bytes: an emoji of many parts, or a short word. Longer is refused.
pub const MAX_REACTION_BYTES: usize = 64;

/// Longest name of a consumer, in UTF-8 bytes.
pub const MAX_CONSUMER_BYTES: usize = 64;

/// Positions that the consumers of one user may confirm on an agent, one a consumer and room.
/// Confirming one more is refused.
pub const MAX_POSITIONS_PER_USER: usize = 1_000;

/// Words that one search may look for, and bytes of one of them. More is refused.
pub const MAX_SEARCH_WORDS: usize = 16;
/// Bytes of one word of a search. See [`MAX_SEARCH_WORDS`].
pub const MAX_SEARCH_WORD_BYTES: usize = 256;

/// Longest nick, in UTF-8 bytes.
pub const MAX_NICK_BYTES: usize = 32;

/// Longest host name, in bytes (a DNS label is 63, we allow dotted names of this length).
pub const MAX_HOST_BYTES: usize = 64;

/// Longest room name without its sigil, in UTF-8 bytes.
pub const MAX_ROOM_NAME_BYTES: usize = 64;

/// Longest topic, in UTF-8 bytes. Longer is refused.
pub const MAX_TOPIC_BYTES: usize = 512;

/// Longest `--id` key of a script, in bytes. Longer is refused by the command line.
pub const MAX_KEY_BYTES: usize = 256;

/// Longest software description in a `Hello` or `Welcome`, in bytes. Longer is refused.
pub const MAX_SOFTWARE_BYTES: usize = 128;

/// Longest [`ServerAddress`](crate::ServerAddress), in bytes: a name of 253, a port, two keys and an
/// invitation. Longer is refused.
pub const MAX_SERVER_ADDR_BYTES: usize = 512;
/// Longest [`ServerLine`](crate::ServerLine), in bytes: [`MAX_SERVER_ADDRS`] places of 259, two keys
/// and an invitation. Longer is refused.
pub const MAX_SERVER_LINE_BYTES: usize = 4_608;
/// Most server addresses an agent tries in turn.
pub const MAX_SERVER_ADDRS: usize = 16;

/// Most entries in one page of rooms, members or history, and most bytes of bodies in one page.
///
/// Both keep a page well under [`MAX_FRAME_BYTES`]: 1,000 members of (32 + 64) bytes are under
/// 128 KiB, and a history page stops at [`MAX_PAGE_BYTES`] plus one body.
///
/// A frame with a list more than twice as long is malformed: it is refused before memory is set
/// aside for the list.
pub const MAX_PAGE_ENTRIES: usize = 1_000;
/// Bytes of bodies after which a page of history ends. See [`MAX_PAGE_ENTRIES`].
pub const MAX_PAGE_BYTES: usize = 256 * 1024;

/// Rooms one user may be in. One more is refused.
pub const MAX_ROOMS_PER_USER: usize = 1_000;

/// Direct conversations one user of a host takes part in. Beginning one more is refused; a message
/// to one that exists is not.
pub const MAX_DIRECTS_PER_USER: usize = 1_000;

/// Rooms a server or an agent keeps in one log. Creating one more is refused.
pub const MAX_ROOMS: usize = 100_000;

/// Rooms and direct conversations that the users of one host may create on a server, so that no
/// host uses up [`MAX_ROOMS`] for all. Creating one more is refused; those of others can be used.
pub const MAX_ROOMS_PER_HOST: usize = 20_000;

/// Rooms and direct conversations that one agent may follow at a server; at about 400 bytes each
/// a connection costs at most 8 MiB for them. Following one more is refused.
pub const MAX_SUBSCRIPTIONS: usize = 20_000;

/// Owners and moderators of a room, together with those who were invited if it is by invitation
/// only. One more is refused, and so is making a room of more people invite-only. All of them fit
/// the body of one message: 512 names of at most 98 bytes are 49 KiB.
pub const MAX_CHARTER_PEOPLE: usize = 512;

/// Users and hosts that are banned from one room. One more is refused.
pub const MAX_BANS: usize = 512;

/// Users that are muted in one room. One more is refused.
pub const MAX_MUTES: usize = 512;

/// Messages that one request may erase. More is refused.
pub const MAX_ERASED_AT_ONCE: usize = 64;

/// Most messages that a room's retention may name: counting that many takes a tenth of a second.
pub const MAX_KEPT_MESSAGES: u64 = 1_000_000;

/// Longest age that a room's retention may name: a hundred years.
pub const MAX_KEPT_SECONDS: u64 = 100 * 366 * 24 * 60 * 60;

/// Nicks that one OS user may claim on an agent. Claiming one more is refused.
pub const MAX_NICKS_PER_UID: usize = 64;

/// Sessions an agent serves at once. One more is told so and closed.
pub const MAX_SESSIONS: usize = 4_096;

/// Sessions of one OS user on an agent that several share, so that there are places for the
/// others. The one who runs the agent may have all.
pub const MAX_SESSIONS_PER_USER: usize = MAX_SESSIONS / 2;

/// Rooms that one session may have open by name. Opening one more is refused. The conversations
/// of `OpenDirects` do not count: they exist, and so are limited where they are begun.
pub const MAX_OPEN_ROOMS: usize = 4_096;

/// Agents a server serves at once. One more is told so and closed.
pub const MAX_AGENTS: usize = 16_384;

/// Connections that a server keeps of those who have not said yet who they are; at about 40 KiB
/// each these are at most 80 MiB. One more is closed unheard.
pub const MAX_UNKNOWN: usize = 2_048;

/// The same, of one IPv4 address or one /64 network of IPv6.
pub const MAX_UNKNOWN_PER_ADDRESS: usize = 256;

/// Requests of one session or agent that may wait for their reply. The next is read from the
/// socket only after one of them was answered, so the peer's own socket buffer fills.
pub const MAX_IN_FLIGHT: usize = 1_024;

/// Messages an agent sends ahead of the server's acknowledgement. Must not exceed
/// [`MAX_IN_FLIGHT`], or pings would wait behind a full window.
pub const APPEND_WINDOW: usize = 512;

/// Bytes of frames that wait for one terminal: 1 MiB. When full, the reader is moved off the live
/// path and fed from the log, and no request of it is taken up. Replies are counted too but never
/// refused: those to requests taken up before are small, and pages ([`MAX_PAGE_ENTRIES`]) are made
/// one at a time and only while there is room, so that at most one of them is over this.
pub const SESSION_QUEUE_BYTES: usize = 1024 * 1024;

/// Bytes of live frames that wait for one agent at the server: 4 MiB. When full, the agent is moved
/// off the live path and fed from the log.
pub const AGENT_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of frames of any kind that wait for one agent at the server: 8 MiB. Beyond it no request
/// of the agent is read; the answers to those read before, at most [`MAX_IN_FLIGHT`] and only one
/// of them a page ([`MAX_PAGE_ENTRIES`]), come on top. An announcement that the agent must not miss
/// ends the connection instead: it comes back and asks.
pub const MAX_WAITING_BYTES: usize = 2 * AGENT_QUEUE_BYTES;

/// How long a new connection may take to say its preface and `Hello`; then it is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an agent pings its server.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Silence after which agent and server each take the other for dead: three heartbeats and half
/// of one, under the promised 10 s.
pub const PEER_TIMEOUT: Duration = Duration::from_millis(9_500);
const _: () = assert!(PEER_TIMEOUT.as_millis() <= 10_000);

/// How long it may take to find a server and connect to it, whichever of its addresses answers.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest and longest wait between attempts to reach a server; see `chat-agent`'s `backoff.rs`.
pub const RECONNECT_MIN: Duration = Duration::from_millis(200);
/// Longest wait between attempts to reach a server.
pub const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a daemon may take to end after SIGTERM before connections are cut.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// The TCP port of a server when none is named.
pub const DEFAULT_PORT: u16 = 7667;
