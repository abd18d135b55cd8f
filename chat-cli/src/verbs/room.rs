//! `chat room`: who may do what in a room.

mod show;

use crate::{
    args::{RoomArgs, RoomMode, RoomVerb},
    client::CallError,
    exit::{Exit, Failure, say},
    json,
    output::Output,
    paths::Settings,
};
use clap::ValueEnum;
use protocol::{
    HostName, MessageId, NameError, Nick, UserName,
    governance::{Act, Keep, Rank, Subject},
    local::{Reply, Request},
};

/// Runs the verb.
///
/// # Errors
///
/// [`Failure`] with the exit code.
pub async fn run(settings: &Settings, args: &RoomArgs) -> Result<(), Failure> {
    let mut session = match &args.verb {
        RoomVerb::Create { .. } => super::session_or_start(settings).await?,
        _ => super::session(settings).await?,
    };
    let me = session.user().clone();
    let target = args.verb.room();
    let room = target.resolve(&me);
    if !matches!(args.verb, RoomVerb::Erase { .. }) {
        super::refuse_direct(&room, &me, "has no owner and no rules")?;
    }
    if let RoomVerb::Show { .. } = args.verb {
        return show::run(&mut session, &room, args.json).await;
    }
    let act = act(&args.verb, &me)?;
    let opens = matches!(act, Act::Opened { .. });
    let id = match &args.id {
        Some(key) => {
            super::check_key(key)?;
            MessageId::from_key(&me, &room, key)
        }
        None => MessageId::new(),
    };
    let request = Request::Govern {
        room: room.clone(),
        id,
        act,
    };
    let reply = session.call(request).await?;
    if opens {
        let room = room.clone();
        session.command(Request::Join { room }).await?;
    }
    let state = match reply {
        Reply::Sent { state } => Some(state),
        Reply::Done => None,
        _ => return Err(CallError::Misfit.into()),
    };
    if args.json {
        let mut output = Output::default();
        let printed = output.line(&json::governed(id, &room, state, &me));
        return output.finish(printed).await;
    }
    if state.is_none() {
        say(&format!("nothing to change in {}", room.seen_by(&me)));
    }
    Ok(())
}

/// What a command line asks for.
fn act(verb: &RoomVerb, me: &UserName) -> Result<Act, Failure> {
    let members = Vec::new();
    Ok(match verb {
        RoomVerb::Create { mode, .. } => Act::Opened {
            mode: (*mode).into(),
            members,
        },
        RoomVerb::Mode { mode, .. } => Act::Mode {
            mode: (*mode).into(),
            members,
        },
        RoomVerb::Invite { user, .. } => Act::Invite {
            user: person(user, me)?,
        },
        RoomVerb::Kick { user, .. } => Act::Kick {
            user: person(user, me)?,
        },
        RoomVerb::Ban { who, .. } => Act::Ban {
            subject: subject(who, me)?,
        },
        RoomVerb::Unban { who, .. } => Act::Unban {
            subject: subject(who, me)?,
        },
        RoomVerb::Mute { user, .. } => Act::Mute {
            user: person(user, me)?,
        },
        RoomVerb::Unmute { user, .. } => Act::Unmute {
            user: person(user, me)?,
        },
        RoomVerb::Promote { user, owner, .. } => Act::Promote {
            user: person(user, me)?,
            rank: if *owner { Rank::Owner } else { Rank::Moderator },
        },
        RoomVerb::Demote { user, .. } => Act::Demote {
            user: person(user, me)?,
        },
        RoomVerb::Retention { age, count, .. } => Act::Retention {
            keep: Keep {
                max_age_seconds: age.as_ref().map(|age| age.as_secs()),
                max_messages: *count,
            },
        },
        RoomVerb::Erase { messages, .. } => Act::Erase {
            messages: messages.clone(),
        },
        RoomVerb::Show { .. } => return Err(Failure::new(Exit::Usage, "nothing to do")),
    })
}

/// What somebody means who types `/verb what` in a room.
///
/// # Errors
///
/// [`Failure`], written for them.
pub fn typed(verb: &str, what: &str, me: &UserName) -> Result<Act, Failure> {
    Ok(match verb {
        "mode" => Act::Mode {
            mode: RoomMode::from_str(what, true)
                .map_err(|_| {
                    let modes = "public, invite-only or read-only";
                    Failure::usage(format_args!("{what:?} is no mode: write {modes}"))
                })?
                .into(),
            members: Vec::new(),
        },
        "invite" => Act::Invite {
            user: person(what, me)?,
        },
        "kick" => Act::Kick {
            user: person(what, me)?,
        },
        "ban" => Act::Ban {
            subject: subject(what, me)?,
        },
        "unban" => Act::Unban {
            subject: subject(what, me)?,
        },
        "mute" => Act::Mute {
            user: person(what, me)?,
        },
        "unmute" => Act::Unmute {
            user: person(what, me)?,
        },
        _ => Act::Promote {
            user: person(what, me)?,
            rank: Rank::Moderator,
        },
    })
}

/// `nick` of this host or `nick@host`, also with an `@` before it.
///
/// # Errors
///
/// [`Failure`] if it is neither.
pub fn person(text: &str, me: &UserName) -> Result<UserName, Failure> {
    parse_person(text, me).map_err(Failure::usage)
}

fn parse_person(text: &str, me: &UserName) -> Result<UserName, NameError> {
    match text.strip_prefix('@').unwrap_or(text) {
        named if named.contains('@') => UserName::parse(named),
        nick => Ok(UserName::new(Nick::parse(nick)?, me.host.clone())),
    }
}

/// A person, or `*@host` for everybody of a host.
///
/// # Errors
///
/// [`Failure`] if it is neither.
pub fn subject(text: &str, me: &UserName) -> Result<Subject, Failure> {
    match text.strip_prefix("*@") {
        Some(host) => HostName::parse(host)
            .map(Subject::Host)
            .map_err(Failure::usage),
        None => person(text, me).map(Subject::User),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_in_a_room_is_what_the_verb_does() {
        let me: UserName = "alice@ada".parse().unwrap();
        let user: UserName = "bob@ada".parse().unwrap();
        assert_eq!(
            typed("kick", "bob", &me),
            Ok(Act::Kick { user: user.clone() })
        );
        let rank = Rank::Moderator;
        assert_eq!(typed("mod", "@bob", &me), Ok(Act::Promote { user, rank }));
        let (mode, members) = (protocol::governance::Mode::ReadOnly, Vec::new());
        assert_eq!(
            typed("mode", "read-only", &me),
            Ok(Act::Mode { mode, members })
        );
        let refused = typed("mode", "secret", &me).unwrap_err().to_string();
        assert!(refused.contains("invite-only"), "{refused}");
    }

    #[test]
    fn people_and_hosts_are_told_apart() {
        let me: UserName = "alice@ada".parse().unwrap();
        for (text, expected) in [
            ("bob", "bob@ada"),
            ("@bob", "bob@ada"),
            ("bob@bee", "bob@bee"),
            ("@bob@bee", "bob@bee"),
            ("*@bee", "*@bee"),
        ] {
            assert_eq!(subject(text, &me).unwrap().to_string(), expected);
        }
        for bad in ["", "@", "*", "a b", "*@", "bob@"] {
            assert_eq!(subject(bad, &me).unwrap_err().exit, Exit::Usage, "{bad:?}");
        }
    }
}
