//! Keeps one copy of equal values while anybody holds it.

use std::sync::{Arc, Weak};

use rustc_hash::FxHashMap as HashMap;

/// How many values are remembered before dropped ones are first removed.
pub(super) const LEAST: usize = 64;

/// Finds values by a hash the caller computes. Of two with the same hash, only the later is found.
pub(super) struct Interned<T: ?Sized> {
    values: HashMap<u64, Weak<T>>,
    /// How many may be remembered before dropped ones are removed.
    room: usize,
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Self { values: HashMap::default(), room: LEAST }
    }
}

impl<T: ?Sized> Interned<T> {
    /// The remembered value that is the same, if any.
    pub(super) fn find(&self, hash: u64, same: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        self.values.get(&hash).and_then(Weak::upgrade).filter(|known| same(known))
    }

    /// Remembers a value for [`Interned::find`].
    pub(super) fn remember(&mut self, hash: u64, value: &Arc<T>) {
        if self.values.len() >= self.room {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.room = LEAST.max(self.values.len() * 2);
        }
        self.values.insert(hash, Arc::downgrade(value));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_found_and_what_is_gone_takes_no_room() {
        let mut interned = Interned::<u64>::default();
        let mut held = Vec::new();
        for hash in 0..100_000 {
            let value = Arc::new(hash);
            interned.remember(hash, &value);
            if hash % 100 == 0 {
                held.push(value);
            }
        }
        let found = |value: &Arc<u64>| interned.find(**value, |known| known == &**value).is_some();
        assert!(held.iter().all(found));
        assert!(interned.len() <= 2 * held.len() + 1, "{}", interned.len());
    }
}
