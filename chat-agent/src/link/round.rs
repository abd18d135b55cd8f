//! In which order servers are tried.
//!
//! A round tries each server once, one at once after the other; only between rounds there is a wait.
//! Where a round begins is each agent's own matter, so that the agents of many hosts do not all meet
//! at the first server of their line, nor, when a server ends, all at the one behind it.

use protocol::{AgentId, ServerAddress};
use std::{
    cmp::Reverse,
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// How a try ended that did not last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server was not there, or not any more, or had something against this agent.
    Failed,
    /// The server wants its agents to be elsewhere, for this long at least.
    SentAway(Duration),
}

/// Whose turn it is. Servers are known by their index in the list that the round is for.
#[derive(Debug)]
pub(super) struct Round {
    untried: VecDeque<usize>,
    tried: Vec<(usize, Ended)>,
}

impl Round {
    /// The first round of `agent` through `servers`.
    ///
    /// Neighbours in the list that are known by the same are taken for servers of one log: their
    /// order is one of chance, the same for this agent whenever it starts. Others are tried in the
    /// order they are in.
    pub(super) fn new(servers: &[ServerAddress], agent: AgentId) -> Self {
        let mut log = 0;
        let mut ranked: Vec<_> = Vec::with_capacity(servers.len());
        for (index, server) in servers.iter().enumerate() {
            let before = index.checked_sub(1).and_then(|index| servers.get(index));
            if before.is_some_and(|before| !before.trust.agrees(&server.trust)) {
                log += 1;
            }
            ranked.push((log, Reverse(weight(agent, server)), index));
        }
        ranked.sort_unstable();
        Self {
            untried: ranked.into_iter().map(|(_, _, index)| index).collect(),
            tried: Vec::new(),
        }
    }

    /// The server to try now; `None` if each was tried in this round. Its end is to be told.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.untried.pop_front()
    }

    /// Whether another server is left for this round.
    pub(super) fn has_more(&self) -> bool {
        !self.untried.is_empty()
    }

    /// The try of `server` has ended.
    pub(super) fn ended(&mut self, server: usize, how: Ended) {
        self.tried.push((server, how));
    }

    /// How long the servers of this round that sent this agent away are to be left alone.
    pub(super) fn told(&self) -> Option<Duration> {
        let told = self.tried.iter().filter_map(|(_, how)| match how {
            Ended::SentAway(told) => Some(*told),
            Ended::Failed => None,
        });
        told.max()
    }

    /// Begins a round in which each may be tried again: those that are left of this one first, those
    /// that sent this agent away last.
    pub(super) fn renew(&mut self) {
        // Stable: otherwise they go on in their order.
        self.tried
            .sort_by_key(|(_, how)| matches!(how, Ended::SentAway(_)));
        let again = self.tried.drain(..).map(|(server, _)| server);
        self.untried.extend(again);
    }
}

