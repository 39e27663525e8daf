//! The timer: tasks that run `hz` times per second, or less often.

use std::time::Duration;

use crate::keyspace::expire::Cycle;
use crate::server::Server;
use crate::server::event_loop::Unfinished;
use crate::server::execution::admission::Conditions;
use crate::stats::latency::event;
use crate::stdx::{alloc, clock};

impl Server {
    /// Time between two runs of the timer.
    pub(in crate::server) fn tick(&self) -> Duration {
        Duration::from_millis(1000 / self.config.advanced.hz.clamp(1, 500) as u64)
    }

    pub(in crate::server) fn until_cron(&self) -> Duration {
        let tick = match self.event_loop.next_cron_ns.saturating_sub(self.event_loop.ended_ns) {
            _ if self.event_loop.unfinished != Unfinished::NONE || self.expire.goes_on() => Duration::ZERO,
            ns => Duration::from_nanos(ns),
        };
        let tick = self.defragment.until_due(self.event_loop.ended_ns).map_or(tick, |due| due.min(tick));
        self.pause.until_end().map_or(tick, |pause| pause.min(tick))
    }

    pub(in crate::server) fn cron_if_due(&mut self) {
        let now = self.event_loop.ended_ns;
        if self.defragment.is_due(now) {
            self.defragment_some();
        }
        if now < self.event_loop.next_cron_ns {
            return;
        }
        let tick = self.tick();
        self.event_loop.next_cron_ns = now + tick.as_nanos() as u64;
        if self.event_loop.cron_paused {
            return;
        }
        self.event_loop.cron_ticks += 1;
        self.event_loop.stopwatch.adjust();
        let started = clock::monotonic_ns();
        self.cron(tick);
        self.event_loop.ended_ns = clock::monotonic_ns();
        let lasted = self.event_loop.ended_ns - started;
        self.stats.cron_ns += lasted;
        self.stats.loop_ns += lasted;
    }

    fn cron(&mut self, tick: Duration) {
        let used = alloc::used();
        self.stats.peak_memory = self.stats.peak_memory.max(used);
        let now_us = clock::monotonic_us();
        self.count_threads();
        let stats = &mut self.stats;
        // Rates are per second; the time base is in microseconds.
        stats.rates.commands.sample(stats.commands_processed, now_us, 1_000_000);
        stats.rates.net_input.sample(stats.net_input_bytes, now_us, 1_000_000);
        stats.rates.net_output.sample(stats.net_output_bytes, now_us, 1_000_000);
        stats.rates.loop_turns.sample(stats.loop_turns, now_us, 1_000_000);
        stats.rates.loop_us.sample(stats.loop_ns / 1000, stats.loop_turns, 1);
        self.report_if_wanted();
        self.watch_keys();
        self.visit_clients();
        self.supervise_child();
        self.supervise_aof();
        self.replication_cron();
        self.sentinel_cron();
        self.cluster_cron();
        self.targets.release_idle();
        self.drop_late_arrivals();
        self.reload_tls_if_due();
        self.save_if_due();
        self.expire_cycle(Cycle::Slow { tick });
        self.supervise_defragmentation();
        self.resume_walks();
        self.count_some_key_sizes();
        if self.conditions.has(Conditions::TRACKING_FULL) {
            self.limit_tracked();
        }
        // During loading, tables have capacity for the keys still to come, which must not be released.
        if self.config.advanced.active_rehashing && self.persistence.loading.is_none() {
            for db in 0..self.keyspace.databases().len() {
                if self.keyspace.database_mut(db).rehash_for(Duration::from_millis(1)) {
                    break;
                }
            }
        }
    }

    pub(in crate::server) fn fast_expire_cycle(&mut self) {
        self.expire_cycle(Cycle::Fast);
    }

    fn expire_cycle(&mut self, cycle: Cycle) {
        let before = self.keyspace.stats.expire_cycle_us;
        self.expire.run(&mut self.keyspace, cycle, self.config.memory.active_expire_effort as u32);
        self.keyspace.expire_own();
        let spent = Duration::from_micros(self.keyspace.stats.expire_cycle_us - before);
        self.stats.latency.note(event::EXPIRE_CYCLE, spent);
        self.note_removals();
        self.propagate_by_itself();
    }
}
