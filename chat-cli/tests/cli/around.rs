//! `chat config` and `chat doctor`.

use super::{Host, chat, json, start, stderr};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::{Command, Output},
    thread,
};

fn config(change: impl FnOnce(&mut Command)) -> Output {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("chat")).unwrap();
    fs::write(dir.path().join("chat/agent.toml"), "log = 'warn'\n").unwrap();
    let mut command = chat();
    command.arg("config").env("XDG_CONFIG_HOME", dir.path());
    change(&mut command);
    command.output().unwrap()
}

fn setting<'a>(settings: &'a [Value], of: &str, name: &str) -> &'a Value {
    let found = settings
        .iter()
        .find(|one| one["of"] == of && one["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} of {of} in {settings:?}"))
}

#[test]
fn each_setting_is_told_with_where_it_comes_from() {
    let output = config(|command| {
        command
            .args(["--json", "--socket", "/s"])
            .env("CHAT_NICK", "ann");
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let settings = json(&output);
    for (of, name, value, origin) in [
        ("terminal", "socket", "/s", "flag"),
        ("terminal", "nick", "ann", "environment"),
        ("agent", "socket", "/s", "flag"),
        ("agent", "log", "warn", "file"),
        ("server", "listen", "0.0.0.0:7667", "default"),
    ] {
        let found = setting(&settings, of, name);
        assert_eq!(
            (&found["value"], &found["origin"]),
            (&value.into(), &origin.into())
        );
    }
    assert_eq!(
        setting(&settings, "terminal", "nick")["source"],
        "CHAT_NICK"
    );
    let file = setting(&settings, "agent", "log")["source"]
        .as_str()
        .unwrap();
    assert!(file.ends_with("chat/agent.toml"), "{file}");
}

#[test]
fn what_a_person_prefers_is_told_and_looked_at_too() {
    let host = Host::new();
    let file = host.dir.path().join("chat/terminal.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let run = |args: &[&str]| {
        let mut command = host.chat(args);
        command.env("XDG_CONFIG_HOME", host.dir.path());
        command.output().unwrap()
    };
    fs::write(&file, "bell = false\n").unwrap();
    let settings = json(&run(&["config", "--json"]));
    let bell = setting(&settings, "terminal", "bell");
    assert_eq!(
        (&bell["value"], &bell["origin"]),
        (&false.into(), &"file".into())
    );
    assert_eq!(bell["source"], file.to_str().unwrap());
    assert_eq!(setting(&settings, "terminal", "notify")["value"], "off");
    assert_eq!(
        setting(&settings, "terminal", "notify")["origin"],
        "default"
    );

    fs::write(&file, "\nbel = false\n").unwrap();
    let output = run(&["config"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("terminal.toml, line 2") && said.contains("bel"),
        "{said}"
    );
    let checks = json(&run(&["doctor", "--json"]));
    let ill = checks.iter().find(|one| one["result"] != "ok");
    let ill = ill.unwrap_or_else(|| panic!("{checks:?}"));
    let found = ill["found"].as_str().unwrap();
    assert!(found.contains("terminal.toml, line 2"), "{found}");
    assert!(ill["advice"].as_str().unwrap().contains("correct"), "{ill}");
}

#[test]
fn settings_are_aligned_for_people_and_nonsense_among_them_is_named() {
    let output = config(|command| {
        command
            .env("CHAT_OUTBOX_LIMIT", "many")
            .env("CHAT_NICK", "ann");
    });
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("CHAT_OUTBOX_LIMIT=many"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let columns = text.lines().map(|line| {
        let mut columns = line
            .split("  ")
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let name = columns.nth(1).unwrap();
        line.find(name).unwrap()
    });
    assert!(columns.clone().count() >= 6, "{text}");
    assert!(
        columns
            .clone()
            .all(|column| column == columns.clone().next().unwrap()),
        "{text}"
    );
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    let found = checks.iter().find(|one| one["check"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

#[test]
fn a_well_host_passes_and_a_server_that_is_none_does_not() {
    let host = Host::new();
    let well = host.run(&["doctor", "--json"]);
    assert_eq!(
        well.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&well.stdout)
    );
    let checks = json(&well);
    for name in [
        "version",
        "socket",
        "socket directory",
        "agent",
        "lock",
        "state directory",
        "database",
        "outbox",
        "link",
    ] {
        assert_eq!(check(&checks, name)["result"], "ok", "{checks:?}");
    }
    let pid = host.agent.id().to_string();
    let found = check(&checks, "lock")["found"].as_str().unwrap().to_owned();
    assert!(found.contains(&pid), "{found}");

    // Something listens that is no server.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let joined = host.run(&["join", "--insecure-plaintext", &address]);
    assert_eq!(joined.status.code(), Some(1), "{}", stderr(&joined));
    let ill = host.run(&["doctor"]);
    assert_eq!(ill.status.code(), Some(1));
    let text = String::from_utf8_lossy(&ill.stdout).into_owned();
    let server = text
        .lines()
        .find(|line| line.starts_with("fail") && line.contains("server"));
    let server = server.unwrap_or_else(|| panic!("{text}"));
    assert!(
        server.contains(&address) && server.contains("chat server"),
        "{server}"
    );
}

#[test]
fn the_clock_and_the_server_are_looked_at_without_joining() {
    let host = Host::new();
    let dir = tempfile::tempdir().unwrap();
    let mut server = chat();
    server
        .args(["server", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(dir.path());
    let (mut server, _stdout, link) = start(&mut server, "chat join ");
    let joined = host.run(&["join", &link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let unknown = json(&host.run(&["doctor", "--json"]));
    let clock = check(&unknown, "clock")["found"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(clock.contains("not known"), "{clock}");
    let sent = host.run(&["send", "#ops", "tick", "--wait", "committed"]);
    assert_eq!(sent.status.code(), Some(0), "{}", stderr(&sent));
    let checks = json(&host.run(&["doctor", "--json"]));
    assert_eq!(check(&checks, "server")["result"], "ok");
    assert!(
        check(&checks, "link")["found"]
            .as_str()
            .unwrap()
            .contains(link.split('/').nth(2).unwrap())
    );
    let clock = check(&checks, "clock")["found"].as_str().unwrap();
    assert!(clock.contains("within"), "{clock}");
    // Nobody was taken for a host.
    let status = json(&host.run(&["status", "--json"]));
    assert_eq!(status[0]["link"]["state"], "online");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn without_an_agent_its_files_are_looked_at_and_none_is_started() {
    let mut host = Host::new();
    host.agent.kill().unwrap();
    host.agent.wait().unwrap();
    let output = host.run(&["doctor", "--json"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let checks = json(&output);
    assert_eq!(check(&checks, "agent")["result"], "warn");
    assert_eq!(
        check(&checks, "lock")["found"],
        "free: no agent has this state"
    );
    fs::write(host.dir.path().join("state/agent.db"), "no database").unwrap();
    let output = host.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(check(&json(&output), "database")["result"], "fail");
    assert!(
        host.run(&["status"]).status.code() == Some(69),
        "none was started"
    );
}
