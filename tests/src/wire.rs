//! Bytes and frames on a connection, for peers that behave and for those that do not.

use crate::wait::limit;
use bytes::{Buf, Bytes, BytesMut};
use protocol::{CodecError, FrameCodec, Preface, PrefaceError, Vocabulary, encode_frame};
use rustls::{ClientConnection, StreamOwned};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};
use tokio_util::codec::Decoder;

/// The length of a preface on the wire.
pub const PREFACE_BYTES: usize = 16;

/// Any kind of connection.
#[derive(Debug)]
pub enum Stream {
    /// To an agent.
    Unix(UnixStream),
    /// To a server.
    Tcp(TcpStream),
    /// To a server, encrypted.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects to an agent's socket.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Self::Unix(UnixStream::connect(path)?).prepared()
    }

    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, limit())?;
        stream.set_nodelay(true)?;
        Self::Tcp(stream).prepared()
    }

    fn prepared(self) -> io::Result<Self> {
        self.set_read_timeout(limit())?;
        self.set_write_timeout(limit())?;
        Ok(self)
    }

    /// How long a write may wait before it fails.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_write_timeout(Some(timeout)),
        }
    }

    /// How long a read may wait before it fails.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.sock.set_read_timeout(Some(timeout)),
        }
    }

    /// A second handle on the same connection.
    ///
    /// # Errors
    ///
    /// As the system says; encryption has one state, and so one handle.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Says that nothing more will be written; reading goes on.
    ///
    /// # Errors
    ///
    /// As the system says.
    pub fn finish_writing(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Tls(stream) => stream.sock.shutdown(std::net::Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => match stream.read(buffer) {
                // Whoever is cut off hears no farewell: the end all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connection that reads frames of `In` and writes frames of `Out`, or any bytes at all.
pub struct Wire<In, Out> {
    stream: Stream,
    buffer: BytesMut,
    codec: FrameCodec<In, Out>,
}

impl<In, Out> fmt::Debug for Wire<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl<In: DeserializeOwned, Out: Serialize> Wire<In, Out> {
    /// Takes a fresh connection and says nothing on it.
    #[must_use]
    pub fn silent(stream: Stream) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(64 * 1024),
            codec: FrameCodec::new(),
        }
    }

    /// Takes a fresh connection and exchanges prefaces, this one's as any build of today says it.
    ///
    /// # Errors
    ///
    /// If the other end does not answer with one.
    pub fn open(stream: Stream, vocabulary: Vocabulary) -> io::Result<Self> {
        let mut wire = Self::silent(stream);
        let said = wire.send_bytes(&Preface::ours(vocabulary).to_bytes());
        // Who is turned away finds the connection closed, and the reason waiting to be read.
        wire.read_preface()
            .map_err(|error| said.err().unwrap_or(error))?
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(wire)
    }

    /// Reads the other end's preface.
    ///
    /// # Errors
    ///
    /// If it does not come.
    pub fn read_preface(&mut self) -> io::Result<Result<Preface, PrefaceError>> {
        let mut bytes = [0; PREFACE_BYTES];
        self.stream.read_exact(&mut bytes)?;
        Ok(Preface::from_bytes(bytes))
    }

    /// Writes `bytes` as they are.
    ///
    /// # Errors
    ///
    /// If the other end has closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Writes a frame around `payload`, whatever that is.
    ///
    /// # Errors
    ///
    /// If the other end has closed.
    pub fn send_payload(&mut self, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).expect("a payload of a test");
        self.send_bytes(&[&len.to_be_bytes(), payload].concat())
    }

    /// Writes a proper frame.
    ///
    /// # Errors
    ///
    /// If the other end has closed.
    pub fn send(&mut self, frame: &Out) -> io::Result<()> {
        let bytes = encode_frame(frame).expect("a frame of a test fits");
        self.send_bytes(&bytes)
    }

    /// Reads the next frame; `None` when the other end has closed in order.
    ///
    /// # Errors
    ///
    /// If what came is no frame, or nothing came within the read timeout.
    pub fn receive(&mut self) -> Result<Option<In>, CodecError> {
        loop {
            if let Some(frame) = self.codec.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return self.codec.decode_eof(&mut self.buffer),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Closing with our bytes unread arrives as a reset: the end all the same.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the next frame without looking into it; `None` when the other end has closed.
    ///
    /// # Errors
    ///
    /// If nothing came within the read timeout, or the end came inside a frame.
    pub fn receive_payload(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                let len = u32::from_be_bytes(*prefix) as usize;
                if self.buffer.len() >= 4 + len {
                    self.buffer.advance(4);
                    return Ok(Some(self.buffer.split_to(len).freeze()));
                }
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Every frame until the other end closes.
    ///
    /// # Panics
    ///
    /// If it does not close within the [`limit`].
    pub fn receive_until_closed(&mut self) -> Vec<In> {
        let mut frames = Vec::new();
        while let Some(frame) = self.receive().expect("the other end closes") {
            frames.push(frame);
        }
        frames
    }

    /// The connection itself.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }
}
