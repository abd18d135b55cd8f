use super::*;
use proptest::prelude::*;
use protocol::{Content, Timestamp};

/// Small, so that it is full often.
const CAPACITY: usize = 4;

/// Entries that are looked at for one part.
const EXAMINED: usize = 6;

const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
enum Step {
    Accept {
        author: usize,
    },
    /// A part is read from the outbox as it is now ..
    LoadBegin,
    /// .. and arrives.
    LoadEnd,
    Send,
    /// The oldest append on the wire reaches the server, which queues it or not.
    Arrive {
        full: bool,
    },
    /// The server writes what is queued, or fails to.
    Commit {
        fails: bool,
    },
    /// The oldest reply arrives.
    Reply,
    /// As much time goes by as pauses last.
    Wait,
    /// The connection is lost with everything on it.
    Cut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize).prop_map(|author| Step::Accept { author }),
        3 => Just(Step::LoadBegin),
        3 => Just(Step::LoadEnd),
        6 => Just(Step::Send),
        6 => (0..6_u8).prop_map(|die| Step::Arrive { full: die == 0 }),
        3 => (0..6_u8).prop_map(|die| Step::Commit { fails: die == 0 }),
        6 => Just(Step::Reply),
        2 => Just(Step::Wait),
        1 => Just(Step::Cut),
    ];
    proptest::collection::vec(step, 0..300)
}

fn user(author: usize) -> UserName {
    format!("user-{author}@ada").parse().unwrap()
}

fn message(number: u64, author: usize) -> Waiting {
    Waiting {
        position: Position::at(number),
        message: Outgoing {
            id: MessageId::from_bytes(u128::from(number).to_be_bytes()),
            room: "#ops".parse().unwrap(),
            author: user(author),
            sent_at: Timestamp::from_micros(number),
            body: Content::Text(number.to_string()).encode().unwrap(),
        },
    }
}

/// One connection to a server that behaves as `federation`'s docs say.
struct Connection {
    window: Window,
    loading: Option<(Load, Part)>,
    appends: VecDeque<(u32, Outgoing)>,
    queued: VecDeque<(u32, Outgoing)>,
    replies: VecDeque<(MessageId, bool)>,
    turned_away: HashMap<UserName, u32>,
    rolled_back: HashMap<UserName, u32>,
}

struct World {
    outbox: BTreeMap<u64, Waiting>,
    accepted: Vec<Waiting>,
    log: Vec<Outgoing>,
    now: Instant,
    /// Who is over a limit for ever.
    banned: Option<UserName>,
    connection: Connection,
}

impl Connection {
    fn new() -> Self {
        Self {
            window: Window::new(CAPACITY),
            loading: None,
            appends: VecDeque::new(),
            queued: VecDeque::new(),
            replies: VecDeque::new(),
            turned_away: HashMap::new(),
            rolled_back: HashMap::new(),
        }
    }
}

fn is_refused(refused: &HashMap<UserName, u32>, author: &UserName, attempt: u32) -> bool {
    refused.get(author).is_some_and(|up_to| attempt <= *up_to)
}

fn refuse(refused: &mut HashMap<UserName, u32>, author: &UserName, attempt: u32) {
    let up_to = refused.entry(author.clone()).or_default();
    *up_to = attempt.max(*up_to);
}

impl World {
    fn new(banned: Option<UserName>) -> Self {
        Self {
            outbox: BTreeMap::new(),
            accepted: Vec::new(),
            log: Vec::new(),
            now: Instant::now(),
            banned,
            connection: Connection::new(),
        }
    }

