//! Messages: one place each, and what was answered can be read.

use super::{
    Backing,
    running::{Running, assert_chain, is_conflict, messages_of, room, says},
};
use protocol::{Committed, Content, MessageId, Outgoing, Room, Seq, Timestamp, UserName};
use room_log::Head;

const BYTES: usize = 1 << 20;

pub(super) async fn seqs_rise_and_name_the_one_before<B: Backing>() {
    let running = Running::<B>::new().await;
    let rooms = ["#ops", "#dev", "#lobby"].map(room);
    let messages: Vec<Outgoing> = (0..60)
        .map(|n| says("alice@ada", &rooms[n % 7 % 3], &n.to_string()))
        .collect();
    let seqs = running.append(&messages).await;
    for room in &rooms {
        let log = running.read(room).await;
        assert_chain(&log);
        // In the order in which they were said, each as it was said.
        let said = messages.iter().zip(&seqs).filter(|(m, _)| m.room == *room);
        assert!(log.iter().map(content).eq(said.map(|(m, seq)| {
            let Outgoing {
                id,
                room,
                author,
                sent_at,
                body,
            } = m;
            (*seq, *id, room, author, *sent_at, body)
        })));
    }
}

type Said<'m> = (
    Seq,
    MessageId,
    &'m Room,
    &'m UserName,
    Timestamp,
    &'m protocol::EncodedBody,
);

fn content(message: &Committed) -> Said<'_> {
    let Committed {
        seq,
        id,
        room,
        author,
        sent_at,
        body,
        ..
    } = message;
    (*seq, *id, room, author, *sent_at, body)
}

pub(super) async fn a_message_sent_again_gets_its_first_place<B: Backing>() {
    let running = Running::<B>::new().await;
    let ops = room("#ops");
    let message = says("alice@ada", &ops, "deploy");
    // Twice in one go, then later, then after others, then after a restart.
    let seqs = running.append(&[message.clone(), message.clone()]).await;
    assert_eq!(seqs[0], seqs[1]);
    running.say(&says("bob@ada", &ops, "wait")).await;
    let later = Outgoing {
        sent_at: Timestamp::from_micros(5),
        ..message
    };
    assert_eq!(running.say(&later).await, seqs[0]);
    let (running, commits) = running.reopen().await;
    assert_eq!(running.say(&later).await, seqs[0]);
    assert_eq!(messages_of(&commits).len(), 2);
    assert_eq!(running.read(&ops).await.len(), 2);
    let (_, commits) = running.close().await;
    assert_eq!(commits, []);
}

pub(super) async fn an_id_is_never_used_for_two_messages<B: Backing>() {
    let running = Running::<B>::new().await;
    let ops = room("#ops");
    let message = says("alice@ada", &ops, "deploy");
    let other_body = Content::Text("rm".to_owned()).encode().unwrap();
    let others = [
        Outgoing {
            author: "bob@ada".parse().unwrap(),
            ..message.clone()
        },
        Outgoing {
            body: other_body,
            ..message.clone()
        },
    ];
    // At once with the first, and when that is long written.
    let mut first = vec![message.clone()];
    first.extend_from_slice(&others);
    let answers = running.append_all(&first).await;
    assert!(answers[0].is_ok());
    let again = running.append_all(&others).await;
    for answer in answers[1..].iter().chain(&again) {
        assert!(is_conflict(answer, message.id), "{answer:?}");
    }
    assert_eq!(running.read(&ops).await.len(), 1);
    // A conflict holds up nobody.
    running.say(&says("alice@ada", &ops, "more")).await;
}

pub(super) async fn what_was_answered_can_be_read<B: Backing>() {
    let running = Running::<B>::new().await;
    let ops = room("#ops");
    for number in 0..20 {
        let message = says("alice@ada", &ops, &number.to_string());
        let seq = running.say(&message).await;
        let head = Head {
            seq,
            id: Some(message.id),
        };
        assert_eq!(running.log.head(&ops).await.unwrap(), Some(head));
        assert_eq!(
            running.log.id_at(&ops, seq).await.unwrap(),
            Some(message.id)
        );
        let found = running.log.find(&ops, message.id).await.unwrap().unwrap();
        assert_eq!((found.seq, &found.body), (seq, &message.body));
        let page = running.log.page(&ops, found.prev_seq, 9, BYTES).await;
        assert_eq!(page.unwrap(), [found]);
    }
}

pub(super) async fn a_page_ends_at_its_limits_and_is_empty_only_at_the_end<B: Backing>() {
    let running = Running::<B>::new().await;
    let ops = room("#ops");
    let messages: Vec<Outgoing> = (0..10)
        .map(|n| says("alice@ada", &ops, &n.to_string()))
        .collect();
    let all = running.append(&messages).await;
    let page = async |after: Seq, entries: usize, bytes: usize| -> Vec<Seq> {
        let page = running.log.page(&ops, after, entries, bytes).await;
        page.unwrap().iter().map(|one| one.seq).collect()
    };
    assert_eq!(page(Seq::START, 100, BYTES).await, all);
    assert_eq!(page(Seq::START, 4, BYTES).await, all[..4]);
    assert_eq!(page(all[3], 4, BYTES).await, all[4..8]);
    assert_eq!(page(all[9], 4, BYTES).await, []);
    assert_eq!(page(Seq::new(u64::MAX), 4, BYTES).await, []);
    let size = messages[0].body.as_bytes().len();
    assert_eq!(page(Seq::START, 100, 1).await, all[..1]);
    assert_eq!(page(Seq::START, 100, size).await, all[..1]);
    assert_eq!(page(Seq::START, 100, 3 * size).await, all[..3]);
    // A large message is read like any other.
    let large = "x".repeat(protocol::limits::MAX_BODY_BYTES);
    let seq = running.say(&says("alice@ada", &ops, &large)).await;
    assert_eq!(page(all[9], 4, 1).await, [seq]);
}

pub(super) async fn what_is_not_there_is_not_found<B: Backing>() {
    let running = Running::<B>::new().await;
    let nowhere = room("#nowhere");
    let log = &running.log;
    assert_eq!(log.head(&nowhere).await.unwrap(), None);
    assert_eq!(log.page(&nowhere, Seq::START, 9, BYTES).await.unwrap(), []);
    assert_eq!(log.find(&nowhere, MessageId::new()).await.unwrap(), None);
    let ops = room("#ops");
    let seq = running.say(&says("alice@ada", &ops, "hello")).await;
    for other in [Seq::START, Seq::new(seq.number() + 1), Seq::new(u64::MAX)] {
        assert_eq!(log.id_at(&ops, other).await.unwrap(), None);
    }
    assert_eq!(log.id_at(&nowhere, seq).await.unwrap(), None);
}
