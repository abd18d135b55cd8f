//! Ending, in order and otherwise.

use super::{
    Backing,
    running::{Running, answered, assert_chain, federated, messages_of, place, room, says, user},
};
use chat_server::{
    Lane, Ticket,
    log::{Change, Rejected, Submission},
};
use protocol::{
    Outgoing,
    federation::{Refusal, Reply},
};
use std::sync::Arc;
use tokio::sync::oneshot;

fn hundred(name: &str) -> Vec<Outgoing> {
    let room = room("#ops");
    let text = |n: i32| format!("{name} {n}");
    (0..100)
        .map(|n| says("alice@ada", &room, &text(n)))
        .collect()
}

pub(super) async fn everything_survives_an_orderly_end<B: Backing>() {
    let mut running = Running::<B>::new().await;
    let (ops, alice) = (room("#ops"), user("alice@ada"));
    let epoch = running.log.epoch();
    let mut expected = Vec::new();
    for round in 0..3 {
        running.append(&hundred(&round.to_string())).await;
        let join = Change::Join {
            room: federated("#ops"),
            user: alice.clone(),
        };
        assert!(running.change(join).await.is_ok());
        let found = running.read(&ops).await;
        assert_eq!(found[..expected.len()], expected[..]);
        assert_chain(&found);
        let commits;
        (running, commits) = running.reopen().await;
        // What came out before does not come out again.
        assert_eq!(messages_of(&commits), found[expected.len()..]);
        expected = found;
        assert_eq!(running.log.epoch(), epoch);
        assert_eq!(running.read(&ops).await, expected);
        assert_eq!(
            running.log.rooms_of(&alice).await.unwrap(),
            std::slice::from_ref(&ops)
        );
    }
    assert_eq!(expected.len(), 300);
}

pub(super) async fn what_was_answered_survives_a_kill<B: Backing>() {
    let mut running = Running::<B>::new().await;
    let ops = room("#ops");
    let epoch = running.log.epoch();
    let mut expected = Vec::new();
    for round in 0..3 {
        let seqs = running.append(&hundred(&round.to_string())).await;
        running = running.kill().await;
        assert_eq!(running.log.epoch(), epoch);
        let found = running.read(&ops).await;
        assert_eq!(found[..expected.len()], expected[..]);
        assert!(found[expected.len()..].iter().map(|m| m.seq).eq(seqs));
        assert_chain(&found);
        expected = found;
    }
    let (_, commits) = running.close().await;
    assert_eq!(commits, [], "what was written before comes out once");
}

/// Killed in the middle, then everything is sent again, as an agent does.
pub(super) async fn what_was_not_answered_is_there_once_or_not_at_all<B: Backing>() {
    let mut running = Running::<B>::new().await;
    let ops = room("#ops");
    let mut said = Vec::new();
    for round in 0..5 {
        let messages = hundred(&round.to_string());
        let lane = Arc::new(Lane::new());
        let mut answers = Vec::new();
        for message in &messages {
            let (sender, answer) = oneshot::channel();
            let submission = Submission {
                change: Change::Append {
                    message: message.clone(),
                    attempt: 0,
                    lane: Arc::clone(&lane),
                },
                ticket: Ticket::Waiting(sender),
            };
            running.log.submit(submission).unwrap();
            answers.push(answer);
        }
        // Some of them are answered by now, and some are not.
        let first = place(&answered(answers.swap_remove(0)).await);
        running = running.kill().await;
        let found = running.read(&ops).await;
        assert_chain(&found);
        let kept = &found[said.len()..];
        assert_eq!(kept.first().map(|one| one.seq), Some(first));
        // A beginning of what was said, in order.
        assert!(kept.iter().zip(&messages).all(|(one, m)| one.id == m.id));
        let places: Vec<_> = kept.iter().map(|one| one.seq).collect();
        let again = running.append(&messages).await;
        assert_eq!(again[..places.len()], places[..]);
        said.extend(messages);
        let found = running.read(&ops).await;
        assert!(found.iter().map(|one| one.id).eq(said.iter().map(|m| m.id)));
        assert_chain(&found);
    }
}

pub(super) async fn closing_answers_what_was_queued_and_refuses_the_rest<B: Backing>() {
    let running = Running::<B>::new().await;
    let lane = Arc::new(Lane::new());
    let submission = |message| {
        let (sender, answer) = oneshot::channel();
        let submission = Submission {
            change: Change::Append {
                message,
                attempt: 0,
                lane: Arc::clone(&lane),
            },
            ticket: Ticket::Waiting(sender),
        };
        (submission, answer)
    };
    let mut answers = Vec::new();
    for message in hundred("queued") {
        let (submission, answer) = submission(message);
        running.log.submit(submission).unwrap();
        answers.push(answer);
    }
    running.log.close().await;
    let late = says("alice@ada", &room("#ops"), "too late");
    let (submission, _) = submission(late.clone());
    let Err(Rejected::Closed(submission)) = running.log.submit(submission) else {
        panic!("a closed log takes nothing");
    };
    assert!(matches!(submission.change, Change::Append { message, .. } if message == late));
    // All are answered by now.
    let seqs: Vec<_> = answers
        .iter_mut()
        .map(|answer| place(&answer.try_recv().unwrap()))
        .collect();
    let (running, commits) = running.reopen().await;
    assert!(messages_of(&commits).iter().map(|m| m.seq).eq(seqs.clone()));
    let found = running.read(&room("#ops")).await;
    assert!(found.iter().map(|m| m.seq).eq(seqs));
}

pub(super) async fn what_was_refused_holds_up_its_lane_until_the_next_attempt<B: Backing>() {
    let running = Running::<B>::new().await;
    let ops = room("#ops");
    let lane = Arc::new(Lane::new());
    let append = |text: &str, attempt| Change::Append {
        message: says("alice@ada", &ops, text),
        attempt,
        lane: Arc::clone(&lane),
    };
    assert!(running.change(append("first", 0)).await.is_ok());
    lane.roll_back(&user("alice@ada").nick, 0);
    let refused = running.change(append("must wait", 0)).await;
    assert!(
        matches!(refused, Err(Refusal::NotYet { .. })),
        "{refused:?}"
    );
    // Other lanes go on, and other authors in this one.
    running.say(&says("bob@ada", &ops, "second")).await;
    let other = Change::Append {
        message: says("carol@ada", &ops, "third"),
        attempt: 0,
        lane: Arc::clone(&lane),
    };
    let other = running.change(other).await;
    assert!(matches!(other, Ok(Reply::Appended { .. })), "{other:?}");
    let again = running.change(append("fourth", 1)).await;
    assert!(matches!(again, Ok(Reply::Appended { .. })), "{again:?}");
    let found = running.read(&ops).await;
    let texts: Vec<_> = found.iter().map(|m| m.body.decode().unwrap()).collect();
    let expected =
        ["first", "second", "third", "fourth"].map(|t| protocol::Content::Text(t.to_owned()));
    assert_eq!(texts, expected);
}
