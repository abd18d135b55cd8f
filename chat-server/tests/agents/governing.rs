//! Rooms that are not open to all, as agents see them: nothing is read, listed or said there by
//! those who are not in them.

use crate::harness::{Agent, Server, message, room, text};
use protocol::{
    Content, FederatedRoom, MessageId, Seq,
    federation::{Event, Refusal, Reply, Request},
    governance::{Act, Denied, Mode, Rank, Subject},
};
use tokio::io::{AsyncRead, AsyncWrite};

impl<S: AsyncRead + AsyncWrite + Unpin> Agent<S> {
    async fn govern(&mut self, room: &str, nick: &str, act: Act) -> Result<Reply, Refusal> {
        self.ask(Request::Govern {
            room: self::room(room),
            nick: nick.parse().unwrap(),
            id: MessageId::new(),
            act,
        })
        .await
    }

    async fn join(&mut self, room: &str, nick: &str) -> Result<Reply, Refusal> {
        let room = FederatedRoom::parse(room).unwrap();
        let nick = nick.parse().unwrap();
        self.ask(Request::Join { room, nick }).await
    }

    async fn opens(&mut self, room: &str, nick: &str, mode: Mode) {
        let members = Vec::new();
        let opened = self.govern(room, nick, Act::Opened { mode, members }).await;
        assert!(matches!(opened, Ok(Reply::Appended { .. })), "{opened:?}");
        self.join(room, nick).await.unwrap();
    }

