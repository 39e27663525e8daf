//! The latency monitor: moments at which the server made clients wait, by cause.
//!
//! Each cause has a series of at most [`SAMPLES`] samples, each with a second and the longest wait in it. Nothing is
//! recorded unless a threshold is set, so that reporting costs one comparison. The idea is Salvatore Sanfilippo's.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use crate::stdx::clock::UnixMillis;

/// Samples kept per cause.
pub const SAMPLES: usize = 160;

/// Causes of waiting, under the names that users see.
pub mod event {
    /// A command that is not flagged as fast.
    pub const COMMAND: &str = "command";
    /// A command that is flagged as fast.
    pub const FAST_COMMAND: &str = "fast-command";
    /// Searching for expired keys.
    pub const EXPIRE_CYCLE: &str = "expire-cycle";
    /// Removing one expired key.
    pub const EXPIRE_DEL: &str = "expire-del";
    /// A slice of active defragmentation.
    pub const ACTIVE_DEFRAG_CYCLE: &str = "active-defrag-cycle";
    /// Eviction of keys.
    pub const EVICTION_CYCLE: &str = "eviction-cycle";
    /// Removing one evicted key.
    pub const EVICTION_DEL: &str = "eviction-del";
    /// Creating a child process.
    pub const FORK: &str = "fork";
    /// Running the commands of clients that waited.
    pub const COMMAND_UNBLOCKING: &str = "command-unblocking";
    /// Writing the append-only file.
    pub const AOF_WRITE: &str = "aof-write";
    /// Writing the append-only file while a sync was running.
    pub const AOF_WRITE_PENDING_FSYNC: &str = "aof-write-pending-fsync";
    /// Writing the append-only file while a child process was running.
    pub const AOF_WRITE_ACTIVE_CHILD: &str = "aof-write-active-child";
    /// Writing the append-only file under neither circumstance.
    pub const AOF_WRITE_ALONE: &str = "aof-write-alone";
    /// Syncing the append-only file with the policy `always`.
    pub const AOF_FSYNC_ALWAYS: &str = "aof-fsync-always";
    /// Determining the size of the append-only file.
    pub const AOF_FSTAT: &str = "aof-fstat";
    /// Renaming a rewritten append-only file.
    pub const AOF_RENAME: &str = "aof-rename";
    /// Writing the changes made during a rewrite.
    pub const AOF_REWRITE_DIFF_WRITE: &str = "aof-rewrite-diff-write";
    /// Removing the unfinished file of an interrupted snapshot.
    pub const RDB_UNLINK_TEMP_FILE: &str = "rdb-unlink-temp-file";
}

/// The longest wait in one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The second, in Unix time.
    pub at_s: i64,
    /// The wait in milliseconds.
    pub ms: u64,
}

/// The waits of one cause.
#[derive(Default, Debug)]
pub struct Series {
    samples: VecDeque<Sample>,
    /// The longest wait ever.
    max_ms: u64,
}

impl Series {
    fn add(&mut self, at_s: i64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        if let Some(last) = self.samples.back_mut().filter(|last| last.at_s == at_s) {
            last.ms = last.ms.max(ms);
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at_s, ms });
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample> + DoubleEndedIterator {
        self.samples.iter().copied()
    }

    /// The latest sample.
    pub fn latest(&self) -> Sample {
        *self.samples.back().expect("a series begins with its first sample")
    }

    /// The longest wait ever, in milliseconds.
    pub fn max_ms(&self) -> u64 {
        self.max_ms
    }

    /// Statistics of the samples.
    pub fn summary(&self) -> Summary {
        let n = self.samples.len().max(1) as f64;
        let waits = || self.samples.iter().map(|sample| sample.ms);
        let average = waits().sum::<u64>() as f64 / n;
        let deviation = waits().map(|ms| (ms as f64 - average).abs()).sum::<f64>() / n;
        let first = self.samples.front().map_or(0, |sample| sample.at_s);
        Summary {
            samples: self.samples.len(),
            min_ms: waits().min().unwrap_or(0),
            max_ms: waits().max().unwrap_or(0),
            average_ms: average,
            mean_deviation_ms: deviation,
            first_s: first,
        }
    }

