//! For any value of either vocabulary: it survives, whole or sliced; a part of it, more than it,
//! and it with damage are told apart from it.

use crate::decode::{Frame, decode_one, framed, read_stream};
use proptest::{collection::vec, prelude::*, sample::Index};
use protocol::{CodecError, FrameCodec, encode_frame, limits::MAX_FRAME_BYTES};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder, Encoder},
};

macro_rules! properties_of {
    ($name:ident, $frame:ty, $values:expr) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(crate::config())]

                #[test]
                fn a_stream_survives_however_it_is_sliced(
                    values in vec($values, 1..8),
                    cuts in vec(1..300_usize, 1..20),
                ) {
                    arrives_sliced::<$frame>(&values, &cuts);
                }

                #[test]
                fn every_truncation_is_noticed(value in $values, at in any::<Index>()) {
                    is_noticed_when_truncated::<$frame>(&value, &at);
                }

                #[test]
                fn trailing_bytes_are_an_error(
                    value in $values,
                    extra in vec(any::<u8>(), 1..40),
                ) {
                    refuses_trailing_bytes::<$frame>(&value, &extra);
                }

                #[test]
                fn damage_gives_an_error_or_a_value(
                    values in vec($values, 1..3),
                    damage in vec(damage(), 1..4),
                    repair in any::<bool>(),
                ) {
                    survives_damage::<$frame>(&values, &damage, repair);
                }
            }
        }
    };
}

properties_of!(
    federation_agent,
    protocol::federation::AgentFrame,
    crate::values::federation::agent_frame()
);
properties_of!(
    federation_server,
    protocol::federation::ServerFrame,
    crate::values::federation::server_frame()
);
properties_of!(
    local_terminal,
    protocol::local::TerminalFrame,
    crate::values::local::terminal_frame()
);
properties_of!(
    local_agent,
    protocol::local::AgentFrame,
    crate::values::local::agent_frame()
);

fn arrives_sliced<F: Frame>(values: &[F], cuts: &[usize]) {
    let mut stream = BytesMut::new();
    let mut codec = FrameCodec::<F, F>::new();
    for value in values {
        let before = stream.len();
        codec.encode(value, &mut stream).unwrap();
        assert_eq!(stream[before..], encode_frame(value).unwrap());
    }
    let mut rest = stream.freeze();
    let mut buffer = BytesMut::new();
    let mut arrived = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let cut = rest.len().min(*cuts.next().unwrap());
        buffer.extend_from_slice(&rest.split_to(cut));
        while let Some(value) = codec.decode(&mut buffer).unwrap() {
            arrived.push(value);
        }
    }
    assert_eq!(codec.decode_eof(&mut buffer).unwrap(), None);
    assert_eq!(arrived, values);
}

fn is_noticed_when_truncated<F: Frame>(value: &F, at: &Index) {
    let frame = encode_frame(value).unwrap();
    let check = |end: usize| match decode_one::<F>(&frame[..end]) {
        Err(CodecError::Truncated { have }) => assert_eq!(have, end),
        other => panic!("cut after {end} of {}: {other:?}", frame.len()),
    };
    // Everywhere in a short frame; in a long one at its start, its end and one place more.
    (1..frame.len().min(300)).for_each(check);
    check(frame.len() - 1);
    check(1 + at.index(frame.len() - 1));
}

fn refuses_trailing_bytes<F: Frame>(value: &F, extra: &[u8]) {
    let payload = [&encode_frame(value).unwrap()[4..], extra].concat();
    match decode_one::<F>(&framed(&payload)) {
        Err(CodecError::TrailingBytes { extra: found }) => assert_eq!(found, extra.len()),
        other => panic!("{other:?}"),
    }
}

/// What a broken or hostile peer does to a stream of frames.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: Index, bit: u8 },
    Insert { at: Index, bytes: Vec<u8> },
    Remove { at: Index, len: usize },
    Length(u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    // The markers of wide numbers, with numbers that no frame has room for.
    let bomb = prop_oneof![
        Just(vec![0xfb, 0xff, 0xff]),
        Just(vec![0xfc, 0xff, 0xff, 0x0f, 0]),
        Just(vec![0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Just([&[0xfe][..], &[0xff; 16]].concat()),
        Just(vec![0xff]),
    ];
    let bytes = prop_oneof![bomb, vec(any::<u8>(), 1..20)];
    let length = prop_oneof![
        0..64_u32,
        Just(MAX_FRAME_BYTES as u32),
        Just(MAX_FRAME_BYTES as u32 + 1),
        any::<u32>(),
    ];
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        3 => (any::<Index>(), bytes).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        2 => (any::<Index>(), 1..20_usize).prop_map(|(at, len)| Damage::Remove { at, len }),
        1 => length.prop_map(Damage::Length),
    ]
}

impl Damage {
    fn apply(&self, stream: &mut Vec<u8>) {
        match self {
            _ if stream.is_empty() => {}
            Self::Flip { at, bit } => {
                let at = at.index(stream.len());
                stream[at] ^= 1 << bit;
            }
            Self::Insert { at, bytes } => {
                let at = at.index(stream.len());
                stream.splice(at..at, bytes.iter().copied());
            }
            Self::Remove { at, len } => {
                let at = at.index(stream.len());
                let end = stream.len().min(at + len);
                stream.drain(at..end);
            }
            Self::Length(len) => {
                let end = stream.len().min(4);
                stream[..end].copy_from_slice(&len.to_be_bytes()[..end]);
            }
        }
    }
}

/// With `repair` the length prefix is put right again, so that the damage reaches the values.
fn survives_damage<F: Frame>(values: &[F], damage: &[Damage], repair: bool) {
    let mut stream = Vec::new();
    let (first, others) = values.split_first().unwrap();
    stream.extend_from_slice(&encode_frame(first).unwrap());
    for one in damage {
        one.apply(&mut stream);
    }
    if repair {
        let payload = stream.get(4..).unwrap_or_default();
        stream = framed(payload).to_vec();
    }
    for other in others {
        stream.extend_from_slice(&encode_frame(other).unwrap());
    }
    read_stream::<F>(&stream);
}
