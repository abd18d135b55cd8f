use super::*;
use crate::{
    hub::Hub,
    store::{AgentStore, Command, Outcome, authored, identity::Identity, schema::APPLICATION},
};
use proptest::prelude::*;
use protocol::{Committed, Content, Cursor, MessageId, Outgoing, limits::MAX_PAGE_ENTRIES};
use room_log::{Chore, Database, Store};
use std::{collections::HashMap, sync::Arc};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A host's replica, written by its store as its writer thread does it.
struct Archive {
    dir: TempDir,
    connection: Connection,
    store: AgentStore,
    epoch: Epoch,
    /// The newest message of each room.
    heads: HashMap<Room, Seq>,
    last: u64,
}

impl Archive {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (connection, store) = open(&dir);
        let mut archive = Self {
            dir,
            connection,
            store,
            epoch: Epoch::new(),
            heads: HashMap::new(),
            last: 0,
        };
        archive.begin_epoch(archive.epoch);
        archive
    }

    /// The agent was killed and is started again.
    fn reopen(&mut self) {
        // What it did not commit is gone with its connection.
        self.connection = Connection::open_in_memory().unwrap();
        (self.connection, self.store) = open(&self.dir);
    }

    fn begin_epoch(&mut self, epoch: Epoch) {
        let (done, _) = oneshot::channel();
        self.write(Command::BeginEpoch { epoch, done });
        self.heads.clear();
        self.epoch = epoch;
    }

    fn write(&mut self, command: Command) {
        self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let outcome = self.store.apply(&self.connection, &command).unwrap();
        self.connection.execute_batch("COMMIT").unwrap();
        if let Outcome::Ingested { new, .. } = &outcome {
            assert!(new.iter().all(|new| *new));
        }
        self.store.committed(vec![(command, outcome)]);
    }

    /// A message that the server committed `at` micros.
    fn take(&mut self, room: &str, author: &str, content: &Content, at: u64) -> MessageId {
        let room: Room = room.parse().unwrap();
        self.last += 1;
        let message = Committed {
            room: room.clone(),
            seq: Seq::new(self.last),
            prev_seq: self.heads.get(&room).copied().unwrap_or_default(),
            committed_at: Timestamp::from_micros(at),
            id: MessageId::new(),
            author: author.parse().unwrap(),
            sent_at: Timestamp::from_micros(0),
            body: content.encode().unwrap(),
        };
        self.heads.insert(room, message.seq);
        let id = message.id;
        let said = Outgoing {
            id,
            room: message.room.clone(),
            author: message.author.clone(),
            sent_at: message.sent_at,
            body: message.body.clone(),
        };
        authored::note(&self.connection, &said).unwrap();
        let (done, _) = oneshot::channel();
        let messages = vec![message];
        self.write(Command::Ingest { messages, done });
        id
    }

    fn says(&mut self, author: &str, text: &str) -> MessageId {
        let at = self.last;
        self.take("#ops", author, &Content::Text(text.to_owned()), at)
    }

    /// Indexes one part.
    fn index_part(&mut self) {
        self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        self.store.do_chore(&self.connection).unwrap();
        self.connection.execute_batch("COMMIT").unwrap();
        self.store.chore_done(Ok(()));
    }

    fn places(&self) -> Vec<Place> {
        self.places_of("bob@ada", &["#ops", "#dev"], None)
    }

    fn places_of(&self, user: &str, rooms: &[&str], room: Option<&str>) -> Vec<Place> {
        let reader = Reader {
            user: user.parse().unwrap(),
            rooms: rooms.iter().map(|room| room.parse().unwrap()).collect(),
            local_epoch: self.store.local.epoch(),
            server_epoch: self.epoch,
        };
        let room = room.map(|room| room.parse().unwrap());
        reader.places(&self.connection, room.as_ref()).unwrap()
    }

    fn index_all(&mut self) {
        let places = self.places();
        while !behind(&self.connection, &places).unwrap().is_empty() {
            self.index_part();
        }
    }

    fn page(&self, query: &SearchQuery, mark: SearchMark, limit: usize) -> Found {
        let places = self.places();
        find(&self.connection, &places, query, mark, limit)
            .unwrap()
            .expect("a mark that was given")
    }

    /// SQLite finds no fault with the index.
    fn assert_sound(&self) {
        let check = "INSERT INTO trigrams (trigrams) VALUES ('integrity-check')";
        self.connection.execute_batch(check).unwrap();
    }

    /// What is found, newest first, after what is missing was indexed; and before that it is the
    /// same.
    fn find(&mut self, query: &SearchQuery) -> Vec<String> {
        let before = self.turn_pages(query, 2);
        self.index_all();
        let found = self.page(query, NEWEST, MAX_PAGE_ENTRIES);
        assert_eq!(found.next, None);
        assert_eq!(before, texts(&found), "with what is indexed, and the rest");
        texts(&found)
    }

    /// What is found on all pages of `limit`.
    fn turn_pages(&self, query: &SearchQuery, limit: usize) -> Vec<String> {
        let mut mark = NEWEST;
        let mut all = Vec::new();
        loop {
            let found = self.page(query, mark, limit);
            assert!(found.hits.len() <= limit);
            all.extend(texts(&found));
            match found.next {
                Some(next) => mark = next,
                None => return all,
            }
        }
    }

    fn find_words(&mut self, words: &[&str]) -> Vec<String> {
        self.find(&with(words))
    }
}

