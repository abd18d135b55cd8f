//! Members, topics, lists of rooms, and direct conversations.

use super::{
    Backing,
    running::{Running, federated, room, says, user},
};
use chat_server::log::{Asker, Change, Commit};
use protocol::{
    FederatedRoom, HostName, Outgoing, Room, Seq, UserName,
    federation::{Refusal, Reply, RoomInfo, TooMany},
    limits::{MAX_PAGE_ENTRIES, MAX_ROOMS_PER_HOST, MAX_ROOMS_PER_USER},
};

fn join(room: &str, name: &str) -> Change {
    Change::Join {
        room: federated(room),
        user: user(name),
    }
}

fn leave(room: &str, name: &str) -> Change {
    Change::Leave {
        room: federated(room),
        user: user(name),
    }
}

fn topic(room: &str, topic: &str) -> Change {
    Change::SetTopic {
        room: federated(room),
        user: user("alice@ada"),
        topic: topic.to_owned(),
    }
}

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

/// Joined, and this is what there was.
fn joined(head: Seq, topic: &str) -> Result<Reply, Refusal> {
    Ok(Reply::Joined {
        head,
        topic: topic.to_owned(),
    })
}

async fn members<B: Backing>(running: &Running<B>, room: &str) -> Option<Vec<UserName>> {
    let room = federated(room);
    let mut found = Vec::new();
    loop {
        let page = running.log.members(&room, found.last()).await.unwrap()?;
        found.extend(page.entries);
        if !page.more {
            return Some(found);
        }
    }
}

pub(super) async fn members_come_and_go<B: Backing>() {
    let running = Running::<B>::new().await;
    assert_eq!(members(&running, "#ops").await, None);
    assert_eq!(
        running.change(join("#ops", "bob@bee")).await,
        joined(Seq::START, "")
    );
    let head = running.say(&says("bob@bee", &room("#ops"), "hello")).await;
    for _ in 0..2 {
        let answer = running.change(join("#ops", "alice@ada")).await;
        assert_eq!(answer, joined(head, ""));
    }
    let both = ["alice@ada", "bob@bee"].map(user);
    assert_eq!(members(&running, "#ops").await.as_deref(), Some(&both[..]));
    assert!(running.change(join("#dev", "alice@ada")).await.is_ok());
    let mut rooms = running.log.rooms_of(&both[0]).await.unwrap();
    rooms.sort();
    assert_eq!(rooms, ["#dev", "#ops"].map(room));
    assert_eq!(
        running.change(leave("#ops", "alice@ada")).await,
        Ok(Reply::Done)
    );
    let (running, _) = running.reopen().await;
    assert_eq!(members(&running, "#ops").await.as_deref(), Some(&both[1..]));
    assert_eq!(
        running.log.rooms_of(&both[0]).await.unwrap(),
        [room("#dev")]
    );
    // A room without members is a room still.
    assert_eq!(
        running.change(leave("#ops", "bob@bee")).await,
        Ok(Reply::Done)
    );
    assert_eq!(members(&running, "#ops").await, Some(Vec::new()));
    assert_eq!(running.read(&room("#ops")).await.len(), 1);
}

pub(super) async fn members_are_listed_in_order_page_by_page<B: Backing>() {
    let running = Running::<B>::new().await;
    let names: Vec<String> = (0..=MAX_PAGE_ENTRIES)
        .map(|n| format!("user-{n:05}@ada"))
        .collect();
    let answers = running
        .change_all(names.iter().rev().map(|name| join("#ops", name)))
        .await;
    assert!(answers.iter().all(Result::is_ok));
    let ops = federated("#ops");
    let first = running.log.members(&ops, None).await.unwrap().unwrap();
    assert!(first.more && first.entries.len() <= MAX_PAGE_ENTRIES);
    let expected: Vec<UserName> = names.iter().map(|name| user(name)).collect();
    assert_eq!(members(&running, "#ops").await, Some(expected));
    // The next page begins behind a member who has left since.
    let last = first.entries.last().unwrap();
    assert!(
        running
            .change(leave("#ops", &last.to_string()))
            .await
            .is_ok()
    );
    let rest = running
        .log
        .members(&ops, Some(last))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(rest.entries.len(), names.len() - first.entries.len());
    let infos = rooms(&running).await;
    assert_eq!(infos[0].members as usize, names.len() - 1);
}

