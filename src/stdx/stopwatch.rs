//! Measures short durations at less cost than two readings of a clock.
//!
//! The processor's time stamp counter counts at a constant rate and is read in 10 ns, where the monotonic clock takes
//! 27 ns; this matters for a command that runs for 100 ns. The counter is used only if the kernel itself keeps time
//! by it, which means that it runs evenly and identically on all processors. The length of a tick is measured against
//! the clock repeatedly, because a virtual machine may move to another processor. Otherwise a tick is a nanosecond of
//! the clock.
#![allow(unsafe_code)]

use std::time::Duration;

use super::clock;

/// An instant of one [`Stopwatch`]. Later instants are greater, unless the stopwatch was started in between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticks(u64);

/// Counter and clock at the same instant.
#[derive(Clone, Copy)]
struct Reading {
    count: u64,
    ns: u64,
}

impl Reading {
    /// Reads both. `None` if the thread was interrupted in between on every attempt.
    fn take() -> Option<Reading> {
        (0..8).find_map(|_| {
            let (before, count, after) = (clock::monotonic_ns(), count(), clock::monotonic_ns());
            (after - before < AT_ONCE_NS).then_some(Reading { count, ns: before })
        })
    }
}

/// A pair of readings that takes longer than this was interrupted.
const AT_ONCE_NS: u64 = 500;

/// Measures durations.
pub struct Stopwatch {
    /// Whether the processor's counter is used.
    counts: bool,
    /// Length of a tick in nanoseconds, times 2^32.
    scale: u64,
    /// The latest reading used for `scale`.
    last: Option<Reading>,
}

/// Time between two readings, so that the length of a tick is accurate to a ten-thousandth.
const APART: Duration = Duration::from_millis(5);

/// The scale for ticks of one nanosecond.
const ONE: u64 = 1 << 32;

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopwatch {
    /// A stopwatch that uses the clock until it is started.
    pub fn new() -> Stopwatch {
        Stopwatch { counts: false, scale: ONE, last: None }
    }

    /// Switches to the processor's counter if it is reliable. Takes 5 ms. Earlier ticks must not be compared with
    /// later ones.
    pub fn start(&mut self) {
        if self.counts || !is_reliable() {
            return;
        }
        self.last = Reading::take();
        std::thread::sleep(APART);
        if let Some(scale) = self.measured() {
            self.scale = scale;
            self.counts = true;
        }
    }

    /// Measures the length of a tick again, over the time since the last measurement. To be called from a timer.
    pub fn adjust(&mut self) {
        // Ticks of the clock need no adjustment.
        if self.counts
            && let Some(scale) = self.measured()
        {
            self.scale = scale;
        }
    }

    /// The scale of the counter since the last reading; `None` if it cannot be determined yet.
    fn measured(&mut self) -> Option<u64> {
        let now = Reading::take()?;
        let last = self.last.get_or_insert(now);
        let (count, ns) = (now.count.saturating_sub(last.count), now.ns.saturating_sub(last.ns));
        if ns < APART.as_nanos() as u64 {
            return None;
        }
        *last = now;
        // A counter that stood still or was set back is ignored; the next reading decides.
        u64::try_from((u128::from(ns) << 32) / u128::from(count.max(1)))
            .ok()
            .filter(|scale| (1..ONE << 8).contains(scale))
    }

    /// The current instant.
    #[inline(always)]
    pub fn now(&self) -> Ticks {
        Ticks(if self.counts { count() } else { clock::monotonic_ns() })
    }

    /// Nanoseconds from one instant to a later one.
    #[inline(always)]
    pub fn ns(&self, from: Ticks, to: Ticks) -> u64 {
        let ticks = to.0.saturating_sub(from.0);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }
}

/// The processor's counter; 0 on processors without one.
#[inline(always)]
fn count() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// Whether the kernel keeps time by the processor's counter.
fn is_reliable() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(target_arch = "x86_64") && std::fs::read_to_string(SOURCE).is_ok_and(|name| name.trim() == "tsc")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait as measured by the stopwatch and by the clock.
    fn measured(watch: &Stopwatch) -> (u64, u64) {
        let (ns, ticks) = (clock::monotonic_ns(), watch.now());
        std::thread::sleep(Duration::from_millis(20));
        let inside = watch.ns(ticks, watch.now());
        (inside, clock::monotonic_ns() - ns)
    }

    #[test]
    fn it_agrees_with_the_clock() {
        let mut watch = Stopwatch::new();
        for started in [false, true] {
            if started {
                watch.start();
            }
            let (inside, around) = measured(&watch);
            assert!(inside >= 19_900_000 && inside <= around + around / 1000, "{inside} of {around} ns");
            watch.adjust();
        }
    }

    #[test]
    fn an_adjustment_after_nothing_changes_nothing() {
        let mut watch = Stopwatch::new();
        watch.start();
        let Some(last) = &mut watch.last else { return };
        // As if the last reading were from this instant, whatever else the machine does.
        last.ns = clock::monotonic_ns() + Duration::from_secs(1).as_nanos() as u64;
        let before = watch.scale;
        watch.adjust();
        assert_eq!(watch.scale, before);
    }

    #[test]
    fn the_clock_is_not_adjusted() {
        let mut watch = Stopwatch::new();
        for _ in 0..3 {
            watch.adjust();
            std::thread::sleep(2 * APART);
        }
        let (inside, around) = measured(&watch);
        assert!(inside >= 20_000_000 && inside <= around, "{inside} of {around} ns");
    }

    #[test]
    fn what_did_not_last_is_nothing() {
        let watch = Stopwatch::new();
        assert_eq!(watch.ns(Ticks(7), Ticks(7)), 0);
        assert_eq!(watch.ns(Ticks(8), Ticks(7)), 0);
        assert_eq!(watch.ns(Ticks(7), Ticks(1_007)), 1_000);
    }
}
