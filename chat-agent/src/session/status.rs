//! How things are, for one user.

use super::Services;
use crate::store::refused::{self, Refused};
use protocol::{Timestamp, UserName, local::Status};
use std::time::SystemTime;

/// Refused messages that are named; of more only the number is told.
const MAX_NAMED: usize = 10;

impl Services {
    /// How things are, with what became of `user`'s messages. What cannot be read is a problem
    /// among the others: a status is always given. Whoever runs the agent hears of all problems.
    pub(super) async fn status(&self, user: UserName, runs_it: bool) -> Status {
        let hub = &self.hub;
        let mut problems = match runs_it {
            true => hub.problems(),
            false => hub.problems_of(&user),
        };
        let (author, now) = (user.clone(), Timestamp::from(SystemTime::now()));
        match self.read(move |c| refused::of(c, &author, now)).await {
            Ok(refused) => problems.extend(lines(&refused, &user)),
            Err(error) => problems.push(format!("refused messages cannot be listed: {error}")),
        }
        let usage = hub.outbox().usage();
        let (sessions, _) = hub.sessions();
        let link = hub.link().borrow().clone();
        Status {
            user,
            software: crate::SOFTWARE.to_owned(),
            pid: std::process::id(),
            state_dir: self.state_dir.to_string(),
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            outbox_messages: usage.messages,
            outbox_bytes: usage.bytes,
            outbox_limit_bytes: hub.outbox().limit_bytes(),
            link,
            problems,
        }
    }
}

/// What to say of refused messages, newest first.
fn lines(refused: &[Refused], author: &UserName) -> Vec<String> {
    let line = |one: &Refused| {
        let to = one.room.seen_by(author);
        format!("message {} to {to} was refused: {}", one.id, one.reason)
    };
    let mut lines: Vec<String> = refused.iter().take(MAX_NAMED).map(line).collect();
    if refused.len() > MAX_NAMED {
        lines.push(format!(
            "{} older messages were refused too",
            refused.len() - MAX_NAMED
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::MessageId;

    #[test]
    fn a_refused_message_is_named_with_the_reason() {
        let id = MessageId::new();
        let one = Refused {
            id,
            room: "alice@ada,bob@hopper".parse().unwrap(),
            reason: "no host hopper has ever connected to this server".to_owned(),
            at: Timestamp::from_micros(1),
        };
        let alice = "alice@ada".parse().unwrap();
        let expected = format!("message {id} to bob@hopper was refused: {}", one.reason);
        assert_eq!(lines(std::slice::from_ref(&one), &alice), [expected]);
        let many = lines(&vec![one; MAX_NAMED + 2], &alice);
        assert_eq!(many.len(), MAX_NAMED + 1);
        assert_eq!(many[MAX_NAMED], "2 older messages were refused too");
    }
}
