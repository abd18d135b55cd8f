//! What the other servers of the cluster have told, for as long as they are heard of.
//!
//! A state machine of messages and time, without I/O. What a server told ends when it says goodbye,
//! or has not been heard of for [`LEASE`]. Its changes are numbered: when one is missing, everything
//! is asked for. While this server is cut off itself, silence says nothing of them: then whoever was
//! behind them is not offline, but unknown.
//!
//! Who has the seat of a host is settled here, too, when two servers gave it away at the same moment:
//! both come to the same answer without asking anybody.

use super::news::{Change, News, Seat, ServerId, Since, What, is_too_many};
use protocol::{
    AgentId, Availability, HostName, Nick, UserName, federation::Refusal, limits::MAX_AGENTS,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};
use tracing::{debug, warn};

/// How often a server says that it is there.
pub(crate) const BEAT: Duration = Duration::from_secs(1);

/// How long what a server told is believed after it was heard of last: a few beats, so that one that
/// is lost or late means nothing, and no longer than people look at a name before they wonder.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// How long an answer to "tell me everything" may take before it is asked again.
const ASK_AGAIN: Duration = BEAT;

/// Servers that are listened to. Further ones are not believed.
const MAX_SERVERS: usize = 64;

/// What the others have told.
#[derive(Debug)]
pub(crate) struct Neighbours {
    us: ServerId,
    servers: HashMap<ServerId, Neighbour>,
    line: Line,
    /// Users behind servers that fell silent when this one was cut off: all unknown.
    lost: BTreeMap<HostName, BTreeMap<Nick, Availability>>,
}

/// Whether this server could hear others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Whoever is not heard is not there.
    Well,
    /// Nobody can be heard since then.
    Cut(Instant),
    /// They can since then, and may not have said anything yet.
    Back(Instant),
}

#[derive(Debug)]
struct Neighbour {
    name: String,
    heard: Instant,
    /// The number of what it told last, if nothing before that is missing.
    number: Option<u64>,
    asked: Option<Instant>,
    seats: HashMap<HostName, Seat>,
    /// It is telling everything.
    telling: Option<Telling>,
}

#[derive(Debug)]
struct Telling {
    number: u64,
    next_part: u32,
    told: HashSet<HostName>,
}

/// What follows from what was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// How users of hosts without a seat here are now, where that has changed.
    pub(crate) users: Vec<(UserName, Availability)>,
    /// Hosts that have got a seat elsewhere.
    pub(crate) seated: Vec<HostName>,
    /// Whom to ask for everything.
    pub(crate) ask: Option<ServerId>,
    /// Whether this server is to tell everything.
    pub(crate) tell: bool,
}

/// Another living agent has the host's name, at another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InUseElsewhere;

impl Neighbours {
    /// Nobody was heard yet by the server `us`.
    pub(crate) fn new(us: ServerId) -> Self {
        Self {
            us,
            servers: HashMap::new(),
            line: Line::Well,
            lost: BTreeMap::new(),
        }
    }

    /// Nobody can be heard from `now` on.
    pub(crate) fn cut_off(&mut self, now: Instant) {
        if !matches!(self.line, Line::Cut(_)) {
            self.line = Line::Cut(now);
        }
    }

