//! What the verbs print with `--json` is what docs/json.md says, no more and no less.
//!
//! For a new object: a section with a table in docs/json.md, and in [`everything`] the commands
//! that print it. The failures of the test name what is missing on either side.

use super::{Host, chat, json, start, stderr};
use bytes::Bytes;
use futures_util::StreamExt;
use protocol::{
    AgentId, Content, EncodedBody, FrameCodec, KeyFingerprint, MessageId, Outgoing, RequestId,
    Room, Timestamp, Vocabulary, admin, encode_frame, federation, handshake, local,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
};
use tokio_util::codec::FramedRead;

const DOCUMENT: &str = include_str!("../../../docs/json.md");

/// A field in a table: what it may be, and whether it may be absent.
#[derive(Debug)]
struct Field {
    kinds: BTreeSet<String>,
    optional: bool,
}

/// A section of the document.
#[derive(Debug, Default)]
struct Section {
    fields: BTreeMap<String, Field>,
    examples: Vec<Value>,
}

fn document() -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current = None;
    for line in DOCUMENT.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            current = Some(
                sections
                    .entry(name.trim_matches('`').to_owned())
                    .or_default(),
            );
        }
        let Some(section) = current.as_mut() else {
            continue;
        };
        if let Some(row) = line.strip_prefix("| `") {
            let (name, rest) = row.split_once("` |").expect("a field's name");
            let (what, _) = rest.split_once('|').expect("what it is");
            let (kinds, optional) = match what.trim().split_once(", ") {
                Some((kinds, "optional")) => (kinds, true),
                Some(other) => panic!("{name}: {other:?}"),
                None => (what.trim(), false),
            };
            let kinds = kinds.split(" or ").map(str::to_owned).collect();
            let known = section
                .fields
                .insert(name.to_owned(), Field { kinds, optional });
            assert!(known.is_none(), "{name} is there twice");
        } else if line.starts_with('{') {
            let example = serde_json::from_str(line).expect("an example is JSON");
            section.examples.push(example);
        }
    }
    sections
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// The fields of an object, those of objects in it as `a.b`.
fn flatten<'a>(object: &'a Value, above: &str, into: &mut BTreeMap<String, &'a Value>) {
    for (name, value) in object.as_object().expect("an object") {
        let name = format!("{above}{name}");
        if value.is_object() {
            flatten(value, &format!("{name}."), into);
        }
        into.insert(name, value);
    }
}

/// What is wrong with a printed object; notes the fields that it has.
fn judge(
    object: &Value,
    sections: &BTreeMap<String, Section>,
    seen: &mut BTreeSet<(String, String)>,
) -> Vec<String> {
    let name = object["type"].as_str().unwrap_or_default();
    let Some(section) = sections.get(name) else {
        return vec![format!("no section for type {name:?}: {object}")];
    };
    let mut fields = BTreeMap::new();
    flatten(object, "", &mut fields);
    fields.remove("type");
    let mut problems = Vec::new();
    for (field, value) in &fields {
        seen.insert((name.to_owned(), field.clone()));
        match section.fields.get(field) {
            None => problems.push(format!("{name}.{field} is printed and not documented")),
            Some(known) if !known.kinds.contains(kind(value)) => problems.push(format!(
                "{name}.{field} is a {}, not {:?}",
                kind(value),
                known.kinds
            )),
            Some(_) => {}
        }
    }
    for (field, known) in &section.fields {
        if !known.optional && !fields.contains_key(field) {
            problems.push(format!(
                "{name}.{field} is documented and sometimes missing"
            ));
        }
    }
    problems
}

#[test]
fn every_printed_object_is_documented_and_every_documented_field_is_printed() {
    let sections = document();
    let mut seen = BTreeSet::new();
    let mut problems = BTreeSet::new();
    for object in everything() {
        problems.extend(judge(&object, &sections, &mut seen));
    }
    for (name, section) in &sections {
        for field in section.fields.keys() {
            if !seen.contains(&(name.clone(), field.clone())) {
                problems.insert(format!(
                    "{name}.{field} is documented and was never printed"
                ));
            }
        }
    }
    assert!(problems.is_empty(), "docs/json.md: {problems:#?}");
}

