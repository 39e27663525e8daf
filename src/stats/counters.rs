//! Counters of the server, as `INFO` prints them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::latency::Latency;
use super::slowlog::CommandLogs;
use crate::stdx::{alloc, clock, process};

/// Statistics of one command's calls.
#[derive(Default, Clone)]
pub struct CommandStats {
    /// Number of calls.
    pub calls: u64,
    /// Total run time in nanoseconds.
    pub ns: u64,
    /// Calls refused before the handler ran.
    pub rejected: u64,
    /// Calls to which the handler replied with an error.
    pub failed: u64,
    /// Distribution of run times, if it is recorded.
    pub latency: Option<Histogram>,
}

impl CommandStats {
    /// Counts a call that took `ns` nanoseconds.
    #[inline]
    pub fn called(&mut self, ns: u64, track_latency: bool) {
        self.calls += 1;
        self.ns += ns;
        if track_latency {
            self.latency.get_or_insert_default().add(ns);
        }
    }

    /// Whether there are no statistics.
    pub fn is_empty(&self) -> bool {
        self.calls == 0 && self.rejected == 0 && self.failed == 0
    }
}

/// Number of error codes counted separately.
const MAX_ERROR_CODES: usize = 128;

/// Memory statistics of the allocator and the operating system, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct MemorySample {
    /// Bytes allocated and not freed.
    pub allocated: usize,
    /// Bytes of pages that contain allocations.
    pub active: usize,
    /// Bytes of pages that the allocator has mapped.
    pub resident: usize,
    /// Resident set size of the process.
    pub rss: usize,
}

/// The last [`MemorySample`]. Taking a new one takes longer than all the rest of `INFO`.
#[derive(Default)]
pub struct MemorySampler(Cell<Option<(Instant, MemorySample)>>);

impl MemorySampler {
    /// How long a sample is used.
    const FRESH: Duration = Duration::from_millis(100);

    /// The last sample, or a new one if that is at least 100 ms old.
    pub fn sample(&self) -> MemorySample {
        let now = Instant::now();
        if let Some((taken, sample)) = self.0.get()
            && now.duration_since(taken) < Self::FRESH
        {
            return sample;
        }
        let [allocated, active, resident] =
            alloc::statistics([c"stats.allocated", c"stats.active", c"stats.resident"]);
        let sample = MemorySample { allocated, active, resident, rss: process::resident_memory() as usize };
        self.0.set(Some((now, sample)));
        sample
    }
}

/// Counters since the start of the server or `CONFIG RESETSTAT`.
#[derive(Default)]
pub struct Stats {
    /// Statistics of each command, by its index in the command table.
    pub commands: Vec<CommandStats>,
    /// Connections accepted.
    pub connections_received: u64,
    /// Connections refused because of `maxclients` or protected mode.
    pub connections_rejected: u64,
    /// Clients whose certificate named a user that does not exist or is disabled.
    pub denied_certificates: u64,
    /// Commands run.
    pub commands_processed: u64,
    /// Bytes received from clients.
    pub net_input_bytes: u64,
    /// Bytes sent to clients.
    pub net_output_bytes: u64,
    /// Receives from client sockets.
    pub reads: u64,
    /// Sends to client sockets.
    pub writes: u64,
    /// Receives by I/O threads, which are among `reads`.
    pub threaded_reads: u64,
    /// Sends by I/O threads, which are among `writes`.
    pub threaded_writes: u64,
    /// Clients closed because their input buffer exceeded its limit.
    pub query_buffer_limit_disconnections: u64,
    /// Clients closed because their output exceeded its limit.
    pub output_buffer_limit_disconnections: u64,
    /// Errors of requests that had succeeded before, here or on a primary: for example while a file is loaded.
    pub unexpected_errors: u64,
    /// Errors of requests, including those without a reply.
    pub error_replies: u64,
    /// Number of error replies by code.
    pub errors: BTreeMap<Box<[u8]>, u64>,
    /// Whether counting by code has stopped because there were too many codes.
    pub errors_disabled: bool,
    /// Clients closed because all clients together used too much memory.
    pub evicted_clients: u64,
    /// Number of times that a client's reply buffer was made smaller.
    pub reply_buffer_shrinks: u64,
    /// Number of times that a client's reply buffer was made larger.
    pub reply_buffer_expands: u64,
    /// Microseconds spent above the memory limit, without the current period.
    short_us: u64,
    /// Start of the current period above the memory limit, on the monotonic clock.
    short_since_us: Option<u64>,
    /// Highest memory usage in bytes.
    pub peak_memory: usize,
    /// Cached memory statistics.
    pub memory: MemorySampler,
    /// Turns of the event loop.
    pub loop_turns: u64,
    /// Total time of all turns in nanoseconds, without sleeping.
    pub loop_ns: u64,
    /// Nanoseconds of the longest turn.
    pub loop_ns_max: u64,
    /// Highest number of commands run in one turn.
    pub loop_commands_max: u64,
    /// Nanoseconds spent on timers.
    pub cron_ns: u64,
    /// Nanoseconds in which the loop wrote the append-only file or handed changes to the thread that does.
    pub aof_ns: u64,
    /// Recent rates.
    pub rates: Rates,
    /// Slow commands, large requests and large replies.
    pub logs: CommandLogs,
    /// Long waits by cause.
    pub latency: Latency,
    /// Thresholds from which commands are recorded.
    pub thresholds: Thresholds,
}

