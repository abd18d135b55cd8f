//! Being connected: a session, or the search for the next one.

use super::Options;
use crate::{
    client::{Incoming, Session, SessionError, connect},
    exit::Failure,
    paths::Settings,
    search::{Found, Lost, Origin, RETRY_MAX, backoff, find, find_again},
};
use protocol::{Nick, UserName, local::Refusal};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a session must live to count as proof that all is well.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// What came over the link, or became of it.
#[derive(Debug)]
pub(super) enum News {
    /// The agent said something.
    Incoming(Incoming),
    /// The agent was lost, for this reason.
    Lost(String),
    /// The agent was found again; it calls this terminal so.
    Found(UserName),
    /// No agent could be started, for this reason.
    NotStarted(String),
}

/// The connection to the agent, whichever agent that is.
pub(super) struct Link {
    settings: Settings,
    options: Options,
    state: State,
    /// Sessions in a row that did not last.
    flaps: u32,
    up_since: Instant,
    /// The agent met last, and how it was lost.
    lost: Lost,
    /// Why no agent could be started, as told last.
    trouble: Option<String>,
    /// How long the agent said it will be away.
    away: Option<Duration>,
}

enum State {
    Up(Box<Session>),
    Down(Pin<Box<dyn Future<Output = Result<Found, Failure>> + Send>>),
}

impl Link {
    /// Connects to the agent, starting one if the options say so; it calls this terminal so.
    pub(super) async fn begin(
        settings: &Settings,
        options: Options,
    ) -> Result<(Self, UserName), Failure> {
        let (session, origin) = find(settings, options).await?;
        let me = session.user().clone();
        let link = Self {
            settings: settings.clone(),
            options,
            state: State::Up(Box::new(session)),
            flaps: 0,
            up_since: Instant::now(),
            lost: Lost {
                origin: origin.unwrap_or(Origin::Others(None)),
                ended: false,
                crashed: Arc::default(),
                at: Instant::now(),
                wanted: Arc::new(AtomicBool::new(false)),
            },
            trouble: None,
            away: None,
        };
        Ok((link, me))
    }

    /// Replaces the session by one under another name; the agent calls this terminal so.
    pub(super) async fn go_on_as(
        &mut self,
        settings: &Settings,
        nick: Nick,
    ) -> Result<UserName, Failure> {
        let session = connect(&settings.socket, &nick, self.options.interactive).await?;
        let me = session.user().clone();
        self.settings.nick = nick;
        self.state = State::Up(Box::new(session));
        self.up_since = Instant::now();
        Ok(me)
    }

    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// The session, if there is one.
    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Up(session) => Some(session),
            State::Down(_) => None,
        }
    }

    /// Notes whether something that was said here waits for an agent.
    pub(super) fn want(&self, wanted: bool) {
        self.lost.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Notes that the agent will be away for so long.
    pub(super) const fn going_away(&mut self, time: Duration) {
        self.away = Some(time);
    }

    /// Waits for the next news; writes what is queued meanwhile.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is no hope for another session.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        loop {
            match &mut self.state {
                State::Up(session) => {
                    return match session.next().await {
                        Ok(incoming) => Ok(News::Incoming(incoming)),
                        Err(error) => self.on_lost(error),
                    };
                }
                State::Down(found) => match found.await? {
                    Found::Session(session, origin) => return Ok(self.on_found(session, origin)),
                    Found::NotStarted(reason) => {
                        self.search(RETRY_MAX);
                        if self.trouble.as_ref() != Some(&reason) {
                            self.trouble = Some(reason.clone());
                            return Ok(News::NotStarted(reason));
                        }
                    }
                },
            }
        }
    }

    fn on_lost(&mut self, error: SessionError) -> Result<News, Failure> {
        if !self.options.reconnect || !error.may_pass() {
            return Err(error.into());
        }
        self.flaps = if self.up_since.elapsed() < PROVEN_AFTER {
            self.flaps.saturating_add(1)
        } else {
            0
        };
        let away = self.away.take();
        let shutting_down = matches!(error, SessionError::Closed(Refusal::ShuttingDown));
        self.lost.ended = away.is_some() || shutting_down;
        self.lost.crashed = Arc::default();
        self.lost.at = Instant::now();
        self.search(backoff(self.flaps).max(away.unwrap_or_default()));
        Ok(News::Lost(if self.lost.ended {
            "the agent was ended".to_owned()
        } else {
            error.to_string()
        }))
    }

    fn search(&mut self, pause: Duration) {
        let search = find_again(
            self.settings.clone(),
            self.options,
            self.lost.clone(),
            pause,
        );
        self.state = State::Down(Box::pin(search));
    }

    fn on_found(&mut self, session: Box<Session>, origin: Option<Origin>) -> News {
        if let Some(origin) = origin {
            self.lost.origin = origin;
        }
        let me = session.user().clone();
        self.trouble = None;
        self.state = State::Up(session);
        self.up_since = Instant::now();
        News::Found(me)
    }
}
