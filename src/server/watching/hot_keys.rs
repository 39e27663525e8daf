//! Which keys cost most: processor time and bytes of requests and replies, by key (`HOTKEYS`).
//!
//! While nobody wants to know, this costs nothing: every request is remarkable only while somebody does (see
//! [`observe`](super::observe)).
//!
//! A transaction counts by its requests, a script as one request on the keys that it is given. The cost of a request
//! on several keys is divided among them.

use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::slot::Slot;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Flags, Spec};
use crate::server::execution::Origin;
use crate::server::execution::redirect::slot_of;
use crate::server::watching::observe::Ran;
use crate::stats::space_saving::SpaceSaving;
use crate::stdx::clock::UnixMillis;
use crate::stdx::process::{self, CpuTime, Who};

/// Counters for each key that is to be listed, so that rare keys do not disturb the frequent ones.
const COUNTERS_PER_KEY: usize = 8;

/// Longer keys are not listed: what is remembered is bounded.
pub(super) const LONGEST_KEY: usize = 65_536;

/// One in so many requests is looked at for the page with charts.
const RATIO_FOR_PAGE: u64 = 8;

/// What is to be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The keys that take most processor time.
    pub cpu: bool,
    /// The keys with most bytes of requests and replies.
    pub net: bool,
    /// How many keys are listed.
    pub keys: usize,
    /// Seconds until it ends by itself; 0 for never.
    pub seconds: u64,
    /// One in so many requests is looked at.
    pub ratio: u64,
    /// Only keys in these slots count, in order; none given: all.
    pub slots: Vec<Slot>,
}

/// Sums over requests.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Run time in nanoseconds.
    pub ns: u64,
    /// Bytes of requests and replies.
    pub bytes: u64,
}

impl Cost {
    fn add(&mut self, other: Cost) {
        self.ns += other.ns;
        self.bytes += other.bytes;
    }
}

/// Processor time of the process and bytes of all connections, up to a moment.
#[derive(Clone, Copy)]
struct Usage {
    at: UnixMillis,
    cpu: CpuTime,
    net: u64,
}

/// What has been found out.
pub struct HotKeys {
    /// What is to be found out.
    pub wanted: Wanted,
    /// Sums of processor time in nanoseconds by key, if they are wanted.
    pub cpu: Option<SpaceSaving>,
    /// Sums of bytes by key, if they are wanted.
    pub net: Option<SpaceSaving>,
    /// All requests.
    pub all: Cost,
    /// Requests on keys in the slots that count.
    pub selected: Cost,
    /// Those among them that were looked at.
    pub sampled: Cost,
    began: Usage,
    ended: Option<Usage>,
}

/// Sums over a time.
pub struct Elapsed {
    /// Time of the begin.
    pub began: UnixMillis,
    /// Length in milliseconds.
    pub ms: u64,
    /// Processor time of the process.
    pub cpu: CpuTime,
    /// Bytes received from clients and sent to them.
    pub net: u64,
}

impl HotKeys {
    fn new(wanted: Wanted, began: Usage) -> HotKeys {
        let sketch = |wanted_too: bool| wanted_too.then(|| SpaceSaving::new(wanted.keys * COUNTERS_PER_KEY));
        HotKeys {
            cpu: sketch(wanted.cpu),
            net: sketch(wanted.net),
            wanted,
            all: Cost::default(),
            selected: Cost::default(),
            sampled: Cost::default(),
            began,
            ended: None,
        }
    }

    /// Whether requests are still counted.
    pub fn is_active(&self) -> bool {
        self.ended.is_none()
    }

    /// When it ends by itself.
    fn ends(&self) -> Option<UnixMillis> {
        let ms = self.wanted.seconds.saturating_mul(1000);
        (ms > 0).then(|| UnixMillis(self.began.at.0.saturating_add_unsigned(ms)))
    }

    /// Counts a request with the keys `keys`, whose slot is `slot`. Whether it is looked at, if its slot counts, is
    /// decided by `look`.
    fn count(&mut self, cost: Cost, slot: Option<Slot>, keys: &[&[u8]], look: impl FnOnce() -> bool) {
        self.all.add(cost);
        let slots = &self.wanted.slots;
        if !slots.is_empty() && slot.is_none_or(|slot| slots.binary_search(&slot).is_err()) {
            return;
        }
        self.selected.add(cost);
        if !look() {
            return;
        }
        self.sampled.add(cost);
        for key in keys.iter().filter(|key| key.len() <= LONGEST_KEY) {
            for (sketch, weight) in [(&mut self.cpu, cost.ns), (&mut self.net, cost.bytes)] {
                if let Some(sketch) = sketch {
                    sketch.add(key, weight / keys.len() as u64);
                }
            }
        }
    }
}

impl Server {
    fn usage(&self, at: UnixMillis) -> Usage {
        let net = self.stats.net_input_bytes + self.stats.net_output_bytes;
        Usage { at, cpu: process::cpu_time(Who::Process), net }
    }

    /// Begins to count requests by key, and forgets what has been found out before.
    pub fn find_hot_keys(&mut self, wanted: Wanted) {
        let began = self.usage(UnixMillis::now());
        self.hot_keys = Some(Box::new(HotKeys::new(wanted, began)));
        self.apply_thresholds();
    }

