//! The first bytes on every connection, readable by every version that ever was or will be.
//!
//! ```text
//! offset  size  field
//!      0     4  magic, "chat"
//!      4     1  vocabulary: 'L' local (terminal and agent), 'F' federation (agent and server),
//!               'A' admin (command and server)
//!      5     1  zero
//!      6     2  newest protocol version this side speaks, big-endian
//!      8     2  oldest protocol version this side speaks, big-endian
//!     10     2  zero
//!     12     4  feature bits, big-endian; unknown bits are ignored
//! ```
//!
//! Both sides send theirs at once and read the other's; both come to the same verdict.

use std::{fmt, io};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MAGIC: [u8; 4] = *b"chat";
const LEN: usize = 16;

/// Which of the two vocabularies a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// Terminal and agent: [`crate::local`].
    Local,
    /// Agent and server: [`crate::federation`].
    Federation,
    /// Command and server, on its own host: [`crate::admin`].
    Admin,
}

impl fmt::Display for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "terminals",
            Self::Federation => "agents",
            Self::Admin => "administrators",
        })
    }
}

/// A protocol version that this build speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProtocolVersion {
    /// The first.
    V1 = 1,
}

impl ProtocolVersion {
    const OLDEST: Self = Self::V1;
    const NEWEST: Self = Self::V1;
}

/// Optional parts of a vocabulary. A message that belongs to one is only sent to a peer that has it,
/// so that one of an earlier build is not told what it cannot read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u32);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);

    /// How the server's log is: [`federation::Event::Log`](crate::federation::Event::Log),
    /// [`local::Request::Log`](crate::local::Request::Log) and
    /// [`local::Event::Log`](crate::local::Event::Log), and
    /// [`admin::Request::Status`](crate::admin::Request::Status).
    pub const LOG_STATUS: Self = Self(1);

    /// All that this build has.
    pub const OURS: Self = Self::LOG_STATUS;

    /// Those that a peer names; bits that mean nothing here are kept.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// As they stand in the preface.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Those that are here and there.
    const fn shared(self, theirs: Self) -> Self {
        Self(self.0 & theirs.0)
    }
}

/// What both sides of a connection speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The version.
    pub version: ProtocolVersion,
    /// The features that both have.
    pub features: Features,
}

/// What one side says of itself before any frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// What it wants to speak.
    pub vocabulary: Vocabulary,
    /// The newest version it speaks.
    pub newest: u16,
    /// The oldest version it speaks.
    pub oldest: u16,
    /// Optional features it has.
    pub features: Features,
}

/// Why the two sides cannot talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PrefaceError {
    /// The peer is something else altogether.
    #[error("the peer does not speak this protocol (it began with {found:02x?})")]
    BadMagic {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A terminal reached a server, or an agent another agent.
    #[error("this end talks to {ours}, the other end talks to {theirs}: wrong address?")]
    WrongVocabulary {
        /// Whom this side serves or seeks.
        ours: Vocabulary,
        /// Whom the peer serves or seeks.
        theirs: Vocabulary,
    },
    /// The vocabulary byte is unknown, or a reserved byte is not zero.
    #[error("the peer's preface is malformed")]
    Malformed,
    /// No version is spoken by both.
    #[error(
        "the peer speaks protocol {}, this end speaks {}: upgrade the {} one",
        Versions(*their_oldest, *their_newest),
        Versions(*our_oldest, *our_newest),
        if their_newest < our_oldest { "other" } else { "local" }
    )]
    NoCommonVersion {
        /// Oldest version here.
        our_oldest: u16,
        /// Newest version here.
        our_newest: u16,
        /// Oldest version there.
        their_oldest: u16,
        /// Newest version there.
        their_newest: u16,
    },
}

/// Why a connection could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The prefaces do not fit.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    /// The peer closed before its preface was complete.
    #[error("the peer closed the connection before saying who it is")]
    Closed,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

struct Versions(u16, u16);

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == self.1 {
            self.0.fmt(f)
        } else {
            write!(f, "{}-{}", self.0, self.1)
        }
    }
}

impl Preface {
    /// What this build says of itself.
    #[must_use]
    pub const fn ours(vocabulary: Vocabulary) -> Self {
        Self {
            vocabulary,
            newest: ProtocolVersion::NEWEST as u16,
            oldest: ProtocolVersion::OLDEST as u16,
            features: Features::OURS,
        }
    }

    /// The 16 bytes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = match self.vocabulary {
            Vocabulary::Local => b'L',
            Vocabulary::Federation => b'F',
            Vocabulary::Admin => b'A',
        };
        bytes[6..8].copy_from_slice(&self.newest.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.oldest.to_be_bytes());
        bytes[12..].copy_from_slice(&self.features.bits().to_be_bytes());
        bytes
    }

    /// Reads the 16 bytes from the wire.
    ///
    /// # Errors
    ///
    /// [`PrefaceError::BadMagic`] or [`PrefaceError::Malformed`].
    pub const fn from_bytes(bytes: [u8; LEN]) -> Result<Self, PrefaceError> {
        let [
            m0,
            m1,
            m2,
            m3,
            vocabulary,
            z0,
            n0,
            n1,
            o0,
            o1,
            z1,
            z2,
            f0,
            f1,
            f2,
            f3,
        ] = bytes;
        let found = [m0, m1, m2, m3];
        if u32::from_be_bytes(found) != u32::from_be_bytes(MAGIC) {
            return Err(PrefaceError::BadMagic { found });
        }
        let vocabulary = match vocabulary {
            b'L' => Vocabulary::Local,
            b'F' => Vocabulary::Federation,
            b'A' => Vocabulary::Admin,
            _ => return Err(PrefaceError::Malformed),
        };
        if (z0 | z1 | z2) != 0 {
            return Err(PrefaceError::Malformed);
        }
        Ok(Self {
            vocabulary,
            newest: u16::from_be_bytes([n0, n1]),
            oldest: u16::from_be_bytes([o0, o1]),
            features: Features::from_bits(u32::from_be_bytes([f0, f1, f2, f3])),
        })
    }
}

