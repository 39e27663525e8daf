//! Expiry of keys: on access, and by the cycle that searches for expired keys.
//!
//! No expired key is ever served, because each lookup checks the time. So that keys which no client accesses are
//! removed, too, a cycle walks the tables of expiries in scan order, some keys per round, and stays with a database
//! while more than a tenth of the keys in a round were due. If few keys are due, the cycle thus costs next to
//! nothing; if many are, it is limited by time, not by work: the slow cycle may take a quarter of a timer tick, the
//! fast one a millisecond. The setting `active-expire-effort` raises all of these. (The scheme is that of Redis
//! since 6.0.) The slow cycle takes its time in slices as long as a fast one, between which clients are served.
//!
//! Fields of hashes expire as well. They are not searched for (see `fields`) and have a time budget of their own.

use std::time::{Duration, Instant};

use super::databases::Keyspace;
use super::entry::{Entry, EntryRef};
use super::ledger::{Class, Event};
use super::suspension::Expiry;
use crate::stdx::hash::Key;

/// Position of the cycle in one database, and its statistics.
#[derive(Default)]
pub(super) struct CycleState {
    pub(super) avg_ttl_ms: f64,
    cursor: u64,
}

/// The two kinds of cycles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cycle {
    /// Run by the timer.
    Slow {
        /// Time between two ticks of the timer.
        tick: Duration,
    },
    /// Before the loop sleeps: a slice of the slow cycle, if it goes on.
    Fast,
}

/// What an entry in the table of expiries has.
const EXPIRES: &str = "only entries with an expiry are in the table";

/// Databases that one cycle visits, unless the last one was cut short.
const DBS_PER_CYCLE: usize = 16;
/// Buckets looked at for each key a round is to see: an end where many are empty.
const BUCKETS_PER_KEY: usize = 20;
/// Time budget for fields of hashes, as a fraction of that for keys.
const FIELDS_SHARE: u32 = 4;
/// Number of buckets per entry above which a table is skipped: it will soon be shrunk, and until then finding a key
/// costs more than the key does.
const SPARSE: usize = 10;

/// Meaning of `active-expire-effort`.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Keys examined per round.
    keys_per_round: usize,
    /// Percentage of due keys up to which no further round is needed.
    acceptable_stale: usize,
    /// Percentage of the time between two ticks that the slow cycle may take.
    slow_percent: u32,
    /// Time that the fast cycle may take; the pause after it is at least as long.
    fast: Duration,
}

impl Effort {
    /// Effort for a setting from 1 to 10.
    fn new(setting: u32) -> Effort {
        let more = setting.clamp(1, 10) - 1;
        Effort {
            keys_per_round: 20 + 5 * more as usize,
            acceptable_stale: 10 - more as usize,
            slow_percent: 25 + 2 * more,
            fast: Duration::from_micros(1000 + 250 * u64::from(more)),
        }
    }
}

/// Counts of a round.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Seen {
    keys: usize,
    due: usize,
}

/// What a sweep was not given the time for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Left {
    /// Databases, the one in which it stopped among them.
    databases: usize,
    /// Whether it stopped in one that needs more.
    within: bool,
}

/// A due key, with its hash.
struct Due {
    hash: u64,
    entry: EntryRef,
}

/// State of the cycles between calls.
#[derive(Default)]
pub struct ActiveExpire {
    /// Whether no cycle runs, so that keys expire only on access.
    pub paused: bool,
    next_db: usize,
    cut_short: bool,
    /// Database whose fields are next, and whether expired fields were left behind.
    next_fields_db: usize,
    fields_left: bool,
    last_fast: Option<Instant>,
    /// What is left of the slow cycle's time until the next tick, while it has more to do.
    slow_left: Duration,
    /// Databases that the slow cycle has yet to visit, between two slices.
    turns_left: Option<usize>,
    /// The due keys of a round; empty between rounds.
    due: Vec<Due>,
}

