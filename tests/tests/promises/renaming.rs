//! A cloned machine gets a name of its own, and keeps what it has.

use tests::{Host, Process, Sandbox, Server, eventually};

/// An agent for `host`'s files that gives them the name `new` first.
fn rename(host: &Host, new: &Host, server: &Server) -> Process {
    let mut command = host.place().chat();
    command.args(["agent", "--rename-host", new.name()]);
    command.arg("--socket").arg(new.socket());
    command.arg("--state-dir").arg(host.state_dir());
    command.args(["--server", &server.link()]);
    Process::start("renamed", &mut command, host.logs())
}

#[test]
fn a_cloned_host_takes_another_name_and_loses_nothing() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let bee = Host::start(&sandbox, "bee", server.link());
    let original = Host::start(&sandbox, "vm", server.link());
    bee.wait_online();
    original.wait_online();
    original
        .terminal("alice")
        .send_committed("#ops", "from the original");

    // The clone has talked on its own, and has written to others.
    let mut clone = Host::new(&sandbox, "vm").with_state_dir(sandbox.dir("clone"));
    clone = clone.with_socket(sandbox.dir("clone-run").join("agent.sock"));
    clone.restart();
    let alice = clone.terminal("alice");
    alice.send("bob", "hello on this host");
    alice.send("&den", "in the den");
    alice.send("#ops", "written offline");
    alice.send("carl@bee", "to another host");

    clone = clone.with_server(server.link());
    clone.restart();
    let alice = clone.terminal("alice");
    let status = eventually("the server refuses", || {
        let status = alice.run(["status"]).ok();
        if status.contains("refuses this host") {
            Ok(status)
        } else {
            Err(status)
        }
    });
    assert!(status.contains("--rename-host"), "{status}");
    assert!(!status.contains("cannot be reached"), "{status}");
    clone.terminate_agent().expect_code(0);

    let mut renamed = Host::new(&sandbox, "vm2").with_state_dir(clone.state_dir().to_owned());
    let mut agent = rename(&clone, &renamed, &server);
    agent.wait_for_line("ready on ");
    renamed.wait_online();
    renamed.wait_outbox_empty();
    let carl = bee.terminal("carl");
    let ops = carl.read_all("#ops");
    let said: Vec<_> = ops.iter().map(|line| (&*line.from, &*line.body)).collect();
    let expected = [
        ("alice@vm", "from the original"),
        ("alice@vm2", "written offline"),
    ];
    assert_eq!(said, expected);
    let direct = carl.read_all("alice@vm2");
    assert_eq!(direct.len(), 1);
    assert_eq!(direct[0].body, "to another host");
    carl.send_committed("alice@vm2", "and back");

    // Once is enough; the history is there, as it was said.
    agent.terminate().expect_code(0);
    renamed = renamed.with_server(server.link());
    renamed.restart();
    renamed.wait_online();
    let mut alice = renamed.terminal("alice").tail(&["carl@bee"], "0");
    alice.wait_for("and back");
    let alice = renamed.terminal("alice");
    let own = renamed.terminal("bob").read_all("alice");
    assert_eq!(own.len(), 1);
    assert_eq!(
        (&*own[0].from, &*own[0].body),
        ("alice@vm", "hello on this host")
    );
    assert_eq!(alice.read_all("&den").len(), 1);
    alice.send("bob", "under the new name");
    assert_eq!(renamed.terminal("bob").read_all("alice").len(), 2);
    let who = alice.run(["who", "#ops"]).ok();
    assert!(who.contains("alice"), "{who}");
}

#[test]
fn a_setting_with_the_old_name_is_named_before_anything_is_renamed() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let mut host = Host::start_alone(&sandbox, "vm");
    host.terminate_agent().expect_code(0);
    let new = Host::new(&sandbox, "vm2");
    let place = sandbox.place().with_env("CHAT_HOST", "vm");
    let refused = rename(&host.in_place(place), &new, &server).wait();
    let told = refused.expect_code(1).stderr;
    assert!(told.contains("CHAT_HOST") && told.contains("vm2"), "{told}");
    let same = Host::new(&sandbox, "vm").with_state_dir(sandbox.dir("vm").join("state"));
    let mut agent = same.launch();
    agent.wait_for_line("ready on ");
    let other = Host::new(&sandbox, "vm3").with_state_dir(same.state_dir().to_owned());
    agent.terminate().expect_code(0);
    let refused = other.launch().wait().expect_code(1).stderr;
    assert!(refused.contains("--rename-host vm3"), "{refused}");
}
