//! chat-agent: one host's daemon.
//!
//! Terminals and scripts reach it through a Unix socket ([`socket`], [`listener`], one
//! [`session`] each). What they write goes through one writer thread ([`store`]): into the log of
//! rooms that this agent orders itself, or into the outbox. The [`link`] takes the outbox to the
//! server and brings what the server has committed into the replica. The [`hub`] is what these
//! share; readers are fed by `room_log`. [`run`] is the process around all this.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod answer;
pub mod args;
pub mod background;
pub mod backoff;
pub mod config;
mod daemon;
mod dump;
pub mod hub;
pub mod keys;
pub mod link;
pub mod listener;
pub mod lock;
pub mod paths;
pub mod session;
pub mod socket;
pub mod store;

pub use args::AgentArgs;
pub use daemon::run;

/// This program and its version, as others see it.
pub const SOFTWARE: &str = concat!("chat-agent ", env!("CARGO_PKG_VERSION"));
