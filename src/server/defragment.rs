//! Active defragmentation: when it runs, and how much of the processor it takes.
//!
//! Once a second the memory that small blocks leave unused is compared with the thresholds. Above the lower one, a walk
//! through all data ([`Defragmentation`]) and the texts of scripts moves blocks to denser places, in slices of at most a millisecond between turns
//! of the event loop; between two slices the loop is left alone for long enough that they take the share of the processor
//! that the settings allow, more of it the more memory is unused. Walks follow each other until too little is unused, or
//! one finds nothing to move.
//!
//! While a child process shares the memory, nothing is moved: every page that is written would be copied.

use std::time::{Duration, Instant};

use crate::config::options::AdvancedOptions;
use crate::keyspace::defragment::Defragmentation;
use crate::server::Server;
use crate::stats::latency::event;
use crate::stdx::alloc::relocation::{self, Relocator, Sparseness};
use crate::stdx::clock;

/// The longest slice.
const LONGEST_SLICE: Duration = Duration::from_millis(1);
/// The shortest slice: what comes with a slice costs about a tenth of that.
const SHORTEST_SLICE: Duration = Duration::from_micros(200);
/// The slice from which the time between two of them is derived.
const SLICE: Duration = Duration::from_micros(500);
/// Time between two slices, at least: the loop cannot sleep for less.
const LEAST_REST: Duration = Duration::from_millis(1);
/// Elements above which a collection is gone through in steps, at most: a bucket with such collections is one step.
const ELEMENTS: usize = 128;

const SECOND_NS: u64 = 1_000_000_000;
/// How long the statistics of slabs are good for.
const GOOD_NS: u64 = SECOND_NS / 10;
/// Time between the end of a walk that moved nothing and the next one, unless more memory becomes unused meanwhile.
const VAIN_NS: u64 = 10 * SECOND_NS;
/// Scripts that are looked at in one step.
const SCRIPTS: usize = 64;

/// Counters since the start or the last `CONFIG RESETSTAT`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Blocks that were moved.
    pub hits: u64,
    /// Blocks that were looked at and stayed.
    pub misses: u64,
    /// Keys with a block that was moved.
    pub key_hits: u64,
    /// Keys of which no block was moved.
    pub key_misses: u64,
}

/// State of active defragmentation. All times are of the monotonic clock, in nanoseconds.
#[derive(Default)]
pub struct Defragment {
    /// Counters.
    pub counts: Counts,
    running: Option<Box<Running>>,
    /// Time of ended runs.
    past_ns: u64,
    /// When memory is next looked at, while none is moved.
    look_at_ns: u64,
    /// After a walk that moved nothing: when the next one may begin, and how many bytes were unused.
    vain: Option<(u64, usize)>,
    told: bool,
}

struct Running {
    by: Relocator,
    walk: Defragmentation,
    /// Where the walk through scripts is, behind that through the data; `None` before it.
    scripts: Option<usize>,
    /// Share of the processor in percent.
    effort: u8,
    began_ns: u64,
    slice_due_ns: u64,
    slice_ended_ns: u64,
    /// When memory is next looked at.
    look_at_ns: u64,
    /// When the statistics of slabs are next gathered.
    refresh_at_ns: u64,
}

impl Defragment {
    /// Whether a slice is due.
    #[inline]
    pub(in crate::server) fn is_due(&self, now_ns: u64) -> bool {
        self.running.as_ref().is_some_and(|running| now_ns >= running.slice_due_ns)
    }

    /// Time until the next slice, for which the loop may sleep; `None` if none is to come.
    pub(in crate::server) fn until_due(&self, now_ns: u64) -> Option<Duration> {
        let running = self.running.as_ref()?;
        Some(Duration::from_nanos(running.slice_due_ns.saturating_sub(now_ns)))
    }

    /// Share of the processor that is taken now, in percent; 0 if it does not run.
    pub fn effort(&self) -> u8 {
        self.running.as_ref().map_or(0, |running| running.effort)
    }

    /// Time since the current run began.
    pub fn current(&self) -> Duration {
        let began = self.running.as_ref().map(|running| running.began_ns);
        Duration::from_nanos(began.map_or(0, |began| clock::monotonic_ns().saturating_sub(began)))
    }

