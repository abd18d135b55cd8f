//! `chat join`: joins rooms, or federates this host with a server.

use crate::{
    args::JoinArgs,
    client::{CallError, Incoming, Session},
    exit::{Exit, Failure, say},
    output::Output,
    paths::Settings,
    refused::{briefly, is_refusal},
    render,
};
use protocol::{
    ServerAddress, ServerLine, ServerTrust, Target, Timestamp,
    limits::MAX_SERVER_ADDRS,
    local::{Event, LinkStatus, Reply, Request},
};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, interval, timeout_at};

/// How long the command waits to be able to say that the server was reached.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How often it asks for the state of the link; changes are also told, but may be skipped.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &JoinArgs) -> Result<(), Failure> {
    let mut rooms = Vec::new();
    let mut servers = Vec::new();
    for target in &args.targets {
        if target.starts_with(['#', '&']) {
            rooms.push(Target::parse(target).map_err(Failure::usage)?);
        } else {
            let named = server_addresses(target, args.insecure_plaintext);
            servers.extend(named.map_err(Failure::usage)?);
        }
    }
    if servers.len() > MAX_SERVER_ADDRS {
        return Err(Failure::usage(format_args!(
            "{} servers were given, an agent keeps at most {MAX_SERVER_ADDRS}",
            servers.len()
        )));
    }
    let mut session = super::session_or_start(settings).await?;
    // What a room needs first: memberships are durable without a server.
    for room in rooms {
        let room = room.resolve(session.user());
        session.command(Request::Join { room }).await?;
    }
    if servers.is_empty() {
        return Ok(());
    }
    federate(&mut session, &servers).await
}

async fn federate(session: &mut Session, servers: &[ServerAddress]) -> Result<(), Failure> {
    let Reply::Status(before) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    let before = before.link;
    let asked_at = Timestamp::from(SystemTime::now());
    let request = Request::Federate {
        servers: servers.iter().map(ServerAddress::reveal).collect(),
    };
    session.command(request).await?;
    if let Some(replaced) = before.server().filter(|old| !is_among(old, servers)) {
        say(&format!("{} instead of {replaced}", named(servers)));
    }
    let deadline = Instant::now() + CONNECT_WAIT;
    let mut last = LinkStatus::LocalOnly;
    let watched = watch(session, |link| {
        last = link.clone();
        match link {
            // Another server's connection may still be on its way out.
            LinkStatus::Online { server, since, .. } => {
                is_among(server, servers) || *since >= asked_at
            }
            LinkStatus::Waiting { server, error, .. } => {
                is_among(server, servers) && is_refusal(error) && *link != before
            }
            LinkStatus::LocalOnly | LinkStatus::Connecting { .. } => false,
        }
    });
    match timeout_at(deadline, watched).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            return Err(Failure::new(
                Exit::NotCommitted,
                format_args!(
                    "{} is remembered and tried again, but was not reached yet: {}",
                    named(servers),
                    why(&last, servers)
                ),
            ));
        }
    }
    match &last {
        LinkStatus::Online {
            server, software, ..
        } => {
            let (server, software) = (render::line(server), render::line(software));
            let mut output = Output::default();
            let printed = output.line(&format!("connected to {server} ({software})"));
            output.finish(printed).await
        }
        link => Err(Failure::failed(format_args!(
            "{}: {}; it is remembered and tried again until `chat leave` or another `chat join`",
            named(servers),
            why(link, servers)
        ))),
    }
}

fn is_among(server: &str, servers: &[ServerAddress]) -> bool {
    servers.iter().any(|one| one.place() == server)
}

fn places(servers: &[ServerAddress]) -> String {
    let places: Vec<&str> = servers.iter().map(ServerAddress::place).collect();
    places.join(", ")
}

fn named(servers: &[ServerAddress]) -> String {
    let noun = if servers.len() == 1 {
        "server"
    } else {
        "servers"
    };
    format!("{noun} {}", places(servers))
}

/// Shows every state of the link to `enough` until it is.
async fn watch(
    session: &mut Session,
    mut enough: impl FnMut(&LinkStatus) -> bool,
) -> Result<(), CallError> {
    let mut ask = interval(ASK_EVERY);
    loop {
        tokio::select! {
            _ = ask.tick() => {
                session.queue(Request::Status)?;
            }
            incoming = session.next() => {
                let link = match incoming? {
                    Incoming::Reply { result: Ok(Reply::Status(status)), .. } => status.link,
                    Incoming::Event(Event::Link(link)) => link,
                    Incoming::Reply { result: Err(refusal), .. } => {
                        return Err(CallError::Refused(refusal));
                    }
                    _ => continue,
                };
                if enough(&link) {
                    return Ok(());
                }
            }
        }
    }
}

fn why(link: &LinkStatus, servers: &[ServerAddress]) -> String {
    match link {
        LinkStatus::Waiting { error, .. } if servers.len() == 1 => briefly(error).to_owned(),
        LinkStatus::Waiting { server, error, .. } => format!("{server}: {}", briefly(error)),
        LinkStatus::Connecting { server } => format!("{server} has not answered"),
        LinkStatus::LocalOnly | LinkStatus::Online { .. } => {
            format!("no answer from {}", places(servers))
        }
    }
}

/// Servers as they were typed, in one line; those without a key are spoken to without encryption if
/// that was asked for, and only then.
fn server_addresses(text: &str, insecure_plaintext: bool) -> Result<Vec<ServerAddress>, String> {
    let line = ServerLine::parse(text).map_err(|error| error.to_string())?;
    let mut servers = line.servers();
    for server in &mut servers {
        match server.trust {
            ServerTrust::Authority if insecure_plaintext => server.trust = ServerTrust::Plaintext,
            ServerTrust::Plaintext if !insecure_plaintext => {
                return Err(format!(
                    "{text} would be spoken to without encryption: add --insecure-plaintext if \
                     that is what you want"
                ));
            }
            ServerTrust::Key { .. } if insecure_plaintext => {
                return Err(format!(
                    "{} has a key, so it speaks TLS: leave --insecure-plaintext away",
                    server.place()
                ));
            }
            _ => {}
        }
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_spoken_in_the_clear_that_was_not_meant_to_be() {
        let trust = |text, plain| -> Vec<ServerTrust> {
            let servers = server_addresses(text, plain).unwrap();
            servers.into_iter().map(|server| server.trust).collect()
        };
        assert_eq!(trust("hub", true), [ServerTrust::Plaintext]);
        assert_eq!(trust("hub", false), [ServerTrust::Authority]);
        assert_eq!(trust("a,b", true), vec![ServerTrust::Plaintext; 2]);
        let refused = server_addresses("plain://hub,b", false).unwrap_err();
        assert!(refused.contains("--insecure-plaintext"), "{refused}");
        let key = protocol::KeyFingerprint::from_bytes([1; 32]);
        assert!(server_addresses(&format!("chat://hub,b/{key}"), true).is_err());
    }

    #[test]
    fn what_is_no_server_says_why() {
        let error = server_addresses("bob@hub", false).unwrap_err();
        assert!(error.contains("'@'"), "{error}");
    }
}
