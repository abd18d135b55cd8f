//! Promises 2, 3 and 4 at the server: every message once, in order, at the reader's own speed.

use crate::harness::{Agent, Server, message, text};
use protocol::{
    Committed, MessageId, Seq,
    federation::{Event, Refusal, Reply, Request},
    limits::AGENT_QUEUE_BYTES,
};
use tokio::io::{AsyncRead, AsyncWrite};

async fn numbers<S>(agent: &mut Agent<S>, count: usize) -> Vec<usize>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut found = Vec::new();
    let mut last: Option<Committed> = None;
    for _ in 0..count {
        let message = agent.message().await;
        if let Some(last) = last {
            assert_eq!(message.prev_seq, last.seq);
        }
        found.push(text(&message).split(' ').next().unwrap().parse().unwrap());
        last = Some(message);
    }
    found
}

#[tokio::test]
async fn a_follower_gets_what_was_and_what_comes() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    for number in 0..3 {
        let message = message("alice@ada", "#ops", &number.to_string());
        ada.append(&message).await.unwrap();
    }
    assert!(matches!(
        bee.subscribe("#ops").await,
        Ok(Reply::Head { head }) if head > Seq::START
    ));
    assert_eq!(numbers(&mut bee, 3).await, [0, 1, 2]);
    for number in 3..6 {
        let message = message("alice@ada", "#ops", &number.to_string());
        ada.append(&message).await.unwrap();
    }
    assert_eq!(numbers(&mut bee, 3).await, [3, 4, 5]);
}

#[tokio::test]
async fn following_resumes_after_the_cursor_and_ends_when_asked() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    let mut places = Vec::new();
    for number in 0..4 {
        let message = message("alice@ada", "#ops", &number.to_string());
        places.push((ada.append(&message).await.unwrap(), message.id));
    }
    let (seq, id) = places[1];
    bee.subscribe_after("#ops", seq, Some(id)).await.unwrap();
    assert_eq!(numbers(&mut bee, 2).await, [2, 3]);
    let (head, id) = places[3];
    bee.subscribe_after("#ops", head, Some(id)).await.unwrap();
    let unsubscribe = Request::Unsubscribe {
        room: "#ops".parse().unwrap(),
    };
    assert_eq!(bee.ask(unsubscribe).await, Ok(Reply::Done));
    ada.append(&message("alice@ada", "#ops", "4"))
        .await
        .unwrap();
    bee.subscribe_after("#dev", Seq::START, None).await.unwrap();
    ada.append(&message("alice@ada", "#dev", "5"))
        .await
        .unwrap();
    assert_eq!(numbers(&mut bee, 1).await, [5]);
}

#[tokio::test]
async fn a_log_that_took_another_course_is_noticed() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let head = ada
        .append(&message("alice@ada", "#ops", "hello"))
        .await
        .unwrap();
    let beyond = Seq::new(head.number() + 1);
    for (after, id) in [
        (head, Some(MessageId::new())),
        (beyond, Some(MessageId::new())),
        (beyond, None),
    ] {
        assert_eq!(
            ada.subscribe_after("#ops", after, id).await,
            Err(Refusal::Diverged {
                room: "#ops".parse().unwrap(),
                head
            })
        );
    }
    ada.subscribe_after("#ops", head, None).await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_is_fed_from_the_log_and_delays_nobody() {
    const TEXT_BYTES: usize = 60_000;
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut slow = server.agent("slow").await;
    let mut fast = server.agent("fast").await;
    slow.subscribe("#ops").await.unwrap();
    fast.subscribe("#ops").await.unwrap();
    // Twice what may wait for an agent.
    let count = 2 * AGENT_QUEUE_BYTES / TEXT_BYTES;
    let filler = "x".repeat(TEXT_BYTES);
    for number in 0..count {
        let message = message("alice@ada", "#ops", &format!("{number} {filler}"));
        ada.append(&message).await.unwrap();
        // Each is there before the next is sent, whatever the slow one does.
        assert_eq!(numbers(&mut fast, 1).await, [number]);
    }
    let all: Vec<usize> = (0..count).collect();
    assert_eq!(numbers(&mut slow, count).await, all);
    ada.append(&message("alice@ada", "#ops", "7"))
        .await
        .unwrap();
    assert_eq!(numbers(&mut slow, 1).await, [7]);
}

#[tokio::test]
async fn a_direct_conversation_reaches_its_two_ends_only() {
    const ROOM: &str = "alice@ada,bob@bee";
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut bee = server.agent("bee").await;
    let mut cat = server.agent("cat").await;
    let first = message("alice@ada", ROOM, "1 psst");
    ada.append(&first).await.unwrap();
    for end in [&mut ada, &mut bee] {
        assert!(matches!(
            end.event().await,
            Event::DirectOpened { conversation } if conversation.as_str() == ROOM
        ));
        end.subscribe(ROOM).await.unwrap();
        assert_eq!(numbers(end, 1).await, [1]);
        let Ok(Reply::Directs {
            conversations,
            more,
        }) = end.ask(Request::Directs { after: None }).await
        else {
            panic!("no list");
        };
        assert_eq!(conversations, std::slice::from_ref(&first.room));
        assert!(!more);
    }
    bee.append(&message("bob@bee", ROOM, "2 hush"))
        .await
        .unwrap();
    assert_eq!(numbers(&mut ada, 1).await, [2]);

    assert!(matches!(
        cat.subscribe(ROOM).await,
        Err(Refusal::NotYours { .. })
    ));
    let head = Request::Head {
        room: first.room.clone(),
    };
    assert!(matches!(cat.ask(head).await, Err(Refusal::NotYours { .. })));
    assert_eq!(
        cat.ask(Request::Directs { after: None }).await,
        Ok(Reply::Directs {
            conversations: Vec::new(),
            more: false
        })
    );
}
