//! Members, topics, and who is there.

use crate::harness::{Agent, Server, message};
use protocol::{
    AgentId, Availability, FederatedRoom, Member, Nick, Seq, UserName,
    federation::{Event, LimitedText, Refusal, Reply, Request, RoomInfo, TooMany},
    limits::{MAX_PAGE_ENTRIES, MAX_ROOMS_PER_USER, MAX_TOPIC_BYTES},
};
use tokio::io::{AsyncRead, AsyncWrite};

fn room(text: &str) -> FederatedRoom {
    FederatedRoom::parse(text).unwrap()
}

fn nick(text: &str) -> Nick {
    text.parse().unwrap()
}

fn join(name: &str, who: &str) -> Request {
    Request::Join {
        room: room(name),
        nick: nick(who),
    }
}

fn presence(who: &str, availability: Availability) -> Request {
    Request::Presence {
        nick: nick(who),
        availability,
    }
}

/// The next change of presence, whatever else is told.
async fn told<S>(agent: &mut Agent<S>) -> (UserName, Availability)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Event::Presence { user, availability } = agent.event().await {
            return (user, availability);
        }
    }
}

async fn who<S>(agent: &mut Agent<S>, name: &str) -> Vec<(String, Availability)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut found: Vec<Member> = Vec::new();
    loop {
        let request = Request::Who {
            room: room(name),
            after: found.last().map(|last| last.user.clone()),
        };
        let Ok(Reply::Members { members, more }) = agent.ask(request).await else {
            panic!("no members");
        };
        found.extend(members);
        if !more {
            break;
        }
    }
    found
        .into_iter()
        .map(|member| (member.user.to_string(), member.availability))
        .collect()
}

#[tokio::test]
async fn members_come_and_go_and_followers_are_told() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    bee.subscribe("#ops").await.unwrap();

    assert_eq!(
        ada.ask(join("#ops", "alice")).await,
        Ok(Reply::Joined {
            head: Seq::START,
            topic: String::new()
        })
    );
    let alice = "alice@ada".parse().unwrap();
    assert_eq!(
        bee.event().await,
        Event::Joined {
            room: room("#ops"),
            user: alice
        }
    );
    // Again changes nothing and tells nobody.
    ada.ask(join("#ops", "alice")).await.unwrap();

    let topic = Request::SetTopic {
        room: room("#ops"),
        nick: nick("alice"),
        topic: "outages".to_owned(),
    };
    assert_eq!(ada.ask(topic).await, Ok(Reply::Done));
    assert!(matches!(
        bee.event().await,
        Event::Topic { topic, .. } if topic == "outages"
    ));
    assert!(matches!(
        bee.ask(join("#ops", "bob")).await,
        Ok(Reply::Joined { topic, .. }) if topic == "outages"
    ));
    assert!(matches!(bee.event().await, Event::Joined { .. }));

    let leave = Request::Leave {
        room: room("#ops"),
        nick: nick("alice"),
    };
    assert_eq!(ada.ask(leave.clone()).await, Ok(Reply::Done));
    assert_eq!(ada.ask(leave).await, Ok(Reply::Done));
    assert!(matches!(
        bee.event().await,
        Event::Left { user, .. } if user.nick == nick("alice")
    ));
    assert_eq!(
        who(&mut bee, "#ops").await,
        [
            ("bob@bee".to_owned(), Availability::Offline),
            ("reader@bee".to_owned(), Availability::Offline)
        ]
    );
}

