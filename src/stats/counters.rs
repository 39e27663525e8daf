//! The server's counters, as `INFO` prints them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::latency::Latency;
use super::slowlog::CommandLogs;
use crate::stdx::{alloc, clock, process};

/// What is known about one command's calls.
#[derive(Default, Clone)]
pub struct CommandStats {
    pub calls: u64,
    pub ns: u64,
    /// Refused before the handler ran.
    pub rejected: u64,
    /// The handler answered with an error.
    pub failed: u64,
    pub latency: Option<Histogram>,
}

impl CommandStats {
    /// Notes one call.
    #[inline]
    pub fn called(&mut self, ns: u64, track_latency: bool) {
        self.calls += 1;
        self.ns += ns;
        if track_latency {
            self.latency.get_or_insert_default().add(ns);
        }
    }

    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        self.calls == 0 && self.rejected == 0 && self.failed == 0
    }
}

/// At most this many error codes are counted one by one.
const MAX_ERROR_CODES: usize = 128;

/// What the allocator and the system say about memory, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub struct MemorySample {
    /// Bytes handed out, as the allocator counts them.
    pub allocated: usize,
    /// Bytes of pages with something in them.
    pub active: usize,
    /// Bytes of pages that the allocator holds.
    pub resident: usize,
    /// What the system counts for the process.
    pub rss: usize,
}

/// The last [`MemorySample`]: asking anew takes longer than everything else that `INFO` tells.
#[derive(Default)]
pub struct MemorySampler(Cell<Option<(Instant, MemorySample)>>);

impl MemorySampler {
    /// How long a sample is good for.
    const FRESH: Duration = Duration::from_millis(100);

    /// The last sample, or a new one if that is a tenth of a second old.
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

/// Counters since the start or `CONFIG RESETSTAT`.
#[derive(Default)]
pub struct Stats {
    /// By place in the command table.
    pub commands: Vec<CommandStats>,
    pub connections_received: u64,
    pub connections_rejected: u64,
    pub commands_processed: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    pub reads: u64,
    pub writes: u64,
    pub query_buffer_limit_disconnections: u64,
    pub output_buffer_limit_disconnections: u64,
    pub unexpected_errors: u64,
    pub error_replies: u64,
    pub errors: BTreeMap<Box<[u8]>, u64>,
    pub errors_disabled: bool,
    /// Clients closed because all together took too much memory.
    pub evicted_clients: u64,
    /// How often a client's buffer for replies was made smaller, and larger.
    pub reply_buffer_shrinks: u64,
    pub reply_buffer_expands: u64,
    /// Microseconds above the memory limit, up to when it last sufficed.
    short_us: u64,
    /// Since when (by the monotonic clock) memory is short.
    short_since_us: Option<u64>,
    pub peak_memory: usize,
    pub memory: MemorySampler,
    pub loop_turns: u64,
    pub loop_ns: u64,
    /// The longest turn.
    pub loop_ns_max: u64,
    /// Most commands run in one turn.
    pub loop_commands_max: u64,
    /// Time spent on what the clock demands.
    pub cron_ns: u64,
    pub rates: Rates,
    pub logs: CommandLogs,
    pub latency: Latency,
    pub thresholds: Thresholds,
}

/// From where on a command is remembered. What is switched off is never reached.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Run time for the slow log.
    pub slow_ns: u64,
    /// Run time for the slow log or the latency monitor, whichever is shorter.
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

    /// Starts counting anew. What was noted of single commands and waits stays.
    pub fn reset(&mut self) {
        *self = Stats {
            peak_memory: self.peak_memory,
            logs: std::mem::take(&mut self.logs),
            latency: std::mem::take(&mut self.latency),
            thresholds: self.thresholds,
            ..Stats::new(self.commands.len())
        };
    }

    /// Memory is above its limit, and could not be made less at once.
    pub fn memory_was_short(&mut self) {
        self.short_since_us.get_or_insert_with(clock::monotonic_us);
    }

    /// Memory is below its limit. One test as long as it always is.
    #[inline]
    pub fn memory_sufficed(&mut self) {
        if let Some(since) = self.short_since_us.take() {
            self.short_us += clock::monotonic_us().saturating_sub(since);
        }
    }

    /// Milliseconds above the memory limit: in all, up to when it last sufficed, and since then.
    pub fn short_of_memory_ms(&self) -> (u64, u64) {
        let now = self.short_since_us.map_or(0, |since| clock::monotonic_us().saturating_sub(since));
        (self.short_us / 1000, now / 1000)
    }

    /// Counts a turn of the event loop that took `ns` and began when `commands_before` commands had been run.
    #[inline]
    pub fn turn_ended(&mut self, ns: u64, commands_before: u64) {
        self.loop_turns += 1;
        self.loop_ns += ns;
        self.loop_ns_max = self.loop_ns_max.max(ns);
        // The counter may have been reset meanwhile.
        let commands = self.commands_processed.saturating_sub(commands_before);
        self.loop_commands_max = self.loop_commands_max.max(commands);
    }

    /// Counts an error reply by its code.
    #[cold]
    pub fn error(&mut self, code: &[u8]) {
        self.error_replies += 1;
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else if self.errors.len() < MAX_ERROR_CODES && !self.errors_disabled {
            self.errors.insert(code.into(), 1);
        } else if !self.errors_disabled {
            // Whoever invents error codes would otherwise make this grow without bound.
            self.errors_disabled = true;
            self.errors.clear();
            self.errors.insert(Box::from(&b"ERRORSTATS_DISABLED"[..]), 1);
        }
    }
}

const SAMPLES: usize = 16;

/// Rates over the last 16 samples, a sample every 100 ms.
#[derive(Default)]
pub struct Rates {
    pub commands: Rate,
    pub net_input: Rate,
    pub net_output: Rate,
    /// Turns of the event loop.
    pub loop_turns: Rate,
    /// Microseconds of one turn.
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
    /// Notes that the counter is `value` when the base counter is `base`; remembers
    /// `factor × Δvalue ÷ Δbase`.
    pub fn sample(&mut self, value: u64, base: u64, factor: u64) {
        if self.last_base > 0 {
            let elapsed = base.saturating_sub(self.last_base);
            let grown = value.saturating_sub(self.last_value);
            self.samples[self.at] = (grown * factor).checked_div(elapsed).unwrap_or(0);
            self.at = (self.at + 1) % SAMPLES;
        }
        (self.last_base, self.last_value) = (base, value);
    }

    /// The average of the samples.
    pub fn get(&self) -> u64 {
        self.samples.iter().sum::<u64>() / SAMPLES as u64
    }
}
