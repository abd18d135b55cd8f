//! The real `chat` command, as one person on one host uses it.

use crate::{
    host::Host,
    process::{Finished, Place, Process, Signal},
    session::Session,
    wait::{eventually_within, limit},
};
use serde::Deserialize;
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    process::{ChildStdin, Command},
    time::Duration,
};

/// What `chat send --json` prints for a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SentLine {
    /// The message's id.
    pub id: String,
    /// Where it went.
    pub room: String,
    /// `queued` or `committed`.
    pub state: String,
    /// Its place, once it has one.
    #[serde(default)]
    pub seq: Option<u64>,
}

/// What `chat tail --json` prints for a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MessageLine {
    /// Whose log.
    pub room: String,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// `nick@host`.
    pub from: String,
    /// What it says.
    pub body: String,
    /// When its author's agent took it.
    pub sent_at: String,
    /// When it was committed.
    pub committed_at: String,
    /// Resumes after it.
    pub cursor: String,
}

/// A person's way to run `chat` on a host. Outlives the agent.
#[derive(Debug, Clone)]
pub struct Terminal {
    nick: String,
    host: String,
    place: Place,
    socket: PathBuf,
    state_dir: PathBuf,
    logs: PathBuf,
}

impl Terminal {
    /// For `nick` on `host`.
    #[must_use]
    pub fn new(host: &Host, nick: &str) -> Self {
        Self {
            nick: nick.to_owned(),
            host: host.name().to_owned(),
            place: host.place().clone(),
            socket: host.socket().to_owned(),
            state_dir: host.state_dir().to_owned(),
            logs: host.logs().to_owned(),
        }
    }

    /// The same person's commands run elsewhere, or as another OS user.
    #[must_use]
    pub fn in_place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// `nick@host`.
    #[must_use]
    pub fn user(&self) -> String {
        format!("{}@{}", self.nick, self.host)
    }

    /// `chat WORDS…` with this person's socket, state directory and nick.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.place.chat();
        command
            .env("CHAT_SOCKET", &self.socket)
            .env("CHAT_STATE_DIR", &self.state_dir)
            .env("CHAT_NICK", &self.nick)
            .args(words);
        command
    }

    /// Runs `chat WORDS…` to its end.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        self.start(words).wait()
    }

    /// Starts `chat WORDS…`.
    #[must_use]
    pub fn start<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Process {
        Process::start(&self.nick, &mut self.command(words), &self.logs)
    }

    /// Starts `chat WORDS…` with a pipe to its standard input.
    #[must_use]
    pub fn start_piped<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Process {
        Process::start_piped(&self.nick, &mut self.command(words), &self.logs)
    }

    /// `chat send`, which must be accepted.
    pub fn send(&self, room: &str, text: &str) -> SentLine {
        self.send_with(room, text, &[])
    }

    /// `chat send --wait committed`, which must be committed.
    pub fn send_committed(&self, room: &str, text: &str) -> SentLine {
        let line = self.send_with(room, text, &["--wait", "committed"]);
        assert_eq!(line.state, "committed", "{line:?}");
        line
    }

    /// `chat send` with further options, which must be accepted.
    pub fn send_with(&self, room: &str, text: &str, options: &[&str]) -> SentLine {
        let words = ["send", "--json", room, text];
        let words = words.iter().chain(options);
        let lines = sent_lines(&self.run(words).ok());
        assert_eq!(lines.len(), 1, "one line for one message: {lines:?}");
        lines.into_iter().next().expect("just counted")
    }

    /// `chat send ROOM --json` with a pipe to it.
    #[must_use]
    pub fn pipe(&self, room: &str) -> Pipe {
        let mut process = self.start_piped(["send", "--json", room]);
        let stdin = process.take_stdin();
        let lines = Lines::new(process.stdout_path().to_owned());
        Pipe {
            process,
            stdin,
            lines,
            sent: Vec::new(),
        }
    }

    /// `chat tail ROOMS --follow --json --since SINCE`.
    #[must_use]
    pub fn tail(&self, rooms: &[&str], since: &str) -> Tail {
        let options = ["--follow", "--json", "--since", since];
        Tail::new(self.start(["tail"].iter().chain(rooms).chain(&options)))
    }

    /// Everything a room has, read to its end by `chat tail --since 0 --json`.
    pub fn read_all(&self, room: &str) -> Vec<MessageLine> {
        let output = self.run(["tail", room, "--since", "0", "--json"]).ok();
        message_lines(&output)
    }

    /// A raw session at the same agent.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::open(&self.socket, &self.nick, true)
            .unwrap_or_else(|error| panic!("session of {}: {error}", self.user()))
    }
}

