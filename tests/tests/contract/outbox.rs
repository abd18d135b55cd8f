//! What the agent relies on in its outbox: in order, once, and not forgotten.
//!
//! A second implementation is a [`Shelf`] and one more `outbox_contract!`.

mod model;
mod sqlite;

use chat_agent::store::outbox::Usage;
use protocol::{Content, MessageId, Outgoing, Room, Timestamp};
use std::fmt::Debug;

/// What the suite needs: the outbox, its transactions, and its end.
trait Shelf: Sized {
    /// Where an entry stands. Only its order means anything.
    type Position: Copy + Ord + Debug;

    /// An outbox that nobody has used yet, with nothing begun.
    fn new() -> Self;

    /// Puts a message at the end.
    fn push(&mut self, message: &Outgoing);

    /// Takes a message out; gives the bytes it held, if it was there.
    fn remove(&mut self, id: MessageId) -> Option<u64>;

    /// The message with this id, if it waits.
    fn find(&self, id: MessageId) -> Option<Outgoing>;

    /// Up to `limit` messages behind `after`, in order.
    fn page(&self, after: Option<Self::Position>, limit: usize) -> Vec<(Self::Position, Outgoing)>;

    /// How much waits.
    fn usage(&self) -> Usage;

    /// Makes durable what was done since the last time.
    fn commit(&mut self);

    /// Takes back what was done since the last time.
    fn roll_back(&mut self);

    /// Ends in order, without what was not committed, and comes back.
    fn reopen(&mut self);

    /// Is killed and comes back.
    fn kill(&mut self);
}

fn says(room: &str, text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: Room::parse(room).unwrap(),
        author: "alice@ada".parse().unwrap(),
        sent_at: Timestamp::from_micros(1_700_000_000_000_000),
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

fn some(count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| says("#ops", &n.to_string())).collect()
}

fn all<S: Shelf>(shelf: &S) -> Vec<(S::Position, Outgoing)> {
    shelf.page(None, usize::MAX)
}

fn messages<S: Shelf>(shelf: &S) -> Vec<Outgoing> {
    all(shelf).into_iter().map(|(_, message)| message).collect()
}

fn usage_of<'m>(messages: impl IntoIterator<Item = &'m Outgoing>) -> Usage {
    let mut usage = Usage::default();
    for message in messages {
        usage.messages += 1;
        usage.bytes += Usage::of(&message.body);
    }
    usage
}

fn what_was_put_in_comes_back_as_it_was_and_in_order<S: Shelf>() {
    let mut shelf = S::new();
    assert_eq!(all(&shelf), []);
    assert_eq!(shelf.usage(), Usage::default());
    // Ids are in no order.
    let mut put: Vec<Outgoing> = ["#ops", "alice@ada,bob@bee", "#ops"]
        .iter()
        .map(|room| says(room, "grüße\n世界"))
        .collect();
    put.reverse();
    put.push(says("#ops", &"x".repeat(protocol::limits::MAX_BODY_BYTES)));
    for message in &put {
        shelf.push(message);
    }
    shelf.commit();
    for _ in 0..2 {
        assert_eq!(messages(&shelf), put);
        assert_eq!(shelf.usage(), usage_of(&put));
        for message in &put {
            assert_eq!(shelf.find(message.id).as_ref(), Some(message));
        }
        shelf.reopen();
    }
    assert_eq!(shelf.find(MessageId::new()), None);
}

fn pages_join_and_end_only_at_the_end<S: Shelf>() {
    let mut shelf = S::new();
    let put = some(25);
    for message in &put {
        shelf.push(message);
    }
    shelf.commit();
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = shelf.page(after, 4);
        assert!(page.len() <= 4);
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        found.extend(page.into_iter().map(|(_, message)| message));
        // What was read may be taken out before the next page is read.
        shelf.remove(found[0].id);
        shelf.commit();
    }
    assert_eq!(found, put);
    assert_eq!(shelf.page(after, 4), []);
    let late = says("#ops", "late");
    shelf.push(&late);
    shelf.commit();
    let page = shelf.page(after, 4);
    assert_eq!(page.iter().map(|(_, m)| m).collect::<Vec<_>>(), [&late]);
}

fn what_is_taken_out_is_gone_and_counted_once<S: Shelf>() {
    let mut shelf = S::new();
    let put = some(3);
    for message in &put {
        shelf.push(message);
    }
    shelf.commit();
    assert_eq!(shelf.remove(put[1].id), Some(Usage::of(&put[1].body)));
    // As when an acknowledgement comes twice.
    assert_eq!(shelf.remove(put[1].id), None);
    shelf.commit();
    assert_eq!(shelf.remove(MessageId::new()), None);
    shelf.commit();
    for _ in 0..2 {
        assert_eq!(shelf.find(put[1].id), None);
        assert_eq!(messages(&shelf), [put[0].clone(), put[2].clone()]);
        assert_eq!(shelf.usage(), usage_of([&put[0], &put[2]]));
        shelf.kill();
    }
}

/// The link remembers how far it has read: whatever comes must come behind that.
fn a_position_is_never_given_twice<S: Shelf>() {
    let mut shelf = S::new();
    let mut highest = None;
    for round in 0..4 {
        let put = some(3);
        for message in &put {
            shelf.push(message);
        }
        shelf.commit();
        let positions: Vec<S::Position> = all(&shelf).into_iter().map(|(p, _)| p).collect();
        assert!(positions.iter().all(|one| Some(*one) > highest));
        assert!(positions.is_sorted());
        highest = positions.last().copied();
        for message in &put {
            shelf.remove(message.id);
        }
        shelf.commit();
        assert_eq!(all(&shelf), []);
        match round % 3 {
            0 => shelf.reopen(),
            1 => shelf.kill(),
            _ => {}
        }
    }
}

fn what_was_not_committed_never_was<S: Shelf>() {
    let mut shelf = S::new();
    let (kept, lost) = (says("#ops", "kept"), says("#ops", "lost"));
    shelf.push(&kept);
    shelf.commit();
    let ends: [fn(&mut S); 3] = [S::roll_back, S::reopen, S::kill];
    for end in ends {
        shelf.push(&lost);
        shelf.remove(kept.id);
        assert_eq!(messages(&shelf), std::slice::from_ref(&lost));
        end(&mut shelf);
        assert_eq!(messages(&shelf), std::slice::from_ref(&kept));
        assert_eq!(shelf.usage(), usage_of([&kept]));
        assert_eq!(shelf.find(lost.id), None);
    }
    shelf.push(&lost);
    shelf.commit();
    assert_eq!(messages(&shelf), [kept, lost]);
}

/// The suite for one implementation.
macro_rules! outbox_contract {
    ($name:ident, $shelf:ty) => {
        mod $name {
            outbox_contract!(@tests $shelf;
                what_was_put_in_comes_back_as_it_was_and_in_order,
                pages_join_and_end_only_at_the_end,
                what_is_taken_out_is_gone_and_counted_once,
                a_position_is_never_given_twice,
                what_was_not_committed_never_was,
            );

            #[test]
            fn whatever_is_done_the_outbox_agrees_with_the_model() {
                super::model::check::<$shelf>();
            }
        }
    };
    (@tests $shelf:ty; $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                super::$test::<$shelf>();
            }
        )*
    };
}

outbox_contract!(in_sqlite, super::sqlite::SqliteShelf);
