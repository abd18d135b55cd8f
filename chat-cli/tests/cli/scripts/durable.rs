//! `chat tail --durable`: the agent keeps a consumer's place.

use super::{Host, json, run, stderr};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Stdio},
};

const TAIL: &[&str] = &["tail", "&a", "--durable", "w", "--json"];

fn say(host: &Host, numbers: std::ops::RangeInclusive<u32>) {
    let input: String = numbers.map(|number| format!("{number}\n")).collect();
    let output = host.run_with_input(&["send", "&a"], input.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn numbers(lines: &[serde_json::Value]) -> Vec<u32> {
    let number = |line: &serde_json::Value| line["body"].as_str().unwrap().parse().unwrap();
    lines.iter().map(number).collect()
}

/// What the consumer has not taken, which it takes now.
fn rest(host: &Host) -> Vec<u32> {
    let output = host.run(TAIL);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    numbers(&json(&output))
}

fn start(host: &Host, args: &[&str]) -> (Child, ChildStdout) {
    let mut tail = host
        .chat(&[TAIL, args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = tail.stdout.take().unwrap();
    (tail, stdout)
}

/// Takes exactly one line out of a pipe.
fn take_line(stdout: &mut ChildStdout) -> Option<serde_json::Value> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 {
        if byte[0] == b'\n' {
            return Some(serde_json::from_slice(&line).unwrap());
        }
        line.push(byte[0]);
    }
    None
}

fn take(stdout: &mut ChildStdout, count: usize) -> Vec<u32> {
    let lines: Vec<_> = (0..count).map(|_| take_line(stdout).unwrap()).collect();
    numbers(&lines)
}

#[test]
fn a_consumer_goes_on_where_it_was() {
    let host = Host::new();
    say(&host, 1..=3);
    assert_eq!(rest(&host), [1, 2, 3]);
    assert!(rest(&host).is_empty());
    say(&host, 4..=5);
    // Where to begin is for the first time only.
    for (since, expected) in [("0", &[4, 5][..]), ("2100-01-01", &[6])] {
        let args = [TAIL, &["--since", since]].concat();
        assert_eq!(numbers(&json(&host.run(&args))), expected);
        say(&host, 6..=6);
    }
    rest(&host);
    // Another has a place of its own, and begins where it is told to.
    let other = [
        "tail",
        "&a",
        "--durable",
        "v",
        "--json",
        "--since",
        "2100-01-01",
    ];
    assert!(json(&host.run(&other)).is_empty());
    say(&host, 7..=7);
    assert_eq!(rest(&host), [7]);
    let output = host.run(&["tail", "&a", "--durable", "no name"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_count_ends_it_and_the_next_goes_on() {
    let host = Host::new();
    say(&host, 1..=5);
    let two = [TAIL, &["--count", "2"]].concat();
    for expected in [[1, 2], [3, 4]] {
        assert_eq!(numbers(&json(&host.run(&two))), expected);
    }
    let script = "chat tail '&a' --durable w --json --count 1 | cat";
    assert_eq!(run(&host, script).status.code(), Some(0));
    assert!(rest(&host).is_empty());
}

#[test]
fn what_the_reader_had_not_taken_comes_again_and_nothing_else() {
    let host = Host::new();
    say(&host, 1..=50);
    let (tail, mut stdout) = start(&host, &["--follow"]);
    assert_eq!(take(&mut stdout, 3), [1, 2, 3]);
    drop(stdout);
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    for signal in [Signal::TERM, Signal::INT] {
        let (tail, mut stdout) = start(&host, &["--follow"]);
        let first = take(&mut stdout, 1)[0];
        assert_eq!(take(&mut stdout, 1), [first + 1]);
        kill_process(Pid::from_child(&tail), signal).unwrap();
        let output = tail.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let rest = rest(&host);
    assert_eq!(rest, (8..=50).collect::<Vec<_>>());
}

#[test]
fn nothing_is_lost_whenever_the_reader_s_command_or_the_agent_is_killed() {
    const LAST: u32 = 3_000;
    let mut host = Host::new();
    say(&host, 1..=LAST);
    let mut seen = 0;
    let mut round = 0;
    while seen < LAST {
        round += 1;
        let (mut tail, stdout) = start(&host, &["--follow"]);
        let mut lines = BufReader::new(stdout).lines();
        // A different point in each round.
        for taken in 0..=(round * 37) % 400 {
            let line = lines.next().unwrap().unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let number = numbers(&[line])[0];
            assert!(number <= seen + 1, "{} to {number} are lost", seen + 1);
            assert!(taken == 0 || number <= seen + 1, "out of order");
            seen = seen.max(number);
            if seen == LAST {
                break;
            }
        }
        if round % 5 == 0 {
            host.agent.kill().unwrap();
            host.agent.wait().unwrap();
            host.restart();
        }
        tail.kill().unwrap();
        // What is in the pipe still is for the reader to take.
        for line in lines.map_while(Result::ok) {
            let Ok(line) = serde_json::from_str(&line) else {
                continue;
            };
            let number = numbers(&[line])[0];
            assert!(number <= seen + 1, "{} to {number} are lost", seen + 1);
            seen = seen.max(number);
        }
        tail.wait().unwrap();
    }
    assert!(round > 1);
}

#[test]
fn with_confirmations_only_what_the_reader_is_done_with_counts() {
    let host = Host::new();
    say(&host, 1..=5);
    let explicit = ["--confirm-stdin"];
    let (mut tail, mut stdout) = start(&host, &explicit);
    let mut stdin = tail.stdin.take().unwrap();
    let lines: Vec<_> = (0..5).map(|_| take_line(&mut stdout).unwrap()).collect();
    // Its end is seen although the command waits for the reader.
    assert!(take_line(&mut stdout).is_none());
    for line in &lines[..2] {
        writeln!(stdin, "{}", line["cursor"].as_str().unwrap()).unwrap();
    }
    drop(stdin);
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    // Killed after taking everything, but before being done with anything.
    let (mut tail, mut stdout) = start(&host, &["--confirm-stdin", "--follow"]);
    assert_eq!(take(&mut stdout, 3), [3, 4, 5]);
    tail.kill().unwrap();
    tail.wait().unwrap();

    let script = "mkfifo done
        chat tail '&a' --durable w --json --confirm-stdin < done |
        while read -r line; do
            echo \"$line\" >> worked
            echo \"$line\" | sed 's/.*\"cursor\":\"\\([^\"]*\\)\".*/\\1/'
        done > done";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let worked = std::fs::read_to_string(host.dir.path().join("worked")).unwrap();
    let worked: Vec<_> = worked
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(numbers(&worked), [3, 4, 5]);
    assert!(rest(&host).is_empty());
}

#[test]
fn a_confirmation_that_is_no_cursor_is_refused() {
    let host = Host::new();
    say(&host, 1..=1);
    let args = [TAIL, &["--confirm-stdin", "--follow"]].concat();
    for bad in ["7", "0", "#b=0123456789abcdef.1"] {
        let output = host.run_with_input(&args, format!("\n{bad}\n").as_bytes());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("line 2"), "{}", stderr(&output));
    }
    for usage in [
        &["tail", "&a", "--confirm-stdin"][..],
        &["tail", "&a", "--durable", "w", "--confirm-stdin"],
    ] {
        assert_eq!(host.run(usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn several_rooms_have_a_place_each() {
    let host = Host::new();
    let args = [
        "tail",
        "&a",
        "&b",
        "--durable",
        "w",
        "--json",
        "--confirm-stdin",
    ];
    for room in ["&a", "&b"] {
        host.run(&["send", room, "1"]);
        host.run(&["send", room, "2"]);
    }
    let mut tail = host
        .chat(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = tail.stdout.take().unwrap();
    let mut stdin = tail.stdin.take().unwrap();
    let lines: Vec<_> = (0..4).map(|_| take_line(&mut stdout).unwrap()).collect();
    let third = lines[2]["cursor"].as_str().unwrap();
    writeln!(stdin, "{third}").unwrap();
    drop(stdin);
    assert_eq!(tail.wait().unwrap().code(), Some(0));
    let args = ["tail", "&a", "&b", "--durable", "w", "--json"];
    let rest = json(&host.run(&args));
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0]["id"], lines[3]["id"]);
}

#[test]
fn a_log_that_was_made_anew_is_told_and_read_from_its_beginning() {
    let mut host = Host::new();
    say(&host, 1..=3);
    assert_eq!(rest(&host), [1, 2, 3]);
    let (mut tail, mut stdout) = start(&host, &["--follow"]);
    say(&host, 4..=4);
    assert_eq!(take(&mut stdout, 1), [4]);
    host.renew();
    assert_eq!(take(&mut stdout, 4), [1, 2, 3, 4]);
    kill_process(Pid::from_child(&tail), Signal::TERM).unwrap();
    drop(stdout);
    let mut said = String::new();
    let mut errors = tail.stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("recreated or restored"), "{said}");
    assert!(rest(&host).is_empty());

    host.renew();
    let output = host.run(TAIL);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("&a was recreated or restored since w"),
        "{said}"
    );
    assert_eq!(numbers(&json(&output)), [1, 2, 3, 4]);
    assert!(rest(&host).is_empty());
}
