//! What the server is doing, for whoever sends SIGUSR1, and in a line for the service manager.

use crate::{router::Handle, service::Service};
use protocol::{LogStatus, limits::MAX_IN_FLIGHT};
use std::{sync::atomic::Ordering, time::Instant};
use tracing::info;

impl Service {
    /// Logs who is connected, what waits for them, and what the log has done.
    pub fn dump(&self) {
        let (agents, users) = self.router().snapshot();
        let (rooms, subscriptions) = self.feed().size();
        let stats = self.log().stats();
        info!(
            agents = agents.len(),
            users,
            rooms_followed = rooms,
            subscriptions,
            epoch = %self.log().epoch(),
            transactions = stats.batches,
            messages = stats.messages,
            largest_transaction = stats.largest_batch,
            rolled_back = stats.rolled_back,
            draining = self.drain().is_on(),
            sent_elsewhere = self.drain().sent(),
            log = self.log_condition().as_deref().unwrap_or("well"),
            "state"
        );
        for (server, hosts) in self.router().servers().unwrap_or_default() {
            info!(%server, hosts, "another server");
        }
        for agent in &agents {
            dump_agent(agent);
        }
    }

    /// Who is connected, whether they are being sent elsewhere, and what is to be known of the log.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let (agents, users) = self.router().snapshot();
        let (rooms, _) = self.feed().size();
        let draining = match self.drain().is_on() {
            true => "draining, ",
            false => "",
        };
        let mut line = format!(
            "{draining}agents: {}, users: {users}, rooms followed: {rooms}",
            agents.len()
        );
        if let Some(servers) = self.router().servers() {
            let names: Vec<_> = servers.into_iter().map(|(name, _)| name).collect();
            let names = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            line += ", other servers: ";
            line += &names;
        }
        if let Some(condition) = self.log_condition() {
            line += ", log: ";
            line += &condition;
        }
        line
    }

    /// What is wrong with the log now, or promised less of it than could be.
    fn log_condition(&self) -> Option<String> {
        let LogStatus { weaker, health, .. } = self.look_at_log();
        let trouble = health
            .reason()
            .map(|reason| format!("{} ({reason})", health.word()));
        let known: Vec<String> = [trouble, weaker].into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.join("; "))
    }

    /// Since when the log has been at one transaction.
    #[must_use]
    pub fn busy_since(&self) -> Option<Instant> {
        self.log().busy_since()
    }
}

fn dump_agent(agent: &Handle) {
    info!(
        host = %agent.host,
        connection = agent.id.0,
        agent = %agent.agent,
        software = %agent.software,
        queued_bytes = agent.outbound.bytes(),
        in_flight = MAX_IN_FLIGHT - agent.in_flight.available_permits().min(MAX_IN_FLIGHT),
        rooms = agent.rooms.load(Ordering::Relaxed),
        "agent"
    );
}
