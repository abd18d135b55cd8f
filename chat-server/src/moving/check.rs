//! Reading back what was written: every room's messages and their order, and what is gone.

use super::{
    MoveError, Progress, Step, Watcher,
    source::{After, Source},
    tally::{Sum, Tally},
};
use protocol::{HostName, Room, Seq, UserName};
use std::collections::BTreeMap;

/// Reads everything back.
pub(super) async fn check(
    source: &Source,
    sums: &BTreeMap<Room, Sum>,
    made: &BTreeMap<HostName, u32>,
    gone: u64,
    (of, watcher): (u64, &mut Watcher<'_>),
) -> Result<(), MoveError> {
    let mut messages = 0;
    for (room, expected) in sums {
        let mut tally = Tally::new(&source.state(room).await?);
        people(source, room, &mut tally).await?;
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
    let found: BTreeMap<HostName, u32> = source.made().await?.into_iter().collect();
    if found != *made {
        let text = |made: &BTreeMap<HostName, u32>| format!("{made:?}");
        return Err(MoveError::Differs {
            what: "how many rooms each host made".to_owned(),
            expected: text(made),
            found: text(&found),
        });
    }
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

/// Adds everybody of a room.
async fn people(source: &Source, room: &Room, tally: &mut Tally) -> Result<(), MoveError> {
    let mut last: Option<UserName> = None;
    loop {
        let members = source.members(room, last.as_ref()).await?;
        tally.add_people(&members, &[]);
        match members.into_iter().next_back() {
            Some(member) => last = Some(member),
            None => break,
        }
    }
    let mut last: Option<UserName> = None;
    loop {
        let kicked = source.kicked(room, last.as_ref()).await?;
        tally.add_people(&[], &kicked);
        match kicked.into_iter().next_back() {
            Some(one) => last = Some(one),
            None => return Ok(()),
        }
    }
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
