//! The verbs for scripts, most of them as a shell runs them.

mod bot;
mod durable;
mod examples;
mod exec;
mod live;
mod mount;
mod since;
mod waiting;
mod whole;

use super::{CHAT, Host, chat, json, stderr};
use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

/// `sh -c SCRIPT` where `chat` is the binary under test, talking to `host` as alice.
fn shell(host: &Host, script: &str) -> Command {
    let programs = Path::new(CHAT).parent().unwrap().to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(programs).chain(std::env::split_paths(&others));
    let template = host.chat(&[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .current_dir(host.dir.path())
        .env("PATH", std::env::join_paths(path).unwrap())
        .stdin(std::process::Stdio::null());
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(host: &Host, script: &str) -> Output {
    shell(host, script).output().unwrap()
}

/// What `room` has, oldest first.
fn all(host: &Host, room: &str) -> Vec<serde_json::Value> {
    json(&host.run(&["tail", room, "--since", "0", "--json"]))
}

fn bodies(host: &Host, room: &str) -> Vec<String> {
    let body = |message: serde_json::Value| message["body"].as_str().unwrap().to_owned();
    all(host, room).into_iter().map(body).collect()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Waits until `done`, which is looked at again and again.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}
