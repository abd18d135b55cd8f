//! Real processes: building the binary, starting it, watching it, killing it.

use crate::wait::{eventually, limit};
use rustix::process::{Pid, kill_process};
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Read,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;

/// The `chat` binary of this build, built now if it is not up to date.
///
/// Cargo tells a test where its own package's binaries are, and `chat` is another package's; so
/// this asks cargo for it once in a process and finds it beside the test executable.
/// `CHAT_TEST_BINARY` names another one to test instead, as it is.
///
/// # Panics
///
/// If it does not build.
#[must_use]
pub fn chat_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("CHAT_TEST_BINARY") {
            return given.into();
        }
        let this = std::env::current_exe().expect("path of the test executable");
        // <target>/<profile>/deps/<test>
        let profile_dir = this
            .ancestors()
            .nth(2)
            .expect("cargo put it three levels deep");
        let target_dir = profile_dir.parent().expect("target directory");
        let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
            Some("debug") => "dev",
            Some(name) => name,
            None => panic!("{} is not in a cargo target directory", this.display()),
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(&cargo);
        build
            .args(["build", "--quiet", "--locked", "--bin", "chat", "--profile"])
            .arg(profile)
            .arg("--target-dir")
            .arg(target_dir)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let status = build.status().expect("cargo can be started");
        assert!(
            status.success(),
            "`cargo build --bin chat` failed: {status}"
        );
        let binary = profile_dir.join("chat");
        assert!(
            binary.is_file(),
            "no {}: run `cargo build --bin chat` first",
            binary.display()
        );
        binary
    })
}

/// Where and as whom a command runs: a home directory, environment, and programs to start it
/// through (`nsenter`, `setpriv`, `strace -D`), each of which must replace itself by it.
#[derive(Debug, Clone)]
pub struct Place {
    home: PathBuf,
    binary: Option<PathBuf>,
    through: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

impl Place {
    /// With this home directory and otherwise as the test itself.
    #[must_use]
    pub const fn new(home: PathBuf) -> Self {
        Self {
            home,
            binary: None,
            through: Vec::new(),
            env: Vec::new(),
        }
    }

    /// The same, with one more program to start commands through.
    #[must_use]
    pub fn through<I, S>(&self, words: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        let mut place = self.clone();
        place.through.extend(words.into_iter().map(Into::into));
        place
    }

    /// The same, inside a network namespace.
    #[must_use]
    pub fn in_netns(&self, name: &str) -> Self {
        self.through([
            "nsenter".to_owned(),
            format!("--net=/run/netns/{name}"),
            "--".to_owned(),
        ])
    }

    /// The same, as another OS user, optionally with one supplementary group.
    #[must_use]
    pub fn as_uid(&self, uid: u32, group: Option<u32>) -> Self {
        let groups = group.map_or_else(
            || "--clear-groups".to_owned(),
            |group| format!("--groups={group}"),
        );
        self.through([
            "setpriv".to_owned(),
            format!("--reuid={uid}"),
            format!("--regid={uid}"),
            groups,
            "--".to_owned(),
        ])
    }

    /// The same, with a copy of `chat` elsewhere.
    #[must_use]
    pub fn with_binary(&self, binary: PathBuf) -> Self {
        let mut place = self.clone();
        place.binary = Some(binary);
        place
    }

    /// The same, with an environment variable.
    #[must_use]
    pub fn with_env(&self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let mut place = self.clone();
        place.env.push((name.into(), value.into()));
        place
    }

    /// `program` here, with nothing of the tester's own chat settings.
    #[must_use]
    pub fn command(&self, program: &OsStr) -> Command {
        let mut words = self
            .through
            .iter()
            .map(OsString::as_os_str)
            .chain([program]);
        let mut command = Command::new(words.next().expect("at least the program"));
        command.args(words);
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CHAT_") || name_text.starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        command.env("HOME", &self.home).env("RUST_BACKTRACE", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `chat` here.
    #[must_use]
    pub fn chat(&self) -> Command {
        let binary = self.binary.as_deref().unwrap_or_else(|| chat_binary());
        self.command(binary.as_os_str())
    }
}

/// What no process may ever say on standard error, whatever is done to it.
pub const SIGNS_OF_BUGS: [&str; 2] = ["panicked at", "messages are missing in"];

/// A process with its output in files. Killed when dropped, and then searched for
/// [`SIGNS_OF_BUGS`].
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a process ended and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Everything on its standard output.
    pub stdout: String,
    /// Everything on its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its standard output, if it ended with 0.
    ///
    /// # Panics
    ///
    /// If it did not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Itself, if it ended with `code`.
    ///
    /// # Panics
    ///
    /// If it did not.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

impl Process {
    /// Starts `command` with its output under `logs`, its input closed.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Self {
        Self::start_with(name, command, logs, Stdio::null())
    }

    /// Starts `command` and keeps the writing end of its standard input for
    /// [`Process::take_stdin`].
    #[must_use]
    pub fn start_piped(name: &str, command: &mut Command, logs: &Path) -> Self {
        Self::start_with(name, command, logs, Stdio::piped())
    }

