//! Daemons that a service manager runs: sockets that were there first, and news of how they are.

use crate::{background::Background, durability::meddle};
use protocol::local::LinkStatus;
use std::{
    fs,
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};
use tests::{
    AgentPeer, Host, Process, Sandbox, Server, ServiceManager, Session, Signal, chat_binary,
    eventually, heavy,
    server::free_loopback,
    service_manager::{activate, passing},
};

/// How long daemons under a watchdog may be silent here: they show life twice as often.
const WATCHDOG: Duration = Duration::from_millis(200);

/// A socket at `path`, as systemd makes it before there is an agent.
fn socket_unit(path: &Path) -> UnixListener {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    UnixListener::bind(path).expect("a socket")
}

#[test]
fn whoever_connects_before_the_agent_runs_is_answered_by_it() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let listener = socket_unit(host.socket());
    let path = host.socket().to_owned();
    let early = thread::spawn(move || {
        let mut session = Session::open(&path, "alice", false).expect("a session");
        session.status().pid
    });
    // Its connection waits in the socket before anybody could take it.
    let mut command = host.agent_command(&passing(&sandbox.place()));
    eventually("a connection", || connected(host.socket()));
    let start = |command: &mut Command| {
        let socket = listener.try_clone().expect("the socket");
        let mut agent = activate("agent", command, host.logs(), socket);
        let path = agent.wait_for_line("ready on ");
        assert_eq!(Path::new(&path), host.socket());
        agent
    };
    let mut agent = start(&mut command);
    assert_eq!(early.join().expect("answered"), agent.pid());
    host.terminal("alice").send("&den", "over a passed socket");

    // The socket is the service manager's: it stays, and serves the next agent.
    agent.terminate().expect_code(0);
    let _waiting = UnixStream::connect(host.socket()).expect("still a socket");
    let mut agent = start(&mut command);
    assert_eq!(host.terminal("alice").read_all("&den").len(), 1);
    agent.kill();
    start(&mut command);
}

/// Whether the kernel has a connection to the socket at `path` that nobody has accepted.
fn connected(path: &Path) -> Result<(), String> {
    let table = fs::read_to_string("/proc/net/unix").map_err(|error| error.to_string())?;
    let path = path.display().to_string();
    let count = table.lines().filter(|line| line.ends_with(&path)).count();
    if count > 1 {
        Ok(())
    } else {
        Err(format!("{count} sockets at {path}"))
    }
}

#[test]
fn a_second_agent_does_not_take_a_socket_that_was_passed() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let listener = socket_unit(host.socket());
    let mut command = host.agent_command(&passing(&sandbox.place()));
    let mut agent = activate("agent", &mut command, host.logs(), listener);
    agent.wait_for_line("ready on ");
    let second = Host::new(&sandbox, "bee").with_socket(host.socket().to_owned());
    let refused = second.launch().wait().expect_code(1);
    let pid = agent.pid().to_string();
    assert!(refused.stderr.contains(&pid), "{refused:?}");
    host.terminal("alice").send("&den", "undisturbed");
}

#[test]
fn what_was_passed_and_cannot_be_served_is_named() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let tcp = || TcpListener::bind("127.0.0.1:0").expect("a socket");
    let (connected, _other) = UnixStream::pair().expect("a connection");
    let null = || fs::File::open("/dev/null").expect("a file");
    let mut agent = host.agent_command(&passing(&sandbox.place()));
    let mut agent = |socket: std::os::fd::OwnedFd| {
        let ended = activate("agent", &mut agent, host.logs(), socket).wait();
        ended.expect_code(1).stderr
    };
    for refused in [
        agent(tcp().into()),
        agent(connected.into()),
        agent(null().into()),
    ] {
        assert!(
            refused.contains("listening Unix stream socket"),
            "{refused}"
        );
    }
    let mut server = passing(&sandbox.place()).chat();
    server
        .args(["server", "--state-dir"])
        .arg(sandbox.dir("server"));
    let unix = socket_unit(host.socket());
    let mut server = activate("server", &mut server, host.logs(), unix);
    let refused = server.wait().expect_code(1).stderr;
    assert!(refused.contains("listening TCP socket"), "{refused}");
}

