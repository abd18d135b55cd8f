//! The people of the kill rounds: each has a thread, a terminal, and can be killed.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tests::{
    MessageLine, Outcome, Random, SentLine, Tail, Terminal, limit,
    recorder::{self, History},
    terminal::sent_lines,
};

/// The rooms everybody shares.
pub(super) const ROOMS: [&str; 2] = ["#one", "#two"];
/// Messages a pipe may be ahead of what it has reported.
const PIPE_WINDOW: usize = 16;

/// What all actors write to and look at.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) history: Mutex<History>,
    pub(super) senders_stop: AtomicBool,
    fences: Mutex<Option<HashSet<String>>>,
}

impl Shared {
    pub(super) fn sent(
        &self,
        user: &str,
        room: &str,
        body: &str,
        outcome: Outcome,
        line: Option<&SentLine>,
    ) {
        if let Some(line) = line {
            assert_eq!(line.room, room, "{line:?}");
        }
        lock(&self.history).sent(recorder::Send {
            sender: user.to_owned(),
            room: room.to_owned(),
            body: body.to_owned(),
            outcome,
            seq: line.and_then(|line| line.seq),
            id: line.map(|line| line.id.clone()),
        });
    }

    pub(super) fn acknowledged(&self) -> usize {
        lock(&self.history).acknowledged()
    }

    pub(super) fn expect_fences(&self, fences: HashSet<String>) {
        *lock(&self.fences) = Some(fences);
    }
}

/// What the main thread sees of an actor.
pub(super) struct Running {
    pub(super) user: String,
    kill: Arc<AtomicBool>,
    progress: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Asks for the actor's process to be killed now.
    pub(super) fn kill(&self) {
        self.kill.store(true, Ordering::Relaxed);
    }

    pub(super) fn progress(&self) -> usize {
        self.progress.load(Ordering::Relaxed)
    }

    pub(super) fn join(&mut self) {
        let thread = self.thread.take().expect("joined once");
        assert!(thread.join().is_ok(), "{} failed", self.user);
    }
}

/// A terminal with a thread of its own.
pub(super) struct Actor {
    terminal: Terminal,
    shared: Arc<Shared>,
    random: Random,
    kill: Arc<AtomicBool>,
    progress: Arc<AtomicUsize>,
    count: usize,
}

impl Actor {
    pub(super) fn new(terminal: Terminal, shared: &Arc<Shared>, random: &mut Random) -> Self {
        Self {
            terminal,
            shared: Arc::clone(shared),
            random: random.fork(),
            kill: Arc::default(),
            progress: Arc::default(),
            count: 0,
        }
    }

    pub(super) fn spawn(self, role: fn(Self)) -> Running {
        Running {
            user: self.terminal.user(),
            kill: Arc::clone(&self.kill),
            progress: Arc::clone(&self.progress),
            thread: Some(thread::spawn(move || role(self))),
        }
    }

    fn killed(&self) -> bool {
        self.kill.swap(false, Ordering::Relaxed)
    }

    fn stopping(&self) -> bool {
        self.shared.senders_stop.load(Ordering::Relaxed)
    }

    fn next_body(&mut self) -> String {
        self.count += 1;
        format!("{} {}", self.terminal.user(), self.count)
    }

