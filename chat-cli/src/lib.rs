//! The `chat` command: conversing at a terminal, and verbs for scripts.
//!
//! Data goes to standard output, everything else to standard error. `render` is the one place
//! where remote text becomes terminal text, `json` the one place for machine output, `exit` the
//! one list of exit codes, and `daemons` the only file that knows the other two programs.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]
#![expect(
    unreachable_pub,
    reason = "only `main` leaves the crate, so that the compiler sees what is dead; `pub` says \
              what a module offers to the others"
)]

mod administration;
mod args;
mod bounded;
mod client;
mod command;
mod consumer;
mod conversation;
mod daemons;
mod demo;
mod doctor;
mod duration;
mod ends;
mod exit;
#[cfg(test)]
mod fake;
mod follow;
mod interactive;
mod json;
mod lines;
mod listing;
mod news;
mod outbound;
mod output;
mod paths;
mod pipe;
mod prompt;
mod query;
mod recall;
mod refused;
mod render;
#[cfg(test)]
mod sample;
mod search;
mod since;
mod start;
mod table;
mod trust;
mod verbs;
mod wait;
mod when;

use args::{Cli, Connection, Verb};
use clap::Parser;
use exit::{Exit, Failure};
use paths::Settings;
use std::{
    io::{IsTerminal, stdin, stdout},
    path::Path,
    process::ExitCode,
};

/// Bytes the kernel has for a socket's path.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be left to read the help.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    match &cli.verb {
        Some(Verb::Agent(args)) => daemon(&cli, || daemons::agent(args)),
        Some(Verb::Server(args)) if args.order.is_none() => {
            daemon(&cli, || daemons::server(&args.run))
        }
        _ => match client(&cli) {
            Ok(code) => code,
            Err(failure) => {
                failure.report();
                failure.exit.into()
            }
        },
    }
}

/// The daemons have flags of the same names after their verb; before it they would be ignored.
fn daemon(cli: &Cli, run: impl FnOnce() -> ExitCode) -> ExitCode {
    let Connection {
        socket,
        state_dir,
        nick,
    } = &cli.connection;
    if socket.is_some() || state_dir.is_some() || nick.is_some() || cli.room.is_some() {
        Failure::usage("write the flags of `chat agent` and `chat server` after that word")
            .report();
        return Exit::Usage.into();
    }
    run()
}

fn client(cli: &Cli) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("no runtime could be made: {error}")))?;
    if cli.room.is_some() && cli.verb.is_some() {
        return Err(Failure::usage(
            "--room is for a conversation: verbs name their room themselves",
        ));
    }
    let settings = |inner: &Connection| {
        let settings = Settings::resolve(&cli.connection, inner)?;
        check_length(&settings.socket)?;
        Ok::<_, Failure>(settings)
    };
    runtime.block_on(async {
        // The only one whose exit code is not its own.
        if let Some(Verb::Exec(args)) = &cli.verb {
            let code = verbs::exec::run(&settings(&args.connection)?, args).await?;
            return Ok(code.into());
        }
        let result = match &cli.verb {
            None => converse(&settings(&Connection::default())?, cli).await,
            Some(Verb::Send(args)) => verbs::send::run(&settings(&args.connection)?, args).await,
            Some(Verb::Tail(args)) => verbs::tail::run(&settings(&args.connection)?, args).await,
            Some(Verb::History(args)) => {
                verbs::history::run(&settings(&args.connection)?, args).await
            }
            Some(Verb::Rooms(args)) => verbs::rooms::run(&settings(&args.connection)?, args).await,
            Some(Verb::Who(args)) => verbs::who::run(&settings(&args.connection)?, args).await,
            Some(Verb::Status(args)) => {
                verbs::status::run(&settings(&args.connection)?, args).await
            }
            Some(Verb::Pending(args)) => {
                verbs::pending::run(&settings(&args.connection)?, args).await
            }
            Some(Verb::Join(args)) => verbs::join::run(&settings(&args.connection)?, args).await,
            Some(Verb::Leave(args)) => verbs::leave::run(&settings(&args.connection)?, args).await,
            Some(Verb::Topic(args)) => verbs::topic::run(&settings(&args.connection)?, args).await,
            Some(Verb::Room(args)) => {
                verbs::room::run(&settings(args.verb.connection())?, args).await
            }
            Some(Verb::Search(args)) => {
                verbs::search::run(&settings(&args.connection)?, args).await
            }
            Some(Verb::Wait(args)) => verbs::wait::run(&settings(&args.connection)?, args).await,
            Some(Verb::Request(args)) => {
                verbs::request::run(&settings(&args.connection)?, args).await
            }
            Some(Verb::Reply(args)) => verbs::reply::run(&settings(&args.connection)?, args).await,
            Some(Verb::Bot(args)) => verbs::bot::run(&settings(&args.connection)?, args).await,
            Some(Verb::Mount(args)) => verbs::mount::run(&settings(&args.connection)?, args).await,
            Some(Verb::Demo) => demo::run().await,
            Some(Verb::Config(args)) => {
                let settings = settings(&args.connection)?;
                verbs::config::run(&settings, &cli.connection, args).await
            }
            Some(Verb::Doctor(args)) => {
                // A path that is too long is among what it finds.
                let settings = Settings::resolve(&cli.connection, &args.connection)?;
                verbs::doctor::run(&settings, args).await
            }
            Some(Verb::Completions(args)) => verbs::completions::run(args).await,
            Some(Verb::Man(args)) => verbs::man::run(args).await,
            Some(Verb::Server(args)) => match &args.order {
                Some(order) => verbs::server::run(order).await,
                None => Ok(()),
            },
            Some(Verb::Agent(_) | Verb::Exec(_)) => Ok(()),
        };
        result.map(|()| Exit::Ok.into())
    })
}

/// A longer path would be refused by the kernel, in words that do not help.
fn check_length(socket: &Path) -> Result<(), Failure> {
    let length = socket.as_os_str().len();
    if length <= MAX_SOCKET_PATH_BYTES {
        return Ok(());
    }
    Err(Failure::usage(format_args!(
        "the path {} has {length} bytes, a socket's may have {MAX_SOCKET_PATH_BYTES}: choose a \
         shorter --socket or CHAT_SOCKET",
        socket.display()
    )))
}

async fn converse(settings: &Settings, cli: &Cli) -> Result<(), Failure> {
    let terminal = stdin().is_terminal() && stdout().is_terminal() && prompt::is_supported();
    if terminal {
        interactive::run(settings, cli.room.as_ref()).await
    } else {
        pipe::run(settings, cli.room.as_ref()).await
    }
}
