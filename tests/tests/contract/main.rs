//! The seams: what is promised of the log and of the outbox, whoever keeps them.
//!
//! Each suite is written against the seam and a small adapter that makes, reopens and kills an
//! implementation. Another implementation is an adapter and one line more.

mod disk;
mod log;
mod migrations;
mod outbox;

use proptest::test_runner::{Config, FileFailurePersistence};

/// So many cases, or `PROPTEST_CASES`; failures are kept beside the tests.
fn cases(cases: u32) -> Config {
    let default = Config::default();
    Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            default.cases
        } else {
            cases
        },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/contract/regressions.txt",
        ))),
        ..default
    }
}
