//! What comes out of a log: everything that was written, once, in order.

use super::{
    Backing,
    running::{Running, answered, assert_chain, federated, messages_of, place, room, says, user},
};
use chat_server::{
    Lane, Ticket,
    log::{Change, Commit, Rejected, Submission},
};
use protocol::{Outgoing, Room, federation::Reply};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) async fn what_is_written_comes_out_once_and_in_order<B: Backing>() {
    let mut running = Running::<B>::new().await;
    let rooms = ["#ops", "#dev"].map(room);
    let messages: Vec<Outgoing> = (0..50)
        .map(|n| says("alice@ada", &rooms[n % 2], &n.to_string()))
        .collect();
    running.append(&messages).await;
    running.commits(50).await;
    let more: Vec<Outgoing> = (0..50)
        .map(|n| says("bob@bee", &rooms[n % 2], &n.to_string()))
        .collect();
    running.append(&more).await;
    let logs = [running.read(&rooms[0]).await, running.read(&rooms[1]).await];
    let (_, commits) = running.close().await;
    assert_eq!(commits.len(), 100);
    for (room, log) in rooms.iter().zip(logs) {
        let mut came = messages_of(&commits);
        came.retain(|one| one.room == *room);
        assert_eq!(came, log);
        assert_chain(&came);
    }
}

pub(super) async fn what_changes_nothing_comes_out_of_nowhere<B: Backing>() {
    let running = Running::<B>::new().await;
    let (ops, alice) = (federated("#ops"), user("alice@ada"));
    let join = || Change::Join {
        room: ops.clone(),
        user: alice.clone(),
    };
    let leave = || Change::Leave {
        room: ops.clone(),
        user: alice.clone(),
    };
    let message = says("alice@ada", &room("#ops"), "hello");
    assert_eq!(running.change(leave()).await, Ok(Reply::Done));
    for _ in 0..2 {
        assert!(running.change(join()).await.is_ok());
        running.say(&message).await;
    }
    for _ in 0..2 {
        assert_eq!(running.change(leave()).await, Ok(Reply::Done));
    }
    let (_, commits) = running.close().await;
    let (room, user) = (ops.clone(), alice.clone());
    assert!(
        matches!(
            &commits[..],
            [Commit::Joined { .. }, Commit::Message(came), Commit::Left { .. }, Commit::Closed { .. }]
                if came.id == message.id
        ),
        "{commits:?}"
    );
    assert_eq!(commits[0], Commit::Joined { room, user });
    let (room, user) = (ops, alice);
    // Alice was all that the host had there.
    let (closed, hosts) = (Room::Federated(room.clone()), vec![user.host.clone()]);
    assert_eq!(commits[2], Commit::Left { room, user });
    let room = closed;
    assert_eq!(commits[3], Commit::Closed { room, hosts });
}

/// Nobody takes what comes out, so the log must stop taking more; and goes on afterwards.
pub(super) async fn a_full_log_refuses_and_loses_nothing<B: Backing>() {
    let mut backing = B::new();
    let (log, commits) = backing.open().await;
    let ops = room("#ops");
    log.follow(&ops).await.unwrap();
    let lane = Arc::new(Lane::new());
    let mut waiting = Vec::new();
    let refused = loop {
        let message = says("alice@ada", &ops, &waiting.len().to_string());
        let (sender, answer) = oneshot::channel();
        let submission = Submission {
            change: Change::Append {
                message: message.clone(),
                attempt: 0,
                lane: Arc::clone(&lane),
            },
            ticket: Ticket::Waiting(sender),
        };
        match log.submit(submission) {
            Ok(()) => waiting.push((message, answer)),
            Err(Rejected::Full(submission)) => {
                let Change::Append { message: given, .. } = submission.change else {
                    panic!("something else was given back");
                };
                assert_eq!(given, message);
                break message;
            }
            Err(Rejected::Closed(_)) => panic!("the log has ended"),
        }
        assert!(waiting.len() < 1_000_000, "the queue has no end");
    };
    let running = Running::collect(backing, log, commits);
    let mut seqs = Vec::new();
    let mut messages = Vec::new();
    for (message, answer) in waiting {
        seqs.push(place(&answered(answer).await));
        messages.push(message);
    }
    seqs.push(running.say(&refused).await);
    messages.push(refused);
    let log = running.read(&ops).await;
    assert!(log.iter().map(|one| one.seq).eq(seqs));
    assert!(
        log.iter()
            .map(|one| one.id)
            .eq(messages.iter().map(|one| one.id))
    );
    let (_, commits) = running.close().await;
    assert_eq!(messages_of(&commits), log);
}

pub(super) async fn many_writers_get_one_order<B: Backing>() {
    let running = Arc::new(Running::<B>::new().await);
    let ops = room("#ops");
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (running, ops) = (Arc::clone(&running), ops.clone());
            tokio::spawn(async move {
                let author = format!("writer-{writer}@ada");
                let messages: Vec<Outgoing> = (0..100)
                    .map(|n| says(&author, &ops, &n.to_string()))
                    .collect();
                for part in messages.chunks(10) {
                    running.append(part).await;
                }
                messages
            })
        })
        .collect();
    let mut said = Vec::new();
    for writer in writers {
        said.push(writer.await.unwrap());
    }
    let log = running.read(&ops).await;
    assert_eq!(log.len(), 800);
    assert_chain(&log);
    for messages in said {
        let mut own = log.iter().filter(|one| one.author == messages[0].author);
        assert!(messages.iter().all(|m| own.next().unwrap().id == m.id));
    }
    let running = Arc::into_inner(running).expect("all writers have ended");
    let (_, commits) = running.close().await;
    assert_eq!(messages_of(&commits), log);
}
