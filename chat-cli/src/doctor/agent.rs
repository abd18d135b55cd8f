//! What is thought of the agent: whether it answers, its version, its outbox, its own complaints.

use super::{Finding, Level};
use crate::render::{bytes, count};

/// From here on the outbox is worth a word: so many hundredths of its limit.
const MUCH_PERCENT: u64 = 50;

/// A clock that is off by more than this puts messages visibly out of place.
const SKEW_SECONDS: i64 = 5;

/// What came of asking for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// An agent answers.
    Answers {
        /// Its process.
        pid: u32,
        /// Who runs it, if the kernel knows.
        uid: Option<u32>,
        /// Who asks, as it sees them.
        user: String,
        /// Where its files are.
        state_dir: String,
    },
    /// There is none: where, and why.
    None(String),
    /// There is one, and it is of no use: why, and what to do, in one.
    Useless(String),
}

/// Whether the agent answers, and whose it is; for OS user `uid`.
pub fn contact(contact: &Contact, uid: u32) -> Finding {
    const CHECK: &str = "agent";
    match contact {
        Contact::Answers {
            pid,
            uid: owner,
            user,
            ..
        } => {
            let whose = match owner {
                Some(owner) if *owner == uid => "yours".to_owned(),
                Some(owner) => format!("run by uid {owner}"),
                None => "of somebody unknown".to_owned(),
            };
            Finding::ok(CHECK, format!("process {pid}, {whose}; you are {user}"))
        }
        Contact::None(reason) => Finding::warn(CHECK, reason.clone(), "`chat` starts one"),
        Contact::Useless(reason) => Finding::new(CHECK, Level::Fail, reason.clone(), None),
    }
}

/// Whether agent and command are of one version.
pub fn version(ours: &str, agent: Option<(&str, u32)>) -> Finding {
    const CHECK: &str = "version";
    let Some((software, pid)) = agent else {
        return Finding::ok(CHECK, ours);
    };
    match software.rsplit_once(' ') {
        Some((_, theirs)) if theirs == ours => {
            Finding::ok(CHECK, format!("{ours}, as the agent's"))
        }
        _ => Finding::warn(
            CHECK,
            format!("this program is {ours}, the agent {software}"),
            format!("if this one is newer, `kill {pid}` and run `chat`: nothing is lost"),
        ),
    }
}

/// How full the outbox is.
pub fn outbox(messages: u64, used: u64, limit: u64) -> Finding {
    const CHECK: &str = "outbox";
    let found = format!(
        "{}, {} of {}",
        count(messages, "message"),
        bytes(used),
        bytes(limit)
    );
    let advice = "see that the server is reached, or raise outbox_limit in agent.toml";
    if used >= limit {
        Finding::fail(CHECK, format!("{found}: no more are taken"), advice)
    } else if used.saturating_mul(100) >= limit.saturating_mul(MUCH_PERCENT) {
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// What the agent itself complains of.
pub fn problem(problem: &str) -> Finding {
    Finding {
        check: "problem",
        level: Level::Warn,
        found: problem.to_owned(),
        advice: None,
    }
}

/// How the clocks of this host and its server differ, from messages of this host: for each, the
/// microseconds from when it was written to when the server committed it.
///
/// The way there takes no negative time. So this host's clock is ahead by at least what the
/// quickest message seems to have arrived before it was written; that it is behind cannot be told
/// from a message that waited, unless several took about as long.
pub fn clock(delays: &[i64]) -> Finding {
    const CHECK: &str = "clock";
    let Some(least) = delays.iter().min() else {
        return Finding::ok(
            CHECK,
            "not known: nobody of this host has written to a #room of the server lately",
        );
    };
    let seconds = least / 1_000_000;
    let advice = "have it set by NTP, here and on the server: `timedatectl`";
    if seconds < -SKEW_SECONDS {
        let found = format!("this host is at least {} s ahead of its server", -seconds);
        Finding::warn(CHECK, found, advice)
    } else if seconds > SKEW_SECONDS {
        let found = format!(
            "the quickest message took {seconds} s: it waited, or this host is behind its server"
        );
        Finding::warn(CHECK, found, advice)
    } else {
        Finding::ok(CHECK, format!("within {SKEW_SECONDS} s of the server's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level::{Fail, Ok, Warn};

    #[test]
    fn no_agent_is_no_failure_and_a_useless_one_is() {
        let answers = Contact::Answers {
            pid: 7,
            uid: Some(0),
            user: "alice@ada".to_owned(),
            state_dir: "/s".to_owned(),
        };
        let found = contact(&answers, 1000);
        assert_eq!(found.level, Ok);
        assert!(found.found.contains("run by uid 0"), "{found:?}");
        assert_eq!(contact(&Contact::None("gone".to_owned()), 0).level, Warn);
        assert_eq!(contact(&Contact::Useless("old".to_owned()), 0).level, Fail);
    }

    #[test]
    fn another_version_is_named_with_how_to_change_it() {
        assert_eq!(version("0.2.0", None).level, Ok);
        assert_eq!(version("0.2.0", Some(("chat-agent 0.2.0", 7))).level, Ok);
        let other = version("0.2.0", Some(("chat-agent 0.1.0", 7)));
        assert_eq!(other.level, Warn);
        assert!(other.advice.unwrap().contains("kill 7"));
        assert_eq!(version("0.2.0", Some(("", 7))).level, Warn);
    }

    #[test]
    fn an_outbox_is_judged_by_its_limit() {
        assert_eq!(outbox(0, 0, 1_000).level, Ok);
        assert_eq!(outbox(9, 499, 1_000).level, Ok);
        assert_eq!(outbox(9, 500, 1_000).level, Warn);
        assert_eq!(outbox(9, 1_000, 1_000).level, Fail);
        assert_eq!(outbox(9, u64::MAX, u64::MAX).level, Fail);
    }

    #[test]
    fn a_clock_is_judged_by_the_quickest_message() {
        let second = 1_000_000;
        assert_eq!(clock(&[]).level, Ok);
        // One waited for an hour, the other did not.
        assert_eq!(clock(&[3_600 * second, second / 10]).level, Ok);
        let ahead = clock(&[-90 * second, 4 * second]);
        assert_eq!(ahead.level, Warn);
        assert!(ahead.found.contains("90 s ahead"), "{ahead:?}");
        assert_eq!(clock(&[90 * second, 95 * second]).level, Warn);
        assert_eq!(clock(&[i64::MIN]).level, Warn);
    }
}
