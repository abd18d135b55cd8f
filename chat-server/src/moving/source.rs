//! A log that is read from beginning to end.

use crate::{
    config::Config,
    log::{
        Commits, Encoded, JetStreamLog, Log, Purpose, RoomState, SqliteLog, SqliteRestore, newest,
    },
    moving::MoveError,
    register::moving::{Rows, own_rows, shared_rows},
};
use protocol::{Committed, HostName, MessageId, Room, Seq, UserName};
use room_log::{StoreError, charters, roster};
use rusqlite::{Connection, OptionalExtension, params};

/// Rows that are read at a time.
const PAGE_ROWS: usize = 1_000;

/// Bytes of messages that are read at a time.
const PAGE_BYTES: usize = 4 << 20;

/// The log, open, and nobody else's meanwhile.
#[derive(Debug)]
pub(super) struct Source {
    log: Kept,
    /// Nothing is written, so nothing comes; without an end to take it the log would end.
    _commits: Commits,
}

#[derive(Debug)]
enum Kept {
    Sqlite(SqliteLog),
    JetStream(JetStreamLog),
}

/// Where to go on with the messages that were kept for long enough.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum After {
    #[default]
    Start,
    Id(MessageId, i64),
    Entry(Seq),
}

/// Messages of one room that were kept for long enough.
pub(super) type GoneOf = (Room, Vec<(MessageId, Seq)>);

impl Source {
    /// Opens the log that `config` names.
    pub(super) async fn open(config: &Config, purpose: Purpose) -> Result<Self, MoveError> {
        let state_dir = &config.state_dir.value;
        let (log, commits) = match &config.jetstream.value {
            Some(settings) => {
                let opening = JetStreamLog::open_for(purpose, state_dir, settings);
                let (log, commits) = Box::pin(opening).await?;
                (Kept::JetStream(log), commits)
            }
            None => {
                let (log, commits) = match purpose {
                    Purpose::Check => SqliteRestore::open(state_dir)?,
                    Purpose::Read | Purpose::Serve => SqliteLog::open(state_dir)?,
                };
                (Kept::Sqlite(log), commits)
            }
        };
        Ok(Self {
            log,
            _commits: commits,
        })
    }

    fn log(&self) -> &dyn Log {
        match &self.log {
            Kept::Sqlite(log) => log,
            Kept::JetStream(log) => log,
        }
    }

