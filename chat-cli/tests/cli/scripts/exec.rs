//! `chat exec`: what a command prints and how it ended.

use super::{Host, bodies, chat, run, shell, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

/// The last message of `&a` without how long it took, and what was posted before it.
fn posted(host: &Host) -> (String, String) {
    let mut all = bodies(host, "&a");
    let verdict = all.pop().unwrap();
    let (verdict, _) = verdict.rsplit_once(" after ").unwrap();
    (verdict.to_owned(), all.join("\n"))
}

#[test]
fn output_and_exit_status_are_posted_and_passed_on() {
    let host = Host::new();
    let script = "chat exec '&a' -- sh -c 'echo one; echo two >&2; printf three; exit 3'";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stdout(&output), "one\ntwo\nthree");
    assert_eq!(stderr(&output), "");
    let (verdict, text) = posted(&host);
    assert_eq!(text, "one\ntwo\nthree");
    assert!(verdict.starts_with("`sh -c 'echo one;"), "{verdict}");
    assert!(verdict.ends_with("` ended with 3"), "{verdict}");
}

#[test]
fn standard_input_is_the_command_s() {
    let host = Host::new();
    let output = run(&host, "echo in | chat exec '&a' -- cat");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (verdict, text) = posted(&host);
    assert_eq!(
        (verdict.as_str(), text.as_str()),
        ("`cat` ended with 0", "in")
    );
}

#[test]
fn a_command_that_prints_much_is_posted_in_few_messages_and_whole() {
    let host = Host::new();
    let output = run(
        &host,
        "chat exec '&a' -- seq 20000 | cksum; seq 20000 | cksum",
    );
    let sums: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(sums[0], sums[1], "what is copied is whole");
    let mut all = bodies(&host, "&a");
    let verdict = all.pop().unwrap();
    assert!(verdict.starts_with("`seq 20000` ended with 0"), "{verdict}");
    assert!(all.len() < 200, "{} messages", all.len());
    let expected: Vec<_> = (1..=20_000).map(|number| number.to_string()).collect();
    assert!(all.join("\n") == expected.join("\n"));
}

#[test]
fn a_signal_ends_the_command_and_is_told() {
    let host = Host::new();
    for (signal, name, code) in [(Signal::TERM, "SIGTERM", 143), (Signal::INT, "SIGINT", 130)] {
        let mut exec = host
            .chat(&["exec", "&a", "--", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(exec.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill_process(Pid::from_child(&exec), signal).unwrap();
        assert_eq!(exec.wait().unwrap().code(), Some(code));
        let (verdict, _) = posted(&host);
        assert!(
            verdict.ends_with(&format!("was ended by {name}")),
            "{verdict}"
        );
    }
}

#[test]
fn the_command_runs_to_its_end_whatever_the_room_says() {
    let host = Host::new();
    let script =
        "chat exec '#ops' --socket /nowhere/agent.sock -- sh -c 'echo x; touch ran; exit 4'";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(stdout(&output), "x\n");
    assert!(
        stderr(&output).contains("nothing is posted"),
        "{}",
        stderr(&output)
    );
    assert!(host.dir.path().join("ran").exists());

    // The second run prints something else under the same key, which is refused.
    let script = "chat exec '&a' --id job -- date +%N";
    assert_eq!(run(&host, script).status.code(), Some(0));
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("&a does not take this"), "{said}");
    assert!(!stdout(&output).is_empty());
    assert_eq!(bodies(&host, "&a").len(), 2);
}

#[test]
fn what_cannot_be_run_is_told_as_a_shell_does() {
    let host = Host::new();
    for (command, code) in [("no-such-command", 127), ("/", 126)] {
        let output = run(&host, &format!("chat exec '&a' -- {command}"));
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let last = bodies(&host, "&a").pop().unwrap();
        assert!(
            last.starts_with(&format!("`{command}` could not be run")),
            "{last}"
        );
        assert!(stderr(&output).contains(&last), "{}", stderr(&output));
    }
    let output = chat().args(["exec", "&a", "make"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn nobody_waits_for_a_reader_who_is_gone_or_for_what_the_command_left_behind() {
    let host = Host::new();
    let script = "chat exec '&a' -- sh -c 'sleep 600 & echo $! > left; seq 100000' | head -n 1
        kill $(cat left)";
    let output = shell(&host, script).output().unwrap();
    assert_eq!(stdout(&output), "1\n", "{}", stderr(&output));
    let (verdict, text) = posted(&host);
    assert!(verdict.ends_with("ended with 0"), "{verdict}");
    assert!(text.ends_with("\n99999\n100000"));
}
