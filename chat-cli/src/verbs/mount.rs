//! `chat mount`: a directory for each room, with a pipe to it and a file of it.

mod place;
mod record;

use crate::{
    args::MountArgs,
    bounded::{Line, Lines},
    client::CallError,
    consumer::is_new_life,
    conversation::{Conversation, Happening, Options},
    ends::Ends,
    exit::{Failure, say},
    news,
    outbound::{Fate, Until},
    paths::Settings,
    render,
    wait::until,
};
use futures_util::{
    StreamExt,
    stream::{BoxStream, SelectAll, select_all, unfold},
};
use jiff::tz::TimeZone;
use place::Root;
use protocol::{
    Committed, Content, Cursor, MessageId, Room, UserName,
    limits::MAX_BODY_BYTES,
    local::{From, Reply, Request},
};
use record::Record;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::Duration,
};
use tokio::{
    net::unix::pipe,
    time::{Instant, timeout},
};

/// Messages of a room that its file begins with.
const NEWEST: u32 = 10;

/// How long a file may be ahead of its mark.
const MARK_AFTER: Duration = Duration::from_millis(100);

/// How long what was written last may take to be accepted.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Lines written to pipes, with the room of each.
type Input = SelectAll<BoxStream<'static, (Room, io::Result<Line>)>>;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &MountArgs) -> Result<(), Failure> {
    let root = Root::open(&args.dir).map_err(|error| at(&args.dir, &error))?;
    let mut ends = Ends::take()?;
    let rooms = if args.rooms.is_empty() {
        Some(joined(settings).await?)
    } else {
        None
    };
    let options = Options {
        autostart: super::may_start(settings),
        reconnect: true,
        ..Options::default()
    };
    let talk = tokio::select! {
        talk = Box::pin(Conversation::begin(settings, options)) => talk?,
        _ = ends.next() => return Ok(()),
    };
    let me = talk.me().clone();
    let rooms = rooms.unwrap_or_else(|| {
        let rooms = args.rooms.iter().map(|room| room.resolve(&me));
        rooms.collect()
    });
    let mut mount = Mount {
        dir: &args.dir,
        talk,
        me,
        zone: TimeZone::system(),
        records: BTreeMap::new(),
        mark_at: None,
    };
    let mut pipes = Vec::new();
    let result = mount.make(&root, rooms, &mut pipes);
    let input = result.and_then(|()| listen(&pipes).map_err(|error| at(&args.dir, &error)));
    let result = match input {
        Ok(input) => Box::pin(mount.serve(input, &pipes, &mut ends)).await,
        Err(failure) => Err(failure),
    };
    mount.remove(&pipes);
    let marked = mount.set_marks();
    result.and(marked)
}

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("{}: {error}", path.display()))
}

/// The rooms that this user is in, and their conversations.
async fn joined(settings: &Settings) -> Result<BTreeSet<Room>, Failure> {
    let mut session = super::session_or_start(settings).await?;
    let mut rooms = BTreeSet::new();
    let mut after = None;
    loop {
        let asked = Request::Rooms {
            after: after.clone(),
        };
        let Reply::Rooms { rooms: page, more } = session.call(asked).await? else {
            return Err(CallError::Misfit.into());
        };
        after = page.last().map(|info| info.room.clone());
        let mine = |room: &Room| matches!(room, Room::Direct(_));
        let joined = page
            .into_iter()
            .filter(|info| info.joined || mine(&info.room));
        rooms.extend(joined.map(|info| info.room));
        if !more || after.is_none() {
            break;
        }
    }
    if rooms.is_empty() {
        return Err(Failure::failed(
            "you are in no room: name some, or `chat join` them first",
        ));
    }
    Ok(rooms)
}

/// The lines of all pipes, in one stream.
fn listen(pipes: &[(Room, std::os::fd::OwnedFd)]) -> io::Result<Input> {
    let mut streams = Vec::new();
    for (room, pipe) in pipes {
        let pipe = pipe::Receiver::from_owned_fd(pipe.try_clone()?)?;
        let begin = (room.clone(), Lines::new(pipe, MAX_BODY_BYTES), false);
        let lines = unfold(begin, |(room, mut lines, failed)| async move {
            if failed {
                return None;
            }
            // Not the end, as it is open for writing here, too.
            let line = lines.next().await.transpose()?;
            let failed = line.is_err();
            Some(((room.clone(), line), (room, lines, failed)))
        });
        streams.push(lines.boxed());
    }
    Ok(select_all(streams))
}

struct Mount<'a> {
    dir: &'a Path,
    talk: Conversation,
    me: UserName,
    zone: TimeZone,
    records: BTreeMap<Room, Record>,
    mark_at: Option<Instant>,
}