    fn record(&self, room: &str, body: &str, outcome: Outcome, line: Option<&SentLine>) {
        let user = self.terminal.user();
        self.shared.sent(&user, room, body, outcome, line);
        if outcome == Outcome::Acknowledged {
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn send_as_script(mut self) {
        while !self.stopping() {
            let body = self.next_body();
            let room = *self.random.pick(&ROOMS);
            while !self.try_as_script(room, &body) {}
            thread::sleep(self.random.pause(60));
        }
    }

    /// Runs `chat send --id` once; false if it is to be tried again.
    fn try_as_script(&mut self, room: &str, body: &str) -> bool {
        let key = format!("key of {body}");
        let wait = if self.random.chance(30) {
            "committed"
        } else {
            "queued"
        };
        let words = [
            "send",
            "--json",
            "--id",
            &key,
            "--wait",
            wait,
            "--timeout",
            "5",
            room,
            body,
        ];
        let mut process = self.terminal.start(words);
        while process.is_running() {
            if self.killed() {
                process.kill();
                self.record(room, body, Outcome::Unknown, None);
                // Some scripts give up: nobody may then see it twice either.
                return self.random.chance(30);
            }
            thread::sleep(Duration::from_millis(2));
        }
        let finished = process.wait();
        match finished.code {
            Some(0) => {
                let lines = sent_lines(&finished.stdout);
                assert_eq!(lines.len(), 1, "{finished:?}");
                self.record(room, body, Outcome::Acknowledged, lines.first());
                true
            }
            // Accepted, only not committed in time.
            Some(75) => {
                self.record(room, body, Outcome::Acknowledged, None);
                true
            }
            Some(69) => {
                self.record(room, body, Outcome::Unknown, None);
                false
            }
            _ => panic!("{body}: {finished:?}"),
        }
    }

    pub(super) fn send_as_pipe(mut self) {
        while !self.stopping() {
            let room = *self.random.pick(&ROOMS);
            let mut pipe = self.terminal.pipe(room);
            let mut bodies: Vec<String> = Vec::new();
            let mut recorded = 0;
            let mut open = true;
            while open {
                let killed = self.killed();
                if killed {
                    pipe.process().kill();
                }
                open = !killed && !self.stopping() && pipe.process().is_running();
                let sent = pipe.sent();
                for (line, body) in sent.iter().zip(&bodies).skip(recorded) {
                    self.record(room, body, Outcome::Acknowledged, Some(line));
                }
                recorded = sent.len();
                assert!(
                    recorded <= bodies.len(),
                    "more reported than sent: {sent:?}"
                );
                if open && bodies.len() - recorded < PIPE_WINDOW {
                    let body = self.next_body();
                    open = pipe.write(&body).is_ok();
                    bodies.push(body);
                }
                // Bursts and lulls, so that some kills hit a busy moment.
                if self.random.chance(40) {
                    thread::sleep(self.random.pause(40));
                }
            }
            if self.stopping() && pipe.process().is_running() {
                pipe.finish(limit()).expect_code(0);
            }
            let sent = pipe.sent();
            for (index, body) in bodies.iter().enumerate().skip(recorded) {
                match sent.get(index) {
                    Some(line) => self.record(room, body, Outcome::Acknowledged, Some(line)),
                    None => self.record(room, body, Outcome::Unknown, None),
                }
            }
        }
    }

    pub(super) fn read(self) {
        let user = self.terminal.user();
        let mut since = "0".to_owned();
        let mut open_fences: Option<HashSet<String>> = None;
        loop {
            let mut tail = self.terminal.tail(&ROOMS, &since);
            let mut taken = 0;
            loop {
                let killed = self.killed();
                if killed {
                    tail.process().kill();
                }
                let running = tail.process().is_running();
                taken += self.take(&user, &mut tail, taken, &mut since, open_fences.as_mut());
                if open_fences.is_none() {
                    open_fences = lock(&self.shared.fences).clone().map(|mut fences| {
                        let history = lock(&self.shared.history);
                        for read in history.reads.get(&user).into_iter().flatten() {
                            fences.remove(&read.body);
                        }
                        fences
                    });
                }
                if open_fences.as_ref().is_some_and(HashSet::is_empty) {
                    return;
                }
                if !running {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Records what `tail` has printed beyond `taken`.
    fn take(
        &self,
        user: &str,
        tail: &mut Tail,
        taken: usize,
        since: &mut String,
        fences: Option<&mut HashSet<String>>,
    ) -> usize {
        assert!(tail.others().is_empty(), "{:?}", tail.others());
        let new: &[MessageLine] = &tail.messages()[taken..];
        if let Some(last) = new.last() {
            since.clone_from(&last.cursor);
        }
        if let Some(fences) = fences {
            for message in new {
                fences.remove(&message.body);
            }
        }
        lock(&self.shared.history).read(user, new);
        self.progress.fetch_add(new.len(), Ordering::Relaxed);
        new.len()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
