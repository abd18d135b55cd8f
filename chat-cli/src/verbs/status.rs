//! `chat status`: how the agent, its outbox and its link are.

use crate::{
    args::StatusArgs, client::CallError, exit::Failure, json, output::Output, paths::Settings,
    render::Style,
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
    let Reply::Status(status) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    let line = if args.json {
        json::status(&status)
    } else {
        Style::detect(std::io::stdout().is_terminal()).status(&status)
    };
    let mut output = Output::default();
    let printed = output.line(&line);
    output.finish(printed).await
}
