//! Who may say whom a server lets in, and who may have a key.

use super::{Scene, key_of, listed};
use protocol::{
    RequestId, Vocabulary,
    admin::{CommandFrame, Refusal, Request, ServerFrame},
};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};
use tests::{
    Host, Sandbox, Server, Signal, chat_binary, eventually,
    privilege::{Need, privileged},
    process::run,
    wire::{Stream, Wire},
};

/// A uid that owns nothing.
const NOBODY: u32 = 54_322;

/// Names the server's socket to a copy of this program that runs as somebody else.
const PROBE: &str = "CHAT_TESTS_ADMIN_SOCKET";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

#[test]
fn the_server_s_own_socket_is_its_user_s_alone() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let socket = server.state_dir().join("server.sock");
    let kind = fs::metadata(&socket).expect("there").file_type();
    assert!(kind.is_socket());
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(server.state_dir()) & 0o022, 0);
}

#[test]
fn another_user_administers_nothing_whatever_the_mode_of_the_socket() {
    let name =
        "trust::administration::another_user_administers_nothing_whatever_the_mode_of_the_socket";
    if let Some(socket) = std::env::var_os(PROBE) {
        return administer(Path::new(&socket));
    }
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        sandbox.open_to_all();
        let copies = sandbox.dir("copies");
        let copy = |of: &Path, name: &str| {
            let copy = copies.join(name);
            fs::copy(of, &copy).expect("a copy");
            set_mode(&copy, 0o755);
            copy
        };
        let (chat, prober) = (
            copy(chat_binary(), "chat"),
            copy(&std::env::current_exe().expect("this program"), "prober"),
        );
        let server = Server::start(&sandbox);
        let socket = server.state_dir().join("server.sock");
        let nobody = sandbox.place().as_uid(NOBODY, None).with_binary(chat);
        let logs = sandbox.dir("logs");
        let order = |words: &[&str]| {
            let mut command = nobody.chat();
            command.arg("server").args(words);
            command.arg("--state-dir").arg(server.state_dir());
            run("stranger", &mut command, &logs)
        };
        let orders: [&[&str]; 4] = [
            &["invite"],
            &["agents"],
            &["revoke", "ada"],
            &["rotate-key", "--now"],
        ];
        for words in orders {
            let refused = order(words);
            assert!(matches!(refused.code, Some(69 | 77)), "{refused:?}");
        }
        // Not even where the file's mode would let them.
        set_mode(server.state_dir(), 0o755);
        set_mode(&socket, 0o666);
        for words in orders {
            let refused = order(words).expect_code(77);
            assert!(refused.stderr.contains("uid 0"), "{refused:?}");
        }
        // Nor without our command: the server asks the kernel who it is.
        let place = nobody.with_env(PROBE, &socket);
        let mut probe = place.command(prober.as_os_str());
        probe.args([name, "--exact", "--nocapture"]);
        let probed = run("prober", &mut probe, &logs).ok();
        assert!(probed.contains("1 passed"), "{probed}");
        // The harness made one; nobody else did.
        assert_eq!(listed(&server, &["invitations"]).len(), 2);
    });
}

/// Asks a server on its own socket for all that it would do for its user.
fn administer(socket: &Path) {
    let stream = Stream::unix(socket).expect("connected");
    let mut wire: Wire<ServerFrame, CommandFrame> =
        Wire::open(stream, Vocabulary::Admin).expect("a server");
    let invite = Request::Invite {
        uses: 1,
        valid_for_s: 60,
        host: None,
    };
    let requests = [invite, Request::Agents { after: None }, Request::ChangeKey];
    for (id, request) in (0..).map(RequestId).zip(requests) {
        wire.send(&CommandFrame { id, request }).expect("sent");
        let answer = wire.receive().expect("a frame").expect("not closed");
        let refused = Err(Refusal::NotAllowed { uid: NOBODY });
        assert_eq!(answer.result, refused);
    }
}

#[test]
fn a_key_that_others_could_read_is_not_used() {
    let mut scene = Scene::new();
    let keys = [
        scene.server.state_dir().join("server.pem"),
        scene.ada.state_dir().join("agent.pem"),
    ];
    for key in &keys {
        assert_eq!(mode(key), 0o600, "{}", key.display());
    }
    // While they run, both go on with what they have.
    for key in &keys {
        set_mode(key, 0o640);
    }
    scene.server.process().signal(Signal::HUP);
    scene.ada.agent().signal(Signal::HUP);
    for process in [scene.server.process(), scene.ada.agent()] {
        eventually("the reload is refused", || {
            let said = process.stderr();
            let told = said.contains("stay as they were") && said.contains("chmod 600");
            told.then_some(()).ok_or(said)
        });
    }
    scene.assert_undisturbed("keys with a wide mode");
    // A start says what is wrong, and starts nothing.
    for bad in [0o640, 0o604, 0o660, 0o644] {
        for key in &keys {
            set_mode(key, bad);
        }
        scene.server.kill();
        scene.ada.kill_agent();
        let server = scene.server.launch().wait().expect_code(1);
        let agent = scene.ada.launch().wait().expect_code(1);
        for (finished, key) in [server, agent].iter().zip(&keys) {
            let path = key.to_str().expect("a plain path");
            let told = finished.stderr.contains(path) && finished.stderr.contains("chmod 600");
            assert!(told, "{finished:?}");
        }
    }
    for key in &keys {
        set_mode(key, 0o600);
    }
    scene.server.restart();
    scene.ada.restart();
    scene.ada.wait_online();
}

#[test]
fn the_register_of_a_server_holds_nothing_that_lets_anybody_in() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let link = server.invite(5, None);
    let ada = Host::start(&sandbox, "ada", &link);
    ada.wait_online();
    assert!(key_of(&server, "ada").is_some());
    server.terminate().expect_code(0);
    let secret = protocol::ServerAddress::parse(&link)
        .expect("a link")
        .trust
        .invitation()
        .expect("an invitation");
    let spelled = secret.reveal();
    for entry in fs::read_dir(server.state_dir()).expect("files") {
        let path = entry.expect("a file").path();
        if path.metadata().expect("there").is_file() {
            let bytes = fs::read(&path).expect("readable");
            let found = bytes
                .windows(spelled.len())
                .any(|window| window == spelled.as_bytes());
            assert!(!found, "{} has the invitation", path.display());
        }
    }
}
