//! What the server was told of this host's people, and the rooms it was asked for.
//!
//! An [`Errand`] is one thing to ask. The server grants it, refuses it for good (which is a
//! problem to show), or refuses it for now: then it is asked again after a pause, if it still
//! makes sense.

use super::{
    again::Again,
    roll_call::{self, News},
};
use crate::{
    hub::{RefusedErrand, Roll},
    store::{Gap, person::DepartureNumber},
};
use protocol::{
    Availability, FederatedRoom, Nick, Room, Seq,
    federation::{Refusal, Request},
};
use room_log::Head;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;
use tracing::{debug, warn};

/// Something to ask the server for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// To know a member.
    Join { room: FederatedRoom, nick: Nick },
    /// To forget one, as of all departures up to this one.
    Leave {
        room: FederatedRoom,
        nick: Nick,
        up_to: DepartureNumber,
    },
    /// To send a room's messages.
    Subscribe(Room),
    /// To send them no more.
    Unsubscribe(Room),
    /// To know who is there.
    Presence(Nick, Availability),
    /// To list this host's conversations behind one of them.
    Directs { after: Option<Room> },
}

/// How it stands with a room that this host wants to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Asked for. What comes before the answer is of a subscription before.
    Asked,
    /// Granted: the server sends what it has.
    Followed,
    /// Refused for now; asked for again soon.
    Later,
    /// Refused for good; asked for again when somebody joins.
    Never,
}

/// One connection's memory of what the server knows.
#[derive(Debug, Default)]
pub(super) struct Following {
    told: Roll,
    told_version: Option<u64>,
    rooms: HashMap<Room, Place>,
    /// Behind which message of a room something was missing last.
    gaps: HashMap<Room, Seq>,
    /// What was refused for now.
    again: Again,
    /// What was refused for good, and why.
    refusals: BTreeMap<String, RefusedErrand>,
}

impl Errand {
    /// The request for it, given what the replica has of a room.
    pub(super) fn request(&self, head: impl FnOnce(&Room) -> Head) -> Request {
        match self.clone() {
            Self::Join { room, nick } => Request::Join { room, nick },
            Self::Leave { room, nick, .. } => Request::Leave { room, nick },
            Self::Subscribe(room) => {
                let head = head(&room);
                Request::Subscribe {
                    room,
                    after: head.seq,
                    after_id: head.id,
                }
            }
            Self::Unsubscribe(room) => Request::Unsubscribe { room },
            Self::Presence(nick, availability) => Request::Presence { nick, availability },
            Self::Directs { after } => Request::Directs { after },
        }
    }

    /// Whose pace it counts in, if anybody's.
    pub(super) const fn whose(&self) -> Option<&Nick> {
        match self {
            Self::Join { nick, .. } | Self::Leave { nick, .. } => Some(nick),
            _ => None,
        }
    }

    /// What it is about, if a refusal is for people to know.
    fn subject(&self) -> Option<String> {
        match self {
            Self::Join { room, nick } => Some(format!("{nick} in {room}")),
            Self::Subscribe(room) => Some(room.to_string()),
            _ => None,
        }
    }

    /// Whose business it is.
    fn concerns(&self) -> Option<(Room, Option<Nick>)> {
        match self {
            Self::Join { room, nick } => {
                let room = Room::Federated(room.clone());
                Some((room, Some(nick.clone())))
            }
            Self::Subscribe(room) => Some((room.clone(), None)),
            _ => None,
        }
    }
}

impl Following {
    /// Whether the server was told of this version of the roll.
    pub(super) fn knows(&self, version: u64) -> bool {
        self.told_version == Some(version)
    }

    /// What to tell now that the roll is `now`; `version` is what it was before it was called.
    pub(super) fn reconcile(&mut self, now: Roll, version: u64) -> Vec<Errand> {
        self.told_version = Some(version);
        let before = std::mem::replace(&mut self.told, now);
        let up_to = self.told.last_departure;
        let mut errands = Vec::new();
        for news in roll_call::news(&before, &self.told) {
            match news {
                News::Joined(room, nick) => {
                    if let Room::Federated(room) = room.clone() {
                        errands.push(Errand::Join { room, nick });
                    }
                    errands.extend(self.want(room));
                }
                News::Left(room, nick) => {
                    if let Room::Federated(room) = room {
                        let joining = Errand::Join {
                            room: room.clone(),
                            nick: nick.clone(),
                        };
                        self.forgive(&joining);
                        errands.push(Errand::Leave { room, nick, up_to });
                    }
                }
                News::Abandoned(room) => {
                    self.forgive(&Errand::Subscribe(room.clone()));
                    self.gaps.remove(&room);
                    let place = self.rooms.remove(&room);
                    if matches!(place, Some(Place::Asked | Place::Followed)) {
                        errands.push(Errand::Unsubscribe(room));
                    }
                }
                News::Presence(nick, availability) => {
                    errands.push(Errand::Presence(nick, availability));
                }
            }
        }
        errands
    }