impl Keyspace {
    /// Handles a due key found by a lookup, which comes before a change if `writes`; whether it must be treated as absent.
    #[cold]
    pub(super) fn due_key_accessed(&mut self, db: usize, key: Key<'_>, writes: bool) -> bool {
        match self.expiry() {
            Expiry::Ignore => return false,
            Expiry::Hide => {}
            Expiry::Overwrite if !writes => {}
            Expiry::Remove | Expiry::Overwrite => self.expire_key(db, key),
        }
        true
    }

    /// Removes a due key.
    pub(super) fn expire_key(&mut self, db: usize, key: Key<'_>) {
        if let Some(entry) = self.dbs[db].take(key) {
            self.expired(db, entry);
        }
    }

    /// Counts, records and frees an entry that was removed because it had expired.
    fn expired(&mut self, db: usize, entry: Entry) {
        self.stats.expired += 1;
        self.ledger.gone(db, entry.key(), Event::of(Class::Expired, "expired"));
        let started = self.removals.timed.then(Instant::now);
        self.reclaimer.entry(entry, self.lazy.expire);
        if let Some(started) = started {
            self.removals.expired = self.removals.expired.max(started.elapsed());
        }
    }
}

impl ActiveExpire {
    /// Runs one cycle. `effort` is `active-expire-effort`, 1 to 10.
    ///
    /// The fast cycle returns at once unless the last cycle left work behind or found more due keys than
    /// acceptable, and also if the last fast cycle was less than two of its budgets ago.
    pub fn run(&mut self, space: &mut Keyspace, cycle: Cycle, effort: u32) {
        if self.paused || space.expiry() != Expiry::Remove {
            self.pass_ended();
            return;
        }
        let effort = Effort::new(effort);
        let stale = space.stats.expired_stale_percent >= effort.acceptable_stale as f64;
        let goes_on = self.goes_on();
        if cycle == Cycle::Fast && !goes_on && !self.cut_short && !self.fields_left && !stale {
            return;
        }
        let started = Instant::now();
        let budget = match cycle {
            Cycle::Slow { tick } => {
                self.pass_ended();
                self.slow_left = tick * effort.slow_percent / 100;
                self.slow_left.min(effort.fast)
            }
            Cycle::Fast if goes_on => self.slow_left.min(effort.fast),
            Cycle::Fast => {
                if self.last_fast.is_some_and(|last| started - last < effort.fast * 2) {
                    return;
                }
                self.last_fast = Some(started);
                effort.fast
            }
        };
        let left = self.sweep(space, effort, || started.elapsed() > budget);
        let keys_done = Instant::now();
        self.sweep_fields(space, || keys_done.elapsed() > budget / FIELDS_SHARE);
        let spent = started.elapsed();
        if goes_on || cycle != Cycle::Fast {
            self.pause(left, spent, space);
        } else {
            space.stats.expire_cycle_cut_short += u64::from(self.cut_short);
        }
        space.stats.expire_cycle_us += spent.as_micros() as u64;
    }

    /// After a slice of the slow cycle: whether and where it goes on.
    fn pause(&mut self, left: Left, spent: Duration, space: &mut Keyspace) {
        self.slow_left = self.slow_left.saturating_sub(spent);
        if self.slow_left.is_zero() || left.databases == 0 && !self.fields_left {
            space.stats.expire_cycle_cut_short += u64::from(self.cut_short);
            return self.pass_ended();
        }
        // The database that needs more time gets it first.
        self.next_db -= usize::from(left.within);
        self.turns_left = Some(left.databases);
    }

    fn pass_ended(&mut self) {
        (self.slow_left, self.turns_left) = (Duration::ZERO, None);
    }

    /// Whether the slow cycle has more to do, and time for it.
    #[inline]
    pub fn goes_on(&self) -> bool {
        !self.slow_left.is_zero()
    }

    /// Runs all slices of a cycle.
    #[cfg(test)]
    pub(crate) fn run_to_end(&mut self, space: &mut Keyspace, cycle: Cycle, effort: u32) {
        self.run(space, cycle, effort);
        while self.goes_on() {
            self.run(space, Cycle::Fast, effort);
        }
    }

