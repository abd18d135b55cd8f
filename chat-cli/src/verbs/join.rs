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
    HostName, Target, Timestamp,
    limits::{DEFAULT_PORT, MAX_SERVER_ADDRS},
    local::{Event, LinkStatus, Reply, Request},
};
use std::{
    net::Ipv6Addr,
    time::{Duration, SystemTime},
};
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
            servers.push(server_address(target).map_err(Failure::usage)?);
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

async fn federate(session: &mut Session, servers: &[String]) -> Result<(), Failure> {
    let Reply::Status(before) = session.call(Request::Status).await? else {
        return Err(CallError::Misfit.into());
    };
    let before = before.link;
    let asked_at = Timestamp::from(SystemTime::now());
    let request = Request::Federate {
        servers: servers.to_vec(),
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
                servers.contains(server) || *since >= asked_at
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

fn is_among(server: &str, servers: &[String]) -> bool {
    servers.iter().any(|one| one == server)
}

fn named(servers: &[String]) -> String {
    let noun = if servers.len() == 1 {
        "server"
    } else {
        "servers"
    };
    format!("{noun} {}", servers.join(", "))
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

fn why(link: &LinkStatus, servers: &[String]) -> String {
    match link {
        LinkStatus::Waiting { error, .. } if servers.len() == 1 => briefly(error).to_owned(),
        LinkStatus::Waiting { server, error, .. } => format!("{server}: {}", briefly(error)),
        LinkStatus::Connecting { server } => format!("{server} has not answered"),
        LinkStatus::LocalOnly | LinkStatus::Online { .. } => {
            format!("no answer from {}", servers.join(", "))
        }
    }
}

/// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`, with the default port filled in.
fn server_address(text: &str) -> Result<String, String> {
    let wrong =
        |why: &str| format!("{text:?} is no server: {why}; write HOST, HOST:PORT or [IPv6]:PORT");
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("the bracket is not closed"))?;
        // A link-local address says on which of this host's links it is.
        let (address, zone) = match host.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (host, None),
        };
        address
            .parse::<Ipv6Addr>()
            .map_err(|_| wrong("no IPv6 address is in the brackets"))?;
        let is_link = |zone: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            !zone.is_empty() && zone.chars().all(is_plain)
        };
        if !zone.is_none_or(is_link) {
            return Err(wrong("behind % stands the name of a link, such as eth0"));
        }
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err(wrong("something follows the bracket")),
        };
        (format!("[{host}]"), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err(wrong("an IPv6 address needs brackets"));
        }
        HostName::parse(host).map_err(|error| wrong(&error.to_string()))?;
        (host.to_owned(), port)
    };
    let port = match port {
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("the port is not between 1 and 65535"))?,
        None => DEFAULT_PORT,
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_completed_with_the_default_port() {
        for (typed, meant) in [
            ("hub", "hub:7667"),
            ("hub.lan:1234", "hub.lan:1234"),
            ("192.0.2.1", "192.0.2.1:7667"),
            ("[2001:db8::1]", "[2001:db8::1]:7667"),
            ("[::1]:99", "[::1]:99"),
            ("[fe80::1%eth0]", "[fe80::1%eth0]:7667"),
            ("[fe80::1%wlan0.7]:99", "[fe80::1%wlan0.7]:99"),
        ] {
            assert_eq!(server_address(typed).as_deref(), Ok(meant));
        }
    }

    #[test]
    fn what_is_no_server_says_why() {
        for (typed, why) in [
            ("::1", "brackets"),
            ("[::1", "not closed"),
            ("[hub]", "no IPv6"),
            ("[fe80::1%]", "name of a link"),
            ("[fe80::1%a b]", "name of a link"),
            ("hub:0", "port"),
            ("hub:x", "port"),
            ("bob@hub", "cannot contain '@'"),
            ("", "empty"),
        ] {
            let error = server_address(typed).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
