//! The real binary: ready line, lock, signals, exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn command(state_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command
        .args(["--state-dir"])
        .arg(state_dir)
        .env("CHAT_LISTEN", "127.0.0.1:0")
        .env_remove("CHAT_LOG")
        .env("XDG_CONFIG_HOME", state_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A server that listens; killed if the test ends early.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        Self {
            child,
            stdout,
            ready,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end. Gives the exit code, and the rest of both outputs.
    fn wait(mut self) -> (Option<i32>, String, String) {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn says_when_it_is_ready_and_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(command(dir.path()));
    assert!(
        server.ready.starts_with("listening on 127.0.0.1:"),
        "{}",
        server.ready
    );
    server.signal("-USR1");
    server.signal("-TERM");
    let (code, stdout, stderr) = server.wait();
    assert_eq!(code, Some(0), "{stderr}");
    let invites = stdout.starts_with("chat join chat://127.0.0.1:");
    assert!(invites && stdout.lines().count() == 1, "{stdout}");
    // Only the first start does.
    let again = Server::start(command(dir.path()));
    again.signal("-TERM");
    let (code, stdout, stderr) = again.wait();
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
}

#[test]
fn a_server_that_encrypts_nothing_says_so_at_every_start() {
    for flag in [None, Some("--insecure-plaintext")] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(dir.path());
        let server = Server::start({
            command.env("CHAT_LOG", "info").args(flag);
            command
        });
        assert!(
            server.ready.starts_with("listening on "),
            "{}",
            server.ready
        );
        server.signal("-TERM");
        let (code, stdout, stderr) = server.wait();
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(stdout.contains("chat join"), flag.is_none(), "{stdout}");
        let warned = stderr.contains("WARN") && stderr.contains("takes part");
        assert_eq!(warned, flag.is_some(), "{stderr}");
        assert!(!stderr.contains("listening"), "{stderr}");
    }
}

#[test]
fn the_second_on_a_state_directory_names_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(command(dir.path()));
    let second = command(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());
    let process = format!("(process {})", first.child.id());
    assert!(stderr(&second).contains(&process), "{}", stderr(&second));
}

#[test]
fn a_damaged_database_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(command(dir.path()));
    server.signal("-TERM");
    server.wait();
    fs::write(dir.path().join("server.db"), "no database here, only text").unwrap();
    let output = command(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("backup"), "{}", stderr(&output));
}

#[test]
fn reload_changes_the_log_filter_and_names_what_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("server.toml");
    fs::write(&config, "log = \"warn\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command
        .arg("--config")
        .arg(&config)
        .env("CHAT_LISTEN", "127.0.0.1:0")
        .env("CHAT_STATE_DIR", dir.path())
        .env_remove("CHAT_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let printed = {
        let mut command = Command::new(command.get_program());
        command.arg("--config").arg(&config).arg("--print-config");
        command
            .env("CHAT_LISTEN", "127.0.0.1:0")
            .env_remove("CHAT_LOG")
            .output()
            .unwrap()
    };
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("listen = \"127.0.0.1:0\"  # $CHAT_LISTEN"));
    assert!(printed.contains(&format!("log = \"warn\"  # {}", config.display())));

    let mut server = Server::start(command);
    fs::write(&config, "log = \"info\"\n").unwrap();
    server.signal("-HUP");
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let reloaded = log.find(|line| line.as_ref().unwrap().contains("reloaded"));
    assert!(reloaded.is_some());
    server.signal("-INT");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn bad_settings_are_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    let output = command.args(["--log", "a=b=c"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--log"), "{}", stderr(&output));
}
