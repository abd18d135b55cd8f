//! Whoever does not speak TLS 1.3 with a key gets nothing.

use super::{Scene, listed, wait_refused, without_invitation};
use protocol::{
    Preface, Vocabulary, encode_frame,
    federation::{AgentFrame, Event, Refusal, Request, ServerFrame},
};
use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};
use tests::{
    AgentPeer, Host, Keys, Process, Random, Sandbox, Server, Tap, eventually,
    process::run,
    wait::limit,
    wire::{Stream, Wire},
};

type PlainAgent = Wire<ServerFrame, AgentFrame>;

#[test]
fn an_agent_without_encryption_is_told_why_and_nothing_else() {
    let mut scene = Scene::new();
    let stream = Stream::tcp(scene.server.address()).expect("connected");
    let mut plain: PlainAgent = Wire::open(stream, Vocabulary::Federation).expect("a preface");
    let hello = Request::Hello {
        host: protocol::HostName::parse("ada").expect("a name"),
        agent: protocol::AgentId::new(),
        software: "tests".to_owned(),
    };
    // It may have been turned away already.
    let _ = plain.send(&AgentFrame {
        id: protocol::RequestId(0),
        request: hello,
    });
    let told = plain.receive_until_closed();
    let expected = ServerFrame::Event(Event::Closing {
        reason: Refusal::TlsRequired,
    });
    assert_eq!(told, [expected]);
    scene.assert_undisturbed("an agent without encryption");
}

#[test]
fn what_is_no_agent_at_all_is_closed_without_a_word_of_ours() {
    let mut scene = Scene::new();
    let mut random = Random::from_env("no agent");
    let mut probes = vec![
        b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"chatter".to_vec(),
        Vec::new(),
    ];
    probes.extend((0..50).map(|length| random.bytes(length * 7)));
    for probe in probes {
        let mut stream = TcpStream::connect(scene.server.address()).expect("connected");
        stream.set_read_timeout(Some(limit())).expect("a timeout");
        // It may have closed before it has taken all.
        let _ = stream.write_all(&probe);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        if let Err(error) = ended {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        // An alert of TLS, or the preface for what begins like one.
        assert!(answer.len() <= 16, "{probe:02x?} got {answer:02x?}");
    }
    scene.assert_undisturbed("what is no agent");
}

#[test]
fn an_agent_that_wants_encryption_speaks_to_no_server_without() {
    let sandbox = Sandbox::new();
    let server = Server::start_plaintext(&sandbox);
    let tap = Tap::start(server.address());
    let keys = Keys::new(&sandbox);
    let link = format!("chat://{}/{}", tap.address(), keys.fingerprint());
    let ada = Host::start(&sandbox, "ada", link);
    let told = wait_refused(&ada, "does not speak TLS");
    assert!(told.contains("chat join --insecure-plaintext"), "{told}");
    assert!(!tap.saw("ada"), "it said its name in the clear");
}

#[test]
fn an_agent_told_to_speak_in_the_clear_hears_what_to_do_at_a_server_that_encrypts() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", format!("plain://{}", server.address()));
    let told = wait_refused(&ada, "encrypted connections only");
    assert!(told.contains("chat server invite"), "{told}");
}

#[test]
fn a_link_without_encryption_is_named_at_every_start_and_in_the_status() {
    let sandbox = Sandbox::new();
    let mut server = Server::start_plaintext(&sandbox);
    let mut ada = Host::start(&sandbox, "ada", server.link());
    let alice = ada.terminal("alice");
    for _ in 0..2 {
        ada.wait_online();
        let status = alice.run(["status"]).ok();
        assert!(status.contains("--insecure-plaintext"), "{status}");
        for process in [server.process(), ada.agent()] {
            let said = process.stderr();
            assert!(said.contains("--insecure-plaintext"), "{said}");
        }
        server.restart();
        ada.restart();
    }
}

#[test]
fn a_recorded_connection_sent_again_gets_nothing() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let tap = Tap::start(server.address());
    let mut ada = Host::start(&sandbox, "ada", server.link_by(tap.address()));
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "once");
    ada.kill_agent();
    let recorded = tap.up();
    let connected = |server: &mut Server| {
        let log = server.process().stderr();
        log.matches("agent connected").count()
    };
    let before = connected(&mut server);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.address()).expect("connected");
        stream.set_read_timeout(Some(limit())).expect("a timeout");
        // The server may close as soon as the first of it makes no sense.
        let _ = stream.write_all(&recorded);
        let mut answer = Vec::new();
        // An orderly end or a reset.
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(connected(&mut server), before);
    ada.restart();
    ada.wait_online();
    assert_eq!(alice.read_all("#ops").len(), 1);
    // The invitation in it was used once, too.
    assert_eq!(listed(&server, &["agents"]).len(), 1);
}

