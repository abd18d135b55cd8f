//! `chat doctor`: looks at everything that this host's chat needs, and says what to do.

use crate::{
    args::DoctorArgs,
    daemons,
    doctor::{Finding, Level, agent, around, ask, files, look, server},
    exit::{Exit, Failure},
    interactive, json,
    output::Output,
    paths::Settings,
    render::{self, Style},
    table, trust,
};
use chat_agent::paths::terminal_config;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with exit code 1 if something fails.
pub async fn run(settings: &Settings, args: &DoctorArgs) -> Result<(), Failure> {
    let findings = examine(settings).await;
    let mut output = Output::default();
    let lines = if args.json {
        findings.iter().map(json::check).collect()
    } else {
        in_words(&findings)
    };
    let printed = output.print_all(&lines).await;
    let fails = findings.iter().any(|found| found.level == Level::Fail);
    let ended = if fails {
        Err(Failure::silent(Exit::Failed))
    } else {
        Ok(())
    };
    output.finish(printed.and(ended)).await
}

async fn examine(settings: &Settings) -> Vec<Finding> {
    let uid = trust::uid();
    let heard = ask::agent(settings).await;
    let status = heard.status.as_deref();
    let told = status.map(|status| (status.software.as_str(), status.pid));
    let mut findings = vec![agent::version(env!("CARGO_PKG_VERSION"), told)];

    let socket = &settings.socket;
    findings.push(files::socket(socket, look::found(socket)));
    let dir = socket.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or_else(|| Path::new("."));
    findings.push(files::socket_dir(dir, look::found(dir), uid));
    findings.push(agent::contact(&heard.contact, uid));

    // An agent of somebody else has files that are nobody's business here.
    let (files_of, answers) = match &heard.contact {
        agent::Contact::Answers {
            uid: Some(owner),
            state_dir,
            ..
        } if *owner == uid => (Some(PathBuf::from(state_dir)), true),
        agent::Contact::Answers { .. } => (None, true),
        _ => (Some(settings.state_dir.clone()), false),
    };
    if let Some(dir) = files_of {
        findings.push(files::lock(&look::lock(&dir), socket, answers));
        findings.push(files::state_dir(&dir, look::found(&dir), uid));
        findings.push(files::disk(&dir, look::disk(&dir)));
        findings.push(files::database(&look::database(&dir), answers, &dir));
    }
    if let Some(status) = status {
        findings.push(agent::outbox(
            status.outbox_messages,
            status.outbox_bytes,
            status.outbox_limit_bytes,
        ));
        findings.extend(status.problems.iter().map(|one| agent::problem(one)));
        findings.push(server::link(&ask::link(&status.link)));
        if let Some(address) = status.link.server() {
            findings.push(server::server(address, &ask::reach(address).await));
            findings.extend(heard.log.as_ref().map(server::log));
            findings.push(agent::clock(&heard.delays));
        }
    }
    for (of, found) in [
        ("agent", daemons::agent_settings(None, None)),
        ("server", daemons::server_settings()),
    ] {
        let problem = found.err();
        findings.push(around::settings(of, problem.as_deref()));
    }
    let preferences = interactive::preferences(&terminal_config());
    findings.push(around::preferences(preferences.err().as_ref()));
    findings.push(around::units(look::units()));
    findings.push(around::terminal(&look::terminal()));
    findings
}

fn in_words(findings: &[Finding]) -> Vec<String> {
    let rows: Vec<[String; 3]> = findings.iter().map(row).collect();
    let style = Style::detect(std::io::stdout().is_terminal());
    let lines = table::lines(&rows, render::columns());
    let emphasised = lines.into_iter().map(|line| match line.split_once(' ') {
        // The first column is one of ours, and no line goes on there.
        Some((word, rest)) if word == Level::Fail.word() || word == Level::Warn.word() => {
            format!("{} {rest}", style.bold(word))
        }
        _ => line,
    });
    emphasised.collect()
}

fn row(finding: &Finding) -> [String; 3] {
    let said = match &finding.advice {
        Some(advice) => format!("{}: {advice}", finding.found),
        None => finding.found.clone(),
    };
    [
        finding.level.word().to_owned(),
        finding.check.to_owned(),
        said.replace('\n', "; "),
    ]
}
