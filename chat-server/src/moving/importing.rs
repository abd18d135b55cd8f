//! Out of a file into a log that was not there.

use super::{
    MoveError, Moved, Progress, Step, Watcher,
    check::check,
    line::{self, Bad, Line},
    lines::{Heading, Lines},
    lock, place, settings,
    source::Source,
    tally::{Sum, Tally},
    target::Target,
};
use crate::{
    args::StoreArgs,
    config::Config,
    log::{Encoded, Part, Purpose, RestoreError, RoomState, SqliteLog},
    register::moving::{self as register, Rows},
};
use protocol::{Committed, HostName, Room, Seq, Timestamp, UserName};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, BufRead},
    path::Path,
    time::SystemTime,
};

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
    let config = settings(store)?;
    let _lock = lock(&config)?;
    let mut lines = Lines::new(file);
    let heading = lines.first()?;
    let here = Here::look(&config, &heading)?;
    let of = heading.messages;
    let (target, again) = Target::begin(&config).await?;
    let import = Import {
        target,
        watcher: &mut *watcher,
        of,
        here: &here,
        state_dir: &config.state_dir.value,
        moved: Moved {
            log: place(&config),
            ..Moved::default()
        },
        register: Rows::default(),
        made: BTreeMap::new(),
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
        made,
        sums,
        gone,
    } = import.run(&mut lines).await?;
    let written = target.written().await?;
    let source = Source::open(&config, Purpose::Check).await?;
    check(&source, &sums, &made, gone, (of, watcher)).await?;
    moved.notes.extend(source.condition());
    source.close().await;
    restore_register(&config, &register).await?;
    written.end(&config).await?;
    here.end(&config, &mut moved.notes)?;
    moved.notes.extend(missing_key(&config, &register));
    if again {
        moved
            .notes
            .push("an earlier import had not come to its end, and was removed".to_owned());
    }
    Ok(moved)
}

/// That the hosts will not know a server with this state directory, if so.
fn missing_key(config: &Config, register: &Rows) -> Option<String> {
    let key = config.state_dir.value.join("server.pem");
    let is_own = config.tls_cert.value.is_none() && !config.insecure_plaintext.value;
    let is_missing = is_own && !register.agents.is_empty() && !key.exists();
    is_missing.then(|| {
        format!(
            "there is no {}: hosts know a server by its key, so copy it from the old state directory before \
             the first start, or they must be invited anew",
            key.display()
        )
    })
}

/// What stands in the state directory that is not part of the new log.
#[derive(Debug, Default)]
struct Here {
    /// Who is let in.
    register: Rows,
    /// The file that the log was exported from.
    has_log: bool,
}

impl Here {
    /// Looks, and says why nothing may be imported.
    fn look(config: &Config, heading: &Heading) -> Result<Self, MoveError> {
        let state_dir = &config.state_dir.value;
        let register = register::own_rows(state_dir)?;
        if config.jetstream.value.is_none() {
            if !register.is_empty() {
                let path = register::path(state_dir);
                return Err(MoveError::HasRegister { path });
            }
            return Ok(Self::default());
        }
        let path = SqliteLog::path(state_dir);
        let has_log = match SqliteLog::look(state_dir)? {
            None => false,
            Some((epoch, _)) if epoch.to_string() != heading.epoch => {
                return Err(MoveError::OtherLog { path });
            }
            Some((_, newest)) if newest.number() != heading.newest => {
                return Err(MoveError::GoneOn { path });
            }
            Some(_) => true,
        };
        Ok(Self { register, has_log })
    }

    /// Whether the file has everybody who is let in here.
    fn check(&self, moved: &Rows, state_dir: &Path) -> Result<(), MoveError> {
        let keys: HashSet<_> = moved.agents.iter().map(|row| row.key).collect();
        match self
            .register
            .agents
            .iter()
            .find(|row| !keys.contains(&row.key))
        {
            None => Ok(()),
            Some(lost) => Err(MoveError::OtherHosts {
                path: register::path(state_dir),
                host: lost.host.to_string(),
            }),
        }
    }

