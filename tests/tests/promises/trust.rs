//! Promise 6: nobody takes part who does not belong, and nobody on the line learns anything.
//!
//! SECURITY.md lists the attacks; each has its test here, against the real binaries.

mod administration;
pub(crate) mod authorities;
mod between;
mod crowd;
mod door;
mod enrolled;
mod invitations;
mod paths;
mod rotation;

use protocol::{
    ServerAddress, ServerTrust,
    local::{From, LinkStatus},
};
use serde_json::Value;
use std::{fs, path::Path};
use tests::{AgentPeer, Host, Keys, Sandbox, Server, Session, eventually};

/// A server and an enrolled host with somebody on it who must not notice anything.
struct Scene {
    server: Server,
    ada: Host,
    witness: Session,
    // Keeps the directory until the processes are gone.
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = Server::start(&sandbox);
        let ada = Host::start(&sandbox, "ada", server.link());
        ada.wait_online();
        let mut witness = ada.session("witness");
        witness.open_room("#ops", From::Beginning);
        Self {
            server,
            ada,
            witness,
            sandbox,
        }
    }

    /// The witness sends over the whole way and back; nothing else has come meanwhile.
    fn assert_undisturbed(&mut self, after: &str) {
        self.witness.send("#ops", after).expect("accepted");
        assert_eq!(text(&self.witness.next_message().body), after);
    }

    /// A malicious agent that was let in as `host`.
    fn mallory(&self, host: &str) -> (AgentPeer, Keys) {
        let keys = Keys::new(&self.sandbox);
        let link = self.server.invite(1, Some(host));
        let peer = AgentPeer::enrolled(&link, &keys, host).expect("welcome");
        (peer, keys)
    }
}

fn text(body: &protocol::EncodedBody) -> String {
    match body.decode() {
        Ok(protocol::Content::Text(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

/// Waits until `host` is not connected for a reason with `words` in it; returns all of it.
fn wait_refused(host: &Host, words: &str) -> String {
    let mut session = host.script("observer");
    eventually(
        &format!("{} is refused: {words}", host.name()),
        || match session.status().link {
            LinkStatus::Waiting { error, .. } if error.contains(words) => Ok(error),
            other => Err(format!("{other:?}")),
        },
    )
}

/// What a server prints for `chat server WORDS --json`.
fn listed(server: &Server, words: &[&str]) -> Vec<Value> {
    let words = [words, &["--json"]].concat();
    let output = server.order(&words).ok();
    let lines = output.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON")
}

/// The newest invitation, as the server lists it.
fn newest_invitation(server: &Server) -> Value {
    listed(server, &["invitations"])
        .pop()
        .expect("one was made")
}

/// How many more hosts the newest invitation lets in.
fn uses_left(server: &Server) -> u64 {
    let newest = newest_invitation(server);
    newest["uses_left"].as_u64().expect("a number")
}

/// The key that the server knows `host` by, if it lets it in.
fn key_of(server: &Server, host: &str) -> Option<String> {
    let agents = listed(server, &["agents"]);
    let entry = agents.iter().find(|agent| agent["host"] == host)?;
    (entry["state"] != "revoked").then(|| entry["key"].as_str().expect("a key").to_owned())
}

/// `link` without its invitation, and with `change` made to the rest.
fn relinked(link: &str, change: impl FnOnce(&mut ServerTrust)) -> String {
    let mut address = ServerAddress::parse(link).expect("a server's address");
    address.trust.set_invitation(None);
    change(&mut address.trust);
    address.reveal()
}

/// The server of `link`, for who is in already.
fn without_invitation(link: &str) -> String {
    relinked(link, |_| {})
}

/// The server of `link` with another key, and the same invitation.
fn with_key(link: &str, other: protocol::KeyFingerprint) -> String {
    let invited = ServerAddress::parse(link).expect("a server's address");
    relinked(link, |trust| {
        *trust = ServerTrust::Key {
            key: other,
            next: None,
            invitation: invited.trust.invitation(),
        };
    })
}

#[test]
fn every_test_that_the_table_of_attacks_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../SECURITY.md")).expect("SECURITY.md");
    let (_, table) = text.split_once("## Attacks").expect("the table");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let mut named = 0;
    for row in rows {
        let cell = row.trim_end_matches('|').rsplit('|').next();
        for name in cell.unwrap_or_default().split('`').skip(1).step_by(2) {
            let (module, test) = name.rsplit_once("::").expect("module::test");
            let file = format!("tests/promises/{}.rs", module.replace("::", "/"));
            let source = fs::read_to_string(root.join(&file));
            let source = source.unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
            let is_there = source.contains(&format!("#[test]\nfn {test}("));
            assert!(is_there, "there is no test {name} in {file}");
            named += 1;
        }
    }
    assert!(named > 30, "{named} tests named");
}
