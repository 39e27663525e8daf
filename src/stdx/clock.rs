//! The two clocks: the wall clock, which people set, and the monotonic one, which only advances.
//!
//! Instants that are stored, sent or shown are wall-clock; durations are measured with the
//! monotonic clock. [`UnixMillis`] keeps an instant from being taken for a duration. Reading
//! either clock is a call into the vDSO, some 20 ns, without entering the kernel.
#![allow(unsafe_code)]

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970 by the wall clock; zero before.
#[inline]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Microseconds since 1970 by the wall clock.
#[inline]
pub fn now_us() -> i64 {
    since_epoch().as_micros() as i64
}

/// Milliseconds since 1970 by the wall clock.
#[inline]
pub fn now_ms() -> i64 {
    since_epoch().as_millis() as i64
}

/// Nanoseconds since some instant before the process started; never decreases.
///
/// This is read once per command. `Instant` would do, but its comparisons and subtractions guard against clocks that
/// go backwards, which takes several times as many instructions as the reading itself.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours, and all that the call writes to. This clock is there on every Linux, so that the call
    // cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Microseconds since some instant before the process started; never decreases.
#[inline]
pub fn monotonic_us() -> u64 {
    monotonic_ns() / 1000
}

/// Has this thread wait no longer than it asks to, but for about a microsecond. By default the kernel may add 50, so as
/// to wake several threads at once.
pub fn sleep_precisely() {
    // SAFETY: this option has one number for an argument, and changes nothing but when this thread's timers end.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1000 as libc::c_ulong) };
}

/// An instant of the wall clock, in milliseconds since 1970; negative before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Later than any instant a clock shows.
    pub const MAX: UnixMillis = UnixMillis(i64::MAX);

    /// The current instant.
    #[inline]
    pub fn now() -> Self {
        UnixMillis(now_ms())
    }

    /// The instant `seconds` after 1970; `None` if it has no representation.
    #[inline]
    pub fn from_secs(seconds: i64) -> Option<Self> {
        seconds.checked_mul(1000).map(UnixMillis)
    }

    /// Whole seconds since 1970, rounded down.
    #[inline]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The instant `ms` milliseconds later (earlier if negative); `None` if it has no
    /// representation.
    #[inline]
    pub fn checked_add(self, ms: i64) -> Option<Self> {
        self.0.checked_add(ms).map(UnixMillis)
    }

    /// The instant `ms` milliseconds later, or the last representable one.
    #[inline]
    pub const fn saturating_add(self, ms: i64) -> Self {
        UnixMillis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; negative if `earlier` is later.
    #[inline]
    pub const fn since(self, earlier: UnixMillis) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for UnixMillis {
    type Output = UnixMillis;

    /// The instant `duration` later, or the last representable one.
    #[inline]
    fn add(self, duration: Duration) -> UnixMillis {
        self.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Sub for UnixMillis {
    type Output = i64;

    /// Milliseconds between two instants, as [`UnixMillis::since`].
    #[inline]
    fn sub(self, earlier: UnixMillis) -> i64 {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_units_agree() {
        let (before, us, after) = (now_ms(), now_us(), now_ms());
        assert!(before <= us / 1000 && us / 1000 <= after);
        assert!(before > 1_700_000_000_000, "later than 2023");
    }

    #[test]
    fn monotonic_clock_never_goes_back() {
        let mut last = monotonic_ns();
        for _ in 0..1000 {
            let now = monotonic_ns();
            assert!(now >= last);
            last = now;
        }
        assert!(monotonic_us() >= last / 1000);
    }

    #[test]
    fn instants_saturate() {
        assert_eq!(UnixMillis::MAX.saturating_add(1), UnixMillis::MAX);
        assert_eq!(UnixMillis::MAX.checked_add(1), None);
        assert_eq!(UnixMillis(5) + Duration::MAX, UnixMillis::MAX);
        assert_eq!(UnixMillis(5) - UnixMillis(7), -2);
        assert_eq!(UnixMillis::from_secs(i64::MAX), None);
        assert_eq!(UnixMillis::from_secs(2), Some(UnixMillis(2000)));
        assert_eq!(UnixMillis(-1).as_secs(), -1);
        assert!(UnixMillis(1) < UnixMillis(2));
    }
}