/// `openssl WORDS…`, which the Debian package of that name has.
fn openssl(sandbox: &Sandbox, words: &[&str]) -> std::process::Command {
    let mut command = sandbox.place().command(OsStr::new("openssl"));
    command.args(words);
    command
}

#[test]
fn a_client_that_speaks_an_older_tls_is_refused() {
    let mut scene = Scene::new();
    let address = scene.server.address().to_string();
    let key = scene.ada.state_dir().join("agent.pem");
    let key = key.to_str().expect("a plain path");
    let connect = |version: &str| {
        let words = [
            "s_client", version, "-connect", &address, "-cert", key, "-key", key, "-alpn", "chat/1",
        ];
        run(
            "openssl",
            &mut openssl(&scene.sandbox, &words),
            scene.ada.logs(),
        )
    };
    let today = connect("-tls1_3");
    assert!(today.stdout.contains("New, TLSv1.3"), "{today:?}");
    for old in ["-tls1_2", "-tls1_1", "-tls1"] {
        let refused = connect(old);
        assert!(refused.stdout.contains("Cipher is (NONE)"), "{refused:?}");
        assert_ne!(refused.code, Some(0), "{refused:?}");
    }
    scene.assert_undisturbed("an older TLS");
}

#[test]
fn an_agent_refuses_a_server_that_speaks_an_older_tls_though_it_has_the_right_key() {
    let sandbox = Sandbox::new();
    let server = Server::prepared(&sandbox, tests::server::free_loopback());
    let key = server.state_dir().join("server.pem");
    let key = key.to_str().expect("a plain path");
    let address = server.address().to_string();
    let serve = |version: &str| {
        let words = [
            "s_server", version, "-accept", &address, "-cert", key, "-key", key, "-alpn", "chat/1",
            "-quiet",
        ];
        let mut command = openssl(&sandbox, &words);
        Process::start_piped("openssl", &mut command, &sandbox.dir("logs"))
    };
    let old = serve("-tls1_2");
    let ada = Host::start(&sandbox, "ada", server.link());
    wait_refused(&ada, "no TLS connection");
    assert_eq!(old.stdout(), "", "it was told something");
    drop(old);
    // That was for the version alone: this one hears the preface.
    let today = serve("-tls1_3");
    eventually("the agent speaks", || {
        let heard = today.stdout();
        heard.contains("chatF").then_some(()).ok_or(heard)
    });
}

#[test]
fn a_preface_of_another_version_inside_of_tls_is_refused_at_once() {
    let mut scene = Scene::new();
    let keys = Keys::new(&scene.sandbox);
    let link = scene.server.invite(1, None);
    let mut stream = Wire::<ServerFrame, AgentFrame>::silent(keys.connect(&link).expect("TLS"));
    let mut preface = Preface::ours(Vocabulary::Federation);
    (preface.oldest, preface.newest) = (98, 99);
    stream.send_bytes(&preface.to_bytes()).expect("sent");
    let host = protocol::HostName::parse("mallory").expect("a name");
    let invitation = protocol::ServerAddress::parse(&link)
        .expect("a link")
        .trust
        .invitation();
    let enrol = encode_frame(&AgentFrame {
        id: protocol::RequestId(0),
        request: Request::Enrol {
            host,
            invitation: invitation.expect("an invitation"),
        },
    });
    // It may have closed already.
    let _ = stream.send_bytes(&enrol.expect("a frame"));
    stream.read_preface().expect("its own").expect("a preface");
    assert_eq!(stream.receive_until_closed(), []);
    assert_eq!(super::uses_left(&scene.server), 1);
    scene.assert_undisturbed("another version");
}

#[test]
fn a_key_that_nobody_let_in_hears_so_and_nothing_else() {
    let mut scene = Scene::new();
    let keys = Keys::new(&scene.sandbox);
    let link = without_invitation(&scene.server.link());
    for host in ["ada", "mallory"] {
        let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
        assert_eq!(peer.hello(host), Err(Refusal::NotEnrolled));
        // As an answer, and once more as the last word.
        assert_eq!(peer.closing_reason(), Some(Refusal::NotEnrolled));
    }
    // Nor does it get past the hello.
    let mut peer = AgentPeer::silent(&link, &keys).expect("TLS");
    let asked = peer.ask(Request::Rooms { after: None });
    assert_eq!(asked, Err(Refusal::HelloOutOfPlace));
    scene.assert_undisturbed("a stranger's key");
}
