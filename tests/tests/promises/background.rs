//! Agents that belong to no terminal: started once, by whoever comes first, and left behind.

use protocol::local::LinkStatus;
use rustix::process::{Pid, kill_process};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
};
use tests::{
    Process, Sandbox, Server, Session, Signal, chat_binary, eventually, process::assert_no_bugs,
};

/// An agent that `chat` started in the background: ended with the test, by its own pid.
pub(crate) struct Background {
    socket: PathBuf,
}

impl Background {
    pub(crate) const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    fn pid(&self) -> Option<u32> {
        let mut session = Session::open(&self.socket, "observer", false).ok()?;
        Some(session.status().pid)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let Ok(mut session) = Session::open(&self.socket, "observer", false) else {
            return;
        };
        let status = session.status();
        signal(status.pid, Signal::TERM);
        if !thread::panicking() {
            let log = Path::new(&status.state_dir).join("agent.log");
            let said = fs::read_to_string(log).expect("the log");
            assert_no_bugs("the agent", &said);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}

#[test]
fn two_terminals_started_at_once_share_one_agent() {
    let sandbox = Sandbox::new();
    for round in 0..5 {
        let dir = sandbox.dir(&format!("start-{round}"));
        let agent = Background::at(dir.join("run/agent.sock"));
        let start = |nick: &str| {
            let mut command = sandbox.place().chat();
            command.args(["--nick", nick]);
            command.arg("--socket").arg(&agent.socket);
            command.arg("--state-dir").arg(dir.join("state"));
            let mut process = Process::start_piped(nick, &mut command, &sandbox.dir("logs"));
            let stdin = process.take_stdin().expect("a pipe");
            (process, stdin)
        };
        let mut terminals = ["alice", "bob", "carol"].map(start);
        // A terminal prints what comes after it: speak until everybody has heard everybody else.
        eventually("everybody hears everybody", || {
            for (number, (_, stdin)) in terminals.iter_mut().enumerate() {
                writeln!(stdin, "hello from {number}").expect("it reads its input");
            }
            for (process, _) in &terminals {
                let heard = process.stdout();
                if !(0..3).all(|number| heard.contains(&format!("hello from {number}"))) {
                    return Err(format!("{heard:?}, {:?}", process.stderr()));
                }
            }
            Ok(())
        });
        for (process, _) in &terminals {
            assert_eq!(zombies_of(process.pid()), 0, "no zombie is left");
        }
        let pid = agent.pid().expect("an agent");
        for (process, stdin) in terminals {
            drop(stdin);
            let mut process = process;
            process.wait().expect_code(0);
        }
        assert_eq!(
            agent.pid(),
            Some(pid),
            "one agent, which outlives its terminals"
        );
        let parent = status_field(pid, "PPid:");
        assert!(
            parent.is_some_and(|parent| parent != std::process::id()),
            "{parent:?}"
        );
    }
}

fn zombies_of(parent: u32) -> usize {
    let pids = fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_zombie = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status_field(*pid, "PPid:") == Some(parent) && status.contains("State:\tZ")
    };
    pids.filter(is_zombie).count()
}

fn status_field(pid: u32, field: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().parse().ok()
}

/// `chat agent --background` in `dir`, with its socket and state there, named as a person would.
fn starter(sandbox: &Sandbox, dir: &Path) -> Command {
    starter_with(sandbox, dir, &["--host", "ada", "--state-dir", "state"])
}

fn starter_with(sandbox: &Sandbox, dir: &Path, words: &[&str]) -> Command {
    let mut command = sandbox.place().chat();
    command.args(["agent", "--background", "--socket", "agent.sock"]);
    command.args(["--config", "agent.toml"]).args(words);
    command.current_dir(dir);
    fs::write(dir.join("agent.toml"), "").expect("a settings file");
    command
}

#[test]
fn a_lock_of_the_caller_is_free_after_it_has_ended() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir("run");
    let agent = Background::at(dir.join("agent.sock"));
    let chat = starter(&sandbox, &dir);
    let mut caller = sandbox.place().command("sh".as_ref());
    caller.args(["-c", "exec 9>lock && flock 9 && \"$@\"", "sh"]);
    caller.arg(chat.get_program()).args(chat.get_args());
    caller.current_dir(&dir);
    Process::start("caller", &mut caller, &sandbox.dir("logs"))
        .wait()
        .expect_code(0);
    assert!(agent.pid().is_some(), "the agent runs");
    let lock = File::open(dir.join("lock")).expect("the lock");
    lock.try_lock().expect("nobody holds the lock");
}

