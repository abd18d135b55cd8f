//! Starting an agent in the background, once, whoever else tries at the same time.

pub(crate) mod incumbent;

use crate::{
    config::Config,
    daemon::LONGEST_END,
    lock::{Lock, LockError, OF_SOCKET},
    socket::{Access, prepare_dir},
};
use anyhow::{Context, bail};
use room_log::private_dir;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader},
    os::{
        fd::RawFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// What the agent says on standard output, with the socket's path behind it, when it answers.
pub const READY: &str = "ready on ";

/// A log larger than this is put aside at the next start.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// How long an agent may take to answer: it may have to wait for the end of the last one.
const LONGEST_START: Duration = LONGEST_END.saturating_add(Duration::from_secs(2));

/// How long a starter waits for another one, which may wait as long as [`LONGEST_START`].
const STARTER_PATIENCE: Duration = LONGEST_START.saturating_add(Duration::from_secs(1));

/// Starts an agent unless one answers, and returns when one does.
///
/// A lock lets one starter at a time look and start; the next one finds the agent running. The
/// agent is this program again, with the same flags, and belongs to no terminal and no parent.
///
/// # Errors
///
/// If it does not come up: with what it said last, and where the rest is. If another agent has
/// the socket than the settings ask for.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let socket = &config.socket.value;
    prepare_dir(socket, Access::of_group(config.group.value.as_deref())?)?;
    let my_turn = take_turn(socket, STARTER_PATIENCE);
    if let Some(incumbent) = incumbent::ask(socket, LONGEST_START)? {
        return incumbent.check(config);
    }
    let _one_at_a_time = my_turn?;
    let state_dir = &config.state_dir.value;
    private_dir(state_dir)?;
    incumbent::refuse_elsewhere(state_dir, socket)?;
    let log_path = state_dir.join("agent.log");
    let log = open_log(&log_path)
        .with_context(|| format!("cannot write the log {}", log_path.display()))?;
    let program = this_program();
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "chat".into());
    let flags = words.map(|flag| {
        if flag == "--background" {
            "--detached".into()
        } else {
            flag
        }
    });
    let mut agent = Command::new(&program);
    // What a service manager told whoever called is not for an agent that outlives it.
    for variable in supervision::VARIABLES {
        agent.env_remove(variable);
    }
    let mut agent = agent
        .arg0(name)
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let stdout = agent.stdout.take().context("the agent has no output")?;
    match is_ready(stdout)?.recv_timeout(LONGEST_START) {
        // The agent goes on without this process, which ends soon: init becomes its parent.
        Ok(true) => return Ok(()),
        Ok(false) | Err(mpsc::RecvTimeoutError::Disconnected) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => bail!(
            "the agent (process {pid}) does not answer after {} s, and was left to go on: see {}, \
             or end it with `kill {pid}`, and try again",
            LONGEST_START.as_secs(),
            log_path.display(),
            pid = agent.id()
        ),
    }
    let status = agent.wait().context("cannot wait for the agent")?;
    bail!(
        "the agent ended ({status}): {}\nthe whole log is in {}",
        last_line(&log_path),
        log_path.display()
    );
}

fn take_turn(socket: &Path, patience: Duration) -> anyhow::Result<Lock> {
    match Lock::take_within(&starting_path(socket), OF_SOCKET, patience) {
        Err(LockError::Held { pid: Some(pid), .. }) => bail!(
            "process {pid} has been starting an agent for more than {} s: see what keeps it, or \
             end it with `kill {pid}`, and try again",
            patience.as_secs()
        ),
        taken => Ok(taken?),
    }
}

/// The file to run this program again from: its own, or what still runs of it if an upgrade has
/// put another one in its place.
#[must_use]
pub fn this_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Leaves the terminal, the parent and the open files of whoever started this process behind.
///
/// Called before this process has opened anything itself.
///
/// # Errors
///
/// If the system does not let it.
pub fn detach() -> anyhow::Result<()> {
    close_inherited().context("cannot list the files that this process has inherited")?;
    // Already the leader of a session means already detached.
    let _detached = rustix::process::setsid();
    std::env::set_current_dir("/").context("cannot leave the working directory")
}

/// Closes all files but standard input, output and error. A caller's lock or pipe would otherwise
/// stay taken as long as the agent lives.
fn close_inherited() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // The directory just read is one of them, and closed already.
        let _closed = nix::unistd::close(fd);
    }
    Ok(())
}

/// Tells whether the agent says that it is ready before it ends.
fn is_ready(stdout: ChildStdout) -> io::Result<mpsc::Receiver<bool>> {
    let (said, ready) = mpsc::sync_channel(1);
    thread::Builder::new().spawn(move || {
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let _nobody_waits = said.send(lines.any(|line| line.starts_with(READY)));
    })?;
    Ok(ready)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starter_that_is_stuck_is_named_instead_of_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let _stuck = take_turn(&socket, Duration::ZERO).unwrap();
        let refused = take_turn(&socket, Duration::ZERO).unwrap_err().to_string();
        let remedy = format!("`kill {}`", std::process::id());
        assert!(refused.contains(&remedy), "{refused}");
    }
}