/// A `chat send` that reads messages from a pipe.
#[derive(Debug)]
pub struct Pipe {
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Lines,
    sent: Vec<SentLine>,
}

impl Pipe {
    /// Hands it one message.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(format!("{text}\n").as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// What it has reported as sent so far, in the order of its lines.
    pub fn sent(&mut self) -> &[SentLine] {
        for line in self.lines.more() {
            self.sent.extend(parse_typed(&line, "sent"));
        }
        &self.sent
    }

    /// Ends its input and waits for its end.
    pub fn finish(&mut self, limit: Duration) -> Finished {
        self.stdin = None;
        self.process.wait_within(limit)
    }

    /// The process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A `chat tail --follow --json`.
#[derive(Debug)]
pub struct Tail {
    process: Process,
    lines: Lines,
    messages: Vec<MessageLine>,
    others: Vec<String>,
}

impl Tail {
    /// Reads the output of `process`, which prints JSON lines.
    #[must_use]
    pub fn new(process: Process) -> Self {
        let lines = Lines::new(process.stdout_path().to_owned());
        Self {
            process,
            lines,
            messages: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The messages printed so far.
    pub fn messages(&mut self) -> &[MessageLine] {
        for line in self.lines.more() {
            match parse_typed(&line, "message") {
                Some(message) => self.messages.push(message),
                None => self.others.push(line),
            }
        }
        &self.messages
    }

    /// The lines printed so far that are no messages.
    pub fn others(&mut self) -> &[String] {
        self.messages();
        &self.others
    }

    /// The bodies printed so far.
    pub fn bodies(&mut self) -> Vec<String> {
        self.messages()
            .iter()
            .map(|message| message.body.clone())
            .collect()
    }

    /// Waits until it has printed `count` messages.
    pub fn wait_count(&mut self, count: usize) -> &[MessageLine] {
        self.wait_count_within(limit(), count)
    }

    /// As [`Tail::wait_count`], with a limit of its own.
    pub fn wait_count_within(&mut self, limit: Duration, count: usize) -> &[MessageLine] {
        eventually_within(limit, &format!("a reader prints {count} messages"), || {
            let have = self.messages().len();
            if have >= count {
                return Ok(());
            }
            let running = self.process.is_running();
            let seen = format!("{have}, last {:?}", self.messages.last());
            assert!(
                running,
                "the reader ended at {seen}: {}",
                self.process.stderr()
            );
            Err(seen)
        });
        &self.messages
    }

    /// Waits until it has printed a message that says `body`.
    pub fn wait_for(&mut self, body: &str) -> MessageLine {
        eventually_within(limit(), &format!("a reader prints {body:?}"), || {
            let found = self.messages().iter().find(|message| message.body == body);
            if let Some(message) = found {
                return Ok(message.clone());
            }
            let running = self.process.is_running();
            let seen = format!(
                "{} messages, last {:?}",
                self.messages.len(),
                self.messages.last()
            );
            assert!(
                running,
                "the reader ended at {seen}: {}",
                self.process.stderr()
            );
            Err(seen)
        })
    }

    /// The process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends the process a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }
}

/// A growing file, read line by line; a line without its end waits for it.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Lines {
    const fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            partial: Vec::new(),
        }
    }

    fn more(&mut self) -> Vec<String> {
        let mut file = File::open(&self.path).expect("output file");
        file.seek(SeekFrom::Start(self.offset))
            .expect("seek in output");
        let read = file.read_to_end(&mut self.partial).expect("read output");
        self.offset += u64::try_from(read).expect("file length");
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        let text = String::from_utf8(whole).expect("output is UTF-8");
        text.lines().map(str::to_owned).collect()
    }
}

/// The lines of `chat send --json`.
///
/// # Panics
///
/// If one is something else.
#[must_use]
pub fn sent_lines(output: &str) -> Vec<SentLine> {
    output
        .lines()
        .map(|line| parse_typed(line, "sent").unwrap_or_else(|| panic!("not sent: {line}")))
        .collect()
}

/// The messages of `chat tail --json`.
///
/// # Panics
///
/// If a line is something else.
#[must_use]
pub fn message_lines(output: &str) -> Vec<MessageLine> {
    output
        .lines()
        .map(|line| parse_typed(line, "message").unwrap_or_else(|| panic!("no message: {line}")))
        .collect()
}

/// Reads `line` if its "type" is `kind`.
fn parse_typed<T: for<'a> Deserialize<'a>>(line: &str, kind: &str) -> Option<T> {
    let value: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    let told = value.get("type").and_then(serde_json::Value::as_str);
    if told != Some(kind) {
        return None;
    }
    let parsed = serde_json::from_value(value);
    Some(parsed.unwrap_or_else(|error| panic!("{kind} of another shape ({error}): {line}")))
}
