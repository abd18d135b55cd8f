//! Who leaves a room, or reads of one they are not in: told, and never left in silence.

use protocol::{
    Cursor, Seq,
    local::{Event, From, Refusal, Reply, Request},
};
use tests::{Host, Sandbox, Server};

#[test]
fn a_reader_whose_user_leaves_in_another_session_is_told_and_ends() {
    let sandbox = Sandbox::new();
    let server = Server::start(&sandbox);
    let ada = Host::start(&sandbox, "ada", server.link());
    ada.wait_online();
    let alice = ada.terminal("alice");
    for room in ["#ops", "&den"] {
        alice.send(room, "first");
        let mut tail = alice.tail(&[room], "0");
        tail.wait_for("first");
        let mut session = ada.script("alice");
        session.open_room(room, From::Beginning);
        alice.run(["leave", room]).expect_code(0);
        let finished = tail.process().wait().expect_code(1);
        let told = format!("alice@ada left {room}");
        assert!(finished.stderr.contains(&told), "{}", finished.stderr);
        let closed = session.event(|event| match event {
            Event::Closed { reason, .. } => Some(reason),
            _ => None,
        });
        assert!(matches!(closed, Refusal::Left { .. }), "{closed:?}");
        // Who opens it again is in it again.
        session.open_room(room, From::Beginning);
        alice.send(room, "second");
        let texts: Vec<_> = (0..2)
            .map(|_| session.next_message().body.decode().expect("a text"))
            .collect();
        let expected = ["first", "second"].map(|text| protocol::Content::Text(text.to_owned()));
        assert_eq!(texts, expected);
    }
}

#[test]
fn a_read_marker_stands_only_where_its_user_can_have_read() {
    let sandbox = Sandbox::new();
    let host = Host::start_alone(&sandbox, "ada");
    host.terminal("bob").send("&den", "hello");
    let mut alice = host.script("alice");
    let room = alice.room("&den");
    let mark = |cursor| Request::MarkRead {
        room: room.clone(),
        cursor,
    };
    let Reply::Opened { epoch, .. } = host.script("bob").open_room("&den", From::Beginning) else {
        panic!("not opened");
    };
    let far = Cursor {
        epoch,
        seq: Seq::new(1_000_000),
    };
    let stranger = alice.ask(mark(far));
    assert!(
        matches!(stranger, Err(Refusal::Left { .. })),
        "{stranger:?}"
    );
    alice.open_room("&den", From::Beginning);
    let other_life = Cursor {
        epoch: protocol::Epoch::new(),
        seq: Seq::new(1),
    };
    let refused = alice.ask(mark(other_life));
    assert!(
        matches!(refused, Err(Refusal::EpochChanged { .. })),
        "{refused:?}"
    );
    alice.ask(mark(far)).expect("an answer");
    // Nothing was skipped by it.
    let Reply::Opened { read, .. } = alice.open_room("&den", From::Unread(10)) else {
        panic!("not opened");
    };
    assert_eq!(read, None);
    alice.next_message();
}
