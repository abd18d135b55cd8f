//! Waiting for commands on a thread of one's own, but not for ever.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// As [`mpsc::Receiver::blocking_recv_many`], but gives up after `quiet` without a command: then
/// `None`, and nothing was taken.
pub(crate) fn recv_many_within<T>(
    queue: &mut mpsc::Receiver<T>,
    batch: &mut Vec<T>,
    limit: usize,
    quiet: Duration,
) -> Option<usize> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut receiving = pin!(queue.recv_many(batch, limit));
    let begun = Instant::now();
    loop {
        if let Poll::Ready(count) = receiving.as_mut().poll(&mut context) {
            return Some(count);
        }
        let left = quiet.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bounds a hang; measures nothing.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_ends_the_wait_and_quiet_ends_it_without_one() {
        let (sender, mut queue) = mpsc::channel(8);
        let mut batch = Vec::new();
        let nothing = recv_many_within(&mut queue, &mut batch, 8, Duration::ZERO);
        assert_eq!((nothing, batch.len()), (None, 0));
        let later = thread::spawn(move || sender.blocking_send(7).unwrap());
        let one = recv_many_within(&mut queue, &mut batch, 8, LIMIT);
        assert_eq!((one, &*batch), (Some(1), &[7][..]));
        later.join().unwrap();
        let ended = recv_many_within(&mut queue, &mut batch, 8, LIMIT);
        assert_eq!(ended, Some(0), "nobody can send any more");
    }
}
