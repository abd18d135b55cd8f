use super::*;
use crate::{HostName, MessageId, UserName, limits::MAX_CHARTER_PEOPLE};
use proptest::prelude::*;

fn user(text: &str) -> UserName {
    text.parse().unwrap()
}

/// olga owns it, mona and mark moderate, mia is a member; the rest is nobody there.
fn charter(mode: Mode) -> Charter {
    let mut charter = Charter::open(&user("olga@ada"), mode, &[]).unwrap();
    for name in ["mona@bee", "mark@bee"] {
        let (user, rank) = (user(name), Rank::Moderator);
        let promote = Act::Promote { user, rank };
        charter.apply(&self::user("olga@ada"), &promote).unwrap();
    }
    if mode == Mode::InviteOnly {
        let invite = Act::Invite {
            user: user("mia@cat"),
        };
        charter.apply(&user("mona@bee"), &invite).unwrap();
    }
    charter
}

fn about(name: &str) -> impl Fn(fn(UserName) -> Act) -> Act {
    let user = user(name);
    move |act| act(user.clone())
}

#[test]
fn each_rank_may_do_what_the_table_says() {
    let invite: fn(UserName) -> Act = |user| Act::Invite { user };
    let kick: fn(UserName) -> Act = |user| Act::Kick { user };
    let mute: fn(UserName) -> Act = |user| Act::Mute { user };
    let ban: fn(UserName) -> Act = |user| Act::Ban {
        subject: Subject::User(user),
    };
    let ban_host: fn(UserName) -> Act = |user| Act::Ban {
        subject: Subject::Host(user.host),
    };
    let demote: fn(UserName) -> Act = |user| Act::Demote { user };
    let promote: fn(UserName) -> Act = |user| Act::Promote {
        user,
        rank: Rank::Owner,
    };
    let mode: fn(UserName) -> Act = |_| Act::Mode {
        mode: Mode::Public,
        members: Vec::new(),
    };
    let keep: fn(UserName) -> Act = |_| Act::Retention {
        keep: Keep::default(),
    };
    let erase: fn(UserName) -> Act = |_| Act::Erase {
        messages: vec![MessageId::from_bytes([1; 16])],
    };
    // Act, about whom, and whether owner, moderator, member and stranger may.
    for (act, whom, may) in [
        (invite, "nina@dog", [true, true, false, false]),
        (kick, "mia@cat", [true, true, false, false]),
        (kick, "mark@bee", [true, false, false, false]),
        (kick, "olga@ada", [false, false, false, false]),
        (mute, "mia@cat", [true, true, false, false]),
        (mute, "mark@bee", [true, false, false, false]),
        (ban, "nina@dog", [true, true, false, false]),
        (ban, "mark@bee", [true, false, false, false]),
        (ban, "olga@ada", [false, false, false, false]),
        (ban_host, "nina@dog", [true, true, false, false]),
        (ban_host, "mark@bee", [true, false, false, false]),
        (ban_host, "olga@ada", [false, false, false, false]),
        (promote, "mia@cat", [true, false, false, false]),
        (demote, "mark@bee", [true, false, false, false]),
        (demote, "olga@ada", [false, false, false, false]),
        (mode, "mia@cat", [true, false, false, false]),
        (keep, "mia@cat", [true, false, false, false]),
        (erase, "mia@cat", [true, true, true, true]),
    ] {
        let charter = charter(Mode::InviteOnly);
        let act = about(whom)(act);
        for (actor, may) in ["olga@ada", "mona@bee", "mia@cat", "eve@dog"]
            .into_iter()
            .zip(may)
        {
            let judged = charter.judge(&user(actor), &act);
            assert_eq!(judged.is_ok(), may, "{actor}: {act:?}: {judged:?}");
        }
    }
}

