//! Out of a file into a log that was not there.

use super::{
    MoveError, Moved, Progress, Step, Watcher, begin,
    check::check,
    line::{self, Bad, Line},
    lines::Lines,
    place,
    source::Source,
    tally::{Sum, Tally},
    target::Target,
};
use crate::{
    args::StoreArgs,
    config::Config,
    log::{Encoded, Part, RestoreError, RoomState},
    register::moving::{self as register, Rows},
};
use protocol::{Committed, Room, Seq, Timestamp, UserName};
use std::{collections::BTreeMap, fs, io::BufRead, path::Path, time::SystemTime};

/// Messages, and bytes of them, that are written together.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// Writes what `file` holds into the log of the server with these settings, which does not run and has none
/// yet, and reads it back.
///
/// # Errors
///
/// [`MoveError`]; no server uses what was written then, and another import begins anew.
///
/// # Cancel safety
///
/// If it is dropped, no server uses what was written, and another import begins anew.
pub async fn import(
    store: &StoreArgs,
    file: &mut (dyn BufRead + Send),
    watcher: &mut Watcher<'_>,
) -> Result<Moved, MoveError> {
    let (config, _lock) = begin(store)?;
    let mut lines = Lines::new(file);
    let of = lines.first()?;
    let (target, again) = Target::begin(&config).await?;
    let own = own_register(&config, again)?;
    let import = Import {
        target,
        watcher: &mut *watcher,
        of,
        moved: Moved {
            log: place(&config),
            ..Moved::default()
        },
        register: Rows::default(),
        sums: BTreeMap::new(),
        gone: 0,
        room: None,
        batch: Vec::new(),
        bytes: 0,
    };
    let Imported {
        target,
        mut moved,
        register,
        sums,
        gone,
    } = import.run(&mut lines).await?;
    if let Some(lost) = own.agents.iter().find(|row| !register.agents.contains(row)) {
        return Err(MoveError::OtherHosts {
            path: register::path(&config.state_dir.value),
            host: lost.host.to_string(),
        });
    }
    let written = target.written().await?;
    let source = Source::reopen(&config).await?;
    check(&source, &sums, gone, (of, watcher)).await?;
    moved.notes.extend(source.condition());
    source.close().await;
    restore_register(&config, &register).await?;
    if config.jetstream.value.is_some() && !own.is_empty() {
        moved
            .notes
            .push(put_aside(&register::path(&config.state_dir.value))?);
    }
    written.end(&config).await?;
    if again {
        moved
            .notes
            .push("an earlier import had not come to its end, and was removed".to_owned());
    }
    Ok(moved)
}

/// Who is let in here already. Where the log is to be in a file, nobody may be, unless an import that did
/// not come to its end has written it.
fn own_register(config: &Config, again: bool) -> Result<Rows, MoveError> {
    let state_dir = &config.state_dir.value;
    let own = register::own_rows(state_dir)?;
    if config.jetstream.value.is_none() && !own.is_empty() && !again {
        let path = register::path(state_dir);
        return Err(MoveError::HasRegister { path });
    }
    Ok(own)
}

async fn restore_register(config: &Config, rows: &Rows) -> Result<(), MoveError> {
    // Whoever lets everybody in has none.
    if rows.is_empty() {
        return Ok(());
    }
    match &config.jetstream.value {
        Some(settings) => register::restore_shared(settings, rows).await?,
        None => register::restore(&config.state_dir.value, rows)?,
    }
    Ok(())
}

/// Puts the register of a server aside that shares one with others from now on; tells so.
fn put_aside(path: &Path) -> Result<String, MoveError> {
    let now = Timestamp::from(SystemTime::now()).micros();
    let aside = path.with_file_name(format!("register-before-{now}.db"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason| MoveError::PutAside { path, reason }
    };
    // It was closed, so nothing lies beside it that belongs to it; the mark that it was there goes first.
    let marker = path.with_extension("exists");
    fs::remove_file(&marker).map_err(failed(&marker))?;
    fs::rename(path, &aside).map_err(failed(path))?;
    Ok(format!(
        "who is let in stands on NATS now; what stood in {} is in {}",
        path.display(),
        aside.display()
    ))
}

/// The work in between.
struct Import<'i, 'w> {
    target: Target,
    watcher: &'i mut Watcher<'w>,
    of: u64,
    moved: Moved,
    register: Rows,
    sums: BTreeMap<Room, Sum>,
    gone: u64,
    /// The room that has begun.
    room: Option<(Room, Tally)>,
    batch: Vec<Committed>,
    bytes: usize,
}

/// What came of it.
struct Imported {
    target: Target,
    moved: Moved,
    register: Rows,
    sums: BTreeMap<Room, Sum>,
    gone: u64,
}

/// Why a line was not taken.
enum Refused {
    Bad(String),
    Restore(RestoreError),
}

impl From<Bad> for Refused {
    fn from(bad: Bad) -> Self {
        Self::Bad(bad.to_string())
    }
}

impl From<RestoreError> for Refused {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Bad(problem) => Self::Bad(problem),
            error => Self::Restore(error),
        }
    }
}

