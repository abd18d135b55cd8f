//! Starting an agent in the background, once, whoever else tries at the same time.

use crate::{
    config::Config,
    socket::{Access, Lock, prepare_dir},
};
use anyhow::{Context, bail};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the agent says on standard output, with the socket's path behind it, when it answers.
pub const READY: &str = "ready on ";

/// A log larger than this is put aside at the next start.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Starts an agent unless one answers, and returns when one does.
///
/// A lock lets one starter at a time look and start; the next one finds the agent running. The
/// agent is this program again, with the same flags, and belongs to no terminal and no parent.
///
/// # Errors
///
/// If it does not come up: with what it said last, and where the rest is.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let socket = &config.socket.value;
    let access = Access::of_group(config.group.value.as_deref())?;
    prepare_dir(
        socket,
        access,
        if access == Access::Owner {
            0o700
        } else {
            0o750
        },
    )?;
    let _one_at_a_time = Lock::wait(&starting_path(socket))?;
    if UnixStream::connect(socket).is_ok() {
        return Ok(());
    }
    let state_dir = &config.state_dir.value;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .with_context(|| format!("cannot make {}", state_dir.display()))?;
    let log_path = state_dir.join("agent.log");
    let log = open_log(&log_path)
        .with_context(|| format!("cannot write the log {}", log_path.display()))?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    let flags = std::env::args_os().skip(1).map(|flag| {
        if flag == "--background" {
            "--detached".into()
        } else {
            flag
        }
    });
    let mut agent = Command::new(&program)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = agent.stdout.take().context("the agent has no output")?;
    for line in BufReader::new(stdout).lines() {
        // The agent goes on without this process, which ends soon: init becomes its parent.
        if line.is_ok_and(|line| line.starts_with(READY)) {
            return Ok(());
        }
    }
    let status = agent.wait().context("cannot wait for the agent")?;
    bail!(
        "the agent ended at once ({status}): {}\nthe whole log is in {}",
        last_line(&log_path),
        log_path.display()
    );
}

/// Leaves the terminal and the parent that started this process behind.
///
/// # Errors
///
/// If the system does not let it.
pub fn detach() -> anyhow::Result<()> {
    // Already the leader of a session means already detached.
    let _detached = rustix::process::setsid();
    std::env::set_current_dir("/").context("cannot leave the working directory")
}

/// Closes the way on which [`start`] was told that this agent answers.
///
/// # Errors
///
/// If the system does not let it.
pub fn close_stdout() -> io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

fn starting_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".starting");
    PathBuf::from(name)
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|found| found.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn last_line(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().last().unwrap_or("it said nothing").to_owned()
}
