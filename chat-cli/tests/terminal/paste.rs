//! What is pasted is one text, and is sent when the person says so.

use crate::{
    harness::{Agent, Terminal, said},
    tmux::Tmux,
};

fn paste(text: &str) -> String {
    format!("\x1b[200~{}\x1b[201~", text.replace('\n', "\r"))
}

#[test]
fn a_paste_is_one_message_and_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    alice.keys(&paste("one\n\ttwo\n/quit\n\x07last"));
    // The bell is not rung.
    alice.expect("one\r\n\ttwo\r\n/quit\r\nlast");
    assert!(said(dir.path()).is_empty(), "sent without Enter");
    alice.keys("\r");
    alice.expect("alice  one");
    // A pasted command waits for Enter, too.
    alice.keys(&paste("/quit\n"));
    alice.expect("/quit\r\n");
    alice.keys("\x15said\r");
    alice.expect("alice  said");
    assert_eq!(said(dir.path()), ["one\n\ttwo\n/quit\n\u{7}last", "said"]);
    alice.keys("\x04");
    alice.end();
}

#[test]
fn a_large_paste_is_sent_only_at_a_second_enter() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let mut alice = Terminal::open(dir.path(), "alice");
    alice.expect("&lobby> ");
    let long: Vec<String> = (1..=21).map(|at| format!("line {at}")).collect();
    let long = long.join("\n");
    let wide = "wide ".repeat(1_000);
    alice.keys(&paste(&long));
    alice.expect("line 21");
    alice.keys("\r");
    // Its beginning stands for it meanwhile: the question is not driven out of the window.
    alice.expect("-- that is 21 lines, 158 bytes: Enter again sends it, Ctrl-U drops it");
    alice.expect("&lobby> line 1 [+20 lines]");
    // Gone on with, it is asked again; changed within, it is shown again.
    alice.keys("!\r");
    alice.expect("-- that is 21 lines, 159 bytes");
    alice.expect("&lobby> line 1 [+20 lines]");
    alice.keys("\x1b[D");
    alice.expect("line 21!");
    alice.keys("\r");
    alice.expect("-- that is 21 lines, 159 bytes");
    alice.expect("&lobby> line 1 [+20 lines]");
    alice.keys("\r");
    alice.expect("alice  line 1\r\n");
    alice.keys(&paste(&wide));
    alice.keys("\r");
    alice.expect("-- that is 1 line, 5 KiB");
    alice.expect(" wide [5 KiB]");
    // Dropped, it is gone.
    alice.keys("\x15small\r");
    alice.expect("alice  small");
    alice.keys(&paste(&format!("/me {long}")));
    alice.expect("line 21");
    alice.keys("\r");
    alice.expect("-- that is 21 lines, 162 bytes");
    alice.expect("&lobby> /me line 1 [+20 lines]");
    alice.keys("\r");
    alice.expect("alice line 1\r\n");
    alice.keys(&paste(&long[..long.len() - 8]));
    alice.keys("\r");
    alice.expect("alice  line 1\r\n");
    let kept = long[..long.len() - 8].to_owned();
    assert_eq!(
        said(dir.path()),
        [format!("{long}!"), "small".to_owned(), long, kept]
    );
    alice.keys("\x04");
    alice.end();
}

#[test]
fn the_question_about_a_paste_that_is_taller_than_the_window_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    let bob = Tmux::open(dir.path(), "bob", 70, 10);
    bob.await_end("&lobby>");
    let long: Vec<String> = (1..=30).map(|at| format!("line {at}")).collect();
    bob.keys(&paste(&long.join("\n")));
    bob.await_end("line 30");
    bob.key("Enter");
    bob.await_end("&lobby> line 1 [+29 lines]");
    bob.await_end("Enter again sends it, Ctrl-U drops it");
    let window = bob.window();
    assert!(window.contains("-- that is 30 lines, "), "{window}");
    assert!(window.contains("&lobby> line 1 [+29 lines]"), "{window}");
    bob.key("Enter");
    bob.await_end("line 30");
    bob.await_end("&lobby>");
    assert_eq!(said(dir.path()), [long.join("\n")]);
}
