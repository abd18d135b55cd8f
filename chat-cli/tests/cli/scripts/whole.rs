//! `chat send --whole`: standard input as one message.

use super::{Host, all, bodies, json, run, stderr};

#[test]
fn standard_input_is_one_message_with_its_lines() {
    let host = Host::new();
    let output = run(&host, "printf 'one\\n\\n  two\\n' | chat send '&a' --whole");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(bodies(&host, "&a"), ["one\n\n  two"]);
}

#[test]
fn what_is_no_message_is_refused_before_anything_is_sent() {
    let host = Host::new();
    for (input, words) in [
        (
            "head -c 65537 /dev/zero | tr '\\0' x",
            "more than 65536 bytes",
        ),
        ("printf 'fine\\nb\\377d'", "not valid UTF-8 from byte 6"),
        ("true", "is empty"),
        ("echo", "is empty"),
    ] {
        let output = run(&host, &format!("{input} | chat send '&a' --whole"));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{input}: {said}");
        assert!(said.contains(words), "{input}: {said}");
        assert!(said.contains("nothing was sent"), "{input}: {said}");
    }
    assert!(all(&host, "&a").is_empty());
    let output = run(&host, "chat send '&a' --whole text");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}

#[test]
fn a_key_is_the_key_of_the_whole() {
    let host = Host::new();
    let script = "echo report | chat send '&a' --whole --json --id nightly --timeout 10";
    let (first, again) = (json(&run(&host, script)), json(&run(&host, script)));
    assert_eq!(first[0]["id"], again[0]["id"]);
    // The key as it is: what was sent as text under it is the same message.
    let text = json(&host.run(&["send", "&a", "report", "--id", "nightly", "--json"]));
    assert_eq!(first[0]["id"], text[0]["id"]);
    assert_eq!(bodies(&host, "&a"), ["report"]);
}
