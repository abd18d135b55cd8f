//! Rooms stored, read and followed, through what this crate offers to server and agent.

mod appending;
mod busy;
mod chores;
mod delivering;
mod ending;
mod following;
mod ingesting;
mod memory;
mod model;
mod reading;
mod sockets;
mod support;
mod writing;