    /// A chart of the samples as columns of characters, with their age below.
    pub fn graph(&self, name: &str, now_s: i64) -> String {
        let Summary { min_ms, max_ms, .. } = self.summary();
        let all_time = self.max_ms;
        let mut text = format!("{name} - high {max_ms} ms, low {min_ms} ms (all time high {all_time} ms)\n");
        text.push_str(&"-".repeat(WIDTH));
        text.push('\n');
        let columns: Vec<Sample> = self.samples().collect();
        for columns in columns.chunks(WIDTH) {
            draw(&mut text, columns, (min_ms, max_ms), now_s);
        }
        text
    }
}

/// Statistics of a series.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// Number of samples.
    pub samples: usize,
    /// Shortest wait in milliseconds.
    pub min_ms: u64,
    /// Longest wait in milliseconds.
    pub max_ms: u64,
    /// Average wait in milliseconds.
    pub average_ms: f64,
    /// Mean absolute deviation from the average, in milliseconds.
    pub mean_deviation_ms: f64,
    /// Unix time of the first sample in seconds.
    pub first_s: i64,
}

/// Columns of a chart.
const WIDTH: usize = 80;
/// Lines of a chart, without the ages.
const HEIGHT: usize = 4;
/// Top characters of a column that ends low, in the middle or high in its line.
const TOPS: [char; 3] = ['_', 'o', '#'];

fn draw(text: &mut String, columns: &[Sample], (min, max): (u64, u64), now_s: i64) {
    let levels = HEIGHT * TOPS.len();
    let level = |ms: u64| {
        let share = if max > min { (ms - min) as f64 / (max - min) as f64 } else { 0.0 };
        ((share * levels as f64) as usize).min(levels - 1)
    };
    for line in (0..HEIGHT).rev() {
        text.extend(columns.iter().map(|sample| {
            let level = level(sample.ms);
            match (level / TOPS.len()).cmp(&line) {
                std::cmp::Ordering::Greater => '|',
                std::cmp::Ordering::Equal => TOPS[level % TOPS.len()],
                std::cmp::Ordering::Less => ' ',
            }
        }));
        text.push('\n');
    }
    text.push_str(&" ".repeat(columns.len()));
    text.push('\n');
    let ages: Vec<String> = columns.iter().map(|sample| age(now_s - sample.at_s)).collect();
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.as_bytes().get(line).map_or(' ', |&byte| char::from(byte))));
        text.push('\n');
    }
}

/// A duration in its largest unit.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ ..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// The waits of all causes.
#[derive(Default, Debug)]
pub struct Latency {
    /// Shortest wait recorded, in milliseconds; 0 records nothing.
    pub threshold_ms: u64,
    series: BTreeMap<&'static str, Series>,
}

impl Latency {
    /// Whether waits are recorded. Asked before a clock is read for this purpose only.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.threshold_ms > 0
    }

    /// Reports that `cause` made clients wait for `duration`. One comparison, unless the wait was long.
    #[inline]
    pub fn note(&mut self, cause: &'static str, duration: Duration) {
        if self.is_on() && duration.as_millis() >= u128::from(self.threshold_ms) {
            self.add(cause, UnixMillis::now().as_secs(), duration.as_millis() as u64);
        }
    }

    #[cold]
    fn add(&mut self, cause: &'static str, at_s: i64, ms: u64) {
        self.series.entry(cause).or_default().add(at_s, ms);
    }

    /// The series of one cause.
    pub fn series(&self, cause: &[u8]) -> Option<&Series> {
        self.series.get(std::str::from_utf8(cause).ok()?)
    }

    /// All series, by name.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.series.iter().map(|(name, series)| (*name, series))
    }

    /// Removes the series of `cause`, in any case (`None`: all series). Returns the number removed.
    pub fn reset(&mut self, cause: Option<&[u8]>) -> usize {
        let before = self.series.len();
        match cause {
            None => self.series.clear(),
            Some(cause) => self.series.retain(|name, _| !cause.eq_ignore_ascii_case(name.as_bytes())),
        }
        before - self.series.len()
    }

    /// A report on the waits for an operator, with advice.
    pub fn report(&self, now_s: i64) -> String {
        if !self.is_on() && self.series.is_empty() {
            return "Waits are not recorded. CONFIG SET latency-monitor-threshold <milliseconds> records those \
                    that are at least so long.\n"
                .into();
        }
        if self.series.is_empty() {
            return format!("No wait of {} ms or more was seen.\n", self.threshold_ms);
        }
        let mut text = String::from("Clients had to wait:\n\n");
        for (name, series) in self.all() {
            let s = series.summary();
            let period = (now_s - s.first_s).max(0) as f64 / s.samples.max(1) as f64;
            let _ = writeln!(
                text,
                "- {name}: {} latency spikes (average {:.0} ms, mean deviation {:.0} ms, one every {period:.2} s). \
                 Worst of all time: {} ms.",
                s.samples, s.average_ms, s.mean_deviation_ms, series.max_ms
            );
        }
        text.push_str("\nWhat may help:\n\n");
        for (causes, advice) in ADVICE {
            if self.series.keys().any(|name| causes.iter().any(|cause| name.starts_with(cause))) {
                let _ = writeln!(text, "- {advice}");
            }
        }
        text
    }
}

