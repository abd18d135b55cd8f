//! `chat tail --since` with a time.

use super::{Host, all, bodies, json, run, stderr};

#[test]
fn a_tail_begins_at_a_point_in_time_in_every_form() {
    let host = Host::new();
    host.run(&["send", "&a", "one"]);
    host.run(&["send", "&a", "two"]);
    let second = all(&host, "&a")[1]["committed_at"].clone();
    let script = format!("chat tail '&a' --json --since {second}");
    let exact = json(&run(&host, &script));
    assert_eq!(exact.len(), 1, "{exact:?}");
    assert_eq!(exact[0]["body"], "two");
    for (since, messages) in [("1h", 2), ("1d", 2), ("2020-01-01", 2), ("2100-01-01", 0)] {
        let args = ["tail", "&a", "--json", "--since", since];
        let output = host.run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(json(&output).len(), messages, "{since}");
    }
    for bad in ["yesterday", "7", "2h ago"] {
        let output = host.run(&["tail", "&a", "--since", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(stderr(&output).contains("no time"), "{}", stderr(&output));
    }
}

#[test]
fn a_tail_from_now_on_leaves_out_what_was() {
    let host = Host::new();
    host.run(&["send", "&a", "old"]);
    let script = "chat tail '&a' --since 0s --count 1 --timeout 60 --json & \
                  until chat who '&a' | grep -q bob; do :; done; \
                  chat send '&a' new; wait $!";
    let script = script.replacen("chat tail", "chat tail --nick bob", 1);
    let output = run(&host, &script);
    assert_eq!(json(&output)[0]["body"], "new", "{}", stderr(&output));
    assert_eq!(bodies(&host, "&a"), ["old", "new"]);
}
