//! What is made out of the definitions of the command line: completions and manual pages.

use super::{chat, stderr};
use std::{fs, process::Command};

#[test]
fn bash_completes_verbs_and_flags() {
    let script = chat().args(["completions", "bash"]).output().unwrap();
    assert_eq!(script.status.code(), Some(0), "{}", stderr(&script));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat");
    fs::write(&file, &script.stdout).unwrap();
    for (words, index, expected) in [
        ("chat se", 1, "send\nserver\n"),
        ("chat join --so", 2, "--socket\n"),
    ] {
        let ask = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={index}; \
             _chat chat \"${{COMP_WORDS[{index}]}}\" \"${{COMP_WORDS[{index}-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let completed = Command::new("bash").args(["-c", &ask]).output().unwrap();
        assert_eq!(stderr(&completed), "");
        let completed = String::from_utf8(completed.stdout).unwrap();
        let all_there = expected
            .lines()
            .all(|word| completed.lines().any(|one| one == word));
        assert!(all_there, "{words}: {completed}");
    }
}

#[test]
fn manual_pages_are_printed_or_written() {
    let printed = chat().arg("man").output().unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("new/man1");
    let written = chat().arg("man").arg(&pages).output().unwrap();
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert_eq!(fs::read(pages.join("chat.1")).unwrap(), printed.stdout);
    let send = fs::read_to_string(pages.join("chat-send.1")).unwrap();
    assert!(send.contains(".SH SYNOPSIS"), "{send}");
    // What is no directory is named.
    let refused = chat()
        .arg("man")
        .arg(pages.join("chat.1"))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("chat.1"), "{}", stderr(&refused));
}