/// How much `agent` is drawn to `server`, by chance: the order of the others is the same without it,
/// so the agents of one that ends spread over all that are left.
fn weight(agent: AgentId, server: &ServerAddress) -> u64 {
    let mut hasher = DefaultHasher::new();
    agent.to_bytes().hash(&mut hasher);
    server.place().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::{KeyFingerprint, ServerLine};
    use std::collections::HashMap;

    const AWAY: Ended = Ended::SentAway(Duration::from_millis(500));

    fn servers(lines: &[&str]) -> Vec<ServerAddress> {
        let lines = lines.iter().map(|line| ServerLine::parse(line).unwrap());
        lines.flat_map(ServerLine::servers).collect()
    }

    fn agent(number: u16) -> AgentId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        AgentId::from_bytes(bytes)
    }

    /// A round through servers that are tried in this order.
    fn round<const N: usize>(order: [usize; N]) -> Round {
        Round {
            untried: order.into(),
            tried: Vec::new(),
        }
    }

    fn rest(round: &mut Round) -> Vec<usize> {
        std::iter::from_fn(|| round.next()).collect()
    }

    #[test]
    fn each_is_tried_once_before_any_is_tried_again() {
        let mut round = round([2, 0, 1]);
        for server in [2, 0, 1] {
            assert_eq!(round.next(), Some(server));
            round.ended(server, Ended::Failed);
        }
        assert!(!round.has_more());
        assert_eq!(round.next(), None);
        round.renew();
        assert_eq!(rest(&mut round), [2, 0, 1]);
    }

    #[test]
    fn after_a_connection_the_others_come_first() {
        let mut round = round([0, 1, 2, 3]);
        assert_eq!(round.next(), Some(0));
        round.ended(0, Ended::Failed);
        assert_eq!(round.next(), Some(1));
        // It lasted: whatever was before is forgotten.
        round.renew();
        round.ended(1, Ended::Failed);
        assert_eq!(rest(&mut round), [2, 3, 0]);
    }

    #[test]
    fn the_only_server_is_not_tried_again_without_a_wait() {
        let mut round = round([0]);
        assert_eq!(round.next(), Some(0));
        round.renew();
        round.ended(0, AWAY);
        assert_eq!(round.next(), None);
        assert_eq!(round.told(), Some(Duration::from_millis(500)));
        round.renew();
        assert_eq!(round.told(), None);
        assert_eq!(round.next(), Some(0));
    }

    #[test]
    fn a_server_that_sent_its_agents_away_is_the_last_of_the_next_round() {
        let mut round = round([0, 1, 2]);
        for how in [AWAY, Ended::Failed, Ended::Failed] {
            let server = round.next().unwrap();
            round.ended(server, how);
        }
        round.renew();
        assert_eq!(rest(&mut round), [1, 2, 0]);
    }

    #[test]
    fn agents_are_spread_over_the_servers_of_a_log_and_over_the_rest_when_one_ends() {
        let all = servers(&["plain://a,b,c,d"]);
        let mut first: HashMap<usize, u32> = HashMap::new();
        let mut after_the_first: HashMap<[usize; 2], u32> = HashMap::new();
        for number in 0..4_000 {
            let mut round = Round::new(&all, agent(number));
            let order = [round.next().unwrap(), round.next().unwrap()];
            *first.entry(order[0]).or_default() += 1;
            *after_the_first.entry(order).or_default() += 1;
        }
        // A thousand each, and a third of these for each of the others: within a fifth.
        assert_eq!(first.len(), 4);
        assert!(
            first.values().all(|n| (800..1_200).contains(n)),
            "{first:?}"
        );
        assert_eq!(after_the_first.len(), 12);
        let fair = |n: &u32| (266..400).contains(n);
        assert!(after_the_first.values().all(fair), "{after_the_first:?}");
    }

    #[test]
    fn an_agent_begins_where_it_began_before_also_when_servers_come_and_go() {
        let before = servers(&["plain://a,b,c"]);
        let after = servers(&["plain://c,x,a,b"]);
        for number in 0..100 {
            let order = |of: &[ServerAddress]| -> Vec<String> {
                let order = rest(&mut Round::new(of, agent(number)));
                let places = order.into_iter().map(|index| of[index].place().to_owned());
                places.filter(|place| place != "x:7667").collect()
            };
            assert_eq!(order(&before), order(&after));
        }
    }

    #[test]
    fn another_log_s_servers_come_when_those_of_the_first_line_were_tried() {
        let [one, two] = [b"one", b"two"].map(|key| KeyFingerprint::of_spki(key));
        let first = format!("chat://a,b,c/{one}");
        // The same key, although its next one was heard of only there.
        let same = format!("chat://d/{one}+{two}");
        let all = servers(&[&first, &same, "plain://x,y"]);
        for number in 0..100 {
            let order = rest(&mut Round::new(&all, agent(number)));
            let (log, other) = order.split_at(4);
            assert!(log.iter().all(|index| *index < 4), "{order:?}");
            assert!(other.iter().all(|index| *index >= 4), "{order:?}");
        }
    }

    proptest! {
        /// Whatever happens, no server is forgotten, and nobody waits before each had its turn.
        #[test]
        fn every_server_has_its_turn(
            count in 1_usize..8,
            happens in prop::collection::vec((any::<bool>(), any::<bool>()), 0..60),
        ) {
            let places: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
            let all = servers(&[&format!("plain://{}", places.join(","))]);
            let mut round = Round::new(&all, agent(7));
            let mut since_last_wait = 0;
            for (lasted, away) in happens {
                let Some(server) = round.next() else {
                    prop_assert!(since_last_wait >= count);
                    since_last_wait = 0;
                    round.renew();
                    continue;
                };
                since_last_wait += 1;
                if lasted {
                    round.renew();
                }
                round.ended(server, if away { AWAY } else { Ended::Failed });
                let mut known: Vec<usize> = round.untried.iter().copied().collect();
                known.extend(round.tried.iter().map(|(server, _)| *server));
                known.sort_unstable();
                prop_assert_eq!(known, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
