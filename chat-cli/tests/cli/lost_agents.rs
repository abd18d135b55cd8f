//! An agent that ends under an open conversation: who may start another in its place, and when.

use super::{Host, chat};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// How long an agent may take to come back.
const LIMIT: Duration = Duration::from_secs(20);

/// `chat` without a terminal, in `&lobby`.
struct Pipe {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Pipe {
    fn open(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").unwrap();
    }

    /// The next line that it prints is this message.
    fn expect(&mut self, text: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        if !line.ends_with(&format!("{text}\n")) {
            let mut said = String::new();
            let _ = self.child.kill();
            let _ = self.stderr.read_to_string(&mut said);
            panic!("awaited {text:?}, got {line:?}; it said {said}");
        }
    }

    /// It says this sometime.
    fn expect_said(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without saying {words:?}");
        }
    }

    fn end(self) {
        let Self {
            mut child, stdin, ..
        } = self;
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

/// Ends the agent that a test has started, however the test ends.
pub(super) struct Ended<'a>(pub(super) &'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Some(pid) = pid_of_agent(self.0) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

pub(super) fn pid_of_agent(socket: &Path) -> Option<Pid> {
    let status = chat()
        .args(["status", "--json", "--socket"])
        .arg(socket)
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
    Pid::from_raw(i32::try_from(status["pid"].as_i64()?).unwrap())
}

#[test]
fn an_agent_with_files_of_its_own_is_not_replaced_by_an_empty_one() {
    let mut host = Host::new();
    let elsewhere = host.dir.path().join("elsewhere");
    let mut command = host.chat(&[]);
    let mut pipe = Pipe::open(command.env("CHAT_STATE_DIR", &elsewhere));
    pipe.say("before");
    pipe.expect("before");
    for (signal, text) in [(Signal::KILL, "killed"), (Signal::TERM, "ended")] {
        kill_process(Pid::from_child(&host.agent), signal).unwrap();
        host.agent.wait().unwrap();
        pipe.say(text);
        pipe.expect_said("is not one that this terminal starts");
        assert_eq!(pid_of_agent(&host.socket()), None);
        assert!(!elsewhere.exists(), "an agent was started");
        host.restart();
        pipe.expect(text);
    }
    pipe.end();
}

#[test]
fn a_start_that_fails_does_not_make_a_crash_look_like_an_end() {
    let host = OwnAgent::new();
    let mut pipe = Pipe::open(&mut host.chat());
    pipe.say("one");
    pipe.expect("one");
    let database = host.dir.path().join("state/agent.db");
    let aside = host.dir.path().join("aside.db");
    kill_process(host.pid().unwrap(), Signal::KILL).unwrap();
    std::fs::rename(&database, &aside).unwrap();
    // It was tried, and took the crashed agent's socket away with it.
    pipe.expect_said("no agent could be started");
    std::fs::rename(&aside, &database).unwrap();
    host.wait_for_agent(None);
    pipe.say("two");
    pipe.expect("two");
    pipe.end();
}

#[test]
fn a_pipe_goes_on_in_the_new_life_of_its_room() {
    let host = OwnAgent::new();
    let mut pipe = Pipe::open(&mut host.chat());
    pipe.say("one");
    pipe.expect("one");
    let crashed = host.pid();
    kill_process(crashed.unwrap(), Signal::STOP).unwrap();
    pipe.say("two");
    std::fs::remove_dir_all(host.dir.path().join("state")).unwrap();
    kill_process(crashed.unwrap(), Signal::KILL).unwrap();
    pipe.expect_said("going on with the new one");
    pipe.expect("two");
    pipe.say("three");
    pipe.expect("three");
    pipe.end();
}

/// A host whose agent is started by its terminals.
struct OwnAgent {
    dir: tempfile::TempDir,
}

impl OwnAgent {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("agent.sock")
    }

    fn chat(&self) -> Command {
        let mut command = chat();
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .env("XDG_CONFIG_HOME", self.dir.path());
        command
    }

    fn pid(&self) -> Option<Pid> {
        pid_of_agent(&self.socket())
    }

    /// Waits for another agent than this one.
    fn wait_for_agent(&self, other_than: Option<Pid>) {
        let deadline = Instant::now() + LIMIT;
        while self.pid().is_none_or(|pid| Some(pid) == other_than) {
            assert!(Instant::now() < deadline, "no agent came");
        }
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        drop(Ended(&self.socket()));
    }
}

#[test]
fn an_agent_of_ones_own_comes_back_after_a_crash_and_stays_ended_when_told_to_end() {
    let host = OwnAgent::new();
    let mut pipe = Pipe::open(&mut host.chat());
    let signal = |signal| kill_process(host.pid().unwrap(), signal).unwrap();
    pipe.say("one");
    pipe.expect("one");
    let crashed = host.pid();
    signal(Signal::KILL);
    // Nothing is said that would ask for it.
    pipe.expect_said("looking for it");
    host.wait_for_agent(crashed);
    pipe.say("two");
    pipe.expect("two");
    signal(Signal::TERM);
    pipe.expect_said("started again for the next message");
    assert_eq!(host.pid(), None);
    pipe.say("three");
    pipe.expect("three");
    pipe.end();
}
