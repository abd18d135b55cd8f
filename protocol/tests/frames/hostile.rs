//! Bytes from nobody: never a panic, never much memory, never a name that is not one.

use crate::decode::{End, Frame, framed, read_in_every_vocabulary, read_stream};
use proptest::{collection::vec, prelude::*};
use protocol::{
    AgentId, Availability, Committed, Content, Direct, EncodedBody, FederatedRoom, HostName,
    Member, MessageId, Nick, Preface, RequestId, Room, Seq, Timestamp, UserName, Vocabulary,
    encode_frame, federation, limits::MAX_FRAME_BYTES, local, negotiate,
};
use tokio_util::bytes::Bytes;

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn random_streams_are_survived(stream in vec(any::<u8>(), 0..2_000)) {
        read_in_every_vocabulary(&stream);
    }

    #[test]
    fn random_payloads_are_survived(payload in payload()) {
        read_in_every_vocabulary(&framed(&payload));
    }

    #[test]
    fn random_bodies_are_survived(bytes in payload()) {
        if let Ok(body) = EncodedBody::from_bytes(Bytes::from(bytes))
            && let Ok(content) = body.decode()
        {
            prop_assert_eq!(content.encode().unwrap().decode(), Ok(content));
        }
    }

    #[test]
    fn random_prefaces_are_survived(magic in any::<bool>(), mut bytes in any::<[u8; 16]>()) {
        if magic {
            let start = if bytes[4] < 128 { b"chatL\0" } else { b"chatF\0" };
            bytes[..6].copy_from_slice(start);
            bytes[10..12].fill(0);
        }
        match Preface::from_bytes(bytes) {
            Ok(theirs) => {
                prop_assert_eq!(theirs.to_bytes(), bytes);
                for vocabulary in [Vocabulary::Local, Vocabulary::Federation] {
                    let ours = Preface::ours(vocabulary);
                    let verdict = negotiate(ours, theirs);
                    prop_assert_eq!(verdict.is_ok(), negotiate(theirs, ours).is_ok());
                    if let Err(error) = verdict {
                        prop_assert!(!error.to_string().contains(char::is_control));
                    }
                }
            }
            Err(error) => {
                prop_assert!(!magic);
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }
    }
}

/// Small numbers in front reach deep into the values; all of it random rarely does.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let tags = vec(0..20_u8, 0..6);
    let rest = prop_oneof![vec(any::<u8>(), 0..300), vec(0..12_u8, 0..300)];
    (tags, rest).prop_map(|(tags, rest)| [tags, rest].concat())
}

/// Seven bytes each, so that a character of any length fits in.
const NICK: &str = "nickqqq";
const HOST: &str = "hostqqq";
const WORD: &str = "wordqqq";

/// A whole frame and how its receiver reads it.
struct Received {
    frame: Bytes,
    read: fn(&[u8]) -> End,
}

impl Received {
    fn new<F: Frame>(value: &F) -> Self {
        Self {
            frame: encode_frame(value).unwrap(),
            read: read_stream::<F>,
        }
    }
}

