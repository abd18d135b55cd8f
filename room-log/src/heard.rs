//! Signs of life of the other side.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::Instant,
};

/// A reader that notes when something arrived: parts of a long frame are signs of life too.
#[derive(Debug)]
pub struct Heard<R> {
    io: R,
    last: Instant,
}

impl<R> Heard<R> {
    /// A reader of `io`, heard from just now.
    pub fn new(io: R) -> Self {
        Self {
            io,
            last: Instant::now(),
        }
    }

    /// When anything was received last, or was forgiven to be missing.
    pub const fn last(&self) -> Instant {
        self.last
    }

    /// The peer was not listened to until now.
    pub fn forgive_silence(&mut self) {
        self.last = Instant::now();
    }

    /// The bare reader.
    pub fn into_inner(self) -> R {
        self.io
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.last = Instant::now();
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::advance,
    };

    #[tokio::test(start_paused = true)]
    async fn part_of_a_frame_is_a_sign_of_life() {
        let (mut peer, io) = tokio::io::duplex(64);
        let mut heard = Heard::new(io);
        let begun = heard.last();
        advance(Duration::from_secs(8)).await;
        peer.write_all(&[0, 9]).await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(heard.read(&mut buffer).await.unwrap(), 2);
        assert_eq!(heard.last() - begun, Duration::from_secs(8));
    }
}
