//! The program in tmux, which shows what a person sees, rewrapped when its window changes.

use crate::harness::LIMIT;
use rustix::termios::tcgetwinsize;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// A window of tmux with one conversation, on a server of its own.
pub(crate) struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Opens a conversation in `dir`, whose agent it starts if there is none.
    pub(crate) fn open(dir: &Path, nick: &str, columns: u16, rows: u16) -> Self {
        let chat = env!("CARGO_BIN_EXE_chat");
        let at = dir.display();
        let command = format!(
            "exec {chat} --nick {nick} --socket {at}/agent.sock --state-dir {at}/state 2>{at}/err"
        );
        Self::run_in(dir, nick, &command, columns, rows)
    }

    /// Opens a shell.
    pub(crate) fn open_shell(dir: &Path, name: &str, columns: u16, rows: u16) -> Self {
        Self::run_in(dir, name, "exec bash --norc --noprofile -i", columns, rows)
    }

    fn run_in(dir: &Path, name: &str, command: &str, columns: u16, rows: u16) -> Self {
        let tmux = Self {
            socket: dir.join(format!("{name}.tmux")),
        };
        let size = [columns, rows].map(|number| number.to_string());
        tmux.run(&[
            "-f",
            "/dev/null",
            "start-server",
            ";",
            "set-option",
            "-g",
            "history-limit",
            "20000",
            ";",
            "new-session",
            "-d",
            "-x",
            &size[0],
            "-y",
            &size[1],
            command,
        ]);
        tmux
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-u")
            .arg("-S")
            .arg(&self.socket)
            .args(args)
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("XDG_CONFIG_HOME", self.socket.parent().unwrap())
            .env_remove("TMUX")
            .env_remove("STY")
            .env("CHAT_HOST", "ada")
            .output()
            .expect("tmux is needed: apt-get install tmux");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types `keys` as they are.
    pub(crate) fn keys(&self, keys: &str) {
        self.run(&["send-keys", "-l", "--", keys]);
    }

    /// Presses a key by the name that tmux has for it.
    pub(crate) fn key(&self, name: &str) {
        self.run(&["send-keys", name]);
    }

    /// Gives the window another width, and waits until the program can see it.
    pub(crate) fn resize(&self, columns: u16) {
        self.run(&["resize-window", "-x", &columns.to_string()]);
        let tty = self.run(&["display-message", "-p", "#{pane_tty}"]);
        let tty = File::open(tty.trim()).unwrap();
        let deadline = Instant::now() + LIMIT;
        while tcgetwinsize(&tty).unwrap().ws_col != columns {
            assert!(Instant::now() < deadline, "tmux kept its size");
            // Asking again gives tmux the occasion to go on.
            self.run(&["display-message", "-p", ""]);
        }
    }

    /// All that is in the window and above it, each line in one, however it is wrapped.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.run(&["capture-pane", "-p", "-J", "-S", "-"]);
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// What is in the window, each row by itself.
    pub(crate) fn window(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until what is in the window and above it is as it should be.
    pub(crate) fn await_lines(&self, what: &str, good: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let lines = self.lines();
            if good(&lines) {
                return lines;
            }
            assert!(
                Instant::now() < deadline,
                "awaited {what}, last seen:\n{}",
                lines.join("\n")
            );
        }
    }

    /// Waits until some line ends with `text`.
    pub(crate) fn await_end(&self, text: &str) -> Vec<String> {
        self.await_lines(text, |lines| lines.iter().any(|line| line.ends_with(text)))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It may have ended with its only window.
        let _ = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .arg("kill-server")
            .output();
    }
}