/// What both sides speak; the newest version if there are several.
///
/// # Errors
///
/// [`PrefaceError::WrongVocabulary`] or [`PrefaceError::NoCommonVersion`].
pub fn negotiate(ours: Preface, theirs: Preface) -> Result<Agreed, PrefaceError> {
    if ours.vocabulary != theirs.vocabulary {
        return Err(PrefaceError::WrongVocabulary {
            ours: ours.vocabulary,
            theirs: theirs.vocabulary,
        });
    }
    let newest_common = ours.newest.min(theirs.newest);
    if newest_common < ours.oldest.max(theirs.oldest) {
        return Err(PrefaceError::NoCommonVersion {
            our_oldest: ours.oldest,
            our_newest: ours.newest,
            their_oldest: theirs.oldest,
            their_newest: theirs.newest,
        });
    }
    Ok(Agreed {
        // There is one version so far, and it is in both ranges.
        version: ProtocolVersion::V1,
        features: ours.features.shared(theirs.features),
    })
}

/// Sends this side's preface, reads the other's, and agrees on what to speak.
///
/// The caller sets the deadline; [`crate::limits::HANDSHAKE_TIMEOUT`] covers this and the `Hello`.
///
/// # Errors
///
/// [`HandshakeError`]. The stream is of no further use then.
///
/// # Cancel safety
///
/// Not cancel safe: drop the stream with it.
pub async fn handshake<S>(stream: &mut S, vocabulary: Vocabulary) -> Result<Agreed, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ours = Preface::ours(vocabulary);
    let said = say(stream, ours).await;
    // Who turns this side away may have closed before hearing it: what came tells more than the
    // failed write.
    let bytes = match (read_preface(stream).await, said) {
        (Ok(bytes), _) => bytes,
        (Err(_), Err(error)) => return Err(error.into()),
        (Err(error), Ok(())) => return Err(error),
    };
    Ok(negotiate(ours, Preface::from_bytes(bytes)?)?)
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, ours: Preface) -> io::Result<()> {
    stream.write_all(&ours.to_bytes()).await?;
    stream.flush().await
}

async fn read_preface<S>(stream: &mut S) -> Result<[u8; LEN], HandshakeError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; LEN];
    // Whoever is something else altogether may never send 16 bytes: judge by the first four.
    read_part(stream, &mut bytes[..MAGIC.len()]).await?;
    if bytes[..MAGIC.len()] == MAGIC {
        read_part(stream, &mut bytes[MAGIC.len()..]).await?;
    }
    Ok(bytes)
}

async fn read_part<S>(stream: &mut S, part: &mut [u8]) -> Result<(), HandshakeError>
where
    S: AsyncRead + Unpin,
{
    match stream.read_exact(part).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HandshakeError::Closed),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_fixed() {
        let bytes = Preface::ours(Vocabulary::Federation).to_bytes();
        assert_eq!(&bytes, b"chatF\0\0\x01\0\x01\0\0\0\0\0\x01");
        assert_eq!(
            Preface::from_bytes(bytes),
            Ok(Preface::ours(Vocabulary::Federation))
        );
    }

    #[test]
    fn versions_apart_are_told_which_end_is_old() {
        let ours = Preface::ours(Vocabulary::Local);
        let newer = Preface {
            newest: 5,
            oldest: 3,
            ..ours
        };
        let error = negotiate(ours, newer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer speaks protocol 3-5, this end speaks 1: upgrade the local one"
        );
        let both = Preface {
            newest: 5,
            oldest: 1,
            features: Features::from_bits(u32::MAX),
            ..ours
        };
        let agreed = Agreed {
            version: ProtocolVersion::V1,
            features: Features::OURS,
        };
        assert_eq!(negotiate(ours, both), Ok(agreed));
    }

    #[test]
    fn a_peer_of_an_earlier_build_shares_no_feature() {
        let ours = Preface::ours(Vocabulary::Federation);
        let earlier = Preface {
            features: Features::NONE,
            ..ours
        };
        let agreed = negotiate(ours, earlier).unwrap();
        assert!(!agreed.features.has(Features::LOG_STATUS));
        let agreed = negotiate(ours, ours).unwrap();
        assert!(agreed.features.has(Features::LOG_STATUS));
    }

    #[test]
    fn strangers_are_recognised() {
        let http = *b"GET / HTTP/1.1\r\n";
        assert_eq!(
            Preface::from_bytes(http),
            Err(PrefaceError::BadMagic { found: *b"GET " })
        );
        let mut odd = Preface::ours(Vocabulary::Local).to_bytes();
        odd[4] = b'X';
        assert_eq!(Preface::from_bytes(odd), Err(PrefaceError::Malformed));
        let local = Preface::ours(Vocabulary::Local);
        let federation = Preface::ours(Vocabulary::Federation);
        assert!(matches!(
            negotiate(local, federation),
            Err(PrefaceError::WrongVocabulary { .. })
        ));
    }

    #[tokio::test]
    async fn a_refusal_is_heard_from_a_peer_that_has_closed_already() {
        let (mut here, mut there) = tokio::io::duplex(64);
        let theirs = Preface::ours(Vocabulary::Local).to_bytes();
        there.write_all(&theirs).await.unwrap();
        drop(there);
        let agreed = handshake(&mut here, Vocabulary::Local).await.unwrap();
        assert_eq!(agreed.version, ProtocolVersion::V1);
    }
}