    fn accept(&mut self, author: usize) {
        let number = self.accepted.len() as u64 + 1;
        let entry = message(number, author);
        self.accepted.push(entry.clone());
        self.outbox.insert(number, entry);
        self.connection.window.grew();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Accept { author } => self.accept(author),
            Step::LoadBegin => self.begin_load(),
            Step::LoadEnd => self.end_load(),
            Step::Send => {
                if let Some((attempt, message)) = self.connection.window.next_to_send() {
                    let append = (attempt, message.clone());
                    self.connection.appends.push_back(append);
                }
            }
            Step::Arrive { full } => self.arrive(full),
            Step::Commit { fails } => self.commit(fails),
            Step::Reply => self.reply(),
            Step::Wait => {
                self.now += PAUSE;
                self.connection.window.resume(self.now);
            }
            Step::Cut => self.connection = Connection::new(),
        }
    }

    fn begin_load(&mut self) {
        if self.connection.loading.is_none()
            && let Some(load) = self.connection.window.wants()
        {
            let part = self.read(&load);
            self.connection.loading = Some((load, part));
        }
    }

    fn read(&self, load: &Load) -> Part {
        match load {
            Load::Ahead {
                after,
                without,
                limit,
            } => {
                let behind = self.outbox.values().filter(|entry| entry.position > *after);
                let mut part = Part {
                    entries: Vec::new(),
                    up_to: *after,
                    more: false,
                };
                for (examined, entry) in behind.enumerate() {
                    if examined == EXAMINED || part.entries.len() == *limit {
                        part.more = true;
                        break;
                    }
                    part.up_to = entry.position;
                    if !without.contains(&entry.message.author) {
                        part.entries.push(entry.clone());
                    }
                }
                part
            }
            Load::Behind {
                author,
                after,
                up_to,
                limit,
            } => {
                let theirs = self.outbox.values().filter(|entry| {
                    entry.message.author == *author
                        && entry.position > *after
                        && entry.position <= *up_to
                });
                let entries: Vec<Waiting> = theirs.take(*limit).cloned().collect();
                let more = entries.len() == *limit;
                let last = entries.last().map_or(*after, |last| last.position);
                Part {
                    entries,
                    up_to: if more { last } else { *up_to },
                    more,
                }
            }
        }
    }

    fn end_load(&mut self) {
        if let Some((load, part)) = self.connection.loading.take() {
            self.connection.window.load(load, part);
        }
    }

    fn arrive(&mut self, full: bool) {
        let Connection {
            appends,
            queued,
            replies,
            turned_away,
            rolled_back,
            ..
        } = &mut self.connection;
        let Some((attempt, message)) = appends.pop_front() else {
            return;
        };
        let author = &message.author;
        let waits =
            is_refused(turned_away, author, attempt) || is_refused(rolled_back, author, attempt);
        if waits || full || self.banned.as_ref() == Some(author) {
            refuse(turned_away, author, attempt);
            replies.push_back((message.id, false));
        } else {
            queued.push_back((attempt, message));
        }
    }

    fn commit(&mut self, fails: bool) {
        let Connection {
            queued,
            replies,
            rolled_back,
            ..
        } = &mut self.connection;
        for (attempt, message) in queued.drain(..) {
            let taken = !fails && !is_refused(rolled_back, &message.author, attempt);
            replies.push_back((message.id, taken));
            if !taken {
                refuse(rolled_back, &message.author, attempt);
            } else if !self.log.iter().any(|one| one.id == message.id) {
                self.log.push(message);
            }
        }
    }

    fn reply(&mut self) {
        let Some((id, taken)) = self.connection.replies.pop_front() else {
            return;
        };
        let window = &mut self.connection.window;
        if !taken {
            window.not_yet(id, self.now, PAUSE);
        } else if window.settle(id).is_some() {
            self.outbox.retain(|_, entry| entry.message.id != id);
        }
    }

    /// Lets everything happen that can, and nothing fail but what is over a limit for ever.
    fn settle(&mut self) {
        for _ in 0..20 * (self.accepted.len() + 1) {
            self.end_load();
            self.begin_load();
            for _ in 0..CAPACITY {
                self.step(&Step::Send);
                self.arrive(false);
            }
            self.commit(false);
            for _ in 0..CAPACITY {
                self.reply();
            }
            self.step(&Step::Wait);
        }
    }

    fn said(&self, author: usize) -> Vec<MessageId> {
        let author = user(author);
        let theirs = self.log.iter().filter(|message| message.author == author);
        theirs.map(|message| message.id).collect()
    }

    fn accepted(&self, author: usize) -> Vec<MessageId> {
        let author = user(author);
        let accepted = self.accepted.iter().map(|entry| &entry.message);
        let theirs = accepted.filter(|message| message.author == author);
        theirs.map(|message| message.id).collect()
    }
}