    /// Time of all runs.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.past_ns) + self.current()
    }

    fn stop(&mut self) {
        self.past_ns += self.current().as_nanos() as u64;
        self.running = None;
    }
}

/// The share of the processor to take, in percent, if so much memory is unused; `None` if that is little enough.
fn effort(options: &AdvancedOptions, sparseness: Sparseness) -> Option<u8> {
    let (percent, lower) = (sparseness.percent(), f64::from(options.defrag_threshold_lower));
    if percent < lower || (sparseness.unused as u64) < options.defrag_ignore_bytes {
        return None;
    }
    let upper = f64::from(options.defrag_threshold_upper);
    let (min, max) = (f64::from(options.defrag_cycle_min), f64::from(options.defrag_cycle_max));
    let part = if upper > lower { ((percent - lower) / (upper - lower)).clamp(0.0, 1.0) } else { 1.0 };
    Some((min + part * (max - min)).max(min.min(max)) as u8)
}

/// How long the next slice may last, `rested` after the last one, so that slices take `effort` percent of the time.
fn slice(effort: u8, rested: Duration) -> Duration {
    let effort = u32::from(effort.clamp(1, 99));
    (rested * effort / (100 - effort)).clamp(SHORTEST_SLICE, LONGEST_SLICE)
}

/// Time between two slices that take `effort` percent of the time.
fn rest(effort: u8) -> Duration {
    let effort = u32::from(effort.clamp(1, 99));
    (SLICE * (100 - effort) / effort).max(LEAST_REST)
}

impl Server {
    /// Begins and ends runs. Called by the timer.
    pub(in crate::server) fn supervise_defragmentation(&mut self) {
        if !self.config.advanced.active_defrag {
            if self.defragment.running.is_some() {
                self.defragment.stop();
            }
            (self.defragment.look_at_ns, self.defragment.vain) = (0, None);
            return;
        }
        let now = clock::monotonic_ns();
        let state = &mut self.defragment;
        let look_at = state.running.as_ref().map_or(state.look_at_ns, |running| running.look_at_ns);
        if now < look_at {
            return;
        }
        state.look_at_ns = now + SECOND_NS;
        let sparseness = relocation::sparseness();
        let in_vain = state.vain.is_some_and(|(until, unused)| {
            now < until && sparseness.unused <= unused + unused / 8 && state.running.is_none()
        });
        let effort = effort(&self.config.advanced, sparseness).filter(|_| !in_vain);
        match (&mut state.running, effort) {
            (Some(running), effort) => {
                running.look_at_ns = now + SECOND_NS;
                // A walk ends where it ends: what is unused by then is looked at there.
                running.effort = effort.unwrap_or(running.effort);
            }
            (None, None) => {}
            (None, Some(effort)) => match Relocator::new() {
                Some(by) => {
                    state.running = Some(Box::new(Running {
                        by,
                        walk: Defragmentation::default(),
                        scripts: None,
                        effort,
                        began_ns: now,
                        slice_due_ns: now,
                        slice_ended_ns: now,
                        look_at_ns: now + SECOND_NS,
                        refresh_at_ns: now + GOOD_NS,
                    }));
                }
                None => {
                    if !std::mem::replace(&mut state.told, true) {
                        tracing::warn!(
                            "Active defragmentation cannot run: {}",
                            super::reconfigure::NO_RELOCATION
                        );
                    }
                }
            },
        }
    }

