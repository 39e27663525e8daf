//! Where removed values go: freed at once, or handed to the lazy-free thread by moving them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use crate::background::{Background, Worker};

/// A value of more parts than this is worth handing over; a smaller one is freed on the spot.
pub const LAZY_EFFORT: usize = 64;

/// When removed values are freed in the background: the `lazyfree-lazy-*` settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct LazyFree {
    /// Of keys that are evicted.
    pub eviction: bool,
    /// Of keys whose time has come.
    pub expire: bool,
    /// Of values that a command overwrites.
    pub server_del: bool,
    /// Of keys that `DEL` removes.
    pub user_del: bool,
    /// Of databases that are flushed without saying how.
    pub user_flush: bool,
}

#[derive(Default)]
struct Counters {
    pending: AtomicU64,
    freed: AtomicU64,
}

/// Frees entries, here or on the lazy-free thread.
#[derive(Default)]
pub struct Reclaimer {
    background: Option<Arc<Background>>,
    counters: Arc<Counters>,
}

impl Reclaimer {
    /// A reclaimer that hands large values to `background`.
    pub fn new(background: Arc<Background>) -> Self {
        Reclaimer { background: Some(background), counters: Arc::default() }
    }

    /// Frees one entry; in the background when `lazily` and it is large.
    #[inline]
    pub fn entry(&self, entry: Entry, lazily: bool) {
        if lazily && entry.effort() > LAZY_EFFORT {
            self.later(entry, 1);
        }
    }

    /// Drops `value`, which stands for `objects` keys, in the background.
    pub fn later<T: Send + 'static>(&self, value: T, objects: u64) {
        let Some(background) = &self.background else { return };
        let counters = Arc::clone(&self.counters);
        counters.pending.fetch_add(objects, Ordering::Relaxed);
        background.submit(Worker::LazyFree, move || {
            drop(value);
            counters.pending.fetch_sub(objects, Ordering::Relaxed);
            counters.freed.fetch_add(objects, Ordering::Relaxed);
        });
    }

    /// Keys handed over and not yet freed.
    pub fn pending(&self) -> u64 {
        self.counters.pending.load(Ordering::Relaxed)
    }

    /// Keys freed in the background so far.
    pub fn freed(&self) -> u64 {
        self.counters.freed.load(Ordering::Relaxed)
    }

    /// Starts `freed` again from 0.
    pub fn reset(&self) {
        self.counters.freed.store(0, Ordering::Relaxed);
    }
}
