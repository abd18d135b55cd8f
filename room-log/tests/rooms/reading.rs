//! Pages end where they should, and nowhere else.

use crate::support::{Disk, append, body, filled, room, says};
use protocol::{Committed, Epoch, Room, Seq};
use room_log::{RoomLog, log, roster};

const BYTES: usize = 1 << 20;

fn page(disk: &Disk, epoch: Epoch, room: &Room, after: Seq, limits: (usize, usize)) -> Vec<Seq> {
    seqs(&log::page(&disk.connection, epoch, room, after, limits.0, limits.1).unwrap())
}

fn seqs(messages: &[Committed]) -> Vec<Seq> {
    messages.iter().map(|one| one.seq).collect()
}

#[test]
fn a_page_ends_at_its_limits_but_is_never_empty_before_the_end() {
    let disk = Disk::new();
    let ops = room("#ops");
    let (epoch, messages) = filled(&disk, &ops, 10);
    let all = seqs(&messages);
    let read = |after, limits| page(&disk, epoch, &ops, after, limits);
    assert_eq!(read(Seq::START, (100, BYTES)), all);
    assert_eq!(read(Seq::START, (3, BYTES)), all[..3]);
    assert_eq!(read(all[2], (3, BYTES)), all[3..6]);
    assert_eq!(read(all[9], (3, BYTES)), []);
    // Between two seqs of the room is a place like any other.
    assert_eq!(read(Seq::new(all[4].number() - 1), (2, BYTES)), all[4..6]);
    assert_eq!(read(Seq::new(u64::MAX), (3, BYTES)), []);
    let size = body("0").as_bytes().len();
    assert_eq!(read(Seq::START, (100, 1)), all[..1]);
    assert_eq!(read(Seq::START, (100, size)), all[..1]);
    assert_eq!(read(Seq::START, (100, size + 1)), all[..2]);
    assert_eq!(page(&disk, Epoch::new(), &ops, Seq::START, (9, 9)), []);
    assert_eq!(page(&disk, epoch, &room("#no"), Seq::START, (9, 9)), []);
}

#[test]
fn history_is_read_backwards_in_pages_that_join() {
    let disk = Disk::new();
    let ops = room("#ops");
    let (epoch, messages) = filled(&disk, &ops, 10);
    let mut before = None;
    let mut found: Vec<Committed> = Vec::new();
    loop {
        let (page, more) =
            log::page_before(&disk.connection, epoch, &ops, before, 3, BYTES).unwrap();
        before = page.first().map(|first| first.seq);
        found.splice(0..0, page);
        assert_eq!(more, found.len() < messages.len());
        if !more {
            break;
        }
    }
    assert_eq!(found, messages);
    let (page, more) = log::page_before(&disk.connection, epoch, &ops, None, 9, 1).unwrap();
    assert_eq!((page.as_slice(), more), (&messages[9..], true));
    let first = Some(messages[0].seq);
    let nothing = log::page_before(&disk.connection, epoch, &ops, first, 9, BYTES).unwrap();
    assert_eq!(nothing, (Vec::new(), false));
}

#[test]
fn the_newest_are_found_and_the_unread_counted() {
    let disk = Disk::new();
    let ops = room("#ops");
    let (epoch, messages) = filled(&disk, &ops, 10);
    let before = |count| log::before_newest(&disk.connection, epoch, &ops, count).unwrap();
    assert_eq!(before(0), messages[9].seq);
    assert_eq!(before(3), messages[6].seq);
    assert_eq!(before(9), messages[0].seq);
    for count in [10, 11, u32::MAX] {
        assert_eq!(before(count), Seq::START);
    }
    let by = |reader: &str, after, limit| {
        let reader = reader.parse().unwrap();
        log::count_unread(&disk.connection, epoch, &ops, &reader, after, limit).unwrap()
    };
    let count = |after, limit| by("nobody@nowhere", after, limit);
    assert_eq!(count(Seq::START, 100), 10);
    assert_eq!(count(Seq::START, 4), 4);
    assert_eq!(count(messages[6].seq, 100), 3);
    assert_eq!(count(messages[9].seq, 100), 0);
    assert_eq!(count(Seq::new(u64::MAX), 100), 0);
    let author = messages[0].author.to_string();
    assert_eq!(by(&author, Seq::START, 100), 0, "one knows what one said");

    // Of a great many of one's own, those are looked at that came last.
    let busy = room("#busy");
    let (epoch, _) = filled(&disk, &busy, 25);
    let other = "bob@bee".parse().unwrap();
    let unread = |limit| {
        log::count_unread(&disk.connection, epoch, &busy, &other, Seq::START, limit).unwrap()
    };
    assert_eq!((unread(1), unread(2), unread(100)), (1, 2, 25));
    let set = "UPDATE messages SET author = 'bob@bee' WHERE seq > ?1
               AND room_id = (SELECT room_id FROM rooms WHERE name = '#busy')";
    let tenth = log::before_newest(&disk.connection, epoch, &busy, 12).unwrap();
    disk.connection
        .execute(set, [i64::try_from(tenth.number()).unwrap()])
        .unwrap();
    assert_eq!((unread(1), unread(2), unread(100)), (0, 2, 13));
}

