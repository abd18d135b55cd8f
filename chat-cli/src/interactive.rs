//! The conversation at a terminal: one loop of what is typed, what arrives, and what is printed.
//!
//! Nothing here waits for the terminal while something is typed: lines to print lie in a bounded
//! backlog; while it is full, no more is taken from the agent. A message counts as read once it is
//! on the terminal, not before: after a crash some are shown twice, rather than never.

mod absence;
mod arrivals;
mod backlog;
mod calls;
mod commands;
mod desk;
mod editor;
mod ignored;
mod noise;
mod preferences;
mod saying;
mod transcript;

use crate::{
    conversation::{Conversation, Happening, Options},
    ends::Ends,
    exit::{self, Failure},
    paths::Settings,
    prompt::{self, Printer, Prompt, Typed},
    render::{self, Style},
    wait::until,
};
use backlog::Marks;
use chat_agent::paths::terminal_config;
use desk::{Desk, Next, Talk};
use editor::{Editor, EditorError, Written};
use ignored::Ignored;
use preferences::Preferences;
pub(crate) use preferences::{PreferenceError, settings as preferences};
use protocol::{Content, Nick, Room, Target, local::From};
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Messages shown when a room is opened.
const NEWEST: u32 = 20;

/// How long leaving waits for the terminal and the agent to take what came last, and another name
/// for the agent.
const FLUSH: Duration = Duration::from_secs(2);

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
    let mut conversation: Talk = Conversation::begin(settings, options).await?;
    let room = room.map_or_else(lobby, |room| room.resolve(conversation.me()));
    conversation.read(room.clone(), From::Newest(NEWEST));
    let mut ends = Ends::take()?;
    let style = Style::detect(true);
    let prompting = prompt::Options {
        colour: style.colour,
        history: Some(
            settings
                .state_dir
                .join(format!("history-{}", conversation.me().nick)),
        ),
    };
    let (mut prompt, mut printer) = Prompt::open(prompting)
        .map_err(|error| Failure::failed(format_args!("the terminal cannot be used: {error}")))?;
    let (preferences, complaint) = match Preferences::load(&terminal_config()) {
        Ok(preferences) => (preferences, None),
        Err(error) => (Preferences::default(), Some(error.to_string())),
    };
    let nick = &conversation.me().nick;
    let ignored = Ignored::load(&settings.state_dir, nick).unwrap_or_default();
    let mut desk = Desk::new(style, room, preferences, ignored);
    desk.greet(&mut conversation);
    if let Some(complaint) = complaint {
        desk.note(&complaint);
    }
    prompt.show(desk.prompt(conversation.me()));

    let outcome = talk(
        settings,
        &mut conversation,
        &mut desk,
        &mut prompt,
        &mut printer,
        &mut ends,
    )
    .await;
    let mut undone = Vec::new();
    for typed in prompt.finish() {
        match typed {
            Typed::Message(text) => desk.say(&mut conversation, text),
            Typed::Command(line) => undone.push(render::line(&line).into_owned()),
            _ => {}
        }
    }
    let hurry = tokio::select! {
        () = flush(&mut conversation, &mut desk, &mut printer, outcome.is_ok()) => false,
        _ = ends.next() => true,
    };
    let lost = desk.unaccepted(&conversation);
    let why = match &outcome {
        Ok(()) => ": the agent did not answer",
        Err(_) => "",
    };
    let failure = outcome.as_ref().err().cloned();
    prompt.end(hurry, move || {
        if let Some(failure) = failure {
            failure.report();
        }
        for line in undone {
            exit::say(&format!("not done any more: {line}"));
        }
        if lost > 0 {
            exit::say(&format!(
                "{lost} of your last messages may not have been accepted{why}"
            ));
        }
    });
    outcome.map_err(|failure| Failure::silent(failure.exit))
}

/// The conversation until its end.
async fn talk(
    settings: &Settings,
    conversation: &mut Talk,
    desk: &mut Desk,
    prompt: &mut Prompt,
    printer: &mut Printer<Marks>,
    ends: &mut Ends,
) -> Result<(), Failure> {
    // When at the latest this ends, once it was told to.
    let mut ending = None;
    loop {
        if ending.is_some() && desk.backlog.is_printed() {
            return Ok(());
        }
        desk.say_waiting(conversation);
        let (state, waiting) = desk.state();
        prompt.set_state(state, waiting);
        if let Some(words) = desk.new_words(conversation) {
            prompt.set_words(words);
        }
        let wake = desk.wake_at();
        let full = desk.backlog.is_full();
        let waiting = !desk.backlog.is_empty();
        tokio::select! {
            () = desk.backlog.print_to(&printer.blocks), if waiting => {}
            Some(marks) = printer.printed.recv() => desk.on_printed(conversation, marks),
            typed = prompt.typed() => {
                let next = match typed {
                    Typed::Message(text) => {
                        desk.say(conversation, text);
                        continue;
                    }
                    Typed::Notice(text) => {
                        desk.note(&text);
                        continue;
                    }
                    Typed::Command(line) => desk.command(conversation, &line),
                    Typed::Switch(which) => {
                        desk.switch(conversation, which);
                        Next::GoOn
                    }
                    Typed::Interrupt { again: true } => Next::Quit,
                    Typed::Interrupt { again: false } => {
                        desk.note("Ctrl-C once more, Ctrl-D or /quit leaves");
                        Next::GoOn
                    }
                    Typed::End => Next::Quit,
                    Typed::Broken => {
                        return Err(Failure::failed(
                            "the prompt broke down: what you sent before is safe",
                        ));
                    }
                };
                match next {
                    Next::Quit => return Ok(()),
                    Next::GoOn => {}
                    Next::Rename(nick) => rename(settings, conversation, desk, nick).await?,
                    Next::Write(text) => {
                        if !write(conversation, desk, prompt, ends, &text).await? {
                            return Ok(());
                        }
                    }
                }
                prompt.show(desk.prompt(conversation.me()));
            }
            happening = conversation.progress(full) => {
                desk.on_happening(conversation, happening?);
            }
            () = until(wake) => {
                desk.mark_again(conversation);
                desk.wake(conversation);
            }
            signal = ends.next() => {
                if signal == Signal::HUP || ending.is_some() {
                    return Ok(());
                }
                // The editor prints only when it has nothing to read: what was typed before is
                // done as ever.
                ending = Some(Instant::now() + FLUSH);
                desk.backlog.push_nothing();
            }
            () = until(ending) => return Ok(()),
        }
    }
}

