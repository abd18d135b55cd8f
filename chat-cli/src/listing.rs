//! What rooms, members and the state of things look like to people: one table each, the same for
//! the verbs and at the prompt.

use crate::{
    render::{self, Style, availability, count},
    table,
};
use protocol::{
    Durability, LogStatus, Member, Room, UserName,
    local::{RoomInfo, Status},
};

/// Rooms behind what `number` says of each, those that one is in marked; lines no wider than
/// `columns`.
#[must_use]
pub fn rooms(
    rooms: &[RoomInfo],
    me: &UserName,
    number: impl Fn(&Room) -> String,
    columns: Option<usize>,
) -> Vec<String> {
    let row = |info| room(info, me, &number);
    let rows: Vec<[String; 5]> = rooms.iter().map(row).collect();
    table::lines(&rows, columns)
}

fn room(info: &RoomInfo, me: &UserName, number: impl Fn(&Room) -> String) -> [String; 5] {
    let members = match info.members {
        Some(members) => count(members.into(), "member"),
        None => "members unknown".to_owned(),
    };
    let unread = match info.unread {
        0 => String::new(),
        unread => format!("{unread} unread"),
    };
    [
        number(&info.room) + if info.joined { "*" } else { " " },
        info.room.seen_by(me),
        members,
        unread,
        info.topic.clone(),
    ]
}

/// Members, as `name` calls them, and whether they are there; lines no wider than `columns`.
#[must_use]
pub fn members(
    members: &[Member],
    name: impl Fn(&UserName) -> String,
    columns: Option<usize>,
) -> Vec<String> {
    let row = |member: &Member| {
        let there = availability(member.availability).to_owned();
        [name(&member.user), there]
    };
    let rows: Vec<[String; 2]> = members.iter().map(row).collect();
    table::lines(&rows, columns)
}

/// How agent, outbox and link are, and the server's log if it promises less than it should; lines
/// no wider than `columns`.
#[must_use]
pub fn status(
    status: &Status,
    server_log: Option<&LogStatus>,
    style: &Style,
    columns: Option<usize>,
) -> Vec<String> {
    let agent = format!(
        "{}, pid {}, {}, state in {}",
        status.software,
        status.pid,
        count(status.sessions.into(), "session"),
        status.state_dir,
    );
    let outbox = match status.outbox_messages {
        0 => "empty".to_owned(),
        messages => format!(
            "{} waiting for the server, {} of {} (`chat pending` lists yours)",
            count(messages, "message"),
            render::bytes(status.outbox_bytes),
            render::bytes(status.outbox_limit_bytes)
        ),
    };
    let row = |what: &str, how: String| [what.to_owned(), how];
    let mut rows = vec![
        row("user", status.user.to_string()),
        row("agent", agent),
        row("server", style.link(&status.link)),
        row("outbox", outbox),
    ];
    if let Some(server_log) = server_log.filter(|log| is_weaker(log)) {
        rows.insert(3, row("log", log(server_log)));
        if let Some(weaker) = &server_log.weaker {
            rows.push(row("warning", format!("the server's log: {weaker}")));
        }
    }
    rows.extend(
        status
            .problems
            .iter()
            .map(|one| row("problem", one.clone())),
    );
    table::lines(&rows, columns)
}

/// What keeps a log, and what its acknowledgements promise, in one line.
#[must_use]
pub fn log(log: &LogStatus) -> String {
    format!("on {}; {}", log.keeper, log.durability)
}

/// Whether a log promises less than could be.
#[must_use]
pub const fn is_weaker(log: &LogStatus) -> bool {
    !matches!(log.durability, Durability::Synced) || log.weaker.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use jiff::tz::TimeZone;
    use protocol::{Availability, Seq};
    use unicode_width::UnicodeWidthStr;

    fn me() -> UserName {
        "alice@ada".parse().unwrap()
    }

    fn info(room: &str, members: Option<u32>, unread: u32, topic: &str) -> RoomInfo {
        RoomInfo {
            room: room.parse().unwrap(),
            joined: unread == 0,
            members,
            head: Seq::new(9),
            unread,
            topic: topic.to_owned(),
        }
    }

    fn some_rooms() -> Vec<RoomInfo> {
        vec![
            info("#ops", Some(1), 0, "what runs,\u{1b}[2J and what does not"),
            info(
                "#日本語の部屋",
                None,
                12,
                "世界 🚀 e\u{301}: 今日は何をしますか、皆さん",
            ),
            info(
                "alice@ada,bob@a-host-with-a-rather-long-name",
                Some(2),
                0,
                "",
            ),
        ]
    }

    #[test]
    fn rooms_are_aligned_and_fit_whatever_they_are_called() {
        insta::assert_snapshot!(rooms(&some_rooms(), &me(), |_| String::new(), None).join("\n"));
        insta::assert_snapshot!(
            rooms(&some_rooms(), &me(), |_| String::new(), Some(80)).join("\n")
        );
        insta::assert_snapshot!(
            rooms(&some_rooms(), &me(), |_| String::new(), Some(40)).join("\n")
        );
    }

    #[test]
    fn members_are_aligned_and_fit_whatever_they_are_called() {
        let member = |user: &str, availability| Member {
            user: user.parse().unwrap(),
            availability,
        };
        let all = [
            member("alice@ada", Availability::Online),
            member("李雷@ada", Availability::Away),
            member(
                "carol@a-host-with-a-rather-long-name",
                Availability::Offline,
            ),
        ];
        let name = |user: &UserName| render::name_seen_by(user, &me());
        assert_eq!(
            members(&all, name, None),
            [
                "alice                                 online",
                "李雷                                  away",
                "carol@a-host-with-a-rather-long-name  offline"
            ]
        );
        assert_eq!(
            members(&all, name, Some(40)),
            [
                "alice                            online",
                "李雷                             away",
                "carol@a-host-with-a-rather-long  offline",
                "-name"
            ]
        );
    }

    #[test]
    fn status_fits_and_hides_no_escape() {
        let style = Style {
            colour: false,
            ground: render::Ground::Unknown,
            links: false,
            zone: TimeZone::UTC,
        };
        let told = Status {
            problems: vec!["disk\x1b[1m full: make room in /var/lib/somewhere/chat".to_owned()],
            ..sample::status()
        };
        for columns in [40, 80] {
            let lines = status(&told, None, &style, Some(columns));
            assert!(
                lines.iter().all(|line| line.width() <= columns),
                "{lines:#?}"
            );
        }
        let text = status(&told, None, &style, None).join("\n");
        assert!(text.contains("problem  disk\\x1b[1m full"), "{text}");
        assert!(text.contains("outbox   3 messages"), "{text}");
    }

    #[test]
    fn a_log_is_worth_a_line_only_if_it_promises_less_than_it_should() {
        let style = Style {
            colour: false,
            ground: render::Ground::Unknown,
            links: false,
            zone: TimeZone::UTC,
        };
        let told = |log: &LogStatus| status(&sample::status(), Some(log), &style, None).join("\n");
        let good = told(&LogStatus::database());
        assert!(
            !good.contains("log ") && !good.contains("warning"),
            "{good}"
        );
        let weaker = told(&sample::weaker_log());
        assert!(
            weaker.contains("log      on NATS JetStream; whether"),
            "{weaker}"
        );
        assert!(
            weaker.contains("warning  the server's log: nobody has vouched"),
            "{weaker}"
        );
    }
}
