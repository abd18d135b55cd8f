//! How connections begin and end, and promise 7 at the server.

use crate::harness::{Agent, Server, appended, message, within};
use chat_server::serve;
use protocol::{
    AgentId, encode_frame,
    federation::{AgentFrame, Event, Refusal, Reply, Request},
    limits::{MAX_FRAME_BYTES, MAX_IN_FLIGHT, PEER_TIMEOUT},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{advance, sleep},
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_connection_begins_with_exactly_one_hello() {
    let server = Server::start();
    let mut early = server.greeted().await;
    assert_eq!(
        early.ask(Request::Ping).await,
        Err(Refusal::HelloOutOfPlace)
    );
    assert_eq!(early.closing().await, Refusal::HelloOutOfPlace);

    let mut ada = server.agent("ada").await;
    assert_eq!(
        ada.hello(AgentId::new()).await,
        Err(Refusal::HelloOutOfPlace)
    );
    assert_eq!(ada.closing().await, Refusal::HelloOutOfPlace);

    let mut chatty = server.greeted().await;
    let hello = Request::Hello {
        host: "ada".parse().unwrap(),
        agent: AgentId::new(),
        software: "x".repeat(1_000),
    };
    assert!(matches!(
        chatty.ask(hello).await,
        Err(Refusal::TooLong { .. })
    ));
    assert!(matches!(chatty.closing().await, Refusal::TooLong { .. }));
}

#[tokio::test]
async fn a_host_name_has_one_agent_and_that_one_may_come_back() {
    let server = Server::start();
    let id = AgentId::new();
    let mut ada = server.agent_with_id("ada", id).await;
    let mut impostor = Agent::greet(server.stream(), "ada").await;
    let in_use = Refusal::HostInUse {
        host: "ada".parse().unwrap(),
    };
    assert_eq!(impostor.hello(AgentId::new()).await, Err(in_use.clone()));
    assert_eq!(impostor.closing().await, in_use);
    assert_eq!(ada.ask(Request::Ping).await, Ok(Reply::Pong));

    let mut again = server.agent_with_id("ada", id).await;
    assert_eq!(ada.closing().await, Refusal::Replaced);
    assert_eq!(again.ask(Request::Ping).await, Ok(Reply::Pong));
}

#[tokio::test]
async fn garbage_gets_an_answer_and_disturbs_nobody() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    ada.subscribe("#ops").await.unwrap();

    let whole = encode_frame(&AgentFrame {
        id: protocol::RequestId(9),
        request: Request::Ping,
    })
    .unwrap();
    let mut trailing = whole.to_vec();
    trailing[3] += 1;
    trailing.push(0);
    let over = (MAX_FRAME_BYTES as u32 + 1).to_be_bytes();
    let unknown_tag = [0, 0, 0, 2, 9, 99];
    // A `Hello` whose host name claims 2^60 bytes.
    let bomb = [0, 0, 0, 11, 9, 0, 253, 0, 0, 0, 0, 0, 0, 0, 16];
    for garbage in [&trailing[..], &over, &unknown_tag, &bomb, b"GET / HTTP/1.1"] {
        for greeted_only in [true, false] {
            let mut bad = if greeted_only {
                server.greeted().await
            } else {
                server.agent("bad").await
            };
            bad.stream().write_all(garbage).await.unwrap();
            let reason = bad.closing().await;
            assert!(
                matches!(reason, Refusal::Malformed { .. }),
                "{garbage:?}: {reason:?}"
            );
        }
    }
    let mut truncated = server.agent("bad").await;
    truncated
        .stream()
        .write_all(&whole[..whole.len() - 1])
        .await
        .unwrap();
    truncated.stream().shutdown().await.unwrap();
    assert!(matches!(
        truncated.closing().await,
        Refusal::Malformed { .. }
    ));

    let mut stranger = server.stream();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    within(stranger.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(
        answer.len(),
        16,
        "a preface, so that the other end can tell"
    );

    ada.append(&message("alice@ada", "#ops", "still here"))
        .await
        .unwrap();
    ada.message().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_let_go() {
    let server = Server::start();
    let mut silent = server.stream();
    let mut preface = Vec::new();
    within(silent.read_to_end(&mut preface)).await.unwrap();
    assert_eq!(preface.len(), 16);

    let mut nameless = server.greeted().await;
    assert_eq!(nameless.closing().await, Refusal::TimedOut);
}

#[tokio::test]
async fn an_agent_that_shows_no_life_is_taken_for_dead() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    assert_eq!(ada.closing().await, Refusal::TimedOut);
    assert!(begin.elapsed() <= Duration::from_secs(10));
}

#[tokio::test]
async fn an_agent_that_spoke_while_the_server_was_stopped_is_not_taken_for_dead() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    tokio::time::pause();
    // More than once, because the server listens and looks at the clock in any order.
    for _ in 0..32 {
        let ping = async {
            sleep(PEER_TIMEOUT - Duration::from_millis(1)).await;
            ada.ask(Request::Ping).await
        };
        // One leap of the clock, in which the ping is sent and the server's patience ends.
        let (answer, ()) = tokio::join!(ping, advance(PEER_TIMEOUT + Duration::from_secs(1)));
        assert_eq!(answer, Ok(Reply::Pong));
    }
}

#[tokio::test]
async fn a_peer_that_never_listens_is_not_read_from_for_ever() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    // More requests than may be in flight, and nobody takes the replies meanwhile.
    let mut ids = Vec::new();
    for _ in 0..3 * MAX_IN_FLIGHT {
        ids.push(ada.send(Request::Ping).await);
    }
    for id in ids {
        assert_eq!(ada.reply(id).await, Ok(Reply::Pong));
    }
}

#[tokio::test]
async fn shutdown_answers_what_was_asked_and_says_when_to_come_back() {
    let server = Server::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn({
        let (service, shutdown) = (server.service.clone(), shutdown.clone());
        async move { serve(listener, &service, shutdown).await }
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let mut ada = Agent::greet(stream, "ada").await;
    ada.hello(AgentId::new()).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..100 {
        let message = message("alice@ada", "#ops", &number.to_string());
        ids.push(
            ada.send(Request::Append {
                attempt: 0,
                message,
            })
            .await,
        );
    }
    // The last was read when the first was answered or later; none is lost either way.
    let last = *ids.last().unwrap();
    appended(ada.reply(last).await).unwrap();
    shutdown.cancel();
    for id in ids.into_iter().take(99) {
        appended(ada.reply(id).await).unwrap();
    }
    loop {
        if let Event::GoingAway { .. } = ada.event().await {
            break;
        }
    }
    ada.drain().await;
    within(serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
