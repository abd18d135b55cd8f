//! Frames from friends arrive as they were sent; frames from anybody else are a typed error, at
//! a bounded price.
//!
//! `PROPTEST_CASES` makes the search longer, for example 100,000 for a night of fuzzing.

mod corpus;
mod decode;
mod hostile;
mod limits;
mod properties;
mod text;
mod values;

use proptest::test_runner::{Config, FileFailurePersistence};

/// The default number of cases, or `PROPTEST_CASES`; failures are kept beside the tests.
fn config() -> Config {
    Config {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/frames/regressions.txt",
        ))),
        ..Config::default()
    }
}
