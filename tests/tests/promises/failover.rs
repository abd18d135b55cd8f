//! A host with several servers is connected to one that lives, and loses nothing on the way.

use protocol::local::LinkStatus;
use std::{net::TcpListener, time::Instant};
use tests::{Host, Sandbox, Server, Servers, eventually, server::free_loopback};

#[test]
fn a_host_whose_server_ends_is_soon_at_another_and_delivers_what_was_accepted_meanwhile() {
    let sandbox = Sandbox::new();
    let mut servers = Servers::start(&sandbox, 2);
    let (ada, bee) = (servers.host(&sandbox, "ada"), servers.host(&sandbox, "bee"));
    let (alice, bob) = (ada.terminal("alice"), bee.terminal("bob"));
    bob.run(["join", "#ops"]).expect_code(0);
    alice.send_committed("#ops", "before");
    for how in ["SIGKILL", "SIGTERM"] {
        let lost = servers.of(&ada).address().to_string();
        let ended = Instant::now();
        match how {
            "SIGKILL" => servers.of(&ada).kill(),
            _ => drop(servers.of(&ada).terminate()),
        }
        let texts: Vec<String> = (0..10).map(|n| format!("{n} after {how}")).collect();
        for text in &texts {
            alice.send("#ops", text);
        }
        servers.wait_elsewhere(&ada, &lost);
        println!("online again {:?} after a {how}", ended.elapsed());
        ada.wait_outbox_empty();
        servers.wait_elsewhere(&bee, &lost);
        eventually("bob has what alice said meanwhile", || {
            let read: Vec<String> = bob.read_all("#ops").into_iter().map(|m| m.body).collect();
            let new: Vec<&String> = read.iter().filter(|body| texts.contains(body)).collect();
            match new.iter().copied().eq(&texts) {
                true => Ok(()),
                false => Err(format!("{read:?}")),
            }
        });
        // The next one ends as well: then the first must be there again.
        servers.restart(&lost);
    }
}

#[test]
fn one_line_for_several_servers_federates_with_one_that_lives() {
    let sandbox = Sandbox::new();
    let dead = free_loopback();
    let alive = free_loopback();
    let public = format!("{dead},{alive}");
    let mut server = Server::new(&sandbox, alive).with_args(&["--public-address", &public]);
    server.restart();
    let line = server.invite(1, None);
    assert!(line.starts_with(&format!("chat://{public}/")), "{line}");
    let ada = Host::start_alone(&sandbox, "ada");
    let alice = ada.terminal("alice");
    let said = alice.run(["join", &line]).ok();
    assert!(
        said.starts_with(&format!("connected to {alive} (")),
        "{said}"
    );
    alice.send_committed("#ops", "here");
    // Its key is enough from now on: at this address and, once it is in, at the other.
    let mut ada = ada;
    ada.restart();
    ada.wait_online();
    server.terminate().expect_code(0);
    ada.wait_offline();
    let mut moved = Server::new(&sandbox, dead).with_state_dir(server.state_dir().to_owned());
    moved.restart();
    ada.wait_online();
    alice.send_committed("#ops", "there");
}

#[test]
fn a_server_that_takes_the_connection_and_never_answers_holds_nobody() {
    let sandbox = Sandbox::new();
    // The kernel accepts for it.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mute = mute.local_addr().map(|address| (mute, address));
    let (_open, address) = mute.expect("its address");
    let server = Server::start(&sandbox);
    let mut ada = Host::new(&sandbox, "ada")
        .with_server(format!("plain://{address}"))
        .with_server(server.link());
    let begun = Instant::now();
    ada.restart();
    ada.wait_online();
    println!("online {:?} after the start", begun.elapsed());
    ada.terminal("alice").send_committed("#ops", "heard");
}

#[test]
fn a_drained_server_gives_its_hosts_away_and_takes_them_again() {
    let sandbox = Sandbox::new();
    let mut servers = Servers::start(&sandbox, 2);
    let names = ["ada", "bee", "cat", "dan"];
    let hosts = names.map(|name| servers.host(&sandbox, name));
    let ada = &hosts[0];
    let alice = ada.terminal("alice");
    let drained = servers.of(ada).address().to_string();

    let mut pipe = alice.pipe("#ops");
    for number in 0..100 {
        pipe.write(&format!("message {number}")).expect("taken");
    }
    let said = servers.of(ada).order(&["drain", "--group", "1", "--json"]);
    let said = said.ok();
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(r#""draining":true,"connected":0"#), "{said}");
    for host in &hosts {
        servers.wait_elsewhere(host, &drained);
    }
    for number in 100..200 {
        pipe.write(&format!("message {number}")).expect("taken");
    }
    eventually("all are accepted", || match pipe.sent().len() {
        200 => Ok(()),
        some => Err(some.to_string()),
    });
    ada.wait_outbox_empty();

    // Who knows no other server waits, and so does what is said there.
    let only = servers.at(&drained);
    let eve = Host::start(&sandbox, "eve", only.link());
    eventually("eve is refused", || match eve.status().link {
        LinkStatus::Waiting { error, .. } if error.contains("drained") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let hers = eve.terminal("eve");
    assert_eq!(hers.send("#ops", "patience").state, "queued");
    let undone = only.order(&["drain", "--undo"]).ok();
    assert_eq!(undone, "hosts are let in again\n");
    eve.wait_online();
    eve.wait_outbox_empty();
    let read = hers.read_all("#ops");
    assert!(read.iter().any(|message| message.body == "patience"));
}
