//! A message written in the person's editor.

use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
};
use thiserror::Error;
use tokio::process::Command;

/// Used if the person names none; every system has one under this name.
const FALLBACK: &str = "vi";

/// Bytes of what was written that are looked at: more than a message may have.
const MAX_BYTES: u64 = 1024 * 1024;

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
    #[error("{editor} ended with {status}: nothing was sent")]
    Failed {
        /// What was run.
        editor: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// What was written is no text.
    #[error("what was written is not UTF-8: nothing was sent")]
    NotText,
}

/// Lets the person write a message that begins with `text`; `None` if nothing remains of it.
///
/// The editor has the terminal meanwhile: nobody else may use it.
///
/// # Errors
///
/// [`EditorError`].
pub(super) async fn write(text: &str) -> Result<Option<String>, EditorError> {
    let mut file = tempfile::Builder::new()
        .prefix("chat-")
        .suffix(".txt")
        .tempfile()?;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let editor = editor();
    let name = editor.to_string_lossy().into_owned();
    // It may be a command line, as in `code --wait`: the shell knows how to read it.
    let status = Command::new("sh")
        .arg("-c")
        .arg("eval \"$CHAT_EDITOR_COMMAND \\\"\\$1\\\"\"")
        .arg("sh")
        .arg(file.path())
        .env("CHAT_EDITOR_COMMAND", &editor)
        .kill_on_drop(true)
        .status()
        .await;
    let status = status.map_err(|reason| EditorError::Run {
        editor: name.clone(),
        reason,
    })?;
    if !status.success() {
        let editor = name;
        return Err(EditorError::Failed { editor, status });
    }
    // By its path: many editors put a new file in its place.
    let written = std::fs::File::open(file.path())?;
    let mut bytes = Vec::new();
    written.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| EditorError::NotText)?;
    let text = text.trim_end();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn editor() -> OsString {
    ["VISUAL", "EDITOR"]
        .into_iter()
        .filter_map(env::var_os)
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| FALLBACK.into())
}