    /// What to ask to know whether this host's members of `room` still are. Not of those who wait
    /// to be let in, nor of those whom the server has refused for good.
    pub(super) fn members_of(&self, room: &Room) -> Vec<Errand> {
        let Room::Federated(name) = room else {
            return Vec::new();
        };
        let mut joins = self.joins(name).collect::<Vec<_>>();
        joins.retain(|join| !self.again.contains(join) && !self.is_refused(join));
        joins
    }

    /// What makes this host's members of `room` known to the server.
    fn joins(&self, room: &FederatedRoom) -> impl Iterator<Item = Errand> {
        let members = self.told.members.get(&Room::Federated(room.clone()));
        let nicks = members.into_iter().flatten();
        nicks.map(|nick| Errand::Join {
            room: room.clone(),
            nick: nick.clone(),
        })
    }

    /// Whether somebody waits to be let into `room`, which may be followed then.
    fn is_awaited(&self, room: &FederatedRoom) -> bool {
        self.joins(room).any(|join| self.again.contains(&join))
    }

    /// Has `room` asked for again if that was put off until somebody has joined, and nobody waits
    /// for that any more.
    fn wait_no_longer(&mut self, room: &FederatedRoom, now: Instant) {
        let subscribe = Errand::Subscribe(Room::Federated(room.clone()));
        if self.is_put_off(&subscribe) && !self.is_awaited(room) {
            let room = Room::Federated(room.clone());
            self.again.put(subscribe, &Refusal::NoReader { room }, now);
        }
    }

    /// What to ask so that `room` is followed, unless it is or will be.
    pub(super) fn want(&mut self, room: Room) -> Option<Errand> {
        if let Some(Place::Asked | Place::Followed | Place::Later) = self.rooms.get(&room) {
            return None;
        }
        self.rooms.insert(room.clone(), Place::Asked);
        Some(Errand::Subscribe(room))
    }

    /// Whether there is no point in waiting for messages of `room`.
    pub(super) fn is_out_of_reach(&self, room: &Room) -> bool {
        match self.rooms.get(room) {
            Some(place) => matches!(place, Place::Later | Place::Never),
            // Nobody here is in it. A conversation is followed once the server names it.
            None => matches!(room, Room::Federated(_)),
        }
    }

    /// Whether messages of `room` are what was asked for.
    pub(super) fn is_followed(&self, room: &Room) -> bool {
        self.rooms.get(room) == Some(&Place::Followed)
    }

    /// The server did it. Returns what can be asked now that could not be before.
    pub(super) fn granted(&mut self, errand: &Errand) -> Option<Errand> {
        if let Errand::Subscribe(room) = errand {
            match self.rooms.get_mut(room) {
                Some(place) if *place == Place::Asked => *place = Place::Followed,
                // The room was given up since.
                _ => return None,
            }
        }
        self.forgive(errand);
        match errand {
            Errand::Join { room, .. } => {
                let subscribe = Errand::Subscribe(Room::Federated(room.clone()));
                let put_off = self.is_put_off(&subscribe);
                (put_off && self.makes_sense(&subscribe)).then_some(subscribe)
            }
            _ => None,
        }
    }

    /// Whether it is asked for when somebody has joined, and not before.
    fn is_put_off(&self, subscribe: &Errand) -> bool {
        let Errand::Subscribe(room) = subscribe else {
            return false;
        };
        self.rooms.get(room) == Some(&Place::Later) && !self.again.contains(subscribe)
    }

    /// What came of a room did not follow what is here. It is asked for once more from there; if
    /// that brings nothing better, it is given up for good.
    pub(super) fn missed(&mut self, gap: Gap, now: Instant) -> Option<Errand> {
        let Gap { room, head } = gap;
        let place = self.rooms.get_mut(&room)?;
        if *place != Place::Followed {
            return None;
        }
        if self.gaps.insert(room.clone(), head) != Some(head) {
            warn!(%room, after = %head, "messages are missing, asking for them again");
            *place = Place::Asked;
            return Some(Errand::Subscribe(room));
        }
        let reason = format!("what follows seq {head} is missing");
        let refusal = Refusal::Unreadable { reason };
        self.refused(Errand::Subscribe(room.clone()), &refusal, now);
        Some(Errand::Unsubscribe(room))
    }

