//! What was there already and what comes are told apart.

use super::Host;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    process::{ChildStdout, Stdio},
};

/// The next message: what it says, and whether it is live.
fn next(stdout: &mut BufReader<ChildStdout>) -> (String, bool) {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let message: serde_json::Value = serde_json::from_str(&line).unwrap();
    let last = message.as_object().unwrap().keys().next_back();
    assert_eq!(last.map(String::as_str), Some("live"));
    let body = message["body"].as_str().unwrap().to_owned();
    (body, message["live"].as_bool().unwrap())
}

#[test]
fn backlog_and_live_are_told_apart_also_after_the_agent_was_lost() {
    let mut host = Host::new();
    host.run(&["send", "&a", "before"]);
    let mut tail = host
        .chat(&["tail", "&a", "--follow", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(tail.stdout.take().unwrap());
    assert_eq!(next(&mut stdout), ("before".to_owned(), false));
    // Where the backlog ends is for the agent to say.
    let until_live = |stdout: &mut BufReader<ChildStdout>| {
        loop {
            host.run(&["send", "&a", "more"]);
            if next(stdout).1 {
                return;
            }
        }
    };
    until_live(&mut stdout);
    host.run(&["send", "&a", "more"]);
    assert_eq!(next(&mut stdout), ("more".to_owned(), true));

    let signal = |signal| kill_process(Pid::from_child(&tail), signal).unwrap();
    signal(Signal::STOP);
    host.agent.kill().unwrap();
    host.agent.wait().unwrap();
    host.restart();
    host.run(&["send", "&a", "missed"]);
    signal(Signal::CONT);
    assert_eq!(next(&mut stdout), ("missed".to_owned(), false));
    tail.kill().unwrap();
    tail.wait().unwrap();
}
