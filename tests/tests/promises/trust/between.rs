//! Somebody on the line between two hosts: listening, or answering for the server.

use super::{uses_left, wait_refused, with_key};
use tests::{Host, Impostor, Keys, Sandbox, Server, Tap, eventually};

/// Words that are in no program: found on the line, they were said by these people.
const HOSTS: [&str; 2] = ["wombat-host", "quokka-host"];
const NICKS: [&str; 2] = ["zebedee", "florence"];
const ROOM: &str = "#xylophone";
const TOPIC: &str = "gamelan";
const TEXT: &str = "the quick brown axolotl";
const DIRECT: &str = "between you and me and the okapi";

/// Two hosts talk through `tap`, in a room and directly.
fn talk(sandbox: &Sandbox, link: &str) {
    let hosts = HOSTS.map(|name| Host::start(sandbox, name, link));
    let [first, second] = [0, 1].map(|of| hosts[of].terminal(NICKS[of]));
    let mut tail = second.tail(&[ROOM], "0");
    first.send_committed(ROOM, TEXT);
    first.run(["topic", ROOM, TOPIC]).expect_code(0);
    tail.wait_for(TEXT);
    let mut direct = second.tail(&[&first.user()], "0");
    first.send_committed(&second.user(), DIRECT);
    direct.wait_for(DIRECT);
}

#[test]
fn a_recording_of_the_line_shows_no_text_room_nick_or_host() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let tap = Tap::start(server.address());
    let link = server.link_by(tap.address());
    talk(&sandbox, &link);
    let (_, invitation) = link.rsplit_once('/').expect("an invitation");
    let said = [
        ROOM,
        &ROOM[1..],
        TOPIC,
        TEXT,
        DIRECT,
        invitation,
        "chat-agent",
    ];
    for word in said.iter().chain(&HOSTS).chain(&NICKS) {
        assert!(!tap.saw(word), "{word:?} went over the line in the clear");
    }
    assert!(!tap.up().is_empty());
}

#[test]
fn without_encryption_the_same_recording_shows_everything() {
    let sandbox = Sandbox::new();
    let server = Server::start_plaintext(&sandbox);
    let tap = Tap::start(server.address());
    talk(&sandbox, &server.link_by(tap.address()));
    let said = [ROOM, TOPIC, TEXT, DIRECT];
    for word in said.iter().chain(&HOSTS).chain(&NICKS) {
        assert!(
            tap.saw(word),
            "{word:?} is not seen: the test beside proves nothing"
        );
    }
}

#[test]
fn somebody_in_between_at_the_first_join_learns_nothing_and_spends_nothing() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let impostor = Impostor::start(&sandbox);
    let invited = server.invite(1, None);
    let tap = Tap::start(impostor.address());
    let (_, secrets) = invited
        .split_once(&server.address().to_string())
        .expect("an address");
    let caught = format!("chat://{}{secrets}", tap.address());
    let mut ada = Host::start(&sandbox, "ada", &caught);
    wait_refused(&ada, "another key");
    eventually("the impostor was tried", || match impostor.met() {
        0 => Err("nobody came"),
        _ => Ok(()),
    });
    assert!(impostor.heard().is_empty(), "it was told something");
    assert_eq!(uses_left(&server), 1);
    // The same line is good once the way is free.
    tap.lead_to(server.address());
    ada.wait_online();
    assert_eq!(uses_left(&server), 0);
    // Whoever believes the impostor's key tells it everything: so the test can fail.
    ada.kill_agent();
    let _believer = Host::start(&sandbox, "bee", {
        let there = caught.replace(&tap.address().to_string(), &impostor.address().to_string());
        with_key(&there, impostor.key())
    });
    eventually("the impostor hears a believer", || {
        let heard = String::from_utf8_lossy(&impostor.heard()).into_owned();
        heard.contains("chatF").then_some(()).ok_or(heard)
    });
}

#[test]
fn somebody_who_shows_the_server_s_certificate_without_its_key_learns_nothing() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let copied = server.state_dir().join("server.pem");
    let impostor = Impostor::with_keys(Keys::pretending(&sandbox, &copied));
    let ada = Host::start(&sandbox, "ada", server.link_by(impostor.address()));
    wait_refused(&ada, "certificate does not count");
    assert!(impostor.heard().is_empty(), "it was told something");
}

#[test]
fn somebody_in_between_later_gets_no_frame_and_nothing_is_lost() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let impostor = Impostor::start(&sandbox);
    let tap = Tap::start(server.address());
    let ada = Host::start(&sandbox, "ada", server.link_by(tap.address()));
    let alice = ada.terminal("alice");
    alice.send_committed("#ops", "before");
    tap.lead_to(impostor.address());
    let told = wait_refused(&ada, "another key");
    assert!(told.contains("somebody may be in between"), "{told}");
    alice.send("#ops", "meanwhile");
    assert!(impostor.heard().is_empty(), "it was told something");
    tap.lead_to(server.address());
    ada.wait_online();
    ada.wait_outbox_empty();
    let bodies = alice.read_all("#ops");
    let bodies: Vec<&str> = bodies.iter().map(|line| line.body.as_str()).collect();
    assert_eq!(bodies, ["before", "meanwhile"]);
}
