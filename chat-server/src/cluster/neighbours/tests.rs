use super::*;

const US: ServerId = ServerId(10);
const THEM: ServerId = ServerId(20);
const OTHERS: ServerId = ServerId(5);

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn seat(agent: AgentId, since: u64, users: &[&str]) -> Seat {
    let online = |nick: &&str| (nick.parse().unwrap(), Availability::Online);
    Seat {
        agent,
        since: Since(since),
        users: users.iter().map(online).collect(),
    }
}

fn from(server: ServerId, what: What) -> News {
    News {
        from: server,
        name: format!("server-{}", server.0),
        what,
    }
}

fn seated(number: u64, name: &str, seat: Seat) -> What {
    let hosts = [(host(name), Change::Seated(seat))].into();
    What::Changed { number, hosts }
}

fn everything(number: u64, part: u32, last: bool, seats: &[(&str, Seat)]) -> What {
    let hosts = seats.iter().map(|(name, seat)| (host(name), seat.clone()));
    What::Everything {
        number,
        part,
        last,
        hosts: hosts.collect(),
    }
}

fn user(text: &str) -> UserName {
    text.parse().unwrap()
}

/// Neighbours that know everything of `THEM` up to number 1.
fn acquainted(now: Instant, seats: &[(&str, Seat)]) -> Neighbours {
    let mut neighbours = Neighbours::new(US);
    neighbours.hear(from(THEM, everything(1, 0, true, seats)), now);
    neighbours
}

#[test]
fn what_a_server_told_ends_when_it_is_not_heard_of_any_more() {
    let start = Instant::now();
    let mut neighbours = acquainted(start, &[("ada", seat(AgentId::new(), 1, &["alice"]))]);
    assert_eq!(
        neighbours.availability(&user("alice@ada")),
        Availability::Online
    );
    let later = start + LEASE - Duration::from_millis(1);
    assert_eq!(neighbours.expire(later), (Heard::default(), Vec::new()));
    neighbours.hear(from(THEM, What::Alive { number: 1 }), later);
    assert_eq!(neighbours.expire(start + LEASE).1, Vec::<String>::new());
    let (heard, lost) = neighbours.expire(later + LEASE);
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Offline)]);
    assert_eq!(lost, ["server-20"]);
    assert_eq!(neighbours.servers(), []);
}

#[test]
fn users_behind_servers_that_cannot_be_heard_are_unknown_until_they_could_have_been() {
    let start = Instant::now();
    let agent = AgentId::new();
    let seats = [
        ("ada", seat(agent, 1, &["alice", "al"])),
        ("bee", seat(AgentId::new(), 1, &["bob"])),
    ];
    let mut neighbours = acquainted(start, &seats);
    neighbours.cut_off(start);
    let cut = start + LEASE;
    let (heard, _) = neighbours.expire(cut);
    let unknown = |text: &str| (user(text), Availability::Unknown);
    let told: Vec<_> = ["al@ada", "alice@ada", "bob@bee"].map(unknown).into();
    let mut users = heard.users;
    users.sort();
    assert_eq!(users, told);
    assert_eq!(
        neighbours.availability(&user("bob@bee")),
        Availability::Unknown
    );
    // One host comes back with one of its users, of the other one nobody speaks.
    neighbours.reconnected(cut);
    let back = everything(2, 0, true, &[("ada", seat(agent, 1, &["alice"]))]);
    let heard = neighbours.hear(from(THEM, back), cut);
    let offline = |text: &str| (user(text), Availability::Offline);
    let online = (user("alice@ada"), Availability::Online);
    assert_eq!(heard.users, [offline("al@ada"), online]);
    neighbours.hear(from(THEM, What::Alive { number: 2 }), cut + BEAT);
    let (heard, _) = neighbours.expire(cut + LEASE);
    assert_eq!(heard.users, [offline("bob@bee")]);
    // From then on, who is silent is not there.
    let (heard, _) = neighbours.expire(cut + 2 * LEASE);
    assert_eq!(heard.users, [offline("alice@ada")]);
}

#[test]
fn a_goodbye_ends_it_at_once() {
    let now = Instant::now();
    let mut neighbours = acquainted(now, &[("ada", seat(AgentId::new(), 1, &["alice"]))]);
    let heard = neighbours.hear(from(THEM, What::Goodbye), now);
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Offline)]);
    assert_eq!(neighbours.server_of(&host("ada")), None);
}

#[test]
fn a_change_that_was_missed_is_noticed_and_everything_asked_for_once() {
    let now = Instant::now();
    let agent = AgentId::new();
    let mut neighbours = acquainted(now, &[("ada", seat(agent, 1, &["alice"]))]);
    // Number 2 was lost.
    let third = seated(3, "bee", seat(AgentId::new(), 1, &["bob"]));
    let heard = neighbours.hear(from(THEM, third), now);
    assert_eq!(heard.ask, Some(THEM));
    assert_eq!(
        neighbours.availability(&user("bob@bee")),
        Availability::Offline
    );
    let fourth = seated(4, "cow", seat(AgentId::new(), 1, &[]));
    assert_eq!(neighbours.hear(from(THEM, fourth), now).ask, None);
    let still = neighbours.hear(from(THEM, What::Alive { number: 4 }), now + ASK_AGAIN);
    assert_eq!(still.ask, Some(THEM));

    let bob = seat(AgentId::new(), 1, &["bob"]);
    let told = everything(4, 0, false, &[("bee", bob)]);
    neighbours.hear(from(THEM, told), now);
    assert_eq!(neighbours.server_of(&host("ada")), Some("server-20"));
    let told = everything(4, 1, true, &[("cow", seat(AgentId::new(), 1, &[]))]);
    let heard = neighbours.hear(from(THEM, told), now);
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Offline)]);
    assert_eq!(neighbours.server_of(&host("ada")), None);
    assert_eq!(neighbours.servers(), [("server-20".to_owned(), 2)]);
    let heard = neighbours.hear(from(THEM, What::Alive { number: 4 }), now);
    assert_eq!(heard, Heard::default());
}

