//! Promise 4: a slow reader costs nobody but itself.

use crate::conversation::two_hosts;
use std::{thread, time::Duration};
use tests::{MessageLine, Sandbox, heavy};

const MESSAGES: usize = 100_000;

/// The most memory that agent or server may ever have resident while 100,000 messages pass a
/// reader that takes none of them: 48 MiB.
///
/// The bounded queues (1 MiB a session, 4 MiB an agent, the outbox window) and the caches of
/// SQLite fit twice over (11 to 17 MiB were seen). The messages themselves would not: 100,000
/// bodies of 500 bytes are 48 MiB for each reader that they were queued for.
const MEMORY_BOUND_BYTES: u64 = 48 * 1024 * 1024;

const WITHIN: Duration = Duration::from_secs(300);

#[test]
fn a_stopped_reader_delays_nobody_and_then_gets_all_100_000_in_order() {
    let _turn = heavy();
    let sandbox = Sandbox::new();
    let (mut server, mut ada, mut bee) = two_hosts(&sandbox);
    let alice = ada.terminal("alice");
    let mut live = [
        ada.terminal("near").tail(&["#busy"], "0"),
        bee.terminal("far").tail(&["#busy"], "0"),
    ];
    let mut stopped = [
        ada.terminal("slow").tail(&["#busy"], "0"),
        bee.terminal("slower").tail(&["#busy"], "0"),
    ];
    alice.send_committed("#busy", &body(0));
    for tail in live.iter_mut().chain(&mut stopped) {
        tail.wait_count(1);
    }
    for tail in &mut stopped {
        tail.process().stop();
    }

    let mut pipe = alice.pipe("#busy");
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..MESSAGES {
                pipe.write(&body(number))
                    .expect("chat send reads its input");
            }
            pipe.finish(WITHIN).expect_code(0);
        });
        for tail in &mut live {
            tail.wait_count_within(WITHIN, MESSAGES);
        }
    });
    for tail in &mut live {
        assert_in_order(tail.messages());
    }
    for tail in &mut stopped {
        assert!(tail.messages().len() < MESSAGES, "it was stopped");
    }
    let peaks = [
        ("server", server.process().peak_memory()),
        ("agent of the sender", ada.agent().peak_memory()),
        ("agent of the readers", bee.agent().peak_memory()),
    ];
    for (who, peak) in peaks {
        eprintln!("{who}: at most {} MiB resident", peak / 1024 / 1024);
        assert!(peak < MEMORY_BOUND_BYTES, "{who} had {peak} bytes resident");
    }

    for tail in &mut stopped {
        tail.process().cont();
    }
    for tail in &mut stopped {
        tail.wait_count_within(WITHIN, MESSAGES);
        assert_in_order(tail.messages());
    }
    // Back on the live path.
    alice.send_committed("#busy", "and one more");
    for tail in live.iter_mut().chain(&mut stopped) {
        tail.wait_for("and one more");
    }
    for peak in [ada.agent().peak_memory(), bee.agent().peak_memory()] {
        assert!(
            peak < MEMORY_BOUND_BYTES,
            "{peak} bytes resident while catching up"
        );
    }
}

fn body(number: usize) -> String {
    format!("{number:06} {:.<493}", "")
}

fn assert_in_order(messages: &[MessageLine]) {
    assert_eq!(messages.len(), MESSAGES);
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.body, body(number));
    }
}