    /// Others can be heard again from `now` on.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.line = Line::Back(now);
    }

    /// Takes in what another server told.
    pub(crate) fn hear(&mut self, news: News, now: Instant) -> Heard {
        let News { from, name, what } = news;
        let mut heard = Heard::default();
        if from == self.us {
            return heard;
        }
        match what {
            What::Ask { of } => {
                heard.tell = of.is_none_or(|asked| asked == self.us);
                return heard;
            }
            What::Goodbye => {
                self.forget(from, &mut heard);
                return heard;
            }
            What::Alive { .. } | What::Changed { .. } | What::Everything { .. } => {}
        }
        let crowded = self.servers.len() >= MAX_SERVERS;
        let neighbour = match self.servers.get_mut(&from) {
            Some(neighbour) => neighbour,
            None if crowded => {
                warn!(server = %name, max = MAX_SERVERS, "too many servers, one is not heard");
                return heard;
            }
            None => self.servers.entry(from).or_insert(Neighbour {
                name: String::new(),
                heard: now,
                number: None,
                asked: None,
                seats: HashMap::new(),
                telling: None,
            }),
        };
        neighbour.name = name;
        neighbour.heard = now;
        let complete = match what {
            What::Alive { number } => neighbour.number == Some(number),
            What::Changed { number, hosts } => {
                let follows = neighbour.number.is_some_and(|before| before + 1 == number);
                if follows {
                    neighbour.number = Some(number);
                    for (host, change) in hosts {
                        self.change(from, host, change, &mut heard);
                    }
                }
                follows
            }
            What::Everything {
                number,
                part,
                last,
                hosts,
            } => {
                if part == 0 {
                    neighbour.telling = Some(Telling {
                        number,
                        next_part: 0,
                        told: HashSet::new(),
                    });
                }
                self.everything(from, (number, part, last), hosts, &mut heard)
            }
            What::Ask { .. } | What::Goodbye => true,
        };
        if !complete
            && let Some(neighbour) = self.servers.get_mut(&from)
            && neighbour.asked.is_none_or(|asked| asked + ASK_AGAIN <= now)
        {
            neighbour.asked = Some(now);
            heard.ask = Some(from);
        }
        heard
    }

    /// Takes in a part of everything; returns whether none is missing so far.
    fn everything(
        &mut self,
        from: ServerId,
        (number, part, last): (u64, u32, bool),
        hosts: BTreeMap<HostName, Seat>,
        heard: &mut Heard,
    ) -> bool {
        let Some(neighbour) = self.servers.get_mut(&from) else {
            return false;
        };
        // What is known is half old and half new until the last part.
        neighbour.number = None;
        let Some(mut telling) = neighbour.telling.take() else {
            return false;
        };
        let fits = telling.told.len() + hosts.len() <= MAX_AGENTS;
        if telling.number != number || telling.next_part != part || !fits {
            return false;
        }
        telling.next_part += 1;
        for (host, seat) in hosts {
            telling.told.insert(host.clone());
            self.put(from, host, Some(seat), heard);
        }
        let Some(neighbour) = self.servers.get_mut(&from) else {
            return false;
        };
        if !last {
            neighbour.telling = Some(telling);
            return true;
        }
        neighbour.number = Some(number);
        neighbour.asked = None;
        let left = neighbour
            .seats
            .keys()
            .filter(|host| !telling.told.contains(*host));
        for host in left.cloned().collect::<Vec<_>>() {
            self.put(from, host, None, heard);
        }
        true
    }

    fn change(&mut self, from: ServerId, host: HostName, change: Change, heard: &mut Heard) {
        let told = match change {
            Change::Seated(seat) => return self.put(from, host, Some(seat), heard),
            Change::Left => return self.put(from, host, None, heard),
            Change::Users(told) => told,
        };
        let before: Vec<_> = told.keys().map(|nick| self.of(&host, nick)).collect();
        let neighbour = self.servers.get_mut(&from);
        let Some(seat) = neighbour.and_then(|neighbour| neighbour.seats.get_mut(&host)) else {
            return debug!(%host, "users of a host that nobody spoke of");
        };
        for (nick, availability) in &told {
            set(&mut seat.users, nick, *availability);
        }
        for (nick, before) in told.into_keys().zip(before) {
            let after = self.of(&host, &nick);
            if after != before {
                let user = UserName::new(nick, host.clone());
                heard.users.push((user, after));
            }
        }
    }

    /// `host` has this seat at `from` now, or none.
    fn put(&mut self, from: ServerId, host: HostName, seat: Option<Seat>, heard: &mut Heard) {
        let Some(neighbour) = self.servers.get(&from) else {
            return;
        };
        if neighbour.seats.get(&host) == seat.as_ref() {
            return;
        }
        if seat.as_ref().is_some_and(|seat| is_too_many(&seat.users)) {
            return warn!(%host, "a host with too many users is not heard of");
        }
        let before = self.users(&host);
        let Some(neighbour) = self.servers.get_mut(&from) else {
            return;
        };
        let full = neighbour.seats.len() >= MAX_AGENTS && !neighbour.seats.contains_key(&host);
        match seat {
            Some(_) if full => return warn!(%host, "too many hosts, one is not heard of"),
            Some(seat) => {
                neighbour.seats.insert(host.clone(), seat);
                self.lost.remove(&host);
                heard.seated.push(host.clone());
            }
            None => drop(neighbour.seats.remove(&host)),
        }
        heard
            .users
            .extend(differences(&host, &before, &self.users(&host)));
    }

    fn forget(&mut self, server: ServerId, heard: &mut Heard) {
        let hosts = self.servers.get(&server).map(|neighbour| {
            let hosts = neighbour.seats.keys().cloned();
            hosts.collect::<Vec<_>>()
        });
        for host in hosts.unwrap_or_default() {
            self.put(server, host, None, heard);
        }
        self.servers.remove(&server);
    }

    /// What is known of the users behind `server` is that they were there.
    fn lose(&mut self, server: ServerId) {
        let Some(neighbour) = self.servers.get(&server) else {
            return;
        };
        for (host, seat) in &neighbour.seats {
            let users = seat.users.keys();
            let users = users.map(|nick| (nick.clone(), Availability::Unknown));
            self.lost.insert(host.clone(), users.collect());
        }
    }

    /// Whoever has not been heard of by now is not there.
    fn find(&mut self, heard: &mut Heard) {
        self.line = Line::Well;
        for host in self.lost.keys().cloned().collect::<Vec<_>>() {
            let before = self.users(&host);
            self.lost.remove(&host);
            let found = differences(&host, &before, &self.users(&host));
            heard.users.extend(found);
        }
    }

    /// Forgets servers that were not heard of for [`LEASE`]; also returns their names.
    pub(crate) fn expire(&mut self, now: Instant) -> (Heard, Vec<String>) {
        let mut heard = Heard::default();
        let silent = self
            .servers
            .iter()
            .filter(|(_, one)| one.heard + LEASE <= now);
        let silent: Vec<(ServerId, String)> =
            silent.map(|(id, one)| (*id, one.name.clone())).collect();
        for (server, _) in &silent {
            if self.line != Line::Well {
                self.lose(*server);
            }
            self.forget(*server, &mut heard);
        }
        if matches!(self.line, Line::Back(since) if since + LEASE <= now) {
            self.find(&mut heard);
        }
        (heard, silent.into_iter().map(|(_, name)| name).collect())
    }

    /// Since when `agent` has the seat of `host` at this server if it takes it at `now`: later than
    /// whatever is known elsewhere, so that it counts there, too, wherever clocks go wrong.
    ///
    /// # Errors
    ///
    /// [`InUseElsewhere`].
    pub(crate) fn enter(
        &self,
        host: &HostName,
        agent: AgentId,
        now: Since,
    ) -> Result<Since, InUseElsewhere> {
        let mut since = now;
        for (_, seat) in self.seats(host) {
            if seat.agent != agent {
                return Err(InUseElsewhere);
            }
            since = since.max(Since(seat.since.0.saturating_add(1)));
        }
        Ok(since)
    }

    /// Why `agent`, which has the seat of `host` here, must give it up, if it must: it came back
    /// elsewhere, or another one was there before.
    pub(crate) fn verdict(&self, host: &HostName, agent: AgentId, since: Since) -> Option<Refusal> {
        let ours = (since, self.us);
        self.seats(host).find_map(|(server, seat)| {
            let theirs = (seat.since, server);
            if seat.agent == agent {
                (theirs > ours).then_some(Refusal::Replaced)
            } else {
                (theirs < ours).then(|| Refusal::HostInUse { host: host.clone() })
            }
        })
    }

    /// Whether `user` is there, as others tell.
    pub(crate) fn availability(&self, user: &UserName) -> Availability {
        self.of(&user.host, &user.nick)
    }

    fn of(&self, host: &HostName, nick: &Nick) -> Availability {
        let found = self.known(host).and_then(|users| users.get(nick));
        found.copied().unwrap_or(Availability::Offline)
    }

    /// Who of `host` is there, as others tell, or was when they could be heard.
    pub(crate) fn users(&self, host: &HostName) -> BTreeMap<Nick, Availability> {
        self.known(host).cloned().unwrap_or_default()
    }

    fn known(&self, host: &HostName) -> Option<&BTreeMap<Nick, Availability>> {
        match self.newest(host) {
            Some((_, seat)) => Some(&seat.users),
            None => self.lost.get(host),
        }
    }

    /// What people call the server where `host` is connected.
    pub(crate) fn server_of(&self, host: &HostName) -> Option<&str> {
        let (server, _) = self.newest(host)?;
        self.servers.get(&server).map(|found| found.name.as_str())
    }

    /// The servers that are heard, by name, and how many hosts are connected to each.
    pub(crate) fn servers(&self) -> Vec<(String, usize)> {
        let all = self.servers.values();
        let mut servers: Vec<_> = all.map(|one| (one.name.clone(), one.seats.len())).collect();
        servers.sort();
        servers
    }

    fn seats(&self, host: &HostName) -> impl Iterator<Item = (ServerId, &Seat)> {
        let all = self.servers.iter();
        all.filter_map(move |(server, one)| Some((*server, one.seats.get(host)?)))
    }

    /// Where an agent has failed over, this is the living end.
    fn newest(&self, host: &HostName) -> Option<(ServerId, &Seat)> {
        self.seats(host)
            .max_by_key(|(server, seat)| (seat.since, *server))
    }
}

fn set(users: &mut BTreeMap<Nick, Availability>, nick: &Nick, availability: Availability) {
    match availability {
        Availability::Offline | Availability::Unknown => drop(users.remove(nick)),
        Availability::Online | Availability::Away => {
            users.insert(nick.clone(), availability);
            if is_too_many(users) {
                users.remove(nick);
            }
        }
    }
}

/// How users of `host` are in `after`, where that is not what it was in `before`.
pub(crate) fn differences(
    host: &HostName,
    before: &BTreeMap<Nick, Availability>,
    after: &BTreeMap<Nick, Availability>,
) -> Vec<(UserName, Availability)> {
    let gone = before.keys().filter(|nick| !after.contains_key(*nick));
    let gone = gone.map(|nick| (nick, Availability::Offline));
    let came = after
        .iter()
        .filter(|(nick, now)| before.get(*nick) != Some(*now));
    let came = came.map(|(nick, now)| (nick, *now));
    gone.chain(came)
        .map(|(nick, now)| (UserName::new(nick.clone(), host.clone()), now))
        .collect()
}

#[cfg(test)]
mod tests;
