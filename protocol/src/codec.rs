//! Frames: the only file that knows lengths and bincode.
//!
//! ```text
//! offset  size  field
//!      0     4  length of the payload, big-endian, at most MAX_FRAME_BYTES
//!      4     n  payload: one value in bincode 2, standard configuration
//! ```
//!
//! A frame is a whole value and nothing else: leftovers are an error. After any error here the
//! stream is not trusted any more.

use crate::limits::MAX_FRAME_BYTES;
use bincode::error::DecodeError;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, io, marker::PhantomData};
use thiserror::Error;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

const LENGTH_BYTES: usize = 4;

/// Why bytes are not a frame, or a value does not fit one. Always fatal for its connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The length prefix, or the value to encode, is over [`MAX_FRAME_BYTES`].
    #[error("frame of {len} bytes, at most {max} are allowed")]
    FrameTooLarge {
        /// Bytes announced or needed.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, {have} bytes into it")]
    Truncated {
        /// Bytes of the frame that arrived, length prefix included.
        have: usize,
    },
    /// The payload is no value of this vocabulary.
    #[error("malformed frame: {reason}")]
    Malformed {
        /// What the decoder said, in a few words whatever the input.
        reason: String,
    },
    /// The payload goes on after its value.
    #[error("{extra} bytes after the end of the frame's value")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn config() -> impl bincode::config::Config {
    // The limit also bounds what a claimed length may allocate. It counts a number by its full
    // width, not by its bytes on the wire, so a frame of very many tiny values can exceed it
    // below MAX_FRAME_BYTES; the largest pages stay under it.
    bincode::config::standard().with_limit::<MAX_FRAME_BYTES>()
}

pub(crate) fn encode_value<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    let mut buffer = BytesMut::with_capacity(64);
    encode_into(value, &mut buffer)?;
    Ok(buffer.freeze())
}

fn encode_into<T: Serialize>(value: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, &mut buffer.writer(), config())
        .map(drop)
        .map_err(|error| CodecError::Malformed {
            reason: error.to_string(),
        })
}

pub(crate) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|error| match error {
            // What one of our own types said of a value: already a sentence, and short.
            DecodeError::OtherString(reason) => CodecError::Malformed { reason },
            other => CodecError::Malformed {
                reason: other.to_string(),
            },
        })?;
    match bytes.len() - read {
        0 => Ok(value),
        extra => Err(CodecError::TrailingBytes { extra }),
    }
}

/// Encodes `value` as a whole frame, length prefix included, to be cloned to many connections.
///
/// # Errors
///
/// [`CodecError::FrameTooLarge`].
pub fn encode_frame<T: Serialize>(value: &T) -> Result<Bytes, CodecError> {
    let mut buffer = BytesMut::with_capacity(256);
    put_frame(value, &mut buffer)?;
    Ok(buffer.freeze())
}

/// Appends `value` as a frame to `buffer`; leaves `buffer` as it was on an error.
fn put_frame<T: Serialize>(value: &T, buffer: &mut BytesMut) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.put_u32(0);
    let encoded = encode_into(value, buffer);
    let len = buffer.len() - start - LENGTH_BYTES;
    let checked = encoded.and_then(|()| match u32::try_from(len) {
        Ok(prefix) if len <= MAX_FRAME_BYTES => Ok(prefix),
        _ => Err(CodecError::FrameTooLarge {
            len,
            max: MAX_FRAME_BYTES,
        }),
    });
    match checked {
        Ok(prefix) => {
            buffer[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// Reads frames of `In` and writes frames of `Out`.
///
/// Use with [`tokio_util::codec::Framed`] or `FramedRead`.
pub struct FrameCodec<In, Out> {
    lengths: LengthDelimitedCodec,
    /// Whether the inner codec has taken a length prefix and waits for its payload.
    in_payload: bool,
    direction: PhantomData<fn(Out) -> In>,
}

impl<In, Out> FrameCodec<In, Out> {
    /// A codec that accepts frames up to [`MAX_FRAME_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        let lengths = LengthDelimitedCodec::builder()
            .length_field_length(LENGTH_BYTES)
            .max_frame_length(MAX_FRAME_BYTES)
            .new_codec();
        Self {
            lengths,
            in_payload: false,
            direction: PhantomData,
        }
    }
}

impl<In, Out> Default for FrameCodec<In, Out> {
    fn default() -> Self {
        Self::new()
    }
}

impl<In, Out> fmt::Debug for FrameCodec<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCodec").finish_non_exhaustive()
    }
}

