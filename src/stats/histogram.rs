//! A histogram of durations with bounded relative error.
//!
//! Nanoseconds are counted in buckets of 16 per doubling (the layout of Gil Tene's HdrHistogram with four bits of
//! precision), so that percentiles are accurate to 6 %. An observation costs one index computation and one increment.
//! The buckets take a few kilobytes, allocated when first used.

/// Buckets per doubling.
const SUB: u64 = 16;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Values of 2^40 ns (18 minutes) and more share the last bucket.
const MAX_BITS: u32 = 40;
const BUCKETS: usize = ((MAX_BITS - SUB_BITS + 1) as u64 * SUB) as usize;

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    if ns < SUB {
        return ns as usize;
    }
    let bits = 63 - ns.leading_zeros();
    if bits >= MAX_BITS {
        return BUCKETS - 1;
    }
    let shift = bits - SUB_BITS;
    ((shift + 1) as u64 * SUB + ((ns >> shift) - SUB)) as usize
}

/// The largest value that falls into a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((SUB + bucket % SUB + 1) << shift) - 1
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn add(&mut self, ns: u64) {
        let count = &mut self.counts[bucket(ns)];
        *count = count.saturating_add(1);
        self.total += 1;
    }

    /// Number of durations counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration in nanoseconds that `percent` % of the observations do not exceed.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (i, &count) in self.counts.iter().enumerate() {
            seen += count as u64;
            if seen >= wanted {
                return upper(i);
            }
        }
        0
    }

    /// For each of `bits`, which ascend: the number of durations up to 2^`bits` ns. O(buckets).
    pub fn up_to(&self, bits: impl Iterator<Item = u32>) -> impl Iterator<Item = u64> {
        let (mut seen, mut next) = (0u64, 0usize);
        bits.map(move |bits| {
            let limit = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
            while next < BUCKETS && upper(next) <= limit {
                seen += u64::from(self.counts[next]);
                next += 1;
            }
            seen
        })
    }

    /// Cumulative counts for `LATENCY HISTOGRAM`: pairs of a limit in microseconds and the number of durations up to
    /// it. Limits whose count equals that of the limit before are left out.
    ///
    /// Limits double, beginning with 1024 ns. Each is reported as the largest value that a histogram with three
    /// digits of precision cannot distinguish from it, which is what clients of Redis expect.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        const FIRST_BITS: u32 = 10;
        let (mut seen, mut reported, mut next) = (0u64, 0u64, 0usize);
        (FIRST_BITS..=MAX_BITS).filter_map(move |bits| {
            let limit = if bits == MAX_BITS { u64::MAX } else { 1 << bits };
            while next < BUCKETS && upper(next) <= limit {
                seen += u64::from(self.counts[next]);
                next += 1;
            }
            let grown = seen > reported;
            reported = seen;
            let limit_us = ((129u64 << (bits - 7)) - 1) / 1000;
            grown.then_some((limit_us, seen))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_precise() {
        let mut last = 0;
        for ns in 0..1_000_000u64 {
            let b = bucket(ns);
            assert!(b == last || b == last + 1, "{ns} ns");
            last = b;
            assert!(upper(b) >= ns && upper(b) - ns <= ns / SUB + 1, "{ns} ns");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_of_a_known_sequence() {
        let mut histogram = Histogram::default();
        for ns in 1..=1000 {
            histogram.add(ns);
        }
        for percent in [1.0, 25.0, 50.0, 99.0, 100.0] {
            let exact = percent * 10.0;
            let got = histogram.percentile(percent) as f64;
            assert!(got >= exact && got <= exact * 1.07 + 1.0, "p{percent}: {got}");
        }
        assert_eq!(histogram.total(), 1000);
    }

    #[test]
    fn cumulative_counts() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.cumulative().count(), 0);
        for us in [1, 15, 15, 20, 1500, 1600, 2_000_000, 2_000_000_000] {
            histogram.add(us * 1000);
        }
        let got: Vec<_> = histogram.cumulative().collect();
        assert_eq!(got, [(1, 1), (16, 3), (33, 4), (2113, 6), (2_164_260, 7), (1_108_101_562, 8)]);
    }
}
