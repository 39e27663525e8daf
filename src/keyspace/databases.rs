//! All databases, and the state that their keys share: clocks, statistics, the record of changes.

use std::time::Duration;

use super::access::Access;
use super::database::Database;
use super::db::Db;
use super::evict::Evictor;
use super::fields::FieldRules;
use super::free::{LazyFree, Reclaimer};
use super::ledger::{Change, Event, Ledger};
use super::own::OwnExpiries;
use super::slot::Slot;
use super::suspension::{Expiry, Suspend, Suspension};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;
use crate::stdx::rng::Rng;
use crate::types::Kind;

/// Counters of the keyspace, as `INFO stats` shows them.
#[derive(Clone, Copy, Default, Debug)]
pub struct KeyspaceStats {
    /// Lookups for reading that found their key.
    pub hits: u64,
    /// Lookups for reading that found no key.
    pub misses: u64,
    /// Number of expired keys that were removed.
    pub expired: u64,
    /// Number of expired fields of hashes that were removed.
    pub expired_fields: u64,
    /// Running average of the percentage of due keys that the expiry cycle found.
    pub expired_stale_percent: f64,
    /// Expiry cycles that ended at their time limit.
    pub expire_cycle_cut_short: u64,
    /// Microseconds spent in expiry cycles.
    pub expire_cycle_us: u64,
    /// Number of evicted keys.
    pub evicted: u64,
}

/// Longest times to free expired and evicted values since the last report.
#[derive(Clone, Copy, Default, Debug)]
pub struct Removals {
    /// Whether the times are measured; otherwise no clock is read.
    pub timed: bool,
    /// Longest time to free an expired key.
    pub expired: Duration,
    /// Longest time to free an evicted key.
    pub evicted: Duration,
}

/// All databases, and the state that their keys share.
pub struct Keyspace {
    pub(super) dbs: Vec<Database>,
    /// The record of changes by the running command.
    pub ledger: Ledger,
    /// Clocks for access data.
    pub access: Access,
    /// The source of random choices.
    pub rng: Rng,
    /// Counters since the start or the last `CONFIG RESETSTAT`.
    pub stats: KeyspaceStats,
    /// Frees removed values.
    pub reclaimer: Reclaimer,
    /// Which removed values are freed in the background.
    pub lazy: LazyFree,
    suspension: Suspension,
    /// Chooses keys to evict.
    pub evictor: Evictor,
    /// Whose rules hold for fields that expire.
    pub field_rules: FieldRules,
    /// Times to free expired and evicted keys.
    pub removals: Removals,
    /// Keys that were given an expiry by clients of this server although it is a replica.
    pub own_expiries: OwnExpiries,
    pub(super) now: UnixMillis,
}

/// Databases that are filled while those of a keyspace are still served, to replace them later: see
/// [`Keyspace::begin_replacement`].
pub struct Replacement {
    dbs: Vec<Database>,
    /// Clocks for access data.
    pub access: Access,
}

impl Replacement {
    /// The databases, by number.
    pub fn databases(&self) -> &[Database] {
        &self.dbs
    }

    /// Database `index`, to be filled.
    pub fn database_mut(&mut self, index: usize) -> &mut Database {
        &mut self.dbs[index]
    }

    fn len(&self) -> usize {
        self.dbs.iter().map(Database::len).sum()
    }
}

impl Keyspace {
    /// Creates `databases` empty databases.
    pub fn new(databases: usize, reclaimer: Reclaimer, rng: Rng) -> Self {
        Keyspace {
            dbs: (0..databases).map(|_| Database::new(false)).collect(),
            ledger: Ledger::default(),
            access: Access::default(),
            rng,
            stats: KeyspaceStats::default(),
            reclaimer,
            lazy: LazyFree::ALL,
            suspension: Suspension::default(),
            evictor: Evictor::default(),
            field_rules: FieldRules::default(),
            removals: Removals::default(),
            own_expiries: OwnExpiries::default(),
            now: UnixMillis(0),
        }
    }

    /// From now on, stores the keys of each cluster slot in a table of their own.
    ///
    /// # Panics
    /// If there are keys.
    pub fn divide_by_slot(&mut self) {
        assert!(self.is_empty(), "keys are not moved from one table into many");
        self.dbs.iter_mut().for_each(|db| *db = Database::new(true));
    }

