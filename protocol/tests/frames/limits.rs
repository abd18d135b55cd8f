//! What decoding costs, at the largest and at the worst.

use crate::decode::{End, Frame, framed, read_in_every_vocabulary, read_stream};
use protocol::{
    Availability, Committed, Content, Direct, EncodedBody, Epoch, FederatedRoom, FrameCodec,
    Member, MessageId, RequestId, Room, Seq, Timestamp, UserName, encode_frame, federation, limits,
    local,
};
use tokio_util::{
    bytes::{Bytes, BytesMut},
    codec::Decoder,
};

fn longest_user() -> UserName {
    let nick = "n".repeat(limits::MAX_NICK_BYTES);
    let host = "h".repeat(limits::MAX_HOST_BYTES);
    UserName::parse(&format!("{nick}@{host}")).unwrap()
}

fn longest_direct() -> Room {
    Direct::between(longest_user(), longest_user()).into()
}

fn message(body: EncodedBody) -> Committed {
    Committed {
        room: longest_direct(),
        seq: Seq::new(u64::MAX),
        prev_seq: Seq::new(u64::MAX),
        committed_at: Timestamp::from_micros(u64::MAX),
        id: MessageId::from_bytes([0xff; 16]),
        author: longest_user(),
        sent_at: Timestamp::from_micros(u64::MAX),
        body,
    }
}

fn body(len: usize) -> EncodedBody {
    EncodedBody::from_bytes(Bytes::from(vec![b'x'; len])).unwrap()
}

#[test]
fn the_largest_pages_fit_a_frame_and_are_read() {
    let topic = || "t".repeat(limits::MAX_TOPIC_BYTES);
    let count = limits::MAX_PAGE_ENTRIES;
    let small = limits::MAX_PAGE_BYTES / count;
    let mut messages = vec![message(body(small)); count - 1];
    messages.push(message(body(limits::MAX_ENCODED_BODY_BYTES)));
    let word = "r".repeat(limits::MAX_ROOM_NAME_BYTES);
    for reply in [
        local::Reply::History {
            epoch: Epoch::from_bytes([0xff; 8]),
            messages,
            more: true,
        },
        local::Reply::Rooms {
            rooms: vec![
                local::RoomInfo {
                    room: longest_direct(),
                    joined: true,
                    members: Some(u32::MAX),
                    head: Seq::new(u64::MAX),
                    unread: u32::MAX,
                    topic: topic(),
                };
                count
            ],
            more: true,
        },
    ] {
        let frame = local::AgentFrame::Reply {
            id: RequestId(u32::MAX),
            result: Ok(reply),
        };
        let stream = encode_frame(&frame).unwrap();
        assert_eq!(read_stream::<local::AgentFrame>(&stream), End::Clean(1));
    }
    for reply in [
        federation::Reply::Rooms {
            rooms: vec![
                federation::RoomInfo {
                    room: FederatedRoom::parse(&format!("#{word}")).unwrap(),
                    members: u32::MAX,
                    head: Seq::new(u64::MAX),
                    topic: topic(),
                };
                count
            ],
            more: true,
        },
        federation::Reply::Members {
            members: vec![
                Member {
                    user: longest_user(),
                    availability: Availability::Unknown,
                };
                count
            ],
            more: true,
        },
        federation::Reply::Directs {
            conversations: vec![longest_direct(); count],
            more: true,
        },
    ] {
        let frame = federation::ServerFrame::Reply {
            id: RequestId(u32::MAX),
            result: Ok(reply),
        };
        let stream = encode_frame(&frame).unwrap();
        assert_eq!(
            read_stream::<federation::ServerFrame>(&stream),
            End::Clean(1)
        );
    }
}

#[test]
fn a_list_is_no_longer_than_two_pages() {
    for (len, end) in [
        (2 * limits::MAX_PAGE_ENTRIES, End::Clean(1)),
        (2 * limits::MAX_PAGE_ENTRIES + 1, End::Malformed),
    ] {
        let request = local::Request::Federate {
            servers: vec!["server".to_owned(); len],
        };
        let id = RequestId(1);
        let stream = encode_frame(&local::TerminalFrame { id, request }).unwrap();
        assert_eq!(read_stream::<local::TerminalFrame>(&stream), end);
    }
}

