//! A message gets one place, once.

use crate::support::{Disk, NOW, append, body, room, says};
use protocol::{Epoch, Outgoing, Seq, Timestamp};
use room_log::{Appended, Head, RoomLog, log};

#[test]
fn seqs_rise_and_each_message_names_the_one_before_it_in_its_room() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let (ops, dev) = (room("#ops"), room("&dev"));
    let mut heads = [Seq::START; 2];
    let mut last = Seq::START;
    for number in 0..20 {
        let which = usize::from(number % 3 == 0);
        let to = [&ops, &dev][which];
        let message = says(to, "hello");
        let committed = append(&mut log, &disk.connection, &message);
        assert!(committed.seq > last);
        assert_eq!(committed.prev_seq, heads[which]);
        assert_eq!(committed.committed_at, NOW);
        assert_eq!(committed.sent_at, message.sent_at);
        last = committed.seq;
        heads[which] = committed.seq;
        let head = log::head(&disk.connection, epoch, to).unwrap();
        let expected = Head {
            seq: committed.seq,
            id: Some(message.id),
        };
        assert_eq!(head, Some(expected));
    }
}

#[test]
fn a_retry_gets_the_first_place_whatever_its_clock_says() {
    let disk = Disk::new();
    let mut log = RoomLog::new(Epoch::new(), 10);
    let message = says(&room("#ops"), "deploy");
    let first = append(&mut log, &disk.connection, &message);
    append(&mut log, &disk.connection, &says(&room("#ops"), "more"));
    let retry = Outgoing {
        sent_at: Timestamp::from_micros(99),
        ..message
    };
    let known = Appended::Known { seq: first.seq };
    let again = log.append(&disk.connection, &retry, NOW).unwrap();
    assert_eq!(again, known);
    // Another writer of the same file knows it just as well.
    let mut reopened = RoomLog::new(log.epoch(), 10);
    let again = reopened.append(&disk.connection, &retry, NOW).unwrap();
    assert_eq!(again, known);
}

#[test]
fn an_id_is_never_used_for_two_messages() {
    let disk = Disk::new();
    let mut log = RoomLog::new(Epoch::new(), 10);
    let message = says(&room("#ops"), "deploy");
    append(&mut log, &disk.connection, &message);
    for other in [
        Outgoing {
            room: room("#dev"),
            ..message.clone()
        },
        Outgoing {
            author: "bob@ada".parse().unwrap(),
            ..message.clone()
        },
        Outgoing {
            body: body("do not deploy"),
            ..message
        },
    ] {
        let conflict = log.append(&disk.connection, &other, NOW).unwrap();
        assert_eq!(conflict, Appended::Conflict);
    }
    let rooms = log::rooms(&disk.connection, log.epoch(), "", 10).unwrap();
    assert_eq!(rooms.len(), 1, "a conflict makes no room");
}

#[test]
fn one_room_too_many_is_refused_and_the_others_go_on() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 2);
    append(&mut log, &disk.connection, &says(&room("#a"), "1"));
    assert_eq!(
        log.ensure_room(&disk.connection, &room("#b")).unwrap(),
        Some(Seq::START)
    );
    for mut log in [log, RoomLog::new(epoch, 2)] {
        let third = says(&room("#c"), "3");
        assert_eq!(
            log.append(&disk.connection, &third, NOW).unwrap(),
            Appended::TooManyRooms
        );
        assert_eq!(
            log.ensure_room(&disk.connection, &room("#c")).unwrap(),
            None
        );
        append(&mut log, &disk.connection, &says(&room("#b"), "2"));
    }
    // Each life has its own rooms.
    let mut next = RoomLog::new(Epoch::new(), 2);
    append(&mut next, &disk.connection, &says(&room("#c"), "3"));
}

#[test]
fn what_was_rolled_back_is_forgotten() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 2);
    let ops = room("#ops");
    let kept = append(&mut log, &disk.connection, &says(&ops, "kept"));
    disk.begin();
    let lost = says(&ops, "lost");
    append(&mut log, &disk.connection, &lost);
    append(&mut log, &disk.connection, &says(&room("#lost"), "too"));
    disk.roll_back();
    log.forget();
    let again = append(&mut log, &disk.connection, &lost);
    assert_eq!(again.prev_seq, kept.seq);
    // The lost room does not count.
    append(&mut log, &disk.connection, &says(&room("#new"), "hello"));
    let page = log::page(&disk.connection, epoch, &ops, Seq::START, 10, 1_000).unwrap();
    assert_eq!(page, [kept, again]);
    assert_eq!(
        log::head(&disk.connection, epoch, &room("#lost")).unwrap(),
        None
    );
}