#[test]
fn who_may_read_and_write_depends_on_the_mode() {
    for (mode, name, reads, writes) in [
        (Mode::Public, "eve@dog", true, true),
        (Mode::ReadOnly, "eve@dog", true, false),
        (Mode::ReadOnly, "mona@bee", true, true),
        (Mode::ReadOnly, "olga@ada", true, true),
        (Mode::InviteOnly, "eve@dog", false, false),
        (Mode::InviteOnly, "mia@cat", true, true),
    ] {
        let charter = charter(mode);
        assert_eq!(charter.admits(&user(name)), reads, "{mode} {name}");
        let written = charter.may_write(&user(name));
        assert_eq!(written.is_ok(), writes, "{mode} {name}: {written:?}");
    }
}

#[test]
fn nobody_gets_into_a_room_by_being_demoted() {
    let mut charter = charter(Mode::InviteOnly);
    let (olga, eve) = (user("olga@ada"), user("eve@dan"));
    let subject = Subject::User(eve.clone());
    charter.apply(&olga, &Act::Ban { subject }).unwrap();
    let before = charter.clone();
    let demote = Act::Demote { user: eve.clone() };
    charter.apply(&olga, &demote).unwrap();
    assert!(!charter.admits(&eve));
    assert_eq!(charter, before);
}

#[test]
fn a_refusal_says_who_could_allow_it() {
    let mut charter = charter(Mode::Public);
    let mute = Act::Mute {
        user: user("eve@dog"),
    };
    charter.apply(&user("mona@bee"), &mute).unwrap();
    let refused = charter.may_write(&user("eve@dog")).unwrap_err().to_string();
    assert_eq!(
        refused,
        "eve@dog is muted there: ask olga@ada or mark@bee or mona@bee"
    );
    let mode = Act::Mode {
        mode: Mode::Public,
        members: Vec::new(),
    };
    let refused = charter.judge(&user("mona@bee"), &mode).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "only an owner may do that: ask olga@ada"
    );
}

#[test]
fn who_is_in_a_room_stays_in_it_when_it_closes_and_no_more_than_it_can_hold() {
    let mut charter = charter(Mode::Public);
    let close = |count: usize| Act::Mode {
        mode: Mode::InviteOnly,
        members: (0..count).map(|n| user(&format!("u{n}@dog"))).collect(),
    };
    let before = charter.clone();
    let refused = charter.apply(&user("olga@ada"), &close(MAX_CHARTER_PEOPLE));
    assert!(matches!(refused, Err(Denied::TooMany { .. })));
    assert_eq!(charter, before);
    charter
        .apply(&user("olga@ada"), &close(MAX_CHARTER_PEOPLE - 3))
        .unwrap();
    assert!(charter.admits(&user("u0@dog")) && !charter.admits(&user("eve@dog")));
    let one_more = Act::Invite {
        user: user("eve@dog"),
    };
    assert!(charter.apply(&user("olga@ada"), &one_more).is_err());
    // The largest act there can be fits the body of a message.
    let long = |n: usize| UserName::parse(&format!("{}{n:03}@{}", "n".repeat(29), "h".repeat(64)));
    let members = (0..MAX_CHARTER_PEOPLE).map(|n| long(n).unwrap()).collect();
    let mode = Mode::InviteOnly;
    let body = crate::Content::Act(Act::Opened { mode, members })
        .encode()
        .unwrap();
    body.check().unwrap();
}

#[test]
fn senseless_acts_are_refused_with_what_is_wrong() {
    let keep = |max_age_seconds, max_messages| Act::Retention {
        keep: Keep {
            max_age_seconds,
            max_messages,
        },
    };
    let owner = user("olga@ada");
    for act in [
        keep(Some(0), None),
        keep(None, Some(0)),
        keep(None, Some(u64::MAX)),
        Act::Erase {
            messages: Vec::new(),
        },
        Act::Promote {
            user: user("mia@cat"),
            rank: Rank::Member,
        },
    ] {
        let judged = charter(Mode::Public).judge(&owner, &act);
        assert!(matches!(judged, Err(Denied::Senseless { .. })), "{act:?}");
    }
    assert_eq!(
        charter(Mode::Public).judge(&owner, &keep(Some(1), None)),
        Ok(())
    );
}

