//! Reading back what was written: every room's messages and their order, and what is gone.

use super::{
    MoveError, Progress, Step, Watcher,
    source::{After, Source},
    tally::{Sum, Tally},
};
use protocol::{Room, Seq};
use std::collections::BTreeMap;

/// Reads everything back.
pub(super) async fn check(
    source: &Source,
    sums: &BTreeMap<Room, Sum>,
    gone: u64,
    (of, watcher): (u64, &mut Watcher<'_>),
) -> Result<(), MoveError> {
    let mut messages = 0;
    for (room, expected) in sums {
        let mut tally = Tally::default();
        let mut after = Seq::START;
        loop {
            let page = source.page(room, after).await?;
            let Some(newest) = page.last() else {
                break;
            };
            after = newest.seq;
            page.iter().for_each(|message| tally.add(message));
            messages += page.len() as u64;
            watcher(Progress {
                step: Step::Check,
                messages,
                of,
            });
        }
        let found = tally.sum();
        if found != *expected {
            return Err(MoveError::Differs {
                what: room.to_string(),
                expected: expected.to_string(),
                found: found.to_string(),
            });
        }
    }
    let (mut rooms, mut last) = (0, None);
    loop {
        let page = source.rooms(last.as_ref()).await?;
        rooms += page.len();
        match page.into_iter().next_back() {
            Some(room) => last = Some(room),
            None => break,
        }
    }
    compare("the number of rooms", sums.len(), rooms)?;
    let (mut found, mut after) = (0, After::default());
    loop {
        let (page, next) = source.gone(after).await?;
        if page.is_empty() {
            break;
        }
        after = next;
        found += page.iter().map(|(_, ids)| ids.len() as u64).sum::<u64>();
    }
    compare("the number of ids of messages that are gone", gone, found)
}

fn compare<T: PartialEq + ToString>(what: &str, expected: T, found: T) -> Result<(), MoveError> {
    if expected == found {
        return Ok(());
    }
    Err(MoveError::Differs {
        what: what.to_owned(),
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
