//! Joining and leaving servers.

use super::{Host, chat, json, start, stderr};
use std::{
    io::BufReader,
    path::PathBuf,
    process::{Child, ChildStdout, Output},
};

struct Server {
    process: Child,
    /// What lets hosts in: `chat://HOST:PORT/KEY/INVITATION`.
    link: String,
    address: String,
    state_dir: PathBuf,
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
        let (process, stdout, link) = start(&mut command, "chat join ");
        let address = link.split('/').nth(2).unwrap().to_owned();
        Self {
            process,
            link,
            address,
            state_dir: dir.path().join("state"),
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
    let joined = host.run(&["join", &server.link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let connected = String::from_utf8(joined.stdout).unwrap();
    assert!(connected.contains("connected to"), "{connected}");

    // Nobody listens there: the port is for what needs root.
    let elsewhere = server.link.replace(&server.address, "127.0.0.1:1");
    let joined = host.run(&["join", &elsewhere]);
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
    let joined = one.run(&["join", &server.link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let refused = other.run(&["join", &server.link]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("another host is enrolled as ada"), "{said}");
}

/// Says something to the server that runs, and prints what it answers.
fn order(server: &Server, words: &[&str]) -> Output {
    let mut command = chat();
    command.arg("server").args(words);
    command.arg("--state-dir").arg(&server.state_dir);
    command.output().unwrap()
}

#[test]
fn a_server_that_runs_is_told_whom_to_let_in() {
    let server = Server::start();
    let host = Host::new();
    let invited = order(&server, &["invite", "--host", "ada", "--expires", "1h"]);
    assert_eq!(invited.status.code(), Some(0), "{}", stderr(&invited));
    assert!(stderr(&invited).contains("lets in one host"), "{invited:?}");
    let line = String::from_utf8(invited.stdout).unwrap();
    let link = line.trim().strip_prefix("chat join ").unwrap();
    let joined = host.run(&["join", link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    // The same line once more does no harm, and nothing shows the secret.
    let again = host.run(&["join", link]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let secret = link.rsplit('/').next().unwrap();
    let status = host.run(&["status", "--json"]);
    assert!(!String::from_utf8_lossy(&status.stdout).contains(secret));

    let invitations = json(&order(&server, &["invitations", "--json"]));
    assert_eq!(invitations.len(), 2, "that of the first start, too");
    assert_eq!(invitations[1]["state"], "used");
    let agents = json(&order(&server, &["agents", "--json"]));
    assert_eq!(agents[0]["host"], "ada");
    assert_eq!(agents[0]["state"], "connected");

    let revoked = order(&server, &["revoke", "ada"]);
    assert_eq!(revoked.status.code(), Some(0), "{}", stderr(&revoked));
    let joined = host.run(&["join", link]);
    assert_eq!(joined.status.code(), Some(1));
    assert!(stderr(&joined).contains("revoked"), "{}", stderr(&joined));
    let agents = json(&order(&server, &["agents", "--json"]));
    assert_eq!(agents[0]["state"], "revoked");
    for (words, why) in [
        (&["revoke", "ada"][..], "no host is enrolled as ada"),
        (&["revoke", "--invitation", "99"], "no invitation 99"),
        (&["invite", "--uses", "0"], "not 0"),
        (&["rotate-key", "--now"], "no next key"),
    ] {
        let refused = order(&server, words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
}

#[test]
fn where_no_server_runs_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path(), &dir.path().join("nowhere")] {
        let mut command = chat();
        command.args(["server", "invite", "--state-dir"]).arg(dir);
        let asked = command.output().unwrap();
        assert_eq!(asked.status.code(), Some(69), "{}", stderr(&asked));
        assert!(stderr(&asked).contains("no server answers"), "{asked:?}");
    }
}

#[test]
fn a_server_that_was_met_is_known_by_its_key_and_one_that_was_not_replaces_nothing() {
    let (host, server) = (Host::new(), Server::start());
    let joined = host.run(&["join", &server.link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let mistyped = host.run(&["join", "typo.invalid"]);
    assert_eq!(mistyped.status.code(), Some(1), "{}", stderr(&mistyped));
    assert!(
        stderr(&mistyped).contains("no key of typo.invalid"),
        "{mistyped:?}"
    );
    let status = json(&host.run(&["status", "--json"]));
    assert_eq!(status[0]["link"]["server"], server.address.as_str());

    let left = host.run(&["leave"]);
    assert_eq!(left.status.code(), Some(0), "{}", stderr(&left));
    let joined = host.run(&["join", &server.address]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
}
