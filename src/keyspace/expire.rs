//! Keys whose time has come: when they are met, and the cycle that looks for them.
//!
//! A key is never served after its time, because each lookup checks. So that keys nobody asks
//! for go too, a cycle samples the tables of expiries: buckets in scan order from a random start,
//! up to `effort`-many keys per round, and on to the next round while more than a tenth of what
//! it saw was due. It is bounded by time, not by work: the slow cycle may take a quarter of a
//! timer tick, the fast one a millisecond. (The scheme is Redis' since 6.0.)

use std::time::{Duration, Instant};

use super::db::Keyspace;
use super::ledger::{Class, Event};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;

/// What happens to a key that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expiry {
    /// It is removed.
    #[default]
    Remove,
    /// It is treated as absent; removing it is somebody else's decision.
    Hide,
    /// It is treated as present.
    Ignore,
}

/// Where the cycle is in one database, and what it learned.
#[derive(Default)]
pub(super) struct CycleState {
    pub(super) avg_ttl_ms: f64,
    cursor: u64,
}

/// Which of the two cycles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cycle {
    /// From the timer; `tick` is the time between two of them.
    Slow { tick: Duration },
    /// Before the loop sleeps.
    Fast,
}

/// The cycle's memory between calls.
#[derive(Default)]
pub struct ActiveExpire {
    /// Keys go only when they are met, not by the cycle.
    pub paused: bool,
    next_db: usize,
    cut_short: bool,
    last_fast: Option<Instant>,
}

/// Percent of looked-at keys that may be due before a database is looked at again at once.
const ACCEPTABLE_STALE_PERCENT: usize = 10;
const KEYS_PER_ROUND: usize = 20;
const FAST_BUDGET: Duration = Duration::from_millis(1);
const SLOW_PERCENT: u32 = 25;
const DBS_PER_CALL: usize = 16;

impl Keyspace {
    /// A lookup met a key that is due; whether it is to be treated as absent.
    #[cold]
    pub(super) fn meet_due_key(&mut self, db: usize, key: Key<'_>) -> bool {
        match self.expiry {
            Expiry::Ignore => false,
            Expiry::Hide => true,
            Expiry::Remove => {
                self.remove_due_key(db, key);
                true
            }
        }
    }

    fn remove_due_key(&mut self, db: usize, key: Key<'_>) {
        if let Some(entry) = self.dbs[db].take(key) {
            self.stats.expired += 1;
            self.ledger.gone(db, key.bytes, Event { class: Class::Expired, name: "expired" });
            self.reclaimer.entry(entry, self.lazy.expire);
        }
    }
}

impl ActiveExpire {
    /// Runs one cycle. `effort` is `active-expire-effort`, 1 to 10.
    pub fn run(&mut self, space: &mut Keyspace, cycle: Cycle, effort: u32) {
        if self.paused || space.expiry != Expiry::Remove {
            return;
        }
        let effort = effort.clamp(1, 10) - 1;
        let started = Instant::now();
        let budget = match cycle {
            Cycle::Slow { tick } => tick * (SLOW_PERCENT + 2 * effort) / 100,
            Cycle::Fast => FAST_BUDGET + FAST_BUDGET * effort / 4,
        };
        if cycle == Cycle::Fast {
            // Only when the last cycle left work behind, and not twice within two budgets.
            let stale = ACCEPTABLE_STALE_PERCENT as f64 - effort as f64;
            if !self.cut_short && space.stats.expired_stale_percent < stale {
                return;
            }
            if self.last_fast.is_some_and(|last| started - last < budget * 2) {
                return;
            }
            self.last_fast = Some(started);
        }
        self.cut_short = false;
        let (mut looked, mut due) = (0, 0);
        for _ in 0..space.dbs.len().min(DBS_PER_CALL) {
            let db = self.next_db % space.dbs.len();
            self.next_db = db + 1;
            let (l, d, out_of_time) = expire_in(space, db, effort as usize, started, budget);
            looked += l;
            due += d;
            if out_of_time {
                self.cut_short = true;
                space.stats.expire_cycle_cut_short += 1;
                break;
            }
        }
        space.stats.expire_cycle_us += started.elapsed().as_micros() as u64;
        let percent = if looked > 0 { due as f64 * 100.0 / looked as f64 } else { 0.0 };
        space.stats.expired_stale_percent = percent * 0.05 + space.stats.expired_stale_percent * 0.95;
    }
}

/// Rounds over one database; keys looked at, keys removed, whether time ran out.
fn expire_in(
    space: &mut Keyspace,
    index: usize,
    effort: usize,
    started: Instant,
    budget: Duration,
) -> (usize, usize, bool) {
    let per_round = KEYS_PER_ROUND + KEYS_PER_ROUND / 4 * effort;
    let acceptable = ACCEPTABLE_STALE_PERCENT.saturating_sub(effort);
    let (mut looked_in_all, mut due_in_all) = (0, 0);
    let mut due_keys: Vec<Vec<u8>> = Vec::new();
    for round in 1usize.. {
        let now = space.now;
        let db = &mut space.dbs[index];
        if db.expires.is_empty() {
            db.cycle.avg_ttl_ms = 0.0;
            break;
        }
        let wanted = per_round.min(db.expires.len());
        let (mut looked, mut ttl_sum, mut alive) = (0usize, 0f64, 0usize);
        let mut buckets = 0;
        let mut cursor = db.cycle.cursor;
        while looked < wanted && buckets < wanted * 20 {
            cursor = db.expires.scan(cursor, |reference| {
                looked += 1;
                let (at, key) = look(*reference);
                if at <= now {
                    due_keys.push(key.to_vec());
                } else {
                    ttl_sum += (at.0 - now.0) as f64;
                    alive += 1;
                }
            });
            buckets += 1;
            if cursor == 0 {
                break;
            }
        }
        db.cycle.cursor = cursor;
        if alive > 0 {
            let average = ttl_sum / alive as f64;
            let state = &mut db.cycle;
            // A running average; one sample moves it by a fiftieth.
            state.avg_ttl_ms =
                if state.avg_ttl_ms == 0.0 { average } else { state.avg_ttl_ms * 0.98 + average * 0.02 };
        }
        let due = due_keys.len();
        for key in due_keys.drain(..) {
            space.remove_due_key(index, Key::new(&key));
        }
        looked_in_all += looked;
        due_in_all += due;
        if round.is_multiple_of(16) && started.elapsed() > budget {
            return (looked_in_all, due_in_all, true);
        }
        if looked == 0 || due * 100 <= acceptable * looked {
            break;
        }
    }
    (looked_in_all, due_in_all, false)
}

/// The expiry and key of an entry in the table of expiries.
#[allow(unsafe_code)]
fn look<'a>(reference: super::entry::EntryRef) -> (UnixMillis, &'a [u8]) {
    // SAFETY: the table of expiries holds live entries only, and the key is copied before
    // anything is removed.
    let (at, key) = unsafe { reference.look() };
    (at.expect("only entries with an expiry are in the table"), key)
}
