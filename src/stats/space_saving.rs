//! Which names have the largest sums of weights in a stream, found with a bounded number of counters.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in
//! Data Streams", 2005), with weights: a name without a counter takes over the smallest one, with its sum. With `m`
//! counters and a total weight `w`, no sum is too small, none is too large by more than `w/m`, and every name whose
//! weights sum up to more than `w/m` has a counter.

use std::sync::Arc;

use crate::stdx::hash::Map;

/// The counters.
pub struct SpaceSaving {
    most: usize,
    counters: Vec<Counter>,
    /// Places of the names among the counters.
    places: Map<Arc<[u8]>, usize>,
}

struct Counter {
    name: Arc<[u8]>,
    sum: u64,
}

impl SpaceSaving {
    /// With `most` counters.
    ///
    /// # Panics
    /// If there are to be none.
    pub fn new(most: usize) -> Self {
        assert!(most > 0, "without counters nothing is found");
        SpaceSaving { most, counters: Vec::new(), places: Map::default() }
    }

    /// Adds a weight to the sum of a name. O(1) for a name with a counter, otherwise O(counters).
    pub fn add(&mut self, name: &[u8], weight: u64) {
        if let Some(&place) = self.places.get(name) {
            self.counters[place].sum = self.counters[place].sum.saturating_add(weight);
            return;
        }
        let name: Arc<[u8]> = name.into();
        if self.counters.len() < self.most {
            self.places.insert(Arc::clone(&name), self.counters.len());
            self.counters.push(Counter { name, sum: weight });
            return;
        }
        let smallest = self.counters.iter_mut().enumerate().min_by_key(|(_, counter)| counter.sum);
        let (place, counter) = smallest.expect("there are counters");
        self.places.remove(&counter.name);
        self.places.insert(Arc::clone(&name), place);
        *counter = Counter { name, sum: counter.sum.saturating_add(weight) };
    }

    /// The `count` names with the largest sums, largest first. O(counters × log counters).
    pub fn top(&self, count: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> =
            self.counters.iter().map(|counter| (&*counter.name, counter.sum)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn sums_are_right_while_there_are_counters() {
        let mut sketch = SpaceSaving::new(3);
        for (name, weight) in [("a", 5), ("b", 1), ("c", 2), ("b", 7), ("a", 1)] {
            sketch.add(name.as_bytes(), weight);
        }
        assert_eq!(sketch.top(9), [(&b"b"[..], 8), (b"a", 6), (b"c", 2)]);
        assert_eq!(sketch.top(1), [(&b"b"[..], 8)]);
        sketch.add(b"d", 1);
        assert_eq!(sketch.top(9), [(&b"b"[..], 8), (b"a", 6), (b"d", 3)]);
    }

    #[test]
    fn errors_are_bounded_and_what_is_large_is_found() {
        let mut rng = Rng::new(8);
        for most in [1, 8, 80] {
            let mut sketch = SpaceSaving::new(most);
            let (mut sums, mut total) = (std::collections::BTreeMap::new(), 0);
            for _ in 0..20_000 {
                // Small numbers are frequent.
                let n = rng.below(1000).min(rng.below(1000)).min(rng.below(1000)).min(rng.below(1000));
                let weight = rng.below(20);
                *sums.entry(n.to_string().into_bytes()).or_insert(0) += weight;
                total += weight;
                sketch.add(n.to_string().as_bytes(), weight);
            }
            let top = sketch.top(most);
            assert!(top.is_sorted_by(|a, b| a.1 >= b.1));
            for &(name, sum) in &top {
                let right = sums.get(name).copied().unwrap_or(0);
                assert!((right..=right + total / most as u64).contains(&sum), "{right} {sum}");
            }
            for (name, sum) in &sums {
                assert!(*sum <= total / most as u64 || top.iter().any(|(known, _)| known == name));
            }
        }
    }
}