    /// Number of keys that are exempt from eviction.
    pub fn protected(&self) -> usize {
        self.dbs.iter().map(|db| db.protected().len()).sum()
    }

    /// Whether there is a table of keys per cluster slot.
    #[inline]
    pub fn is_by_slot(&self) -> bool {
        self.dbs.first().is_some_and(|db| db.keys().is_by_slot())
    }

    /// Hides the keys of these slots, and of no others, because another node still serves them: they are not counted,
    /// listed, drawn by chance, evicted by chance or removed when they are due. Who names them finds them. To be called
    /// again when a database was replaced.
    pub fn hide_slots(&mut self, slots: &[Slot]) {
        self.dbs.iter_mut().for_each(|db| db.hide(slots));
    }

    /// Sets the current time, for expiries and access data.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
        self.access.set_now(now);
    }

    /// The current time of the keyspace.
    #[inline]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// Treatment of due keys.
    #[inline]
    pub fn expiry(&self) -> Expiry {
        self.suspension.expiry()
    }

    /// Adds or removes a reason to keep due keys.
    pub fn suspend_expiry(&mut self, reason: Suspend, on: bool) {
        self.suspension.set(reason, on);
    }

    /// The databases, by number.
    pub fn databases(&self) -> &[Database] {
        &self.dbs
    }

    /// Database `index`, for maintenance.
    pub fn database_mut(&mut self, index: usize) -> &mut Database {
        &mut self.dbs[index]
    }

    /// Notes in the keys that were changed when this happened, for policies that evict by the last change.
    /// What was restored has its access data.
    pub fn note_changes(&mut self, changes: &[Change], keys: &[u8]) {
        for change in changes {
            if let Change::Key { db, key, event } | Change::Beside { db, key, event } = change
                && *event != Event::RESTORED
                && let Some(entry) = self.dbs[*db as usize].touching(Key::new(&keys[key.clone()]))
            {
                entry.note_access(self.access.fresh());
            }
        }
    }

    /// Type of the value at `key` of database `db`, if the key exists and has not expired.
    pub fn kind_of(&self, db: usize, key: Key<'_>) -> Option<Kind> {
        let entry = self.dbs[db].find(key)?;
        let due = entry.expires().is_some_and(|at| at <= self.now);
        if due && self.expiry() != Expiry::Ignore { None } else { Some(entry.kind()) }
    }

    /// A view of database `index`.
    #[inline]
    pub fn db(&mut self, index: usize) -> Db<'_> {
        Db::new(self, index)
    }

    /// Number of keys in all databases.
    pub fn len(&self) -> usize {
        self.dbs.iter().map(Database::len).sum()
    }

    /// Whether no database has a key.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(Database::is_empty)
    }

    /// Removes all keys of one database, or of all, and returns their number. O(1) if `lazily`.
    pub fn flush(&mut self, db: Option<usize>, lazily: bool) -> usize {
        let range = db.map_or(0..self.dbs.len(), |db| db..db + 1);
        let mut removed = 0;
        for db in &mut self.dbs[range] {
            let old = db.take_all();
            let n = old.len();
            removed += n;
            if lazily && n > 0 {
                self.reclaimer.database(old);
            }
        }
        self.ledger.flushed(db, removed);
        removed
    }

    /// As many empty databases as the keyspace has, to be filled and passed to [`Keyspace::replace`] or
    /// [`Keyspace::discard`].
    pub fn begin_replacement(&self) -> Replacement {
        let dbs = self.dbs.iter().map(|db| Database::new(db.keys().is_by_slot())).collect();
        Replacement { dbs, access: self.access }
    }

    /// Replaces all databases by those of `new` and returns the number of keys removed, which are freed in the
    /// background. O(databases).
    pub fn replace(&mut self, new: Replacement) -> usize {
        let count = self.dbs.len();
        let old = Replacement { dbs: std::mem::replace(&mut self.dbs, new.dbs), access: new.access };
        assert_eq!(self.dbs.len(), count, "the replacement was begun with as many databases");
        let removed = old.len();
        self.discard(old);
        self.ledger.replaced(count, removed);
        removed
    }

    /// Frees databases that are not needed, in the background. O(databases).
    pub fn discard(&self, unwanted: Replacement) {
        unwanted.dbs.into_iter().for_each(|db| self.reclaimer.database(db));
    }

    /// Swaps two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.ledger.swapped(a, b);
    }
}
