//! What the agent is doing, for whoever sends SIGUSR1, and in a line for the service manager.

use crate::{hub::Hub, store::has_epoch};
use protocol::{Timestamp, local::LinkStatus};
use std::time::SystemTime;
use tracing::info;

impl Hub {
    /// Logs who is connected, what waits, how the link is, and what does not work.
    pub(crate) fn dump(&self) {
        let (sessions, queued_bytes) = self.sessions();
        let (rooms, followers) = self.feed().size();
        let outbox = self.outbox().usage();
        let roll = self.roll();
        let epoch = match self.server_epoch() {
            epoch if has_epoch(epoch) => epoch.to_string(),
            _ => "none".to_owned(),
        };
        info!(
            sessions,
            queued_bytes,
            followed_rooms = rooms,
            followers,
            outbox_messages = outbox.messages,
            outbox_bytes = outbox.bytes,
            federated_rooms = roll.members.len(),
            present = roll.present.len(),
            server_epoch = %epoch,
            "state"
        );
        let link = in_words(&self.link().borrow(), SystemTime::now().into());
        info!("server: {}", printable(&link));
        for problem in self.problems() {
            info!("problem: {}", printable(&problem));
        }
    }

    /// Who is here, where messages go, and what waits.
    pub(crate) fn in_a_line(&self) -> String {
        let (sessions, _) = self.sessions();
        let link = match &*self.link().borrow() {
            LinkStatus::LocalOnly => "no server".to_owned(),
            LinkStatus::Connecting { server } | LinkStatus::Waiting { server, .. } => {
                format!("not connected to {server}")
            }
            LinkStatus::Online { server, .. } => format!("connected to {server}"),
        };
        format!(
            "{}: {link}, sessions: {sessions}, waiting for the server: {}",
            self.host(),
            self.outbox().usage().messages
        )
    }
}

/// A server's words may hold what a terminal would obey.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

fn in_words(link: &LinkStatus, now: Timestamp) -> String {
    let seconds =
        |from: Timestamp, to: Timestamp| to.micros().saturating_sub(from.micros()) / 1_000_000;
    match link {
        LinkStatus::LocalOnly => "none, this host is on its own".to_owned(),
        LinkStatus::Connecting { server } => format!("connecting to {server}"),
        LinkStatus::Waiting {
            server,
            error,
            attempt,
            until,
        } => format!(
            "{server} cannot be reached: {error} (attempt {attempt}, next in {} s)",
            seconds(now, *until)
        ),
        LinkStatus::Online {
            server,
            software,
            since,
            ..
        } => format!(
            "connected to {server} ({software}) for {} s",
            seconds(*since, now)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Epoch;

    #[test]
    fn the_link_is_told_in_words_instead_of_rust() {
        let second = |number: u64| Timestamp::from_micros(number * 1_000_000);
        let online = LinkStatus::Online {
            server: "hub:7667".to_owned(),
            epoch: Epoch::from_bytes([7; 8]),
            software: "chat-server 0.1.0".to_owned(),
            since: second(100),
        };
        let words = "connected to hub:7667 (chat-server 0.1.0) for 60 s";
        assert_eq!(in_words(&online, second(160)), words);
        let waiting = LinkStatus::Waiting {
            server: "hub:7667".to_owned(),
            error: "cannot connect: refused".to_owned(),
            attempt: 3,
            until: second(162),
        };
        let words = "hub:7667 cannot be reached: cannot connect: refused (attempt 3, next in 2 s)";
        assert_eq!(in_words(&waiting, second(160)), words);
        assert_eq!(printable("hub\u{1b}[2J"), "hub?[2J");
    }
}
