//! `chat demo`: the tour for somebody with thirty seconds, and a test of the whole path.
//!
//! A server, two agents with sockets and state of their own ("two hosts"), and two people on each
//! talk in a temporary directory; the server is killed in the middle. Everything is ended and
//! removed afterwards, also on failure, Ctrl-C, or when the terminal is closed.

mod daemon;
mod journal;
mod person;
mod stage;

use crate::{
    exit::{Exit, Failure},
    output::Output,
};
use protocol::Room;
use stage::{ADAM, ALICE, BEA, BOB, Stage};
use std::{io::IsTerminal, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long a person has for each step of the tour.
const READING: Duration = Duration::from_millis(3_500);

/// Runs the tour.
///
/// # Errors
///
/// Exit code 1 if anything was lost, doubled or out of order, or did not happen in time.
pub async fn run() -> Result<(), Failure> {
    let watch = |kind| {
        signal(kind)
            .map_err(|error| Failure::failed(format_args!("signals cannot be watched: {error}")))
    };
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut quit = watch(SignalKind::quit())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hangup = watch(SignalKind::hangup())?;
    let mut stage: Option<Stage> = None;
    let outcome = tokio::select! {
        outcome = Box::pin(tour(&mut stage)) => outcome,
        _ = interrupt.recv() => Err(Failure::failed("interrupted")),
        _ = quit.recv() => Err(Failure::failed("interrupted")),
        _ = terminate.recv() => Err(Failure::failed("told to end")),
        _ = hangup.recv() => Err(Failure::failed("the terminal is gone")),
    };
    if let Some(stage) = stage {
        stage.strike().await;
    }
    outcome
}

/// Lets a person at a terminal read what was told so far.
async fn pause() {
    if std::io::stdout().is_terminal() {
        tokio::time::sleep(READING).await;
    }
}

async fn tour(slot: &mut Option<Stage>) -> Result<(), Failure> {
    let mut out = Output::default();
    let mut tell = |line: String| -> Result<(), Failure> {
        out.line(&line)?;
        out.flush()
    };
    tell("A server and two hosts, ada and bee; alice and adam on ada, bea and bob on bee.".into())?;
    tell("Each host runs one agent; people reach only their own agent, agents the server.".into())?;
    tell("Times count from the Enter key: agent = durable on the own host, server = in".into())?;
    tell("the room's log and known to the author, a name = on that person's terminal.".into())?;
    let stage = slot.insert(Stage::set().await?);
    let lobby = room("&lobby");
    let plaza = room("#plaza");

    pause().await;
    tell("\n1. &lobby stays on its host: terminal -> agent -> terminal, no server".into())?;
    stage.open(&[ALICE, ADAM], &lobby).await?;
    tell(stage.talk(ALICE, &lobby, "coffee, adam?").await?)?;
    tell(stage.talk(ADAM, &lobby, "two minutes").await?)?;

    pause().await;
    tell("\n2. #plaza spans hosts: terminal -> agent -> server -> agent -> terminal".into())?;
    stage.open(&[ALICE, ADAM, BEA, BOB], &plaza).await?;
    tell(stage.talk(ALICE, &plaza, "good morning, bee").await?)?;
    tell(stage.talk(BOB, &plaza, "good morning, ada").await?)?;
    tell(stage.talk(BEA, &plaza, "grüße, 世界").await?)?;

    pause().await;
    tell("\n3. a direct message crosses hosts; only its two ends see it".into())?;
    let direct = stage.direct(ALICE, BOB);
    tell(stage.talk(ALICE, &direct, "lunch at noon?").await?)?;
    tell(stage.talk(BOB, &direct, "gladly").await?)?;

    pause().await;
    tell("\n4. the server is killed (SIGKILL), and both hosts go on".into())?;
    stage.kill_server().await?;
    let cut = [
        stage
            .say_pending(ALICE, &plaza, "is the server down?")
            .await?,
        stage
            .say_pending(BOB, &plaza, "it is, but I can write")
            .await?,
        stage.say_pending(ALICE, &plaza, "so can I").await?,
        stage.say_pending(BOB, &direct, "see you at noon").await?,
    ];
    for message in cut {
        tell(stage.pending(message))?;
    }
    tell(stage.talk(ADAM, &lobby, "here it works as ever").await?)?;

    pause().await;
    tell("\n5. the server is back (times of what waited count from its restart)".into())?;
    stage.restart_server().await?;
    for message in cut {
        tell(stage.delivered(message).await?)?;
    }
    tell(stage.talk(BEA, &plaza, "all here, in one order").await?)?;
    tell(stage.talk(ALICE, &plaza, "the same here").await?)?;
    tell(stage.talk(ALICE, &direct, "noon it is").await?)?;

    let faults = stage.faults().await?;
    pause().await;
    if faults.is_empty() {
        return tell(format!("\nverdict: PASS: {}", stage.summary()));
    }
    for fault in &faults {
        tell(format!("fault: {fault}"))?;
    }
    tell(format!("\nverdict: FAIL: {} faults", faults.len()))?;
    Err(Failure::silent(Exit::Failed))
}

fn room(name: &str) -> Room {
    name.parse().expect("the tour's rooms have valid names")
}