async fn rooms<B: Backing>(running: &Running<B>) -> Vec<RoomInfo> {
    let mut found: Vec<RoomInfo> = Vec::new();
    loop {
        let after = found.last().map(|info| info.room.clone());
        let asker = Asker::Host(HostName::parse("ada").unwrap());
        let page = running.log.rooms(&asker, after.as_ref()).await.unwrap();
        assert!(page.entries.len() <= MAX_PAGE_ENTRIES);
        assert!(!(page.more && page.entries.is_empty()));
        found.extend(page.entries);
        if !page.more {
            return found;
        }
    }
}

pub(super) async fn rooms_are_listed_in_order_page_by_page<B: Backing>() {
    let running = Running::<B>::new().await;
    assert_eq!(rooms(&running).await, []);
    let names: Vec<String> = (0..=MAX_PAGE_ENTRIES)
        .map(|n| format!("#room-{n:05}"))
        .collect();
    let joins = names.iter().enumerate().map(|(n, name)| {
        // No user may be in all of them.
        join(name, ["alice@ada", "bob@bee"][n % 2])
    });
    let answers = running.change_all(joins).await;
    assert!(answers.iter().all(Result::is_ok));
    let head = running
        .say(&says("alice@ada", &room(&names[3]), "hi"))
        .await;
    assert_eq!(
        running.change(topic(&names[3], "three")).await,
        Ok(Reply::Done)
    );
    let direct = room("alice@ada,bob@bee");
    running.say(&says("alice@ada", &direct, "psst")).await;
    let infos = rooms(&running).await;
    let expected: Vec<FederatedRoom> = names.iter().map(|name| federated(name)).collect();
    assert!(infos.iter().map(|info| &info.room).eq(&expected));
    let third = RoomInfo {
        room: expected[3].clone(),
        members: 1,
        head,
        topic: "three".to_owned(),
    };
    assert_eq!(infos[3], third);
    assert_eq!(infos[4].head, Seq::START);
}

pub(super) async fn topics_are_set_and_removed<B: Backing>() {
    let running = Running::<B>::new().await;
    let nowhere = running.change(topic("#ops", "what?")).await;
    assert_eq!(nowhere, Err(Refusal::NoSuchRoom { room: room("#ops") }));
    assert!(running.change(join("#ops", "alice@ada")).await.is_ok());
    for text in ["on call: bob", "on call: alice"] {
        assert_eq!(running.change(topic("#ops", text)).await, Ok(Reply::Done));
        let answer = running.change(join("#ops", "bob@bee")).await;
        assert_eq!(answer, joined(Seq::START, text));
    }
    let (running, commits) = running.reopen().await;
    assert_eq!(rooms(&running).await[0].topic, "on call: alice");
    assert_eq!(running.change(topic("#ops", "")).await, Ok(Reply::Done));
    assert_eq!(rooms(&running).await[0].topic, "");
    let (_, removed) = running.close().await;
    let topics = commits.into_iter().chain(removed).filter_map(|commit| {
        let Commit::Topic { topic, user, room } = commit else {
            return None;
        };
        assert_eq!(
            (room, user.to_string().as_str()),
            (federated("#ops"), "alice@ada")
        );
        Some(topic)
    });
    assert_eq!(
        topics.collect::<Vec<_>>(),
        ["on call: bob", "on call: alice", ""]
    );
}

