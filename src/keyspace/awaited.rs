//! A filter of the keys that clients wait for: whoever changes a key learns from one counter that nobody waits for it.
//!
//! The counters are indexed by the low bits of the keys' hashes. A counter of 0 is certain; another may be that of
//! another key. There are at least as many counters as keys, so that most keys have a counter of their own.

use crate::stdx::hash::Key;

/// Number of counters with the first key.
const LEAST: usize = 64;

/// How many waits there are for the keys whose hashes share their low bits.
#[derive(Default)]
pub struct Awaited {
    /// Their number is 0 or a power of two.
    counts: Box<[u32]>,
    /// Sum of the counters.
    total: usize,
}

impl Awaited {
    /// A filter for `n` waits and some more.
    pub fn for_waits(n: usize) -> Awaited {
        let counts = n.saturating_mul(8).next_power_of_two().max(LEAST);
        Awaited { counts: vec![0; counts].into(), total: 0 }
    }

    fn index(&self, key: Key<'_>) -> usize {
        key.hash() as usize & (self.counts.len() - 1)
    }

    /// Counts a wait for a key.
    ///
    /// # Panics
    /// If there is no counter: see [`Awaited::has_room_for`].
    pub fn add(&mut self, key: Key<'_>) {
        let at = self.index(key);
        self.counts[at] += 1;
        self.total += 1;
    }

    /// Counts the end of a wait for a key.
    pub fn remove(&mut self, key: Key<'_>) {
        let at = self.index(key);
        self.counts[at] -= 1;
        self.total -= 1;
    }

    /// Whether `n` waits can be added. If not, a filter with more counters must take the place of this one.
    pub fn has_room_for(&self, n: usize) -> bool {
        self.total + n <= self.counts.len()
    }

    /// Number of waits.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether somebody may wait for a key. If not, nobody does.
    #[inline]
    pub fn may_have(&self, key: Key<'_>) -> bool {
        self.counts.get(key.hash() as usize & self.counts.len().wrapping_sub(1)).is_some_and(|&n| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_is_never_missed_and_few_others_are_suspected() {
        let names: Vec<String> = (0..10_000).map(|n| format!("key:{n}")).collect();
        let (waited, others) = names.split_at(1_000);
        let mut filter = Awaited::default();
        assert!(!filter.has_room_for(1) && !filter.may_have(Key::new(b"key:0")));
        for (n, name) in waited.iter().enumerate() {
            if !filter.has_room_for(1) {
                filter = Awaited::for_waits(n + 1);
                waited[..n].iter().for_each(|name| filter.add(Key::new(name.as_bytes())));
            }
            filter.add(Key::new(name.as_bytes()));
        }
        assert!(waited.iter().all(|name| filter.may_have(Key::new(name.as_bytes()))));
        let suspected = others.iter().filter(|name| filter.may_have(Key::new(name.as_bytes()))).count();
        assert!(suspected < others.len() / 2, "{suspected}");
        // A slot noted in the hash makes no difference.
        assert!(waited.iter().all(|name| filter.may_have(Key::new(name.as_bytes()).with_note(0x3fff))));
        waited.iter().for_each(|name| filter.remove(Key::new(name.as_bytes())));
        assert!(names.iter().all(|name| !filter.may_have(Key::new(name.as_bytes()))));
        assert_eq!(filter.total(), 0);
    }
}