/// Goes on under another name, once nothing is on its way under this one.
async fn rename(
    settings: &Settings,
    conversation: &mut Talk,
    desk: &mut Desk,
    nick: Nick,
) -> Result<(), Failure> {
    let accepted = async {
        while desk.unaccepted(conversation) > 0 {
            let happening = conversation.progress(desk.backlog.is_full()).await?;
            desk.on_happening(conversation, happening);
            desk.say_waiting(conversation);
        }
        Ok::<(), Failure>(())
    };
    if let Ok(accepted) = timeout(FLUSH, accepted).await {
        accepted?;
    } else {
        desk.note("the agent has not accepted your last messages yet: try again then");
        return Ok(());
    }
    if let Err(failure) = conversation.go_on_as(settings, nick).await {
        desk.note(&format!("you keep your name: {failure}"));
        return Ok(());
    }
    desk.ignored = Ignored::load(&settings.state_dir, &conversation.me().nick).unwrap_or_default();
    desk.begin_anew(conversation);
    if !conversation.follow().contains(&desk.current) {
        let first = conversation.follow().rooms().next().cloned();
        desk.current = first.unwrap_or_else(lobby);
    }
    desk.note(&format!("you are {} now", conversation.me()));
    desk.ask_names(conversation);
    Ok(())
}

/// Lets the person write in their editor, while the conversation goes on behind it; whether they
/// go on here.
///
/// Ctrl-C is the editor's meanwhile. Being told to end ends the editor, and nothing is sent.
async fn write(
    conversation: &mut Talk,
    desk: &mut Desk,
    prompt: &Prompt,
    ends: &mut Ends,
    text: &str,
) -> Result<bool, Failure> {
    let mut editor = match Editor::open(text) {
        Ok(editor) => editor,
        Err(error) => {
            desk.note(&error.to_string());
            return Ok(true);
        }
    };
    let status = loop {
        let full = desk.backlog.is_full();
        desk.say_waiting(conversation);
        tokio::select! {
            status = editor.ended() => break status,
            happening = conversation.progress(full) => match happening {
                Ok(happening) => desk.on_happening(conversation, happening),
                Err(failure) => {
                    end_editor(editor, Signal::TERM, desk, prompt, ends).await;
                    return Err(failure);
                }
            },
            signal = ends.next() => {
                if signal != Signal::INT {
                    end_editor(editor, signal, desk, prompt, ends).await;
                    return Ok(false);
                }
            }
        }
    };
    // However the editor left the terminal.
    prompt.reset_modes();
    match status
        .map_err(EditorError::from)
        .and_then(|status| editor.written(status))
    {
        Ok(Written::Text(text, file)) => {
            let room = desk.current.clone();
            let content = Content::Text(text);
            if let Err(error) = content.encode() {
                desk.note(&format!("not sent: {error}; {}", editor::keep(file)));
            } else {
                desk.say_in(conversation, room, content);
            }
        }
        Ok(Written::Unchanged) => desk.note("nothing was changed, nothing was sent"),
        Ok(Written::Nothing) => desk.note("nothing was written, nothing was sent"),
        Err(error) => desk.note(&error.to_string()),
    }
    // What was pressed in the editor is no wish to leave.
    ends.forget_interrupts();
    Ok(true)
}

/// Ends the editor because this ends, and says where what was written is.
async fn end_editor(
    editor: Editor,
    signal: Signal,
    desk: &mut Desk,
    prompt: &Prompt,
    ends: &mut Ends,
) {
    let kept = editor.end(signal).await;
    // However the editor left the terminal.
    prompt.reset_modes();
    // What was pressed in the editor is no hurry to leave.
    ends.forget_interrupts();
    if let Some(kept) = kept {
        desk.note(&format!("nothing was sent; {kept}"));
    }
}

/// Prints what is to be printed still, and waits for the agent to accept what was said and read
/// last; both only for a moment.
async fn flush(
    conversation: &mut Talk,
    desk: &mut Desk,
    printer: &mut Printer<Marks>,
    mut connected: bool,
) {
    let settled = async {
        loop {
            desk.say_waiting(conversation);
            let accepted = desk.unaccepted(conversation) == 0 && desk.marking.is_empty();
            if desk.backlog.is_printed() && (accepted || !connected) {
                return;
            }
            let waiting = !desk.backlog.is_empty();
            tokio::select! {
                () = desk.backlog.print_to(&printer.blocks), if waiting => {}
                Some(marks) = printer.printed.recv() => desk.on_printed(conversation, marks),
                happening = conversation.next(), if connected => match happening {
                    // Not printed any more, hence not read.
                    Ok(Happening::Message(_)) => {}
                    Ok(happening) => desk.on_happening(conversation, happening),
                    Err(_) => connected = false,
                },
                else => return,
            }
        }
    };
    // What is not done by then is printed again next time, or told below.
    let _ = timeout(FLUSH, settled).await;
}
