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
    render::{self, Style},
    wait::until,
};
use futures_util::{
    StreamExt,
    stream::{BoxStream, SelectAll, unfold},
};
use place::Root;
use protocol::{
    Committed, Content, Cursor, MessageId, Room, UserName,
    limits::MAX_BODY_BYTES,
    local::{From, Refusal, Reply, Request, RoomInfo},
};
use record::Record;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::OwnedFd,
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

/// How often rooms are looked for that were joined meanwhile, and conversations that began. The
/// server is asked each time.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Lines written to a pipe, with its room.
type Lined = BoxStream<'static, (Room, io::Result<Line>)>;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &MountArgs) -> Result<(), Failure> {
    let root = Root::open(&args.dir).map_err(|error| at(&args.dir, &error))?;
    let mut ends = Ends::take()?;
    let rooms = if args.rooms.is_empty() {
        let rooms = joined(settings).await?;
        if rooms.is_empty() {
            say("you are in no room yet: those that you join are mounted then");
        }
        Some(rooms)
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
    let all = rooms.is_some();
    let rooms = rooms.unwrap_or_else(|| {
        let rooms = args.rooms.iter().map(|room| room.resolve(&me));
        rooms.collect()
    });
    let mut mount = Mount {
        dir: &args.dir,
        root,
        talk,
        me,
        // What a file has is no terminal's.
        style: Style::detect(false),
        records: BTreeMap::new(),
        pipes: Vec::new(),
        input: SelectAll::new(),
        mark_at: None,
        all,
        look_at: all.then(|| Instant::now() + LOOK_EVERY),
        left: BTreeSet::new(),
        in_the_way: BTreeSet::new(),
    };
    let made = rooms.into_iter().try_for_each(|room| {
        let from = From::Newest(NEWEST);
        mount.make(room, from)
    });
    let result = match made {
        Ok(()) => Box::pin(mount.serve(&mut ends)).await,
        Err(failure) => Err(failure),
    };
    mount.remove();
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
        rooms.extend(page.into_iter().filter(is_mine).map(|info| info.room));
        if !more || after.is_none() {
            return Ok(rooms);
        }
    }
}

/// Whether a room is one that this user is in, or a conversation of theirs.
fn is_mine(info: &RoomInfo) -> bool {
    info.joined || matches!(info.room, Room::Direct(_))
}

/// The lines of a pipe.
fn listen(room: Room, pipe: &OwnedFd) -> io::Result<Lined> {
    let pipe = pipe::Receiver::from_owned_fd(pipe.try_clone()?)?;
    let begin = (room, Lines::new(pipe, MAX_BODY_BYTES), false);
    let lines = unfold(begin, |(room, mut lines, failed)| async move {
        if failed {
            return None;
        }
        // Not the end, as it is open for writing here, too.
        let line = lines.next().await.transpose()?;
        let failed = line.is_err();
        Some(((room.clone(), line), (room, lines, failed)))
    });
    Ok(lines.boxed())
}

/// What is asked of the agent.
enum Ask {
    /// A page of its rooms.
    Rooms,
}

struct Mount<'a> {
    dir: &'a Path,
    root: Root,
    talk: Conversation<Ask>,
    me: UserName,
    style: Style,
    records: BTreeMap<Room, Record>,
    pipes: Vec<(Room, OwnedFd)>,
    input: SelectAll<Lined>,
    mark_at: Option<Instant>,
    /// Whether all rooms are mounted, also those that come: none was named.
    all: bool,
    /// When to look for more rooms.
    look_at: Option<Instant>,
    /// Rooms that were left since they were looked for last: the answer may not know it.
    left: BTreeSet<Room>,
    /// Rooms for which there is no place, which was said.
    in_the_way: BTreeSet<Room>,
}

impl Mount<'_> {
    /// Makes the place of a room, whose file begins with `from` if it is new.
    fn make(&mut self, room: Room, from: From) -> Result<(), Failure> {
        let name = room.seen_by(&self.me);
        let path = self.dir.join(&name);
        let here = |error: io::Error| at(&path, &error);
        let place = self.root.room(&name).map_err(here)?;
        let record = Record::open(place).map_err(here)?;
        let pipe = record.place().open_in().map_err(here)?;
        let lines = listen(room.clone(), &pipe).map_err(here);
        self.pipes.push((room.clone(), pipe));
        let from = record.mark().map_or(from, From::After);
        self.records.insert(room.clone(), record);
        self.input.push(lines?);
        self.talk.read(room, from);
        Ok(())
    }

    fn remove(&self) {
        for (room, pipe) in &self.pipes {
            if let Some(record) = self.records.get(room) {
                record.place().remove_in(pipe);
            }
        }
    }

    /// Asks for the rooms there are.
    fn look(&mut self, after: Option<Room>) {
        // Again when this has been answered.
        self.look_at = None;
        self.talk.ask(Ask::Rooms, Request::Rooms { after });
    }

    fn on_rooms(&mut self, answer: Option<Result<Reply, Refusal>>) {
        if let Some(Ok(Reply::Rooms { rooms, more })) = answer {
            let last = rooms.last().map(|info| info.room.clone());
            for info in rooms.into_iter().filter(is_mine) {
                self.include(info.room);
            }
            if more && last.is_some() {
                return self.look(last);
            }
        }
        self.look_at = Some(Instant::now() + LOOK_EVERY);
    }

    /// Mounts a room that is there now.
    fn include(&mut self, room: Room) {
        if self.left.contains(&room) {
            return;
        }
        if let Some(record) = self.records.get(&room) {
            // It was left, and joined again.
            if !self.talk.follow().contains(&room) {
                let from = record.mark().map_or(From::Newest(NEWEST), From::After);
                self.talk.read(room, from);
            }
            return;
        }
        if self.in_the_way.contains(&room) {
            return;
        }
        let from = match room {
            // Nothing of a conversation that has just begun was there before.
            Room::Direct(_) => From::Beginning,
            Room::Federated(_) | Room::Local(_) => From::Newest(NEWEST),
        };
        if let Err(failure) = self.make(room.clone(), from) {
            say(&format!(
                "{} is not mounted: {failure}",
                room.seen_by(&self.me)
            ));
            self.in_the_way.insert(room);
        }
    }

    async fn serve(&mut self, ends: &mut Ends) -> Result<(), Failure> {
        loop {
            let has_room = self.talk.outbound().has_room();
            tokio::select! {
                _ = ends.next() => break,
                happening = self.talk.next() => self.on_happening(happening?)?,
                Some((room, line)) = self.input.next(), if has_room => self.on_line(room, line)?,
                () = until(self.mark_at) => self.set_marks()?,
                () = until(self.look_at) => {
                    self.left.clear();
                    self.look(None);
                }
            }
        }
        // Nobody writes any more; what was written is said.
        self.remove();
        let said = async {
            loop {
                let has_room = self.talk.outbound().has_room();
                if has_room
                    && let Ok(Some((room, line))) = timeout(Duration::ZERO, self.input.next()).await
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

    fn on_happening(&mut self, happening: Happening<Ask>) -> Result<(), Failure> {
        match happening {
            Happening::Answer(Ask::Rooms, answer) => self.on_rooms(answer),
            Happening::OpenRefused(room, Refusal::Left { .. }) if self.all => {
                say(&format!("you left {}", room.seen_by(&self.me)));
                self.left.insert(room);
            }
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
        let line = self.style.record(message, &self.me);
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
