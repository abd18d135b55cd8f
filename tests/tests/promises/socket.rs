//! Whose socket it is, and who may use it.

use protocol::{
    Nick, RequestId, Vocabulary, encode_frame,
    local::{AgentFrame, Reply, Request, TerminalFrame},
};
use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};
use tests::{
    Host, Place, Process, Sandbox, chat_binary,
    privilege::{Need, privileged},
    wire::{Stream, Wire},
};

/// A uid and gid that own nothing.
const NOBODY: u32 = 54_322;
/// A group for those who share an agent.
const GROUP: u32 = 54_321;

#[test]
fn a_second_agent_on_the_same_socket_or_state_names_the_first() {
    let sandbox = Sandbox::new();
    let mut first = Host::start_alone(&sandbox, "ada");
    let pid = first.agent().pid().to_string();
    let same_socket = Host::new(&sandbox, "bee").with_socket(first.socket().to_owned());
    let same_state = Host::new(&sandbox, "cow").with_state_dir(first.state_dir().to_owned());
    let elsewhere = format!("use --socket {}", first.socket().display());
    for (second, remedy) in [
        (&same_socket, format!("end it with `kill {pid}`")),
        (&same_state, elsewhere),
    ] {
        let finished = second.launch().wait();
        assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
        assert!(
            finished.stderr.contains(&pid),
            "who holds it? {}",
            finished.stderr
        );
        assert!(finished.stderr.contains(&remedy), "{}", finished.stderr);
    }
    first.terminal("alice").send("&den", "undisturbed");
}

#[test]
fn a_terminal_that_looks_elsewhere_is_told_where_the_agent_answers() {
    let sandbox = Sandbox::new();
    let mut host = Host::start_alone(&sandbox, "ada");
    let nowhere = sandbox.dir("elsewhere").join("agent.sock");
    let mut chat = host.place().chat();
    chat.env("CHAT_SOCKET", &nowhere)
        .env("CHAT_STATE_DIR", host.state_dir());
    let refused = Process::start("chat", &mut chat, host.logs()).wait();
    let told = refused.expect_code(69).stderr;
    let pid = host.agent().pid();
    let fact = format!("another agent (process {pid}) has the state");
    let remedy = format!("use --socket {}", host.socket().display());
    assert!(told.contains(&fact) && told.contains(&remedy), "{told}");
    assert!(!told.contains("kill"), "nothing is wrong with it: {told}");
    // What it came to say is said at once: nothing was started to wait for the lock.
    assert!(!host.state_dir().join("agent.log").exists());
    // A dead agent's note keeps nobody.
    host.kill_agent();
    let moved = Host::new(&sandbox, "ada")
        .with_socket(nowhere)
        .with_state_dir(host.state_dir().to_owned());
    let mut agent = moved.launch();
    agent.wait_for_line("ready on ");
}

#[test]
fn whoever_may_not_start_a_shared_agent_is_told_who_runs_it() {
    let name = "socket::whoever_may_not_start_a_shared_agent_is_told_who_runs_it";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let place = public_place(&sandbox).as_uid(NOBODY, Some(GROUP));
        let host = Host::new(&sandbox, "ada");
        let dir = host.socket().parent().expect("a directory");
        fs::create_dir_all(dir).expect("root's directory");
        for dir in dir.ancestors().take(2) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let mut chat = place.chat();
        chat.arg("--socket").arg(host.socket());
        let refused = Process::start("chat", &mut chat, host.logs()).wait();
        let told = refused.expect_code(69).stderr;
        assert!(
            told.contains("uid 0 alone") && told.contains("whoever runs it"),
            "{told}"
        );
    });
}

#[test]
fn a_live_agents_socket_is_not_taken_though_its_lock_file_was_removed() {
    let sandbox = Sandbox::new();
    let mut first = Host::start_alone(&sandbox, "ada");
    let lock = format!("{}.lock", first.socket().display());
    fs::remove_file(&lock).expect("a lock file");
    let second = Host::new(&sandbox, "bee").with_socket(first.socket().to_owned());
    let finished = second.launch().wait();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    let remedy = format!("end it with `kill {}`", first.agent().pid());
    assert!(finished.stderr.contains(&remedy), "{}", finished.stderr);
    first.terminal("alice").send("&den", "undisturbed");
}

