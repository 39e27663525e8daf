//! What the server tells of itself to programs that watch it: metrics in the text format of Prometheus, and the same
//! numbers as JSON for the page that draws them.
//!
//! Everything is made from a [`Snapshot`]: the text of INFO, which [`table`] explains field by field, and what INFO
//! leaves out. A snapshot owns its data, so that another thread than the server's can turn it into text.

mod json;
mod prometheus;
pub mod table;

pub use json::json;
pub use prometheus::exposition;

use super::counters::CommandStats;
use super::slowlog::Entry;

/// Exponents of the limits of the histograms, which are powers of two in nanoseconds: from 1 µs to 8.6 s.
const BOUNDS: std::ops::RangeInclusive<u32> = 10..=33;

/// Number of limits.
const LIMITS: usize = (*BOUNDS.end() - *BOUNDS.start() + 1) as usize;

/// Slow commands in a snapshot.
const SLOW: usize = 20;

/// What is known of the server at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// All sections of INFO.
    pub info: String,
    /// Run times of each command that was called.
    pub latencies: Vec<CommandLatency>,
    /// The latest slow commands, newest first.
    pub slow: Vec<SlowCommand>,
    /// Hot and big keys, if they may be told.
    pub keys: Option<KeysReport>,
}

/// What is known of hot and big keys.
#[derive(Debug)]
pub struct KeysReport {
    /// Keys that cost most in the last seconds, those first that cost most.
    pub hot: Vec<HotKey>,
    /// Keys that take most memory, the biggest first.
    pub big: Vec<BigKey>,
    /// Part of all keys that was searched for big ones.
    pub seen: f64,
}

/// A hot key.
#[derive(Debug)]
pub struct HotKey {
    /// Its name, for people.
    pub name: String,
    /// Its part of the run time of all requests.
    pub of_time: f64,
    /// Its part of the bytes of all requests and replies.
    pub of_bytes: f64,
}

/// A big key.
#[derive(Debug)]
pub struct BigKey {
    /// Its name, for people.
    pub name: String,
    /// Number of its database.
    pub db: usize,
    /// Type of its value.
    pub kind: &'static str,
    /// Bytes of its entry and value; an estimate for a collection.
    pub bytes: u64,
    /// Number of elements, unless it is a string.
    pub elements: Option<u64>,
}

/// Run times of a command.
#[derive(Debug)]
pub struct CommandLatency {
    /// Name of the command.
    name: &'static str,
    /// Calls that took no longer than each limit.
    counts: [u64; LIMITS],
    /// Number of calls.
    total: u64,
    /// Time of all of them in nanoseconds.
    sum_ns: u64,
}

impl CommandLatency {
    /// The run times in `stats`; `None` if none were recorded. O(buckets of a histogram).
    pub fn of(name: &'static str, stats: &CommandStats) -> Option<CommandLatency> {
        let histogram = stats.latency.as_ref()?;
        let mut counts = [0; LIMITS];
        for (count, up_to) in counts.iter_mut().zip(histogram.up_to(BOUNDS)) {
            *count = up_to;
        }
        let total = histogram.total();
        // Recording may have been switched on later than counting.
        let share = u128::from(stats.ns) * u128::from(total) / u128::from(stats.calls.max(1));
        Some(CommandLatency { name, counts, total, sum_ns: share.min(u128::from(stats.ns)) as u64 })
    }
}

/// A slow command, without its arguments: they are data, and whoever reads this has shown no password.
#[derive(Debug)]
pub struct SlowCommand {
    id: u64,
    at_s: i64,
    us: u64,
    name: String,
    /// Number of arguments that were kept of it, without the name.
    args: usize,
}

/// The latest of `entries`, which begin with the newest.
pub fn latest_slow<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<SlowCommand> {
    let told = |entry: &Entry| SlowCommand {
        id: entry.id,
        at_s: entry.at_s,
        us: entry.value,
        name: entry
            .args
            .first()
            .map_or_else(String::new, |name| String::from_utf8_lossy(name).to_lowercase()),
        args: entry.args.len().saturating_sub(1),
    };
    entries.take(SLOW).map(told).collect()
}

/// The lines of INFO as pairs of name and value.
fn fields(info: &str) -> impl Iterator<Item = (&str, &str)> {
    info.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'))
}

/// The fields of a value such as `keys=1,expires=0`.
fn parts(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(',').filter_map(|part| part.split_once('='))
}