    /// The log is whole elsewhere: what was exported is put aside, so that no server goes on with it.
    fn end(self, config: &Config, notes: &mut Vec<String>) -> Result<(), MoveError> {
        let state_dir = &config.state_dir.value;
        if config.jetstream.value.is_none() {
            return Ok(register::end(state_dir)?);
        }
        if self.has_log {
            notes.push(put_aside(&SqliteLog::path(state_dir))?);
        }
        if !self.register.is_empty() {
            notes.push(put_aside(&register::path(state_dir))?);
        }
        Ok(())
    }
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

/// Puts a database aside that a server would use, were it started as before; tells so.
fn put_aside(path: &Path) -> Result<String, MoveError> {
    let now = Timestamp::from(SystemTime::now()).micros();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}-before-{now}.db"));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason| MoveError::PutAside { path, reason }
    };
    // It was closed, so nothing lies beside it that belongs to it; the mark that it was there goes first.
    let marker = path.with_extension("exists");
    match fs::remove_file(&marker) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&marker)(reason));
        }
        _ => {}
    }
    fs::rename(path, &aside).map_err(failed(path))?;
    Ok(format!(
        "what stood in {} stands on NATS now, and the file is put aside as {}",
        path.display(),
        aside.display()
    ))
}

/// The work in between.
struct Import<'i, 'w> {
    target: Target,
    watcher: &'i mut Watcher<'w>,
    of: u64,
    here: &'i Here,
    state_dir: &'i Path,
    moved: Moved,
    register: Rows,
    made: BTreeMap<HostName, u32>,
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
    made: BTreeMap<HostName, u32>,
    sums: BTreeMap<Room, Sum>,
    gone: u64,
}

/// Why a line was not taken.
enum Refused {
    Bad(String),
    Move(MoveError),
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
            error => Self::Move(error.into()),
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
            match self.take(line, lines).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(Refused::Bad(problem)) => return Err(lines.bad(&problem)),
                Err(Refused::Move(error)) => return Err(error),
            }
        }
        if !lines.at_end()? {
            return Err(lines.bad("something stands behind the end"));
        }
        Ok(Imported {
            target: self.target,
            moved: self.moved,
            register: self.register,
            made: self.made,
            sums: self.sums,
            gone: self.gone,
        })
    }

    /// Takes a line; tells whether it was the last.
    async fn take(&mut self, line: Line, lines: &Lines<'_>) -> Result<bool, Refused> {
        let is_register = matches!(line, Line::Host { .. } | Line::Invitation { .. });
        if is_register && (self.room.is_some() || !self.sums.is_empty()) {
            return bad("who is let in stands behind a room");
        }
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
                self.made.insert(host.clone(), rooms);
                self.target.put(Part::Made { host, rooms }).await?;
            }
            Line::Room {
                room,
                topic,
                founder,
                charter,
            } => self.begin(&room, topic, founder, charter).await?,
            Line::People { members, kicked } => {
                let Some((room, tally)) = &mut self.room else {
                    return bad("people stand outside of a room");
                };
                let members = line::parse_users(&members)?;
                let kicked = line::parse_users(&kicked)?;
                tally.add_people(&members, &kicked);
                let part = Part::People {
                    room: room.clone(),
                    members,
                    kicked,
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
                sha256,
            } => {
                if self.room.is_some() {
                    return bad("a room has no end");
                }
                if self.sums.is_empty() {
                    self.check_register()?;
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
                if sha256 != lines.sha256() {
                    return bad("the lines before it are not those that were exported");
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
        if self.sums.is_empty() {
            self.check_register()?;
        }
        self.moved.rooms += 1;
        self.room = Some((room.clone(), Tally::new(&state)));
        self.target.put(Part::Room { room, state }).await?;
        Ok(())
    }

    /// Looks at the register when all of it has come.
    fn check_register(&mut self) -> Result<(), Refused> {
        self.register.sort();
        if let Some(conflict) = self.register.conflict() {
            return bad(conflict);
        }
        let checked = self.here.check(&self.register, self.state_dir);
        checked.map_err(Refused::Move)
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
            return bad(format!(
                "{room} is not what was exported: {found}, not {expected}; export it again"
            ));
        }
        self.sums.insert(room, expected);
        Ok(())
    }
}
