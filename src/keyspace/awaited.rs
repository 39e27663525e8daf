//! A filter of the keys that clients wait for: a command that changes a key learns from one counter that no client waits
//! for it.
//!
//! The low bits of a key's hash select its counter. A counter of 0 is certain; any other may count waits for another key.
//! There are at least [`SPARSE`] counters per wait, so that few keys share a counter with a key that is waited for.

use crate::stdx::hash::Key;

/// Number of counters with the first wait.
const LEAST: usize = 64;

/// Least number of counters per wait.
const SPARSE: usize = 16;

/// A filter with more counters is freed when it becomes empty, instead of cleared.
const KEPT: usize = 1 << 12;

/// Counters of the waits for keys whose hashes share their low bits.
#[derive(Default)]
pub struct Awaited {
    /// Their number is 0 or a power of two. A counter that has reached its maximum stays there until no wait is left.
    counts: Box<[u8]>,
    /// Number of waits.
    total: usize,
}

impl Awaited {
    /// A filter for `n` waits and as many more.
    pub fn for_waits(n: usize) -> Awaited {
        let counts = n.saturating_mul(2 * SPARSE).next_power_of_two().max(LEAST);
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
        self.counts[at] = self.counts[at].saturating_add(1);
        self.total += 1;
    }

    /// Counts the end of a wait for a key. O(1); O(counters) at the end of the last wait.
    pub fn remove(&mut self, key: Key<'_>) {
        let at = self.index(key);
        if self.counts[at] < u8::MAX {
            self.counts[at] -= 1;
        }
        self.total -= 1;
        if self.total == 0 {
            if self.counts.len() > KEPT {
                *self = Awaited::default();
            } else {
                self.counts.fill(0);
            }
        }
    }

    /// Whether `n` waits can be added. If not, a filter with more counters must take the place of this one.
    pub fn has_room_for(&self, n: usize) -> bool {
        (self.total + n).saturating_mul(SPARSE) <= self.counts.len()
    }

    /// Number of waits.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Whether a client may wait for a key. If not, none does.
    #[inline]
    pub fn may_have(&self, key: Key<'_>) -> bool {
        self.counts.get(key.hash() as usize & self.counts.len().wrapping_sub(1)).is_some_and(|&n| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_waited_for_is_never_missed_and_few_others_are_suspected() {
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
        assert!(suspected < others.len() / 8, "{suspected}");
        // A slot noted in the hash makes no difference.
        assert!(waited.iter().all(|name| filter.may_have(Key::new(name.as_bytes()).with_note(0x3fff))));
        waited.iter().for_each(|name| filter.remove(Key::new(name.as_bytes())));
        assert!(names.iter().all(|name| !filter.may_have(Key::new(name.as_bytes()))));
        assert_eq!(filter.total(), 0);
    }

    #[test]
    fn more_waits_than_a_counter_counts() {
        let (many, one) = (Key::new(b"many"), Key::new(b"one"));
        let mut filter = Awaited::for_waits(1_001);
        (0..1_000).for_each(|_| filter.add(many));
        filter.add(one);
        (0..999).for_each(|_| filter.remove(many));
        assert!(filter.may_have(many), "a client still waits");
        filter.remove(many);
        filter.remove(one);
        assert!(!filter.may_have(many) && !filter.may_have(one));
    }
}
