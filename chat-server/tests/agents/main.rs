//! The server in this process, and agents that speak raw frames to it.

mod appending;
mod draining;
mod following;
mod governing;
mod harness;
mod lifecycle;
mod people;
