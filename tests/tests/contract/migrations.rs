//! A file that any released version wrote is opened with all it holds.
//!
//! `schema/<program>-<n>.sql` is what version n added to the version before it, as it was
//! released. A file of version n is made from these and never from the program's own text, so
//! that a migration that was edited instead of added to is noticed. A new version needs a new
//! file there.

use chat_agent::{
    hub::Hub,
    store::{
        AgentStore,
        identity::Identity,
        outbox, person, refused,
        schema::APPLICATION,
        search::{self, Reader},
    },
};
use chat_server::log::{Asker, Log, SqliteLog, append_all};
use protocol::{
    AgentId, Content, Epoch, FederatedRoom, HostName, MessageId, Outgoing, Room, Seq,
    ServerAddress, Timestamp, UserName, federation::Reply, local::SearchQuery,
};
use room_log::{Chore, Database, Store, log, roster};
use rusqlite::{Connection, params};
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

const AGENT: [&str; 7] = [
    include_str!("schema/agent-1.sql"),
    include_str!("schema/agent-2.sql"),
    include_str!("schema/agent-3.sql"),
    include_str!("schema/agent-4.sql"),
    include_str!("schema/agent-5.sql"),
    include_str!("schema/agent-6.sql"),
    include_str!("schema/agent-7.sql"),
];

const SERVER: [&str; 4] = [
    include_str!("schema/server-1.sql"),
    include_str!("schema/server-2.sql"),
    include_str!("schema/server-3.sql"),
    include_str!("schema/server-4.sql"),
];

const SERVER_ID: i32 = 0x6368_7473;
const MICROS: u64 = 1_700_000_000_000_000;

fn room() -> Room {
    Room::parse("#ops").unwrap()
}

fn alice() -> UserName {
    UserName::parse("alice@ada").unwrap()
}

fn says(text: &str) -> Outgoing {
    Outgoing {
        id: MessageId::new(),
        room: room(),
        author: alice(),
        sent_at: Timestamp::from_micros(MICROS),
        body: Content::Text(text.to_owned()).encode().unwrap(),
    }
}

/// A file as the version with the last of `steps` left it, with three messages, a member and a
/// topic in it.
fn write_old(path: &Path, id: i32, steps: &[&str], epoch: Epoch) -> (Connection, Vec<Outgoing>) {
    let connection = Connection::open(path).unwrap();
    for step in steps {
        connection.execute_batch(step).unwrap();
    }
    connection
        .pragma_update(None, "application_id", id)
        .unwrap();
    connection
        .pragma_update(None, "user_version", steps.len())
        .unwrap();
    connection.pragma_update(None, "journal_mode", "wal").ok();
    let sql = "INSERT INTO rooms (room_id, epoch, name) VALUES (7, ?1, '#ops')";
    connection.execute(sql, [epoch.to_bytes()]).unwrap();
    let messages: Vec<Outgoing> = ["one", "two", "three"].map(says).to_vec();
    let mut prev = 0_u64;
    for (message, seq) in messages.iter().zip([2_u64, 3, 9]) {
        let sql = "INSERT INTO messages (room_id, seq, prev_seq, committed_at, id, author, sent_at,
                   body) VALUES (7, ?1, ?2, ?3, ?4, 'alice@ada', ?5, ?6)";
        let values = params![
            seq,
            prev,
            MICROS + seq,
            message.id.to_bytes(),
            MICROS,
            message.body.as_bytes().as_ref(),
        ];
        connection.execute(sql, values).unwrap();
        let sql = "UPDATE rooms SET head = ?1, head_id = ?2";
        let head = params![seq, message.id.to_bytes()];
        connection.execute(sql, head).unwrap();
        prev = seq;
    }
    connection
        .execute_batch(
            "INSERT INTO members (room, user) VALUES ('#ops', 'alice@ada');
             INSERT INTO topics (room, topic) VALUES ('#ops', 'on call: bob');",
        )
        .unwrap();
    (connection, messages)
}

