//! A message written in the person's editor.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::ExitStatus,
    time::Duration,
};
use tempfile::NamedTempFile;
use thiserror::Error;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// Used if the person names none; every system has one under this name.
const FALLBACK: &str = "vi";

/// Bytes of what was written that are looked at: more than a message may have.
const MAX_BYTES: u64 = 1024 * 1024;

/// How long an editor that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why no message came of it.
#[derive(Debug, Error)]
pub(super) enum EditorError {
    /// The file could not be made or read.
    #[error("the message could not be kept for the editor: {0}")]
    File(#[from] io::Error),
    /// The editor could not be run.
    #[error("{editor} could not be run: {reason}; name another in VISUAL or EDITOR")]
    Run {
        /// What was run.
        editor: String,
        /// What the system said.
        reason: io::Error,
    },
    /// The editor says that something went wrong, or that the person gave up.
    #[error("{editor} ended with {status}: nothing was sent{}", behind(.kept.as_ref()))]
    Failed {
        /// What was run.
        editor: String,
        /// How it ended.
        status: ExitStatus,
        /// Where what was written is, if anything was.
        kept: Option<String>,
    },
    /// What was written is no text.
    #[error("what was written is not UTF-8: nothing was sent{}", behind(.kept.as_ref()))]
    NotText {
        /// Where it is.
        kept: Option<String>,
    },
}

/// What the person did in their editor.
#[derive(Debug)]
pub(super) enum Written {
    /// Wrote nothing, or took all away.
    Nothing,
    /// Left it as it was.
    Unchanged,
    /// Wrote a message; it is also in this file.
    Text(String, NamedTempFile),
}

/// An editor that has the terminal: nobody else may use it meanwhile.
#[derive(Debug)]
pub(super) struct Editor {
    name: String,
    /// What the message began with.
    given: String,
    file: NamedTempFile,
    /// Killed when dropped.
    child: Child,
}

impl Editor {
    /// Lets the person write a message that begins with `text`.
    ///
    /// # Errors
    ///
    /// [`EditorError::File`] or [`EditorError::Run`].
    pub(super) fn open(text: &str) -> Result<Self, EditorError> {
        let mut file = tempfile::Builder::new()
            .prefix("chat-")
            .suffix(".txt")
            .tempfile()?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        let editor = editor();
        let name = editor.to_string_lossy().into_owned();
        // It takes the shell's place, so that it can be told to end; with variables before it, or if
        // it is more than one command, it cannot.
        let first = name.split_whitespace().next().unwrap_or_default();
        let is_simple = !first.contains('=') && !name.contains(['&', '|', ';', '(', '{', '\n']);
        let exec = if is_simple { "exec " } else { "" };
        // It may be a command line, as in `code --wait`: the shell knows how to read it.
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("eval \"{exec}$CHAT_EDITOR_COMMAND \\\"\\$1\\\"\""))
            .arg("sh")
            .arg(file.path())
            .env("CHAT_EDITOR_COMMAND", &editor)
            .kill_on_drop(true)
            .spawn();
        match child {
            Ok(child) => Ok(Self {
                name,
                given: text.to_owned(),
                file,
                child,
            }),
            Err(reason) => Err(EditorError::Run {
                editor: name,
                reason,
            }),
        }
    }

    /// Waits until the person is done.
    ///
    /// # Errors
    ///
    /// What the system said.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What the person left, once the editor has ended.
    ///
    /// # Errors
    ///
    /// [`EditorError`].
    pub(super) fn written(self, status: ExitStatus) -> Result<Written, EditorError> {
        if !status.success() {
            let editor = self.name.clone();
            let kept = self.kept();
            return Err(EditorError::Failed {
                editor,
                status,
                kept,
            });
        }
        let bytes = read(self.file.path())?;
        let text = if bytes.len() as u64 == MAX_BYTES {
            // Cut off, perhaps within a character, and too long in any case.
            String::from_utf8_lossy(&bytes).into_owned()
        } else if let Ok(text) = String::from_utf8(bytes) {
            text
        } else {
            let kept = self.kept();
            return Err(EditorError::NotText { kept });
        };
        Ok(match text.trim_end() {
            "" => Written::Nothing,
            text if text == self.given.trim_end() => Written::Unchanged,
            text => Written::Text(text.to_owned(), self.file),
        })
    }

    /// Passes on that this process is to end, and waits a moment for the editor to put the
    /// terminal in order. Says where what was written is, if anything was.
    pub(super) async fn end(mut self, signal: Signal) -> Option<String> {
        let pid = self.child.id().and_then(|pid| pid.try_into().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            // So that it writes no more.
            let _ = self.child.kill().await;
        }
        self.kept()
    }

    /// Keeps what was written, if that is more than what it began with; says where.
    fn kept(self) -> Option<String> {
        let written = read(self.file.path()).ok()?;
        let (written, given) = (written.trim_ascii_end(), self.given.trim_ascii_end());
        (!written.is_empty() && written != given.as_bytes()).then(|| keep(self.file))
    }
}

/// What the file has now: by its path, as many editors put a new file in its place.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn behind(kept: Option<&String>) -> String {
    kept.map_or_else(String::new, |kept| format!("; {kept}"))
}

/// Keeps what cannot be sent; says where.
pub(super) fn keep(file: NamedTempFile) -> String {
    let path = file.path().display().to_string();
    // By its path: the file that was made first may be gone.
    match file.into_temp_path().keep() {
        Ok(_) => format!("what you wrote is in {path}"),
        Err(error) => format!("what you wrote could not be kept: {error}"),
    }
}

fn editor() -> OsString {
    ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(env::var_os)
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| FALLBACK.into())
}
