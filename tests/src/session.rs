//! Raw sessions: a terminal at an agent, an agent at a server, without a program in between.

use crate::{
    secure::Keys,
    wire::{Stream, Wire},
};
use protocol::{
    AgentId, Committed, Content, HostName, MessageId, Nick, Outgoing, RequestId, Room,
    ServerAddress, Timestamp, UserName, Vocabulary, federation,
    local::{self, Delivery, Event, From, Refusal, Reply, Request, Status},
};
use std::{collections::VecDeque, io, net::SocketAddr, path::Path};

/// A session at an agent, one request at a time; events wait until they are asked for.
#[derive(Debug)]
pub struct Session {
    wire: Wire<local::AgentFrame, local::TerminalFrame>,
    events: VecDeque<Event>,
    user: UserName,
    next_id: u32,
}

impl Session {
    /// Connects to the agent at `socket` and says hello as `nick`.
    ///
    /// # Errors
    ///
    /// If the agent does not answer, or refuses: the refusal is the error's text.
    pub fn open(socket: &Path, nick: &str, interactive: bool) -> io::Result<Self> {
        let stream = Stream::unix(socket)?;
        let mut wire = Wire::open(stream, Vocabulary::Local)?;
        let nick = Nick::parse(nick).map_err(io::Error::other)?;
        let hello = Request::Hello {
            nick,
            software: "tests".to_owned(),
            interactive,
        };
        // If this fails, the reason is there to be read.
        let _ = wire.send(&local::TerminalFrame {
            id: RequestId(0),
            request: hello,
        });
        let mut events = VecDeque::new();
        loop {
            match wire.receive().map_err(io::Error::other)? {
                Some(local::AgentFrame::Reply {
                    result: Ok(Reply::Welcome { user, .. }),
                    ..
                }) => {
                    return Ok(Self {
                        wire,
                        events,
                        user,
                        next_id: 1,
                    });
                }
                Some(local::AgentFrame::Reply {
                    result: Err(refusal),
                    ..
                }) => return Err(io::Error::other(refusal)),
                Some(local::AgentFrame::Event(Event::Closing { reason })) => {
                    return Err(io::Error::other(reason));
                }
                Some(local::AgentFrame::Event(event)) => events.push_back(event),
                Some(other) => return Err(io::Error::other(format!("hello got {other:?}"))),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Who this session speaks as.
    #[must_use]
    pub const fn user(&self) -> &UserName {
        &self.user
    }

    /// Sends a request without waiting for its reply.
    pub fn post(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.wire
            .send(&local::TerminalFrame { id, request })
            .expect("the agent reads");
        id
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// What the agent refuses.
    pub fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let asked = self.post(request);
        loop {
            match self.frame() {
                local::AgentFrame::Reply { id, result } if id == asked => return result,
                local::AgentFrame::Reply { .. } => {}
                local::AgentFrame::Event(event) => self.events.push_back(event),
            }
        }
    }

    fn frame(&mut self) -> local::AgentFrame {
        self.wire
            .receive()
            .unwrap_or_else(|error| panic!("session of {}: {error}", self.user))
            .unwrap_or_else(|| {
                panic!(
                    "the agent closed the session of {}; before: {:?}",
                    self.user, self.events
                )
            })
    }

    /// The next frame as it comes, replies included.
    pub fn next_frame(&mut self) -> local::AgentFrame {
        match self.events.pop_front() {
            Some(event) => local::AgentFrame::Event(event),
            None => self.frame(),
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Event {
        loop {
            if let local::AgentFrame::Event(event) = self.next_frame() {
                return event;
            }
        }
    }

    /// Skips events until `pick` takes one.
    pub fn event<T>(&mut self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.next_event()) {
                return picked;
            }
        }
    }

    /// Reads until the agent closes; the reason it gave.
    pub fn closing_reason(&mut self) -> Option<Refusal> {
        let mut reason = None;
        for frame in self.wire.receive_until_closed() {
            if let local::AgentFrame::Event(Event::Closing { reason: given }) = frame {
                reason = Some(given);
            }
        }
        reason
    }

    /// Opens a room from `from` on.
    pub fn open_room(&mut self, room: &str, from: From) -> Reply {
        let room = self.room(room);
        self.ask(Request::Open { room, from })
            .unwrap_or_else(|refusal| panic!("opening: {refusal}"))
    }

    /// The next message of an opened room.
    pub fn next_message(&mut self) -> Committed {
        self.event(|event| match event {
            Event::Committed(message) => Some(message),
            _ => None,
        })
    }

    /// Sends a text under a fresh id.
    ///
    /// # Errors
    ///
    /// What the agent refuses.
    pub fn send(&mut self, room: &str, text: &str) -> Result<(MessageId, Delivery), Refusal> {
        let id = MessageId::new();
        let room = self.room(room);
        let content = Content::Text(text.to_owned());
        match self.ask(Request::Send { id, room, content })? {
            Reply::Sent { state } => Ok((id, state)),
            other => panic!("a send got {other:?}"),
        }
    }

    /// How the agent is.
    pub fn status(&mut self) -> Status {
        match self.ask(Request::Status) {
            Ok(Reply::Status(status)) => *status,
            other => panic!("status got {other:?}"),
        }
    }

    /// The room that this user means by `target` (`#room`, `&room`, `nick`, `nick@host`).
    #[must_use]
    pub fn room(&self, target: &str) -> Room {
        protocol::Target::parse(target)
            .unwrap_or_else(|error| panic!("{target}: {error}"))
            .resolve(&self.user)
    }

    /// The connection below, for bytes that are no request.
    pub const fn wire(&mut self) -> &mut Wire<local::AgentFrame, local::TerminalFrame> {
        &mut self.wire
    }
}

/// A connection to a server that says hello as an agent would.
#[derive(Debug)]
pub struct AgentPeer {
    wire: Wire<federation::ServerFrame, federation::AgentFrame>,
    events: VecDeque<federation::Event>,
    next_id: u32,
}

impl AgentPeer {
    /// Connects to the server at `address` as the agent of `host`.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses: the refusal is the error's text.
    pub fn open(address: SocketAddr, host: &str) -> io::Result<Self> {
        let mut peer = Self::over(Stream::tcp(address)?)?;
        peer.hello(host).map_err(io::Error::other)?;
        Ok(peer)
    }

    /// Connects to the server of `link` with `keys`, and says no more than the preface.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or is another one.
    pub fn silent(link: &str, keys: &Keys) -> io::Result<Self> {
        Self::over(keys.connect(link)?)
    }

    /// Connects to the server of `link` with `keys` as the agent of `host`, showing the
    /// invitation of `link` if it has one.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or refuses: the refusal is the error's text.
    pub fn enrolled(link: &str, keys: &Keys, host: &str) -> io::Result<Self> {
        let mut peer = Self::silent(link, keys)?;
        peer.enrol(link, host).map_err(io::Error::other)?;
        peer.hello(host).map_err(io::Error::other)?;
        Ok(peer)
    }

    fn over(stream: Stream) -> io::Result<Self> {
        Ok(Self {
            wire: Wire::open(stream, Vocabulary::Federation)?,
            events: VecDeque::new(),
            next_id: 0,
        })
    }

    /// Shows the invitation of `link`, if it has one.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn enrol(&mut self, link: &str, host: &str) -> Result<(), federation::Refusal> {
        let link = ServerAddress::parse(link).expect("a server's address");
        let Some(invitation) = link.trust.invitation() else {
            return Ok(());
        };
        let host = HostName::parse(host).expect("a host's name");
        self.ask(federation::Request::Enrol { host, invitation })
            .map(drop)
    }

    /// Says to be the agent of `host`.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn hello(&mut self, host: &str) -> Result<(), federation::Refusal> {
        self.hello_as(host, AgentId::new())
    }

    /// The same, as the one `agent` that has connected elsewhere, too.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn hello_as(&mut self, host: &str, agent: AgentId) -> Result<(), federation::Refusal> {
        let hello = federation::Request::Hello {
            host: HostName::parse(host).expect("a host's name"),
            agent,
            software: "tests".to_owned(),
        };
        match self.ask(hello)? {
            federation::Reply::Welcome { .. } => Ok(()),
            other => panic!("hello got {other:?}"),
        }
    }

