//! What the register's writer thread does with each command.

use super::{
    operation::{Operation, Outcome},
    store,
};
use room_log::{Durability, Store, StoreError};
use rusqlite::Connection;
use tokio::sync::oneshot;

/// Something to write, and who hears what came of it.
#[derive(Debug)]
pub(super) enum Command {
    /// An operation of this server alone.
    Do {
        operation: Operation,
        answer: oneshot::Sender<Result<Outcome, String>>,
    },
    /// Operations of the stream that is followed, one behind the other; the last of them has this
    /// seq there.
    Follow {
        operations: Vec<Operation>,
        last: u64,
        answer: oneshot::Sender<Result<Vec<Outcome>, String>>,
    },
    /// Forget everything, and follow this stream from its beginning; none for what this server
    /// does alone, beginning with what is there.
    Begin {
        stream: Option<String>,
        answer: oneshot::Sender<Result<(), String>>,
    },
}

/// The tables, as the one writer sees them: it keeps nothing beside them.
#[derive(Debug)]
pub(super) struct RegisterStore;

impl Store for RegisterStore {
    type Command = Command;
    type Outcome = Vec<Outcome>;

    fn durability(&self, _: &Command) -> Durability {
        Durability::Power
    }

    fn apply(
        &mut self,
        tables: &Connection,
        command: &Command,
    ) -> Result<Vec<Outcome>, StoreError> {
        match command {
            Command::Do { operation, .. } => Ok(vec![operation.apply(tables)?]),
            Command::Follow {
                operations, last, ..
            } => {
                let applied = operations.iter().map(|operation| operation.apply(tables));
                let outcomes = applied.collect::<Result<_, _>>()?;
                // In the same transaction: each is done once.
                store::note_applied(tables, *last)?;
                Ok(outcomes)
            }
            Command::Begin { stream, .. } => {
                match stream {
                    Some(stream) => store::begin_anew(tables, stream)?,
                    None => store::follow_nothing(tables)?,
                }
                Ok(Vec::new())
            }
        }
    }

    fn committed(&mut self, done: Vec<(Command, Vec<Outcome>)>) {
        // Whoever asked may have gone away; what was noted stays.
        for (command, mut outcomes) in done {
            match command {
                Command::Do { answer, .. } => drop(answer.send(match outcomes.pop() {
                    Some(outcome) => Ok(outcome),
                    None => Err("nothing came of it".to_owned()),
                })),
                Command::Follow { answer, .. } => drop(answer.send(Ok(outcomes))),
                Command::Begin { answer, .. } => drop(answer.send(Ok(()))),
            }
        }
    }

    fn rolled_back(&mut self, commands: Vec<Command>, error: &StoreError) {
        for command in commands {
            let error = error.to_string();
            match command {
                Command::Do { answer, .. } => drop(answer.send(Err(error))),
                Command::Follow { answer, .. } => drop(answer.send(Err(error))),
                Command::Begin { answer, .. } => drop(answer.send(Err(error))),
            }
        }
    }
}
