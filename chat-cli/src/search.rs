//! Looking for the agent: at the beginning, and again after it was lost.

use crate::{
    client::{ConnectError, Session, connect},
    conversation::Options,
    exit::Failure,
    paths::Settings,
    start::start_agent,
};
use protocol::local::Refusal;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Shortest and longest wait between attempts to find the agent again.
const RETRY_MIN: Duration = Duration::from_millis(50);
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long a lost agent has to come back by itself before this terminal starts another.
const RESTART_AFTER: Duration = Duration::from_millis(1_500);

/// Agents that are started before a conversation gives up beginning: more than one is needed only
/// if somebody ends them.
const MAX_STARTS: u32 = 3;

/// Finds the agent, or starts one; an agent that is just ending is replaced, too.
pub(crate) async fn find(settings: &Settings, options: Options) -> Result<Session, Failure> {
    let mut starts = 0;
    loop {
        let error = match connect(&settings.socket, &settings.nick, options.interactive).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let gone = matches!(
            error,
            ConnectError::Unreachable { .. } | ConnectError::Refused(Refusal::ShuttingDown)
        );
        if !gone || !options.autostart || starts == MAX_STARTS {
            return Err(error.into());
        }
        starts += 1;
        start_agent(settings).await.map_err(Failure::failed)?;
    }
}

/// The wait before attempt number `attempt`, counted from 0: doubling, capped.
pub(crate) fn backoff(attempt: u32) -> Duration {
    RETRY_MIN
        .saturating_mul(2_u32.saturating_pow(attempt))
        .min(RETRY_MAX)
}

/// What a search for the agent came to.
#[derive(Debug)]
pub(crate) enum Found {
    Session(Session),
    /// It is gone and another could not be started, for this reason; search on.
    NotStarted(String),
}

pub(crate) async fn find_again(
    settings: Settings,
    options: Options,
    lost: Instant,
    pause: Duration,
) -> Result<Found, Failure> {
    sleep(pause).await;
    let mut attempt = 0;
    loop {
        let error = match connect(&settings.socket, &settings.nick, options.interactive).await {
            Ok(session) => return Ok(Found::Session(session)),
            Err(error) => error,
        };
        let searched = lost.elapsed();
        if !error.may_pass()
            || options
                .patience
                .is_some_and(|patience| searched >= patience)
        {
            return Err(error.into());
        }
        let gone = matches!(error, ConnectError::Unreachable { .. });
        if gone
            && options.autostart
            && searched >= pause + RESTART_AFTER
            && let Err(error) = start_agent(&settings).await
        {
            return Ok(Found::NotStarted(error.to_string()));
        }
        sleep(backoff(attempt)).await;
        attempt += 1;
    }
}
