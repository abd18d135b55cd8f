use super::*;
use crate::store::schema::APPLICATION;
use protocol::Content;

fn outbox(authors: impl IntoIterator<Item = &'static str>) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    for migration in APPLICATION.migrations {
        connection.execute_batch(migration).unwrap();
    }
    connection.execute_batch("BEGIN").unwrap();
    for (number, author) in authors.into_iter().enumerate() {
        let message = Outgoing {
            id: MessageId::new(),
            room: "#ops".parse().unwrap(),
            author: user(author),
            sent_at: Timestamp::from_micros(1),
            body: Content::Text(number.to_string()).encode().unwrap(),
        };
        push(&connection, &message).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    connection
}

fn user(nick: &str) -> UserName {
    format!("{nick}@ada").parse().unwrap()
}

fn authors(part: &Part) -> Vec<String> {
    let nick = |entry: &Waiting| entry.message.author.nick.to_string();
    part.entries.iter().map(nick).collect()
}

#[test]
fn one_message_behind_very_many_of_somebody_else_is_found_in_bounded_steps() {
    let others = std::iter::repeat_n("alice", EXAMINED * 2 + 1);
    let outbox = outbox(others.chain(["bob"]));
    let without = HashSet::from([user("alice")]);
    let (mut after, mut steps) = (Position::START, 0);
    let found = loop {
        let part = part_without(&outbox, after, 10, &without).unwrap();
        steps += 1;
        after = part.up_to;
        if !part.more {
            break part;
        }
        assert!(part.entries.is_empty());
    };
    assert_eq!(steps, 3);
    assert_eq!(authors(&found), ["bob"]);
    assert_eq!(found.up_to, found.entries[0].position);
}

#[test]
fn what_one_author_left_behind_very_many_of_somebody_else_is_found_in_bounded_steps() {
    let others = std::iter::repeat_n("alice", EXAMINED * 2 + 1);
    let outbox = outbox(others.chain(["bob", "alice"]));
    let all = page(&outbox, Position::START, usize::MAX >> 1).unwrap();
    let end = all.last().unwrap().position;
    let (mut after, mut steps) = (Position::START, 0);
    let found = loop {
        let part = part_of(&outbox, &user("bob"), (after, end), 10).unwrap();
        steps += 1;
        if !part.more {
            break part;
        }
        assert!(part.entries.is_empty());
        assert_eq!(part.up_to, all[steps * EXAMINED - 1].position);
        after = part.up_to;
    };
    assert_eq!(steps, 3);
    assert_eq!(authors(&found), ["bob"]);
    assert_eq!(found.up_to, end);
}

#[test]
fn a_full_part_says_that_there_may_be_more() {
    let outbox = outbox(["alice", "bob", "alice", "carol"]);
    let without = HashSet::from([user("alice")]);
    let part = part_without(&outbox, Position::START, 1, &without).unwrap();
    assert_eq!((authors(&part), part.more), (vec!["bob".to_owned()], true));
    let part = part_without(&outbox, part.up_to, 2, &without).unwrap();
    assert_eq!(
        (authors(&part), part.more),
        (vec!["carol".to_owned()], false)
    );
}

#[test]
fn what_one_author_left_behind_is_read_up_to_where_was_looked() {
    let outbox = outbox(["alice", "bob", "alice", "alice"]);
    let all = part_without(&outbox, Position::START, 9, &HashSet::new()).unwrap();
    let place = |index: usize| all.entries[index].position;
    let alice = user("alice");
    let of = |after, up_to, limit| part_of(&outbox, &alice, (after, up_to), limit).unwrap();
    let part = of(Position::START, place(2), 9);
    assert_eq!(
        part.entries,
        [all.entries[0].clone(), all.entries[2].clone()]
    );
    assert!(!part.more);
    let part = of(place(0), place(3), 1);
    assert_eq!((part.up_to, part.more), (place(2), true));
    let part = of(place(2).before(), place(3), 9);
    assert_eq!(part.entries, all.entries[2..]);
}
