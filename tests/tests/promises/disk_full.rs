//! Promise 1 when the disk is full: a clear error, nothing acknowledged is lost, and no restart
//! is needed once there is room again.

use protocol::{Seq, local::From};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};
use tests::{
    Host, Sandbox, Server, eventually,
    privilege::{Need, privileged, tool},
};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(sandbox: &Sandbox, name: &str) -> Self {
        let path = sandbox.dir(name);
        let target = path.to_str().expect("a plain path");
        tool(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "size=4m,mode=0700",
            "chat-test",
            target,
        ]);
        Self { path }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes all the room there is, except for about `leave` bytes.
    fn fill(&self, leave: u64) {
        let mut file = File::create(self.ballast()).expect("ballast");
        let block = [0_u8; 4096];
        while file.write_all(&block).is_ok() {}
        let len = file.metadata().expect("ballast").len();
        file.set_len(len.saturating_sub(leave))
            .expect("a little room");
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon on it is killed by its own guard, perhaps later.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.path)
            .output();
    }
}

/// About 2 KiB, told apart by its number.
fn body(number: usize) -> String {
    format!("{number:04} {}", "x".repeat(2_000))
}

fn numbers(bodies: &[String]) -> Vec<usize> {
    let number = |body: &String| body[..4].parse().expect("numbered");
    bodies.iter().map(number).collect()
}

#[test]
fn a_server_with_a_full_disk_makes_hosts_wait_and_recovers_by_itself() {
    let name = "disk_full::a_server_with_a_full_disk_makes_hosts_wait_and_recovers_by_itself";
    privileged(Need::Namespaces, name, || {
        let sandbox = Sandbox::new();
        let disk = SmallDisk::mount(&sandbox, "server-disk");
        let address = tests::server::free_loopback();
        let mut server = Server::new(&sandbox, address).with_state_dir(disk.path.clone());
        server.restart();
        let ada = Host::start(&sandbox, "ada", server.link());
        let bee = Host::start(&sandbox, "bee", server.link());
        let alice = ada.terminal("alice");
        let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
        alice.send_committed("#ops", &body(0));
        bob.wait_for(&body(0));

        disk.fill(64 * 1024);
        let mut accepted = 1;
        let mut waiting = false;
        while !waiting {
            let text = body(accepted);
            let words = [
                "send",
                "#ops",
                &text,
                "--wait",
                "committed",
                "--timeout",
                "2",
            ];
            let finished = alice.run(words);
            waiting = match finished.code {
                Some(0) => false,
                Some(75) => true,
                _ => panic!("{finished:?}"),
            };
            accepted += 1;
            assert!(accepted < 1_000, "the disk does not get full");
        }
        eventually("the host tells what is wrong", || {
            let problems = ada.status().problems;
            match problems.is_empty() {
                false => Ok(()),
                true => Err("no problems"),
            }
        });
        let log = eventually("the server's log tells what is wrong", || {
            let log = server.process().stderr().to_lowercase();
            match log.contains("full") || log.contains("space") {
                true => Ok(log),
                false => Err(log),
            }
        });
        assert!(
            log.contains("server.db") || log.contains("server-disk"),
            "{log}"
        );
        // What is committed can still be read, what is not yet keeps being accepted.
        assert!(!bee.terminal("bob").read_all("#ops").is_empty());
        assert_eq!(alice.send("#ops", &body(accepted)).state, "queued");
        accepted += 1;

        disk.free();
        bob.wait_for(&body(accepted - 1));
        assert_eq!(numbers(&bob.bodies()), (0..accepted).collect::<Vec<_>>());
        assert!(server.process().is_running(), "it is the same process");
        alice.send_committed("#ops", &body(accepted));
        eventually("the problem is over", || match ada.status().problems {
            none if none.is_empty() => Ok(()),
            some => Err(format!("{some:?}")),
        });
        // And all of it is really on disk.
        server.restart();
        assert_eq!(bee.terminal("carol").read_all("#ops").len(), accepted + 1);
    });
}

#[test]
fn an_agent_with_a_full_disk_refuses_clearly_and_recovers_by_itself() {
    let name = "disk_full::an_agent_with_a_full_disk_refuses_clearly_and_recovers_by_itself";
    privileged(Need::Namespaces, name, || {
        let sandbox = Sandbox::new();
        let disk = SmallDisk::mount(&sandbox, "agent-disk");
        let mut server = Server::start(&sandbox);
        let mut ada = Host::new(&sandbox, "ada")
            .with_server(server.link())
            .with_state_dir(disk.path.clone());
        ada.restart();
        let bee = Host::start(&sandbox, "bee", server.link());
        ada.wait_online();
        let alice = ada.terminal("alice");
        let mut bob = bee.terminal("bob").tail(&["#ops"], "0");
        alice.send_committed("#ops", &body(0));
        alice.send("&den", &body(0));
        let mut live = alice.tail(&["&den"], "0");
        live.wait_for(&body(0));

        disk.fill(96 * 1024);
        let ops = send_until_refused(&alice, "#ops", 1, &disk.path);
        let den = send_until_refused(&alice, "&den", 1, &disk.path);
        let status = alice.run(["status"]).ok();
        let status = status.to_lowercase();
        assert!(
            status.contains("full") || status.contains("space"),
            "{status}"
        );

        // To find what is there needs no room.
        let found = alice
            .run(["search", "xxx", "room:&den", "--limit", "5000", "--json"])
            .ok();
        assert_eq!(found.lines().count(), den, "{found}");

        disk.free();
        eventually("the agent accepts again", || {
            let finished = alice.run(["send", "#ops", &body(ops)]);
            match finished.code {
                Some(0) => Ok(()),
                _ => Err(finished.stderr),
            }
        });
        assert!(ada.agent().is_running(), "it is the same process");
        alice.send_committed("#ops", &body(ops + 1));
        alice.send("&den", &body(den));
        bob.wait_for(&body(ops + 1));
        // A refused message was tried again under another id: it must be there once, all the
        // accepted ones too.
        assert_eq!(numbers(&bob.bodies()), (0..ops + 2).collect::<Vec<_>>());
        let local: Vec<_> = alice
            .read_all("&den")
            .into_iter()
            .map(|line| line.body)
            .collect();
        assert_eq!(numbers(&local), (0..=den).collect::<Vec<_>>());
        live.wait_for(&body(den));
        assert_eq!(numbers(&live.bodies()), (0..=den).collect::<Vec<_>>());
        // No transaction that was taken back has left a place in the order.
        let mut session = ada.session("bob");
        session.open_room("&den", From::Beginning);
        let mut before = Seq::START;
        for _ in 0..=den {
            let message = session.next_message();
            assert_eq!(message.prev_seq, before, "{message:?}");
            before = message.seq;
        }
        server.kill();
    });
}

/// Sends until a message is refused for want of room; returns the number of the refused one.
fn send_until_refused(sender: &tests::Terminal, room: &str, first: usize, disk: &Path) -> usize {
    for number in first..1_000 {
        let finished = sender.run(["send", room, &body(number)]);
        if finished.code == Some(0) {
            continue;
        }
        let finished = finished.expect_code(1);
        let said = finished.stderr.to_lowercase();
        assert!(said.contains("full") || said.contains("space"), "{said}");
        return number;
    }
    panic!("{} does not get full", disk.display())
}
