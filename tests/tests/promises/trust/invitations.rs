//! An invitation lets in whom it is for, and is not spent on anybody else.

use super::{key_of, listed, newest_invitation, uses_left, wait_refused, with_key};
use protocol::{
    Invitation, KeyFingerprint, ServerAddress,
    federation::{BadInvitation, Refusal},
};
use std::net::SocketAddr;
use tests::{AgentPeer, Host, Keys, Sandbox, Server, eventually, server::free_loopback};

/// What `server` answers a new key that shows the invitation of `link` as `host`.
fn enrol(sandbox: &Sandbox, link: &str, host: &str) -> Result<(), Refusal> {
    let keys = Keys::new(sandbox);
    let mut peer = AgentPeer::silent(link, &keys).expect("TLS");
    peer.enrol(link, host)?;
    peer.hello(host)
}

fn bad(reason: BadInvitation) -> Result<(), Refusal> {
    Err(Refusal::BadInvitation { reason })
}

#[test]
fn a_server_with_another_key_is_refused_and_the_invitation_is_still_good() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let invited = server.invite(1, None);
    let wrong = with_key(&invited, KeyFingerprint::of_spki(b"somebody else's"));
    let ada = Host::start(&sandbox, "ada", wrong);
    let told = wait_refused(&ada, "another key");
    assert!(told.contains("chat join"), "what to do? {told}");
    assert_eq!(uses_left(&server), 1);
    assert_eq!(key_of(&server, "ada"), None);
    let joined = ada.terminal("alice").run(["join", &invited]);
    joined.expect_code(0);
    assert_eq!(uses_left(&server), 0);
}

#[test]
fn an_invitation_that_was_used_up_lets_in_nobody_else() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let link = server.invite(2, None);
    assert_eq!(enrol(&sandbox, &link, "ada"), Ok(()));
    assert_eq!(enrol(&sandbox, &link, "bee"), Ok(()));
    assert_eq!(enrol(&sandbox, &link, "cow"), bad(BadInvitation::Used));
    let cow = Host::start(&sandbox, "cow", &link);
    let told = wait_refused(&cow, "was used already");
    assert!(told.contains("chat server invite"), "{told}");
    assert_eq!(newest_invitation(&server)["state"], "used");
}

#[test]
fn an_invitation_whose_time_is_over_lets_in_nobody() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let line = server.order(&["invite", "--expires", "1s"]).ok();
    let link = line.trim().trim_start_matches("chat join ");
    eventually("the invitation is over", || {
        let newest = newest_invitation(&server);
        (newest["state"] == "expired").then_some(()).ok_or(newest)
    });
    assert_eq!(enrol(&sandbox, link, "ada"), bad(BadInvitation::Expired));
    let ada = Host::start(&sandbox, "ada", link);
    wait_refused(&ada, "has expired");
}

#[test]
fn an_invitation_that_was_taken_back_lets_in_nobody() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let link = server.invite(3, None);
    assert_eq!(enrol(&sandbox, &link, "ada"), Ok(()));
    let number = newest_invitation(&server)["invitation"].to_string();
    server
        .order(&["revoke", "--invitation", &number])
        .expect_code(0);
    assert_eq!(enrol(&sandbox, &link, "bee"), bad(BadInvitation::Revoked));
    server.restart();
    assert_eq!(enrol(&sandbox, &link, "bee"), bad(BadInvitation::Revoked));
    let cow = Host::start(&sandbox, "cow", &link);
    wait_refused(&cow, "was revoked");
    // Whom it let in before stays.
    assert!(key_of(&server, "ada").is_some());
}

#[test]
fn an_invitation_that_nobody_made_lets_in_nobody() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let mut made_up = ServerAddress::parse(&server.link()).expect("a link");
    for byte in 0..16 {
        made_up
            .trust
            .set_invitation(Some(Invitation::from_bytes([byte; 16])));
        let refused = enrol(&sandbox, &made_up.reveal(), "ada");
        assert_eq!(refused, bad(BadInvitation::Unknown));
    }
    assert_eq!(listed(&server, &["agents"]).len(), 0);
}

#[test]
fn an_invitation_for_one_host_lets_in_no_other() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let link = server.invite(1, Some("bee"));
    assert_eq!(enrol(&sandbox, &link, "ada"), bad(BadInvitation::OtherHost));
    let ada = Host::start(&sandbox, "ada", &link);
    wait_refused(&ada, "another host's name");
    assert_eq!(uses_left(&server), 1);
    assert_eq!(enrol(&sandbox, &link, "bee"), Ok(()));
}

#[test]
fn an_invitation_of_one_server_means_nothing_to_another() {
    let sandbox = Sandbox::new();
    let (one, other) = (Server::start(&sandbox), Server::start(&sandbox));
    let moved = |address: SocketAddr| one.link_by(address);
    let lost = Host::start(&sandbox, "ada", moved(other.address()));
    wait_refused(&lost, "another key");
    // Nor is it shown to whoever takes an address over.
    let nobody = free_loopback();
    let waiting = Host::start(&sandbox, "bee", moved(nobody));
    wait_refused(&waiting, "cannot connect");
    assert_eq!(listed(&other, &["agents"]).len(), 0);
}

#[test]
fn a_join_that_is_cut_off_anywhere_can_be_repeated_and_costs_one_use() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let link = server.invite(1, None);
    let mut ada = Host::new(&sandbox, "ada").with_server(&link);
    for _ in 0..5 {
        // Killed as soon as it is there, wherever it is in enrolling.
        ada.restart();
        ada.kill_agent();
    }
    ada.restart();
    ada.wait_online();
    assert_eq!(uses_left(&server), 0);
    assert_eq!(listed(&server, &["agents"]).len(), 1);
}