impl Mount<'_> {
    /// Makes the places of all rooms, or none that stays.
    fn make(
        &mut self,
        root: &Root,
        rooms: BTreeSet<Room>,
        pipes: &mut Vec<(Room, std::os::fd::OwnedFd)>,
    ) -> Result<(), Failure> {
        for room in rooms {
            let name = room.seen_by(&self.me);
            let here = |error: io::Error| at(&self.dir.join(&name), &error);
            let place = root.room(&name).map_err(here)?;
            let record = Record::open(place).map_err(here)?;
            pipes.push((room.clone(), record.place().open_in().map_err(here)?));
            let from = record.mark().map_or(From::Newest(NEWEST), From::After);
            self.talk.read(room.clone(), from);
            self.records.insert(room, record);
        }
        Ok(())
    }

    fn remove(&self, pipes: &[(Room, std::os::fd::OwnedFd)]) {
        for (room, pipe) in pipes {
            if let Some(record) = self.records.get(room) {
                record.place().remove_in(pipe);
            }
        }
    }

    async fn serve(
        &mut self,
        mut input: Input,
        pipes: &[(Room, std::os::fd::OwnedFd)],
        ends: &mut Ends,
    ) -> Result<(), Failure> {
        loop {
            let has_room = self.talk.outbound().has_room();
            tokio::select! {
                _ = ends.next() => break,
                happening = self.talk.next() => self.on_happening(happening?)?,
                Some((room, line)) = input.next(), if has_room => self.on_line(room, line)?,
                () = until(self.mark_at) => self.set_marks()?,
            }
        }
        // Nobody writes any more; what was written is said.
        self.remove(pipes);
        let said = async {
            loop {
                let has_room = self.talk.outbound().has_room();
                if has_room
                    && let Ok(Some((room, line))) = timeout(Duration::ZERO, input.next()).await
                {
                    self.on_line(room, line)?;
                } else if self.talk.outbound().is_empty() {
                    return Ok(());
                } else {
                    let happening = self.talk.next().await?;
                    self.on_happening(happening)?;
                }
            }
        };
        timeout(LAST_WORDS, said).await.unwrap_or_else(|_| {
            let unsure = self.talk.outbound().unaccepted() as u64;
            Err(Failure::failed(format_args!(
                "it is not known whether the last {} were accepted",
                render::count(unsure, "message")
            )))
        })
    }

    fn on_line(&mut self, room: Room, line: io::Result<Line>) -> Result<(), Failure> {
        let name = room.seen_by(&self.me);
        let line = line.map_err(|error| at(&self.dir.join(&name).join("in"), &error))?;
        if line.cut || line.garbled {
            let why = if line.cut {
                "it has more bytes than a message may have"
            } else {
                "it is not valid UTF-8"
            };
            say(&format!("a line for {name} was not sent: {why}"));
        } else if !line.text.is_empty() {
            let content = Content::Text(line.text);
            self.talk
                .say(MessageId::new(), room, content, Until::Queued);
        }
        Ok(())
    }

    fn on_happening(&mut self, happening: Happening<()>) -> Result<(), Failure> {
        match happening {
            Happening::Message(message) => {
                if let Some(at) = self.talk.follow().reached(&message.room) {
                    self.write(&message, at)?;
                }
            }
            Happening::Opened { room, .. } => {
                // So that what comes from now on is not missed if this is killed before that.
                let begun = self.talk.follow().reached(&room);
                if let Some(record) = self.records.get_mut(&room)
                    && record.mark().is_none()
                    && let Some(begun) = begun
                {
                    let begun = record.move_on(begun).and_then(|()| record.set_mark());
                    begun.map_err(|error| at(self.dir, &error))?;
                }
            }
            Happening::OpenRefused(room, refusal) if is_new_life(&refusal) => {
                say(&format!(
                    "the log of {} was recreated or restored: going on with the new one from its \
                     beginning",
                    room.seen_by(&self.me)
                ));
                self.talk.read(room, From::Beginning);
            }
            Happening::Fate(Fate::Refused { reason, room, .. }) => {
                let name = room.seen_by(&self.me);
                say(&format!("{name} does not take a line: {reason}"));
            }
            happening => news::tell(happening, &self.me)?,
        }
        Ok(())
    }

    fn write(&mut self, message: &Committed, reached: Cursor) -> Result<(), Failure> {
        let line = record::line(message, &self.me, &self.zone);
        let Some(record) = self.records.get_mut(&message.room) else {
            return Ok(());
        };
        record.write(&line, reached).map_err(|error| {
            let name = message.room.seen_by(&self.me);
            at(&self.dir.join(name).join("out"), &error)
        })?;
        self.mark_at
            .get_or_insert_with(|| Instant::now() + MARK_AFTER);
        Ok(())
    }

    fn set_marks(&mut self) -> Result<(), Failure> {
        self.mark_at = None;
        for (room, record) in &mut self.records {
            if record.needs_mark() {
                let name = room.seen_by(&self.me);
                let made = record.set_mark();
                made.map_err(|error| at(&self.dir.join(name), &error))?;
            }
        }
        Ok(())
    }
}
