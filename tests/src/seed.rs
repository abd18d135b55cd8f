//! Randomness that can be repeated.

use std::{
    env::{self, VarError},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    ops::Range,
    time::Duration,
};

/// A small generator (SplitMix64): the same seed gives the same run on every version of
/// everything.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts from `CHAT_SEED`, or from a fresh seed, and prints which.
    ///
    /// # Panics
    ///
    /// If `CHAT_SEED` is no number: another run than the one asked for would be a lie.
    #[must_use]
    pub fn from_env(test: &str) -> Self {
        let given = match env::var("CHAT_SEED") {
            Err(VarError::NotPresent) => None,
            given => Some(given.expect("CHAT_SEED is text")),
        };
        let seed = choose(given.as_deref(), test);
        // Not eprintln!, which the test runner shows for failed tests only.
        writeln!(
            io::stderr(),
            "{test}: seed {seed} (CHAT_SEED={seed} repeats it)"
        )
        .expect("standard error takes a line");
        Self::new(seed)
    }

    /// Starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of `range`, which is not empty.
    pub const fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start)
    }

    /// True `percent` times out of a hundred.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of `choices`.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let len = u64::try_from(choices.len()).expect("few choices");
        let index = self.within(0..len);
        &choices[usize::try_from(index).expect("under len")]
    }

    /// A duration under `max_ms` milliseconds.
    pub const fn pause(&mut self, max_ms: u64) -> Duration {
        Duration::from_millis(self.within(0..max_ms))
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits().to_le_bytes()[0]).collect()
    }

    /// Another generator, independent of what this one goes on to give.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }
}

fn choose(given: Option<&str>, test: &str) -> u64 {
    given.map_or_else(
        || RandomState::new().hash_one(test),
        |text| {
            text.parse()
                .unwrap_or_else(|error| panic!("CHAT_SEED={text} is no seed: {error}"))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_seed_is_taken() {
        assert_eq!(choose(Some("18446744073709551615"), "test"), u64::MAX);
    }

    #[test]
    #[should_panic(expected = "CHAT_SEED=x7 is no seed")]
    fn a_seed_that_is_none_is_told() {
        choose(Some("x7"), "test");
    }

    #[test]
    fn a_seed_repeats() {
        let (mut one, mut two) = (Random::new(7), Random::new(7));
        let draw = |random: &mut Random| (random.within(0..50), random.chance(50), random.bits());
        assert_eq!(draw(&mut one), draw(&mut two));
        assert_eq!(one.fork().bytes(9), two.fork().bytes(9));
    }
}
