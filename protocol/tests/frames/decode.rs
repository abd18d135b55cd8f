//! Decoding under watch: every vocabulary, with a bound on memory.

use protocol::{CodecError, FrameCodec, encode_frame, federation, limits::MAX_FRAME_BYTES, local};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use tokio_util::{
    bytes::{BufMut, Bytes, BytesMut},
    codec::Decoder,
};

/// Most bytes that decoding sets aside at once, whatever the input, beside the bytes received.
///
/// Room for the rest of an announced frame is one [`MAX_FRAME_BYTES`]; so is a text that claims
/// to be as long as that; a page of the smallest values is much less.
const ALLOWED_BYTES: u64 = 2 * MAX_FRAME_BYTES as u64;

/// Longest text of an error: it is sent back in a frame, and logged.
const MAX_ERROR_CHARS: usize = 1_000;

/// What a frame type must be able to do here.
pub(crate) trait Frame: Serialize + DeserializeOwned + PartialEq + fmt::Debug {}
impl<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug> Frame for T {}

/// How a stream of bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Between two frames, after so many of them.
    Clean(usize),
    /// [`CodecError::FrameTooLarge`].
    FrameTooLarge,
    /// [`CodecError::Truncated`].
    Truncated,
    /// [`CodecError::Malformed`].
    Malformed,
    /// [`CodecError::TrailingBytes`].
    TrailingBytes,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean(frames) => write!(f, "Clean({frames})"),
            error => write!(f, "{error:?}"),
        }
    }
}

/// The value of a stream that is one frame.
pub(crate) fn decode_one<F: DeserializeOwned>(stream: &[u8]) -> Result<Option<F>, CodecError> {
    FrameCodec::<F, ()>::new().decode_eof(&mut BytesMut::from(stream))
}

/// A frame around any payload.
pub(crate) fn framed(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame.freeze()
}

/// Reads `stream` to its end as frames of `F`.
///
/// Fails if that takes more than [`ALLOWED_BYTES`], if an error is long or has control
/// characters, or if a value does not survive being encoded again.
pub(crate) fn read_stream<F: Frame>(stream: &[u8]) -> End {
    let mut codec = FrameCodec::<F, ()>::new();
    let mut buffer = BytesMut::from(stream);
    let mut frames = 0;
    loop {
        let mut decoded = Ok(None);
        let used = allocation_counter::measure(|| decoded = codec.decode_eof(&mut buffer));
        assert!(used.bytes_max <= ALLOWED_BYTES, "{used:?}");
        match decoded {
            Ok(Some(value)) => {
                frames += 1;
                let again = encode_frame::<F>(&value).unwrap();
                assert_eq!(decode_one::<F>(&again).unwrap(), Some(value));
            }
            Ok(None) => return End::Clean(frames),
            Err(error) => return judge(&error),
        }
    }
}

fn judge(error: &CodecError) -> End {
    let text = error.to_string();
    assert!(text.chars().count() <= MAX_ERROR_CHARS, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    match error {
        CodecError::FrameTooLarge { .. } => End::FrameTooLarge,
        CodecError::Truncated { .. } => End::Truncated,
        CodecError::Malformed { .. } => End::Malformed,
        CodecError::TrailingBytes { .. } => End::TrailingBytes,
        other => panic!("no I/O happens here, but: {other}"),
    }
}

/// [`read_stream`] in every vocabulary and direction, by name.
pub(crate) fn read_in_every_vocabulary(stream: &[u8]) -> [(&'static str, End); 4] {
    [
        (
            "federation::AgentFrame",
            read_stream::<federation::AgentFrame>(stream),
        ),
        (
            "federation::ServerFrame",
            read_stream::<federation::ServerFrame>(stream),
        ),
        (
            "local::TerminalFrame",
            read_stream::<local::TerminalFrame>(stream),
        ),
        (
            "local::AgentFrame",
            read_stream::<local::AgentFrame>(stream),
        ),
    ]
}