#[test]
fn each_section_has_an_example_that_is_as_it_says() {
    let sections = document();
    assert!(!sections.is_empty());
    for (name, section) in &sections {
        assert!(!section.examples.is_empty(), "{name} has no example");
        for example in &section.examples {
            assert_eq!(example["type"], **name);
            let problems = judge(example, &sections, &mut BTreeSet::new());
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }
}

/// Everything that any verb prints with `--json`, in its several shapes.
fn everything() -> Vec<Value> {
    let host = Host::new();
    let mut printed = Vec::new();
    let mut run = |words: &[&str]| {
        let output = host.run(words);
        let objects = json(&output);
        assert!(!objects.is_empty(), "{words:?}: {}", stderr(&output));
        printed.extend(objects.iter().cloned());
        objects
    };
    // On its own.
    run(&["send", "&den", "hello", "--json"]);
    run(&["status", "--json"]);
    run(&["config", "--json"]);
    run(&["doctor", "--json"]);
    // With something that is no server.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in nobody.incoming().map_while(Result::ok) {
            let _ = std::io::Write::write_all(&mut stream, b"220 mail.example ESMTP\r\n");
        }
    });
    let refused = host.run(&["join", "--insecure-plaintext", &address]);
    assert_eq!(refused.status.code(), Some(1));
    run(&["send", "#ops", "waits", "--json"]);
    let id = printed_id(&run(&["send", "#ops", "waits, too", "--json"]));
    run(&["reply", "#ops", &id, "an answer that waits", "--json"]);
    run(&["pending", "--json"]);
    run(&["search", "waits", "--json"]);
    // It is trying every now and then, and says less of that.
    while run(&["status", "--json"])[0]["link"]["state"] != "waiting" {}
    run(&["rooms", "--json"]);
    // With one.
    let dir = tempfile::tempdir().unwrap();
    let mut server = chat();
    server
        .args(["server", "--listen", "127.0.0.1:0", "--insecure-plaintext"])
        .arg("--state-dir")
        .arg(dir.path());
    let (mut server, _stdout, address) = start(&mut server, "listening on ");
    let joined = host.run(&["join", "--insecure-plaintext", &address]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    run(&["send", "#ops", "arrives", "--wait", "committed", "--json"]);
    run(&["status", "--json"]);
    run(&["doctor", "--json"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(say_all_kinds(&host));
    runtime.block_on(say_nonsense(&address));
    govern(&mut run);
    run(&["tail", "&den", "--since", "0", "--json"]);
    run(&["tail", "&mine", "--since", "0", "--json"]);
    run(&["tail", "#ops", "--count", "3", "--timeout", "60", "--json"]);
    run(&["history", "#ops", "--json"]);
    run(&["rooms", "--json"]);
    run(&["who", "#ops", "--json"]);
    run(&["topic", "#ops", "--json"]);
    server.kill().unwrap();
    server.wait().unwrap();
    printed.extend(administered(&host));
    printed.extend(runtime.block_on(administered_elsewhere()));
    printed
}

/// What is printed of a host that is connected to another server of the same log.
async fn administered_elsewhere() -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let socket = UnixListener::bind(dir.path().join("server.sock")).unwrap();
    let mut command = chat();
    command.args(["server", "agents", "--json", "--state-dir"]);
    let asking = command.arg(dir.path()).stdout(Stdio::piped()).spawn();
    let (mut stream, _) = socket.accept().await.unwrap();
    handshake(&mut stream, Vocabulary::Admin).await.unwrap();
    let (read, mut write) = stream.split();
    let mut asked = FramedRead::new(read, FrameCodec::<admin::CommandFrame, ()>::new());
    let id = asked.next().await.expect("a request").unwrap().id;
    let agent = admin::AgentInfo {
        host: "ada".parse().unwrap(),
        key: KeyFingerprint::from_bytes([7; 32]),
        enrolled_at: Timestamp::from_micros(1),
        state: admin::AgentState::ConnectedTo {
            server: "two".to_owned(),
        },
    };
    let result = Ok(admin::Reply::Agents {
        agents: vec![agent],
        more: false,
    });
    let frame = encode_frame(&admin::ServerFrame { id, result }).unwrap();
    write.write_all(&frame).await.unwrap();
    let output = asking.unwrap().wait_with_output().unwrap();
    json(&output)
}

/// What somebody who runs a server prints.
fn administered(host: &Host) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let mut server = chat();
    server
        .args(["server", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(dir.path());
    let (mut server, _stdout, link) = start(&mut server, "chat join ");
    let joined = host.run(&["join", &link]);
    assert_eq!(joined.status.code(), Some(0), "{}", stderr(&joined));
    let mut printed = Vec::new();
    for words in [
        &["invite", "--json"][..],
        &["invitations", "--json"],
        &["agents", "--json"],
        &["rotate-key", "--json"],
        &["status", "--json"],
        &["drain", "--json"],
    ] {
        let mut command = chat();
        command.arg("server").args(words);
        let output = command.arg("--state-dir").arg(dir.path()).output().unwrap();
        let objects = json(&output);
        assert!(!objects.is_empty(), "{words:?}: {}", stderr(&output));
        printed.extend(objects);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    let file = dir.path().join("log.jsonl");
    let elsewhere = dir.path().join("elsewhere");
    for (order, state_dir) in [("export", dir.path()), ("import", elsewhere.as_path())] {
        let mut command = chat();
        command.args(["server", order, "--json"]).arg(&file);
        let output = command.arg("--state-dir").arg(state_dir).output().unwrap();
        let objects = json(&output);
        assert_eq!(objects.len(), 1, "{order}: {}", stderr(&output));
        printed.extend(objects);
    }
    printed
}

fn printed_id(objects: &[Value]) -> String {
    objects[0]["id"].as_str().expect("an id").to_owned()
}

/// Does what can be done to a room, in `&mine`.
fn govern(run: &mut impl FnMut(&[&str]) -> Vec<Value>) {
    let mode = ["--mode", "invite-only"];
    run(&["room", "create", "&mine", mode[0], mode[1], "--json"]);
    for words in [
        &["invite", "&mine", "bob"][..],
        &["promote", "&mine", "bob"],
        &["mute", "&mine", "carol@bee"],
        &["ban", "&mine", "*@cat"],
        &["retention", "&mine", "--age", "7d", "--count", "1000"],
        &["show", "&mine"],
        // Changes nothing.
        &["mute", "&mine", "carol@bee"],
    ] {
        run(&[&["room"], words, &["--json"]].concat());
    }
    let sent = run(&["send", "&mine", "the password", "--json"]);
    let id = sent[0]["id"].as_str().expect("an id").to_owned();
    run(&["room", "erase", "&mine", &id, "--json"]);
    run(&["room", "show", "&den", "--json"]);
}

/// Says what stands in a log beside plain texts, in `&den`.
async fn say_all_kinds(host: &Host) {
    let mut stream = UnixStream::connect(host.socket()).await.unwrap();
    handshake(&mut stream, Vocabulary::Local).await.unwrap();
    let (first, second) = (MessageId::new(), MessageId::new());
    let text = || "hi".to_owned();
    let contents = [
        Content::Text(text()),
        Content::Text(text()),
        Content::Text(text()),
        Content::Action(text()),
        Content::Reply {
            to: first,
            text: text(),
        },
        Content::Edit {
            of: first,
            text: text(),
        },
        Content::React {
            to: first,
            emoji: "👍".to_owned(),
            on: true,
        },
        Content::Delete { of: second },
    ];
    let hello = local::Request::Hello {
        nick: "alice".parse().unwrap(),
        software: "tests".to_owned(),
        interactive: false,
    };
    let fresh = std::iter::repeat_with(MessageId::new);
    let ids = [MessageId::new(), first, second].into_iter().chain(fresh);
    let sends = contents
        .into_iter()
        .zip(ids)
        .map(|(content, id)| local::Request::Send {
            id,
            room: Room::parse("&den").unwrap(),
            content,
        });
    let requests = std::iter::once(hello).chain(sends).zip(0..);
    let frames = requests.map(|(request, id)| local::TerminalFrame {
        id: RequestId(id),
        request,
    });
    ask_all(
        stream,
        frames.collect(),
        |frame: local::AgentFrame| match frame {
            local::AgentFrame::Reply { result, .. } => Some(result.map(drop)),
            local::AgentFrame::Event(_) => None,
        },
    )
    .await;
}

/// Puts a message into `#ops` that nobody can read, as a host of another version might.
async fn say_nonsense(server: &str) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    handshake(&mut stream, Vocabulary::Federation)
        .await
        .unwrap();
    let hello = federation::Request::Hello {
        host: "bee".parse().unwrap(),
        agent: AgentId::new(),
        software: "tests".to_owned(),
    };
    let room = Room::parse("#ops").unwrap();
    let Room::Federated(name) = &room else {
        unreachable!("it begins with #");
    };
    let join = federation::Request::Join {
        room: name.clone(),
        nick: "bob".parse().unwrap(),
    };
    let body = EncodedBody::from_bytes(Bytes::from_static(&[9, 9])).unwrap();
    let message = Outgoing {
        id: MessageId::new(),
        room,
        author: "bob@bee".parse().unwrap(),
        sent_at: Timestamp::from_micros(1),
        body,
    };
    let append = federation::Request::Append {
        attempt: 0,
        message,
    };
    let requests = [hello, join, append].into_iter().zip(0..);
    let frames = requests.map(|(request, id)| federation::AgentFrame {
        id: RequestId(id),
        request,
    });
    ask_all(
        stream,
        frames.collect(),
        |frame: federation::ServerFrame| match frame {
            federation::ServerFrame::Reply { result, .. } => Some(result.map(drop)),
            federation::ServerFrame::Event(_) => None,
        },
    )
    .await;
}

/// Asks one after the other and expects that each is done.
async fn ask_all<S, Asked, Told, Refusal>(
    stream: S,
    asked: Vec<Asked>,
    reply: impl Fn(Told) -> Option<Result<(), Refusal>>,
) where
    S: AsyncRead + AsyncWrite,
    Asked: Serialize,
    Told: DeserializeOwned,
    Refusal: std::fmt::Debug,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut frames = FramedRead::new(read, FrameCodec::<Told, ()>::new());
    for frame in asked {
        let bytes = encode_frame(&frame).unwrap();
        write.write_all(&bytes).await.unwrap();
        loop {
            let told = frames.next().await.expect("an answer").unwrap();
            if let Some(result) = reply(told) {
                result.unwrap();
                break;
            }
        }
    }
}