    /// The server did not do it.
    pub(super) fn refused(&mut self, errand: Errand, refusal: &Refusal, now: Instant) {
        let is_final = refusal.is_final();
        if let Errand::Subscribe(room) = &errand
            && let Some(place) = self.rooms.get_mut(room)
        {
            *place = if is_final { Place::Never } else { Place::Later };
        }
        if !is_final {
            debug!(?errand, %refusal, "the server cannot do this yet");
            match &errand {
                // Asked once somebody has joined.
                Errand::Subscribe(Room::Federated(room))
                    if matches!(refusal, Refusal::NoReader { .. }) && self.is_awaited(room) => {}
                _ => self.again.put(errand, refusal, now),
            }
            return;
        }
        if let Errand::Join { room, .. } = &errand {
            self.wait_no_longer(room, now);
        }
        warn!(?errand, %refusal, "the server refused a request");
        if let Some(subject) = errand.subject()
            && let Some((room, nick)) = errand.concerns()
        {
            let problem = match refusal {
                Refusal::Diverged { .. } => format!(
                    "{refusal}; start the server once with --new-epoch, so that everybody is told"
                ),
                _ => format!("the server refused {subject}: {refusal}"),
            };
            let refused = RefusedErrand {
                room,
                nick,
                problem,
            };
            self.refusals.insert(subject, refused);
        }
    }

