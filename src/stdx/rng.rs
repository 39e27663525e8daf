//! A small fast generator of pseudo-random numbers, and random choices made with it.
//!
//! xoshiro256** by David Blackman and Sebastiano Vigna: 32 bytes of state, period 2^256 - 1, about a nanosecond per
//! number. Its sequence is determined by a seed, so that a failing test prints its seed and can be repeated. It must
//! not be used for secrets: some outputs reveal all others.

use std::convert::Infallible;

/// A seeded generator. Implements `rand`'s traits, so `rand`'s distributions work with it.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator for a seed. Seeds that differ in one bit result in unrelated sequences.
    pub fn new(seed: u64) -> Self {
        // SplitMix64 fills the state, as the generator's authors advise. It is a bijection of a
        // counter, so at most one of the four words is zero; all zeros would be a fixed point.
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = counter;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        });
        Rng { state }
    }

    /// A generator seeded by the operating system, which nobody outside can predict.
    pub fn from_os() -> Self {
        let state: [u64; 4] = rand::random();
        if state == [0; 4] { Rng::new(0) } else { Rng { state } }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// The next 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A number in `0..n`, each equally likely. Panics if `n` is zero.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "there is no number below zero");
        // Lemire, "Fast Random Integer Generation in an Interval": the high half of a product
        // is the number, and the few low halves that would favour some numbers are drawn again.
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let unfair = n.wrapping_neg() % n;
            while (product as u64) < unfair {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// An index into something of length `len`, each equally likely. Panics if `len` is zero.
    #[inline]
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A double in `0.0..1.0`, a multiple of 2^-53.
    #[inline]
    pub fn f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True once in `n` times. Panics if `n` is zero.
    #[inline]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True with the given probability; never for 0.0 or less, always for 1.0 or more.
    #[inline]
    pub fn chance(&mut self, probability: f64) -> bool {
        self.f64() < probability
    }

    /// One of the items, each equally likely; `None` if there are none.
    #[inline]
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { Some(&items[self.index(items.len())]) }
    }

    /// `k` different indices below `n` in ascending order, each such choice equally likely. O(n) in all.
    ///
    /// Panics if `k` is larger than `n`.
    pub fn select(&mut self, k: usize, n: usize) -> Selection<'_> {
        assert!(k <= n, "there are only {n} indices below {n}");
        Selection { rng: self, at: 0, wanted: k, left: n }
    }

    /// Puts the items into a random order, each order equally likely. O(n).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Fills the slice with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Fills the slice with random lower-case hexadecimal digits.
    pub fn fill_hex(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(16) {
            let mut bits = self.next_u64();
            for byte in chunk {
                *byte = b"0123456789abcdef"[(bits & 15) as usize];
                bits >>= 4;
            }
        }
    }
}

/// The iterator of [`Rng::select`]: "Algorithm S" of Knuth's second volume.
pub struct Selection<'r> {
    rng: &'r mut Rng,
    at: usize,
    wanted: usize,
    /// Indices from `at` on.
    left: usize,
}

impl Iterator for Selection<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.wanted > 0 {
            let taken = self.rng.index(self.left) < self.wanted;
            self.at += 1;
            self.left -= 1;
            if taken {
                self.wanted -= 1;
                return Some(self.at - 1);
            }
        }
        None
    }
}

impl rand::TryRng for Rng {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.next_u32())
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next_u64())
    }

    #[inline]
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' own program from the state 1, 2, 3, 4.
    #[test]
    fn follows_the_published_recurrence() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let expected = [11520, 0, 1509978240, 1215971899390074240];
        assert_eq!(std::array::from_fn(|_| rng.next_u64()), expected);
    }

    #[test]
    fn same_seed_same_sequence() {
        let (mut a, mut b, mut c) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let first: [u64; 8] = std::array::from_fn(|_| a.next_u64());
        assert_eq!(first, std::array::from_fn(|_| b.next_u64()));
        assert_ne!(first, std::array::from_fn(|_| c.next_u64()));
        assert_ne!(Rng::from_os().next_u64(), Rng::from_os().next_u64());
    }

    #[test]
    fn below_is_even() {
        let mut rng = Rng::new(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_500..10_500).contains(&count)), "{counts:?}");
        assert!((0..100).all(|_| rng.below(1) == 0));
        assert!((0..100).all(|_| rng.below(u64::MAX) < u64::MAX));
        // Just over half of the range: without rejection a third of the numbers would be twice as likely.
        let n = (1u64 << 63) + (1 << 62);
        let low = (0..30_000).filter(|_| rng.below(n) < n / 2).count();
        assert!((14_500..15_500).contains(&low), "{low}");
    }

    #[test]
    fn chances() {
        let mut rng = Rng::new(2);
        let hits = (0..10_000).filter(|_| rng.chance(0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(0.0) && rng.chance(1.0)));
        assert!((0..1000).map(|_| rng.f64()).all(|x| (0.0..1.0).contains(&x)));
        assert!((0..100).all(|_| rng.one_in(1)));
    }

    #[test]
    fn shuffle_keeps_the_items_and_reaches_every_order() {
        let mut rng = Rng::new(3);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..500 {
            let mut items = [1, 2, 3, 4];
            rng.shuffle(&mut items);
            let mut sorted = items;
            sorted.sort();
            assert_eq!(sorted, [1, 2, 3, 4]);
            seen.insert(items);
        }
        assert_eq!(seen.len(), 24);
        rng.shuffle::<u8>(&mut []);
        assert_eq!(rng.choose::<u8>(&[]), None);
        assert_eq!(rng.choose(&[9]), Some(&9));
    }

    #[test]
    fn selections_ascend_and_each_index_is_as_likely() {
        let mut rng = Rng::new(6);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            let chosen: Vec<usize> = rng.select(3, 10).collect();
            assert!(chosen.len() == 3 && chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
            chosen.iter().for_each(|&i| counts[i] += 1);
        }
        assert!(counts.iter().all(|&count| (2_800..3_200).contains(&count)), "{counts:?}");
        assert_eq!(rng.select(4, 4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(rng.select(0, 0).next(), None);
    }

    #[test]
    fn fills() {
        let mut rng = Rng::new(4);
        for len in 0..50 {
            let mut bytes = vec![0; len];
            rng.fill_hex(&mut bytes);
            assert!(bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
            rng.fill(&mut bytes);
        }
    }

    #[test]
    fn serves_rand() {
        use rand::RngExt;
        let mut rng = Rng::new(5);
        assert!((0..100).all(|_| (3..9).contains(&rng.random_range(3..9))));
    }
}