fn bad<T>(problem: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Bad(problem.into()))
}

impl Import<'_, '_> {
    async fn run(mut self, lines: &mut Lines<'_>) -> Result<Imported, MoveError> {
        loop {
            let line = lines.next()?;
            match self.take(line).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(Refused::Bad(problem)) => return Err(lines.bad(&problem)),
                Err(Refused::Restore(error)) => return Err(error.into()),
            }
        }
        if !lines.at_end()? {
            return Err(lines.bad("something stands behind the end"));
        }
        Ok(Imported {
            target: self.target,
            moved: self.moved,
            register: self.register,
            sums: self.sums,
            gone: self.gone,
        })
    }

    /// Takes a line; tells whether it was the last.
    async fn take(&mut self, line: Line) -> Result<bool, Refused> {
        if let Some(agent) = line::parse_agent(&line)? {
            self.moved.hosts += 1;
            self.register.agents.push(agent);
            return Ok(false);
        }
        if let Some(invitation) = line::parse_invitation(&line)? {
            self.moved.invitations += 1;
            self.register.invitations.push(invitation);
            return Ok(false);
        }
        match line {
            Line::Made { host, rooms } => {
                let host = line::parse_host(&host)?;
                self.target.put(Part::Made { host, rooms }).await?;
            }
            Line::Room {
                room,
                topic,
                founder,
                charter,
            } => self.begin(&room, topic, founder, charter).await?,
            Line::People { members, kicked } => {
                let Some((room, _)) = &self.room else {
                    return bad("people stand outside of a room");
                };
                let part = Part::People {
                    room: room.clone(),
                    members: line::parse_users(&members)?,
                    kicked: line::parse_users(&kicked)?,
                };
                self.target.put(part).await?;
            }
            Line::Message { .. } => self.message(&line).await?,
            Line::Checked {
                room,
                messages,
                sha256,
            } => self.end(&room, Sum { messages, sha256 }).await?,
            Line::Gone { room, ids } => {
                let room = line::parse_room(&room)?;
                if !self.sums.contains_key(&room) {
                    return bad(format!("{room} is not in the file"));
                }
                let mut gone = Vec::with_capacity(ids.len());
                for (id, seq) in ids {
                    gone.push((line::parse_id(&id)?, Seq::new(seq)));
                }
                self.gone += gone.len() as u64;
                self.target.put(Part::Gone { room, ids: gone }).await?;
            }
            Line::End {
                rooms,
                messages,
                gone,
                hosts,
                invitations,
            } => {
                if self.room.is_some() {
                    return bad("a room has no end");
                }
                let moved = &self.moved;
                let found = [
                    moved.rooms,
                    moved.messages,
                    self.gone,
                    moved.hosts,
                    moved.invitations,
                ];
                if found != [rooms, messages, gone, hosts, invitations] {
                    return bad(format!(
                        "lines are missing: there were {found:?} of each kind"
                    ));
                }
                return Ok(true);
            }
            // Both were taken above.
            Line::Host { .. } | Line::Invitation { .. } => {}
            Line::Export { .. } => return bad("another export begins here"),
        }
        Ok(false)
    }

    async fn begin(
        &mut self,
        room: &str,
        topic: String,
        founder: Option<String>,
        charter: Option<String>,
    ) -> Result<(), Refused> {
        let room = line::parse_room(room)?;
        if self.room.is_some() {
            return bad("the room before has no end");
        }
        if self.sums.contains_key(&room) {
            return bad(format!("{room} is there twice"));
        }
        let parse_founder = |text: &str| line::parse("founder", text, UserName::parse);
        let state = RoomState {
            topic,
            founder: founder.as_deref().map(parse_founder).transpose()?,
            charter: match charter {
                Some(text) => Some(Encoded(line::parse_bytes("charter", &text)?)),
                None => None,
            },
        };
        self.moved.rooms += 1;
        self.room = Some((room.clone(), Tally::default()));
        self.target.put(Part::Room { room, state }).await?;
        Ok(())
    }

    async fn message(&mut self, line: &Line) -> Result<(), Refused> {
        let Some((room, tally)) = &mut self.room else {
            return bad("a message stands outside of a room");
        };
        let Some(message) = line::parse_message(room, line)? else {
            return Ok(());
        };
        tally.add(&message);
        self.bytes += message.body.as_bytes().len();
        self.batch.push(message);
        if self.batch.len() < BATCH_MESSAGES && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Refused> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.moved.messages += batch.len() as u64;
        self.target.put(Part::Messages(batch)).await?;
        (self.watcher)(Progress {
            step: Step::Import,
            messages: self.moved.messages,
            of: self.of,
        });
        Ok(())
    }

    async fn end(&mut self, name: &str, expected: Sum) -> Result<(), Refused> {
        let Some((room, tally)) = self.room.take() else {
            return bad("a room ends that has not begun");
        };
        self.flush().await?;
        if room.as_str() != name {
            return bad(format!("{name} ends, and {room} has begun"));
        }
        let found = tally.sum();
        if found != expected {
            return bad(format!("{room} has {found} and should have {expected}"));
        }
        self.sums.insert(room, expected);
        Ok(())
    }
}