fn put(connection: &Connection, key: &str, value: &[u8]) {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
    connection.execute(sql, params![key, value]).unwrap();
}

fn version(connection: &Connection) -> usize {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap()
}

/// What alice finds once the agent has had time to index everything.
fn find(connection: &Connection, identity: &Identity, word: &str) -> Vec<MessageId> {
    let mut store = AgentStore::new(Arc::new(Hub::new(identity, 0)));
    while store.chore() != Chore::None {
        let transaction = connection.unchecked_transaction().unwrap();
        store.do_chore(&transaction).unwrap();
        transaction.commit().unwrap();
        store.chore_done(Ok(()));
    }
    let reader = Reader {
        user: alice(),
        rooms: BTreeSet::from([room()]),
        local_epoch: identity.local_epoch,
        server_epoch: identity.server_epoch,
    };
    let places = reader.places(connection, None).unwrap();
    let query = SearchQuery {
        words: vec![word.to_owned()],
        ..SearchQuery::default()
    };
    let found = search::find(connection, &places, &query, search::NEWEST, 9);
    let hits = found.unwrap().unwrap().hits;
    hits.into_iter().map(|hit| hit.message.id).collect()
}

/// All tables and indexes, as SQLite keeps them.
fn schema(connection: &Connection) -> Vec<(String, Option<String>)> {
    let mut statement = connection
        .prepare("SELECT name, sql FROM sqlite_schema ORDER BY name")
        .unwrap();
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn an_agents_file_of_any_version_opens_with_all_it_holds() {
    let fresh = tempfile::tempdir().unwrap();
    let (_, fresh) = Database::open(fresh.path(), APPLICATION).unwrap();
    assert_eq!(version(&fresh), AGENT.len(), "a file is missing in schema/");
    for old in 1..=AGENT.len() {
        let dir = tempfile::tempdir().unwrap();
        let (local, server) = (Epoch::new(), Epoch::new());
        let agent = AgentId::new();
        let path = dir.path().join("agent.db");
        let (connection, messages) = write_old(&path, APPLICATION.id, &AGENT[..old], server);
        put(&connection, "agent", &agent.to_bytes());
        put(&connection, "host", b"ada");
        put(&connection, "local_epoch", &local.to_bytes());
        put(&connection, "server_epoch", &server.to_bytes());
        put(&connection, "servers", b"bee:7667\ncat:7667");
        if old >= 2 {
            connection
                .execute_batch(
                    "INSERT INTO outbox (position, id, room, author, sent_at, body)
                     VALUES (41, x'000102030405060708090a0b0c0d0e0f', '#ops', 'alice@ada', 5,
                             x'000161');
                     INSERT INTO departures (room, user) VALUES ('#old', 'alice@ada');",
                )
                .unwrap();
        }
        drop(connection);
        let (_, connection) = Database::open(dir.path(), APPLICATION).unwrap();
        assert_eq!(version(&connection), AGENT.len());
        assert_eq!(schema(&connection), schema(&fresh));
        let identity = Identity::load(&connection).unwrap();
        let expected = Identity {
            agent,
            host: HostName::parse("ada").unwrap(),
            local_epoch: local,
            server_epoch: server,
            servers: ["bee:7667", "cat:7667"]
                .map(|server| ServerAddress::parse(server).unwrap())
                .to_vec(),
        };
        assert_eq!(identity.as_ref(), Some(&expected));
        assert_eq!(find(&connection, &expected, "TWO"), [messages[1].id]);
        let found = log::page(&connection, server, &room(), Seq::START, 9, 1 << 20).unwrap();
        assert!(
            found
                .iter()
                .map(|m| (m.id, &m.body))
                .eq(messages.iter().map(|m| (m.id, &m.body)))
        );
        assert!(found.iter().map(|m| m.seq.number()).eq([2, 3, 9]));
        assert!(roster::is_member(&connection, &room(), &alice()).unwrap());
        assert_eq!(roster::topic(&connection, &room()).unwrap(), "on call: bob");
        let departures = person::departures(&connection).unwrap();
        assert_eq!(departures.len(), usize::from(old >= 2));
        let now = Timestamp::from_micros(MICROS);
        assert_eq!(refused::of(&connection, &alice(), now).unwrap(), []);
        let mut waiting = Vec::new();
        if old >= 2 {
            let id = MessageId::from_bytes(std::array::from_fn(|n| n as u8));
            waiting.push(outbox::find(&connection, id).unwrap().unwrap());
        }
        let new = says("new");
        outbox::push(&connection, &new).unwrap();
        waiting.push(new);
        let page = outbox::page(&connection, outbox::Position::START, 9).unwrap();
        assert!(page.into_iter().map(|entry| entry.message).eq(waiting));
    }
}

#[tokio::test]
async fn a_servers_file_of_any_version_opens_with_all_it_holds() {
    let fresh = tempfile::tempdir().unwrap();
    let (log, _commits) = SqliteLog::open(fresh.path()).unwrap();
    log.close().await;
    drop(log);
    let fresh = Connection::open(fresh.path().join("server.db")).unwrap();
    assert_eq!(
        version(&fresh),
        SERVER.len(),
        "a file is missing in schema/"
    );
    for old in 1..=SERVER.len() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::new();
        let path = dir.path().join("server.db");
        let (connection, messages) = write_old(&path, SERVER_ID, &SERVER[..old], epoch);
        put(&connection, "epoch", &epoch.to_bytes());
        if old >= 2 {
            connection
                .execute_batch(
                    "INSERT INTO direct_hosts (host, room)
                     VALUES ('bee', 'alice@ada,bob@bee');",
                )
                .unwrap();
        }
        drop(connection);
        let (log, mut commits) = SqliteLog::open(dir.path()).unwrap();
        let drain = tokio::spawn(async move { while commits.next().await.is_some() {} });
        assert_eq!(log.epoch(), epoch);
        let found = log.page(&room(), Seq::START, 9, 1 << 20).await.unwrap();
        assert!(
            found
                .iter()
                .map(|m| (m.id, &m.body))
                .eq(messages.iter().map(|m| (m.id, &m.body)))
        );
        let ops = FederatedRoom::parse("#ops").unwrap();
        let members = log.members(&ops, None).await.unwrap().unwrap();
        assert_eq!(members.entries, [alice()]);
        assert_eq!(
            log.rooms(&Asker::User(alice()), None)
                .await
                .unwrap()
                .entries[0]
                .topic,
            "on call: bob"
        );
        let bee = HostName::parse("bee").unwrap();
        let directs = log.directs(&bee, None).await.unwrap().entries;
        assert_eq!(directs.len(), usize::from(old >= 2));
        // The log goes on where it was, and knows what it has.
        let answers = append_all(&log, vec![messages[1].clone(), says("four")]).await;
        assert_eq!(answers[0], Some(Ok(Reply::Appended { seq: Seq::new(3) })));
        let head = log.head(&room()).await.unwrap().unwrap();
        assert!(head.seq > Seq::new(9));
        assert_eq!(answers[1], Some(Ok(Reply::Appended { seq: head.seq })));
        let last = log.page(&room(), Seq::new(9), 9, 1 << 20).await.unwrap();
        assert_eq!(last[0].prev_seq, Seq::new(9));
        log.close().await;
        drop(log);
        drain.await.unwrap();
        let connection = Connection::open(&path).unwrap();
        assert_eq!(version(&connection), SERVER.len());
        assert_eq!(schema(&connection), schema(&fresh));
    }
}

/// What a version before this one cannot know is left alone by it.
#[test]
fn a_file_of_a_later_version_is_refused_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let (connection, _) = write_old(&path, SERVER_ID, &SERVER, Epoch::new());
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(&path).unwrap();
    let error = SqliteLog::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("format 99"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