#[test]
fn an_agent_that_connects_before_the_server_runs_is_welcomed_by_it() {
    let sandbox = Sandbox::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    let early = thread::spawn(move || AgentPeer::open(address, "ada").map(drop));
    let mut command = passing(&sandbox.place()).chat();
    // The address of the settings is not bound.
    command.args(["server", "--listen", "192.0.2.1:1", "--insecure-plaintext"]);
    command.arg("--state-dir").arg(sandbox.dir("server"));
    let mut server = activate("server", &mut command, &sandbox.dir("logs"), listener);
    let told = server.wait_for_line("listening on ");
    assert_eq!(told, address.to_string());
    early.join().expect("joined").expect("welcomed");
}

#[test]
fn the_service_manager_hears_when_the_agent_is_ready_reloads_and_ends() {
    let sandbox = Sandbox::new();
    let manager = ServiceManager::new(sandbox.path());
    let mut host = Host::new(&sandbox, "ada").in_place(manager.place(&sandbox.place()));
    let mut agent = host.launch();
    let ready = manager.next();
    assert!(
        ready.starts_with("READY=1\nSTATUS=ada: no server"),
        "{ready}"
    );
    // It is true: nobody waits any more.
    assert_eq!(host.status().link, LinkStatus::LocalOnly);
    hears_reload_and_end(&manager, &mut agent);
    // Nobody there to hear is no reason not to run.
    drop(manager);
    host.restart();
}

#[test]
fn the_service_manager_hears_when_the_server_is_ready_reloads_and_ends() {
    let sandbox = Sandbox::new();
    let manager = ServiceManager::new(sandbox.path());
    let server = Server::new(&sandbox, free_loopback())
        .in_place(manager.place(&sandbox.place()))
        .plaintext();
    let mut process = server.launch();
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\nSTATUS=agents: 0"), "{ready}");
    AgentPeer::open(server.address(), "ada").expect("welcome");
    hears_reload_and_end(&manager, &mut process);
}

fn hears_reload_and_end(manager: &ServiceManager, daemon: &mut Process) {
    daemon.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let at = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        at.is_some_and(|at| at.parse::<u64>().is_ok()),
        "{reloading}"
    );
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    daemon.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    daemon.wait().expect_code(0);
}

#[test]
fn the_watchdog_hears_of_a_daemon_that_works_and_not_of_a_stopped_one() {
    let sandbox = Sandbox::new();
    let watched = |name: &str| ServiceManager::new(&sandbox.dir(name));
    let (of_agent, of_server, clock) = (watched("a"), watched("s"), watched("c"));
    let place = sandbox.place();
    let host = |name: &str, manager: &ServiceManager| {
        Host::new(&sandbox, name)
            .in_place(manager.watching(&place, WATCHDOG))
            .launch()
    };
    let server = Server::new(&sandbox, free_loopback())
        .in_place(of_server.watching(&place, WATCHDOG))
        .launch();
    let mut daemons = [(&of_agent, host("ada", &of_agent)), (&of_server, server)];
    let _third = host("cow", &clock);
    for (manager, _) in &daemons {
        for _ in 0..3 {
            manager.wait_for("WATCHDOG=1");
        }
    }
    for (manager, daemon) in &mut daemons {
        daemon.stop();
        let stat = format!("/proc/{}/stat", daemon.pid());
        eventually("it is stopped", || {
            let stat = fs::read_to_string(&stat).map_err(|error| error.to_string())?;
            if stat.contains(") T ") {
                Ok(())
            } else {
                Err(stat)
            }
        });
        manager.drain();
    }
    // Another daemon tells the time: it would have been heard of five times.
    for _ in 0..5 {
        clock.wait_for("WATCHDOG=1");
    }
    for (manager, daemon) in &mut daemons {
        assert!(manager.drain().is_empty(), "a stopped daemon shows no life");
        daemon.cont();
        manager.wait_for("WATCHDOG=1");
    }
}

