//! Promises 1 and 2 at the server: what is acknowledged is in the log, once.

use crate::harness::{Server, appended, message, room};
use chat_server::log::Log;
use protocol::{
    AgentId, EncodedBody, Seq,
    federation::{LimitedText, Refusal, Reply, Request},
    limits::{APPEND_WINDOW, MAX_ENCODED_BODY_BYTES},
};

#[tokio::test]
async fn what_is_acknowledged_can_be_read_and_names_its_predecessor() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let first = ada
        .append(&message("alice@ada", "#ops", "one"))
        .await
        .unwrap();
    let other = ada
        .append(&message("alice@ada", "#dev", "elsewhere"))
        .await
        .unwrap();
    let second = ada
        .append(&message("alice@ada", "#ops", "two"))
        .await
        .unwrap();
    assert!(first < other && other < second);
    let page = server.log.page(&room("#ops"), Seq::START, 10, 1_000);
    let page = page.await.unwrap();
    let places: Vec<_> = page.iter().map(|one| (one.prev_seq, one.seq)).collect();
    assert_eq!(places, [(Seq::START, first), (first, second)]);
}

#[tokio::test]
async fn a_retry_gets_the_first_place_and_a_stolen_id_is_refused() {
    let server = Server::start();
    let id = AgentId::new();
    let mut ada = server.agent_with_id("ada", id).await;
    let mut hello = message("alice@ada", "#ops", "hello");
    let seq = ada.append(&hello).await.unwrap();
    hello.sent_at = protocol::Timestamp::from_micros(99);
    assert_eq!(ada.append(&hello).await, Ok(seq));
    // As after a reconnect, from a connection that knows nothing.
    let mut ada = server.agent_with_id("ada", id).await;
    assert_eq!(ada.append_as(7, &hello).await, Ok(seq));
    let other = protocol::Outgoing {
        id: hello.id,
        ..message("alice@ada", "#ops", "something else")
    };
    assert_eq!(
        ada.append(&other).await,
        Err(Refusal::IdConflict { id: hello.id })
    );
}

#[tokio::test]
async fn a_window_of_messages_keeps_its_order() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut ids = Vec::new();
    for number in 0..APPEND_WINDOW {
        let message = message("alice@ada", "#ops", &number.to_string());
        ids.push(
            ada.send(Request::Append {
                attempt: 0,
                message,
            })
            .await,
        );
    }
    let mut last = Seq::START;
    for id in ids {
        let seq = appended(ada.reply(id).await).unwrap();
        assert!(seq > last);
        last = seq;
    }
}

#[tokio::test]
async fn an_agent_speaks_for_nobody_else() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    for (author, to) in [
        ("bob@bee", "#ops"),
        ("alice@ada", "&lobby"),
        ("alice@ada", "alice@ada,carl@ada"),
        ("alice@ada", "bob@bee,carl@cat"),
    ] {
        let refused = ada.append(&message(author, to, "psst")).await;
        assert!(
            matches!(refused, Err(Refusal::NotYours { .. })),
            "{author} {to}: {refused:?}"
        );
    }
    assert_eq!(ada.ask(Request::Ping).await, Ok(Reply::Pong));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_connection_lives_on() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut long = message("alice@ada", "#ops", "x");
    // Within a frame but over the limit of bodies: only a hand-made frame says so.
    long.body = body_of(MAX_ENCODED_BODY_BYTES + 1);
    assert!(matches!(
        ada.append(&long).await,
        Err(Refusal::TooLong {
            what: LimitedText::Body,
            ..
        })
    ));
    let fine = message("alice@ada", "#ops", "x");
    ada.append(&fine).await.unwrap();
}

/// A body that `EncodedBody` itself would refuse to be made of.
fn body_of(len: usize) -> EncodedBody {
    use futures_util::StreamExt;
    use protocol::{FrameCodec, encode_frame};
    use tokio_util::codec::FramedRead;
    let frame = encode_frame(&vec![b'x'; len]).unwrap();
    let mut frames = FramedRead::new(&frame[..], FrameCodec::<EncodedBody, ()>::new());
    let body = futures_util::FutureExt::now_or_never(frames.next());
    body.flatten().unwrap().unwrap()
}
