//! The conversation at the other end of an ssh connection.

use crate::{
    harness::{Agent, Kept, LIMIT, Terminal},
    storm,
};
use std::{
    fs::{self, DirBuilder, File},
    net::{TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// A server for this user alone, on a port of its own.
struct Sshd {
    port: String,
    _process: Kept,
}

impl Sshd {
    fn start(dir: &Path) -> Self {
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .status()
                .expect("ssh is needed: apt-get install openssh-client");
            assert!(made.success());
        }
        if rustix::process::geteuid().is_root() {
            // Debian makes it when the service is started.
            let _ = DirBuilder::new().mode(0o755).create("/run/sshd");
        }
        // Nobody can say which one it gets; somebody else may take it before, hence more than once.
        for _ in 0..10 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            drop(listener);
            if let Some(process) = Self::try_at(dir, &port) {
                return Self {
                    port,
                    _process: process,
                };
            }
        }
        let log = fs::read_to_string(dir.join("sshd.log")).unwrap_or_default();
        panic!("sshd does not start: {log}");
    }

    fn try_at(dir: &Path, port: &str) -> Option<Kept> {
        let at = dir.display();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host\nPidFile none\n\
             AuthorizedKeysFile {at}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nPrintMotd no\nPrintLastLog no\nAcceptEnv CHAT_* XDG_*\n"
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let log = File::create(dir.join("sshd.log")).unwrap();
        let mut process = Kept(
            Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(dir.join("sshd_config"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("sshd is needed: apt-get install openssh-server"),
        );
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if process.0.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(format!("127.0.0.1:{port}")).is_ok() {
                return Some(process);
            }
        }
        None
    }

    /// What runs `command` at a terminal there.
    fn run(&self, dir: &Path, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F", "none", "-tt", "-q", "-e", "none", "-p", &self.port, "-i",
        ])
        .arg(dir.join("user"))
        .args(["-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "127.0.0.1", command]);
        ssh
    }
}

#[test]
fn a_line_that_is_typed_over_ssh_during_thousands_of_arrivals_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let sshd = Sshd::start(dir.path());
    let at = dir.path().display();
    let chat = env!("CARGO_BIN_EXE_chat");
    let command = format!(
        "exec env NO_COLOR=1 LC_ALL=C.UTF-8 XDG_CONFIG_HOME={at} {chat} --nick alice \
         --socket {at}/agent.sock --state-dir {at}/state"
    );
    let mut alice = Terminal::run(sshd.run(dir.path(), &command), (80, 24), false);
    alice.expect("&lobby> ");
    storm::type_during_arrivals(dir.path(), alice, "80 columns, over ssh");
}