    /// Visits the databases until `out_of_time`, which is checked after each round. Returns what is left.
    fn sweep(&mut self, space: &mut Keyspace, effort: Effort, mut out_of_time: impl FnMut() -> bool) -> Left {
        let databases = space.dbs.len();
        // If the last cycle ran out of time, one database may have used all of it: then every database is visited.
        let all = if self.cut_short { databases } else { databases.min(DBS_PER_CYCLE) };
        let turns = self.turns_left.take().unwrap_or(all);
        let (mut seen, mut left) = (Seen::default(), Left::default());
        for turn in 0..turns {
            let db = self.next_db % databases;
            self.next_db = db + 1;
            let (mut late, mut enough) = (false, true);
            while let Some(round) = space.expire_round(db, effort.keys_per_round, &mut self.due) {
                seen.keys += round.keys;
                seen.due += round.due;
                late = out_of_time();
                enough = round.keys > 0 && round.due * 100 <= effort.acceptable_stale * round.keys;
                if late || enough {
                    break;
                }
            }
            if late {
                left = Left { databases: turns - turn - usize::from(enough), within: !enough };
                break;
            }
        }
        self.cut_short = left.databases > 0;
        if turns > 0 {
            let percent = if seen.keys > 0 { seen.due as f64 * 100.0 / seen.keys as f64 } else { 0.0 };
            // A running average; one cycle moves it by a twentieth.
            let average = &mut space.stats.expired_stale_percent;
            *average = percent * 0.05 + *average * 0.95;
        }
        left
    }

    /// Removes expired fields, database by database, until `out_of_time`, which is checked after each hash.
    fn sweep_fields(&mut self, space: &mut Keyspace, mut out_of_time: impl FnMut() -> bool) {
        let databases = space.dbs.len();
        self.fields_left = false;
        for _ in 0..databases.min(DBS_PER_CYCLE) {
            let db = self.next_fields_db % databases;
            self.next_fields_db = db + 1;
            while space.expire_fields(db) {
                if out_of_time() {
                    self.fields_left = true;
                    return;
                }
            }
        }
    }
}