    /// When something is to be asked again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.again.due()
    }

    /// What to ask again now, as far as it still makes sense.
    pub(super) fn retry(&mut self, now: Instant) -> Vec<Errand> {
        let mut errands = self.again.take(now);
        errands.retain(|errand| {
            let makes_sense = self.makes_sense(errand);
            if let Errand::Join { room, .. } = errand
                && !makes_sense
            {
                self.wait_no_longer(room, now);
            }
            makes_sense
        });
        errands
    }

    /// Whether it is still to be asked; a room is then asked for.
    fn makes_sense(&mut self, errand: &Errand) -> bool {
        match errand {
            Errand::Join { room, nick } => self.is_told(room, nick),
            Errand::Leave { room, nick, .. } => !self.is_told(room, nick),
            Errand::Subscribe(room) => match self.rooms.get_mut(room) {
                Some(place) if *place == Place::Later => {
                    *place = Place::Asked;
                    true
                }
                _ => false,
            },
            Errand::Unsubscribe(room) => !self.rooms.contains_key(room),
            Errand::Presence(nick, availability) => {
                let now = self.told.present.get(nick).copied();
                now.unwrap_or(Availability::Offline) == *availability
            }
            Errand::Directs { .. } => true,
        }
    }

    /// What the server refused for good.
    pub(super) fn refusals(&self) -> Vec<RefusedErrand> {
        self.refusals.values().cloned().collect()
    }

    fn is_refused(&self, errand: &Errand) -> bool {
        let subject = errand.subject();
        subject.is_some_and(|subject| self.refusals.contains_key(&subject))
    }

    fn forgive(&mut self, errand: &Errand) {
        if !self.refusals.is_empty()
            && let Some(subject) = errand.subject()
        {
            self.refusals.remove(&subject);
        }
    }

    fn is_told(&self, room: &FederatedRoom, nick: &Nick) -> bool {
        let room = Room::Federated(room.clone());
        let members = self.told.members.get(&room);
        members.is_some_and(|nicks| nicks.contains(nick))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{HostName, federation::TooMany, limits::RECONNECT_MAX};

    fn problem(following: &Following) -> Option<String> {
        following
            .refusals()
            .first()
            .map(|first| first.problem.clone())
    }

    /// After all pauses.
    fn later() -> Instant {
        Instant::now() + RECONNECT_MAX
    }

    fn ops() -> FederatedRoom {
        FederatedRoom::parse("#ops").unwrap()
    }

    fn alice() -> Nick {
        "alice".parse().unwrap()
    }

    fn with_alice() -> Roll {
        let members = [(Room::Federated(ops()), [alice()].into())].into();
        Roll {
            members,
            ..Roll::default()
        }
    }

    fn join() -> Errand {
        Errand::Join {
            room: ops(),
            nick: alice(),
        }
    }

    fn leave() -> Errand {
        Errand::Leave {
            room: ops(),
            nick: alice(),
            up_to: DepartureNumber::default(),
        }
    }

    fn subscribe() -> Errand {
        Errand::Subscribe(Room::Federated(ops()))
    }

    fn unavailable() -> Refusal {
        Refusal::Unavailable {
            reason: "too many open files".to_owned(),
        }
    }

    #[test]
    fn a_room_the_server_could_not_read_is_asked_for_again() {
        let mut following = Following::default();
        let now = Instant::now();
        let room = Room::Federated(ops());
        assert_eq!(following.reconcile(with_alice(), 1), [join(), subscribe()]);
        following.refused(subscribe(), &unavailable(), now);
        assert!(following.is_out_of_reach(&room));
        assert_eq!(problem(&following), None);
        assert!(following.retry_at() > Some(now));
        assert_eq!(following.retry(later()), [subscribe()]);
        assert_eq!(following.granted(&subscribe()), None);
        assert!(!following.is_out_of_reach(&room));
        assert_eq!(following.retry(later()), []);
    }

    #[test]
    fn a_room_refused_for_good_is_a_problem_until_it_is_joined_again() {
        let mut following = Following::default();
        let room = Room::Federated(ops());
        following.reconcile(with_alice(), 1);
        let diverged = Refusal::Diverged {
            room: room.clone(),
            head: Seq::new(3),
        };
        following.refused(subscribe(), &diverged, Instant::now());
        assert_eq!(following.retry(later()), []);
        assert!(following.is_out_of_reach(&room));
        assert!(problem(&following).unwrap().contains("--new-epoch"));
        assert_eq!(following.reconcile(Roll::default(), 2), [leave()]);
        assert_eq!(problem(&following), None);
        assert_eq!(following.reconcile(with_alice(), 3), [join(), subscribe()]);
        following.granted(&subscribe());
        assert!(!following.is_out_of_reach(&room));
    }

    #[test]
    fn a_room_with_a_hole_is_asked_for_once_more_and_then_given_up() {
        let mut following = Following::default();
        let (now, room) = (Instant::now(), Room::Federated(ops()));
        let gap = |head| Gap {
            room: room.clone(),
            head: Seq::new(head),
        };
        following.reconcile(with_alice(), 1);
        assert!(!following.is_followed(&room), "not before the answer");
        following.granted(&subscribe());
        assert!(following.is_followed(&room));
        for head in [3, 5] {
            assert_eq!(following.missed(gap(head), now), Some(subscribe()));
            assert!(!following.is_followed(&room), "what comes now is old");
            assert_eq!(following.missed(gap(head), now), None);
            assert!(!following.is_out_of_reach(&room), "it may come still");
            following.granted(&subscribe());
        }
        let unsubscribe = Errand::Unsubscribe(room.clone());
        assert_eq!(following.missed(gap(5), now), Some(unsubscribe.clone()));
        following.granted(&subscribe());
        assert!(following.is_out_of_reach(&room) && !following.is_followed(&room));
        let told = problem(&following).unwrap();
        assert!(told.contains("#ops") && told.contains("seq 5"), "{told}");
        assert_eq!(following.reconcile(Roll::default(), 2), [leave()]);
        assert_eq!(problem(&following), None);
        // Whoever joins again has the room asked for anew.
        following.reconcile(with_alice(), 3);
        following.granted(&subscribe());
        assert_eq!(following.missed(gap(5), now), Some(subscribe()));
        assert_eq!(
            following.reconcile(Roll::default(), 4),
            [leave(), unsubscribe]
        );
    }

    #[test]
    fn a_refused_membership_is_a_problem_until_it_ends() {
        let mut following = Following::default();
        following.reconcile(with_alice(), 1);
        let refusal = Refusal::NotYours {
            host: HostName::parse("ada").unwrap(),
            room: Room::Federated(ops()),
        };
        following.refused(join(), &refusal, Instant::now());
        assert!(problem(&following).unwrap().contains("alice in #ops"));
        following.reconcile(Roll::default(), 2);
        assert_eq!(problem(&following), None);
    }

    #[test]
    fn a_departure_the_server_could_not_take_is_told_again_unless_the_user_is_back() {
        let mut following = Following::default();
        following.reconcile(with_alice(), 1);
        let gone = following.reconcile(Roll::default(), 2);
        assert_eq!(gone[0], leave());
        following.refused(leave(), &unavailable(), Instant::now());
        assert_eq!(following.retry(later()), [leave()]);
        following.refused(leave(), &unavailable(), Instant::now());
        assert_eq!(following.reconcile(with_alice(), 3), [join(), subscribe()]);
        assert_eq!(following.retry(later()), []);
        following.refused(join(), &unavailable(), Instant::now());
        assert_eq!(following.retry(later()), [join()]);
    }

    #[test]
    fn many_joins_over_a_limit_are_asked_again_bit_by_bit_and_all_are_made() {
        let rooms: Vec<FederatedRoom> = (0..300)
            .map(|number| FederatedRoom::parse(&format!("#room-{number}")).unwrap())
            .collect();
        let members = rooms
            .iter()
            .map(|room| (Room::Federated(room.clone()), [alice()].into()));
        let roll = Roll {
            members: members.collect(),
            ..Roll::default()
        };
        let mut following = Following::default();
        let mut now = Instant::now();
        let too_fast = Refusal::NotYet {
            retry_after_ms: 1_000,
            reason: "alice@ada sends more than 20 messages a second".to_owned(),
        };
        assert_eq!(following.reconcile(roll, 1).len(), 600);
        for room in &rooms {
            let join = Errand::Join {
                room: room.clone(),
                nick: alice(),
            };
            following.refused(join, &too_fast, now);
            let room = Room::Federated(room.clone());
            assert_eq!(following.members_of(&room), [], "they wait already");
            let refusal = Refusal::NoReader { room: room.clone() };
            following.refused(Errand::Subscribe(room), &refusal, now);
        }
        assert_eq!(problem(&following), None, "nothing was refused for good");
        let (mut tries, mut made) = (0, 0);
        while let Some(at) = following.retry_at() {
            assert!(at > now, "there is always a pause");
            now = at;
            // Two of each lot are taken.
            for (index, errand) in following.retry(now).into_iter().enumerate() {
                tries += 1;
                if index >= 2 {
                    following.refused(errand, &too_fast, now);
                    continue;
                }
                let Some(subscribe) = following.granted(&errand) else {
                    panic!("the room can be followed now");
                };
                assert_eq!(following.granted(&subscribe), None);
                made += 1;
            }
        }
        assert_eq!(made, rooms.len());
        assert!(tries < 3 * made, "{tries} tries");
        for room in rooms {
            assert!(following.is_followed(&Room::Federated(room)));
        }
    }

    #[test]
    fn a_room_that_nobody_may_join_is_asked_for_like_any_that_is_not_readable_yet() {
        let mut following = Following::default();
        let now = Instant::now();
        following.reconcile(with_alice(), 1);
        following.refused(join(), &unavailable(), now);
        let room = Room::Federated(ops());
        let no_reader = Refusal::NoReader { room };
        following.refused(subscribe(), &no_reader, now);
        assert_eq!(following.retry(later()), [join()]);
        let too_many = Refusal::TooMany {
            what: TooMany::Rooms,
            max: 1,
        };
        following.refused(join(), &too_many, now);
        assert_eq!(following.retry(later()), [subscribe()]);
    }

    #[test]
    fn who_leaves_while_they_wait_to_be_let_in_keeps_nobody_from_being_asked_for() {
        let mut following = Following::default();
        let now = Instant::now();
        let room = Room::Federated(ops());
        let bob: Nick = "bob".parse().unwrap();
        let with = |nicks: &[&Nick]| Roll {
            members: [(room.clone(), nicks.iter().copied().cloned().collect())].into(),
            ..Roll::default()
        };
        let bob_joins = Errand::Join {
            room: ops(),
            nick: bob.clone(),
        };
        following.reconcile(with(&[&alice(), &bob]), 1);
        following.granted(&bob_joins);
        following.refused(join(), &unavailable(), now);
        assert_eq!(
            following.members_of(&room),
            std::slice::from_ref(&bob_joins)
        );
        // Nobody is in it any more, as far as the server knows.
        let no_reader = Refusal::NoReader { room: room.clone() };
        following.refused(subscribe(), &no_reader, now);
        assert_eq!(following.reconcile(with(&[&bob]), 2), [leave()]);
        assert_eq!(following.members_of(&room), [bob_joins]);
        assert_eq!(following.retry(later()), [], "she is not asked for");
        assert_eq!(following.retry(later() + RECONNECT_MAX), [subscribe()]);
    }

    #[test]
    fn who_was_refused_for_good_is_not_asked_for_with_the_room() {
        let mut following = Following::default();
        let now = Instant::now();
        let room = Room::Federated(ops());
        following.reconcile(with_alice(), 1);
        assert_eq!(following.members_of(&room), [join()]);
        let too_many = Refusal::TooMany {
            what: TooMany::Rooms,
            max: 1,
        };
        following.refused(join(), &too_many, now);
        let no_reader = Refusal::NoReader { room: room.clone() };
        following.refused(subscribe(), &no_reader, now);
        assert_eq!(following.retry(later()), [subscribe()]);
        assert_eq!(following.members_of(&room), []);
    }
}
