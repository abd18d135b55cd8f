//! Sockets that hold back, stop taking, or break.

use crate::{
    memory::{Memory, Reader, frame, line, pages},
    support::room,
};
use protocol::Seq;
use room_log::{Delivery, Feed, Outbound};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncReadExt, AsyncWrite, BufWriter, duplex};

fn delivery<W: AsyncWrite + Unpin>(io: W) -> (Arc<Outbound>, Delivery<W>) {
    let feed = Arc::new(Feed::new(frame));
    let outbound = Arc::new(Outbound::new(1_024));
    let source = pages(&Memory::new(9));
    let delivery = Delivery::new(io, feed.reader(), Arc::clone(&outbound), feed, source);
    (outbound, delivery)
}

/// As TLS does.
#[tokio::test]
async fn a_stream_that_holds_back_is_flushed() {
    let (feed, memory, ops) = (Arc::new(Feed::new(frame)), Memory::new(9), room("#ops"));
    let mut reader = Reader::over(&feed, pages(&memory), 1_024, duplex(64), BufWriter::new);
    feed.subscribe(reader.id, &reader.outbound, &ops, Seq::START);
    for seq in 1..=100 {
        feed.publish([&memory.append(&ops)]);
        reader.expect(&ops, seq, seq).await;
    }
}

#[tokio::test]
async fn finishing_writes_all_that_is_queued_and_closes() {
    let (near, mut far) = duplex(64);
    let (outbound, mut delivery) = delivery(BufWriter::new(near));
    for number in 0..10_000 {
        outbound.push_reply(line(&number.to_string()));
    }
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        text
    });
    delivery.finish().await.unwrap();
    let text = reading.await.unwrap();
    let expected = (0..10_000).map(|number| number.to_string());
    assert!(text.lines().eq(expected));
    assert_eq!(outbound.bytes(), 0);
}

/// Takes nothing and says so.
struct Full;

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_an_error_and_no_endless_loop() {
    let (outbound, mut delivery) = delivery(Full);
    outbound.push_reply(line("hello"));
    let error = delivery.finish().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    outbound.push_reply(line("hello"));
    let error = delivery.run().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[tokio::test]
async fn a_peer_that_is_gone_ends_its_delivery() {
    let (near, far) = duplex(64);
    let (outbound, mut delivery) = delivery(near);
    drop(far);
    outbound.push_reply(line("hello"));
    assert!(delivery.run().await.is_err());
}