    /// Runs a slice.
    #[cold]
    pub(in crate::server) fn defragment_some(&mut self) {
        let Some(mut running) = self.defragment.running.take() else { return };
        let (began, began_ns) = (Instant::now(), clock::monotonic_ns());
        if self.children.current.is_some() {
            running.slice_due_ns = began_ns + self.tick().as_nanos() as u64;
            running.slice_ended_ns = running.slice_due_ns;
            self.defragment.running = Some(running);
            return;
        }
        let limit =
            slice(running.effort, Duration::from_nanos(began_ns.saturating_sub(running.slice_ended_ns)));
        if began_ns >= running.refresh_at_ns {
            running.by.look_again();
            running.refresh_at_ns = began_ns + GOOD_NS;
        }
        let most = usize::try_from(self.config.advanced.defrag_max_scan_fields).unwrap_or(ELEMENTS);
        let Running { by, walk, scripts, .. } = &mut *running;
        let before = (by.moved, by.kept, walk.key_hits, walk.key_misses);
        let (space, texts) = (&mut self.keyspace, &mut self.scripts);
        let late = || began.elapsed() >= limit;
        let more = by.run(|by| {
            if scripts.is_none() {
                if walk.advance(space, by, most.min(ELEMENTS), late) {
                    return true;
                }
                *scripts = Some(0);
            }
            while let Some(from) = *scripts
                && !late()
            {
                match texts.relocate(by, from, SCRIPTS) {
                    Some(next) => *scripts = Some(next),
                    None => return false,
                }
            }
            true
        });
        let counts = &mut self.defragment.counts;
        counts.hits += by.moved - before.0;
        counts.misses += by.kept - before.1;
        counts.key_hits += walk.key_hits - before.2;
        counts.key_misses += walk.key_misses - before.3;
        let lasted = began.elapsed();
        self.event_loop.ended_ns = began_ns + lasted.as_nanos() as u64;
        self.stats.latency.note(event::ACTIVE_DEFRAG_CYCLE, lasted);
        running.slice_ended_ns = self.event_loop.ended_ns;
        running.slice_due_ns = self.event_loop.ended_ns + rest(running.effort).as_nanos() as u64;
        if more {
            self.defragment.running = Some(running);
        } else {
            self.walk_ended(running);
        }
    }

    /// Begins the next walk, if there is still much to do and the last one was of use.
    fn walk_ended(&mut self, mut running: Box<Running>) {
        let (moved, sparseness) = (running.by.moved > 0, relocation::sparseness());
        let effort = effort(&self.config.advanced, sparseness).filter(|_| moved);
        running.by.moved = 0;
        running.walk = Defragmentation::default();
        running.scripts = None;
        running.effort = effort.unwrap_or(0);
        self.defragment.running = Some(running);
        if effort.is_none() {
            self.defragment.stop();
            let ended = self.event_loop.ended_ns;
            self.defragment.look_at_ns = ended + SECOND_NS;
            self.defragment.vain = (!moved).then_some((ended + VAIN_NS, sparseness.unused));
        }
    }

    /// Does what is due while a command loads a file, during which no turn of the loop ends.
    pub fn defragment_while_loading(&mut self) {
        self.supervise_defragmentation();
        if self.defragment.is_due(clock::monotonic_ns()) {
            self.defragment_some();
        }
    }

    /// Moves every block of the data, wherever it lies, and returns the number of blocks: to test that nothing breaks.
    pub fn relocate_everything(&mut self) -> u64 {
        let mut by = Relocator::of_everything();
        Defragmentation::default().advance(&mut self.keyspace, &mut by, ELEMENTS, || false);
        self.scripts.relocate(&mut by, 0, usize::MAX);
        by.moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effort_grows_with_what_is_unused() {
        let options = AdvancedOptions { defrag_ignore_bytes: 1000, ..AdvancedOptions::default() };
        let of = |unused, allocated| effort(&options, Sparseness { allocated, unused });
        assert_eq!(of(0, 0), None);
        assert_eq!(of(999, 5000), None, "too few bytes");
        assert_eq!(of(1000, 10_001), None, "too small a part");
        assert_eq!(of(1000, 10_000), Some(1));
        assert_eq!(of(5500, 10_000), Some(13));
        assert_eq!(of(10_000, 10_000), Some(25));
        assert_eq!(of(100_000, 10_000), Some(25));
        let same = AdvancedOptions { defrag_threshold_lower: 0, defrag_threshold_upper: 0, ..options };
        assert_eq!(effort(&same, Sparseness { allocated: 10_000, unused: 1000 }), Some(25));
    }

    #[test]
    fn slices_take_their_share_and_are_short() {
        for effort in 1..=50u8 {
            let rest = rest(effort);
            let slice = slice(effort, rest);
            let share = slice.as_secs_f64() / (slice + rest).as_secs_f64();
            assert!((share * 100.0 - f64::from(effort)).abs() < 17.0, "{effort} {share}");
        }
        for effort in [0, 1, 99, 255] {
            assert!(slice(effort, Duration::from_secs(1)) <= LONGEST_SLICE);
            assert!(rest(effort) >= LEAST_REST);
        }
    }
}