#[tokio::test]
async fn presence_ends_with_the_agents_connection() {
    let server = Server::start();
    let id = AgentId::new();
    let mut ada = server.agent_with_id("ada", id).await;
    let mut bee = server.agent("bee").await;
    ada.ask(join("#ops", "alice")).await.unwrap();
    bee.subscribe("#ops").await.unwrap();

    let user: UserName = "alice@ada".parse().unwrap();
    for availability in [Availability::Online, Availability::Away] {
        ada.ask(presence("alice", availability)).await.unwrap();
        assert_eq!(told(&mut bee).await, (user.clone(), availability));
        assert_eq!(
            who(&mut bee, "#ops").await,
            [
                ("alice@ada".to_owned(), availability),
                ("reader@bee".to_owned(), Availability::Offline)
            ]
        );
    }
    drop(ada);
    assert_eq!(told(&mut bee).await, (user, Availability::Offline));
    assert_eq!(
        who(&mut bee, "#ops").await,
        [
            ("alice@ada".to_owned(), Availability::Offline),
            ("reader@bee".to_owned(), Availability::Offline)
        ]
    );
}

#[tokio::test]
async fn rooms_and_members_are_listed_page_by_page() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let _bee = server.agent("bee").await;
    let rooms = MAX_ROOMS_PER_USER;
    let mut waiting = Vec::new();
    for number in 0..rooms {
        let request = join(&format!("#room-{number:04}"), "alice");
        waiting.push(ada.send(request).await);
        let topic = Request::SetTopic {
            room: room(&format!("#room-{number:04}")),
            nick: nick("alice"),
            topic: "t".repeat(MAX_TOPIC_BYTES),
        };
        waiting.push(ada.send(topic).await);
        if waiting.len() >= 512 {
            for id in waiting.drain(..) {
                ada.reply(id).await.unwrap();
            }
        }
    }
    for id in waiting {
        ada.reply(id).await.unwrap();
    }
    assert_eq!(
        ada.ask(join("#one-too-many", "alice")).await,
        Err(Refusal::TooMany {
            what: TooMany::RoomsOfUser,
            max: MAX_ROOMS_PER_USER as u32
        })
    );
    // A direct conversation is a room of the log, but not of the list.
    ada.append(&message("alice@ada", "alice@ada,bob@bee", "psst"))
        .await
        .unwrap();
    ada.ask(join("#room-0000", "carl")).await.unwrap();

    let mut found: Vec<RoomInfo> = Vec::new();
    let mut pages = 0;
    loop {
        let after = found.last().map(|last| last.room.clone());
        let Ok(Reply::Rooms { rooms, more }) = ada.ask(Request::Rooms { after }).await else {
            panic!("no rooms");
        };
        found.extend(rooms);
        pages += 1;
        if !more {
            break;
        }
    }
    assert!(pages > 1);
    let names: Vec<_> = found.iter().map(|info| info.room.to_string()).collect();
    let expected: Vec<_> = (0..rooms)
        .map(|number| format!("#room-{number:04}"))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(found[0].members, 2);

    let crowd = MAX_PAGE_ENTRIES + 1;
    let mut waiting = Vec::new();
    for number in 0..crowd {
        waiting.push(ada.send(join("#crowd", &format!("u{number}"))).await);
    }
    for id in waiting {
        ada.reply(id).await.unwrap();
    }
    assert_eq!(who(&mut ada, "#crowd").await.len(), crowd);
}

#[tokio::test]
async fn topics_are_checked_and_belong_to_rooms() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let topic = |name: &str, topic: &str| Request::SetTopic {
        room: room(name),
        nick: nick("alice"),
        topic: topic.to_owned(),
    };
    assert!(matches!(
        ada.ask(topic("#ops", "new")).await,
        Err(Refusal::NoSuchRoom { .. })
    ));
    ada.ask(join("#ops", "alice")).await.unwrap();
    assert!(matches!(
        ada.ask(topic("#ops", "a\u{1b}[2Jb")).await,
        Err(Refusal::BadText {
            what: LimitedText::Topic
        })
    ));
    assert!(matches!(
        ada.ask(topic("#ops", &"x".repeat(MAX_TOPIC_BYTES + 1)))
            .await,
        Err(Refusal::TooLong { .. })
    ));
    ada.ask(topic("#ops", "new")).await.unwrap();
    ada.ask(topic("#ops", "")).await.unwrap();
    assert!(matches!(
        ada.ask(join("#ops", "alice")).await,
        Ok(Reply::Joined { topic, .. }) if topic.is_empty()
    ));
}
