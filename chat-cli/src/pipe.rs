//! `chat` without a terminal: sends each line of standard input, prints what arrives.
//!
//! At the end of the input it waits until everything it said is durable and, in a room that this
//! host orders, has come back and been printed, unless the agent is gone and none is started in its
//! place. When nobody reads what it prints any more, it goes on sending. A line that is no message
//! is left out.

use crate::{
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::Failure,
    interactive::lobby,
    lines::{self, Skipped},
    news,
    outbound::{Fate, Until, WINDOW},
    output::Output,
    paths::Settings,
    render::{Setting, Style},
};
use protocol::{
    Content, MessageId, Room, Target,
    local::{From, Refusal},
};
use std::{collections::HashSet, io::IsTerminal};

/// Runs until the input ends.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, room: Option<&Target>) -> Result<(), Failure> {
    let mut output = Output::optional();
    let result = Box::pin(converse(settings, room, &mut output)).await;
    output.finish(result).await
}

async fn converse(
    settings: &Settings,
    room: Option<&Target>,
    output: &mut Output,
) -> Result<(), Failure> {
    let options = Options {
        autostart: true,
        reconnect: true,
        ..Options::default()
    };
    let mut conversation: Conversation = Conversation::begin(settings, options).await?;
    let me = conversation.me().clone();
    let room = room.map_or_else(lobby, |room| room.resolve(&me));
    conversation.read(room.clone(), From::Newest(0));
    let style = Style::detect(std::io::stdout().is_terminal());
    let mut pipe = Pipe {
        // What this host orders comes back at once; the rest when the server can be reached.
        until: if room.is_local_to(&me.host) {
            Until::Committed
        } else {
            Until::Queued
        },
        room,
        awaited: HashSet::new(),
        failure: None,
    };
    let mut input = lines::stdin();
    let mut input_ended = false;
    let mut open = false;
    let mut skipped = Skipped::default();
    // Whether there is nobody to send back what was said.
    let mut gone = false;
    loop {
        let done = input_ended || pipe.failure.is_some();
        if done && conversation.outbound().is_empty() && (gone || pipe.awaited.is_empty()) {
            return pipe.failure.map_or_else(|| skipped.result(), Err);
        }
        // Nothing is said before the room is open, or its echo could be missed.
        let may_take =
            open && !done && conversation.outbound().has_room() && pipe.awaited.len() < WINDOW;
        let full = !output.has_room();
        tokio::select! {
            printed = output.room(), if full => pipe.note(printed),
            happening = conversation.progress(full) => match happening? {
                Happening::Message(message) => {
                    pipe.note(output.line(&style.message(&message, &me, Setting::DATED)));
                    pipe.awaited.remove(&message.id);
                }
                Happening::Opened { .. } => open = true,
                Happening::Fate(fate) => pipe.on_fate(fate),
                happening => {
                    match happening {
                        // What was committed in the log's old life does not come back.
                        Happening::NewLife(_) => pipe.forget(&conversation),
                        // A pipe has no use for a refusal that a person would answer.
                        Happening::OpenRefused(
                            room,
                            Refusal::EpochChanged { .. } | Refusal::CursorAhead { .. },
                        ) => {
                            pipe.forget(&conversation);
                            let told = Happening::<()>::NewLife(room.clone());
                            pipe.note(news::tell(told, &me));
                            conversation.read(room, From::Beginning);
                            continue;
                        }
                        Happening::NotStarted(_) => gone = true,
                        Happening::Reconnected => gone = false,
                        _ => {}
                    }
                    if matches!(happening, Happening::OpenRefused(..)) {
                        pipe.awaited.clear();
                    }
                    // What was said gets its fate still.
                    pipe.note(news::tell(happening, &me));
                }
            },
            line = input.recv(), if may_take => match line {
                Some(Ok(line)) => pipe.say(&mut conversation, line.text),
                Some(Err(error)) => pipe.note(skipped.skip(&error)),
                None => input_ended = true,
            },
        }
    }
}

struct Pipe {
    room: Room,
    until: Until,
    /// What was said and has not come back yet, in a room that this host orders.
    awaited: HashSet<MessageId>,
    failure: Option<Failure>,
}

impl Pipe {
    /// Awaits only what is still on its way.
    fn forget(&mut self, conversation: &Conversation) {
        let outbound = conversation.outbound();
        self.awaited.retain(|id| outbound.contains(*id));
    }

    fn say(&mut self, conversation: &mut Conversation, text: String) {
        let id = MessageId::new();
        if self.until == Until::Committed {
            self.awaited.insert(id);
        }
        let content = Content::Text(text);
        conversation.say(id, self.room.clone(), content, self.until);
    }

    fn on_fate(&mut self, fate: Fate) {
        if let Fate::Refused { id, reason, .. } = fate {
            self.awaited.remove(&id);
            self.note(Err(Failure::new(exit_of(&reason), reason)));
        }
    }

    /// The first failure is how this ends, once what was said has its fate.
    fn note(&mut self, result: Result<(), Failure>) {
        match result {
            Err(failure) if self.failure.is_none() => self.failure = Some(failure),
            Err(failure) => failure.report(),
            Ok(()) => {}
        }
    }
}
