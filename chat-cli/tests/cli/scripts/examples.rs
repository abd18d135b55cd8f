//! The bots in `examples/bots` do what they say.

use super::{Host, all, eventually, shell, stderr};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

struct Bot(Child);

impl Bot {
    /// Starts the example `words`, from the beginning of `&a`.
    fn start(host: &Host, words: &str) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bots");
        let script = format!(
            "exec chat bot --room '&a' --since 0 --nick robot -- {}/{words}",
            examples.display()
        );
        let mut command = shell(host, &script);
        command
            .env("REMIND_DIR", host.dir.path().join("reminders"))
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says `text` as alice, and waits for the robot's next message that matches.
fn ask(host: &Host, text: &str, regex: &str) -> serde_json::Value {
    host.run(&["send", "&a", text]);
    wait_for(host, regex)
}

fn wait_for(host: &Host, regex: &str) -> serde_json::Value {
    let args = ["wait", "&a", "--since", "0", "--from", "robot", "--json"];
    let args = [&args[..], &["--timeout", "1m", "--match", regex]].concat();
    let output = host.run(&args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{regex}: {}",
        stderr(&output)
    );
    super::json(&output).remove(0)
}

fn programs(host: &Host) -> PathBuf {
    let dir = host.dir.path().join("programs");
    std::fs::create_dir(&dir).unwrap();
    for (name, mode, script) in [
        (
            "greet",
            0o755,
            "#!/bin/sh\necho \"$CHAT_FROM says: $1\"\necho >&2 and more",
        ),
        ("fail", 0o755, "#!/bin/sh\nexit 3"),
        ("not-a-program", 0o644, ""),
        ("Odd.Name", 0o755, "#!/bin/sh\necho odd"),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    dir
}

#[test]
fn a_reminder_comes_when_it_is_due_also_after_a_kill() {
    let host = Host::new();
    let bot = Bot::start(&host, "remind.sh");
    host.run(&["send", "&a", "hello !in 1s nothing"]);
    let tea = ask(&host, "!in 1s tea \"green\" \\o/", "^tea");
    assert_eq!(tea["body"], "tea \"green\" \\o/");
    assert_eq!(tea["kind"], "reply");
    host.run(&["send", "&a", "!in 2s cake"]);
    let noted = || {
        all(&host, "&a")
            .iter()
            .filter(|m| m["type"] == "reaction")
            .count()
    };
    eventually("it is noted", || noted() == 2);
    drop(bot);
    let _bot = Bot::start(&host, "remind.sh");
    let cake = wait_for(&host, "^cake$");
    let all = all(&host, "&a");
    assert_eq!(tea["to"], all[1]["id"]);
    let asked = all.iter().find(|message| message["body"] == "!in 2s cake");
    assert_eq!(cake["to"], asked.unwrap()["id"]);
}

#[test]
fn commands_of_a_directory_and_no_others_are_run() {
    let host = Host::new();
    let dir = programs(&host);
    let _bot = Bot::start(&host, &format!("commands.sh {}", dir.display()));
    let text = "$(touch owned); `touch owned` *";
    let greeting = ask(&host, &format!("!greet {text}"), "says");
    let expected = format!("alice@ada says: {text}\nand more");
    assert_eq!(greeting["body"], expected.as_str());
    for (command, regex) in [
        ("!fail", "^\\(fail ended with 3\\)$"),
        ("!greet", "says: \nand more$"),
    ] {
        ask(&host, command, regex);
    }
    let before = all(&host, "&a").len();
    for text in [
        "!not-a-program",
        "!Odd.Name",
        "!../greet x",
        "! greet",
        "greet",
        "!-x",
    ] {
        host.run(&["send", "&a", text]);
    }
    let help = ask(&host, "!help", "^!fail");
    assert_eq!(help["body"], "!fail\n!greet");
    assert_eq!(all(&host, "&a").len(), before + 8);
    assert!(!dir.join("owned").exists());
}
