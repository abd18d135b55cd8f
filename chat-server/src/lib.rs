//! The chat server: orders, stores and fans out the messages of federated rooms.
//!
//! * [`run`] is the daemon: settings, logging, the state directory's lock, signals.
//! * [`serve`] is the server on a listener; [`Service`] is what its connections share, and serves
//!   any byte stream.
//! * [`log`] is the seam to the log; [`SqliteLog`](log::SqliteLog) is the default behind it.
//!
//! One task owns each agent's socket (`connection`). It hands what writes to the log, which
//! answers after the commit straight into the connection's queue, and gives everything that was
//! written to one publisher, which fans it out through a [`room_log::Feed`]. So the order of the
//! log is the order of everything, and no reader is on the way of a writer.
//!
//! The server never decodes a message's body.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod administration;
mod announcements;
pub mod args;
mod cluster;
mod config;
mod connection;
mod daemon;
mod doorway;
mod drain;
mod dump;
mod identity;
mod inbound;
mod keys;
mod lane;
mod listener;
pub mod log;
pub mod moving;
mod nats;
mod opening;
mod presence;
mod publisher;
mod query;
mod quota;
mod rates;
pub mod register;
mod reply;
mod router;
mod rules;
mod service;

pub use args::{ServerArgs, StoreArgs};
pub use cluster::{Cluster, ClusterError};
pub use config::{Config, ConfigError, Environment, Origin, RawConfig, Setting};
pub use daemon::run;
pub use drain::{Drain, Pace};
pub use identity::Door;
pub use keys::{Keys, KeysError, Source};
pub use lane::Lane;
pub use rates::{Allowed, Rate};
pub use reply::{Answer, PendingReply, Ticket};
pub use service::{Bounds, Membership, ServeError, Service, serve};
