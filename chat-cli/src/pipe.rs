//! `chat` without a terminal: sends each line of standard input, prints what arrives.
//!
//! At the end of the input it waits until everything it said is durable and, in a room that this
//! host orders, has come back and been printed.

use crate::{
    client::exit_of,
    conversation::{Conversation, Happening, Options},
    exit::{Failure, say},
    lines,
    outbound::{Fate, Until, WINDOW},
    output::Output,
    paths::Settings,
    render::Style,
};
use futures_util::FutureExt;
use protocol::{MessageId, Room, Target, local::From};
use std::{collections::HashSet, io::IsTerminal};

/// Runs until the input ends.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, room: Option<&Target>) -> Result<(), Failure> {
    let options = Options {
        autostart: true,
        reconnect: true,
        ..Options::default()
    };
    let mut conversation: Conversation = Conversation::begin(settings, options).await?;
    let me = conversation.me().clone();
    let room = room.map_or_else(crate::interactive::lobby, |room| room.resolve(&me));
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
    let mut output = Output::default();
    let mut input = lines::stdin();
    let mut input_ended = false;
    let mut open = false;
    loop {
        let done = input_ended || pipe.failure.is_some();
        if done && conversation.outbound().is_empty() && pipe.awaited.is_empty() {
            output.flush()?;
            return pipe.failure.map_or(Ok(()), Err);
        }
        let happening = match conversation.next().now_or_never() {
            Some(happening) => happening?,
            None => {
                output.flush()?;
                // Nothing is said before the room is open, or its echo could be missed.
                let may_take = open
                    && !done
                    && conversation.outbound().has_room()
                    && pipe.awaited.len() < WINDOW;
                tokio::select! {
                    happening = conversation.next() => happening?,
                    line = input.recv(), if may_take => {
                        match line {
                            Some(Ok(line)) => pipe.say(&mut conversation, line.text),
                            Some(Err(error)) => pipe.failure = Some(Failure::failed(error)),
                            None => input_ended = true,
                        }
                        continue;
                    }
                }
            }
        };
        match happening {
            Happening::Message(message) => {
                output.line(&style.message(&message, &me, None))?;
                pipe.awaited.remove(&message.id);
            }
            Happening::Opened { .. } => open = true,
            happening => pipe.on_happening(happening, &conversation)?,
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
    fn say(&mut self, conversation: &mut Conversation, text: String) {
        let id = MessageId::new();
        if self.until == Until::Committed {
            self.awaited.insert(id);
        }
        conversation.say(id, self.room.clone(), text, self.until);
    }

    fn on_happening(
        &mut self,
        happening: Happening<()>,
        conversation: &Conversation,
    ) -> Result<(), Failure> {
        let me = conversation.me();
        match happening {
            Happening::Fate(Fate::Refused { id, reason, .. }) => {
                self.awaited.remove(&id);
                let failure = Failure::new(exit_of(&reason), reason);
                if self.failure.is_none() {
                    self.failure = Some(failure);
                } else {
                    failure.report();
                }
            }
            Happening::OpenRefused(room, refusal) => {
                let name = room.seen_by(me);
                return Err(Failure::new(
                    exit_of(&refusal),
                    format_args!("{name} cannot be read: {refusal}"),
                ));
            }
            Happening::NewLife(room) => say(&format!(
                "the log of {} was recreated or restored",
                room.seen_by(me)
            )),
            Happening::Disconnected(reason) => say(&format!("{reason}; looking for it")),
            Happening::NotStarted(reason) => say(&reason),
            _ => {}
        }
        Ok(())
    }
}
