//! What is thought of the server and the way there.

use super::Finding;
use crate::listing;
use protocol::LogStatus;

/// How far one gets with a server, without joining it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Its name leads nowhere.
    NoAddress(String),
    /// Nobody listens, or nobody can be reached.
    NoConnection(String),
    /// Who listens does not speak this protocol, or another version.
    NoServer(String),
    /// It speaks a version that this program speaks.
    Speaks,
}

/// The link of the agent, as it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// No server was named.
    None,
    /// It is being tried.
    Trying {
        /// Its address.
        server: String,
        /// Why the last attempt came to nothing.
        error: Option<String>,
        /// Why it refuses this host, if it does.
        refused: Option<String>,
    },
    /// It is there.
    Online {
        /// Its address.
        server: String,
        /// Program and version.
        software: String,
    },
}

/// What the agent has of its server.
pub fn link(link: &Link) -> Finding {
    const CHECK: &str = "link";
    match link {
        Link::None => Finding::ok(CHECK, "no server: `chat join HOST` names one"),
        Link::Online { server, software } => {
            Finding::ok(CHECK, format!("connected to {server} ({software})"))
        }
        Link::Trying {
            server,
            refused: Some(reason),
            ..
        } => Finding::fail(CHECK, format!("{server} refuses this host"), reason.clone()),
        Link::Trying { server, error, .. } => {
            let why = error.as_deref().unwrap_or("no answer yet");
            Finding::warn(
                CHECK,
                format!("not connected to {server}: {why}"),
                "messages to #rooms wait here; see what is said of the server",
            )
        }
    }
}

/// What the server's log promises, and whether it takes anything now.
pub fn log(log: &LogStatus) -> Finding {
    const CHECK: &str = "log";
    let mut found = listing::log(log);
    let mut advice = Vec::new();
    if let Some(reason) = log.health.reason() {
        found = format!("{found}; it takes nothing now: {reason}");
        advice.push("messages wait here and go when it is back".to_owned());
    }
    if listing::is_weaker(log) {
        advice.push(match &log.weaker {
            Some(weaker) => format!("tell whoever runs the server: {weaker}"),
            None => "ask whoever runs the server".to_owned(),
        });
    }
    match advice.is_empty() {
        true => Finding::ok(CHECK, found),
        false => Finding::warn(CHECK, found, advice.join("; ")),
    }
}

/// Whether the server can be reached from here, and speaks with us.
pub fn server(address: &str, reach: &Reach) -> Finding {
    const CHECK: &str = "server";
    match reach {
        Reach::NoAddress(reason) => Finding::fail(
            CHECK,
            format!("{address}: the name cannot be looked up: {reason}"),
            "check how it is written, and the network: `getent hosts NAME`",
        ),
        Reach::NoConnection(reason) => Finding::fail(
            CHECK,
            format!("{address} cannot be reached: {reason}"),
            "see whether `chat server` runs there, and whether a firewall is in between",
        ),
        Reach::NoServer(reason) => Finding::fail(
            CHECK,
            format!("{address} cannot be talked to: {reason}"),
            "name a `chat server` of a version that goes with this one",
        ),
        Reach::Speaks => Finding::ok(CHECK, format!("{address} speaks this protocol")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level::{Fail, Ok, Warn};

    #[test]
    fn a_server_that_is_away_is_told_from_one_that_refuses() {
        let trying = |refused: Option<&str>| Link::Trying {
            server: "hub:7667".to_owned(),
            error: Some("no".to_owned()),
            refused: refused.map(str::to_owned),
        };
        assert_eq!(link(&Link::None).level, Ok);
        assert_eq!(link(&trying(None)).level, Warn);
        let refused = link(&trying(Some("another host is connected")));
        assert_eq!(refused.level, Fail);
        assert_eq!(refused.advice.as_deref(), Some("another host is connected"));
    }

    #[test]
    fn a_log_that_may_lose_what_it_acknowledged_is_worth_a_warning() {
        assert_eq!(log(&LogStatus::database()).level, Ok);
        let weaker = log(&crate::sample::weaker_log());
        assert_eq!(weaker.level, Warn);
        assert!(weaker.advice.unwrap().contains("nobody has vouched"));
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let why = || "because".to_owned();
        for (reach, level) in [
            (Reach::NoAddress(why()), Fail),
            (Reach::NoConnection(why()), Fail),
            (Reach::NoServer(why()), Fail),
            (Reach::Speaks, Ok),
        ] {
            let found = server("hub:7667", &reach);
            assert_eq!(found.level, level);
            assert_eq!(found.advice.is_some(), level == Fail);
        }
    }
}