    /// Sends a text as `author`.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn append(
        &mut self,
        id: MessageId,
        author: &str,
        room: &str,
        text: &str,
    ) -> Result<federation::Reply, federation::Refusal> {
        let body = Content::Text(text.to_owned()).encode().expect("a body");
        let message = Outgoing {
            id,
            room: Room::parse(room).expect("a room"),
            author: author.parse().expect("a user"),
            sent_at: Timestamp::from_micros(0),
            body,
        };
        self.ask(federation::Request::Append {
            attempt: 0,
            message,
        })
    }

    /// Reads until the server closes; the reason it gave.
    pub fn closing_reason(&mut self) -> Option<federation::Refusal> {
        let mut reason = None;
        for frame in self.wire.receive_until_closed() {
            if let federation::ServerFrame::Event(federation::Event::Closing { reason: given }) =
                frame
            {
                reason = Some(given);
            }
        }
        reason
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    ///
    /// What the server refuses, in a reply or by closing.
    pub fn ask(
        &mut self,
        request: federation::Request,
    ) -> Result<federation::Reply, federation::Refusal> {
        let asked = RequestId(self.next_id);
        self.next_id += 1;
        self.wire
            .send(&federation::AgentFrame { id: asked, request })
            .expect("the server reads");
        loop {
            let frame = self.wire.receive().expect("a frame of the server");
            match frame.expect("the server answers before it closes") {
                federation::ServerFrame::Reply { id, result } if id == asked => return result,
                federation::ServerFrame::Reply { .. } => {}
                federation::ServerFrame::Event(federation::Event::Closing { reason }) => {
                    return Err(reason);
                }
                federation::ServerFrame::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// The connection below.
    pub const fn wire(&mut self) -> &mut Wire<federation::ServerFrame, federation::AgentFrame> {
        &mut self.wire
    }
}
