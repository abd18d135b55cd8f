//! A message is written in the person's editor, which has the terminal meanwhile.

use crate::harness::{Agent, Terminal, chat, said};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Puts an editor into `dir` that does what `script` says with `$1`.
fn editor(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("an editor");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Opens a terminal whose editor does what `script` says.
fn open(dir: &Path, script: &str) -> Terminal {
    let command = format!("'{}' --wait", editor(dir, script).display());
    // The file comes last.
    let tmp = dir.display().to_string();
    let env = [
        ("EDITOR", command.as_str()),
        ("VISUAL", ""),
        ("TMPDIR", &tmp),
    ];
    let mut alice = Terminal::open_in(dir, "alice", (200, 24), &env);
    alice.expect("&lobby> ");
    alice
}

#[test]
fn what_the_editor_leaves_is_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    // It uses the terminal as programs do, and leaves it in disorder.
    let script = "[ $1 = --wait ] && shift
        stty -a | grep -ow -e '-*icanon' -e '-*echo'
        echo editing; read -r line
        printf '%s\\n/quit\\n\\n' \"$line\" >> \"$1\"
        stty raw -echo";
    let mut alice = open(dir.path(), script);
    alice.keys("/editor begun: \r");
    let before = alice.expect("editing\r\n");
    assert!(
        before.ends_with("icanon\r\necho\r\nediting\r\n"),
        "{before:?}"
    );
    assert!(!before.contains("-icanon"), "{before:?}");
    // What arrives waits, and what is typed is the editor's.
    chat(dir.path(), "bob", &["send", "&lobby"], "meanwhile.\n");
    alice.keys("and done\r");
    let after = alice.expect("alice  begun:");
    assert!(after.contains("bob  meanwhile.\r\n"), "{after:?}");
    alice.expect("/quit\r\n");
    alice.keys("half ty\x02\x02");
    alice.expect("half ty");
    alice.keys("\x05ped\r");
    alice.expect("alice  half typed\r\n");
    assert_eq!(
        said(dir.path()),
        ["meanwhile.", "begun:and done\n/quit", "half typed"]
    );
    alice.keys("\x04");
    alice.end();
}

#[test]
fn nothing_is_sent_that_was_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let script = "case $(cat \"$2\") in
        emptied) : > \"$2\" ;;
        blank) printf ' \\n\\n' > \"$2\" ;;
        given-up) echo more >> \"$2\"; exit 3 ;;
        binary) printf '\\377' > \"$2\" ;;
        long) head -c 100000 /dev/zero | tr '\\0' x > \"$2\" ;;
        esac";
    let mut alice = open(dir.path(), script);
    for (text, note) in [
        ("", "-- nothing was written, nothing was sent"),
        ("emptied", "-- nothing was written, nothing was sent"),
        ("blank", "-- nothing was written, nothing was sent"),
        ("unchanged", "-- nothing was changed, nothing was sent"),
        ("given-up", "ended with exit status: 3: nothing was sent"),
        ("binary", "is not UTF-8: nothing was sent"),
        ("long", "-- not sent: "),
    ] {
        alice.keys(&format!("/editor {text}\r"));
        alice.expect(note);
        alice.expect("&lobby> ");
        assert!(!alice.is_as_found(), "it does not edit");
    }
    assert!(said(dir.path()).is_empty());
    alice.keys("\x04");
    alice.end();
}

/// Awaits where what was written is kept; what that is.
fn kept(alice: &mut Terminal) -> Vec<u8> {
    alice.expect("what you wrote is in ");
    let path = alice.expect("\r\n");
    fs::read(path.trim()).unwrap()
}

#[test]
fn what_cannot_be_sent_is_not_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let script = "case $(cat \"$2\") in
        long) head -c 100000 /dev/zero | tr '\\0' x > \"$2\" ;;
        longer) yes 世界 | head -c 2000000 > \"$2\" ;;
        binary) printf 'a\\377b' > \"$2\" ;;
        crash) echo written > \"$2\"; kill -KILL $$ ;;
        esac";
    let mut alice = open(dir.path(), script);
    for (text, note, size) in [
        ("long", "-- not sent: ", 100_000),
        ("longer", "-- not sent: ", 2_000_000),
        ("binary", "is not UTF-8: nothing was sent; ", 3),
        ("crash", "(SIGKILL): nothing was sent; ", 8),
    ] {
        alice.keys(&format!("/editor {text}\r"));
        alice.expect(note);
        assert_eq!(kept(&mut alice).len(), size, "{text}");
        alice.expect("&lobby> ");
    }
    assert!(said(dir.path()).is_empty());
    alice.keys("\x04");
    alice.end();
}

#[test]
fn an_editor_may_be_a_line_of_commands() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let editor = editor(dir.path(), "echo \"$WHAT\" > \"$1\"");
    let editor = editor.display();
    for (command, what) in [
        (format!("cd / && WHAT=one '{editor}'"), "one"),
        (format!("WHAT=two '{editor}'"), "two"),
    ] {
        let env = [("EDITOR", command.as_str()), ("VISUAL", "")];
        let mut alice = Terminal::open_in(dir.path(), "alice", (80, 24), &env);
        alice.expect("&lobby> ");
        alice.keys("/editor\r");
        alice.expect(&format!("alice  {what}\r\n"));
        alice.keys("\x04");
        alice.end();
    }
}

#[test]
fn an_end_ends_the_editor_and_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    // As editors do, it puts the terminal in order when it is told to end.
    let script = "trap 'echo in order; exit 1' TERM HUP
        stty raw -echo; echo editing >> \"$2\"; echo editing
        while read -r line; do :; done";
    let mut alice = open(dir.path(), script);
    alice.keys("/editor\r");
    alice.expect("editing");
    // Ctrl-C is the editor's.
    alice.signal(Signal::INT);
    alice.signal(Signal::TERM);
    alice.expect("in order");
    assert_eq!(kept(&mut alice), b"editing\n");
    alice.end();
    assert!(said(dir.path()).is_empty());
}