fn load(window: &mut Window, entries: Vec<Waiting>) {
    let load = window.wants().unwrap();
    let up_to = entries.last().unwrap().position;
    let part = Part {
        entries,
        up_to,
        more: false,
    };
    window.load(load, part);
}

fn id(number: u64) -> MessageId {
    message(number, 0).message.id
}

#[test]
fn a_message_accepted_while_a_part_is_read_is_sent_without_another_one() {
    let mut window = Window::new(4);
    let load = window.wants().unwrap();
    let nothing = Part {
        entries: Vec::new(),
        up_to: Position::START,
        more: false,
    };
    window.grew();
    window.load(load.clone(), nothing);
    assert_eq!(window.wants(), Some(load));
    assert_eq!(window.wants(), None, "one part at a time");
}

#[test]
fn only_the_author_of_a_refused_message_pauses_and_begins_with_one() {
    let mut window = Window::new(8);
    let now = Instant::now();
    load(
        &mut window,
        vec![message(1, 0), message(2, 1), message(3, 0), message(4, 0)],
    );
    assert_eq!(window.next_to_send().unwrap().1.id, id(1));
    let pause = window.not_yet(id(1), now, PAUSE).unwrap();
    assert_eq!(pause.author, user(0));
    assert_eq!(window.next_to_send().unwrap().1.id, id(2));
    assert!(window.next_to_send().is_none());
    assert_eq!(window.resumes_at(), Some(now + PAUSE));
    window.resume(now + PAUSE);
    let Some(Load::Behind { author, limit, .. }) = window.wants() else {
        panic!("what was left behind is fetched");
    };
    assert_eq!((author, limit), (user(0), 1));
}

#[test]
fn a_pause_lasts_until_what_was_under_way_is_answered() {
    let mut window = Window::new(8);
    let now = Instant::now();
    load(
        &mut window,
        vec![message(1, 0), message(2, 0), message(3, 0)],
    );
    while window.next_to_send().is_some() {}
    window.not_yet(id(2), now, PAUSE).unwrap();
    assert_eq!(window.resumes_at(), None);
    window.resume(now + PAUSE);
    assert_eq!(window.settle(id(1)).unwrap().id, id(1));
    assert!(window.not_yet(id(3), now, PAUSE).is_none(), "no news");
    assert_eq!(window.resumes_at(), Some(now + PAUSE));
    window.resume(now + PAUSE);
    let Some(Load::Behind { after, .. }) = window.wants() else {
        panic!("what was left behind is fetched");
    };
    assert_eq!(after, Position::at(1));
}

#[test]
fn what_was_being_fetched_when_its_author_was_refused_is_fetched_anew() {
    let mut window = Window::new(8);
    let mut now = Instant::now();
    load(
        &mut window,
        vec![message(1, 0), message(2, 0), message(3, 0)],
    );
    while window.next_to_send().is_some() {}
    for number in 1..=3 {
        window.not_yet(id(number), now, PAUSE);
    }
    now += PAUSE;
    window.resume(now);
    let part = |number| Part {
        entries: vec![message(number, 0)],
        up_to: Position::at(number),
        more: true,
    };
    let fetch = window.wants().unwrap();
    window.load(fetch, part(1));
    window.next_to_send().unwrap();
    window.settle(id(1)).unwrap();
    let fetch = window.wants().unwrap();
    window.load(fetch, part(2));
    window.next_to_send().unwrap();
    let fetch = window.wants().unwrap();
    window.not_yet(id(2), now, PAUSE).unwrap();
    window.load(fetch, part(3));
    assert!(window.next_to_send().is_none(), "the second comes before");
    window.resume(now + PAUSE);
    let Some(Load::Behind { after, .. }) = window.wants() else {
        panic!("what was left behind is fetched");
    };
    assert_eq!(after, Position::at(1));
}

