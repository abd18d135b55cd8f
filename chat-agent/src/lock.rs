//! What keeps another agent from the socket and the state directory of this one.

use supervision::Holder;
pub use supervision::{Lock, LockError, lock::Note};

/// The file in a state directory that keeps other agents out of it.
pub const STATE_LOCK: &str = "agent.lock";

/// An agent that wants the state directory.
pub const OF_STATE: Holder = Holder {
    program: "agent",
    flag: "--state-dir",
};

/// An agent that wants the socket.
pub const OF_SOCKET: Holder = Holder {
    program: "agent",
    flag: "--socket",
};
