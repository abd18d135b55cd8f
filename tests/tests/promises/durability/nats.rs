//! The same for a log on NATS: with the configuration that is shipped, its server synchronises a
//! message before it acknowledges it, and the agent is answered with what stands in that
//! acknowledgement.

use super::{
    append, markers, ops, post,
    trace::{Trace, traced},
};
use protocol::federation::{Reply, Request, ServerFrame};
use tests::{AgentPeer, NatsServer, Sandbox, Server, heavy, server::free_loopback};

/// Few: a program of Go is slow while it is traced.
const MESSAGES: usize = 5;

#[test]
fn nats_as_shipped_synchronises_before_it_acknowledges_and_the_server_after_that() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let trace = sandbox.path().join("nats.strace");
    let nats = NatsServer::start_in(&sandbox, traced(&sandbox.place(), &trace), "");
    let url = nats.url();
    let mut server = Server::new(&sandbox, free_loopback())
        .with_args(&["--log", &url, "--nats-synced"])
        .plaintext();
    server.restart();
    let mut peer = AgentPeer::open(server.address(), "ada").expect("welcome");
    let nick = "alice".parse().expect("a nick");
    let join = Request::Join { room: ops(), nick };
    peer.ask(join).expect("joined");
    let mut seqs = Vec::new();
    // One by one, each of them a publish of its own.
    let alone = markers("alone", MESSAGES);
    for text in &alone {
        match peer.ask(append(&ops(), text.clone())).expect("appended") {
            Reply::Appended { seq } => seqs.push(seq.number()),
            other => panic!("{other:?}"),
        }
    }
    // Without waiting: what queues up becomes a batch, which is synchronised once.
    let together = markers("together", MESSAGES);
    for text in &together {
        post(&mut peer, &append(&ops(), text.clone()));
    }
    while seqs.len() < 2 * MESSAGES {
        let frame = peer.wire().receive().expect("a frame").expect("no end");
        if let ServerFrame::Reply { result, .. } = frame {
            match result.expect("appended") {
                Reply::Appended { seq } => seqs.push(seq.number()),
                other => panic!("{other:?}"),
            }
        }
    }
    let stored: Vec<(String, u64)> = alone.into_iter().chain(together).zip(seqs).collect();
    Trace::of_nats(trace, &stored).assert_synchronised_before_acknowledged(&stored);
}
