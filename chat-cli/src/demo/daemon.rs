//! The tour's server and agents: this program again, as child processes.

use crate::{daemons, exit::Failure};
use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long a daemon may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);

/// Bytes of a daemon's log that are shown when it fails.
const SHOWN_BYTES: usize = 2_000;

/// A child process; killed when dropped.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    /// Kept so that the daemon can go on writing.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// What it said after the words that mean ready: its address or path.
    pub(super) ready: String,
}

impl Daemon {
    /// Starts `chat ARGS…` and waits for the line that begins with `ready`.
    pub(super) async fn start<A: AsRef<OsStr>>(
        args: impl IntoIterator<Item = A>,
        ready: &str,
        log: &Path,
    ) -> Result<Self, Failure> {
        let failed = |what: &str| Failure::failed(format_args!("{what}{}", said(log)));
        let spawn = || -> std::io::Result<Child> {
            let mut command = Command::new(std::env::current_exe()?);
            // The settings of the person who watches are not the tour's.
            for (name, _) in std::env::vars_os() {
                if name.as_encoded_bytes().starts_with(b"CHAT_") {
                    command.env_remove(name);
                }
            }
            command
                .args(args)
                .env("XDG_CONFIG_HOME", log.with_extension("config"))
                .env(daemons::ENDS_WITH_PARENT, "1")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(File::options().append(true).create(true).open(log)?)
                .kill_on_drop(true)
                .spawn()
        };
        let mut child = spawn()
            .map_err(|error| Failure::failed(format_args!("no daemon could be run: {error}")))?;
        let stdout = child.stdout.take().expect("it was asked for");
        let mut lines = BufReader::new(stdout).lines();
        let awaited = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(ready) {
                    return Ok(Some(rest.trim().to_owned()));
                }
            }
            std::io::Result::Ok(None)
        };
        match timeout(READY, awaited).await {
            Ok(Ok(Some(ready))) => Ok(Self {
                child,
                _stdout: lines,
                ready,
            }),
            Ok(_) => Err(failed("a daemon ended before it was ready")),
            Err(_) => Err(failed("a daemon was not ready in time")),
        }
    }

    /// Ends it as a crash would (SIGKILL).
    pub(super) async fn kill(mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .await
            .map_err(|error| Failure::failed(format_args!("a daemon cannot be killed: {error}")))
    }
}

/// The end of a daemon's log, for a failure's message.
fn said(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let tail = &bytes[bytes.len().saturating_sub(SHOWN_BYTES)..];
    match String::from_utf8_lossy(tail).trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}

/// Where one daemon of the tour keeps its things.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) state: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
}

impl Place {
    pub(super) fn new(dir: &Path, name: &str) -> Self {
        Self {
            state: dir.join(name).join("state"),
            socket: dir.join(name).join("agent.sock"),
            log: dir.join(format!("{name}.log")),
        }
    }
}
