//! One, two and three servers on NATS JetStream against SQLite on one: messages committed and
//! delivered per second, and what each thing costs that there may be many of.
//!
//! All of it, the load too, shares the processors of one machine. So rates do not rise with the
//! number of servers here, and prove nothing about several machines; what does carry over is the
//! processor time, the memory and the bytes of each message, agent and room. `docs/scaling.md`
//! reckons with these.
//!
//! It fails if anything is lost, doubled or out of order. Its ratios have no targets.

mod agents;
mod deployment;
mod messages;
mod rooms;
mod starts;

use deployment::Deployment;
use tests::{
    Sandbox,
    measure::{Report, is_bench_run, processors},
};

/// What everything is compared with.
const BASELINE: &str = "SQLite, 1 server";

fn main() -> anyhow::Result<()> {
    let sandbox = Sandbox::new();
    let mut report = Report::new(
        "scaling",
        format!(
            "servers, NATS (sync_interval: always), agents and readers share {} processors: read \
             the costs, not the rates",
            processors()
        ),
    );
    // The one that everything is compared with is the first.
    let mut deployments = vec![Deployment::sqlite(&sandbox)];
    deployments.extend((1..=3).map(|count| Deployment::jetstream(&sandbox, count)));
    messages::measure(&sandbox, &mut deployments, &mut report)?;
    if let [sqlite, _, two, _] = &mut deployments[..] {
        agents::measure(&sandbox, sqlite, two, &mut report)?;
        rooms::measure(&sandbox, sqlite, two, &mut report)?;
        starts::measure(&sandbox, sqlite, two, &mut report)?;
    }
    for deployment in &mut deployments {
        deployment.end()?;
    }
    if !is_bench_run() {
        report.note("a small run, which only shows that the bench works".to_owned());
    }
    report.finish()?;
    Ok(())
}