/// Thresholds from which a command is recorded. A disabled threshold is so high that it is never reached.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Run time in nanoseconds for the slow log.
    pub slow_ns: u64,
    /// Run time in nanoseconds for the slow log or the latency monitor, whichever is shorter.
    pub long_ns: u64,
    /// Bytes of a request.
    pub request: usize,
    /// Bytes of a reply.
    pub reply: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { slow_ns: u64::MAX, long_ns: u64::MAX, request: usize::MAX, reply: usize::MAX }
    }
}

impl Stats {
    /// Counters for a table of `commands` commands.
    pub fn new(commands: usize) -> Self {
        Stats { commands: vec![CommandStats::default(); commands], ..Stats::default() }
    }

    /// Resets the counters. The slow log, recorded waits and thresholds stay.
    pub fn reset(&mut self) {
        *self = Stats {
            peak_memory: self.peak_memory,
            logs: std::mem::take(&mut self.logs),
            latency: std::mem::take(&mut self.latency),
            thresholds: self.thresholds,
            ..Stats::new(self.commands.len())
        };
    }

    /// Notes that memory is above its limit and could not be reduced at once.
    pub fn memory_was_short(&mut self) {
        self.short_since_us.get_or_insert_with(clock::monotonic_us);
    }

    /// Notes that memory is below its limit. One test, unless it was above before.
    #[inline]
    pub fn memory_sufficed(&mut self) {
        if let Some(since) = self.short_since_us.take() {
            self.short_us += clock::monotonic_us().saturating_sub(since);
        }
    }

    /// Milliseconds spent above the memory limit: in all past periods, and in the current one.
    pub fn short_of_memory_ms(&self) -> (u64, u64) {
        let now = self.short_since_us.map_or(0, |since| clock::monotonic_us().saturating_sub(since));
        (self.short_us / 1000, now / 1000)
    }

    /// Counts a turn of the event loop that took `ns` nanoseconds and began when `commands_before` commands had been
    /// run.
    #[inline]
    pub fn turn_ended(&mut self, ns: u64, commands_before: u64) {
        self.loop_turns += 1;
        self.loop_ns += ns;
        self.loop_ns_max = self.loop_ns_max.max(ns);
        // The counter may have been reset during the turn.
        let commands = self.commands_processed.saturating_sub(commands_before);
        self.loop_commands_max = self.loop_commands_max.max(commands);
    }

    /// Counts an error reply by its code. O(log codes).
    #[cold]
    pub fn error(&mut self, code: &[u8]) {
        self.error_replies += 1;
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < MAX_ERROR_CODES && !self.errors_disabled {
            self.errors.insert(code.into(), 1);
        } else if !self.errors_disabled {
            // A client that makes up error codes must not make this map grow without bound.
            self.errors_disabled = true;
            self.errors.clear();
            self.errors.insert(Box::from(&b"ERRORSTATS_DISABLED"[..]), 1);
        }
    }
}

const SAMPLES: usize = 16;

/// Averages of the last 16 samples, taken every 100 ms.
#[derive(Default)]
pub struct Rates {
    /// Commands per second.
    pub commands: Rate,
    /// Bytes received per second.
    pub net_input: Rate,
    /// Bytes sent per second.
    pub net_output: Rate,
    /// Turns of the event loop per second.
    pub loop_turns: Rate,
    /// Microseconds per turn.
    pub loop_us: Rate,
}

/// The rate of one growing counter.
#[derive(Default)]
pub struct Rate {
    samples: [u64; SAMPLES],
    at: usize,
    last_base: u64,
    last_value: u64,
}

impl Rate {
    /// Records `factor × Δvalue ÷ Δbase`, where `value` and `base` are the current values of the counter and of what
    /// it is measured against.
    pub fn sample(&mut self, value: u64, base: u64, factor: u64) {
        if self.last_base > 0 {
            let elapsed = base.saturating_sub(self.last_base);
            let grown = value.saturating_sub(self.last_value);
            self.samples[self.at] = (grown * factor).checked_div(elapsed).unwrap_or(0);
            self.at = (self.at + 1) % SAMPLES;
        }
        (self.last_base, self.last_value) = (base, value);
    }

    /// Average of the samples.
    pub fn get(&self) -> u64 {
        self.samples.iter().sum::<u64>() / SAMPLES as u64
    }
}
