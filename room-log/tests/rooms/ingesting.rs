//! Taking over what another log ordered, and nothing that does not fit.

use crate::support::{Disk, placed, room};
use protocol::{Committed, EncodedBody, Epoch, Seq, limits::MAX_ENCODED_BODY_BYTES};
use room_log::{Ingested, RoomLog, log};
use serde::{
    Deserialize,
    de::value::{BytesDeserializer, Error as ValueError},
};

fn ingest(log: &mut RoomLog, disk: &Disk, message: &Committed) -> Ingested {
    log.ingest(&disk.connection, message).unwrap()
}

const fn gap(head: u64) -> Ingested {
    Ingested::Gap {
        head: Seq::new(head),
    }
}

#[test]
fn a_message_is_taken_once_and_only_behind_the_one_before_it() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let ops = room("#ops");
    let [first, second, third] = [(0, 3), (3, 7), (7, 8)].map(|(p, s)| placed(&ops, p, s));
    assert_eq!(ingest(&mut log, &disk, &second), gap(0));
    assert_eq!(ingest(&mut log, &disk, &first), Ingested::New);
    assert_eq!(ingest(&mut log, &disk, &third), gap(3));
    assert_eq!(ingest(&mut log, &disk, &first), Ingested::Known);
    assert_eq!(ingest(&mut log, &disk, &second), Ingested::New);
    let mut reopened = RoomLog::new(epoch, 10);
    assert_eq!(ingest(&mut reopened, &disk, &second), Ingested::Known);
    assert_eq!(ingest(&mut reopened, &disk, &third), Ingested::New);
    let page = log::page(&disk.connection, epoch, &ops, Seq::START, 10, 1_000).unwrap();
    assert_eq!(page, [first, second, third]);
}

#[test]
fn what_was_rolled_back_can_be_taken_again() {
    let disk = Disk::new();
    let mut log = RoomLog::new(Epoch::new(), 10);
    let first = placed(&room("#ops"), 0, 1);
    disk.begin();
    assert_eq!(ingest(&mut log, &disk, &first), Ingested::New);
    disk.roll_back();
    log.forget();
    assert_eq!(ingest(&mut log, &disk, &first), Ingested::New);
}

/// One wrong message must not roll back what others wrote in the same transaction.
#[test]
fn what_no_log_could_say_is_a_gap_and_harms_nothing_else() {
    let disk = Disk::new();
    let epoch = Epoch::new();
    let mut log = RoomLog::new(epoch, 10);
    let ops = room("#ops");
    disk.begin();
    let first = placed(&ops, 0, 1);
    assert_eq!(ingest(&mut log, &disk, &first), Ingested::New);
    let doubled = Committed {
        id: first.id,
        ..placed(&ops, 1, 2)
    };
    let beyond = placed(&ops, 1, u64::MAX);
    let too_long = Committed {
        body: overlong(),
        ..placed(&ops, 1, 2)
    };
    for wrong in [doubled, beyond, too_long] {
        assert_eq!(ingest(&mut log, &disk, &wrong), gap(1));
    }
    let second = placed(&ops, 1, 2);
    assert_eq!(ingest(&mut log, &disk, &second), Ingested::New);
    // The same message may be in another room, or in another life of the log.
    let copied = Committed {
        id: first.id,
        ..placed(&room("#dev"), 0, 3)
    };
    assert_eq!(ingest(&mut log, &disk, &copied), Ingested::New);
    let mut next = RoomLog::new(Epoch::new(), 10);
    assert_eq!(ingest(&mut next, &disk, &first), Ingested::New);
    disk.commit();
    let page = log::page(&disk.connection, epoch, &ops, Seq::START, 10, 1_000).unwrap();
    assert_eq!(page, [first, second]);
}

/// A body over the limit, as it comes out of a frame: its size is checked later.
fn overlong() -> EncodedBody {
    let bytes = vec![0; MAX_ENCODED_BODY_BYTES + 1];
    EncodedBody::deserialize(BytesDeserializer::<ValueError>::new(&bytes)).unwrap()
}