/// Frames with a name in every kind of place that has one.
fn frames_with_names() -> Vec<Received> {
    let id = RequestId(1);
    let nick = Nick::parse(NICK).unwrap();
    let host = HostName::parse(HOST).unwrap();
    let user = UserName::new(nick.clone(), host.clone());
    let other = UserName::parse("zoe@zoo").unwrap();
    let federated = FederatedRoom::parse(&format!("#{WORD}")).unwrap();
    let asked = |request| Received::new(&federation::AgentFrame { id, request });
    let typed = |request| Received::new(&local::TerminalFrame { id, request });
    let mut frames = vec![
        asked(federation::Request::Hello {
            host,
            agent: AgentId::from_bytes([1; 16]),
            software: "chat".to_owned(),
        }),
        asked(federation::Request::Join {
            room: federated.clone(),
            nick: nick.clone(),
        }),
        asked(federation::Request::Rooms {
            after: Some(federated.clone()),
        }),
        typed(local::Request::Hello {
            nick,
            software: "chat".to_owned(),
            interactive: true,
        }),
        Received::new(&federation::ServerFrame::Event(
            federation::Event::Presence {
                user: user.clone(),
                availability: Availability::Online,
            },
        )),
        Received::new(&local::AgentFrame::Reply {
            id,
            result: Ok(local::Reply::Members {
                members: vec![Member {
                    user: user.clone(),
                    availability: Availability::Away,
                }],
                more: false,
            }),
        }),
    ];
    for room in [
        Room::Federated(federated),
        Room::parse(&format!("&{WORD}")).unwrap(),
        Direct::between(user.clone(), other).into(),
    ] {
        frames.push(typed(local::Request::Close { room: room.clone() }));
        frames.push(asked(federation::Request::Head { room: room.clone() }));
        let message = Committed {
            room,
            seq: Seq::new(2),
            prev_seq: Seq::new(1),
            committed_at: Timestamp::from_micros(1),
            id: MessageId::from_bytes([1; 16]),
            author: user.clone(),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text("hi".to_owned()).encode().unwrap(),
        };
        let event = federation::Event::Committed(message.clone());
        frames.push(Received::new(&federation::ServerFrame::Event(event)));
        let event = local::Event::Committed(message);
        frames.push(Received::new(&local::AgentFrame::Event(event)));
    }
    frames
}

#[test]
fn no_name_in_a_valid_frame_has_a_character_that_no_name_has() {
    let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
    // Space, separators of ours, line and direction changes, blanks.
    let others = " @,#&/\\=;:\u{a0}\u{200b}\u{2028}\u{202e}\u{feff}\u{3164}\u{e0041}";
    let bad: Vec<char> = controls.chain(others.chars()).collect();
    let mut places = 0;
    for Received { frame, read } in frames_with_names() {
        assert_eq!(read(&frame), End::Clean(1));
        for at in places_of_names(&frame) {
            places += 1;
            for c in &bad {
                let mut damaged = frame.to_vec();
                c.encode_utf8(&mut damaged[at..]);
                assert_eq!(read(&damaged), End::Malformed, "{c:?} at {at} of {frame:?}");
            }
            for invalid in [&[0xff][..], &[0xc0, 0x80], &[0xed, 0xa0, 0x80]] {
                let mut damaged = frame.to_vec();
                damaged[at..at + invalid.len()].copy_from_slice(invalid);
                assert_eq!(read(&damaged), End::Malformed, "{invalid:?} at {at}");
            }
        }
    }
    assert!(places > 60, "only {places} places of names");
}

/// The first, the second and the fourth byte of each name.
fn places_of_names(frame: &[u8]) -> Vec<usize> {
    let names = [NICK, HOST, WORD].map(str::as_bytes);
    let starts = frame.windows(NICK.len()).enumerate();
    starts
        .filter(|(_, window)| names.contains(window))
        .flat_map(|(at, _)| [at, at + 1, at + 3])
        .collect()
}

#[test]
fn a_huge_name_is_refused_in_a_few_words() {
    for c in ["a", "\u{1}", "\u{10ffff}", "@", ",", "#"] {
        let huge = c.repeat((MAX_FRAME_BYTES - 100) / c.len());
        let len = u32::try_from(huge.len()).unwrap();
        // Every place in the first bytes of a request where a name begins.
        for start in [&[1, 0][..], &[1, 2], &[1, 3], &[1, 6], &[1, 11, 1]] {
            let payload = [start, &[0xfc], &len.to_le_bytes(), huge.as_bytes()].concat();
            let ends = read_in_every_vocabulary(&framed(&payload));
            assert_eq!(ends[0].1, End::Malformed);
            assert_eq!(ends[2].1, End::Malformed);
        }
    }
}