#[test]
fn a_dead_agents_socket_is_replaced() {
    let sandbox = Sandbox::new();
    let mut host = Host::start_alone(&sandbox, "ada");
    host.terminal("alice").send("&den", "before");
    host.kill_agent();
    assert!(host.socket().exists(), "a killed agent leaves its socket");
    host.restart();
    assert_eq!(host.terminal("alice").read_all("&den").len(), 1);
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let dir = host.socket().parent().expect("a directory");
    fs::create_dir_all(dir).expect("directory");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::write(host.socket(), "precious").expect("file");
    let finished = host.launch().wait();
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    let path = host.socket().to_str().expect("a plain path");
    assert!(finished.stderr.contains(path), "{}", finished.stderr);
    assert_eq!(
        fs::read_to_string(host.socket()).expect("still there"),
        "precious"
    );
}

#[test]
fn socket_and_directories_are_the_owners_alone() {
    let sandbox = Sandbox::new();
    let mut host = Host::start_alone(&sandbox, "ada");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert!(
        fs::metadata(host.socket())
            .expect("there")
            .file_type()
            .is_socket()
    );
    assert_eq!(mode(host.socket()), 0o600);
    assert_eq!(mode(host.socket().parent().expect("directory")), 0o700);
    assert_eq!(mode(host.state_dir()), 0o700);
    assert_eq!(mode(&host.database()) & 0o077, 0, "the database is private");
    assert!(host.agent().is_running());
}

#[test]
fn without_an_agent_the_path_that_was_tried_is_told() {
    let sandbox = Sandbox::new();
    let host = Host::new(&sandbox, "ada");
    let alice = host.terminal("alice");
    let path = host.socket().to_str().expect("a plain path");
    let verbs: [&[&str]; 6] = [
        &["send", "&den", "hello", "--timeout", "1"],
        &["tail", "&den"],
        &["history", "&den"],
        &["rooms"],
        &["who", "&den"],
        &["status"],
    ];
    for words in verbs {
        let finished = alice.run(words).expect_code(69);
        assert!(
            finished.stderr.contains(path),
            "{words:?}: {}",
            finished.stderr
        );
        assert!(finished.stdout.is_empty(), "{words:?}: {}", finished.stdout);
    }
}

