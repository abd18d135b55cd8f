//! As much of agents, users or rooms as is needed to know their pace, in bounded memory.

use governor::{
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Agents, users or rooms whose pace is remembered. When there are more, those that come new share
/// one pace until some are idle and forgotten: names can be made up without end.
pub(super) const MAX_KEYS: usize = 16_384;

/// What the limiter remembers of each: when they are as good as new, by its clock.
pub(super) struct Table<K> {
    paces: Mutex<Paces<K>>,
}

struct Paces<K> {
    of: HashMap<K, Nanos>,
    others: Option<Nanos>,
}

impl<K> Table<K> {
    pub(super) fn new() -> Self {
        Self {
            paces: Mutex::new(Paces {
                of: HashMap::new(),
                others: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Paces<K>> {
        // Times, whole between any two statements.
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> StateStore for Table<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut paces = self.lock();
        if let Some(pace) = paces.of.get_mut(key) {
            let (measured, next) = measure(Some(*pace))?;
            *pace = next;
            return Ok(measured);
        }
        if paces.of.len() >= MAX_KEYS {
            let (measured, next) = measure(paces.others)?;
            paces.others = Some(next);
            return Ok(measured);
        }
        let (measured, next) = measure(None)?;
        paces.of.insert(key.clone(), next);
        Ok(measured)
    }
}

impl<K: Hash + Eq + Clone> ShrinkableKeyedStateStore<K> for Table<K> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.lock().of.retain(|_, pace| *pace > drop_below);
    }

    fn len(&self) -> usize {
        self.lock().of.len()
    }

    fn is_empty(&self) -> bool {
        self.lock().of.is_empty()
    }
}
