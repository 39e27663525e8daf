//! Access data: how recently a key was used or changed, or how often it was used, in 24 bits per entry.
//!
//! LRU and LRM: the low 24 bits of the clock in seconds, which wrap after 194 days. LFU: 16 bits of the
//! clock in minutes and an 8-bit logarithmic counter (Morris, "Counting large numbers of events
//! in small registers", 1978), which is raised with probability 1/((counter−5)·factor+1) and
//! falls by one for every `decay` minutes without an access.

use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;

/// Initial counter of a new key, so that it is not the first to be evicted.
pub const LFU_INIT: u8 = 5;

/// What the 24 bits tell of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noted {
    /// When it was last read or written.
    LastUse,
    /// When it was last written (`maxmemory-policy` *-lrm). The caller notes it with the changes of a command: a
    /// lookup does not.
    LastChange,
    /// How often it is used (`maxmemory-policy` *-lfu).
    Frequency,
}

/// Meaning of the 24 bits, and parameters of their updates.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// What the bits tell.
    pub noted: Noted,
    /// `lfu-log-factor`.
    pub log_factor: u32,
    /// `lfu-decay-time`, in minutes.
    pub decay_minutes: u32,
    /// Whether eviction depends on these bits: `maxmemory` is set, and its policy is *-lru, *-lrm, or *-lfu.
    pub guides_eviction: bool,
    /// Current time, in seconds since 1970.
    seconds: u64,
}

impl Default for Access {
    fn default() -> Self {
        Access { noted: Noted::LastUse, log_factor: 10, decay_minutes: 1, guides_eviction: false, seconds: 0 }
    }
}

impl Access {
    /// Whether the bits count accesses instead of recording a time.
    #[inline]
    pub fn counts(&self) -> bool {
        self.noted == Noted::Frequency
    }

    /// Sets the current time.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.seconds = now.as_secs() as u64;
    }

    /// The LRU clock: the low 24 bits of the seconds.
    #[inline]
    fn lru_clock(&self) -> u32 {
        self.seconds as u32 & 0xff_ffff
    }

    /// The LFU clock, in minutes.
    #[inline]
    fn lfu_clock(&self) -> u32 {
        (self.seconds / 60) as u32 & 0xffff
    }

    /// Bits of a new key.
    #[inline]
    pub fn fresh(&self) -> u32 {
        if self.counts() { self.bits_for_frequency(LFU_INIT) } else { self.lru_clock() }
    }

    /// Bits of a key after an access now, if they were `old`.
    #[inline]
    pub fn touched(&self, old: u32, rng: &mut Rng) -> u32 {
        if self.noted == Noted::LastUse {
            return self.lru_clock();
        }
        if self.noted == Noted::LastChange {
            return old;
        }
        self.bits_for_frequency(self.raised(self.frequency(old), rng))
    }

    fn raised(&self, counter: u8, rng: &mut Rng) -> u8 {
        if counter == u8::MAX {
            return counter;
        }
        let base = counter.saturating_sub(LFU_INIT) as f64;
        let p = 1.0 / (base * self.log_factor as f64 + 1.0);
        if rng.f64() < p { counter + 1 } else { counter }
    }

    /// Seconds since the last access, or change, from LRU bits.
    pub fn idle_seconds(&self, bits: u32) -> u32 {
        self.lru_clock().wrapping_sub(bits) & 0xff_ffff
    }

    /// The second of the last access, from LRU bits; comparable across the wrap of the clock.
    #[inline]
    pub fn last_used(&self, bits: u32) -> u64 {
        self.seconds.saturating_sub(u64::from(self.idle_seconds(bits)))
    }

    /// The counter after the decay since the last access, from LFU bits.
    pub fn frequency(&self, bits: u32) -> u8 {
        let counter = bits as u8;
        if self.decay_minutes == 0 {
            return counter;
        }
        let elapsed = self.lfu_clock().wrapping_sub(bits >> 8) & 0xffff;
        counter.saturating_sub((elapsed / self.decay_minutes).min(255) as u8)
    }

    /// LRU bits of a key last used `seconds` ago.
    pub fn bits_for_idle(&self, seconds: u32) -> u32 {
        self.lru_clock().wrapping_sub(seconds) & 0xff_ffff
    }

    /// LFU bits of a key with this counter, used now.
    pub fn bits_for_frequency(&self, counter: u8) -> u32 {
        self.lfu_clock() << 8 | counter as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Noted::{Frequency, LastChange, LastUse};
    use super::*;

    fn at(noted: Noted, seconds: i64) -> Access {
        let mut access = Access { noted, ..Access::default() };
        access.set_now(UnixMillis(seconds * 1000 + 999));
        access
    }

    #[test]
    fn lru_bits_tell_the_idle_time_across_the_wrap() {
        let wrap = 1 << 24;
        for start in [0, 5, wrap - 1, wrap, 104 * wrap - 3] {
            let bits = at(LastUse, start).fresh();
            assert!(bits < 1 << 24);
            for idle in [0, 1, 10, wrap - 1] {
                let later = at(LastUse, start + idle);
                assert_eq!(later.idle_seconds(bits), idle as u32, "from {start}");
                assert_eq!(later.bits_for_idle(idle as u32), bits);
            }
        }
        let (early, late) = (at(LastUse, 7), at(LastUse, 90));
        assert_eq!(late.touched(early.fresh(), &mut Rng::new(1)), late.fresh());
        let late = at(LastChange, 90);
        assert_eq!(late.touched(early.fresh(), &mut Rng::new(1)), early.fresh());
    }

    #[test]
    fn frequency_decays_by_the_minute() {
        let wrap = 60 << 16;
        for start in [0, 59, 60, wrap - 60] {
            let bits = at(Frequency, start).bits_for_frequency(100);
            for (minutes, left) in [(0, 100), (1, 99), (60, 40), (100, 0), (5000, 0)] {
                let later = at(Frequency, start + 60 * minutes);
                assert_eq!(later.frequency(bits), left, "from {start}");
                assert_eq!(Access { decay_minutes: 0, ..later }.frequency(bits), 100);
                let slow = Access { decay_minutes: 10, ..later };
                assert_eq!(i64::from(slow.frequency(bits)), (100 - minutes / 10).max(0));
            }
        }
    }

    #[test]
    fn frequency_grows_with_the_logarithm_of_the_accesses() {
        let mut rng = Rng::new(3);
        let access = at(Frequency, 1_000_000);
        let mut bits = access.fresh();
        assert_eq!(access.frequency(bits), LFU_INIT);
        let mut after = Vec::new();
        for n in 1..=100_000 {
            bits = access.touched(bits, &mut rng);
            if [1, 100, 10_000, 100_000].contains(&n) {
                after.push(access.frequency(bits));
            }
        }
        // The first access always counts; later about the square root of a fifth of them do.
        assert_eq!(after[0], LFU_INIT + 1);
        assert!((8..=14).contains(&after[1]), "{after:?}");
        assert!((40..=60).contains(&after[2]), "{after:?}");
        assert!((125..=165).contains(&after[3]), "{after:?}");
        let eager = Access { log_factor: 0, ..access };
        for _ in 0..300 {
            bits = eager.touched(bits, &mut rng);
        }
        assert_eq!(eager.frequency(bits), u8::MAX);
    }
}
