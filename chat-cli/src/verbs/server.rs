//! `chat server invite`, `invitations`, `agents`, `revoke`, `rotate-key`: whom a server lets in;
//! `drain`, for whom it lets go; `status`, how it is; `export` and `import`, for what moves.

mod drain;
mod moving;
mod status;

use crate::{
    administration::Server,
    args::server::{InviteArgs, ListArgs, Order, RevokeArgs, RotateKeyArgs},
    client::CallError,
    exit::{Failure, say},
    json,
    output::Output,
    render, table,
};
use jiff::tz::TimeZone;
use protocol::{
    Timestamp,
    admin::{AgentInfo, AgentState, InvitationInfo, InvitationState, Reply, Request},
};

/// Has a running server do something, or moves the log of one that is ended.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(order: &Order) -> Result<(), Failure> {
    match order {
        Order::Invite(args) => invite(args).await,
        Order::Invitations(args) => invitations(args).await,
        Order::Agents(args) => agents(args).await,
        Order::Revoke(args) => revoke(args).await,
        Order::RotateKey(args) => rotate_key(args).await,
        Order::Drain(args) => drain::run(args).await,
        Order::Status(args) => status::run(args).await,
        Order::Export(args) => moving::export(args).await,
        Order::Import(args) => moving::import(args).await,
    }
}

async fn invite(args: &InviteArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let request = Request::Invite {
        uses: args.uses,
        valid_for_s: args.expires.as_secs(),
        host: args.host.clone(),
    };
    let Reply::Invited {
        invitation,
        address,
        expires_at,
    } = server.ask(request).await?
    else {
        return Err(CallError::Misfit.into());
    };
    let line = if args.json {
        json::invited(invitation, &address, expires_at)
    } else {
        let hosts = match args.uses {
            1 => "one host".to_owned(),
            uses => format!("{uses} hosts"),
        };
        say(&format!(
            "invitation {invitation}: lets in {hosts} until {}; paste this there:",
            at(expires_at)
        ));
        format!("chat join {address}")
    };
    print(vec![line]).await
}

async fn invitations(args: &ListArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let mut all: Vec<InvitationInfo> = Vec::new();
    loop {
        let after = all.last().map(|last| last.invitation);
        let Reply::Invitations { invitations, more } =
            server.ask(Request::Invitations { after }).await?
        else {
            return Err(CallError::Misfit.into());
        };
        let ended = !more || invitations.is_empty();
        all.extend(invitations);
        if ended {
            break;
        }
    }
    if args.json {
        return print(all.iter().map(json::invitation).collect()).await;
    }
    let rows: Vec<[String; 4]> = all.iter().map(invitation_row).collect();
    print(table::lines(&rows, render::columns())).await
}

fn invitation_row(info: &InvitationInfo) -> [String; 4] {
    let state = match info.state {
        InvitationState::Open => match info.uses_left {
            1 => "open for 1 host".to_owned(),
            uses => format!("open for {uses} hosts"),
        },
        InvitationState::Expired => "expired".to_owned(),
        InvitationState::Used => "used".to_owned(),
        InvitationState::Revoked => "revoked".to_owned(),
    };
    let host = info.host.as_ref().map_or("any host", |host| host.as_str());
    [
        info.invitation.to_string(),
        host.to_owned(),
        state,
        format!("until {}", at(info.expires_at)),
    ]
}

async fn agents(args: &ListArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let mut all: Vec<AgentInfo> = Vec::new();
    loop {
        let after = all.last().map(|last| last.host.clone());
        let Reply::Agents { agents, more } = server.ask(Request::Agents { after }).await? else {
            return Err(CallError::Misfit.into());
        };
        let ended = !more || agents.is_empty();
        all.extend(agents);
        if ended {
            break;
        }
    }
    if args.json {
        return print(all.iter().map(json::agent).collect()).await;
    }
    let rows: Vec<[String; 4]> = all.iter().map(agent_row).collect();
    print(table::lines(&rows, render::columns())).await
}

fn agent_row(info: &AgentInfo) -> [String; 4] {
    [
        info.host.to_string(),
        match server_of(&info.state) {
            Some(server) => format!("{} to {server}", state(&info.state)),
            None => state(&info.state).to_owned(),
        },
        format!("let in {}", at(info.enrolled_at)),
        info.key.to_string(),
    ]
}

/// The word for whether an agent is there, also in JSON.
pub const fn state(state: &AgentState) -> &'static str {
    match state {
        AgentState::Connected | AgentState::ConnectedTo { .. } => "connected",
        AgentState::Away => "away",
        AgentState::Revoked => "revoked",
    }
}

/// To which of several servers an agent is connected.
pub fn server_of(state: &AgentState) -> Option<&str> {
    match state {
        AgentState::ConnectedTo { server } => Some(server),
        AgentState::Connected | AgentState::Away | AgentState::Revoked => None,
    }
}

async fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let request = match (&args.host, args.invitation) {
        (Some(host), _) => Request::RevokeAgent { host: host.clone() },
        (None, Some(invitation)) => Request::RevokeInvitation { invitation },
        (None, None) => return Err(Failure::usage("name a host, or an --invitation")),
    };
    server.ask(request).await?;
    match &args.host {
        Some(host) => say(&format!(
            "{host} is let in no more, nor is anybody by the invitation it came with; others may be \
             open: `chat server invitations`"
        )),
        None => say("the invitation lets nobody in any more"),
    }
    Ok(())
}

async fn rotate_key(args: &RotateKeyArgs) -> Result<(), Failure> {
    let mut server = Server::connect(&args.place).await?;
    let request = if args.now {
        Request::ChangeKey
    } else {
        Request::NextKey
    };
    let Reply::Key {
        key,
        connected,
        enrolled,
    } = server.ask(request).await?
    else {
        return Err(CallError::Misfit.into());
    };
    if args.json {
        return print(vec![json::key(&key, args.now, connected, enrolled)]).await;
    }
    let line = if args.now {
        format!("the key is now {key}")
    } else {
        let others = if connected < enrolled {
            " once the others were, too"
        } else {
            ""
        };
        say(&format!(
            "{connected} of {enrolled} hosts are connected and have been told; take it into use \
             with `chat server rotate-key --now`{others}"
        ));
        format!("the next key is {key}")
    };
    print(vec![line]).await
}

async fn print(lines: Vec<String>) -> Result<(), Failure> {
    let mut output = Output::default();
    let mut printed = Ok(());
    for line in &lines {
        printed = printed.and(output.print(line).await);
    }
    output.finish(printed).await
}

/// When, to the minute, where this is.
fn at(time: Timestamp) -> String {
    let here = render::instant(time).to_zoned_datetime(TimeZone::system());
    here.strftime("%Y-%m-%d %H:%M").to_string()
}
