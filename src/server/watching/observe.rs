//! Records of single commands: slow ones, those with large requests or replies, and the latency events they caused.
//!
//! For an ordinary command this costs a few comparisons; a record that is switched off has a threshold that no
//! command reaches.

use std::time::Duration;

use crate::clients::ClientKey;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Flags, Spec};
use crate::stats::counters::Thresholds;
use crate::stats::latency::event;
use crate::stats::slowlog::{LogKind, Noted};

/// Measurements of a command that has run.
#[derive(Clone, Copy)]
pub(in crate::server) struct Ran {
    /// Run time in nanoseconds.
    pub ns: u64,
    /// Size of the reply in bytes.
    pub reply: usize,
}

impl Server {
    /// Records a command that has ended, if it exceeds a threshold.
    #[inline(always)]
    pub(in crate::server) fn observe(
        &mut self,
        key: ClientKey,
        spec: &'static Spec,
        args: &Args<'_>,
        ran: Ran,
    ) {
        let (bytes, _, large) = args.parts();
        let limits = &self.stats.thresholds;
        let remarkable = ran.ns >= limits.long_ns
            || ran.reply >= limits.reply
            || bytes.len() >= limits.request
            || !large.is_empty() && limits.request < usize::MAX;
        if remarkable {
            self.remember(key, spec, args, ran);
        }
        self.note_removals();
    }

    /// Records deletions of keys that took long to free as latency events, if these are recorded.
    #[inline]
    pub(in crate::server) fn note_removals(&mut self) {
        let removals = &mut self.keyspace.removals;
        if removals.timed {
            self.stats.latency.note(event::EXPIRE_DEL, std::mem::take(&mut removals.expired));
            self.stats.latency.note(event::EVICTION_DEL, std::mem::take(&mut removals.evicted));
        }
    }

    #[cold]
    fn remember(&mut self, key: ClientKey, spec: &'static Spec, args: &Args<'_>, ran: Ran) {
        let cause = if spec.flags.has(Flags::FAST) { event::FAST_COMMAND } else { event::COMMAND };
        self.stats.latency.note(cause, Duration::from_nanos(ran.ns));
        if self.cluster.as_ref().is_some_and(|cluster| cluster.slot_stats.is_some()) {
            self.count_slot(key, spec, args, ran);
        }
        if self.counts_keys() {
            self.count_hot_keys(key, spec, args, ran);
        }
        if spec.flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let client = &self.clients[key];
        let (bytes, _, large) = args.parts();
        let request = bytes.len() + large.iter().map(|large| large.len() + 2).sum::<usize>();
        let (limits, options) = (self.stats.thresholds, &self.config.logs);
        let logs = [
            (LogKind::Slow, ran.ns >= limits.slow_ns, ran.ns / 1000, options.slowlog_max_len),
            (LogKind::LargeRequest, request >= limits.request, request as u64, options.large_request_max_len),
            (LogKind::LargeReply, ran.reply >= limits.reply, ran.reply as u64, options.large_reply_max_len),
        ];
        if logs.iter().all(|(_, passed, ..)| !passed) {
            return;
        }
        let noted = Noted {
            now: self.keyspace.now(),
            args: &spec.shown(args),
            address: &client.io.peer.addr(),
            name: &client.names.name,
        };
        for (kind, passed, value, most) in logs {
            if passed {
                self.stats.logs.of_mut(kind).push(value, &noted, entries(most));
            }
        }
    }

    /// Whether requests are counted by key: for HOTKEYS, or for who looks at the page.
    fn counts_keys(&self) -> bool {
        self.hot_keys.as_ref().is_some_and(|found| found.is_active()) || self.watches_keys()
    }

    /// Applies the configured thresholds, and shortens the logs to their configured lengths.
    pub(in crate::server) fn apply_thresholds(&mut self) {
        let options = &self.config.logs;
        let bytes = |limit: i64| usize::try_from(limit).unwrap_or(usize::MAX);
        let slow_ns =
            u64::try_from(options.slowlog_slower_than_us).map_or(u64::MAX, |us| us.saturating_mul(1000));
        let wait_ns = match options.latency_monitor_threshold_ms {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.apply_slot_stats();
        let options = &self.config.logs;
        let counts_slots = self.cluster.as_ref().is_some_and(|cluster| cluster.slot_stats.is_some());
        let counts_keys = self.counts_keys();
        self.stats.thresholds = Thresholds {
            slow_ns,
            // While costs are counted by slot or key, every command counts.
            long_ns: if counts_slots || counts_keys { 0 } else { slow_ns.min(wait_ns) },
            request: bytes(options.large_request_bytes),
            reply: bytes(options.large_reply_bytes),
        };
        self.stats.latency.threshold_ms = options.latency_monitor_threshold_ms;
        self.keyspace.removals.timed = self.stats.latency.is_on();
        for (kind, most) in [
            (LogKind::Slow, options.slowlog_max_len),
            (LogKind::LargeRequest, options.large_request_max_len),
            (LogKind::LargeReply, options.large_reply_max_len),
        ] {
            self.stats.logs.of_mut(kind).limit(entries(most));
        }
    }
}

/// Converts a configured number of log entries.
fn entries(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}
