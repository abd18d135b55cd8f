//! The harness: real binaries, hosts, networks, and the checks on what they did.
//!
//! A test makes a [`Sandbox`] (one temporary directory and every process in it), starts a
//! [`Server`] and [`Host`]s in it, perhaps in a [`Network`] of namespaces, and lets terminals
//! talk: [`Terminal`] runs the real `chat` command, [`Session`] and [`wire`] speak the protocol
//! raw, for what no well-behaved program would say. Waiting is [`eventually`] and nothing else.
//! What senders were promised and what readers saw goes into a [`History`], which [`check`]
//! judges afterwards, without a clock.

#![expect(
    clippy::missing_panics_doc,
    reason = "a harness reports by panicking: every function here may fail its test"
)]
pub mod chaos;
pub mod checker;
pub mod host;
pub mod load;
pub mod measure;
pub mod nats;
pub mod network;
pub mod privilege;
pub mod process;
pub mod recorder;
pub mod sandbox;
pub mod secure;
pub mod seed;
pub mod server;
pub mod servers;
pub mod service_manager;
pub mod session;
pub mod tap;
pub mod terminal;
pub mod wait;
pub mod wire;

pub use chaos::{Chaos, ChaosProxy};
pub use checker::{Violation, check};
pub use host::Host;
pub use nats::{NatsServer, nats_binary};
pub use network::{Link, Network};
pub use process::{Finished, Place, Process, Signal, chat_binary};
pub use recorder::{History, Outcome};
pub use sandbox::{Sandbox, heavy};
pub use secure::{Impostor, Keys};
pub use seed::Random;
pub use server::Server;
pub use servers::Servers;
pub use service_manager::ServiceManager;
pub use session::{AgentPeer, Session};
pub use tap::Tap;
pub use terminal::{MessageLine, Pipe, SentLine, Tail, Terminal};
pub use wait::{eventually, limit};
