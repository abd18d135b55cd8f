//! `chat server drain`: gives a server's hosts to the others.

use crate::{
    administration::Server,
    args::server::DrainArgs,
    client::CallError,
    exit::{Failure, say},
    json,
    output::Output,
};
use protocol::admin::{Reply, Request};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often the server is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How far a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    draining: bool,
    connected: u32,
    sent: u32,
}

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code; 1 if somebody took it back before all were gone.
pub(super) async fn run(args: &DrainArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let mut output = Output::default();
    if args.undo {
        let progress = ask(&mut server, Request::Undrain).await?;
        let line = match args.json {
            true => progress.json(),
            false => "hosts are let in again".to_owned(),
        };
        let printed = output.line(&line);
        return output.finish(printed).await;
    }
    let request = Request::Drain {
        group: args.group,
        every_ms: u32::try_from(args.every.as_millis()).unwrap_or(u32::MAX),
    };
    let mut progress = ask(&mut server, request).await?;
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    let mut printed = Ok(());
    loop {
        if told != Some(progress) {
            told = Some(progress);
            if args.json {
                printed = printed.and(output.print(&progress.json()).await);
            } else if progress.connected > 0 {
                say(&progress.words());
            }
        }
        if !progress.draining {
            let _closed = output.finish(printed).await;
            return Err(Failure::failed(
                "hosts are let in again: somebody took it back",
            ));
        }
        if progress.connected == 0 {
            break;
        }
        ticks.tick().await;
        progress = ask(&mut server, Request::DrainProgress).await?;
    }
    if !args.json {
        let line = "no host is connected, and none is let in until `chat server drain --undo` or the \
                    next start";
        printed = printed.and(output.print(line).await);
    }
    output.finish(printed).await
}

async fn ask(server: &mut Server, request: Request) -> Result<Progress, Failure> {
    match server.ask(request).await? {
        Reply::Drain {
            draining,
            connected,
            sent,
        } => Ok(Progress {
            draining,
            connected,
            sent,
        }),
        _ => Err(CallError::Misfit.into()),
    }
}

impl Progress {
    fn words(self) -> String {
        let hosts = match self.sent {
            1 => "1 host".to_owned(),
            many => format!("{many} hosts"),
        };
        let verb = match self.connected {
            1 => "is",
            _ => "are",
        };
        format!(
            "{hosts} sent elsewhere, {} {verb} still connected",
            self.connected
        )
    }

    fn json(self) -> String {
        json::drain(self.draining, self.connected, self.sent)
    }
}
