//! A server that gives its agents to others.

use crate::harness::{Agent, Server, appended, message};
use chat_server::Pace;
use protocol::{
    AgentId,
    federation::{Event, Refusal, Reply, Request},
};
use std::time::Duration;

fn pace(group: u32) -> Pace {
    Pace {
        group,
        every: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn an_agent_is_sent_away_after_what_it_asked_was_answered() {
    let server = Server::start();
    let mut ada = server.agent("ada").await;
    let mut ids = Vec::new();
    for number in 0..100 {
        let message = message("alice@ada", "#ops", &number.to_string());
        let attempt = 0;
        ids.push(ada.send(Request::Append { attempt, message }).await);
    }
    // The last was read when the first was answered or later; none is lost either way.
    let last = *ids.last().unwrap();
    appended(ada.reply(last).await).unwrap();
    server.service.drain().begin(pace(1));
    for id in ids.into_iter().take(99) {
        appended(ada.reply(id).await).unwrap();
    }
    while !matches!(ada.event().await, Event::GoingAway { .. }) {}
    // Nothing follows.
    assert!(ada.receive().await.is_none());
    assert_eq!(server.service.drain().sent(), 1);
    server.service.stop().await;
}

#[tokio::test]
async fn no_agent_is_taken_until_the_drain_is_over() {
    let server = Server::start();
    let id = AgentId::new();
    server.service.drain().begin(pace(1));
    assert!(
        server
            .service
            .in_a_line()
            .starts_with("draining, agents: 0")
    );
    let mut ada = Agent::greet(server.stream(), "ada").await;
    assert_eq!(ada.hello(id).await, Err(Refusal::Draining));
    assert_eq!(ada.closing().await, Refusal::Draining);

    server.service.drain().end();
    assert!(server.service.in_a_line().starts_with("agents: 0"));
    let mut ada = server.agent_with_id("ada", id).await;
    assert_eq!(ada.ask(Request::Ping).await, Ok(Reply::Pong));
    server.service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn agents_leave_in_groups_and_who_stays_when_it_is_taken_back_stays() {
    let server = Server::start();
    let mut agents = Vec::new();
    for name in ["ada", "bee", "cat", "dan", "eve"] {
        agents.push(server.agent(name).await);
    }
    server.service.drain().begin(pace(2));
    for ada in &mut agents[..2] {
        while !matches!(ada.event().await, Event::GoingAway { .. }) {}
    }
    assert_eq!(server.service.drain().sent(), 2);
    server.service.drain().end();
    for cat in &mut agents[2..] {
        assert_eq!(cat.ask(Request::Ping).await, Ok(Reply::Pong));
    }
    // Another drain counts its own.
    server.service.drain().begin(pace(3));
    for cat in &mut agents[2..] {
        while !matches!(cat.event().await, Event::GoingAway { .. }) {}
    }
    assert_eq!(server.service.drain().sent(), 3);
}
