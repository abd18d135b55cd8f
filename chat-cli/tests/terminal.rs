//! The conversation at a real pseudo-terminal.

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

struct Terminal {
    child: Child,
    control: File,
    /// Our own hold on the terminal's other side, to look at its modes.
    line: OwnedFd,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn open(dir: &Path, nick: &str) -> Self {
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
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["--nick", nick])
            .arg("--socket")
            .arg(dir.join("agent.sock"))
            .arg("--state-dir")
            .arg(dir.join("state"))
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .env("XDG_CONFIG_HOME", dir)
            .env_remove("CHAT_HOST")
            .stdin(Stdio::from(line.try_clone().unwrap()))
            .stdout(Stdio::from(line.try_clone().unwrap()))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let control = File::from(control);
        let mut reading = control.try_clone().unwrap();
        let (tx, output) = channel();
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
            child,
            control,
            line,
            output,
            seen: String::new(),
        }
    }

    fn keys(&mut self, keys: &str) {
        self.control.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for `text` after what was expected before.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("awaited {text:?}, last seen: {:?}", self.seen),
            }
        }
    }

    fn is_canonical(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn end(mut self) {
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(self.is_canonical(), "the terminal was left in raw mode");
    }
}

/// Ends the agent that the terminals started.
struct Agent<'a>(&'a Path);

impl Agent<'_> {
    fn pid(&self) -> Option<i32> {
        let output = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["status", "--json", "--socket"])
            .arg(self.0.join("agent.sock"))
            .output()
            .ok()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        i32::try_from(status["pid"].as_i64()?).ok()
    }

    fn kill(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        if let Some(pid) = self.pid().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).unwrap();
        }
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_half_typed_line_survives_arrivals() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("&lobby> ");
    bob.keys("half ty");
    bob.expect("half ty");
    alice.keys("an arrival\r");
    bob.expect("an arrival");
    // It is painted again below the arrival, and can be gone on with.
    bob.expect("&lobby> half ty");
    bob.keys("ped\r");
    alice.expect("half typed");
    alice.keys("/quit\r");
    alice.end();
    bob.keys("\x04");
    bob.end();
}

#[test]
fn keys_typed_ahead_of_a_command_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("one\r/join &other\rtwo\r//three\r");
    alice.expect("&other> ");
    alice.expect("alice     two");
    alice.expect("alice     /three");
    alice.keys("/quit\r");
    alice.end();
}

#[test]
fn a_terminal_outlives_its_agent() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys("before\r");
    alice.expect("alice     before");
    agent.kill();
    alice.expect("the agent is gone");
    alice.keys("meanwhile\r");
    alice.expect("the agent is back");
    alice.expect("alice     meanwhile");
    alice.keys("\x03");
    alice.expect("Ctrl-C once more");
    alice.keys("\x03");
    alice.end();
}
