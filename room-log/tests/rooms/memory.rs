//! A log in memory whose pages can be held back, and readers that follow it over a pipe.

use crate::support::{body, placed};
use bytes::Bytes;
use protocol::{Committed, Content, Room, Seq};
use room_log::{
    CaughtUp, Delivery, Feed, Outbound, Page, PageFuture, PageSource, Progress, ReaderId,
    Unreadable,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWrite, BufReader, DuplexStream, Lines, duplex},
    sync::{Notify, Semaphore, mpsc},
    time::timeout,
};

/// Bounds a hang; measures nothing.
const LIMIT: Duration = Duration::from_secs(60);

/// A log that remembers nothing for long.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    page_entries: usize,
    gate: Semaphore,
    reading: Notify,
}

#[derive(Debug, Default)]
struct State {
    life: u32,
    last: u64,
    rooms: HashMap<Room, Vec<Committed>>,
}

impl Memory {
    /// A log whose pages have at most so many messages.
    pub(crate) fn new(page_entries: usize) -> Arc<Self> {
        Arc::new(Self {
            page_entries,
            ..Self::held()
        })
    }

    /// A log whose pages arrive only when they are [let through](Self::let_through).
    pub(crate) fn gated(page_entries: usize) -> Arc<Self> {
        Arc::new(Self {
            page_entries,
            gate: Semaphore::new(0),
            ..Self::held()
        })
    }

    fn held() -> Self {
        Self {
            state: Mutex::default(),
            page_entries: 0,
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            reading: Notify::new(),
        }
    }

    /// Commits a message; the caller publishes it.
    pub(crate) fn append(&self, room: &Room) -> Committed {
        let mut state = self.state.lock().unwrap();
        state.last += 1;
        let (life, last) = (state.life, state.last);
        let log = state.rooms.entry(room.clone()).or_default();
        let before = log.last().map_or(0, |one| one.seq.number());
        let message = Committed {
            body: body(&life.to_string()),
            ..placed(room, before, last)
        };
        log.push(message.clone());
        message
    }

    /// Begins a new, empty life.
    pub(crate) fn renew(&self) {
        let mut state = self.state.lock().unwrap();
        state.life += 1;
        state.last = 0;
        state.rooms.clear();
    }

    pub(crate) fn head(&self, room: &Room) -> Seq {
        let state = self.state.lock().unwrap();
        let last = state.rooms.get(room).and_then(|log| log.last());
        last.map_or(Seq::START, |last| last.seq)
    }

    /// Waits until a page was read and is being held back.
    pub(crate) async fn reading(&self) {
        self.reading.notified().await;
    }

    /// Lets so many pages arrive.
    pub(crate) fn let_through(&self, pages: usize) {
        self.gate.add_permits(pages);
    }

    fn read(&self, room: &Room, after: Seq) -> Page {
        let state = self.state.lock().unwrap();
        let log = state.rooms.get(room).into_iter().flatten();
        let page: Vec<Committed> = log
            .filter(|one| one.seq > after)
            .take(self.page_entries)
            .cloned()
            .collect();
        Page::of(&page, after, frame)
    }
}

/// Reads from a [`Memory`].
struct Pages(Arc<Memory>);

impl PageSource for Pages {
    fn page(&self, room: &Room, after: Seq) -> PageFuture {
        let (memory, room) = (Arc::clone(&self.0), room.clone());
        Box::pin(async move {
            let page = memory.read(&room, after);
            memory.reading.notify_one();
            memory.gate.acquire().await.unwrap().forget();
            Ok(page)
        })
    }
}

pub(crate) fn pages(memory: &Arc<Memory>) -> Box<dyn PageSource> {
    Box::new(Pages(Arc::clone(memory)))
}

/// A message as a line: room, life of the log, the seq before, the seq.
pub(crate) fn frame(message: &Committed) -> Bytes {
    let Content::Text(life) = message.body.decode().unwrap() else {
        panic!("not a text");
    };
    let Committed {
        room,
        prev_seq,
        seq,
        ..
    } = message;
    Bytes::from(format!("{room} {life} {prev_seq} {seq}\n"))
}

pub(crate) fn line(text: &str) -> Bytes {
    Bytes::from(format!("{text}\n"))
}

/// A reader of a feed, at the other end of a pipe.
pub(crate) struct Reader {
    pub(crate) id: ReaderId,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) caught_up: mpsc::UnboundedReceiver<CaughtUp>,
    pub(crate) unreadable: mpsc::UnboundedReceiver<Unreadable>,
    lines: Lines<BufReader<DuplexStream>>,
}

impl Reader {
    /// A reader whose queue refuses above `limit_bytes`, behind a pipe of `pipe_bytes`.
    pub(crate) fn new(
        feed: &Arc<Feed>,
        source: Box<dyn PageSource>,
        limit_bytes: usize,
        pipe_bytes: usize,
    ) -> Self {
        Self::over(feed, source, limit_bytes, duplex(pipe_bytes), |io| io)
    }

    /// A reader behind what `wrap` makes of a pipe.
    pub(crate) fn over<W: AsyncWrite + Unpin + Send + 'static>(
        feed: &Arc<Feed>,
        source: Box<dyn PageSource>,
        limit_bytes: usize,
        (near, far): (DuplexStream, DuplexStream),
        wrap: impl FnOnce(DuplexStream) -> W,
    ) -> Self {
        let id = feed.reader();
        let outbound = Arc::new(Outbound::new(limit_bytes));
        let delivery = Delivery::new(
            wrap(near),
            id,
            Arc::clone(&outbound),
            Arc::clone(feed),
            source,
        );
        let (told, caught_up) = mpsc::unbounded_channel();
        let (given_up, unreadable) = mpsc::unbounded_channel();
        tokio::spawn(serve(delivery, told, given_up));
        Self {
            id,
            outbound,
            caught_up,
            unreadable,
            lines: BufReader::new(far).lines(),
        }
    }

    /// The next line. If it does not come, something was lost on the way.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(LIMIT, self.lines.next_line()).await;
        line.expect("a line").unwrap().unwrap()
    }

    /// Reads the messages of `room` from `first` to `last`, where each follows the one before.
    pub(crate) async fn expect(&mut self, room: &Room, first: u64, last: u64) {
        for seq in first..=last {
            let found = self.line().await;
            assert_eq!(found, format!("{room} 0 {} {seq}", seq - 1));
        }
    }
}

async fn serve<W: AsyncWrite + Unpin>(
    mut delivery: Delivery<W>,
    told: mpsc::UnboundedSender<CaughtUp>,
    given_up: mpsc::UnboundedSender<Unreadable>,
) {
    loop {
        match delivery.run().await {
            // A test that has ended listens no more.
            Ok(Progress::CaughtUp(room)) => drop(told.send(room)),
            Ok(Progress::Unreadable(room)) => drop(given_up.send(room)),
            Err(_) => return,
        }
    }
}
