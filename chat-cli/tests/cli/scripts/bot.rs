//! `chat bot`: a program that is given messages and answers them.

use super::{Host, all, bodies, json, shell, stderr};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStderr, Output, Stdio},
};

/// Answers each message with "re: " and what it said.
const ECHO: &str = r#"while read -r line; do
    printf '%s\n' "$line" | sed 's/.*"body":"\([^"]*\)".*/re: \1/'
done"#;

struct Bot {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Bot {
    fn start(host: &Host, flags: &str, program: &str) -> Self {
        std::fs::write(host.dir.path().join("program.sh"), program).unwrap();
        let script = format!("exec chat bot {flags} -- sh program.sh");
        let mut child = shell(host, &script)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// It says this sometime.
    fn expect_said(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without saying {words:?}");
        }
        line
    }

    /// Tells it to end; all that it has said since.
    fn end(mut self) -> String {
        self.signal(Signal::TERM);
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        said
    }

    /// Ends it at once.
    fn kill(self) {}
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a message like this in `room`, from the beginning on.
fn wait_for(host: &Host, room: &str, regex: &str) -> Output {
    let args = [
        "wait",
        room,
        "--since",
        "0",
        "--timeout",
        "1m",
        "--json",
        "--match",
        regex,
    ];
    let output = host.run(&args);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{regex}: {}",
        stderr(&output)
    );
    output
}

#[test]
fn a_program_is_given_messages_and_its_lines_are_sent() {
    let host = Host::new();
    host.run(&["send", "&a", "before its time"]);
    let bot = Bot::start(&host, "--room '&a' --nick robot", ECHO);
    // Its place is kept from the moment on when it has begun.
    let mut asked = 0;
    while bodies(&host, "&a")
        .iter()
        .all(|body| !body.starts_with("re: "))
    {
        asked += 1;
        host.run(&["send", "&a", "hello"]);
    }
    wait_for(&host, "&a", "^re: hello$");
    assert_eq!(bot.end(), "");
    let all = bodies(&host, "&a");
    assert!(all.len() <= 1 + 2 * asked, "{all:?}");
    assert!(!all.contains(&"re: before its time".to_owned()));
}

#[test]
fn messages_that_get_no_answer_hold_up_nobody() {
    let host = Host::new();
    for text in ["one", "two", "three"] {
        host.run(&["send", "&a", text]);
    }
    // All are there when it begins, and nothing else happens after that.
    let program = "read -r a; read -r b; read -r c; echo 'all three'; cat > /dev/null";
    let bot = Bot::start(&host, "--room '&a' --since 0 --nick robot", program);
    wait_for(&host, "&a", "^all three$");
    bot.end();
}

#[test]
fn each_answer_goes_to_the_room_of_its_message_and_an_object_says_more() {
    let host = Host::new();
    let program = r#"
        read -r line
        printf '%s\n' '{"body":"to both\nof you","room":"&b"}'
        id=$(printf '%s\n' "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
        echo '{"react":"+1"}'
        echo '{"body":"indeed","reply_to":"'$id'"}'
        echo '{"body":"x","colour":"red"}'
        read -r line
        echo 'here'
        cat > /dev/null"#;
    let bot = Bot::start(
        &host,
        "--room '&a' --room '&b' --since 0 --nick robot",
        program,
    );
    host.run(&["send", "&a", "one"]);
    wait_for(&host, "&a", "^indeed$");
    wait_for(&host, "&b", "^to both");
    host.run(&["send", "&b", "two"]);
    wait_for(&host, "&b", "^here$");
    let said = bot.end();
    assert!(
        said.contains("chat: sh: this object is not sent: unknown field"),
        "{said}"
    );
    let said = all(&host, "&a");
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(said[1]["type"], "reaction");
    assert_eq!(said[1]["to"], said[0]["id"]);
    assert_eq!(said[2]["to"], said[0]["id"]);
    assert_eq!(said[2]["from"], "robot@ada");
    assert_eq!(bodies(&host, "&b"), ["to both\nof you", "two", "here"]);
}

#[test]
fn bots_do_not_answer_each_other_unless_they_are_to() {
    let host = Host::new();
    host.run(&["send", "&a", "hello"]);
    let flags = |nick: &str| format!("--room '&a' --since 0 --nick {nick} --name {nick}");
    let one = Bot::start(&host, &flags("one"), ECHO);
    wait_for(&host, "&a", "^re: hello$");
    let other = Bot::start(&host, &flags("other"), ECHO);
    let twins = Bot::start(
        &host,
        "--room '&a' --since 0 --nick one --name twin --hear-bots",
        ECHO,
    );
    host.run(&["send", "&a", "last"]);
    // The one that hears bots of others answers the other, and neither of its own user's.
    wait_for(&host, "&a", "^re: re: last$");
    for bot in [one, other, twins] {
        bot.end();
    }
    let all = all(&host, "&a");
    let mut answers: HashMap<(String, String), u32> = HashMap::new();
    for message in &all {
        let field = |name: &str| message[name].as_str().unwrap().to_owned();
        *answers.entry((field("from"), field("body"))).or_default() += 1;
    }
    let count = |from: &str, body: &str| {
        let key = (format!("{from}@ada"), body.to_owned());
        answers.get(&key).copied().unwrap_or_default()
    };
    for body in ["hello", "last"] {
        assert_eq!(count("other", &format!("re: {body}")), 1, "{all:?}");
        assert_eq!(count("one", &format!("re: {body}")), 2, "{all:?}");
        assert_eq!(count("one", &format!("re: re: {body}")), 1, "{all:?}");
    }
    assert_eq!(all.len(), 10, "{all:?}");
}

#[test]
fn nothing_is_lost_when_the_program_dies() {
    let host = Host::new();
    // Dies over every third message, before it answers and after.
    let program = r#"
        n=0
        while read -r line; do
            text=$(printf '%s\n' "$line" | sed 's/.*"body":"\([^"]*\)".*/\1/')
            n=$((n + 1))
            [ $n = 3 ] && [ $((text % 2)) = 0 ] && kill -9 $$
            echo "re: $text"
            [ $n = 3 ] && exit 7
        done"#;
    let input: String = (1..=12).map(|number| format!("{number}\n")).collect();
    host.run_with_input(&["send", "&a"], input.as_bytes());
    let mut bot = Bot::start(&host, "--room '&a' --since 0", program);
    bot.expect_said("starting it again in 0.2 s");
    wait_for(&host, "&a", "^re: 12$");
    bot.end();
    let all = bodies(&host, "&a");
    let answered = |number| all.contains(&format!("re: {number}"));
    let missing: Vec<u32> = (1..=12).filter(|number| !answered(*number)).collect();
    assert_eq!(missing, [0; 0], "{all:?}");
}

#[test]
fn nothing_is_lost_when_the_bot_or_the_agent_is_killed() {
    let mut host = Host::new();
    let bot = Bot::start(&host, "--room '&a' --since 0 --nick robot", ECHO);
    host.run(&["send", "&a", "one"]);
    wait_for(&host, "&a", "^re: one$");
    bot.kill();
    host.run(&["send", "&a", "two"]);
    host.run(&["send", "&a", "three"]);
    // It goes on where it was, not where it is told to begin.
    let mut bot = Bot::start(&host, "--room '&a' --since 2100-01-01 --nick robot", ECHO);
    wait_for(&host, "&a", "^re: three$");
    host.agent.kill().unwrap();
    host.agent.wait().unwrap();
    bot.expect_said("looking for it");
    host.restart();
    host.run(&["send", "&a", "four"]);
    wait_for(&host, "&a", "^re: four$");
    bot.end();
    // What it has answered and confirmed does not come again after an orderly end.
    let before = bodies(&host, "&a").len();
    host.run(&["send", "&a", "five"]);
    let bot = Bot::start(&host, "--room '&a' --nick robot", ECHO);
    wait_for(&host, "&a", "^re: five$");
    bot.end();
    assert_eq!(bodies(&host, "&a").len(), before + 2);
    let all = bodies(&host, "&a");
    for text in ["re: two", "re: three", "re: four"] {
        assert!(all.contains(&text.to_owned()), "{all:?}");
    }
}

#[test]
fn a_message_that_kills_is_left_out_in_the_end() {
    let host = Host::new();
    let program = r#"while read -r line; do
        case $line in *poison*) kill -9 $$;; esac
        echo fine
    done"#;
    host.run_with_input(&["send", "&a"], b"poison\nwater\n");
    let mut bot = Bot::start(&host, "--room '&a' --since 0", program);
    let said = bot.expect_said("died three times over message");
    let poison = all(&host, "&a")[0]["id"].as_str().unwrap().to_owned();
    assert!(said.contains(&poison) && said.contains("of &a"), "{said}");
    wait_for(&host, "&a", "^fine$");
    bot.end();
    assert_eq!(bodies(&host, "&a"), ["poison", "water", "fine"]);
}

#[test]
fn an_answer_belongs_to_what_was_taken_last_however_fast_it_comes() {
    const MESSAGES: usize = 300;
    let host = Host::new();
    let program = r#"n=0
        while read -r line; do
            echo "${line#*\"body\":}"
            n=$((n + 1))
            [ $n = 7 ] && exec sh program.sh
        done"#;
    let rooms = ["&a", "&b"];
    for room in rooms {
        let input: String = (0..MESSAGES / 2).map(|n| format!("{room}{n}\n")).collect();
        host.run_with_input(&["send", room], input.as_bytes());
    }
    let bot = Bot::start(&host, "--room '&a' --room '&b' --since 0", program);
    for room in rooms {
        wait_for(&host, room, &format!("^\"{room}{}\"", MESSAGES / 2 - 1));
        let answers = bodies(&host, room);
        assert_eq!(answers.len(), MESSAGES);
        let mine = |body: &&String| body.starts_with(&format!("\"{room}"));
        assert_eq!(
            answers.iter().filter(mine).count(),
            MESSAGES / 2,
            "{answers:?}"
        );
    }
    bot.end();
}

#[test]
fn what_it_complains_of_is_said_and_cannot_command_the_terminal() {
    let host = Host::new();
    let program = r#"printf 'oh\033[2J\n' >&2; echo up; cat > /dev/null"#;
    let mut bot = Bot::start(&host, "--room '&a'", program);
    assert_eq!(bot.expect_said("oh"), "chat: sh: oh\\x1b[2J\n");
    wait_for(&host, "&a", "^up$");
    bot.end();
}

#[test]
fn a_program_that_does_not_want_to_end_is_ended() {
    let host = Host::new();
    let program = r#"trap '' TERM INT
        echo up
        while :; do sleep 1 < /dev/null; done"#;
    let bot = Bot::start(&host, "--room '&a'", program);
    wait_for(&host, "&a", "^up$");
    bot.signal(Signal::INT);
    // Asked twice: now, and not in a while.
    bot.end();
}

#[test]
fn many_messages_and_long_ones_come_through() {
    let host = Host::new();
    let long = "x".repeat(60_000);
    let input: String = (1..=300).map(|number| format!("{number}\n")).collect();
    host.run_with_input(&["send", "&a"], format!("{input}{long}\nend\n").as_bytes());
    let program = "while read -r line; do echo ${#line}; done";
    let bot = Bot::start(&host, "--room '&a' --since 0", program);
    wait_for(&host, "&a", "^60[0-9]{3}$");
    bot.end();
    let answers = bodies(&host, "&a");
    assert!((602..=604).contains(&answers.len()), "{}", answers.len());
}

#[test]
fn what_cannot_be_run_at_all_is_1() {
    let host = Host::new();
    let output = host.run(&["bot", "--room", "&a", "--", "/no/such/program"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("program cannot be run"));
    for usage in [&["bot", "--", "cat"][..], &["bot", "--room", "&a"]] {
        assert_eq!(host.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert!(json(&host.run(&["tail", "&a", "--json"])).is_empty());
}
