//! Who is there: join, leave, away, and a host that dies without a word.

use crate::conversation::two_hosts;
use protocol::{
    Availability,
    local::{Event, From, Reply, Request},
};
use tests::{
    Host, Network, Sandbox, Server, Session, eventually,
    privilege::{Need, privileged},
};

/// How `user` is in `room`, as `session` is told; `None` if they are no member.
fn availability(session: &mut Session, room: &str, user: &str) -> Option<Availability> {
    let room = session.room(room);
    let reply = session.ask(Request::Who { room, after: None });
    let Ok(Reply::Members { members, .. }) = reply else {
        panic!("who got {reply:?}");
    };
    let member = members
        .iter()
        .find(|member| member.user.to_string() == user);
    member.map(|member| member.availability)
}

pub(crate) fn wait_for(
    session: &mut Session,
    room: &str,
    user: &str,
    expected: Option<Availability>,
) {
    eventually(
        &format!("{user} is {expected:?} in {room}"),
        || match availability(session, room, user) {
            seen if seen == expected => Ok(()),
            seen => Err(format!("{seen:?}")),
        },
    );
}

#[test]
fn who_passes_a_refusal_on_and_tells_when_it_knows_only_this_host() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let alice = ada.terminal("alice");
    let refused = alice.run(["who", "#nowhere"]).expect_code(1);
    assert!(refused.stderr.contains("no room #nowhere"), "{refused:?}");
    alice.send_committed("#ops", "hello");
    let whole = alice.run(["who", "#ops"]).expect_code(0);
    assert!(whole.stdout.contains("alice@ada"), "{whole:?}");
    assert_eq!(whole.stderr, "");
    server.kill();
    ada.wait_offline();
    let partial = alice.run(["who", "#ops"]).expect_code(0);
    assert!(partial.stdout.contains("alice@ada"), "{partial:?}");
    assert!(
        partial.stderr.contains("only members on this host"),
        "{partial:?}"
    );
}

#[test]
fn joining_leaving_and_being_away_are_seen_on_the_other_host() {
    let sandbox = Sandbox::new();
    let (_server, ada, bee) = two_hosts(&sandbox);
    let mut bob = bee.session("bob");
    bob.open_room("#ops", From::Beginning);
    {
        let mut alice = ada.session("alice");
        alice.open_room("#ops", From::Beginning);
        bob.event(|event| match event {
            Event::Joined { user, .. } if user.to_string() == "alice@ada" => Some(()),
            _ => None,
        });
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
        wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));

        alice.ask(Request::SetAway { away: true }).expect("away");
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Away));
        alice.ask(Request::SetAway { away: false }).expect("back");
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    }
    // The session is gone, the membership is not.
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Offline));
    let mut alice = ada.session("alice");
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    let room = alice.room("#ops");
    alice.ask(Request::Leave { room }).expect("left");
    wait_for(&mut bob, "#ops", "alice@ada", None);
    let listed = bee.terminal("bob").run(["who", "#ops"]).ok();
    assert!(listed.contains("bob"), "{listed}");
    assert!(!listed.contains("alice"), "{listed}");
}

#[test]
fn presence_within_a_host_needs_no_server() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let mut alice = host.session("alice");
    alice.open_room("&den", From::Beginning);
    {
        let mut bob = host.session("bob");
        bob.open_room("&den", From::Beginning);
        wait_for(&mut alice, "&den", "bob@ada", Some(Availability::Online));
    }
    wait_for(&mut alice, "&den", "bob@ada", Some(Availability::Offline));
}

#[test]
fn a_killed_agents_users_are_offline_and_come_back() {
    let sandbox = Sandbox::new();
    let (mut server, mut ada, bee) = two_hosts(&sandbox);
    let mut bob = bee.session("bob");
    bob.open_room("#ops", From::Beginning);
    let mut alice = ada.session("alice");
    alice.open_room("#ops", From::Beginning);
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
    ada.kill_agent();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Offline));
    ada.restart();
    let _alice = ada.session("alice");
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));

    // A restarted server learns again who is there.
    server.kill();
    server.restart();
    bee.wait_online();
    wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
}

#[test]
fn users_of_a_host_that_fell_silent_are_offline_after_the_heartbeat() {
    let name = "presence::users_of_a_host_that_fell_silent_are_offline_after_the_heartbeat";
    privileged(Need::Namespaces, name, || {
        let sandbox = Sandbox::new();
        let mut network = Network::new();
        let nodes = ["server", "ada", "bee"].map(|name| network.node(name));
        let [server_link, ada_link, bee_link] = &nodes;
        let address = server_link.address(7667);
        let mut server = Server::new(&sandbox, address).in_place(server_link.place(&sandbox));
        server.restart();
        let hosts = [("ada", ada_link), ("bee", bee_link)].map(|(name, link)| {
            let mut host = Host::new(&sandbox, name)
                .with_server(server.link())
                .in_place(link.place(&sandbox));
            host.restart();
            host.wait_online();
            host
        });
        let mut alice = hosts[0].session("alice");
        alice.open_room("#ops", From::Beginning);
        let mut bob = hosts[1].session("bob");
        bob.open_room("#ops", From::Beginning);
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
        wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
        ada_link.cut();
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Offline));
        // Alice's agent cannot know how bob is, and does not claim to.
        eventually("bob is not said to be there", || {
            match availability(&mut alice, "#ops", "bob@bee") {
                None | Some(Availability::Unknown) => Ok(()),
                some => Err(format!("{some:?}")),
            }
        });
        ada_link.heal();
        wait_for(&mut bob, "#ops", "alice@ada", Some(Availability::Online));
        wait_for(&mut alice, "#ops", "bob@bee", Some(Availability::Online));
    });
}