#[test]
fn a_message_is_found_by_id_and_by_place() {
    let disk = Disk::new();
    let ops = room("#ops");
    let (epoch, messages) = filled(&disk, &ops, 3);
    for message in &messages {
        let found = log::find(&disk.connection, epoch, message.id).unwrap();
        assert_eq!(found.as_ref(), Some(message));
        let elsewhere = log::find(&disk.connection, Epoch::new(), message.id).unwrap();
        assert_eq!(elsewhere, None, "another life of the log");
        let id = log::id_at(&disk.connection, epoch, &ops, message.seq).unwrap();
        assert_eq!(id, Some(message.id));
    }
    let between = Seq::new(messages[1].seq.number() + 1);
    for nowhere in [Seq::START, between, Seq::new(u64::MAX)] {
        let id = log::id_at(&disk.connection, epoch, &ops, nowhere).unwrap();
        assert_eq!(id, None);
    }
    let stranger = says(&ops, "never sent").id;
    assert_eq!(log::find(&disk.connection, epoch, stranger).unwrap(), None);
}

#[test]
fn rooms_are_listed_in_pages_and_each_life_has_its_own() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    for name in ["#b", "#a", "&c", "alice@ada,bob@bee"] {
        append(&mut log, &disk.connection, &says(&room(name), "hello"));
    }
    let names = |after: &str, limit| -> Vec<String> {
        let rooms = log::rooms(&disk.connection, epoch, after, limit).unwrap();
        rooms.iter().map(|(room, _)| room.to_string()).collect()
    };
    assert_eq!(names("", 2), ["#a", "#b"]);
    assert_eq!(names("#b", 9), ["&c", "alice@ada,bob@bee"]);
    let mut heads = log::heads(&disk.connection, epoch).unwrap();
    heads.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
    let listed = log::rooms(&disk.connection, epoch, "", 9).unwrap();
    assert_eq!(
        heads
            .iter()
            .map(|(r, h)| (r.clone(), h.seq))
            .collect::<Vec<_>>(),
        listed
    );
    assert_eq!(log::heads(&disk.connection, Epoch::new()).unwrap(), []);
}

#[test]
fn members_and_topics_belong_to_the_name() {
    let disk = Disk::new();
    let (ops, dev) = (room("#ops"), room("#dev"));
    let c = &disk.connection;
    let user = |text: &str| text.parse().unwrap();
    for name in ["bob@bee", "alice@ada", "carol@ada"] {
        assert!(roster::join(c, &ops, &user(name)).unwrap());
        assert!(!roster::join(c, &ops, &user(name)).unwrap());
    }
    roster::join(c, &dev, &user("bob@bee")).unwrap();
    assert_eq!(
        roster::members(c, &ops, "", 2).unwrap(),
        [user("alice@ada"), user("bob@bee")]
    );
    assert_eq!(
        roster::members(c, &ops, "bob@bee", 2).unwrap(),
        [user("carol@ada")]
    );
    assert_eq!(roster::member_count(c, &ops).unwrap(), 3);
    assert_eq!(
        roster::rooms_of(c, &user("bob@bee")).unwrap(),
        [dev, ops.clone()]
    );
    assert!(roster::leave(c, &ops, &user("bob@bee")).unwrap());
    assert!(!roster::leave(c, &ops, &user("bob@bee")).unwrap());
    assert!(!roster::is_member(c, &ops, &user("bob@bee")).unwrap());
    assert_eq!(roster::room_count(c, &user("bob@bee")).unwrap(), 1);
    assert_eq!(roster::topic(c, &ops).unwrap(), "");
    roster::set_topic(c, &ops, "on call: bob").unwrap();
    roster::set_topic(c, &ops, "on call: alice").unwrap();
    assert_eq!(roster::topic(c, &ops).unwrap(), "on call: alice");
    roster::set_topic(c, &ops, "").unwrap();
    assert_eq!(roster::topic(c, &ops).unwrap(), "");
}
