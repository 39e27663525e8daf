//! Freeing of removed values: at once, or by moving them to the lazy-free thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use crate::background::{Background, Worker};

/// Number of parts above which a value is moved to the thread; a smaller one is freed at once.
pub const LAZY_EFFORT: usize = 64;

/// Which removed values are freed in the background: the `lazyfree-lazy-*` settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct LazyFree {
    /// Evicted keys.
    pub eviction: bool,
    /// Expired keys.
    pub expire: bool,
    /// Values that a command overwrites.
    pub server_del: bool,
    /// Keys that `DEL` removes.
    pub user_del: bool,
    /// Databases flushed by a command that does not choose.
    pub user_flush: bool,
}

#[derive(Default)]
struct Counters {
    pending: AtomicU64,
    freed: AtomicU64,
}

/// Frees entries, at once or on the lazy-free thread.
#[derive(Default)]
pub struct Reclaimer {
    background: Option<Arc<Background>>,
    counters: Arc<Counters>,
}

impl Reclaimer {
    /// A reclaimer that moves large values to `background`.
    pub fn new(background: Arc<Background>) -> Self {
        Reclaimer { background: Some(background), counters: Arc::default() }
    }

    /// Frees an entry; in the background if `lazily` is set and the entry is large.
    #[inline]
    pub fn entry(&self, entry: Entry, lazily: bool) {
        if lazily && entry.effort() > LAZY_EFFORT {
            self.later(entry, 1);
        }
    }

    /// Drops `value`, which contains `objects` keys, in the background.
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

    /// Number of keys moved to the thread and not freed yet.
    pub fn pending(&self) -> u64 {
        self.counters.pending.load(Ordering::Relaxed)
    }

    /// Number of keys freed in the background so far.
    pub fn freed(&self) -> u64 {
        self.counters.freed.load(Ordering::Relaxed)
    }

    /// Resets `freed` to 0.
    pub fn reset(&self) {
        self.counters.freed.store(0, Ordering::Relaxed);
    }
}
