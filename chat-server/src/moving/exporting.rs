//! Out of a log into a file.

use super::{
    MoveError, Moved, Progress, Step, Watcher,
    line::{self, Line, VERSION},
    lock, place, settings,
    source::{After, Source},
    tally::{Tally, hexadecimal},
};
use crate::{
    args::StoreArgs,
    log::{Purpose, RoomState, SqliteLog},
    opening::SOFTWARE,
};
use data_encoding::BASE64;
use protocol::{Room, Seq, UserName};
use sha2::{Digest, Sha256};
use std::io::Write;

/// Writes the log of the server with these settings, which does not run, to `file`.
///
/// # Errors
///
/// [`MoveError`]; what was written is of no use then.
///
/// # Cancel safety
///
/// If it is dropped, what was written is of no use. The log is as it was.
pub async fn export(
    store: &StoreArgs,
    file: &mut (dyn Write + Send),
    watcher: &mut Watcher<'_>,
) -> Result<Moved, MoveError> {
    let config = settings(store)?;
    // A directory that is not there is not made for want of a log.
    if config.jetstream.value.is_none() {
        let path = SqliteLog::path(&config.state_dir.value);
        if !path.exists() {
            return Err(MoveError::NoLog { path });
        }
    }
    let _lock = lock(&config)?;
    let source = Source::open(&config, Purpose::Read).await?;
    let newest = source.newest().await?;
    let of = source.messages().await?;
    let mut export = Export {
        file,
        watcher,
        of,
        digest: Sha256::new(),
        moved: Moved {
            log: place(&config),
            ..Moved::default()
        },
    };
    export.line(&Line::Export {
        version: VERSION,
        software: SOFTWARE.to_owned(),
        log: source.kind().to_owned(),
        epoch: source.epoch(),
        newest: newest.number(),
        messages: of,
    })?;
    let register = source.register(&config).await?;
    for row in &register.invitations {
        export.moved.invitations += 1;
        export.line(&line::invitation(row))?;
    }
    for row in &register.agents {
        export.moved.hosts += 1;
        export.line(&line::host(row))?;
    }
    for (host, rooms) in source.made().await? {
        let host = host.to_string();
        export.line(&Line::Made { host, rooms })?;
    }
    export.rooms(&source).await?;
    let gone = export.gone(&source).await?;
    // What was written meanwhile is in the file or is not, whoever wrote it.
    if source.newest().await? != newest {
        let log = export.moved.log;
        return Err(MoveError::Written { log });
    }
    source.close().await;
    let sha256 = hexadecimal(export.digest.clone());
    export.line(&Line::End {
        rooms: export.moved.rooms,
        messages: export.moved.messages,
        gone,
        hosts: export.moved.hosts,
        invitations: export.moved.invitations,
        sha256,
    })?;
    export.file.flush().map_err(MoveError::Write)?;
    Ok(export.moved)
}

struct Export<'e, 'w> {
    file: &'e mut (dyn Write + Send),
    watcher: &'e mut Watcher<'w>,
    of: u64,
    /// Over all lines.
    digest: Sha256,
    moved: Moved,
}

impl Export<'_, '_> {
    fn line(&mut self, line: &Line) -> Result<(), MoveError> {
        let mut text = serde_json::to_vec(line).map_err(|error| MoveError::Write(error.into()))?;
        text.push(b'\n');
        self.digest.update(&text);
        self.file.write_all(&text).map_err(MoveError::Write)
    }

    async fn rooms(&mut self, source: &Source) -> Result<(), MoveError> {
        let mut last: Option<Room> = None;
        loop {
            let rooms = source.rooms(last.as_ref()).await?;
            if rooms.is_empty() {
                return Ok(());
            }
            for room in rooms {
                self.room(source, &room).await?;
                last = Some(room);
            }
        }
    }

    async fn room(&mut self, source: &Source, room: &Room) -> Result<(), MoveError> {
        let state = source.state(room).await?;
        let mut tally = Tally::new(&state);
        let RoomState {
            topic,
            founder,
            charter,
        } = state;
        self.moved.rooms += 1;
        self.line(&Line::Room {
            room: room.as_str().to_owned(),
            topic,
            founder: founder.map(|user| user.to_string()),
            charter: charter.map(|charter| BASE64.encode(&charter.0)),
        })?;
        let texts = |users: &[UserName]| users.iter().map(ToString::to_string).collect();
        let mut last = [None, None];
        loop {
            let [member, kick] = &last;
            let members = source.members(room, member.as_ref()).await?;
            let kicked = source.kicked(room, kick.as_ref()).await?;
            if members.is_empty() && kicked.is_empty() {
                break;
            }
            tally.add_people(&members, &kicked);
            self.line(&Line::People {
                members: texts(&members),
                kicked: texts(&kicked),
            })?;
            let [member, kick] = last;
            last = [
                members.into_iter().next_back().or(member),
                kicked.into_iter().next_back().or(kick),
            ];
        }
        let mut after = Seq::START;
        loop {
            let page = source.page(room, after).await?;
            let Some(newest) = page.last() else {
                break;
            };
            after = newest.seq;
            for message in &page {
                tally.add(message);
                self.line(&line::message(message))?;
            }
            self.moved.messages += page.len() as u64;
            (self.watcher)(Progress {
                step: Step::Export,
                messages: self.moved.messages,
                of: self.of,
            });
        }
        let sum = tally.sum();
        self.line(&Line::Checked {
            room: room.as_str().to_owned(),
            messages: sum.messages,
            sha256: sum.sha256,
        })
    }

    async fn gone(&mut self, source: &Source) -> Result<u64, MoveError> {
        let (mut count, mut after) = (0, After::default());
        loop {
            let (page, next) = source.gone(after).await?;
            if page.is_empty() {
                return Ok(count);
            }
            after = next;
            for (room, ids) in page {
                count += ids.len() as u64;
                let ids = ids.iter().map(|(id, seq)| (id.to_string(), seq.number()));
                self.line(&Line::Gone {
                    room: room.as_str().to_owned(),
                    ids: ids.collect(),
                })?;
            }
        }
    }
}