#[test]
fn a_body_is_copied_once_out_of_its_frame() {
    let text = "x".repeat(limits::MAX_BODY_BYTES);
    let body = Content::Text(text).encode().unwrap();
    let event = federation::Event::Committed(message(body.clone()));
    let frame = encode_frame(&federation::ServerFrame::Event(event)).unwrap();
    let one_copy = limits::MAX_BODY_BYTES as u64..limits::MAX_BODY_BYTES as u64 * 5 / 4;

    // Two frames: after the last one in its buffer the codec sets up an empty buffer.
    let mut buffer = BytesMut::from(&[&frame[..], &frame[..]].concat()[..]);
    let mut codec = FrameCodec::<federation::ServerFrame, ()>::new();
    let mut decoded = None;
    let used = allocation_counter::measure(|| decoded = codec.decode(&mut buffer).unwrap());
    assert!(decoded.is_some());
    assert!(one_copy.contains(&used.bytes_total), "{used:?}");

    let mut content = None;
    let used = allocation_counter::measure(|| content = body.decode().ok());
    assert!(content.is_some());
    assert!(one_copy.contains(&used.bytes_total), "{used:?}");
}

#[test]
fn a_frame_full_of_the_smallest_values_costs_bounded_memory() {
    fn fill<T: Clone>(smallest: T, encoded_bytes: usize) -> Vec<T> {
        vec![smallest; (limits::MAX_FRAME_BYTES - 64) / encoded_bytes]
    }
    let user = || UserName::parse("a@b").unwrap();
    let id = RequestId(1);
    let federated = |reply| federation::ServerFrame::Reply {
        id,
        result: Ok(reply),
    };
    let local = |reply| local::AgentFrame::Reply {
        id,
        result: Ok(reply),
    };
    is_affordable(&local::TerminalFrame {
        id,
        request: local::Request::Federate {
            servers: fill(String::new(), 1),
        },
    });
    is_affordable(&federated(federation::Reply::Directs {
        conversations: fill(Direct::between(user(), user()).into(), 8),
        more: false,
    }));
    is_affordable(&federated(federation::Reply::Members {
        members: fill(
            Member {
                user: user(),
                availability: Availability::Online,
            },
            5,
        ),
        more: false,
    }));
    is_affordable(&federated(federation::Reply::Rooms {
        rooms: fill(
            federation::RoomInfo {
                room: FederatedRoom::parse("#a").unwrap(),
                members: 0,
                head: Seq::START,
                topic: String::new(),
            },
            6,
        ),
        more: false,
    }));
    is_affordable(&local(local::Reply::Rooms {
        rooms: fill(
            local::RoomInfo {
                room: Direct::between(user(), user()).into(),
                joined: false,
                members: None,
                head: Seq::START,
                unread: 0,
                topic: String::new(),
            },
            13,
        ),
        more: false,
    }));
    let smallest = Committed {
        room: Direct::between(user(), user()).into(),
        seq: Seq::START,
        prev_seq: Seq::START,
        committed_at: Timestamp::from_micros(0),
        id: MessageId::from_bytes([0; 16]),
        author: user(),
        sent_at: Timestamp::from_micros(0),
        body: body(1),
    };
    is_affordable(&local(local::Reply::History {
        epoch: Epoch::from_bytes([0; 8]),
        messages: fill(smallest, 19),
        more: false,
    }));
}

/// Whether such a frame is taken or refused, `read_stream` watches what it costs.
fn is_affordable<F: Frame>(value: &F) {
    let frame = encode_frame(value).unwrap();
    assert!(frame.len() > limits::MAX_FRAME_BYTES * 9 / 10, "not full");
    read_stream::<F>(&frame);
}

#[test]
fn a_claimed_length_costs_bounded_memory_wherever_it_stands() {
    let claims = [
        &[0xfc, 0xf0, 0xff, 0x0f, 0][..],
        &[0xfc, 0xff, 0xff, 0xff, 0x0f],
        &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ];
    // What may stand before it: nothing, a nick, a room, a number, a user.
    let befores = [&[][..], b"\x01a", b"\x02#a", b"\x07", b"\x01a\x01b"];
    for first in 0..24_u8 {
        for second in 0..24_u8 {
            for claim in claims {
                for before in befores {
                    let rest = [0; 64];
                    let request = [&[1, second][..], before, claim, &rest].concat();
                    read_in_every_vocabulary(&framed(&request));
                    let reply = [&[0, 1, first, second][..], before, claim, &rest].concat();
                    read_in_every_vocabulary(&framed(&reply));
                }
            }
        }
    }
}