#[test]
fn the_watchdog_hears_nothing_of_an_agent_whose_disk_hangs() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let (manager, clock) = (
        ServiceManager::new(sandbox.path()),
        ServiceManager::new(&sandbox.dir("clock")),
    );
    let place = sandbox.place();
    let host = Host::new(&sandbox, "ada").in_place(manager.watching(&place, WATCHDOG));
    let mut agent = host.launch();
    let other = Host::new(&sandbox, "bee").in_place(clock.watching(&place, WATCHDOG));
    let _other = other.launch();
    manager.wait_for("WATCHDOG=1");
    let wal = host.database().with_extension("db-wal");
    let mut strace = meddle(&agent, &wal, "delay_enter=3600s", &sandbox);
    let mut send = host.terminal("alice").start(["send", "&den", "hello"]);
    eventually("the write takes too long", || {
        let log = agent.stderr();
        if log.contains("the watchdog waits") {
            Ok(())
        } else {
            Err(log)
        }
    });
    manager.drain();
    for _ in 0..5 {
        clock.wait_for("WATCHDOG=1");
    }
    // It says how things are still, but shows no life.
    let told = manager.drain();
    assert!(!told.concat().contains("WATCHDOG"), "{told:?}");
    // The disk comes back.
    strace.kill();
    manager.wait_for("WATCHDOG=1");
    send.wait().expect_code(0);
    agent.terminate().expect_code(0);
}

#[test]
fn an_agent_left_in_the_background_says_nothing_to_its_callers_service_manager() {
    let sandbox = Sandbox::new();
    let manager = ServiceManager::new(sandbox.path());
    let host = Host::new(&sandbox, "ada");
    let _agent = Background::at(host.socket().to_owned());
    let mut command = host.agent_command(&manager.watching(&sandbox.place(), WATCHDOG));
    command.arg("--background");
    Process::start("starter", &mut command, host.logs())
        .wait()
        .expect_code(0);
    let pid = host.status().pid;
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for name in ["NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_"] {
        assert!(!environment.contains(name), "{environment}");
    }
    host.terminal("alice").send("&den", "well");
    assert_eq!(manager.drain(), Vec::<String>::new());
}

/// The units that are shipped, each with whether it is for a user's own service manager.
const UNITS: [(&str, bool); 4] = [
    ("user/chat-agent.socket", true),
    ("user/chat-agent.service", true),
    ("system/chat-server.service", false),
    ("system/chat-server.socket", false),
];

fn unit(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    fs::read_to_string(dir.join(name)).expect("a unit")
}

#[test]
fn the_units_start_daemons_that_take_their_flags_and_meet_at_the_default_socket() {
    let sandbox = Sandbox::new();
    let state = sandbox.dir("state");
    for (name, _) in UNITS.iter().filter(|(name, _)| name.ends_with(".service")) {
        let unit = unit(name);
        let start = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/chat "));
        let start = start
            .expect("what to run")
            .replace("%S", &state.display().to_string());
        let mut command = sandbox.place().chat();
        command.args(start.split(' ')).arg("--print-config");
        Process::start("daemon", &mut command, &sandbox.dir("logs"))
            .wait()
            .expect_code(0);
    }
    let runtime = sandbox.dir("runtime");
    let mut command = sandbox.place().with_env("XDG_RUNTIME_DIR", &runtime).chat();
    command.args(["agent", "--print-config"]);
    let agent = Process::start("agent", &mut command, &sandbox.dir("logs"))
        .wait()
        .ok();
    let units = unit("user/chat-agent.socket");
    let listen = units
        .lines()
        .find_map(|line| line.strip_prefix("ListenStream=%t"));
    let meant = format!(
        "socket = \"{}{}\"",
        runtime.display(),
        listen.expect("a path")
    );
    assert!(agent.contains(&meant), "{agent}");
}

/// Where systemd is installed, it has its say too.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let sandbox = Sandbox::new();
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return;
    }
    let dir = sandbox.dir("units");
    let file = |name: &str| dir.join(Path::new(name).file_name().expect("a name"));
    let binary = chat_binary().display().to_string();
    for (name, _) in UNITS {
        let unit = unit(name).replace("/usr/local/bin/chat", &binary);
        fs::write(file(name), unit).expect("a unit");
    }
    for (name, is_users) in UNITS {
        let path = file(name);
        let mut verify = sandbox.place().command("systemd-analyze".as_ref());
        verify.args(["verify", "--man=no"]);
        if is_users {
            let runtime = sandbox.dir("runtime");
            verify.arg("--user").env("XDG_RUNTIME_DIR", runtime);
        }
        let said = Process::start("verify", verify.arg(&path), &sandbox.dir("logs")).wait();
        // It complains about what else is on this machine too.
        let complaints: Vec<&str> = said
            .stderr
            .lines()
            .filter(|line| line.contains("chat-") || line.contains("Failed"))
            .collect();
        assert_eq!(complaints, Vec::<&str>::new());
    }
}
