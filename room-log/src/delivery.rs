//! From queue and log to the socket of one reader.

use crate::{
    StoreError,
    feed::{Behind, Feed, Frames, ReaderId},
    outbound::Outbound,
};
use bytes::{Bytes, BytesMut};
use protocol::{Committed, Room, Seq};
use std::{fmt, future::Future, io, pin::Pin, sync::Arc};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Bytes gathered for one write: enough that a busy reader costs one system call for hundreds of
/// frames, little enough to stay in the cache.
const GATHER_BYTES: usize = 64 * 1024;

/// A buffer that grew beyond this is given back when it is empty, so that an idle connection
/// holds none.
const KEEP_BYTES: usize = 8 * 1024;

/// What was read of a room: whole frames, ready to be sent.
#[derive(Debug, Clone)]
pub struct Page {
    /// The frames, one behind the other.
    pub frames: Bytes,
    /// The last message in it; where the page began if it is empty.
    pub last: Seq,
    /// Whether the log had no more at that moment.
    pub at_end: bool,
}

impl Page {
    /// The page that holds `messages`, read after `after`. Only an empty page is taken for the
    /// end, so that no limit of the reading can be mistaken for one.
    #[must_use]
    pub fn of(messages: &[Committed], after: Seq, frames: Frames) -> Self {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.extend_from_slice(&frames(message));
        }
        Self {
            frames: bytes.freeze(),
            last: messages.last().map_or(after, |last| last.seq),
            at_end: messages.is_empty(),
        }
    }
}

/// A page being read.
pub type PageFuture = Pin<Box<dyn Future<Output = Result<Page, StoreError>> + Send>>;

/// Where pages come from.
pub trait PageSource: Send {
    /// Reads what `room` has after `after`, as much as makes a good page.
    fn page(&self, room: &Room, after: Seq) -> PageFuture;
}

/// A room reached the live path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtUp {
    /// Which room.
    pub room: Room,
    /// The newest message that was given.
    pub last: Seq,
}

/// A room could not be read. It is followed no more; the reader's other rooms go on.
#[derive(Debug)]
pub struct Unreadable {
    /// Which room.
    pub room: Room,
    /// The newest message that was given: the one that cannot be read comes after it.
    pub after: Seq,
    /// Why.
    pub error: StoreError,
}

/// What its owner should know of a delivery.
#[derive(Debug)]
pub enum Progress {
    /// A room reached the live path.
    CaughtUp(CaughtUp),
    /// A room was given up.
    Unreadable(Unreadable),
}

/// Writes what waits in an [`Outbound`] to a socket, many frames a system call, and reads from
/// the log for the rooms that are behind. Owns the write half.
pub struct Delivery<W> {
    io: W,
    reader: ReaderId,
    outbound: Arc<Outbound>,
    feed: Arc<Feed>,
    source: Box<dyn PageSource>,
    buffer: BytesMut,
    /// Whether `io` may hold back some of what it took.
    unflushed: bool,
    reading: Option<(Behind, PageFuture)>,
}

impl<W: AsyncWrite + Unpin> Delivery<W> {
    /// Serves `reader` of `feed` on `io`.
    pub fn new(
        io: W,
        reader: ReaderId,
        outbound: Arc<Outbound>,
        feed: Arc<Feed>,
        source: Box<dyn PageSource>,
    ) -> Self {
        Self {
            io,
            reader,
            outbound,
            feed,
            source,
            buffer: BytesMut::new(),
            unflushed: false,
            reading: None,
        }
    }

    /// Works until a room has caught up or was given up.
    ///
    /// # Errors
    ///
    /// What the socket says; what was not written is lost with the connection, and its reader
    /// resumes by cursor.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: all progress is kept in `self`.
    pub async fn run(&mut self) -> io::Result<Progress> {
        loop {
            self.gather();
            if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
                self.buffer = BytesMut::new();
            }
            let writing = !self.buffer.is_empty() || self.unflushed;
            let page = async {
                match &mut self.reading {
                    Some((_, page)) => page.await,
                    None => std::future::pending().await,
                }
            };
            // Not biased: a socket that takes everything at once must not keep a page waiting.
            tokio::select! {
                written = write_some(&mut self.io, &mut self.buffer, &mut self.unflushed),
                    if writing => written?,
                page = page => {
                    if let Some(progress) = self.finish_reading(page) {
                        return Ok(progress);
                    }
                }
                () = self.outbound.ready(), if self.buffer.len() < GATHER_BYTES => {}
            }
        }
    }

    /// Writes all that is queued now and closes the write half; nothing can be sent after it.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub async fn finish(&mut self) -> io::Result<()> {
        loop {
            self.outbound.take_into(&mut self.buffer, GATHER_BYTES);
            if self.buffer.is_empty() {
                break;
            }
            self.io.write_all_buf(&mut self.buffer).await?;
        }
        self.io.shutdown().await
    }

    /// Takes what is queued, and begins to read a page once that is all in the buffer: a page
    /// goes behind everything that was queued before its room fell behind.
    fn gather(&mut self) {
        self.outbound.take_into(&mut self.buffer, GATHER_BYTES);
        while self.reading.is_none()
            && self.buffer.len() < GATHER_BYTES
            && let Some(behind) = self.outbound.pop_behind()
        {
            if self.feed.is_current(self.reader, &behind) {
                let page = self.source.page(&behind.room, behind.after);
                self.reading = Some((behind, page));
            }
        }
    }

    fn finish_reading(&mut self, page: Result<Page, StoreError>) -> Option<Progress> {
        let (behind, _) = self.reading.take()?;
        if !self.feed.is_current(self.reader, &behind) {
            return None;
        }
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                let Behind { room, after, .. } = behind;
                self.feed.unsubscribe(self.reader, &room);
                return Some(Progress::Unreadable(Unreadable { room, after, error }));
            }
        };
        self.buffer.extend_from_slice(&page.frames);
        let room = behind.room.clone();
        let live = self
            .feed
            .read_up_to(self.reader, behind, page.last, page.at_end);
        live.then_some(Progress::CaughtUp(CaughtUp {
            room,
            last: page.last,
        }))
    }
}

/// Writes some of `buffer`, or flushes once it is empty: TLS, for one, may hold back the end of
/// what it took.
///
/// # Cancel safety
///
/// Cancel safe: `buffer` and `unflushed` tell what is left to do.
async fn write_some<W: AsyncWrite + Unpin>(
    io: &mut W,
    buffer: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()> {
    if buffer.is_empty() {
        io.flush().await?;
        *unflushed = false;
    } else {
        if io.write_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *unflushed = true;
    }
    Ok(())
}

impl<W> fmt::Debug for Delivery<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}
