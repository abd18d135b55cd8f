//! Certificates of an own authority, from files, changed without dropping anybody.

use super::{key_of, listed, wait_refused};
use protocol::{KeyFingerprint, local::LinkStatus};
use std::{ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::PathBuf};
use tests::{Host, Keys, Sandbox, Server, Signal, eventually, process::run, server::free_loopback};
use trust::Credentials;

/// An authority, as `openssl` makes one.
pub(crate) struct Authority<'a> {
    sandbox: &'a Sandbox,
    dir: PathBuf,
}

/// A certificate and the key for it.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Issued {
    fn fingerprint(&self) -> KeyFingerprint {
        let pair = Credentials::load_pair(self.certificate.as_ref(), self.key.as_ref());
        pair.expect("a pair").fingerprint()
    }

    /// Puts this one where `other` is, the key first, as an administrator would.
    fn replace(&self, other: &Self) {
        fs::copy(&self.key, &other.key).expect("copied");
        fs::copy(&self.certificate, &other.certificate).expect("copied");
    }
}

const KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

impl<'a> Authority<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, name: &str) -> Self {
        let dir = sandbox.dir(name);
        let authority = Self { sandbox, dir };
        let (key, certificate) = (authority.path("ca.key"), authority.path("ca.pem"));
        let words = [
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=tests",
            "-keyout",
            &key,
        ];
        authority.openssl(&[&words, KEY.as_slice(), &["-out", &certificate]].concat());
        authority
    }

    fn path(&self, name: &str) -> String {
        let path = self.dir.join(name);
        path.to_str().expect("a plain path").to_owned()
    }

    pub(crate) fn certificate(&self) -> String {
        self.path("ca.pem")
    }

    fn openssl(&self, words: &[&str]) {
        let mut command = self.sandbox.place().command(OsStr::new("openssl"));
        run("openssl", command.args(words), &self.sandbox.dir("logs")).ok();
    }

    /// A certificate for `subject` (`DNS:ada`, `IP:127.0.0.1`), in files called `file`.
    pub(crate) fn issue(&self, file: &str, subject: &str) -> Issued {
        let of = |end: &str| self.path(&format!("{file}.{end}"));
        let (key, request, certificate, wanted) = (of("key"), of("csr"), of("pem"), of("ext"));
        let words = [
            "req",
            "-new",
            "-subj",
            "/CN=tests",
            "-keyout",
            &key,
            "-out",
            &request,
        ];
        self.openssl(&[&words, KEY.as_slice()].concat());
        let extensions = format!("basicConstraints=CA:FALSE\nsubjectAltName={subject}\n");
        fs::write(&wanted, extensions).expect("written");
        let (ca, ca_key) = (self.certificate(), self.path("ca.key"));
        self.openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &wanted,
            "-out",
            &certificate,
        ]);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
        Issued { certificate, key }
    }

    /// A server with a certificate of this authority, which believes it of agents, too.
    fn server(&self) -> (Server, Issued) {
        let address = free_loopback();
        let issued = self.issue("server", &format!("IP:{}", address.ip()));
        let mut server = Server::new(self.sandbox, address).with_args(&[
            "--tls-cert",
            &issued.certificate,
            "--tls-key",
            &issued.key,
            "--tls-client-ca",
            &self.certificate(),
        ]);
        server.restart();
        (server, issued)
    }

    /// A host with a certificate of this authority for `subject`.
    fn host(&self, server: &Server, name: &str, subject: &str) -> Host {
        let issued = self.issue(name, subject);
        let mut host = Host::new(self.sandbox, name)
            .with_server(format!("chat://{}", server.address()))
            .with_args(&["--tls-ca", &self.certificate()])
            .with_args(&["--tls-cert", &issued.certificate])
            .with_args(&["--tls-key", &issued.key]);
        host.restart();
        host
    }
}

fn since(host: &Host) -> protocol::Timestamp {
    match host.status().link {
        LinkStatus::Online { since, .. } => since,
        other => panic!("{} is not online: {other:?}", host.name()),
    }
}

