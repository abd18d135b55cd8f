//! Joining and leaving servers.

use super::{Host, chat, json, start, stderr};
use std::{
    io::BufReader,
    process::{Child, ChildStdout},
};

struct Server {
    process: Child,
    address: String,
    _stdout: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = chat();
        command
            .args(["server", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(dir.path().join("state"))
            .env("XDG_CONFIG_HOME", dir.path());
        let (process, stdout, address) = start(&mut command, "listening on ");
        Self {
            process,
            address,
            _stdout: stdout,
            _dir: dir,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn joining_a_server_that_is_not_there_is_75_and_tells_what_it_replaced() {
    let (host, server) = (Host::new(), Server::start());
    let joined = host.run(&["join", &server.address]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let connected = String::from_utf8(joined.stdout).unwrap();
    assert!(connected.contains("connected to"), "{connected}");

    // Nobody listens there: the port is for what needs root.
    let joined = host.run(&["join", "127.0.0.1:1"]);
    let said = stderr(&joined);
    assert_eq!(joined.status.code(), Some(75), "{said}");
    let replaced = format!("server 127.0.0.1:1 instead of {}", server.address);
    assert!(said.contains(&replaced), "{said}");
    assert!(said.contains("is remembered"), "{said}");
    let who = host.run(&["who", "#ops"]);
    assert_eq!(who.status.code(), Some(0));
    assert!(stderr(&who).contains("cannot be reached"), "{who:?}");
    let status = json(&host.run(&["status", "--json"]));
    assert_eq!(status[0]["link"]["server"], "127.0.0.1:1");
}

#[test]
fn joining_a_server_that_refuses_this_host_is_1() {
    let server = Server::start();
    let (one, other) = (Host::new(), Host::new());
    let joined = one.run(&["join", &server.address]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let refused = other.run(&["join", &server.address]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("another host is connected as ada"), "{said}");
}