impl<In: DeserializeOwned, Out> Decoder for FrameCodec<In, Out> {
    type Item = In;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, CodecError> {
        if !self.in_payload
            && let Some(prefix) = buffer.first_chunk::<LENGTH_BYTES>()
        {
            // The inner codec checks too, but its error forgets the length.
            let len = u32::from_be_bytes(*prefix) as usize;
            if len > MAX_FRAME_BYTES {
                return Err(CodecError::FrameTooLarge {
                    len,
                    max: MAX_FRAME_BYTES,
                });
            }
            self.in_payload = true;
        }
        match self.lengths.decode(buffer)? {
            Some(payload) => {
                self.in_payload = false;
                decode_value(&payload).map(Some)
            }
            None => Ok(None),
        }
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, CodecError> {
        match self.decode(buffer)? {
            Some(value) => Ok(Some(value)),
            None if buffer.is_empty() && !self.in_payload => Ok(None),
            None => {
                let prefix = if self.in_payload { LENGTH_BYTES } else { 0 };
                Err(CodecError::Truncated {
                    have: prefix + buffer.len(),
                })
            }
        }
    }
}

impl<In, Out: Serialize> Encoder<&Out> for FrameCodec<In, Out> {
    type Error = CodecError;

    fn encode(&mut self, value: &Out, buffer: &mut BytesMut) -> Result<(), CodecError> {
        put_frame(value, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Codec = FrameCodec<Vec<u8>, Vec<u8>>;

    fn decode_all(bytes: &[u8]) -> Result<Option<Vec<u8>>, CodecError> {
        Codec::new().decode_eof(&mut BytesMut::from(bytes))
    }

    #[test]
    fn frames_arrive_whole_however_they_are_sliced() {
        let frame = encode_frame(&vec![1_u8, 2, 3]).unwrap();
        assert_eq!(&frame[..], [0, 0, 0, 4, 3, 1, 2, 3]);
        let mut codec = Codec::new();
        let mut buffer = BytesMut::new();
        for (index, byte) in frame.iter().chain(frame.iter()).enumerate() {
            buffer.put_u8(*byte);
            let whole = (index + 1) % frame.len() == 0;
            assert_eq!(
                codec.decode(&mut buffer).unwrap(),
                whole.then(|| vec![1, 2, 3])
            );
        }
        assert_eq!(codec.decode_eof(&mut buffer).unwrap(), None);
    }

    #[test]
    fn every_truncation_is_told_from_a_clean_end() {
        let frame = encode_frame(&vec![7_u8; 20]).unwrap();
        assert_eq!(decode_all(&[]).unwrap(), None);
        for end in 1..frame.len() {
            match decode_all(&frame[..end]) {
                Err(CodecError::Truncated { have }) => assert_eq!(have, end),
                other => panic!("{end}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_believed() {
        let over = (MAX_FRAME_BYTES as u32 + 1).to_be_bytes();
        assert!(matches!(
            decode_all(&over),
            Err(CodecError::FrameTooLarge { len, max }) if len == max + 1
        ));
        assert!(matches!(
            decode_all(b"GET / HTTP/1.1"),
            Err(CodecError::FrameTooLarge { .. })
        ));
    }

    #[test]
    fn leftovers_and_length_bombs_are_errors() {
        assert!(matches!(
            decode_all(&[0, 0, 0, 3, 1, 9, 9]),
            Err(CodecError::TrailingBytes { extra: 1 })
        ));
        // A vector that claims 2^60 elements inside a ten-byte frame.
        let bomb = [0, 0, 0, 9, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(matches!(
            decode_all(&bomb),
            Err(CodecError::Malformed { .. })
        ));
    }

    #[test]
    fn a_value_too_large_for_a_frame_leaves_the_buffer_alone() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        let value = vec![0_u8; MAX_FRAME_BYTES];
        let error = Codec::new().encode(&value, &mut buffer).unwrap_err();
        assert!(matches!(error, CodecError::FrameTooLarge { .. }), "{error}");
        assert_eq!(&buffer[..], b"before");
    }
}
