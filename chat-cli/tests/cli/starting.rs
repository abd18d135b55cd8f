//! Which verbs start this host's agent when none runs.

use super::{chat, json, stderr};
use std::process::{Command, Output};

#[test]
fn an_agent_started_by_itself_heeds_the_settings_of_agents() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let config = dir.path().join("chat");
    std::fs::create_dir(&config).unwrap();
    let settings = format!(
        "state_dir = {:?}\nsocket = {:?}\n",
        data,
        dir.path().join("s")
    );
    std::fs::write(config.join("agent.toml"), settings).unwrap();
    let run = |args: &[&str]| -> Output {
        let mut command: Command = chat();
        for name in ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
            command.env(name, dir.path());
        }
        command.args(args).output().unwrap()
    };
    let sent = run(&["send", "&lobby", "hi"]);
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let status = json(&run(&["status", "--json"]));
    assert_eq!(status[0]["state_dir"], data.to_str().unwrap());
    let pid = i32::try_from(status[0]["pid"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn on_a_fresh_host_sending_reading_and_joining_start_the_agent() {
    for verb in [
        &["send", "&lobby", "hi"][..],
        &["tail", "&lobby"],
        &["join", "&den"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| -> Output {
            let mut command: Command = chat();
            command
                .args(args)
                .env("XDG_RUNTIME_DIR", dir.path())
                .env("XDG_STATE_HOME", dir.path())
                .env("XDG_CONFIG_HOME", dir.path())
                .output()
                .unwrap()
        };
        let asked = run(&["status"]);
        assert_eq!(asked.status.code(), Some(69), "{}", stderr(&asked));
        let started = run(verb);
        assert_eq!(started.status.code(), Some(0), "{}", stderr(&started));
        let status = json(&run(&["status", "--json"]));
        let pid = status[0]["pid"].as_i64().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}