    async fn rooms(&mut self) -> Vec<String> {
        match self.ask(Request::Rooms { after: None }).await {
            Ok(Reply::Rooms { rooms, .. }) => {
                rooms.iter().map(|info| info.room.to_string()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next end of a subscription, whatever else is told.
    async fn unsubscribed(&mut self) -> Refusal {
        loop {
            if let Event::Unsubscribed { reason, .. } = self.event().await {
                return reason;
            }
        }
    }
}

fn invite(who: &str) -> Act {
    Act::Invite {
        user: who.parse().unwrap(),
    }
}

fn kick(who: &str) -> Act {
    Act::Kick {
        user: who.parse().unwrap(),
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_a_room_by_invitation() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut eve = server.agent("eve").await;
    ada.opens("#secret", "alice", Mode::InviteOnly).await;
    ada.append(&message("alice@ada", "#secret", "psst"))
        .await
        .unwrap();
    assert_eq!(ada.rooms().await, ["#secret"]);
    assert!(eve.rooms().await.is_empty());

    // What is asked of it is answered as of a room that is not there.
    for name in ["#secret", "#nowhere"] {
        let named = FederatedRoom::parse(name).unwrap();
        let nick = || "eve".parse().unwrap();
        let none = Err(Refusal::NoSuchRoom { room: room(name) });
        let who = Request::Who {
            room: named.clone(),
            after: None,
        };
        assert_eq!(eve.ask(who).await, none);
        let who = Request::WhoFor {
            room: named.clone(),
            nick: nick(),
            after: None,
        };
        assert_eq!(eve.ask(who).await, none);
        let head = Request::Head { room: room(name) };
        assert_eq!(eve.ask(head).await, Ok(Reply::Head { head: Seq::START }));
        let topic = Request::SetTopic {
            room: named,
            nick: nick(),
            topic: "mine".to_owned(),
        };
        assert_eq!(eve.ask(topic).await, none);
        assert_eq!(eve.govern(name, "eve", kick("alice@ada")).await, none);
        let subscribe = Request::Subscribe {
            room: room(name),
            after: Seq::START,
            after_id: None,
        };
        let nobody = Err(Refusal::NoReader { room: room(name) });
        assert_eq!(eve.ask(subscribe).await, nobody);
    }
    // What would make one that is not there says only that this name is taken.
    let closed = Refusal::NotOpen {
        room: room("#secret"),
    };
    assert_eq!(eve.join("#secret", "eve").await, Err(closed.clone()));
    let said = eve.append(&message("eve@eve", "#secret", "hello?")).await;
    assert_eq!(said, Err(closed.clone()));
    let opened = Act::Opened {
        mode: Mode::Public,
        members: Vec::new(),
    };
    assert_eq!(eve.govern("#secret", "eve", opened).await, Err(closed));

    ada.govern("#secret", "alice", invite("eve@eve"))
        .await
        .unwrap();
    assert_eq!(eve.rooms().await, ["#secret"]);
    eve.join("#secret", "eve").await.unwrap();
    // Nobody else of that host.
    assert!(eve.join("#secret", "mallory").await.is_err());
    let who = Request::WhoFor {
        room: FederatedRoom::parse("#secret").unwrap(),
        nick: "mallory".parse().unwrap(),
        after: None,
    };
    assert!(eve.ask(who).await.is_err());
}

#[tokio::test]
async fn whoever_is_kicked_gets_everything_up_to_that_and_nothing_behind_it() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    ada.opens("#secret", "alice", Mode::InviteOnly).await;
    ada.govern("#secret", "alice", invite("reader@bee"))
        .await
        .unwrap();
    bee.subscribe("#secret").await.unwrap();
    let one = message("alice@ada", "#secret", "one");
    ada.append(&one).await.unwrap();
    loop {
        let got = bee.message().await;
        if got.id == one.id {
            break;
        }
    }
    let kicked = ada.govern("#secret", "alice", kick("reader@bee")).await;
    let Ok(Reply::Appended { seq }) = kicked else {
        panic!("{kicked:?}");
    };
    ada.append(&message("alice@ada", "#secret", "two"))
        .await
        .unwrap();
    let last = bee.message().await;
    assert_eq!(last.seq, seq);
    assert_eq!(last.body.decode(), Ok(Content::Act(kick("reader@bee"))));
    let no_reader = Refusal::NoReader {
        room: room("#secret"),
    };
    assert_eq!(bee.unsubscribed().await, no_reader);
    let again = bee.subscribe_after("#secret", seq, Some(last.id)).await;
    assert_eq!(again, Err(no_reader));
}

#[tokio::test]
async fn whoever_is_muted_banned_or_only_reads_is_told_so_and_who_could_help() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    ada.join("#ops", "alice").await.unwrap();
    bee.subscribe("#ops").await.unwrap();
    let before = message("bob@bee", "#ops", "before");
    let seq = bee.append(&before).await.unwrap();
    let user = || "bob@bee".parse().unwrap();
    let mute = Act::Mute { user: user() };
    // The first act of whoever made the room makes them its owner.
    ada.govern("#ops", "alice", mute).await.unwrap();
    let ask = vec!["alice@ada".parse().unwrap()];
    let denied = |denied| {
        Err(Refusal::Denied {
            room: room("#ops"),
            denied,
        })
    };
    let said = bee.append(&message("bob@bee", "#ops", "x")).await;
    let muted = Denied::Muted {
        user: user(),
        ask: ask.clone(),
    };
    assert_eq!(said, denied(muted));
    // What was taken before is taken still.
    assert_eq!(bee.append(&before).await, Ok(seq));
    // Others are none the wiser.
    bee.append(&message("carl@bee", "#ops", "y")).await.unwrap();

    let mode = Act::Mode {
        mode: Mode::ReadOnly,
        members: Vec::new(),
    };
    let by_bob = bee.govern("#ops", "bob", mode.clone()).await;
    let needs = Denied::NeedsOwner { ask: ask.clone() };
    assert_eq!(by_bob.map(drop), denied(needs).map(|_: Seq| ()));
    ada.govern("#ops", "alice", mode).await.unwrap();
    let said = bee.append(&message("carl@bee", "#ops", "z")).await;
    let read_only = Denied::ReadOnly { ask: ask.clone() };
    assert_eq!(said, denied(read_only));
    let promote = Act::Promote {
        user: "carl@bee".parse().unwrap(),
        rank: Rank::Moderator,
    };
    ada.govern("#ops", "alice", promote).await.unwrap();
    bee.append(&message("carl@bee", "#ops", "z")).await.unwrap();

    let ban = Act::Ban {
        subject: Subject::Host("cat".parse().unwrap()),
    };
    bee.govern("#ops", "carl", ban).await.unwrap();
    let mut cat = server.agent("cat").await;
    let joined = cat.join("#ops", "dora").await;
    assert!(
        matches!(
            joined,
            Err(Refusal::Denied {
                denied: Denied::Banned { .. },
                ..
            })
        ),
        "{joined:?}"
    );
}

#[tokio::test]
async fn a_kick_outlasts_an_agent_that_was_away_and_no_longer() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    ada.join("#ops", "alice").await.unwrap();
    bee.join("#ops", "bob").await.unwrap();
    ada.govern("#ops", "alice", kick("bob@bee")).await.unwrap();
    // It joins all of its members whenever it comes back, and has not heard yet.
    let again = bee.join("#ops", "bob").await;
    assert!(
        matches!(
            again,
            Err(Refusal::Denied {
                denied: Denied::Kicked { .. },
                ..
            })
        ),
        "{again:?}"
    );
    let leave = Request::Leave {
        room: FederatedRoom::parse("#ops").unwrap(),
        nick: "bob".parse().unwrap(),
    };
    bee.ask(leave).await.unwrap();
    bee.join("#ops", "bob").await.unwrap();
    let gone = ada.govern("#ops", "alice", kick("nobody@bee")).await;
    assert!(
        matches!(
            gone,
            Err(Refusal::Denied {
                denied: Denied::NotIn { .. },
                ..
            })
        ),
        "{gone:?}"
    );
}

#[tokio::test]
async fn an_act_is_done_once_and_never_by_appending() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    ada.join("#ops", "alice").await.unwrap();
    bee.join("#ops", "bob").await.unwrap();
    let id = MessageId::new();
    let request = Request::Govern {
        room: room("#ops"),
        nick: "alice".parse().unwrap(),
        id,
        act: kick("bob@bee"),
    };
    let done = ada.ask(request.clone()).await;
    bee.ask(Request::Leave {
        room: FederatedRoom::parse("#ops").unwrap(),
        nick: "bob".parse().unwrap(),
    })
    .await
    .unwrap();
    bee.join("#ops", "bob").await.unwrap();
    assert_eq!(ada.ask(request).await, done, "the same act again");
    ada.subscribe("#ops").await.unwrap();
    let acts = [ada.message().await, ada.message().await];
    assert!(acts.iter().all(|act| act.body.is_act()));
    assert_eq!(acts[1].id, id);

    let mut forged = message("bob@bee", "#ops", "x");
    forged.body = Content::Act(kick("alice@ada")).encode().unwrap();
    let refused = bee.append(&forged).await;
    assert!(
        matches!(refused, Err(Refusal::NotYours { .. })),
        "{refused:?}"
    );
    bee.append(&message("bob@bee", "#ops", "still here"))
        .await
        .unwrap();
    assert_eq!(text(&ada.message().await), "still here");
}
