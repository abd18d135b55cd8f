//! The promises, proved against the real binaries.
//!
//! One module per promise. Nothing here looks inside a program: processes are started, talked
//! to, killed, cut off and starved, and what they told their users is judged.

mod background;
mod cli;
mod cluster;
mod conversation;
mod corrupt;
mod disk_full;
mod durability;
mod failover;
mod hostile;
mod kill_rounds;
mod leaving;
mod lifecycle;
mod limits;
mod log_on_nats;
mod log_status;
mod moving;
mod network;
mod offline;
mod presence;
mod refused;
mod renaming;
mod rooms;
mod search;
mod slow_reader;
mod socket;
mod systemd;
mod trust;
