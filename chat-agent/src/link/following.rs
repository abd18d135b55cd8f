//! What the server was told of this host's people, and the rooms it was asked for.
//!
//! An [`Errand`] is one thing to ask. The server grants it, refuses it for good (which is a
//! problem to show), or refuses it for now: then it is asked again after a pause, if it still
//! makes sense.

use super::{
    roll_call::{self, News},
    sending::pause_after,
};
use crate::{
    hub::Roll,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    again: Vec<Errand>,
    retry_at: Option<Instant>,
    /// What was refused for good, and why.
    refusals: BTreeMap<String, String>,
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

    /// What it is about, if a refusal is for people to know.
    fn subject(&self) -> Option<String> {
        match self {
            Self::Join { room, nick } => Some(format!("{nick} in {room}")),
            Self::Subscribe(room) => Some(room.to_string()),
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

    /// What to ask to know whether this host's members of `room` still are.
    pub(super) fn members_of(&self, room: &Room) -> Vec<Errand> {
        let Room::Federated(name) = room else {
            return Vec::new();
        };
        let nicks = self.told.members.get(room).into_iter().flatten();
        nicks
            .map(|nick| Errand::Join {
                room: name.clone(),
                nick: nick.clone(),
            })
            .collect()
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

    /// The server did it.
    pub(super) fn granted(&mut self, errand: &Errand) {
        if let Errand::Subscribe(room) = errand {
            match self.rooms.get_mut(room) {
                Some(place) if *place == Place::Asked => *place = Place::Followed,
                // The room was given up since.
                _ => return,
            }
        }
        self.forgive(errand);
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
            // What is refused while a pause runs is asked again at its end.
            self.retry_at
                .get_or_insert_with(|| now + pause_after(refusal));
            self.again.push(errand);
            return;
        }
        warn!(?errand, %refusal, "the server refused a request");
        if let Some(subject) = errand.subject() {
            let problem = match refusal {
                Refusal::Diverged { .. } => format!(
                    "{refusal}; start the server once with --new-epoch, so that everybody is told"
                ),
                _ => format!("the server refused {subject}: {refusal}"),
            };
            self.refusals.insert(subject, problem);
        }
    }

    /// When something is to be asked again.
    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// What to ask again, as far as it still makes sense.
    pub(super) fn retry(&mut self) -> Vec<Errand> {
        self.retry_at = None;
        let mut again = std::mem::take(&mut self.again);
        again.retain(|errand| match errand {
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
        });
        again
    }

    /// What the server refused for good, for people.
    pub(super) fn problem(&self) -> Option<String> {
        let first = self.refusals.values().next()?;
        Some(match self.refusals.len() - 1 {
            0 => first.clone(),
            more => format!("{first} (and {more} more like this)"),
        })
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
    use protocol::HostName;

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
        assert_eq!(following.problem(), None);
        assert!(following.retry_at() > Some(now));
        assert_eq!(following.retry(), [subscribe()]);
        assert_eq!(following.retry_at(), None);
        following.granted(&subscribe());
        assert!(!following.is_out_of_reach(&room));
        assert_eq!(following.retry(), []);
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
        assert_eq!(following.retry(), []);
        assert!(following.is_out_of_reach(&room));
        assert!(following.problem().unwrap().contains("--new-epoch"));
        assert_eq!(following.reconcile(Roll::default(), 2), [leave()]);
        assert_eq!(following.problem(), None);
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
        let problem = following.problem().unwrap();
        assert!(
            problem.contains("#ops") && problem.contains("seq 5"),
            "{problem}"
        );
        assert_eq!(following.reconcile(Roll::default(), 2), [leave()]);
        assert_eq!(following.problem(), None);
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
        assert!(following.problem().unwrap().contains("alice in #ops"));
        following.reconcile(Roll::default(), 2);
        assert_eq!(following.problem(), None);
    }

    #[test]
    fn a_departure_the_server_could_not_take_is_told_again_unless_the_user_is_back() {
        let mut following = Following::default();
        following.reconcile(with_alice(), 1);
        let gone = following.reconcile(Roll::default(), 2);
        assert_eq!(gone[0], leave());
        following.refused(leave(), &unavailable(), Instant::now());
        assert_eq!(following.retry(), [leave()]);
        following.refused(leave(), &unavailable(), Instant::now());
        assert_eq!(following.reconcile(with_alice(), 3), [join(), subscribe()]);
        assert_eq!(following.retry(), []);
        following.refused(join(), &unavailable(), Instant::now());
        assert_eq!(following.retry(), [join()]);
    }
}
