//! `chat wait`, `chat request` and `chat reply`, as integration tests use them.

use super::{Host, all, json, run, stderr, stdout};

#[test]
fn the_first_message_that_is_meant_ends_the_wait() {
    let host = Host::new();
    for (nick, text) in [
        ("bob", "build 1: failed"),
        ("eve", "build 2: ok"),
        ("bob", "build 3: ok"),
    ] {
        host.run(&["send", "&a", text, "--nick", nick]);
    }
    let script = "chat wait '&a' --since 0 --from bob --match '^build [0-9]+: ok$' --timeout 30s";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).ends_with("build 3: ok\n"),
        "{}",
        stdout(&output)
    );
    assert_eq!(stdout(&output).lines().count(), 1);
    let output = run(&host, &format!("{script} --json"));
    let found = json(&output);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["id"], all(&host, "&a")[2]["id"]);
    assert_eq!(found[0]["live"], false);
}

#[test]
fn a_wait_begins_with_what_comes_unless_it_is_told_where() {
    let host = Host::new();
    host.run(&["send", "&a", "done"]);
    let output = run(&host, "chat wait '&a' --match done --timeout 1s");
    assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());
    assert!(
        stderr(&output).contains("within 1 s"),
        "{}",
        stderr(&output)
    );
    // As the help says it: what comes before the wait has begun is found.
    let script = "
        cursor=$(chat history '&a' --limit 1 --json | sed 's/.*\"cursor\":\"\\([^\"]*\\)\".*/\\1/')
        chat send '&a' 'done again'
        chat wait '&a' --since \"${cursor:-0}\" --match done --timeout 30";
    let output = run(&host, script);
    assert!(
        stdout(&output).ends_with("done again\n"),
        "{}",
        stderr(&output)
    );
    let script = "
        chat wait '&a' --timeout 1m > found & waiting=$!
        while kill -0 $waiting; do chat send '&a' tick || exit 9; done 2> said
        wait $waiting && cat found";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("tick\n"), "{}", stdout(&output));
}

#[test]
fn a_request_prints_what_the_reply_says() {
    let host = Host::new();
    let script = "
        (
            id=$(chat wait '&a' --since 0 --match '^status' --timeout 1m --json |
                sed 's/.*\"id\":\"\\([^\"]*\\)\".*/\\1/')
            chat send '&a' 'no reply'
            chat reply '&a' \"$id\" 'all is well' --timeout 30 --nick bob
            chat reply '&a' \"$id\" 'too late' --nick bob
        ) &
        chat request '&a' 'status?' --timeout 1m
        wait";
    let output = run(&host, script);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "all is well\n", "{}", stderr(&output));
    let said = all(&host, "&a");
    assert_eq!(said.len(), 4);
    assert_eq!(said[2]["kind"], "reply");
    assert_eq!(said[2]["to"], said[0]["id"]);
    assert_eq!(said[2]["from"], "bob@ada");
}

#[test]
fn a_request_without_a_reply_says_how_far_it_came() {
    let host = Host::new();
    for (room, code, words) in [
        ("&a", 124, "nobody replied within 1 s"),
        ("#ops", 75, "neither committed nor answered within 1 s"),
    ] {
        let args = ["request", room, "anybody?", "--timeout", "1s", "--json"];
        let output = host.run(&args);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    assert_eq!(all(&host, "&a").len(), 1);
}

#[test]
fn what_makes_no_sense_is_2_and_what_is_no_message_is_1() {
    let host = Host::new();
    for (args, code) in [
        (&["wait", "&a", "--match", "("][..], 2),
        (&["wait", "&a", "--timeout", "soon"], 2),
        (&["wait", "&a", "--from", "no body"], 2),
        (&["reply", "&a", "no-id", "x"], 2),
        (&["request", "&a"], 2),
        (&["request", "&a", ""], 1),
    ] {
        let output = host.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
