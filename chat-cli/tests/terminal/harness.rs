//! Programs at pseudo-terminals, and the agent behind them.

use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A process that does not outlive its test.
pub(crate) struct Kept(pub(crate) Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Terminal {
    pub(crate) child: Kept,
    pub(crate) control: File,
    /// Our own hold on the terminal's other side, to look at its modes.
    pub(crate) line: OwnedFd,
    /// How the modes were before.
    found: String,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    pub(crate) fn open(dir: &Path, nick: &str) -> Self {
        Self::open_in(dir, nick, (80, 24), &[])
    }

    /// With so many columns and rows, and more in the environment.
    pub(crate) fn open_in(dir: &Path, nick: &str, size: (u16, u16), env: &[(&str, &str)]) -> Self {
        Self::verb(dir, nick, size, &[], env)
    }

    /// `chat ARGS…` at a terminal of so many columns and rows.
    pub(crate) fn verb(
        dir: &Path,
        nick: &str,
        (columns, rows): (u16, u16),
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut chat = Command::new(env!("CARGO_BIN_EXE_chat"));
        chat.args(args)
            .args(["--nick", nick])
            .arg("--socket")
            .arg(dir.join("agent.sock"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("XDG_CONFIG_HOME", dir)
            .env_remove("CHAT_HOST")
            .envs(env.iter().copied());
        Self::run(chat, (columns, rows), !args.is_empty())
    }

    /// With this program; `whole` if what it says on standard error is for the terminal, too.
    pub(crate) fn run(mut program: Command, (columns, rows): (u16, u16), whole: bool) -> Self {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let path = ptsname(&control, Vec::new()).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let line: OwnedFd = File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
            .into();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).unwrap();
        let child = program
            .env("TERM", "xterm")
            // Ctrl-Z stops the whole group.
            .process_group(0)
            .stdin(Stdio::from(line.try_clone().unwrap()))
            .stdout(Stdio::from(line.try_clone().unwrap()))
            .stderr(if whole {
                Stdio::from(line.try_clone().unwrap())
            } else {
                Stdio::inherit()
            })
            .spawn()
            .unwrap();
        let control = File::from(control);
        let mut reading = control.try_clone().unwrap();
        // What nobody expects is soon not read any more, and the terminal is stuck.
        let (tx, output) = sync_channel(1);
        // Ends when the terminal's other side is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                if tx.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child: Kept(child),
            control,
            found: modes(&line),
            line,
            output,
            seen: String::new(),
        }
    }

    pub(crate) fn keys(&mut self, keys: &str) {
        self.control.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for `text` after what was expected before; all that came, with it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                return self.seen.drain(..at + text.len()).collect();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("awaited {text:?}, last seen: {:?}", self.seen),
            }
        }
    }

    /// Everything that was written to the terminal of a program that has ended.
    pub(crate) fn rest(self) -> String {
        let Self {
            line,
            output,
            mut seen,
            ..
        } = self;
        drop(line);
        for bytes in output {
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).unwrap();
    }

    /// Whether the modes are as they were before.
    pub(crate) fn is_as_found(&self) -> bool {
        modes(&self.line) == self.found
    }

    /// Waits until the program is stopped.
    pub(crate) fn await_stop(&self) {
        let pid = Pid::from_child(&self.child.0);
        let deadline = Instant::now() + LIMIT;
        let options = WaitOptions::UNTRACED | WaitOptions::NOHANG;
        loop {
            match waitpid(Some(pid), options).unwrap() {
                Some((_, status)) if status.stopped() => return,
                Some((_, status)) => panic!("it ended: {status:?}"),
                None => assert!(Instant::now() < deadline, "it does not stop"),
            }
            thread::yield_now();
        }
    }

    pub(crate) fn end(mut self) {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            // What it says last may be more than the terminal holds.
            let _ = self.output.try_recv();
            thread::yield_now();
        };
        assert_eq!(status.code(), Some(0));
        assert!(self.is_as_found(), "the terminal was left otherwise");
    }
}

/// All modes of a terminal.
fn modes(line: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(line).unwrap())
}

/// Ends the agent that the terminals started.
pub(crate) struct Agent<'a>(pub(crate) &'a Path);

impl Agent<'_> {
    pub(crate) fn pid(&self) -> Option<Pid> {
        let output = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["status", "--json", "--socket"])
            .arg(self.0.join("agent.sock"))
            .output()
            .ok()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        i32::try_from(status["pid"].as_i64()?)
            .ok()
            .and_then(Pid::from_raw)
    }

    pub(crate) fn kill(&self) {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
}

/// A server, which can be killed and come back under its address.
pub(crate) struct Server<'a> {
    dir: &'a Path,
    pub(crate) address: String,
    /// What lets hosts in, as `chat join` takes it.
    pub(crate) link: String,
    process: Kept,
    /// So that it can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl<'a> Server<'a> {
    pub(crate) fn start(dir: &'a Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// With more on its command line, until it is started again.
    pub(crate) fn start_with(dir: &'a Path, args: &[&str]) -> Self {
        Self::start_at(dir, "127.0.0.1:0", None, args)
    }

    fn start_at(dir: &'a Path, address: &str, link: Option<String>, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["server", "--listen", address, "--state-dir"])
            .arg(dir.join("server"))
            .args(args)
            .env("XDG_CONFIG_HOME", dir)
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let process = Kept(process);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").expect("an address");
        let address = address.trim().to_owned();
        // Only the first start invites.
        let link = link.unwrap_or_else(|| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let link = line.strip_prefix("chat join ").expect("an invitation");
            link.trim().to_owned()
        });
        Self {
            dir,
            address,
            link,
            process,
            _stdout: stdout,
        }
    }

    pub(crate) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Starts it again after it was killed.
    pub(crate) fn come_back(&mut self) {
        *self = Self::start_at(self.dir, &self.address, Some(self.link.clone()), &[]);
    }
}

/// Runs `chat ARGS…` with `input` until it ends; what it printed.
pub(crate) fn chat(dir: &Path, nick: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chat"))
        .args(args)
        .args(["--nick", nick, "--socket"])
        .arg(dir.join("agent.sock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that was said in `&lobby`, in its order.
pub(crate) fn said(dir: &Path) -> Vec<String> {
    let args = ["tail", "&lobby", "--since", "0", "--json"];
    chat(dir, "reader", &args, "")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect()
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}
