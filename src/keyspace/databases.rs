//! All databases, and what their keys have in common: clocks, statistics, the record of changes.

use std::time::Duration;

use super::access::Access;
use super::database::Database;
use super::db::Db;
use super::evict::Evictor;
use super::free::{LazyFree, Reclaimer};
use super::ledger::Ledger;
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
    /// Lookups for reading that did not.
    pub misses: u64,
    /// Keys that were removed because their time had come.
    pub expired: u64,
    /// Fields of hashes whose time had come and that were removed for it.
    pub expired_fields: u64,
    /// Running average of the percentage of keys that the expiry cycle found to be due.
    pub expired_stale_percent: f64,
    /// Expiry cycles that ended because their time was up.
    pub expire_cycle_cut_short: u64,
    /// Microseconds spent in expiry cycles.
    pub expire_cycle_us: u64,
    /// Keys that were removed to make room.
    pub evicted: u64,
}

/// How long it took to free what nobody asked to remove: the longest since somebody last looked.
#[derive(Clone, Copy, Default, Debug)]
pub struct Removals {
    /// Whether anybody wants to know; otherwise no clock is read.
    pub timed: bool,
    /// Of a key whose time had come.
    pub expired: Duration,
    /// Of a key that made room.
    pub evicted: Duration,
}

/// All databases and what their keys have in common.
pub struct Keyspace {
    pub(super) dbs: Vec<Database>,
    /// The record of what the running command changed.
    pub ledger: Ledger,
    /// The clocks by which accesses are noted.
    pub access: Access,
    /// The source of random choices.
    pub rng: Rng,
    /// Counters since the start or the last `CONFIG RESETSTAT`.
    pub stats: KeyspaceStats,
    /// Frees what is removed.
    pub reclaimer: Reclaimer,
    /// Which removals free large values in the background.
    pub lazy: LazyFree,
    suspension: Suspension,
    /// Chooses the keys that go when memory is short.
    pub evictor: Evictor,
    /// How long it took to free expired and evicted keys.
    pub removals: Removals,
    pub(super) now: UnixMillis,
}

impl Keyspace {
    /// `databases` empty databases.
    pub fn new(databases: usize, reclaimer: Reclaimer, rng: Rng) -> Self {
        Keyspace {
            dbs: (0..databases).map(|_| Database::new()).collect(),
            ledger: Ledger::default(),
            access: Access::default(),
            rng,
            stats: KeyspaceStats::default(),
            reclaimer,
            lazy: LazyFree::default(),
            suspension: Suspension::default(),
            evictor: Evictor::default(),
            removals: Removals::default(),
            now: UnixMillis(0),
        }
    }

    /// Tells the time, by which keys expire and accesses are noted.
    #[inline]
    pub fn set_now(&mut self, now: UnixMillis) {
        self.now = now;
        self.access.set_now(now);
    }

    /// The time the keyspace goes by.
    #[inline]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// What becomes of keys that are due.
    #[inline]
    pub fn expiry(&self) -> Expiry {
        self.suspension.expiry()
    }

    /// Gives a reason for due keys to stay, or takes it back.
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

    /// The type of the value at `key` of database `db`, if it is there and not due.
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

    /// Removes all keys of one database, or of all; how many there were. O(1) when `lazily`.
    pub fn flush(&mut self, db: Option<usize>, lazily: bool) -> usize {
        let range = db.map_or(0..self.dbs.len(), |db| db..db + 1);
        let mut removed = 0;
        for db in &mut self.dbs[range] {
            let old = db.take_all();
            let n = old.len();
            removed += n;
            if lazily && n > 0 {
                self.reclaimer.later(old, n as u64);
            }
        }
        self.ledger.flushed(db, removed);
        removed
    }

    /// Lets two databases change places.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.ledger.swapped(a, b);
    }
}
