//! `chat status`: how the agent, its outbox and its link are.

use crate::{
    args::StatusArgs,
    client::CallError,
    exit::Failure,
    json, listing,
    output::Output,
    paths::Settings,
    render::{self, Style},
};
use protocol::local::{Reply, Request};
use std::io::IsTerminal;

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &StatusArgs) -> Result<(), Failure> {
    let mut session = super::session(settings).await?;
    // First, so that what it is the reason for is in the other answer.
    let log = super::server_log(&mut session).await?;
    let Reply::Status(status) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    let lines = if args.json {
        vec![json::status(&status, log.as_ref())]
    } else {
        let style = Style::detect(std::io::stdout().is_terminal());
        listing::status(&status, log.as_ref(), &style, render::columns())
    };
    let mut output = Output::default();
    let printed = output.print_all(&lines).await;
    output.finish(printed).await
}