#[test]
fn who_is_held_up_is_told_once_until_the_server_takes_messages_again() {
    let mut window = Window::new(4);
    let short = Duration::from_millis(50);
    let mut now = Instant::now();
    let mut told = Vec::new();
    load(&mut window, vec![message(1, 0)]);
    for _ in 0..4 {
        window.next_to_send().unwrap();
        told.push(window.not_yet(id(1), now, short).unwrap().tell);
        now += short;
        window.resume(now);
        let fetch = window.wants().unwrap();
        let part = Part {
            entries: vec![message(1, 0)],
            up_to: Position::at(1),
            more: false,
        };
        window.load(fetch, part);
    }
    assert_eq!(
        told,
        [false, true, false, false],
        "one short pause is no news"
    );
    assert!(window.take_freed().is_empty());
    window.next_to_send().unwrap();
    window.settle(id(1)).unwrap();
    assert_eq!(window.take_freed(), [user(0)]);
    assert!(window.authors.is_empty(), "nobody is remembered");
    window.grew();
    load(&mut window, vec![message(2, 0)]);
    let (attempt, _) = window.next_to_send().unwrap();
    assert_eq!(attempt, 5, "above all that were refused");
    let pause = window.not_yet(id(2), now, WORTH_TELLING).unwrap();
    assert!(pause.tell);
}

#[test]
fn who_is_refused_again_before_anybody_heard_that_they_are_free_is_not() {
    let mut window = Window::new(2);
    let mut now = Instant::now();
    load(&mut window, vec![message(1, 0), message(2, 0)]);
    window.next_to_send().unwrap();
    window.not_yet(id(1), now, PAUSE).unwrap();
    now += PAUSE;
    window.resume(now);
    for number in [1, 2] {
        let fetch = window.wants().unwrap();
        let part = Part {
            entries: vec![message(number, 0)],
            up_to: Position::at(number),
            more: number == 1,
        };
        window.load(fetch, part);
        window.next_to_send().unwrap();
        if number == 1 {
            window.settle(id(1)).unwrap();
            assert_eq!(window.freed, [user(0)]);
        }
    }
    window.not_yet(id(2), now, PAUSE).unwrap();
    assert_eq!(window.take_freed(), []);
}

#[test]
fn one_message_behind_very_many_of_somebody_who_waits_arrives() {
    let mut world = World::new(Some(user(0)));
    for _ in 0..300 {
        world.accept(0);
    }
    world.accept(1);
    world.settle();
    assert_eq!(world.said(1), world.accepted(1));
    assert_eq!(world.said(0), []);
}

proptest! {
    #[test]
    fn every_message_reaches_the_log_once_in_its_authors_order(steps in steps()) {
        let mut world = World::new(None);
        for step in &steps {
            world.step(step);
            prop_assert!(world.connection.window.len() <= CAPACITY);
        }
        // Left alone, everything is delivered.
        world.settle();
        for author in 0..3 {
            prop_assert_eq!(world.said(author), world.accepted(author));
        }
        prop_assert_eq!(world.log.len(), world.accepted.len());
        prop_assert!(world.outbox.is_empty());
        prop_assert!(world.connection.window.authors.is_empty());
        prop_assert!(world.connection.window.queue.is_empty());
    }

    #[test]
    fn nobody_waits_for_an_author_who_is_refused_for_ever(steps in steps()) {
        let mut world = World::new(Some(user(0)));
        for step in &steps {
            world.step(step);
        }
        world.settle();
        for author in 1..3 {
            prop_assert_eq!(world.said(author), world.accepted(author));
        }
        prop_assert_eq!(world.said(0), []);
        prop_assert_eq!(world.outbox.len(), world.accepted(0).len(), "and nothing is lost");
    }
}
