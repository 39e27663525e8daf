//! Freeing of removed values: at once, or by moving them to the lazy-free thread.
//!
//! Memory that the thread has not freed yet is still in use. Its size is estimated when it is handed over, so that no
//! key is evicted for memory that is about to become free anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::database::Database;
use super::entry::Entry;
use crate::background::{Background, Worker};

/// Number of parts above which a value is moved to the thread; a smaller one is freed at once.
pub const LAZY_EFFORT: usize = 64;

/// Number of elements from which the size of a collection is estimated.
const SAMPLES: usize = 5;
/// Number of entries, and of buckets, from which the size of a database is estimated.
const ENTRIES: usize = 32;
const BUCKETS: usize = 256;

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

impl LazyFree {
    /// All of them.
    pub const ALL: LazyFree =
        LazyFree { eviction: true, expire: true, server_del: true, user_del: true, user_flush: true };
}

/// Counters of values being freed, updated by both threads.
#[derive(Default)]
struct Counters {
    pending: AtomicU64,
    pending_bytes: AtomicUsize,
    freed: AtomicU64,
    /// Numbers of jobs handed over and finished.
    begun: AtomicU64,
    finished: AtomicU64,
    /// Whether a client waits for the end of a job.
    awaited: AtomicBool,
}

/// Frees entries, at once or on the lazy-free thread.
#[derive(Default)]
pub struct Reclaimer {
    background: Option<Arc<Background>>,
    counters: Arc<Counters>,
    /// Called at the end of a job for which a client waits.
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Reclaimer {
    /// A reclaimer that moves large values to `background`.
    pub fn new(background: Arc<Background>) -> Self {
        Reclaimer { background: Some(background), counters: Arc::default(), wake: None }
    }

    /// Sets the callback that the other thread calls at the end of a job for which a client waits.
    pub fn set_wake(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.wake = Some(wake);
    }

    /// Number of the last job handed over, for [`is_finished`](Self::is_finished). The end of the job is reported from
    /// now on.
    pub fn last_job(&self) -> u64 {
        self.counters.awaited.store(true, Ordering::SeqCst);
        self.counters.begun.load(Ordering::Relaxed)
    }

    /// Whether a job and all jobs before it are finished, so that their memory is free.
    pub fn is_finished(&self, job: u64) -> bool {
        self.counters.finished.load(Ordering::SeqCst) >= job
    }

    /// Ends the reports of finished jobs, since no client waits any more.
    pub fn is_not_awaited(&self) {
        self.counters.awaited.store(false, Ordering::SeqCst);
    }

    /// Frees an entry; in the background if `lazily` is set and the entry is large. Returns an estimate of the bytes
    /// that will be freed later.
    #[inline]
    pub fn entry(&self, entry: Entry, lazily: bool) -> usize {
        if lazily && entry.effort() > LAZY_EFFORT { self.entry_later(entry) } else { 0 }
    }

    #[cold]
    fn entry_later(&self, entry: Entry) -> usize {
        let bytes = entry.bytes(SAMPLES);
        self.later(entry, 1, bytes);
        bytes
    }

    /// Frees a database in the background.
    pub fn database(&self, database: Database) {
        let (keys, mut seen, mut entries, mut cursor) = (database.len(), 0, 0, 0);
        for _ in 0..BUCKETS {
            cursor = database.keys().scan(cursor, |entry| {
                entries += entry.bytes(SAMPLES);
                seen += 1;
            });
            if cursor == 0 || seen >= ENTRIES {
                break;
            }
        }
        let tables = database.keys().bytes() + database.expires_bytes();
        let bytes = tables + (entries as u128 * keys as u128 / seen.max(1) as u128) as usize;
        self.later(database, keys as u64, bytes);
    }

    /// Drops `value`, which contains `objects` keys in about `bytes` bytes, in the background.
    pub fn later<T: Send + 'static>(&self, value: T, objects: u64, bytes: usize) {
        let Some(background) = &self.background else { return };
        let counters = Arc::clone(&self.counters);
        counters.pending.fetch_add(objects, Ordering::Relaxed);
        counters.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.begun.fetch_add(1, Ordering::Relaxed);
        let wake = self.wake.clone();
        background.submit(Worker::LazyFree, move || {
            drop(value);
            counters.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
            counters.freed.fetch_add(objects, Ordering::Relaxed);
            // A thread that sees nothing pending also sees the freed memory.
            counters.pending.fetch_sub(objects, Ordering::Release);
            counters.finished.fetch_add(1, Ordering::SeqCst);
            if counters.awaited.load(Ordering::SeqCst)
                && let Some(wake) = wake
            {
                wake();
            }
        });
    }

    /// Number of keys moved to the thread and not freed yet.
    pub fn pending(&self) -> u64 {
        self.counters.pending.load(Ordering::Acquire)
    }

    /// Estimate of the bytes that the thread has not freed yet.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.counters.pending_bytes.load(Ordering::Relaxed)
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