#[test]
fn a_host_with_another_name_keeps_what_its_users_are() {
    let mut charter = charter(Mode::InviteOnly);
    let [bee, cow] = ["bee", "cow"].map(|name| HostName::parse(name).unwrap());
    let mute = Act::Mute {
        user: user("eve@bee"),
    };
    charter.apply(&user("olga@ada"), &mute).unwrap();
    let charter = charter.with_host_renamed(&bee, &cow);
    assert_eq!(charter.rank(&user("mona@cow")), Some(Rank::Moderator));
    assert_eq!(charter.rank(&user("mona@bee")), None);
    assert_eq!(charter.rank(&user("olga@ada")), Some(Rank::Owner));
    assert!(charter.muted().eq([&user("eve@cow")]));
}

fn people() -> impl Strategy<Value = UserName> {
    (0..4_u8, 0..3_u8).prop_map(|(nick, host)| user(&format!("u{nick}@h{host}")))
}

fn acts() -> impl Strategy<Value = Act> {
    let subject = prop_oneof![
        people().prop_map(Subject::User),
        (0..3_u8).prop_map(|n| Subject::Host(HostName::parse(&format!("h{n}")).unwrap())),
    ];
    let mode = prop_oneof![
        Just(Mode::Public),
        Just(Mode::InviteOnly),
        Just(Mode::ReadOnly)
    ];
    let rank = prop_oneof![Just(Rank::Member), Just(Rank::Moderator), Just(Rank::Owner)];
    let members = proptest::collection::vec(people(), 0..3);
    prop_oneof![
        (mode, members).prop_map(|(mode, members)| Act::Mode { mode, members }),
        people().prop_map(|user| Act::Invite { user }),
        people().prop_map(|user| Act::Kick { user }),
        subject.clone().prop_map(|subject| Act::Ban { subject }),
        subject.prop_map(|subject| Act::Unban { subject }),
        people().prop_map(|user| Act::Mute { user }),
        people().prop_map(|user| Act::Unmute { user }),
        (people(), rank).prop_map(|(user, rank)| Act::Promote { user, rank }),
        people().prop_map(|user| Act::Demote { user }),
        Just(Act::Left),
    ]
}

proptest! {
    #[test]
    fn whatever_is_done_an_owner_remains_and_nobody_rises_by_themselves(
        log in proptest::collection::vec((people(), acts()), 0..80)
    ) {
        let mut charter = Charter::open(&user("u0@h0"), Mode::Public, &[]).unwrap();
        let mut other = charter.clone();
        for (actor, act) in &log {
            let before = charter.clone();
            let done = charter.apply(actor, act);
            // The same log is the same charter, from wherever it is stored in between.
            let stored = Charter::from_bytes(&other.to_bytes().unwrap()).unwrap();
            other = stored;
            prop_assert_eq!(&other.apply(actor, act), &done);
            prop_assert_eq!(&other, &charter);

            prop_assert!(charter.people().any(|(_, rank)| rank == Rank::Owner));
            if done.is_err() {
                prop_assert_eq!(&charter, &before);
            } else if before.rank(actor) < Some(Rank::Moderator) {
                // Whoever has no rank changes nobody but themselves, and only by leaving.
                let mut expected = before.clone();
                if *act == Act::Left {
                    expected.apply(actor, act).unwrap();
                }
                prop_assert_eq!(&charter, &expected);
            } else if before.rank(actor) == Some(Rank::Moderator) {
                let rulers = |charter: &Charter| -> Vec<(UserName, Rank)> {
                    charter
                        .people()
                        .filter(|(user, rank)| *rank > Rank::Member && *user != actor)
                        .map(|(user, rank)| (user.clone(), rank))
                        .collect()
                };
                prop_assert_eq!(rulers(&charter), rulers(&before));
            }
            for (user, _) in charter.people() {
                prop_assert!(!charter.is_banned(user));
            }
        }
    }
}
