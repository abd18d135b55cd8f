//! One, two and three servers on NATS JetStream against SQLite on one: messages committed and
//! delivered per second, and what each thing costs that there may be many of.
//!
//! All of it, the load too, shares the processors of one machine. So rates do not rise with the
//! number of servers here, and prove nothing about several machines; what does carry over is the
//! processor time, the memory and the bytes of each message, agent and room. `docs/scaling.md`
//! reckons with these.
//!
//! `cargo bench -p tests --bench scaling -- agents rooms` measures these parts alone.
//!
//! It fails if anything is lost, doubled or out of order. Its ratios have no targets.

mod agents;
mod deployment;
mod messages;
mod rooms;
mod starts;

use deployment::Deployment;
use std::env;
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
    if is_wanted("messages") {
        messages::measure(&sandbox, &mut deployments, &mut report)?;
    }
    if let [sqlite, _, two, _] = &mut deployments[..] {
        if is_wanted("agents") {
            agents::measure(&sandbox, sqlite, two, &mut report)?;
        }
        if is_wanted("rooms") {
            rooms::measure(&sandbox, sqlite, two, &mut report)?;
        }
        if is_wanted("starts") {
            starts::measure(&sandbox, sqlite, two, &mut report)?;
        }
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

/// Whether this part was asked for: one that is named, and all if none is.
fn is_wanted(part: &str) -> bool {
    let mut named = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .peekable();
    named.peek().is_none() || named.any(|word| word == part)
}
