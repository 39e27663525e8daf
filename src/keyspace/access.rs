//! How recently, or how often, a key was used: 24 bits in each entry.
//!
//! LRU: the low 24 bits of the clock in seconds, which wrap after 194 days. LFU: 16 bits of the
//! clock in minutes and an 8-bit logarithmic counter (Morris, "Counting large numbers of events
//! in small registers", 1978), which is raised with probability 1/((counter−5)·factor+1) and
//! falls by one for every `decay` minutes without an access.

use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;

/// Where the counter of a new key starts, so that it is not the first to go.
pub const LFU_INIT: u8 = 5;

/// Which of the two the 24 bits are, and how they move.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Count accesses (`maxmemory-policy` *-lfu) instead of noting their time.
    pub lfu: bool,
    /// `lfu-log-factor`.
    pub log_factor: u32,
    /// `lfu-decay-time`, minutes.
    pub decay_minutes: u32,
    seconds: u32,
}

impl Default for Access {
    fn default() -> Self {
        Access { lfu: false, log_factor: 10, decay_minutes: 1, seconds: 0 }
    }
}

impl Access {
    /// Tells the time.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.seconds = (now.0 / 1000) as u32 & 0xff_ffff;
        if self.lfu {
            self.seconds = (now.0 / 1000) as u32;
        }
    }

    fn minutes(&self) -> u32 {
        self.seconds / 60 & 0xffff
    }

    /// The bits of a key that is written for the first time.
    #[inline]
    pub fn fresh(&self) -> u32 {
        if self.lfu { self.minutes() << 8 | LFU_INIT as u32 } else { self.seconds & 0xff_ffff }
    }

    /// The bits of a key with bits `old` that is used now.
    #[inline]
    pub fn touched(&self, old: u32, rng: &mut Rng) -> u32 {
        if !self.lfu {
            return self.seconds & 0xff_ffff;
        }
        let counter = self.raised(self.frequency(old), rng);
        self.minutes() << 8 | counter as u32
    }

    fn raised(&self, counter: u8, rng: &mut Rng) -> u8 {
        if counter == u8::MAX {
            return counter;
        }
        let base = counter.saturating_sub(LFU_INIT) as f64;
        let p = 1.0 / (base * self.log_factor as f64 + 1.0);
        if rng.f64() < p { counter + 1 } else { counter }
    }

    /// Seconds since the last access, from LRU bits.
    pub fn idle_seconds(&self, bits: u32) -> u32 {
        (self.seconds.wrapping_sub(bits)) & 0xff_ffff
    }

    /// The counter as it is after the decay for the time since the last access, from LFU bits.
    pub fn frequency(&self, bits: u32) -> u8 {
        let counter = bits as u8;
        if self.decay_minutes == 0 {
            return counter;
        }
        let elapsed = self.minutes().wrapping_sub(bits >> 8) & 0xffff;
        counter.saturating_sub((elapsed / self.decay_minutes).min(255) as u8)
    }

    /// LRU bits of a key last used `seconds` ago.
    pub fn bits_for_idle(&self, seconds: u32) -> u32 {
        self.seconds.wrapping_sub(seconds) & 0xff_ffff
    }

    /// LFU bits of a key with the given counter, used now.
    pub fn bits_for_frequency(&self, counter: u8) -> u32 {
        self.minutes() << 8 | counter as u32
    }
}
