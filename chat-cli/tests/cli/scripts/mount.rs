//! `chat mount`: rooms as pipes and files, used by a shell.

use super::{Host, all, bodies, eventually, json, run, shell, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::Read,
    os::unix::fs::FileTypeExt,
    path::PathBuf,
    process::{Child, Stdio},
};

struct Mount {
    child: Child,
    dir: PathBuf,
}

impl Mount {
    /// Mounts `rooms` and returns when their pipes are there.
    fn start(host: &Host, rooms: &[&str]) -> Self {
        let mut child = host
            .chat(&[&["mount", "m"], rooms].concat())
            .current_dir(host.dir.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let dir = host.dir.path().join("m");
        let is_pipe = |room: &&str| {
            let found = fs::symlink_metadata(dir.join(room).join("in"));
            found.is_ok_and(|found| found.file_type().is_fifo())
        };
        // A pipe that a killed one left is not its own: what it writes says that it has begun.
        let pid = child.id().to_string();
        let locked = || {
            let holder = fs::read_to_string(dir.join(".lock")).unwrap_or_default();
            holder.trim() == pid
        };
        eventually("it is mounted", || {
            if let Some(status) = child.try_wait().unwrap() {
                let mut said = String::new();
                let errors = child.stderr.as_mut().unwrap();
                errors.read_to_string(&mut said).unwrap();
                panic!("it ended with {status}: {said}");
            }
            locked() && rooms.iter().all(&is_pipe)
        });
        Self { child, dir }
    }

    fn out(&self, room: &str) -> String {
        fs::read_to_string(self.dir.join(room).join("out")).unwrap_or_default()
    }

    /// What the messages in the file say, once the last is this.
    fn says(&self, room: &str, last: &str) -> Vec<String> {
        eventually(last, || self.out(room).ends_with(&format!("{last}\n")));
        let out = self.out(room);
        let body = |line: &str| line.rsplit("  ").next().unwrap().to_owned();
        out.lines().map(body).collect()
    }

    fn signal(mut self, signal: Signal) -> String {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        if signal == Signal::TERM {
            assert_eq!(status.code(), Some(0), "{said}");
        }
        said
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_shell_talks_with_echo_and_reads_with_tail() {
    let host = Host::new();
    let mount = Mount::start(&host, &["#ops", "&a", "bob"]);
    let output = run(&host, "echo hi > 'm/&a/in'; echo 'to you' > m/bob/in");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    mount.says("&a", "hi");
    host.run(&["send", "&a", "two\nlines", "--nick", "bob"]);
    let output = run(
        &host,
        "tail -n +1 -f 'm/&a/out' | grep -q -m 1 lines; cat 'm/&a/out'",
    );
    let out = stdout(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    let date = |line: &str| line.starts_with("20") && line.as_bytes()[10] == b' ';
    assert!(
        date(lines[0]) && lines[0].ends_with("        alice  hi"),
        "{out}"
    );
    assert!(
        date(lines[1]) && lines[1].ends_with("          bob  two"),
        "{out}"
    );
    assert_eq!(lines[2].trim_start(), "lines");
    assert_eq!(mount.says("bob", "to you"), ["to you"]);
    assert_eq!(all(&host, "bob")[0]["body"], "to you");

    let dir = mount.dir.clone();
    let said = mount.signal(Signal::TERM);
    let offline = |line: &str| line.starts_with("chat: #ops may have more");
    assert!(said.lines().all(offline), "{said}");
    for room in ["#ops", "&a", "bob"] {
        assert!(!dir.join(room).join("in").exists(), "{room}");
        assert!(dir.join(room).join("out").exists(), "{room}");
    }
}

#[test]
fn writers_and_readers_come_and_go() {
    let host = Host::new();
    let mount = Mount::start(&host, &["&a"]);
    let script = "for n in $(seq 50); do echo $n > 'm/&a/in'; done
        exec 9> 'm/&a/in'; echo 51 >&9; echo >&9; printf 5 >&9; echo 2 >&9; exec 9>&-
        seq 53 300 > 'm/&a/in'";
    assert_eq!(run(&host, script).status.code(), Some(0));
    let expected: Vec<_> = (1..=300).map(|number| number.to_string()).collect();
    assert_eq!(mount.says("&a", "300"), expected);
    assert_eq!(bodies(&host, "&a"), expected);
    let script = "head -c 65537 /dev/zero | tr '\\0' x > 'm/&a/in'; echo > 'm/&a/in'
        printf 'b\\377d\\n' > 'm/&a/in'; echo last > 'm/&a/in'";
    assert_eq!(run(&host, script).status.code(), Some(0));
    mount.says("&a", "last");
    assert_eq!(bodies(&host, "&a").len(), 301);
    let said = mount.signal(Signal::TERM);
    assert!(
        said.contains("more bytes than a message may have"),
        "{said}"
    );
    assert!(said.contains("not valid UTF-8"), "{said}");
}

#[test]
fn the_file_goes_on_without_loss_or_doubles() {
    let mut host = Host::new();
    for round in 0..6 {
        let mount = Mount::start(&host, &["&a"]);
        let first = round * 40 + 1;
        let script = format!("seq {first} {} > 'm/&a/in'", first + 19);
        assert_eq!(run(&host, &script).status.code(), Some(0));
        // At a point that is another in each round.
        let enough = first + round * 3;
        eventually("it is written", || {
            mount.out("&a").lines().count() >= enough
        });
        if round == 3 {
            host.agent.kill().unwrap();
            host.agent.wait().unwrap();
            host.restart();
        }
        let signal = if round % 2 == 0 {
            Signal::KILL
        } else {
            Signal::TERM
        };
        mount.signal(signal);
        // What was in the pipe of a killed one is lost with it.
        let input: String = (0..40)
            .map(|number| (first + number).to_string())
            .filter(|text| !bodies(&host, "&a").contains(text))
            .map(|text| text + "\n")
            .collect();
        host.run_with_input(&["send", "&a"], input.as_bytes());
    }
    let mount = Mount::start(&host, &["&a"]);
    let all = bodies(&host, "&a");
    assert_eq!(all.len(), 240);
    assert_eq!(mount.says("&a", all.last().unwrap()), all);
}

#[test]
fn nothing_is_mounted_twice_and_nothing_in_the_way_is_touched() {
    let host = Host::new();
    let mount = Mount::start(&host, &["&a"]);
    let pid = mount.child.id().to_string();
    let again = shell(&host, "chat mount m '&b'").output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    let said = stderr(&again);
    assert!(
        said.contains("mounted already") && said.contains(&pid),
        "{said}"
    );
    mount.signal(Signal::TERM);

    let dir = host.dir.path();
    fs::write(dir.join("precious"), "precious").unwrap();
    for (script, words) in [
        (
            "mkdir -p x/'&a'; echo mine > x/'&a'/in",
            "in is in the way: it is no pipe",
        ),
        (
            "mkdir -p x/'&a'; ln -s ../../precious x/'&a'/in",
            "in is in the way: it is no pipe",
        ),
        (
            "mkdir -p x/'&a'; ln -s ../../precious x/'&a'/out",
            "symbolic",
        ),
        (
            "mkdir -p x/'&a'; mkfifo x/'&a'/out",
            "out is in the way: it is no plain file",
        ),
        ("mkdir -p x; ln -s .. x/'&a'", "Not a directory"),
        ("mkdir -p x; ln -s ../precious x/.lock", "symbolic"),
        (
            "mkdir -p x/'&b' x/'&a'; touch x/'&b'/in",
            "in is in the way",
        ),
        ("touch x", "Not a directory"),
    ] {
        assert_eq!(run(&host, script).status.code(), Some(0), "{script}");
        let output = run(&host, "chat mount x '&a' '&b'");
        assert_eq!(
            output.status.code(),
            Some(1),
            "{script}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(words),
            "{script}: {}",
            stderr(&output)
        );
        assert_eq!(
            fs::read_to_string(dir.join("precious")).unwrap(),
            "precious"
        );
        let left = dir.join("x/&a/in");
        let is_pipe = |path: PathBuf| {
            fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo())
        };
        assert!(!is_pipe(left), "{script}");
        run(&host, "rm -rf x");
    }
}

#[test]
fn without_rooms_those_that_were_joined_are_mounted() {
    let host = Host::new();
    host.run(&["join", "&a", "#ops"]);
    host.run(&["send", "&other", "x", "--nick", "bob"]);
    host.run(&["send", "alice", "psst", "--nick", "bob"]);
    let mount = Mount::start(&host, &[]);
    eventually("all are mounted", || {
        let is_there = |room: &&str| mount.dir.join(room).join("in").exists();
        ["&a", "#ops", "bob"].iter().all(is_there)
    });
    assert_eq!(mount.says("bob", "psst"), ["psst"]);
    assert!(!mount.dir.join("&other").exists());
}

#[test]
fn rooms_and_conversations_that_begin_later_are_mounted_then() {
    let host = Host::new();
    // In no room yet.
    let mount = Mount::start(&host, &[]);
    run(&host, "chat join '&a'; chat send '&b' hello");
    let pipe = |room: &str| mount.dir.join(room).join("in").exists();
    eventually("both rooms are there", || pipe("&a") && pipe("&b"));
    assert_eq!(mount.says("&b", "hello"), ["hello"]);
    // More than a file of a room begins with.
    let input: String = (1..=50).map(|number| format!("{number}\n")).collect();
    host.run_with_input(&["send", "alice", "--nick", "bob"], input.as_bytes());
    let expected: Vec<_> = (1..=50).map(|number| number.to_string()).collect();
    assert_eq!(mount.says("bob", "50"), expected);
    run(&host, "echo 'to you' > m/bob/in");
    mount.says("bob", "to you");

    // One that was left is not joined again by itself, and goes on when that is done.
    run(&host, "chat leave '&b'");
    host.run(&["send", "&b", "unseen", "--nick", "bob"]);
    run(&host, "chat join '&c'");
    eventually("another look was taken", || pipe("&c"));
    let rooms = json(&host.run(&["rooms", "--json"]));
    let left = rooms.iter().find(|one| one["room"] == "&b").unwrap();
    assert_eq!(left["joined"], false);
    run(&host, "chat join '&b'");
    mount.says("&b", "unseen");
    let said = mount.signal(Signal::TERM);
    assert!(said.contains("in no room yet"), "{said}");
    assert!(said.contains("you left &b"), "{said}");
}

#[test]
fn a_file_that_is_rotated_is_gone_on_with() {
    let host = Host::new();
    let mount = Mount::start(&host, &["&a"]);
    let say = |texts: &[&str]| {
        let input = texts.join("\n") + "\n";
        host.run_with_input(&["send", "&a"], input.as_bytes());
        mount.says("&a", texts.last().unwrap());
    };
    say(&["one", "two"]);
    run(&host, "mv 'm/&a/out' 'm/&a/out.1'");
    say(&["three"]);
    run(&host, "cp 'm/&a/out' 'm/&a/out.2'; : > 'm/&a/out'");
    say(&["four"]);
    run(&host, "mv 'm/&a/out' 'm/&a/out.3'");
    say(&["five"]);
    run(&host, "rm 'm/&a/out'");
    say(&["six"]);
    // Killed, and rotated while nobody is there.
    mount.signal(Signal::KILL);
    run(&host, "mv 'm/&a/out' 'm/&a/out.4'");
    let mount = Mount::start(&host, &["&a"]);
    host.run(&["send", "&a", "seven"]);
    mount.says("&a", "seven");
    let all = run(&host, "cat 'm/&a'/out.[1-4] 'm/&a/out'");
    let all = stdout(&all);
    let bodies: Vec<_> = all.lines().map(|line| line.rsplit("  ").next()).collect();
    for (body, count) in [
        ("one", 1),
        ("two", 1),
        ("three", 1),
        ("four", 1),
        ("five", 0),
    ] {
        let found = bodies.iter().filter(|one| **one == Some(body)).count();
        assert_eq!(found, count, "{body}: {all}");
    }
    assert_eq!(bodies.last(), Some(&Some("seven")), "{all}");
}
