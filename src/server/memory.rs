//! Memory limits: which memory counts, how much may be used, and what happens above the limit.
//!
//! There are two limits, both off by default and then without cost. `maxmemory` limits all memory that counts:
//! above it, keys are evicted before a command runs, for a bounded time, and further between iterations of the
//! event loop. If no key may be evicted, commands that take memory are refused. `maxmemory-clients` limits the
//! buffers of connections: above it, the connections with the largest buffers are closed.
//!
//! Clients are closed first, so that keys need not make up for memory that this frees.

use std::time::{Duration, Instant};

use crate::clients::{ClientFlags, ClientKey, ClientKind};
use crate::config::value::EvictionPolicy;
use crate::keyspace::evict::{Order, Policy, Scope};
use crate::server::Server;
use crate::server::command::{CommandId, Flags};
use crate::server::event_loop::Unfinished;
use crate::server::execution::admission::Conditions;
use crate::stats::latency::event;
use crate::stats::log::limited;
use crate::stdx::alloc;

/// Keys evicted between two readings of the clock.
const KEYS_PER_LOOK: usize = 16;

/// Outcome of an attempt to free memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    /// Memory is below the limit, or the limit does not apply now.
    Enough,
    /// The time was up; more keys will be evicted later.
    Making,
    /// Memory is above the limit, and no key may be evicted.
    None,
}

/// The keyspace's policy for a configured one; `None` for `noeviction`.
pub(in crate::server) fn policy(policy: EvictionPolicy) -> Option<Policy> {
    let (scope, order) = match policy {
        EvictionPolicy::NoEviction => return None,
        EvictionPolicy::AllkeysLru | EvictionPolicy::AllkeysLrm => (Scope::All, Order::LeastRecent),
        EvictionPolicy::AllkeysLfu => (Scope::All, Order::LeastFrequent),
        EvictionPolicy::AllkeysRandom => (Scope::All, Order::Random),
        EvictionPolicy::VolatileLru | EvictionPolicy::VolatileLrm => (Scope::Volatile, Order::LeastRecent),
        EvictionPolicy::VolatileLfu => (Scope::Volatile, Order::LeastFrequent),
        EvictionPolicy::VolatileRandom => (Scope::Volatile, Order::Random),
        EvictionPolicy::VolatileTtl => (Scope::Volatile, Order::FirstToExpire),
    };
    Some(Policy { scope, order })
}

/// Time limit of one eviction attempt, from `maxmemory-eviction-tenacity`; `None` for no limit.
///
/// Up to 10, the limit is 50 µs per step, so half a millisecond by default; above, it grows by 15% per step, up to
/// two minutes.
fn time_limit(tenacity: u8) -> Option<Duration> {
    match tenacity {
        0..=10 => Some(Duration::from_micros(50 * u64::from(tenacity))),
        11..=99 => Some(Duration::from_micros((500.0 * 1.15f64.powi(i32::from(tenacity) - 10)) as u64)),
        _ => None,
    }
}

impl Server {
    /// Bytes in use that `maxmemory` does not count: buffers that shrink by themselves, and that grow by the very
    /// deletions that free memory. Evicting keys because of such buffers would never end.
    ///
    /// These are the output waiting for the append-only file, and the stream that waits for slow replicas.
    pub fn memory_not_counted(&self) -> usize {
        self.aof.log.buf.capacity() + self.replica_memory()
    }

    /// Bytes above `maxmemory`, if any, that are not about to be freed. Costs a few loads while memory is below.
    #[inline]
    fn excess(&self) -> Option<usize> {
        let limit = usize::try_from(self.config.memory.maxmemory).unwrap_or(usize::MAX);
        let used = alloc::used();
        if used <= limit || limit == 0 {
            return None;
        }
        let later = self.memory_not_counted() + self.keyspace.reclaimer.pending_bytes();
        used.checked_sub(later)?.checked_sub(limit).filter(|&excess| excess > 0)
    }

    /// Whether keys may be evicted now: not during loading or a pause, when the data must not change, and not from a
    /// copy, whose original sees to that.
    fn may_evict(&self) -> bool {
        let copy = self.replication.is_replica() && self.config.replication.ignore_maxmemory;
        !copy && !self.conditions.has(Conditions::LOADING.with(Conditions::PAUSED_WRITES))
    }

    /// Whether a command must be refused for lack of memory. Evicts keys first.
    #[inline]
    pub(in crate::server) fn lacks_memory(&mut self, key: ClientKey, flags: Flags) -> bool {
        self.scripts.memory_is_short = self.free_memory() == Room::None;
        let refused = self.scripts.memory_is_short && self.takes_memory(key, flags);
        if refused {
            self.advise_on_memory();
        }
        refused
    }

    /// Whether a command takes memory, itself or through the commands queued for it.
    #[cold]
    fn takes_memory(&self, key: ClientKey, flags: Flags) -> bool {
        if flags.has(Flags::DENYOOM) {
            return true;
        }
        let denied = |(command, args): (u16, _)| {
            self.flags_of(self.commands.spec(CommandId(command)), &args).has(Flags::DENYOOM)
        };
        let transaction = self.clients[key].transaction.as_ref().filter(|_| flags.has(Flags::ENDS_MULTI));
        transaction.is_some_and(|kept| kept.iter().any(denied))
    }

    #[inline]
    fn free_memory(&mut self) -> Room {
        let room = match self.excess() {
            None => Room::Enough,
            Some(excess) => self.evict_for(excess),
        };
        if room == Room::Enough {
            self.stats.memory_sufficed();
        } else {
            self.stats.memory_was_short();
        }
        room
    }