fn open(dir: &TempDir) -> (Connection, AgentStore) {
    let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
    // Nothing here is about power cuts.
    connection
        .pragma_update(None, "synchronous", "off")
        .unwrap();
    let host = "ada".parse().unwrap();
    let identity = Identity::load_or_create(&connection, &host).unwrap();
    let store = AgentStore::new(Arc::new(Hub::new(&identity, 1_000)));
    (connection, store)
}

fn with(words: &[&str]) -> SearchQuery {
    SearchQuery {
        words: words.iter().map(|&word| word.to_owned()).collect(),
        ..SearchQuery::default()
    }
}

fn texts(found: &Found) -> Vec<String> {
    let text = |hit: &Hit| {
        hit.message
            .body
            .decode()
            .unwrap()
            .text()
            .unwrap()
            .to_owned()
    };
    found.hits.iter().map(text).collect()
}

#[test]
fn words_are_found_anywhere_in_any_case_and_script() {
    let mut archive = Archive::new();
    let all = [
        "Deployed 7f3a to Production",
        "你好，世界和平",
        "grüße aus KÖLN",
        "ok",
        "back\\slash \"quoted\" OR * NEAR(x) col:umn a-b ^c {d}",
    ];
    for text in all {
        archive.says("alice@ada", text);
    }
    for (words, found) in [
        (&["deploy"][..], &[0][..]),
        (&["PLOYED", "prod"], &[0]),
        (&["deployed", "grüße"], &[]),
        (&["7f3a to pro"], &[0]),
        (&["世界"], &[1]),
        (&["界和平"], &[1]),
        (&["和"], &[1]),
        (&["世界", "deployed"], &[]),
        (&["GRÜSSE"], &[]),
        (&["GRÜẞE", "köln"], &[2]),
        (&["OK"], &[3]),
        (&["o"], &[4, 3, 0]),
        (&["ed 7", "d 7"], &[0]),
        // Whatever they are in the index's language.
        (&["\"quoted\""], &[4]),
        (&["\"", "\\"], &[4]),
        (&["OR * NEAR(x)"], &[4]),
        (&["col:umn"], &[4]),
        (&["{d}", "^c"], &[4]),
        (&["x OR y"], &[]),
        (&["a*"], &[]),
        (&["'; --"], &[]),
        (&["\0\0\0"], &[]),
    ] {
        let found: Vec<_> = found.iter().map(|number| all[*number]).collect();
        assert_eq!(archive.find_words(words), found, "{words:?}");
    }
    let many: Vec<String> = (0..16).map(|n| "y".repeat(240 + n)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(archive.find_words(&many), [""; 0]);
}

#[test]
fn text_behind_a_nul_is_found() {
    let mut archive = Archive::new();
    archive.says("alice@ada", "before\0behind");
    assert_eq!(archive.find_words(&["behind"]).len(), 1);
    assert_eq!(archive.find_words(&["e\0b"]).len(), 1);
}

#[test]
fn actions_and_replies_are_found_and_reactions_are_not() {
    let mut archive = Archive::new();
    let to = archive.says("alice@ada", "first");
    let action = Content::Action("waves".to_owned());
    archive.take("#ops", "alice@ada", &action, 7);
    let text = "an answer".to_owned();
    archive.take("#ops", "alice@ada", &Content::Reply { to, text }, 8);
    let emoji = "wavesanswer".to_owned();
    let on = true;
    archive.take("#ops", "alice@ada", &Content::React { to, emoji, on }, 9);
    assert_eq!(archive.find_words(&["waves"]), ["waves"]);
    assert_eq!(archive.find_words(&["answer"]), ["an answer"]);
    assert_eq!(archive.find_words(&["first"]), ["first"], "it was answered");
}

#[test]
fn only_what_a_message_says_now_is_found() {
    let mut archive = Archive::new();
    let edit = |of, text: &str| Content::Edit {
        of,
        text: text.to_owned(),
    };
    let of = archive.says("alice@ada", "teh word");
    assert_eq!(archive.find_words(&["teh word"]).len(), 1);
    // Not by somebody else.
    archive.take("#ops", "mallory@ada", &Content::Delete { of }, 5);
    archive.take("#ops", "mallory@ada", &edit(of, "mine now"), 6);
    assert_eq!(archive.find_words(&["teh word"]).len(), 1);
    assert_eq!(archive.find_words(&["mine"]).len(), 0);

    archive.take("#ops", "alice@ada", &edit(of, "one word"), 7);
    assert_eq!(archive.find_words(&["word"]), ["one word"]);
    archive.take("#ops", "alice@ada", &edit(of, "the word"), 8);
    assert_eq!(archive.find_words(&["word"]), ["the word"]);
    assert_eq!(archive.find_words(&["te"]), [""; 0]);

    archive.take("#ops", "alice@ada", &Content::Delete { of }, 9);
    archive.take("#ops", "alice@ada", &edit(of, "a late word"), 10);
    assert_eq!(archive.find_words(&["word"]), [""; 0]);
    assert_eq!(archive.find_words(&["e"]), [""; 0]);

    // An edit of something that is not here stands for itself, and so does one in another room.
    let elsewhere = archive.says("alice@ada", "in ops");
    archive.take("#dev", "alice@ada", &edit(elsewhere, "in dev"), 12);
    archive.take(
        "#ops",
        "alice@ada",
        &edit(MessageId::new(), "in nothing"),
        13,
    );
    assert_eq!(
        archive.find_words(&["in "]),
        ["in nothing", "in dev", "in ops"]
    );
}

#[test]
fn conditions_are_all_kept() {
    let mut archive = Archive::new();
    for (number, (room, author)) in [
        ("#ops", "alice@ada"),
        ("#ops", "alice@bee"),
        ("#dev", "bob@ada"),
        ("#dev", "alice@ada"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = Content::Text(format!("word {number}"));
        archive.take(room, author, &text, 10 * number as u64);
    }
    let time = |micros| Some(Timestamp::from_micros(micros));
    let from = |text: &str| {
        Some(match text.parse() {
            Ok(user) => Author::User(user),
            Err(_) => Author::Nick(text.parse().unwrap()),
        })
    };
    let any = SearchQuery::default;
    for (query, found) in [
        (
            SearchQuery {
                from: from("alice"),
                ..any()
            },
            &[3, 1, 0][..],
        ),
        (
            SearchQuery {
                from: from("alice@ada"),
                ..any()
            },
            &[3, 0],
        ),
        (
            SearchQuery {
                since: time(10),
                ..any()
            },
            &[3, 2, 1],
        ),
        (
            SearchQuery {
                since: time(10),
                before: time(30),
                ..any()
            },
            &[2, 1],
        ),
        (
            SearchQuery {
                since: time(11),
                from: from("alice"),
                ..with(&["word"])
            },
            &[3],
        ),
        (
            SearchQuery {
                before: time(20),
                ..with(&["wo", "0"])
            },
            &[0],
        ),
    ] {
        let found: Vec<_> = found.iter().map(|n| format!("word {n}")).collect();
        assert_eq!(archive.find(&query), found, "{query:?}");
    }
    let dev = archive.places_of("bob@ada", &["#ops", "#dev"], Some("#dev"));
    let found = find(&archive.connection, &dev, &with(&["word"]), NEWEST, 9);
    assert_eq!(texts(&found.unwrap().unwrap()), ["word 3", "word 2"]);
}

#[test]
fn nobody_finds_what_they_may_not_read() {
    let mut archive = Archive::new();
    for room in [
        "#ops",
        "#dev",
        "alice@ada,bob@bee",
        "bob@bee,carol@ada",
        "alice@ada,alice@ada",
    ] {
        let text = Content::Text(format!("secret of {room}"));
        // Of two ends on this host there is nothing in the server's log: it is not believed.
        archive.take(room, "bob@bee", &text, 1);
    }
    archive.index_all();
    let names = |user: &str, rooms: &[&str]| {
        let places = archive.places_of(user, rooms, None);
        let found = find(&archive.connection, &places, &with(&["secret"]), NEWEST, 9);
        let mut found = texts(&found.unwrap().unwrap());
        found.sort();
        found
    };
    assert_eq!(
        names("alice@ada", &["#ops"]),
        ["secret of #ops", "secret of alice@ada,bob@bee"]
    );
    assert_eq!(
        names("carol@ada", &["#dev"]),
        ["secret of #dev", "secret of bob@bee,carol@ada"]
    );
    assert_eq!(names("dave@ada", &[]), [""; 0]);
    assert!(archive.places_of("dave@ada", &[], Some("#ops")).is_empty());
}

#[test]
fn only_the_present_life_of_a_log_is_searched() {
    let mut archive = Archive::new();
    let before = archive.epoch;
    archive.says("alice@ada", "word of before");
    assert_eq!(archive.find_words(&["word"]).len(), 1);
    archive.says("alice@ada", "word that is not indexed");
    archive.begin_epoch(Epoch::new());
    assert_eq!(archive.find_words(&["word"]), [""; 0]);
    archive.says("alice@ada", "word of now");
    assert_eq!(archive.find_words(&["word"]), ["word of now"]);
    // This host went back to the server it had before.
    archive.begin_epoch(before);
    assert_eq!(archive.find_words(&["word"]).len(), 2);
}

#[test]
fn pages_neither_skip_nor_repeat_whatever_happens_between_them() {
    let mut archive = Archive::new();
    let mut ids = Vec::new();
    for number in 0..300_u64 {
        // Many at the same time, and in rooms by turns.
        let room = ["#ops", "#dev"][(number % 2) as usize];
        let text = Content::Text(format!("word {number}"));
        ids.push(archive.take(room, "alice@ada", &text, number / 100));
    }
    // Without the index, with a part of it, and with all of it.
    for part in 0..3 {
        for limit in [7, 300] {
            let all = archive.turn_pages(&with(&["wo"]), limit);
            let unique: BTreeSet<_> = all.iter().collect();
            assert_eq!((all.len(), unique.len()), (300, 300), "{part}, by {limit}");
        }
        archive.index_part();
    }
    // A page that begins where there was no index goes on when there is one.
    let mut other = Archive::new();
    for number in 0..9 {
        other.says("alice@ada", &format!("word {number}"));
    }
    let first = other.page(&with(&["word"]), NEWEST, 4);
    other.index_all();
    let rest = other.page(&with(&["word"]), first.next.unwrap(), 9);
    let all = [texts(&first), texts(&rest)].concat();
    let expected: Vec<_> = (0..9)
        .rev()
        .map(|number| format!("word {number}"))
        .collect();
    assert_eq!(all, expected);
    archive.index_all();
    for query in [with(&["word"]), with(&["wo"])] {
        for limit in [1, 7, 300] {
            let mut mark = NEWEST;
            let mut seen = Vec::new();
            loop {
                let found = archive.page(&query, mark, limit);
                assert!(found.hits.len() <= limit);
                seen.extend(found.hits.iter().map(|hit| hit.message.id));
                match found.next {
                    Some(next) => mark = next,
                    None => break,
                }
            }
            let unique: BTreeSet<_> = seen.iter().collect();
            assert_eq!((seen.len(), unique.len()), (300, 300), "by {limit}");
        }
    }

    let first = archive.page(&with(&["word"]), NEWEST, 10);
    let last = &first.hits[9].message;
    // What the next page begins after is taken back, and old and new messages come.
    let (of, room) = (last.id, last.room.to_string());
    archive.take(&room, "alice@ada", &Content::Delete { of }, 1);
    archive.take("#ops", "alice@ada", &Content::Text("word old".into()), 0);
    archive.take("#ops", "alice@ada", &Content::Text("word new".into()), 9);
    archive.index_all();
    let rest = archive.page(&with(&["word"]), first.next.unwrap(), 1_000);
    let rest: BTreeSet<_> = rest.hits.iter().map(|hit| hit.message.id).collect();
    assert_eq!(rest.len(), 291);
    assert!(first.hits.iter().all(|hit| !rest.contains(&hit.message.id)));

    let unknown = SearchMark(999_999);
    let places = archive.places();
    for mark in [unknown, SearchMark(u64::MAX - 1)] {
        let found = find(&archive.connection, &places, &with(&["word"]), mark, 9);
        assert!(found.unwrap().is_none());
    }
}

#[test]
fn a_page_ends_before_it_is_too_large_or_has_taken_too_long() {
    let mut archive = Archive::new();
    for _ in 0..10 {
        archive.says("alice@ada", &"long ".repeat(13_000));
    }
    archive.index_all();
    let found = archive.page(&with(&["long"]), NEWEST, 1_000);
    assert_eq!(found.hits.len(), 5);
    let found = archive.page(&with(&["long"]), found.next.unwrap(), 1_000);
    assert_eq!(found.hits.len(), 5);
}

#[test]
fn indexing_goes_on_where_a_crash_ended_it() {
    let mut archive = Archive::new();
    for number in 0..990 {
        archive.says("alice@ada", &format!("word {number}"));
    }
    archive.index_part();
    assert!(
        !behind(&archive.connection, &archive.places())
            .unwrap()
            .is_empty()
    );
    // A part that is not committed.
    archive.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    archive.store.do_chore(&archive.connection).unwrap();
    archive.reopen();
    assert_eq!(archive.store.chore(), Chore::WhenIdle, "by itself");
    archive.index_part();
    archive.reopen();
    assert_eq!(archive.find_words(&["word"]).len(), 990);
    let found = archive.find_words(&["word 98"]);
    assert_eq!(found.len(), 11, "{found:?}");
    archive.assert_sound();
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let mut archive = Archive::new();
    archive.says("alice@ada", "before");
    archive.says("alice@ada", "of a later version");
    let sql = "UPDATE messages SET body = x'09' WHERE seq = 2";
    archive.connection.execute_batch(sql).unwrap();
    archive.says("alice@ada", "behind");
    assert_eq!(archive.find_words(&["be"]), ["behind", "before"]);
}

#[test]
fn messages_are_indexed_in_numbers_or_when_somebody_searches() {
    let mut archive = Archive::new();
    archive.index_part();
    assert_eq!(archive.store.chore(), Chore::None);
    for number in 0..127 {
        archive.says("alice@ada", &number.to_string());
    }
    assert_eq!(archive.store.chore(), Chore::None);
    let rooms = behind(&archive.connection, &archive.places()).unwrap();
    let (done, mut indexed) = oneshot::channel();
    archive.write(Command::Index { rooms, done });
    assert_eq!(archive.store.chore(), Chore::Soon);
    archive.index_part();
    assert_eq!(indexed.try_recv(), Ok(Ok(())));
    assert_eq!(archive.store.chore(), Chore::None);
    for number in 0..128 {
        archive.says("alice@ada", &number.to_string());
    }
    assert_eq!(archive.store.chore(), Chore::WhenIdle);
    // What fails is not tried over and over, and whoever waits is told.
    let (done, mut indexed) = oneshot::channel();
    let rooms = Vec::new();
    archive.write(Command::Index { rooms, done });
    archive.store.chore_done(Err(StoreError::DiskFull));
    let told = indexed.try_recv().unwrap().unwrap_err();
    assert!(told.contains("free some space"), "{told}");
    assert_eq!(archive.store.chore(), Chore::None);
    assert_eq!(archive.store.hub.problems().len(), 1);
    archive.index_part();
    assert!(archive.store.hub.problems().is_empty());
}

/// One thing that happens in a room: who does what to which of the messages before.
#[derive(Debug, Clone)]
enum Happening {
    Says(bool, String),
    Edits(bool, prop::sample::Index, String),
    Deletes(bool, prop::sample::Index),
    Indexed,
    Killed,
}

fn happening() -> impl Strategy<Value = Happening> {
    let text = || "[abC世 ]{1,8}";
    let which = any::<prop::sample::Index>;
    prop_oneof![
        6 => (any::<bool>(), text()).prop_map(|(who, text)| Happening::Says(who, text)),
        3 => (any::<bool>(), which(), text())
            .prop_map(|(who, which, text)| Happening::Edits(who, which, text)),
        2 => (any::<bool>(), which()).prop_map(|(who, which)| Happening::Deletes(who, which)),
        1 => Just(Happening::Indexed),
        1 => Just(Happening::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whoever_reads_the_whole_log_finds_the_same(
        happenings in prop::collection::vec(happening(), 1..40),
        words in prop::collection::vec("[AbC世 ]{1,4}", 1..3),
    ) {
        let mut archive = Archive::new();
        // Each message with its author and what it says now, and since when.
        type Now = Option<(u64, String)>;
        let mut said: Vec<(MessageId, bool, Now)> = Vec::new();
        for happening in happenings {
            let author = |who| if who { "alice@ada" } else { "carol@bee" };
            let at = archive.last;
            match happening {
                Happening::Says(who, text) => {
                    let id = archive.says(author(who), &text);
                    said.push((id, who, Some((at, text))));
                }
                Happening::Edits(who, which, text) if !said.is_empty() => {
                    let (of, by, now) = which.get(&said).clone();
                    let content = Content::Edit { of, text: text.clone() };
                    archive.take("#ops", author(who), &content, at);
                    if who == by && now.is_some() {
                        which.get_mut(&mut said).2 = Some((at, text));
                    }
                }
                Happening::Deletes(who, which) if !said.is_empty() => {
                    let (of, by, _) = which.get(&said).clone();
                    archive.take("#ops", author(who), &Content::Delete { of }, at);
                    if who == by {
                        which.get_mut(&mut said).2 = None;
                    }
                }
                Happening::Indexed => archive.index_part(),
                Happening::Killed => archive.reopen(),
                _ => {}
            }
        }
        let lower = |text: &str| text.to_lowercase();
        let mut expected: Vec<(u64, String)> = said
            .into_iter()
            .filter_map(|(_, _, now)| now)
            .filter(|(_, text)| words.iter().all(|word| lower(text).contains(&lower(word))))
            .collect();
        expected.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let expected: Vec<String> = expected.into_iter().map(|(_, text)| text).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        prop_assert_eq!(archive.find_words(&words), expected);
        archive.assert_sound();
    }
}

#[test]
fn a_hit_can_be_read_on_from() {
    let mut archive = Archive::new();
    archive.says("alice@ada", "one");
    archive.says("alice@ada", "two");
    archive.index_all();
    let found = archive.page(&with(&["one"]), NEWEST, 1);
    let Hit { epoch, message } = &found.hits[0];
    let cursor = Cursor {
        epoch: *epoch,
        seq: message.seq,
    };
    let rest = log::page(
        &archive.connection,
        cursor.epoch,
        &message.room,
        cursor.seq,
        9,
        9,
    );
    assert_eq!(rest.unwrap().len(), 1);
}
