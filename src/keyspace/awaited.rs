//! A filter of the keys that clients wait for: usually, one counter shows that no client waits for a changed key.
//!
//! The counters are indexed by the low bits of the keys' hashes. If a counter is 0, no client waits; otherwise the wait
//! may be for another key. There are at least as many counters as waits, so most keys have a counter of their own.

use crate::stdx::hash::Key;

/// Smallest number of counters of a filter made for waits.
const LEAST: usize = 64;

/// Numbers of waits for keys, by the low bits of the keys' hashes.
#[derive(Default)]
pub struct Awaited {
    /// The number of counters is 0 or a power of two.
    counts: Box<[u32]>,
    /// Sum of the counters.
    total: usize,
}

impl Awaited {
    /// A filter with space for more than `n` waits.
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
    /// If there are no counters: see [`Awaited::has_room_for`].
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

    /// Whether `n` more waits can be added. If not, a filter with more counters must replace this one.
    pub fn has_room_for(&self, n: usize) -> bool {
        self.total + n <= self.counts.len()
    }

    /// Number of waits.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether a client may wait for a key. If false, none does.
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
