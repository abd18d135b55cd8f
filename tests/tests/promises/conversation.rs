//! Two hosts talking in one room, with a record of it.

use std::time::Duration;
use tests::{
    Host, Outcome, Pipe, Server, Tail, check, recorder,
    recorder::History,
    wait::{eventually_within, limit},
};

/// The room of every conversation here.
pub(crate) const ROOM: &str = "#shared";

/// A speaker and a reader on each of several hosts.
pub(crate) struct Conversation {
    speakers: Vec<Speaker>,
    readers: Vec<(String, Tail)>,
}

struct Speaker {
    user: String,
    pipe: Pipe,
    bodies: Vec<String>,
}

impl Conversation {
    /// Lets one person speak and another read on each host.
    pub(crate) fn start(hosts: &[&Host]) -> Self {
        let mut readers = Vec::new();
        let mut speakers = Vec::new();
        for host in hosts {
            let reader = host.terminal("reader");
            readers.push((reader.user(), reader.tail(&[ROOM], "0")));
            let speaker = host.terminal("speaker");
            speakers.push(Speaker {
                user: speaker.user(),
                pipe: speaker.pipe(ROOM),
                bodies: Vec::new(),
            });
        }
        Self { speakers, readers }
    }

    /// Everybody says `count` more messages and is told that they are accepted.
    pub(crate) fn say(&mut self, count: usize) {
        for speaker in &mut self.speakers {
            for _ in 0..count {
                let body = format!("{} says {}", speaker.user, speaker.bodies.len());
                speaker
                    .pipe
                    .write(&body)
                    .expect("chat send reads its input");
                speaker.bodies.push(body);
            }
        }
        for speaker in &mut self.speakers {
            let expected = speaker.bodies.len();
            eventually_within(limit() * 2, "every message is accepted", || {
                let have = speaker.pipe.sent().len();
                if have == expected {
                    return Ok(());
                }
                let stderr = speaker.pipe.process().stderr();
                Err(format!("{have} of {expected}; {stderr}"))
            });
        }
    }

    /// How many messages have been said so far.
    pub(crate) fn said(&self) -> usize {
        self.speakers
            .iter()
            .map(|speaker| speaker.bodies.len())
            .sum()
    }

    /// Waits until every reader has everything and judges the whole.
    pub(crate) fn finish(mut self, within: Duration) {
        let said = self.said();
        for (_, tail) in &mut self.readers {
            tail.wait_count_within(within, said);
        }
        let mut history = History::new();
        for mut speaker in self.speakers {
            speaker.pipe.finish(limit()).expect_code(0);
            let sent = speaker.pipe.sent().to_vec();
            assert_eq!(
                sent.len(),
                speaker.bodies.len(),
                "one line for each message"
            );
            for (body, line) in speaker.bodies.into_iter().zip(sent) {
                history.sent(recorder::Send {
                    sender: speaker.user.clone(),
                    room: ROOM.to_owned(),
                    body,
                    outcome: Outcome::Acknowledged,
                    seq: line.seq,
                    id: Some(line.id),
                });
            }
        }
        let mut readers = Vec::new();
        for (user, mut tail) in self.readers {
            history.read(&user, tail.messages());
            assert!(tail.others().is_empty(), "{:?}", tail.others());
            readers.push(user);
        }
        let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
        if let Err(violations) = check(&history, &readers) {
            panic!(
                "{} broken promises, the first: {:?}",
                violations.len(),
                violations[0]
            );
        }
    }
}

/// A server and two hosts federated with it.
pub(crate) fn two_hosts(sandbox: &tests::Sandbox) -> (Server, Host, Host) {
    let server = Server::start(sandbox);
    let ada = Host::start(sandbox, "ada", server.link());
    let bee = Host::start(sandbox, "bee", server.link());
    ada.wait_online();
    bee.wait_online();
    (server, ada, bee)
}
