//! The conversation at a terminal: one loop of what is typed, what arrives, and what is printed.
//!
//! Nothing here waits for the terminal while something is typed: lines to print lie in a bounded
//! backlog; while it is full, no more is taken from the agent.

mod arrivals;
mod backlog;
mod desk;

use crate::{
    conversation::{Conversation, Happening, Options},
    exit::Failure,
    paths::Settings,
    prompt::{Prompt, Typed},
    render::Style,
};
use desk::{Desk, Next, Question};
use protocol::{Room, Target, local::From};
use std::future::pending;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

/// Messages shown when a room is opened.
const NEWEST: u32 = 20;

/// The room of a conversation when none is named.
///
/// # Panics
///
/// Never: the name is one.
#[must_use]
pub fn lobby() -> Room {
    "&lobby".parse().expect("a valid room")
}

/// Runs until the person leaves.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, room: Option<&Target>) -> Result<(), Failure> {
    let options = Options {
        interactive: true,
        autostart: true,
        reconnect: true,
        directs: true,
        patience: None,
    };
    let mut conversation: Conversation<Question> = Conversation::begin(settings, options).await?;
    let room = room.map_or_else(lobby, |room| room.resolve(conversation.me()));
    conversation.read(room.clone(), From::Newest(NEWEST));
    let mut ends = Ends::new()
        .map_err(|error| Failure::failed(format_args!("signals cannot be watched: {error}")))?;
    let mut prompt = Prompt::open()
        .map_err(|error| Failure::failed(format_args!("the terminal cannot be used: {error}")))?;
    let mut desk = Desk::new(Style::detect(true), room);
    desk.greet(&mut conversation);
    prompt.show(desk.prompt(conversation.me()));
    let mut interrupted = false;
    loop {
        let printer = prompt.printer().cloned();
        let wake = desk.wake_at();
        let full = desk.backlog.is_full();
        let waiting = !desk.backlog.is_empty();
        tokio::select! {
            () = desk.backlog.print_to(printer.as_ref()), if waiting => {}
            typed = prompt.typed() => {
                let was_interrupted = std::mem::replace(&mut interrupted, false);
                let next = match typed {
                    Typed::Message(text) => {
                        desk.say(&mut conversation, text);
                        continue;
                    }
                    Typed::Command(line) => desk.command(&mut conversation, &line),
                    Typed::Interrupt if was_interrupted => Next::Quit,
                    Typed::Interrupt => {
                        interrupted = true;
                        desk.note("Ctrl-C once more, Ctrl-D or /quit leaves");
                        Next::GoOn
                    }
                    Typed::End => Next::Quit,
                };
                if next == Next::Quit {
                    break;
                }
                prompt.show(desk.prompt(conversation.me()));
            }
            happening = progress(&mut conversation, full) => {
                desk.on_happening(&mut conversation, happening?);
            }
            () = until(wake) => desk.wake(&conversation),
            () = ends.recv() => break,
        }
    }
    // What is typed last may not be sent yet.
    flush(&mut conversation).await;
    Ok(())
}

/// Takes the next happening, or while the backlog is full only writes what was said.
async fn progress(
    conversation: &mut Conversation<Question>,
    full: bool,
) -> Result<Happening<Question>, Failure> {
    if full {
        conversation.only_write().await;
    }
    conversation.next().await
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => pending().await,
    }
}

/// Waits a moment for the agent to accept what was said last.
async fn flush(conversation: &mut Conversation<Question>) {
    let accepted = async {
        while conversation.outbound().unaccepted() > 0 {
            if conversation.next().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(desk::FLUSH, accepted).await;
    let lost = conversation.outbound().unaccepted();
    if lost > 0 {
        crate::exit::say(&format!(
            "{lost} of your last messages may not have been accepted: the agent did not answer"
        ));
    }
}

/// Being told to end.
struct Ends {
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
