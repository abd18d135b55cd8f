//! Promise 7: bad input is an answer, not a crash, and nobody else notices.

mod frames;
mod limits;
mod names;
mod versions;

use protocol::{
    Content, Vocabulary, encode_frame, federation,
    local::{self, From},
};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tests::{
    Host, Sandbox, Server, Session,
    wire::{Stream, Wire},
};

/// The most memory a daemon may ever have had resident after all of this.
const MEMORY_BOUND_BYTES: u64 = 64 * 1024 * 1024;

/// Frames of a vocabulary with texts where the real one has checked names, and variants that it
/// has not.
mod unchecked {
    use serde::Serialize;

    #[derive(Serialize)]
    pub(super) struct Frame<R> {
        pub(super) id: u32,
        pub(super) request: R,
    }

    #[derive(Serialize)]
    pub(super) enum LocalHello {
        Hello {
            nick: Vec<u8>,
            software: String,
            interactive: bool,
        },
    }

    #[derive(Serialize)]
    pub(super) enum FederationHello {
        Hello {
            host: Vec<u8>,
            agent: u128,
            software: String,
        },
    }
}

/// One end that takes connections from strangers.
#[derive(Debug, Clone)]
enum Target<'a> {
    Agent(&'a Host),
    Server(&'a Server),
}

impl Target<'_> {
    fn stream(&self) -> Stream {
        self.try_stream().expect("connected")
    }

    fn try_stream(&self) -> io::Result<Stream> {
        match self {
            Self::Agent(host) => Stream::unix(host.socket()),
            Self::Server(server) => Stream::tcp(server.address()),
        }
    }

    const fn vocabulary(&self) -> Vocabulary {
        match self {
            Self::Agent(_) => Vocabulary::Local,
            Self::Server(_) => Vocabulary::Federation,
        }
    }

    /// A hello with `name` in it, as a payload.
    fn hello(&self, name: &[u8], software: &str) -> Vec<u8> {
        let name = name.to_vec();
        let software = software.to_owned();
        match self {
            Self::Agent(_) => payload(&unchecked::Frame {
                id: 0,
                request: unchecked::LocalHello::Hello {
                    nick: name,
                    software,
                    interactive: false,
                },
            }),
            Self::Server(_) => payload(&unchecked::Frame {
                id: 0,
                request: unchecked::FederationHello::Hello {
                    host: name,
                    agent: 7,
                    software,
                },
            }),
        }
    }

    /// Sends `bytes` as the whole of a connection's first words and returns the reasons given
    /// until it is closed.
    fn provoke(
        &self,
        what: &str,
        after_preface: bool,
        bytes: &[u8],
        then_end: bool,
    ) -> Vec<String> {
        match self {
            Self::Agent(_) => {
                let frames = self.exchange::<local::AgentFrame>(after_preface, bytes, then_end);
                let reason = |frame| match frame {
                    local::AgentFrame::Event(local::Event::Closing { reason }) => {
                        Some(reason.to_string())
                    }
                    local::AgentFrame::Reply { result, .. } => {
                        Some(result.expect_err(what).to_string())
                    }
                    local::AgentFrame::Event(_) => None,
                };
                frames.into_iter().filter_map(reason).collect()
            }
            Self::Server(_) => {
                let frames =
                    self.exchange::<federation::ServerFrame>(after_preface, bytes, then_end);
                let reason = |frame| match frame {
                    federation::ServerFrame::Event(federation::Event::Closing { reason }) => {
                        Some(reason.to_string())
                    }
                    federation::ServerFrame::Reply { result, .. } => {
                        Some(result.expect_err(what).to_string())
                    }
                    federation::ServerFrame::Event(_) => None,
                };
                frames.into_iter().filter_map(reason).collect()
            }
        }
    }

    fn exchange<In: DeserializeOwned>(
        &self,
        after_preface: bool,
        bytes: &[u8],
        then_end: bool,
    ) -> Vec<In> {
        let mut wire: Wire<In, ()> = if after_preface {
            Wire::open(self.stream(), self.vocabulary()).expect("prefaces")
        } else {
            let mut wire = Wire::silent(self.stream());
            let preface = wire.read_preface().expect("the other end speaks first");
            preface.expect("a proper preface");
            wire
        };
        // It may have closed before it has taken all.
        let _ = wire.send_bytes(bytes);
        if then_end {
            let _ = wire.stream().finish_writing();
        }
        wire.receive_until_closed()
    }
}

fn payload(value: &impl Serialize) -> Vec<u8> {
    encode_frame(value).expect("a frame of a test")[4..].to_vec()
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a payload of a test");
    [&len.to_be_bytes(), payload].concat()
}

/// Agent and server with somebody on them who must not notice anything.
struct Scene {
    server: Server,
    ada: Host,
    witness: Session,
    // Keeps the sandbox until the processes are gone.
    _sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = Server::start_plaintext(&sandbox);
        let ada = Host::start(&sandbox, "ada", server.link());
        ada.wait_online();
        let mut witness = ada.session("witness");
        witness.open_room("#ops", From::Beginning);
        Self {
            server,
            ada,
            witness,
            _sandbox: sandbox,
        }
    }

    /// The witness sends over the whole way and back.
    fn assert_undisturbed(&mut self, after: &str) {
        self.witness.send("#ops", after).expect("accepted");
        let message = self.witness.next_message();
        let text = Content::Text(after.to_owned());
        assert_eq!(message.body.decode(), Ok(text), "after {after}");
    }

    fn assert_memory_bounded(&mut self) {
        let peaks = [
            self.server.process().peak_memory(),
            self.ada.agent().peak_memory(),
        ];
        for peak in peaks {
            assert!(peak < MEMORY_BOUND_BYTES, "{peak} bytes resident");
        }
    }
}