#[test]
fn a_part_that_is_missing_is_asked_for_again() {
    let now = Instant::now();
    let mut neighbours = Neighbours::new(US);
    let heard = neighbours.hear(from(THEM, What::Alive { number: 7 }), now);
    assert_eq!(heard.ask, Some(THEM));
    neighbours.hear(from(THEM, everything(7, 0, false, &[])), now);
    let later = now + ASK_AGAIN;
    let heard = neighbours.hear(from(THEM, everything(7, 2, true, &[])), later);
    assert_eq!(heard.ask, Some(THEM));
}

#[test]
fn a_newcomer_is_told_everything_and_so_is_who_asks_this_server() {
    let now = Instant::now();
    let mut neighbours = Neighbours::new(US);
    for (of, tell) in [(None, true), (Some(US), true), (Some(THEM), false)] {
        let heard = neighbours.hear(from(OTHERS, What::Ask { of }), now);
        assert_eq!(heard.tell, tell, "{of:?}");
    }
    let own = neighbours.hear(from(US, What::Ask { of: None }), now);
    assert_eq!(own, Heard::default());
}

#[test]
fn comings_and_goings_of_users_are_news_once() {
    let now = Instant::now();
    let mut neighbours = acquainted(now, &[("ada", seat(AgentId::new(), 1, &["alice"]))]);
    let users = |number, availability| {
        let users = [("alice".parse().unwrap(), availability)].into();
        let hosts = [(host("ada"), Change::Users(users))].into();
        from(THEM, What::Changed { number, hosts })
    };
    let heard = neighbours.hear(users(2, Availability::Online), now);
    assert_eq!(heard.users, []);
    let heard = neighbours.hear(users(3, Availability::Away), now);
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Away)]);
    let heard = neighbours.hear(users(4, Availability::Offline), now);
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Offline)]);
}

#[test]
fn an_agent_that_failed_over_is_where_it_came_last_and_the_old_end_is_told_so() {
    let now = Instant::now();
    let agent = AgentId::new();
    let mut neighbours = acquainted(now, &[("ada", seat(agent, 100, &["alice"]))]);
    // The clock of this server is behind.
    let since = neighbours.enter(&host("ada"), agent, Since(3)).unwrap();
    assert_eq!(since, Since(101));
    assert_eq!(neighbours.verdict(&host("ada"), agent, since), None);
    // It goes on to a third one.
    let moved = everything(1, 0, true, &[("ada", seat(agent, 102, &[]))]);
    let heard = neighbours.hear(from(OTHERS, moved), now);
    assert_eq!(heard.seated, [host("ada")]);
    assert_eq!(
        neighbours.verdict(&host("ada"), agent, since),
        Some(Refusal::Replaced)
    );
    assert_eq!(heard.users, [(user("alice@ada"), Availability::Offline)]);
    assert_eq!(neighbours.server_of(&host("ada")), Some("server-5"));
}

#[test]
fn another_agent_is_refused_while_the_first_is_connected_anywhere() {
    let now = Instant::now();
    let mut neighbours = acquainted(now, &[("ada", seat(AgentId::new(), 1, &[]))]);
    let stranger = AgentId::new();
    let refused = neighbours.enter(&host("ada"), stranger, Since(9));
    assert_eq!(refused, Err(InUseElsewhere));
    neighbours.hear(from(THEM, What::Goodbye), now);
    let entered = neighbours.enter(&host("ada"), stranger, Since(9));
    assert_eq!(entered, Ok(Since(9)));
}

#[test]
fn of_two_agents_that_two_servers_let_in_at_once_both_servers_keep_the_same_one() {
    let now = Instant::now();
    let (one, other) = (AgentId::new(), AgentId::new());
    for (ours, theirs) in [(1, 2), (2, 1), (1, 1)] {
        let here = acquainted(now, &[("ada", seat(other, theirs, &[]))]);
        let mut there = Neighbours::new(THEM);
        let told = everything(1, 0, true, &[("ada", seat(one, ours, &[]))]);
        there.hear(from(US, told), now);
        let name = host("ada");
        let verdicts = [
            here.verdict(&name, one, Since(ours)),
            there.verdict(&name, other, Since(theirs)),
        ];
        let ended = verdicts.iter().flatten().collect::<Vec<_>>();
        assert_eq!(
            ended,
            [&Refusal::HostInUse { host: name }],
            "{ours} {theirs}"
        );
    }
}

#[test]
fn memory_is_bounded_however_many_servers_speak() {
    let now = Instant::now();
    let mut neighbours = Neighbours::new(US);
    for number in 100..100 + 2 * MAX_SERVERS as u64 {
        let alive = What::Alive { number: 0 };
        neighbours.hear(from(ServerId(number), alive), now);
    }
    assert_eq!(neighbours.servers().len(), MAX_SERVERS);
}