#[test]
fn an_agent_can_be_started_while_the_last_one_is_ending() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir("run");
    let agent = Background::at(dir.join("agent.sock"));
    let mut start = starter(&sandbox, &dir);
    fs::create_dir(dir.join("state")).expect("a state directory");
    let ending = File::create(dir.join("state/agent.lock")).expect("a lock");
    ending.lock().expect("locked");
    let mut process = Process::start("starter", &mut start, &sandbox.dir("logs"));
    eventually("an agent is being started", || {
        let log = dir.join("state/agent.log");
        if log.exists() { Ok(()) } else { Err("no log") }
    });
    drop(ending);
    process.wait().expect_code(0);
    assert!(agent.pid().is_some(), "the agent runs");
}

#[test]
fn a_socket_that_another_agent_serves_is_no_success() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir("run");
    let agent = Background::at(dir.join("agent.sock"));
    let start = |words: &[&str]| {
        let mut start = starter_with(&sandbox, &dir, words);
        Process::start("starter", &mut start, &sandbox.dir("logs")).wait()
    };
    start(&["--host", "ada", "--state-dir", "state"]).expect_code(0);
    let pid = agent.pid().expect("an agent");
    symlink(dir.join("state"), dir.join("link")).expect("a link");
    // Whoever names neither takes what is there.
    for same in [&["--state-dir", "link"][..], &["--host", "ada"], &[]] {
        start(same).expect_code(0);
    }

    let refused = start(&["--state-dir", "other"]).expect_code(1);
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let facts = [
        text(&agent.socket),
        format!("process {pid}"),
        text(&dir.join("state")),
        text(&dir.join("other")),
        format!("`kill {pid}`"),
    ];
    for fact in facts {
        assert!(refused.stderr.contains(&fact), "{fact}: {refused:?}");
    }
    assert!(!dir.join("other").exists(), "nothing was begun");
    let refused = start(&["--host", "bee"]).expect_code(1);
    assert!(refused.stderr.contains("host bee"), "{refused:?}");
    assert_eq!(agent.pid(), Some(pid));
}

#[test]
fn a_conversation_finds_an_agent_again_after_an_upgrade() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir("run");
    let agent = Background::at(dir.join("agent.sock"));
    let binary = dir.join("chat");
    fs::copy(chat_binary(), &binary).expect("a copy of the binary");
    let mut chat = sandbox.place().with_binary(binary.clone()).chat();
    chat.arg("--socket").arg(&agent.socket);
    chat.arg("--state-dir").arg(dir.join("state"));
    let mut chat = Process::start_piped("alice", &mut chat, &sandbox.dir("logs"));
    let mut stdin = chat.take_stdin().expect("a pipe");
    let first = eventually("an agent", || agent.pid().ok_or("none"));
    let new = dir.join("new");
    fs::copy(chat_binary(), &new).expect("another copy");
    fs::rename(&new, &binary).expect("the upgrade");
    signal(first, Signal::KILL);
    writeln!(stdin, "still here").expect("it reads its input");
    eventually("another agent", || match agent.pid() {
        Some(pid) if pid != first => Ok(()),
        other => Err(format!("{other:?}, {:?}", chat.stderr())),
    });
    drop(stdin);
    chat.wait().expect_code(0);
}

#[test]
fn sighup_takes_over_servers_wherever_the_agent_was_started() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let dir = sandbox.dir("run");
    let agent = Background::at(dir.join("agent.sock"));
    let mut start = starter(&sandbox, &dir);
    Process::start("starter", &mut start, &sandbox.dir("logs"))
        .wait()
        .expect_code(0);
    let pid = agent.pid().expect("an agent");
    let settings = format!("servers = ['{}']", server.link());
    fs::write(dir.join("agent.toml"), settings).expect("new settings");
    signal(pid, Signal::HUP);
    let mut session = Session::open(&agent.socket, "observer", false).expect("a session");
    eventually("the server of the settings", || {
        match session.status().link {
            LinkStatus::Online { .. } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let log = fs::read_to_string(dir.join("state/agent.log")).expect("the log");
    assert!(!log.contains("restart"), "nothing else has changed: {log}");
}