    /// Starts `command` with this as its standard input.
    #[must_use]
    pub fn start_with(name: &str, command: &mut Command, logs: &Path, stdin: Stdio) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let stdout = logs.join(format!("{name}-{count}.out"));
        let stderr = logs.join(format!("{name}-{count}.err"));
        let create = |path: &Path| File::create(path).expect("log file");
        let child = command
            .stdin(stdin)
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            status: None,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of its standard input, once, if it was started with one.
    pub const fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// The file with its standard output.
    #[must_use]
    pub fn stdout_path(&self) -> &Path {
        &self.stdout
    }

    /// Everything on its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Everything on its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("wait for child");
        }
        self.status
    }

    /// Waits until a line of its standard output begins with `prefix`; returns the rest of it.
    ///
    /// # Panics
    ///
    /// If it ends first, or does not come.
    pub fn wait_for_line(&mut self, prefix: &str) -> String {
        let what = format!("{} prints {prefix:?}", self.name);
        eventually(&what, || {
            let ended = self.poll();
            let output = self.stdout();
            // A line still being written has no end yet.
            let whole = output.rfind('\n').map_or("", |end| &output[..end]);
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.to_owned());
            }
            let seen = format!("stdout {output:?}, stderr {:?}", self.stderr());
            if let Some(status) = ended {
                panic!("{what}: it ended with {status}; {seen}");
            }
            Err(seen)
        })
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a pid"), signal).expect("signal a child");
        }
    }

    /// Waits until `signal` does not end it any more.
    pub fn wait_takes(&mut self, signal: Signal) {
        let bit = 1_u64 << (signal.as_raw() - 1);
        eventually(&format!("{} takes {signal:?}", self.name), || {
            assert!(self.is_running(), "it ended; stderr {:?}", self.stderr());
            let status = process_status(self.pid());
            let taken = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let taken = taken.expect("the mask of taken signals").trim();
            match u64::from_str_radix(taken, 16).expect("a mask") & bit {
                0 => Err(taken.to_owned()),
                _ => Ok(()),
            }
        });
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.status.is_none() {
            self.status = Some(self.child.wait().expect("wait for child"));
        }
    }

    /// SIGSTOP: it does nothing until [`Process::cont`].
    pub fn stop(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    ///
    /// If it does not within the [`limit`].
    pub fn wait(&mut self) -> Finished {
        self.wait_within(limit())
    }

    /// As [`Process::wait`], with a limit of its own.
    pub fn wait_within(&mut self, limit: Duration) -> Finished {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.poll() {
                return Finished {
                    code: status.code(),
                    signal: status.signal(),
                    stdout: self.stdout(),
                    stderr: self.stderr(),
                };
            }
            assert!(
                start.elapsed() < limit,
                "{} still runs after {limit:?}; stdout {:?}, stderr {:?}",
                self.name,
                tail(&self.stdout()),
                tail(&self.stderr())
            );
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and waits until it has ended in order.
    pub fn terminate(&mut self) -> Finished {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// The most memory it ever had resident, in bytes (`VmHWM`).
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        memory(self.pid(), "VmHWM:")
    }

    /// The memory it has resident now, in bytes (`VmRSS`).
    #[must_use]
    pub fn memory(&self) -> u64 {
        memory(self.pid(), "VmRSS:")
    }

    /// How many files and sockets it has open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let alive = self.is_running();
        self.kill();
        if thread::panicking() {
            let ending = if alive { "was running" } else { "had ended" };
            eprintln!(
                "--- {} ({ending}) said:\n{}",
                self.name,
                tail(&self.stderr())
            );
            return;
        }
        assert_no_bugs(&self.name, &self.stderr());
    }
}

/// Looks for [`SIGNS_OF_BUGS`] in what `name` has said: a task that panicked may have taken
/// nobody with it, and what heals itself goes unseen.
///
/// # Panics
///
/// If there is one.
pub fn assert_no_bugs(name: &str, said: &str) {
    for sign in SIGNS_OF_BUGS {
        if let Some(line) = said.lines().find(|line| line.contains(sign)) {
            panic!("{name} said: {line}");
        }
    }
}

/// Runs `command` to its end.
///
/// # Panics
///
/// If it does not end within the [`limit`].
#[must_use]
pub fn run(name: &str, command: &mut Command, logs: &Path) -> Finished {
    Process::start(name, command, logs).wait()
}

fn process_status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).expect("process status")
}

fn memory(pid: u32, field: &str) -> u64 {
    let kib: u64 = process_status(pid)
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {field} for process {pid}"));
    kib * 1024
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(text: &str) -> &str {
    const LINES: usize = 25;
    let start = text.rmatch_indices('\n').nth(LINES);
    start.map_or(text, |(index, _)| &text[index + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "daemon said: thread 'task' panicked at lib.rs")]
    fn a_task_that_panicked_fails_the_test() {
        let dir = tempfile::tempdir().expect("directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo \"thread 'task' panicked at lib.rs\" >&2"]);
        let mut process = Process::start("daemon", &mut command, dir.path());
        process.wait().expect_code(0);
    }
}