impl Keyspace {
    /// Examines about `wanted` keys with an expiry, from the end of the last round in this database, and removes
    /// those that have expired. `None` if there are no keys to examine.
    fn expire_round(&mut self, index: usize, wanted: usize, due: &mut Vec<Due>) -> Option<Seen> {
        let now = self.now;
        let db = &mut self.dbs[index];
        if db.expires().is_empty() {
            db.cycle.avg_ttl_ms = 0.0;
            return None;
        }
        if db.volatile() * SPARSE < db.expires().table_sizes().iter().sum() {
            return None;
        }
        let wanted = wanted.min(db.volatile());
        let mut seen = Seen::default();
        let mut ttl_sum = 0.0;
        for _ in 0..wanted * BUCKETS_PER_KEY {
            db.cycle.cursor = db.scan_volatile(db.cycle.cursor, |entry, reference| {
                seen.keys += 1;
                let at = entry.expires().expect(EXPIRES);
                if at <= now {
                    let hash = db.noting_slot(Key::new(entry.key())).hash();
                    if !db.keys().hides_hash(hash) {
                        db.prefetch_bucket(hash);
                        due.push(Due { hash, entry: reference });
                    }
                } else {
                    ttl_sum += (at - now) as f64;
                }
            });
            // Between two cursors of 0, a key is seen at most once, so none is removed twice.
            if seen.keys >= wanted || db.cycle.cursor == 0 {
                break;
            }
        }
        seen.due = due.len();
        if seen.keys > seen.due {
            let average = ttl_sum / (seen.keys - seen.due) as f64;
            let known = &mut db.cycle.avg_ttl_ms;
            // A running average; one round moves it by a fiftieth.
            *known = if *known == 0.0 { average } else { *known * 0.98 + average * 0.02 };
        }
        for Due { hash, entry } in due.drain(..) {
            let taken = self.dbs[index].take_at(hash, entry);
            self.expired(index, taken.expect("what is in the table of expiries is in that of keys"));
        }
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Suspend;
    use crate::keyspace::free::Reclaimer;
    use crate::keyspace::{Listeners, Ttl};
    use crate::stdx::clock::UnixMillis;
    use crate::stdx::rng::Rng;
    use crate::types::Value;

    const NOW: i64 = 1_000_000;

    fn space(databases: usize) -> Keyspace {
        let mut space = Keyspace::new(databases, Reclaimer::default(), Rng::new(1));
        space.set_now(UnixMillis(NOW));
        space
    }

    /// Adds keys `from..to`; those for which `ttl` returns a time expire after it.
    fn fill(
        space: &mut Keyspace,
        db: usize,
        keys: std::ops::Range<usize>,
        ttl: impl Fn(usize) -> Option<i64>,
    ) {
        for i in keys {
            let key = format!("key:{i}");
            let ttl = ttl(i).map_or(Ttl::Clear, |ttl| Ttl::At(UnixMillis(NOW + ttl)));
            space.db(db).set_string(Key::new(key.as_bytes()), Value::Int(i as i64), ttl);
        }
    }

    fn sweep(active: &mut ActiveExpire, space: &mut Keyspace, effort: u32) {
        active.sweep(space, Effort::new(effort), || false);
        for db in space.databases() {
            db.check();
        }
    }

    #[test]
    fn a_sweep_leaves_at_most_the_acceptable_share() {
        for effort in [1, 10] {
            let mut space = space(1);
            let mut active = ActiveExpire::default();
            fill(&mut space, 0, 0..10_000, |i| (i % 4 != 0).then_some(1 + (i % 4) as i64 * 1000));
            sweep(&mut active, &mut space, effort);
            assert_eq!(space.stats.expired, 0);
            assert_eq!(space.stats.expired_stale_percent, 0.0);
            assert!((1000.0..3002.0).contains(&space.dbs[0].cycle.avg_ttl_ms));
            space.set_now(UnixMillis(NOW + 2500));
            // Two thirds have expired: the sweep continues until few are left.
            for _ in 0..50 {
                sweep(&mut active, &mut space, effort);
            }
            let left = 5000 - space.stats.expired;
            assert!(left <= 600 / u64::from(effort), "{left} at effort {effort}");
            assert_eq!(space.len() as u64, 5000 + left);
            assert!(space.stats.expired_stale_percent > 0.0);
        }
    }

    #[test]
    fn a_sweep_removes_what_is_due_and_nothing_else() {
        let mut space = space(3);
        space.ledger.listeners.set(Listeners::NOTIFY, true);
        for db in [0, 2] {
            fill(&mut space, db, 0..500, |i| (i % 2 == 0).then_some(if i < 400 { 10 } else { 10_000 }));
        }
        space.ledger.take();
        space.set_now(UnixMillis(NOW + 10));
        let mut active = ActiveExpire::default();
        for _ in 0..100 {
            sweep(&mut active, &mut space, 10);
        }
        assert_eq!(space.stats.expired, 400);
        assert_eq!(space.len(), 600);
        assert_eq!(space.databases()[2].volatile(), 50);
        assert_eq!(space.ledger.take().0.len(), 400);
        assert_eq!(space.databases()[0].avg_ttl_ms(), 9990);
        assert_eq!(space.databases()[1].avg_ttl_ms(), 0);
        assert!(active.due.is_empty());
    }

    #[test]
    fn a_sweep_that_is_cut_short_goes_on_with_the_next_database() {
        let mut space = space(40);
        for db in 0..40 {
            fill(&mut space, db, 0..100, |_| Some(0));
        }
        let mut active = ActiveExpire::default();
        let effort = Effort::new(1);
        active.sweep(&mut space, effort, || true);
        assert!(active.cut_short);
        assert!(space.databases()[0].len() < 100, "one round was made");
        assert!(space.databases()[1..].iter().all(|db| db.len() == 100));
        active.sweep(&mut space, effort, || false);
        assert!(!active.cut_short);
        assert!(space.databases().iter().all(super::super::Database::is_empty), "each had its turn");
        for db in 0..40 {
            fill(&mut space, db, 0..100, |_| Some(0));
        }
        active.sweep(&mut space, effort, || false);
        let emptied = space.databases().iter().filter(|db| db.is_empty()).count();
        assert_eq!(emptied, DBS_PER_CYCLE);
    }

    #[test]
    fn cycles_run_when_they_should() {
        let mut space = space(1);
        let mut active = ActiveExpire::default();
        let slow = Cycle::Slow { tick: Duration::from_secs(1000) };
        fill(&mut space, 0, 0..10, |_| Some(0));
        // No key is known to be due, so the fast cycle has nothing to do.
        active.run(&mut space, Cycle::Fast, 1);
        assert_eq!(space.len(), 10);
        space.suspend_expiry(Suspend::Pause, true);
        active.run_to_end(&mut space, slow, 1);
        assert_eq!(space.len(), 10);
        space.suspend_expiry(Suspend::Pause, false);
        active.paused = true;
        active.run_to_end(&mut space, slow, 1);
        assert_eq!(space.len(), 10);
        active.paused = false;
        active.run_to_end(&mut space, slow, 1);
        assert_eq!(space.len(), 0);
        fill(&mut space, 0, 0..10, |_| Some(0));
        active.cut_short = true;
        active.run(&mut space, Cycle::Fast, 1);
        assert_eq!(space.len(), 0);
        assert!(active.last_fast.is_some());
    }

    #[test]
    fn the_slow_cycle_takes_its_time_in_slices() {
        let mut space = space(2);
        let mut active = ActiveExpire::default();
        for db in 0..2 {
            fill(&mut space, db, 0..20_000, |_| Some(0));
        }
        let slow = Cycle::Slow { tick: Duration::from_secs(40) };
        active.run(&mut space, slow, 1);
        let first = space.stats.expired;
        assert!(active.goes_on() && (1..20_000).contains(&first));
        // It stays with a database until that needs no more.
        assert_eq!((active.next_db, active.turns_left), (0, Some(2)));
        while active.goes_on() {
            active.run(&mut space, Cycle::Fast, 1);
        }
        assert!(space.stats.expired > first);
        // Nothing goes on where nothing may expire.
        fill(&mut space, 0, 0..20_000, |_| Some(0));
        active.run(&mut space, slow, 1);
        assert!(active.goes_on());
        active.paused = true;
        active.run(&mut space, Cycle::Fast, 1);
        assert!(!active.goes_on());
    }

    #[test]
    fn where_no_round_is_in_time_each_database_is_visited_once() {
        let mut space = space(40);
        for db in 0..40 {
            fill(&mut space, db, 0..10, |_| Some(1000));
        }
        let mut active = ActiveExpire::default();
        let effort = Effort::new(1);
        active.slow_left = Duration::from_secs(1);
        let mut slices = 0;
        while active.goes_on() {
            let left = active.sweep(&mut space, effort, || true);
            active.pause(left, Duration::ZERO, &mut space);
            slices += 1;
        }
        assert_eq!((slices, active.next_db, active.turns_left), (DBS_PER_CYCLE, DBS_PER_CYCLE, None));
    }

    #[test]
    fn effort() {
        let (least, most) = (Effort::new(0), Effort::new(11));
        assert_eq!((least.keys_per_round, most.keys_per_round), (20, 65));
        assert_eq!((least.acceptable_stale, most.acceptable_stale), (10, 1));
        assert_eq!((least.slow_percent, most.slow_percent), (25, 43));
        assert_eq!((least.fast.as_micros(), most.fast.as_micros()), (1000, 3250));
    }

    #[test]
    fn a_table_that_is_all_but_empty_is_left_alone() {
        let mut space = space(1);
        space.dbs[0].reserve(0, 100_000);
        fill(&mut space, 0, 0..10, |_| Some(0));
        let mut active = ActiveExpire::default();
        active.sweep(&mut space, Effort::new(10), || panic!("no round is made"));
        assert_eq!(space.len(), 10);
    }
}
