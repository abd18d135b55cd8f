//! Several servers on one log: who is connected to which, and who is there.
//!
//! Soft state, told over plain NATS and kept nowhere: each server tells its own seats and users,
//! changes at once, and every second that it is there. [`neighbours`] is what the others told. What
//! must outlive anything is in the log and in the register.

pub(crate) mod neighbours;
pub(crate) mod news;

use crate::{
    log::JetStreamSettings,
    nats::{Nats, NatsError},
    router::Router,
};
use async_nats::Subscriber;
use futures_util::StreamExt;
use neighbours::BEAT;
use news::{News, ServerId, What, changes_in_parts, seats_in_parts};
use std::{io, sync::Arc, time::Instant};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Why a server has no part in its cluster.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// NATS is not there, or does not let this server in.
    #[error("cannot connect to {servers}: {reason}")]
    Connect {
        /// Where, without passwords.
        servers: String,
        /// Why not.
        #[source]
        reason: io::Error,
    },
    /// NATS does not do as it is asked.
    #[error("cannot hear of other servers: {0}")]
    Nats(String),
}

/// Why something was not told.
#[derive(Debug, Error)]
enum TellError {
    #[error(transparent)]
    Nats(#[from] NatsError),
    #[error("it cannot be written: {0}")]
    Format(#[from] serde_json::Error),
}

/// This server's part in its cluster.
#[derive(Debug)]
pub struct Cluster {
    voice: Voice,
    coming: Subscriber,
}

/// How a server speaks to the others.
#[derive(Debug)]
struct Voice {
    nats: Nats,
    subject: String,
    us: ServerId,
    name: String,
    /// Of what was told last.
    number: u64,
}

impl Cluster {
    /// Joins the servers whose log `settings` name, as a server called `name`.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub async fn join(settings: &JetStreamSettings, name: &str) -> Result<Self, ClusterError> {
        let us = ServerId::new();
        let connected = Nats::connect(settings, format!("cluster {us}")).await;
        let nats = connected.map_err(|reason| ClusterError::Connect {
            servers: settings.servers.to_string(),
            reason,
        })?;
        let subject = format!("{}-cluster", settings.stream);
        let coming = nats.listen(&subject).await;
        let coming = coming.map_err(|error| ClusterError::Nats(error.to_string()))?;
        let voice = Voice {
            nats,
            subject,
            us,
            name: name.to_owned(),
            number: 0,
        };
        Ok(Self { voice, coming })
    }

    /// Who this server is to the others.
    pub(crate) const fn id(&self) -> ServerId {
        self.voice.us
    }

    /// What people call this server.
    pub(crate) fn name(&self) -> &str {
        &self.voice.name
    }

    /// Tells what `router` knows and takes in what others tell, until `end` is cancelled; then says
    /// goodbye.
    pub(crate) async fn run(self, router: Arc<Router>, end: CancellationToken) {
        let Self {
            mut voice,
            mut coming,
        } = self;
        let mut links = voice.nats.links();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whatever was not told yet, or was told to nobody.
        let mut owed = true;
        voice.say_or_debug(What::Ask { of: None }).await;
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                Some(message) = coming.next() => {
                    let Some(news) = News::decode(&message.payload) else {
                        debug!(bytes = message.payload.len(), "news that mean nothing");
                        continue;
                    };
                    let heard = router.hear(news, Instant::now());
                    if let Some(server) = heard.ask {
                        voice.say_or_debug(What::Ask { of: Some(server) }).await;
                    }
                    // At the next beat, together with whoever else asks.
                    owed |= heard.tell;
                }
                () = router.changed(), if !owed => {
                    if let Err(error) = voice.tell_changes(&router).await {
                        debug!(%error, "others are not told what has changed");
                        owed = true;
                    }
                }
                Ok(()) = links.changed() => {
                    let up = voice.nats.is_connected();
                    router.line(up, Instant::now());
                    if up {
                        voice.say_or_debug(What::Ask { of: None }).await;
                        owed = true;
                    }
                }
                _ = beat.tick() => {
                    for name in router.expire(Instant::now()) {
                        warn!(server = %name, "nothing is heard of another server any more");
                    }
                    let told = if owed {
                        voice.tell_everything(&router).await
                    } else {
                        voice.say(What::Alive { number: voice.number }).await
                    };
                    if let Err(error) = &told {
                        debug!(%error, "others do not hear of this server");
                    }
                    owed = told.is_err();
                }
            }
        }
        voice.say_or_debug(What::Goodbye).await;
        voice.nats.flush().await;
        info!("other servers were told that this one ends");
    }
}

impl Voice {
    async fn say(&self, what: What) -> Result<(), TellError> {
        let news = News {
            from: self.us,
            name: self.name.clone(),
            what,
        };
        Ok(self.nats.tell(&self.subject, news.encode()?).await?)
    }

    async fn say_or_debug(&self, what: What) {
        if let Err(error) = self.say(what).await {
            debug!(%error, "not told");
        }
    }

    async fn tell_changes(&mut self, router: &Router) -> Result<(), TellError> {
        for hosts in changes_in_parts(router.take_changes()) {
            if hosts.is_empty() {
                continue;
            }
            self.number += 1;
            let number = self.number;
            self.say(What::Changed { number, hosts }).await?;
        }
        Ok(())
    }

    async fn tell_everything(&mut self, router: &Router) -> Result<(), TellError> {
        // Looking at everybody is not for nothing.
        self.nats.check()?;
        self.number += 1;
        let number = self.number;
        let parts = seats_in_parts(router.take_everything());
        let count = parts.len();
        for (part, hosts) in parts.into_iter().enumerate() {
            let what = What::Everything {
                number,
                part: u32::try_from(part).unwrap_or(u32::MAX),
                last: part + 1 == count,
                hosts,
            };
            self.say(what).await?;
        }
        Ok(())
    }
}