#[test]
fn hosts_of_an_own_authority_need_no_invitation_and_others_are_not_believed() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox, "ours");
    let (server, _) = authority.server();
    let ada = authority.host(&server, "ada", "DNS:ada");
    let bee = authority.host(&server, "bee", "DNS:bee");
    ada.wait_online();
    bee.wait_online();
    let mut tail = bee.terminal("bob").tail(&["#ops"], "0");
    ada.terminal("alice").send_committed("#ops", "hello");
    tail.wait_for("hello");
    // A certificate speaks for the name in it, and for no other.
    let eve = authority.host(&server, "eve", "DNS:mallory");
    wait_refused(&eve, "does not know this host's key");
    // Nor does another authority.
    let other = Authority::new(&sandbox, "theirs");
    let fake = other.issue("cow", "DNS:cow");
    let mut cow = Host::new(&sandbox, "cow")
        .with_server(format!("chat://{}", server.address()))
        .with_args(&["--tls-ca", &authority.certificate()])
        .with_args(&["--tls-cert", &fake.certificate, "--tls-key", &fake.key]);
    cow.restart();
    wait_refused(&cow, "does not know this host's key");
    // An agent believes no server that its authority does not vouch for.
    let dog = other.host(&server, "dog", "DNS:dog");
    wait_refused(&dog, "certificate does not count");
    assert_eq!(listed(&server, &["agents"]).len(), 2);
    // What was decided at the server counts more than the authority's word.
    server.order(&["revoke", "bee"]).expect_code(0);
    wait_refused(&bee, "was revoked");
    assert_eq!(key_of(&server, "bee"), None);
}

#[test]
fn a_server_s_certificate_for_another_name_is_refused() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox, "ours");
    let (mut server, issued) = authority.server();
    authority
        .issue("elsewhere", "IP:127.9.9.9")
        .replace(&issued);
    server.restart();
    let ada = authority.host(&server, "ada", "DNS:ada");
    wait_refused(&ada, "certificate does not count");
}

#[test]
fn certificates_from_files_are_changed_on_sighup_without_dropping_anybody() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox, "ours");
    let (mut server, issued) = authority.server();
    let mut ada = authority.host(&server, "ada", "DNS:ada");
    ada.wait_online();
    let connected = since(&ada);
    let before = issued.fingerprint();
    let subject = format!("IP:{}", server.address().ip());
    authority.issue("renewed", &subject).replace(&issued);
    assert_ne!(issued.fingerprint(), before);
    let address = server.address();
    let reachable = |key: KeyFingerprint| {
        let link = format!("chat://{address}/{key}");
        Keys::new(&sandbox).connect(&link).map(drop)
    };
    reachable(before).expect("nothing has changed yet");
    server.process().signal(Signal::HUP);
    eventually("new connections meet the new certificate", || {
        reachable(issued.fingerprint())
    });
    assert!(reachable(before).is_err(), "the old key is still in use");
    assert_eq!(since(&ada), connected, "the agent was dropped");
    ada.terminal("alice").send_committed("#ops", "not dropped");
    // A broken file changes nothing.
    fs::write(&issued.certificate, "nonsense").expect("written");
    server.process().signal(Signal::HUP);
    eventually("the reload is refused", || {
        let said = server.process().stderr();
        said.contains("stay as they were").then_some(()).ok_or(said)
    });
    assert_eq!(since(&ada), connected, "the agent was dropped");
    // The agent's certificate is changed in the same way, for its next connection.
    let old = key_of(&server, "ada").expect("let in");
    let mine = Issued {
        certificate: authority.path("ada.pem"),
        key: authority.path("ada.key"),
    };
    authority.issue("ada-renewed", "DNS:ada").replace(&mine);
    ada.agent().signal(Signal::HUP);
    ada.terminal("alice").send_committed("#ops", "nor now");
    assert_eq!(since(&ada), connected, "the agent was dropped");
    authority.issue("renewed", &subject).replace(&issued);
    server.restart();
    ada.wait_online();
    eventually("the agent comes with its new key", || {
        let now = key_of(&server, "ada");
        (now.as_deref() != Some(&old))
            .then_some(())
            .ok_or_else(|| old.clone())
    });
}

#[test]
fn a_key_of_the_settings_that_others_could_read_is_not_used() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox, "ours");
    let (mut server, issued) = authority.server();
    server.kill();
    fs::set_permissions(&issued.key, fs::Permissions::from_mode(0o640)).expect("chmod");
    let refused = server.launch().wait().expect_code(1);
    assert!(refused.stderr.contains(&issued.key), "{refused:?}");
    assert!(refused.stderr.contains("chmod 600"), "{refused:?}");
}
