//! Nothing that others write makes a terminal do anything: a corpus of what was tried elsewhere.

use crate::harness::{Agent, Terminal, chat};

/// What is sent, and what must not come out as it is.
const ATTACKS: [(&str, &str); 26] = [
    ("title \u{1b}]0;owned\u{7}", "\u{1b}]0;"),
    ("title by ST \u{1b}]2;owned\u{1b}\\", "\u{1b}]2;"),
    ("clipboard \u{1b}]52;c;ZXZpbA==\u{7}", "\u{1b}]52"),
    (
        "link \u{1b}]8;;http://evil\u{1b}\\bank\u{1b}]8;;\u{1b}\\",
        "\u{1b}]8;;http://evil",
    ),
    ("notification \u{1b}]9;hi\u{7}", "\u{1b}]9;hi"),
    ("notification \u{1b}]777;notify;a;b\u{7}", "\u{1b}]777"),
    ("palette \u{1b}]4;1;rgb:0/0/0\u{1b}\\", "\u{1b}]4;"),
    ("clear \u{1b}[2J\u{1b}[H", "\u{1b}[2J\u{1b}[H"),
    ("scrollback \u{1b}[3J", "\u{1b}[3J"),
    ("colour \u{1b}[31mred", "\u{1b}[31m"),
    ("hidden \u{1b}[8msecret", "\u{1b}[8m"),
    ("up \u{1b}[10A", "\u{1b}[10A"),
    ("report \u{1b}[6n\u{1b}[c", "\u{1b}[6n"),
    ("alternate screen \u{1b}[?1049h", "\u{1b}[?1049h"),
    ("mouse \u{1b}[?1000h", "\u{1b}[?1000h"),
    ("paste end \u{1b}[201~rm -rf", "\u{1b}[201~"),
    ("device \u{1b}P+q544e\u{1b}\\", "\u{1b}P"),
    ("reset \u{1b}c", "\u{1b}c"),
    ("charset \u{1b}(0lqqk", "\u{1b}(0"),
    ("eight bits \u{9b}2J\u{9d}0;owned\u{9c}", "\u{9b}2J"),
    ("overwritten\rsomebody: lies", "\rsomebody"),
    ("backspaced\u{8}\u{8}\u{8}\u{8}", "\u{8}\u{8}"),
    ("bell \u{7}\u{7}\u{7}", "\u{7}\u{7}"),
    ("shift \u{e}\u{f}", "\u{e}\u{f}"),
    ("reversed \u{202e}gpj.exe\u{202c}", "\u{202e}"),
    ("isolated \u{2066}x\u{2069}\u{200f}", "\u{2066}"),
];

#[test]
fn nothing_that_others_write_is_obeyed_by_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let _agent = Agent(dir.path());
    // Also in what calls bob.
    std::fs::create_dir(dir.path().join("chat")).unwrap();
    let preferences = dir.path().join("chat/terminal.toml");
    std::fs::write(preferences, "notify = \"osc9\"\n").unwrap();
    let mut bob = Terminal::open(dir.path(), "bob");
    bob.expect("&lobby> ");
    for (attack, _) in ATTACKS {
        chat(dir.path(), "eve", &["send", "&lobby", "--whole"], attack);
        // Alone, and so with a notification of its own.
        chat(dir.path(), "eve", &["send", "bob", "--whole"], attack);
    }
    chat(dir.path(), "eve", &["send", "&lobby", "the end"], "");
    let mut shown = bob.expect("the end");
    assert!(shown.contains("\u{1b}]9;eve: "), "nothing called bob");
    // Shown again, and quoted.
    bob.keys("/history 30\r");
    shown += &bob.expect("that was before");
    bob.keys("/reply ^2 what?\r");
    shown += &bob.expect("↳ eve: ");
    shown += &bob.expect("what?");
    for (attack, obeyed) in ATTACKS {
        assert!(!shown.contains(obeyed), "{attack:?} got through");
        let word: String = attack
            .chars()
            .take_while(char::is_ascii_lowercase)
            .collect();
        assert!(shown.contains(&word), "{attack:?} is not shown");
    }
    // What is kept is what was sent.
    let kept = chat(
        dir.path(),
        "bob",
        &["tail", "&lobby", "--since", "0", "--json"],
        "",
    );
    let bodies: Vec<String> = kept
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|message| message["from"].as_str().unwrap().starts_with("eve@"))
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect();
    for (attack, _) in ATTACKS {
        assert!(
            bodies.iter().any(|body| body == attack),
            "{attack:?} was changed"
        );
    }
    bob.keys("/quit\r");
    bob.end();
}
