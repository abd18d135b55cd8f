//! Keys go to other rooms and edit the line, and nothing that is typed gets lost by it.

use crate::{
    harness::{Agent, Terminal, chat},
    tmux::Tmux,
};

#[test]
fn keys_go_to_another_room_and_take_the_half_typed_line_along() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let bob = Tmux::open(dir.path(), "bob", 50, 16);
    bob.await_end("○    &lobby>");
    bob.keys("/join &other");
    bob.key("Enter");
    bob.await_end("○    &other>");
    bob.keys("/join &third");
    bob.key("Enter");
    bob.await_end("○    &third>");
    // Two rows, the cursor in the first.
    let text: Vec<String> = (10..30).map(|at| format!("{at}xy")).collect();
    bob.keys(&text.concat());
    for _ in 0..60 {
        bob.key("Left");
    }
    let (left, right) = (text[..5].concat(), text[5..].concat());
    let mut typed = String::new();
    let steps = [
        ("M-1", "&lobby"),
        ("C-n", "&other"),
        ("C-n", "&third"),
        ("C-n", "&lobby"),
        ("C-p", "&third"),
        ("C-p", "&other"),
        ("M-3", "&third"),
        // There is no such room.
        ("M-9", "&third"),
    ];
    for (round, (key, room)) in steps.into_iter().enumerate() {
        let text = format!("arrival {round}.");
        chat(dir.path(), "alice", &["send", room], &format!("{text}\n"));
        bob.key(key);
        bob.keys("_");
        typed.push('_');
        let prompt = format!("○    {room}> {left}{typed}{right}");
        bob.await_lines(&prompt, |lines| {
            let seen = lines.concat();
            let once = |part: &str| seen.matches(part).count() == 1;
            // The two commands stay above.
            seen.ends_with(&prompt)
                && once("29xy")
                && once(&text)
                && seen.matches("> ").count() == 3
        });
    }
    bob.key("Enter");
    bob.await_lines("the message", |lines| {
        // Broken into lines under its beginning.
        let said = lines.concat().replace(' ', "");
        said.contains(&format!("bob{left}{typed}"))
    });
}

#[test]
fn the_keys_of_shells_edit_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    for (keys, said) in [
        ("two\x01one \x05 three\r", "one two three"),
        ("one two\x17\x17both\r", "both"),
        ("rest\x01\x0b\x19\x19\r", "restrest"),
        ("gone\x15kept\r", "kept"),
        ("one two\x1bb\x1bb\x1bd\x04left\r", "lefttwo"),
        ("abc\x02\x02\x06\x7fx\r", "axc"),
        // What is bound to nothing does nothing, and nor does an Alt that is no command.
        ("p\x1bx\x1bi\x1b:lain\r", "plain"),
        ("one\x1b\rtwo\r", "one"),
        // Up goes through the lines of a message, too.
        ("\x1b[A\x1b[A\x1b[A\r", "plain"),
    ] {
        alice.keys(keys);
        alice.expect(&format!("alice  {said}\r\n"));
    }
    // Only two in a row on an empty line leave; of a line with text nothing is left.
    alice.keys("\x03");
    alice.expect("-- Ctrl-C once more, Ctrl-D or /quit leaves\r\n");
    alice.keys("gone\x03kept\r");
    alice.expect("alice  kept\r\n");
    alice.keys("gone\x03\x03");
    alice.expect("-- Ctrl-C once more, Ctrl-D or /quit leaves\r\n");
    alice.keys("x\x7f\x03");
    alice.expect("-- Ctrl-C once more, Ctrl-D or /quit leaves\r\n");
    // The end of an empty line is the end.
    alice.keys("\x04");
    alice.end();
}