/// The binary where other users can reach it: a home directory may be closed to them.
fn public_place(sandbox: &Sandbox) -> Place {
    sandbox.open_to_all();
    let copy = sandbox.path().join("chat");
    if !copy.exists() {
        fs::copy(chat_binary(), &copy).expect("a copy of the binary");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    sandbox.place().with_binary(copy)
}

#[test]
fn what_is_asked_in_one_breath_with_the_hello_is_answered() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    let stream = Stream::unix(host.socket()).expect("a connection");
    let mut wire: Wire<AgentFrame, TerminalFrame> =
        Wire::open(stream, Vocabulary::Local).expect("an agent");
    let hello = Request::Hello {
        nick: Nick::parse("alice").expect("a nick"),
        software: "tests".to_owned(),
        interactive: false,
    };
    let mut bytes = Vec::new();
    for (id, request) in [(RequestId(0), hello), (RequestId(1), Request::Ping)] {
        let frame = TerminalFrame { id, request };
        bytes.extend_from_slice(&encode_frame(&frame).expect("a frame"));
    }
    wire.send_bytes(&bytes).expect("sent");
    for expected in [0, 1] {
        match wire.receive().expect("a frame") {
            Some(AgentFrame::Reply { id, result: Ok(_) }) => assert_eq!(id, RequestId(expected)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_user_is_kept_out_by_default() {
    let name = "socket::another_user_is_kept_out_by_default";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let place = public_place(&sandbox);
        let host = Host::start_alone(&sandbox, "ada");
        let stranger = host
            .terminal("mallory")
            .in_place(place.as_uid(NOBODY, None));
        let finished = stranger.run(["send", "&den", "let me in", "--timeout", "1"]);
        let path = host.socket().to_str().expect("a plain path");
        assert!(matches!(finished.code, Some(77)), "{finished:?}");
        assert!(finished.stderr.contains(path), "{finished:?}");

        // Not even where the file's mode would let them: the agent asks the kernel who it is.
        fs::set_permissions(host.socket(), fs::Permissions::from_mode(0o666)).expect("chmod");
        for dir in host.socket().ancestors().skip(1).take(2) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let finished = stranger
            .run(["send", "&den", "let me in", "--timeout", "1"])
            .expect_code(77);
        assert!(
            finished.stderr.contains(&NOBODY.to_string()),
            "{finished:?}"
        );
        assert!(host.terminal("alice").read_all("&den").is_empty());
    });
}

/// A host whose agent serves [`GROUP`].
fn shared_host(sandbox: &Sandbox) -> Host {
    let mut host = Host::new(sandbox, "ada").with_args(&["--group", &GROUP.to_string()]);
    host.restart();
    let dir = host.socket().ancestors().nth(2).expect("a directory");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    host
}

#[test]
fn a_member_of_the_group_cannot_take_the_whole_host_elsewhere() {
    let name = "socket::a_member_of_the_group_cannot_take_the_whole_host_elsewhere";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let place = public_place(&sandbox).as_uid(NOBODY, Some(GROUP));
        let host = shared_host(&sandbox);
        let guest = host.terminal("guest-54322").in_place(place);
        let server = "plain://127.0.0.1:9".to_owned();
        let federate = Request::Federate {
            servers: vec![server],
        };
        let mut owner = host.session("alice");
        assert_eq!(owner.ask(federate), Ok(Reply::Done));
        let words: [&[&str]; 2] = [&["join", "127.0.0.1:10"], &["leave"]];
        for words in words {
            let refused = guest.run(words).expect_code(77);
            assert!(refused.stderr.contains("uid 0"), "who may? {refused:?}");
        }
        let link = format!("{:?}", owner.status().link);
        assert!(link.contains("127.0.0.1:9"), "{link}");
        assert_eq!(owner.ask(Request::Defederate), Ok(Reply::Done));
    });
}

#[test]
fn a_member_of_the_group_cannot_speak_as_another_users_login_name() {
    let name = "socket::a_member_of_the_group_cannot_speak_as_another_users_login_name";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let place = public_place(&sandbox).as_uid(NOBODY, Some(GROUP));
        let host = shared_host(&sandbox);
        let squatter = host.terminal("root").in_place(place);
        let refused = squatter.run(["send", "&den", "stolen"]).expect_code(77);
        assert!(refused.stderr.contains("uid 0"), "{refused:?}");
        // Nothing was taken: it is root's still.
        host.terminal("root").send("&den", "mine");
    });
}

#[test]
fn users_of_one_group_share_an_agent_but_not_their_nicks() {
    let name = "socket::users_of_one_group_share_an_agent_but_not_their_nicks";
    privileged(Need::OtherUsers, name, || {
        let sandbox = Sandbox::new();
        let place = public_place(&sandbox);
        let host = shared_host(&sandbox);
        let mode = fs::metadata(host.socket())
            .expect("there")
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(mode, 0o660);
        let alice = host.terminal("alice");
        alice.send("&den", "mine");
        let member = place.as_uid(NOBODY, Some(GROUP));
        let guest = host.terminal("guest-54322").in_place(member.clone());
        guest.send("&den", "ours");
        assert_eq!(alice.read_all("&den").len(), 2);

        // Neither hers nor one that looks like it.
        for nick in ["alice", "Alice", "a1ice", "\u{430}lice"] {
            let thief = host.terminal(nick).in_place(member.clone());
            let refused = thief.run(["send", "&den", "stolen"]).expect_code(77);
            assert!(refused.stderr.contains(nick), "{refused:?}");
            assert!(refused.stderr.contains("--nick"), "{refused:?}");
        }
        let outsider = host.terminal("eve").in_place(place.as_uid(NOBODY, None));
        outsider
            .run(["send", "&den", "no", "--timeout", "1"])
            .expect_code(77);
        assert_eq!(alice.read_all("&den").len(), 2);
    });
}