    /// What it is called in the file.
    pub(super) const fn kind(&self) -> &'static str {
        match &self.log {
            Kept::Sqlite(_) => "sqlite",
            Kept::JetStream(_) => "jetstream",
        }
    }

    pub(super) fn epoch(&self) -> String {
        self.log().epoch().to_string()
    }

    /// The newest place that it has given.
    pub(super) async fn newest(&self) -> Result<Seq, StoreError> {
        match &self.log {
            Kept::Sqlite(log) => log.read(newest).await,
            Kept::JetStream(log) => log.newest().await,
        }
    }

    /// What is promised less of it than usual.
    pub(super) fn condition(&self) -> Option<String> {
        self.log().status().weaker
    }

    async fn tables<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.log {
            Kept::Sqlite(log) => log.read(query).await,
            Kept::JetStream(log) => log.tables(query).await,
        }
    }

    /// How many messages there are, about.
    pub(super) async fn messages(&self) -> Result<u64, StoreError> {
        match &self.log {
            Kept::Sqlite(log) => {
                log.read(|tables| {
                    let count = "SELECT count(*) FROM messages";
                    Ok(tables.query_row(count, (), |row| row.get(0))?)
                })
                .await
            }
            Kept::JetStream(log) => Ok(log.entries()),
        }
    }

    /// Who is let in.
    pub(super) async fn register(&self, config: &Config) -> Result<Rows, MoveError> {
        let state_dir = &config.state_dir.value;
        Ok(match &config.jetstream.value {
            Some(settings) => shared_rows(state_dir, settings).await?,
            None => own_rows(state_dir)?,
        })
    }

    /// How many rooms the users of each host made.
    pub(super) async fn made(&self) -> Result<Vec<(HostName, u32)>, StoreError> {
        let query = |tables: &Connection| {
            let mut statement = tables.prepare("SELECT host, rooms FROM created ORDER BY host")?;
            let mut rows = statement.query(())?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let host: String = row.get(0)?;
                let host = HostName::parse(&host).map_err(|_| StoreError::bad("host", host))?;
                found.push((host, row.get(1)?));
            }
            Ok(found)
        };
        self.tables(query).await
    }

    /// Rooms in order of name behind `after`: some, and none at the end.
    pub(super) async fn rooms(&self, after: Option<&Room>) -> Result<Vec<Room>, StoreError> {
        let after = after.map_or_else(String::new, |room| room.as_str().to_owned());
        let epoch = self.log().epoch();
        let query = move |tables: &Connection| {
            let found = room_log::log::rooms(tables, epoch, &after, PAGE_ROWS)?;
            Ok(found.into_iter().map(|(room, _)| room).collect())
        };
        self.tables(query).await
    }

    /// What is known of a room.
    pub(super) async fn state(&self, room: &Room) -> Result<RoomState, StoreError> {
        let room = room.clone();
        let query = move |tables: &Connection| {
            let charter: Option<Vec<u8>> = tables
                .prepare_cached("SELECT charter FROM charters WHERE room = ?1")?
                .query_row([room.as_str()], |row| row.get(0))
                .optional()?;
            Ok(RoomState {
                topic: roster::topic(tables, &room)?,
                founder: charters::founder(tables, &room)?,
                charter: charter.map(|bytes| Encoded(bytes.into())),
            })
        };
        self.tables(query).await
    }

    /// Members of a room in order of name behind `after`: some, and none at the end.
    pub(super) async fn members(
        &self,
        room: &Room,
        after: Option<&UserName>,
    ) -> Result<Vec<UserName>, StoreError> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let room = room.clone();
        let query = move |tables: &Connection| roster::members(tables, &room, &after, PAGE_ROWS);
        self.tables(query).await
    }

    /// Who was kicked out of a room and does not know yet, in order of name behind `after`: some, and
    /// none at the end.
    pub(super) async fn kicked(
        &self,
        room: &Room,
        after: Option<&UserName>,
    ) -> Result<Vec<UserName>, StoreError> {
        let after = after.map_or_else(String::new, ToString::to_string);
        let room = room.clone();
        let query = move |tables: &Connection| charters::kicked(tables, &room, &after, PAGE_ROWS);
        self.tables(query).await
    }

    /// Messages of a room behind `after`: some, and none at the end.
    pub(super) async fn page(&self, room: &Room, after: Seq) -> Result<Vec<Committed>, StoreError> {
        self.log().page(room, after, PAGE_ROWS, PAGE_BYTES).await
    }

    /// Messages of all rooms that were kept for long enough: some of one room or another, and where
    /// to go on; none at the end.
    pub(super) async fn gone(&self, after: After) -> Result<(Vec<GoneOf>, After), StoreError> {
        match &self.log {
            Kept::Sqlite(log) => log.read(move |tables| pruned(tables, after)).await,
            Kept::JetStream(log) => {
                let after = match after {
                    After::Entry(seq) => seq,
                    _ => Seq::START,
                };
                let (gone, next) = log.gone(after).await?;
                let mut by_room: Vec<GoneOf> = Vec::new();
                for one in gone {
                    add(&mut by_room, one.room, (one.id, one.seq));
                }
                Ok((by_room, After::Entry(next)))
            }
        }
    }

    /// Closes the log.
    pub(super) async fn close(self) {
        self.log().close().await;
    }
}

fn pruned(tables: &Connection, after: After) -> Result<(Vec<GoneOf>, After), StoreError> {
    let (id, room_id) = match after {
        After::Id(id, room_id) => (id.to_bytes().to_vec(), room_id),
        _ => (Vec::new(), 0),
    };
    let mut statement = tables.prepare_cached(
        "SELECT id, room_id, name, seq FROM pruned JOIN rooms USING (room_id)
         WHERE (id, room_id) > (?1, ?2) ORDER BY id, room_id LIMIT ?3",
    )?;
    let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, room_id, limit])?;
    let mut by_room: Vec<GoneOf> = Vec::new();
    let mut last = after;
    while let Some(row) = rows.next()? {
        let id = MessageId::from_bytes(row.get(0)?);
        last = After::Id(id, row.get(1)?);
        let name: String = row.get(2)?;
        let room = Room::parse(&name).map_err(|_| StoreError::bad("room", name))?;
        add(&mut by_room, room, (id, Seq::new(row.get(3)?)));
    }
    Ok((by_room, last))
}

fn add(by_room: &mut Vec<GoneOf>, room: Room, one: (MessageId, Seq)) {
    match by_room.iter_mut().find(|(other, _)| *other == room) {
        Some((_, ids)) => ids.push(one),
        None => by_room.push((room, vec![one])),
    }
}