pub(super) async fn a_user_is_in_a_limited_number_of_rooms<B: Backing>() {
    let running = Running::<B>::new().await;
    let names = (0..MAX_ROOMS_PER_USER).map(|n| format!("#room-{n}"));
    let answers = running
        .change_all(names.map(|name| join(&name, "alice@ada")))
        .await;
    assert!(answers.iter().all(Result::is_ok));
    let one_more = running.change(join("#one-more", "alice@ada")).await;
    let refusal = Refusal::TooMany {
        what: TooMany::RoomsOfUser,
        max: u32::try_from(MAX_ROOMS_PER_USER).unwrap(),
    };
    assert_eq!(one_more, Err(refusal));
    assert_eq!(running.log.head(&room("#one-more")).await.unwrap(), None);
    // Where one is already counts no more than once, and others have their own limit.
    assert!(running.change(join("#room-7", "alice@ada")).await.is_ok());
    assert!(running.change(join("#one-more", "bob@bee")).await.is_ok());
    assert!(running.change(leave("#room-7", "alice@ada")).await.is_ok());
    assert!(running.change(join("#one-more", "alice@ada")).await.is_ok());
    let rooms = running.log.rooms_of(&user("alice@ada")).await.unwrap();
    assert_eq!(rooms.len(), MAX_ROOMS_PER_USER);
}

async fn directs<B: Backing>(running: &Running<B>, host: &HostName) -> Vec<Room> {
    let mut found: Vec<Room> = Vec::new();
    loop {
        let page = running.log.directs(host, found.last()).await.unwrap();
        assert!(page.entries.len() <= MAX_PAGE_ENTRIES);
        found.extend(page.entries);
        if !page.more {
            return found;
        }
    }
}

pub(super) async fn a_direct_conversation_is_known_to_both_hosts<B: Backing>() {
    let running = Running::<B>::new().await;
    let conversation = room("alice@ada,bob@bee");
    for author in ["alice@ada", "bob@bee"] {
        running.say(&says(author, &conversation, "hello")).await;
        running.say(&says(author, &conversation, "again")).await;
    }
    let with_oneself = room("alice@ada,alice@ada");
    running.say(&says("alice@ada", &with_oneself, "note")).await;
    let (running, _) = running.reopen().await;
    assert_eq!(
        directs(&running, &host("ada")).await,
        [with_oneself, conversation.clone()]
    );
    assert_eq!(directs(&running, &host("bee")).await, [conversation]);
    assert_eq!(directs(&running, &host("cat")).await, []);
}

pub(super) async fn direct_conversations_are_listed_page_by_page<B: Backing>() {
    let running = Running::<B>::new().await;
    let messages: Vec<Outgoing> = (0..=MAX_PAGE_ENTRIES)
        .map(|n| {
            let author = format!("user-{n:05}@ada");
            says(&author, &room(&format!("bob@bee,{author}")), "hello")
        })
        .collect();
    running.append(&messages).await;
    let expected: Vec<Room> = messages.into_iter().map(|one| one.room).collect();
    for name in ["ada", "bee"] {
        assert_eq!(directs(&running, &host(name)).await, expected);
    }
}

pub(super) async fn a_message_to_a_host_that_never_came_waits_for_it<B: Backing>() {
    let running = Running::<B>::new().await;
    let message = says("alice@ada", &room("alice@ada,bob@bee"), "there yet?");
    running.say(&message).await;
    let (running, _) = running.reopen().await;
    assert_eq!(
        directs(&running, &host("bee")).await,
        std::slice::from_ref(&message.room)
    );
    let found = running.read(&message.room).await;
    assert_eq!(found[0].id, message.id);
}

pub(super) async fn a_host_creates_a_limited_number_of_rooms<B: Backing>() {
    let running = Running::<B>::new().await;
    let full = Err(Refusal::TooMany {
        what: TooMany::RoomsOfHost,
        max: u32::try_from(MAX_ROOMS_PER_HOST).unwrap(),
    });
    let first = room("alice@ada,peer-0@bee");
    let messages: Vec<Outgoing> = (0..MAX_ROOMS_PER_HOST)
        .map(|n| says("alice@ada", &room(&format!("alice@ada,peer-{n}@bee")), "hi"))
        .collect();
    running.append(&messages).await;
    let (running, _) = running.reopen().await;
    let one_more = says("alice@ada", &room("#more"), "hi");
    let answers = running.append_all(std::slice::from_ref(&one_more)).await;
    assert_eq!(answers, std::slice::from_ref(&full));
    assert_eq!(running.change(join("#more", "carl@ada")).await, full);
    // What there is can be used, and other hosts are not concerned.
    running.say(&says("alice@ada", &first, "again")).await;
    running.say(&says("bob@bee", &room("#more"), "hi")).await;
    running.say(&one_more).await;
}
