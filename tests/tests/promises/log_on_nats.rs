//! What a server does that NATS does not let in, or has no room for: it says so, nothing that was
//! acknowledged is lost, and what waited goes its way by itself.

use crate::trust::authorities::Authority;
use tests::{Host, NatsServer, Sandbox, Server, eventually, server::free_loopback};

#[test]
fn a_server_is_let_in_by_nats_over_tls_and_says_what_is_wrong_if_not() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox, "nats-ca");
    let ca = authority.certificate();
    for (host, authorization, secret, guess) in [
        (
            "ada",
            "user: chat, password: \"s3cret-word\"",
            "chat:s3cret-word",
            "chat:wr0ng-word",
        ),
        ("bee", "token: \"s3cret-word\"", "s3cret-word", "wr0ng-word"),
    ] {
        let address = free_loopback();
        let issued = authority.issue("nats", &format!("IP:{}", address.ip()));
        let more = format!(
            "tls {{ cert_file: {:?}, key_file: {:?} }}\nauthorization {{ {authorization} }}",
            issued.certificate, issued.key
        );
        let _nats = NatsServer::start_at(&sandbox, address, &more);
        let with = |secret: &str, more: &[&str]| {
            let log = format!("tls://{secret}@{address}");
            let args = [&["--log", &log, "--nats-synced"], more].concat();
            Server::new(&sandbox, free_loopback()).with_args(&args)
        };
        let mut server = with(secret, &["--nats-ca", &ca]);
        server.restart();
        let host = Host::start(&sandbox, host, server.link());
        host.terminal("alice").send_committed("#ops", "hello");

        for (refused, told) in [
            (with(guess, &["--nats-ca", &ca]), "authorization violation"),
            (with(secret, &[]), "certificate"),
        ] {
            let ended = refused.launch().wait();
            let said = ended.expect_code(1).stderr;
            let place = format!("tls://***@{address}");
            assert!(said.contains(&place) && said.contains(told), "{said}");
            assert!(!said.contains("-word"), "a secret was told: {said}");
        }
    }
}

/// Bytes that NATS has for everything, and has later.
const SMALL: u64 = 1 << 20;
const LARGE: u64 = 64 << 20;

/// About 20 KiB, told apart by its number.
fn body(number: usize) -> String {
    format!("{number:04} {}", "x".repeat(20_000))
}

#[test]
fn a_full_nats_makes_hosts_wait_and_everything_goes_on_by_itself_when_it_has_room() {
    let sandbox = Sandbox::new();
    let mut nats = NatsServer::start_small(&sandbox, SMALL);
    let log = nats.url();
    let mut server =
        Server::new(&sandbox, free_loopback()).with_args(&["--log", &log, "--nats-synced"]);
    server.restart();
    let [ada, bee] = ["ada", "bee"].map(|name| Host::start(&sandbox, name, server.link()));
    let alice = ada.terminal("alice");
    let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
    alice.send_committed("#ops", &body(0));
    bob.wait_for(&body(0));

    let mut accepted = 1;
    loop {
        let text = body(accepted);
        let wait = ["--wait", "committed", "--timeout", "2"];
        let sent = alice.run([&["send", "#ops", &text], &wait[..]].concat());
        accepted += 1;
        assert!(accepted < 200, "NATS does not get full");
        match sent.code {
            Some(0) => {}
            Some(75) if server.process().stderr().contains("the log takes nothing") => break,
            Some(75) => {}
            _ => panic!("{sent:?}"),
        }
    }
    eventually("the host tells what is wrong", || {
        let problems = ada.status().problems;
        match problems
            .iter()
            .any(|one| format!("{one:?}").contains("NATS"))
        {
            true => Ok(()),
            false => Err(format!("{problems:?}")),
        }
    });
    let said = eventually("the server tells what is wrong", || {
        let said = server.process().stderr();
        match said.contains("the log takes nothing") {
            true => Ok(said),
            false => Err(said),
        }
    });
    assert!(said.contains("NATS refuses"), "{said}");
    // What is committed can still be read, what is not yet keeps being accepted.
    assert!(!bee.terminal("carol").read_all("#ops").is_empty());
    assert_eq!(alice.send("#ops", &body(accepted)).state, "queued");
    accepted += 1;

    nats.make_room(SMALL, LARGE);
    bob.wait_for(&body(accepted - 1));
    let sent: Vec<String> = (0..accepted).map(body).collect();
    assert_eq!(bob.bodies(), sent);
    assert!(server.process().is_running(), "it is the same process");
    alice.send_committed("#ops", &body(accepted));
    eventually("the problem is over", || match ada.status().problems {
        none if none.is_empty() => Ok(()),
        some => Err(format!("{some:?}")),
    });
    assert!(server.process().stderr().contains("takes messages again"));
    // And all of it is really in the log.
    nats.restart();
    server.restart();
    eventually("all of it is read", || {
        match bee.terminal("dave").read_all("#ops").len() {
            all if all == accepted + 1 => Ok(()),
            some => Err(some),
        }
    });
}