    /// Ends to count requests by key. What has been found out stays.
    pub fn end_hot_keys(&mut self, at: UnixMillis) {
        let ended = self.usage(at);
        if let Some(found) = &mut self.hot_keys {
            found.ended.get_or_insert(ended);
        }
        self.apply_thresholds();
    }

    /// Whether requests are counted by key. If the time for it has passed, this ends it.
    pub fn finds_hot_keys(&mut self) -> bool {
        let Some(found) = self.hot_keys.as_ref().filter(|found| found.is_active()) else { return false };
        match found.ends().filter(|ends| *ends <= UnixMillis::now()) {
            Some(ends) => {
                self.end_hot_keys(ends);
                false
            }
            None => true,
        }
    }

    /// What the time took in which requests were or are counted by key.
    pub fn hot_keys_elapsed(&self, found: &HotKeys) -> Elapsed {
        let (began, until) = (found.began, found.ended.unwrap_or_else(|| self.usage(UnixMillis::now())));
        Elapsed {
            began: began.at,
            ms: u64::try_from(until.at.since(began.at)).unwrap_or(0),
            cpu: CpuTime {
                user: until.cpu.user.saturating_sub(began.cpu.user),
                system: until.cpu.system.saturating_sub(began.cpu.system),
            },
            // The counters may have been reset meanwhile.
            net: until.net.saturating_sub(began.net),
        }
    }

    /// Counts a request that has run.
    pub(super) fn count_hot_keys(&mut self, key: ClientKey, spec: &Spec, args: &Args<'_>, ran: Ran) {
        let flags = self.clients[key].flags;
        // The requests of a transaction have been counted, and those of a script are part of it.
        if self.execution.origin == Origin::Script
            || spec.flags.has(Flags::ENDS_MULTI)
            || flags.has(ClientFlags::INTERNAL)
        {
            return;
        }
        let finds = self.finds_hot_keys();
        let watches = self.watches_keys() && self.keyspace.rng.one_in(RATIO_FOR_PAGE);
        if !finds && !watches {
            return;
        }
        let (head, _, large) = args.parts();
        let received = head.len() + large.iter().map(|large| large.len() + 2).sum::<usize>();
        let cost = Cost { ns: ran.ns, bytes: (received + ran.reply) as u64 };
        let mut keys: Vec<&[u8]> = Vec::new();
        spec.each_key(args, &mut |at, _| keys.extend(args.get(at)));
        if watches && let Some(watched) = self.metrics.as_mut().and_then(|metrics| metrics.keys.as_mut()) {
            watched.count(cost, &keys);
        }
        let Some(found) = self.hot_keys.as_mut().filter(|_| finds) else { return };
        let slot = if found.wanted.slots.is_empty() { None } else { slot_of(spec, args) };
        let (ratio, rng) = (found.wanted.ratio, &mut self.keyspace.rng);
        found.count(cost, slot, &keys, || ratio == 1 || rng.one_in(ratio));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(slots: Vec<Slot>, seconds: u64) -> HotKeys {
        let wanted = Wanted { cpu: true, net: true, keys: 10, seconds, ratio: 1, slots };
        HotKeys::new(wanted, Usage { at: UnixMillis(5000), cpu: CpuTime::default(), net: 0 })
    }

    #[test]
    fn costs_are_divided_among_the_keys() {
        let mut found = found(Vec::new(), 0);
        found.count(Cost { ns: 10, bytes: 100 }, None, &[b"a", b"b"], || true);
        found.count(Cost { ns: 7, bytes: 30 }, None, &[b"b"], || true);
        found.count(Cost { ns: 1, bytes: 2 }, None, &[], || true);
        found.count(Cost { ns: 100, bytes: 200 }, None, &[b"c"], || false);
        let long = vec![b'x'; LONGEST_KEY + 1];
        found.count(Cost { ns: 1, bytes: 2 }, None, &[&long], || true);
        let (cpu, net) = (found.cpu.as_ref().expect("wanted"), found.net.as_ref().expect("wanted"));
        assert_eq!(cpu.top(9), [(&b"b"[..], 12), (b"a", 5)]);
        assert_eq!(net.top(9), [(&b"b"[..], 80), (b"a", 50)]);
        assert_eq!((found.all, found.sampled), (Cost { ns: 119, bytes: 334 }, Cost { ns: 19, bytes: 134 }));
    }

    #[test]
    fn only_the_slots_that_were_named_count() {
        let slot = Slot::of(b"a");
        let mut found = found(vec![slot], 0);
        for key in [&b"a"[..], b"b"] {
            found.count(Cost { ns: 1, bytes: 1 }, Some(Slot::of(key)), &[key], || true);
        }
        found.count(Cost { ns: 1, bytes: 1 }, None, &[], || true);
        assert_eq!(found.net.as_ref().expect("wanted").top(9), [(&b"a"[..], 1)]);
        assert_eq!((found.all.ns, found.selected.ns, found.sampled.ns), (3, 1, 1));
    }

    #[test]
    fn it_ends_after_the_time_that_was_asked_for() {
        assert_eq!(found(Vec::new(), 0).ends(), None);
        assert_eq!(found(Vec::new(), 2).ends(), Some(UnixMillis(7000)));
        assert_eq!(found(Vec::new(), u64::MAX).ends(), Some(UnixMillis(i64::MAX)));
    }
}