    /// Evicts keys to free `excess` bytes, if any may be evicted, and records how long that took.
    #[cold]
    fn evict_for(&mut self, excess: usize) -> Room {
        if !self.may_evict() {
            return Room::Enough;
        }
        if self.keyspace.evictor.policy().is_none() {
            return Room::None;
        }
        let started = Instant::now();
        let room = self.evict_keys(excess, started);
        self.stats.latency.note(event::EVICTION_CYCLE, started.elapsed());
        self.note_removals();
        room
    }

    /// Evicts keys until `excess` bytes are free or the time, counted from `started`, is up.
    fn evict_keys(&mut self, excess: usize, started: Instant) -> Room {
        let limit = time_limit(self.config.memory.eviction_tenacity);
        let late = || limit.is_some_and(|limit| started.elapsed() > limit);
        let samples = self.config.memory.samples as usize;
        let mut freed = 0;
        for evicted in 1.. {
            let Some(bytes) = self.keyspace.evict(samples) else { break };
            if evicted == 1 {
                self.advise_on_eviction();
            }
            self.propagate_by_itself();
            freed += bytes;
            if freed >= excess {
                return Room::Enough;
            }
            if evicted % KEYS_PER_LOOK == 0 {
                // `freed` lacks the memory that another thread frees.
                if self.excess().is_none() {
                    return Room::Enough;
                }
                if late() {
                    self.event_loop.unfinished.set(Unfinished::EVICTION, true);
                    return Room::Making;
                }
            }
        }
        // No key is left to evict, but a background thread may still be freeing memory.
        while self.keyspace.reclaimer.pending() > 0 && !late() {
            if self.excess().is_none() {
                return Room::Enough;
            }
            std::thread::sleep(limit.unwrap_or(Duration::MAX).min(Duration::from_millis(1)));
        }
        match self.excess() {
            Some(excess) if !self.is_tolerable(excess) => Room::None,
            _ => Room::Enough,
        }
    }

    /// Whether more memory than allowed may be used because protected keys cannot be evicted: up to a quarter more.
    fn is_tolerable(&self, excess: usize) -> bool {
        excess as u64 <= self.config.memory.maxmemory / 4 && self.keyspace.protected() > 0
    }

    /// Continues an eviction that ran out of time, and walks through all keys. One test if there are none.
    #[inline]
    pub(in crate::server) fn continue_unfinished(&mut self) {
        if self.event_loop.unfinished != Unfinished::NONE {
            self.continue_eviction_or_walk();
        }
    }

    #[cold]
    fn continue_eviction_or_walk(&mut self) {
        if self.event_loop.unfinished.has(Unfinished::EVICTION) {
            self.event_loop.unfinished.set(Unfinished::EVICTION, false);
            self.free_memory();
        }
        if self.event_loop.unfinished.has(Unfinished::WALKS) {
            self.walk_on();
        }
    }

    /// Applies a changed `maxmemory`: eviction begins at the end of this iteration of the event loop.
    pub(in crate::server) fn maxmemory_changed(&mut self) {
        let limit = self.config.memory.maxmemory;
        if limit == 0 {
            self.stats.memory_sufficed();
            return;
        }
        let used = alloc::used().saturating_sub(self.memory_not_counted());
        if limit < used as u64 {
            tracing::warn!(
                "WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory \
                 usage ({used}). This will result in key eviction and/or the inability to accept new write commands \
                 depending on the maxmemory-policy."
            );
        }
        self.event_loop.unfinished.set(Unfinished::EVICTION, true);
    }

    // ---- clients --------------------------------------------------------------------------

    /// Updates the memory of a client in the total, if that is limited.
    #[inline]
    pub(in crate::server) fn count_client(&mut self, key: ClientKey) {
        if self.conditions.has(Conditions::CLIENT_MEMORY) {
            self.clients.count_memory(key, self.keyspace.now());
        }
    }

    /// Closes the clients with the most memory while all clients together exceed their limit.
    #[inline]
    pub(in crate::server) fn evict_clients(&mut self) {
        if self.conditions.has(Conditions::CLIENT_MEMORY) {
            let memory = &self.config.memory;
            let limit = memory.maxmemory_clients.bytes(memory.maxmemory);
            let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            while self.clients_use() > limit && self.evict_client() {}
        }
    }

    /// Bytes of the clients that `maxmemory-clients` counts.
    #[inline]
    fn clients_use(&self) -> usize {
        let memory = &self.clients.memory;
        memory.of(ClientKind::Normal) + memory.of(ClientKind::PubSub)
    }

    /// Closes one of the largest clients; false if none may be closed.
    #[cold]
    fn evict_client(&mut self) -> bool {
        let Some(key) = self.clients.memory.largest() else {
            limited!(warn, "Over client maxmemory after evicting all evictable clients");
            return false;
        };
        if self.clients[key].flags.has(ClientFlags::AWAY) {
            self.summon_all();
        }
        limited!(info, "Evicting client: {}", self.client_line(key));
        self.stats.evicted_clients += 1;
        self.close_soon(key);
        self.discard_output(key);
        self.clients.uncount_memory(key);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_grow_with_tenacity() {
        assert_eq!(time_limit(0), Some(Duration::ZERO));
        assert_eq!(time_limit(1), Some(Duration::from_micros(50)));
        assert_eq!(time_limit(10), Some(Duration::from_micros(500)));
        let limits: Vec<_> =
            (0..100).map(|tenacity| time_limit(tenacity).expect("there is a limit")).collect();
        assert!(limits.is_sorted());
        assert!((100..130).contains(&limits[99].as_secs()), "{:?}", limits[99]);
        assert_eq!(time_limit(100), None);
    }
}