/// Prefixes of causes, and the advice for them.
const ADVICE: &[(&[&str], &str)] = &[
    (
        &["command", "fast-command"],
        "SLOWLOG GET shows which commands took long. Commands that go through large values in one step make \
         everybody wait; the SCAN family goes in small steps, and UNLINK frees in the background.",
    ),
    (
        &["fast-command"],
        "Quick commands took long: the machine may be short of processor time or memory, or large values were \
         removed by them.",
    ),
    (
        &["expire", "eviction"],
        "Large values took long to free. lazyfree-lazy-expire and lazyfree-lazy-eviction free them in the \
         background; many keys that are due in the same second are better spread.",
    ),
    (
        &["fork"],
        "Making a child process takes long where much memory is in use. Snapshots and rewrites could be rarer.",
    ),
    (
        &["aof", "rdb"],
        "The disk is slow or busy. A faster disk of its own, appendfsync everysec instead of always, or \
         no-appendfsync-on-rewrite yes help.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_per_second_and_the_longest_of_it() {
        let mut series = Series::default();
        for (at_s, ms) in [(10, 5), (10, 9), (10, 7), (11, 3)] {
            series.add(at_s, ms);
        }
        let samples: Vec<_> = series.samples().map(|s| (s.at_s, s.ms)).collect();
        assert_eq!(samples, [(10, 9), (11, 3)]);
        assert_eq!((series.latest().ms, series.max_ms()), (3, 9));
        for at_s in 12..1000 {
            series.add(at_s, 1);
        }
        assert_eq!(series.samples().len(), SAMPLES);
        assert_eq!(series.samples().next().map(|s| s.at_s), Some(1000 - SAMPLES as i64));
        assert_eq!(series.max_ms(), 9);
    }

    #[test]
    fn nothing_is_kept_below_the_threshold() {
        let mut latency = Latency::default();
        latency.note(event::COMMAND, Duration::from_secs(10));
        assert_eq!(latency.all().len(), 0);
        latency.threshold_ms = 20;
        latency.note(event::COMMAND, Duration::from_micros(19_999));
        assert_eq!(latency.all().len(), 0);
        latency.note(event::COMMAND, Duration::from_millis(20));
        latency.note(event::FORK, Duration::from_millis(30));
        assert_eq!(latency.series(b"command").map(Series::max_ms), Some(20));
        let report = latency.report(i64::MAX / 2);
        assert!(report.contains("- fork: 1 latency spikes (average 30 ms"), "{report}");
        assert!(report.contains("child process"), "{report}");
        assert_eq!(latency.reset(Some(b"nosuch")), 0);
        assert_eq!(latency.reset(Some(b"Fork")), 1);
        assert_eq!(latency.reset(None), 1);
        assert_eq!(latency.report(0), "No wait of 20 ms or more was seen.\n");
    }

    #[test]
    fn a_picture() {
        let mut series = Series::default();
        for (at_s, ms) in [(1, 30), (2, 50), (3, 100), (5, 25), (3598, 80)] {
            series.add(at_s, ms);
        }
        assert_eq!(
            series.graph("command", 3605),
            format!(
                "command - high 100 ms, low 25 ms (all time high 100 ms)\n{}\n{}",
                "-".repeat(80),
                "  #  \n  | #\n o| |\n_||_|\n     \n11117\nhhhhs\n"
            )
        );
        let mut one = Series::default();
        one.add(1, 7);
        assert!(one.graph("x", 0).ends_with("-\n \n \n \n_\n \n0\ns\n"));
    }

    #[test]
    fn ages() {
        for (seconds, text) in [(-1, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (200_000, "2d")] {
            assert_eq!(age(seconds), text);
        }
    }
}
