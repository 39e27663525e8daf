//! The growing end of the append-only file: requests are gathered, written once per turn of the event loop, and made
//! durable.
//!
//! The policy decides how. With `everysec` and `no` the event loop writes, which only moves bytes into the kernel's
//! cache; with `everysec` the fsync thread also syncs once a second. With `always` that thread both writes and syncs
//! everything gathered since its last run (a *group commit*), while the event loop goes on. A client's reply is
//! withheld until [`AofLog::durable`] reaches the value that [`AofLog::appended`] had after its command.
//!
//! What always holds: bytes reach a file in the order in which they were appended, each exactly once. A write that
//! failed half-way is undone, so that the file ends with a complete group; if the disk does not allow even that, the
//! next write continues in the middle of the group. A file whose sync failed is synced again, once a second, until a
//! sync succeeds, even if another file is being written by then.
//!
//! The data may have a position in a replication stream. It is written, as an annotation, behind each group that it is
//! the position of; a file that ends with an annotation is known to hold the data of that position.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::background::{Background, Worker};
use crate::persistence::rdb::SavedReplication;
use crate::stats::log::limited;
use crate::stdx::sync::Mutex;

/// Longest time that a write is postponed for a running sync. It is below a second by more than a turn of the event
/// loop takes, so that a write acknowledged more than a second ago has always been given to the kernel.
const MAX_POSTPONEMENT: Duration = Duration::from_millis(800);
/// Bytes of buffer capacity kept between turns.
const KEPT: usize = 1 << 20;

/// When written data is made durable (`appendfsync`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// When the operating system chooses.
    No,
    /// Once a second, by the fsync thread.
    EverySecond,
    /// Before the client gets its reply.
    Always,
}

/// Results of the fsync thread, shared with the event loop.
#[derive(Default)]
struct Progress {
    /// Number of appended bytes that are durable.
    durable: AtomicU64,
    /// Error number of the last attempt, 0 if the attempt succeeded.
    error: AtomicI32,
    /// Files whose last sync failed.
    unsynced: Mutex<Vec<Arc<File>>>,
    /// A group was not written.
    lost: AtomicBool,
}

impl Progress {
    /// Syncs a file, and every file whose last sync failed.
    fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        // The list is valid at every moment, even if a thread panicked while it had the lock.
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if !unsynced.iter().any(|other| Arc::ptr_eq(other, file)) {
            unsynced.push(Arc::clone(file));
        }
        let mut result = Ok(());
        unsynced.retain(|file| {
            let synced = file.sync_data();
            let failed = synced.is_err();
            result = std::mem::replace(&mut result, Ok(())).and(synced);
            failed
        });
        result
    }
}

/// Result of a flush.
#[derive(Debug)]
pub enum Flushed {
    /// Nothing is left to write, or the rest is with the fsync thread.
    Done,
    /// A sync is running, and writing would wait for it.
    Postponed,
    /// The write failed. Bytes that were not written are kept.
    Failed(io::Error),
}

/// The increment being written.
pub struct AofLog {
    file: Option<Arc<File>>,
    /// Bytes not written yet.
    pub buf: Vec<u8>,
    /// The database selected at the end of `buf`.
    pub selected: Option<u32>,
    /// Position in a replication stream at the end of `buf`.
    position: Option<SavedReplication>,
    /// Whether the position is to be written behind `buf`.
    position_pending: bool,
    /// Bytes of the current file.
    pub file_size: u64,
    /// Bytes ever written to a file or given to the fsync thread.
    handed_over: u64,
    progress: Arc<Progress>,
    /// Value of `handed_over` when the last sync was requested.
    sync_asked: u64,
    last_sync: Option<Instant>,
    postponed_since: Option<Instant>,
    /// Number of writes postponed because a sync was running.
    pub delayed: u64,
    /// Delays each write by this many microseconds, for tests.
    pub write_delay_us: u64,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl AofLog {
    /// A log without a file. Another thread calls `wake` when more bytes have become durable.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        AofLog {
            file: None,
            buf: Vec::new(),
            selected: None,
            position: None,
            position_pending: false,
            file_size: 0,
            handed_over: 0,
            progress: Arc::default(),
            sync_asked: 0,
            last_sync: None,
            postponed_since: None,
            delayed: 0,
            write_delay_us: 0,
            wake,
        }
    }

    /// Continues with `file`, which has `size` bytes, from the next flush on. Returns the old file.
    pub fn switch(&mut self, file: Option<File>, size: u64) -> Option<Arc<File>> {
        self.selected = None;
        self.file_size = size;
        // Each file states the position for itself.
        self.position_pending = self.position.is_some();
        if file.is_none() {
            // Results that still arrive for the old file no longer matter.
            self.progress = Arc::default();
            self.progress.durable.store(self.handed_over, Ordering::Release);
        }
        std::mem::replace(&mut self.file, file.map(Arc::new))
    }

    /// Sets the position in a replication stream that the data have after all bytes appended so far; `None` for no
    /// position. Call this whenever the position changes, with or without appended bytes. The position is written with
    /// the next group, or alone if nothing was appended. O(1).
    #[inline]
    pub fn set_position(&mut self, position: Option<SavedReplication>) {
        if position != self.position {
            self.position = position.filter(SavedReplication::is_printable);
            self.position_pending = true;
        }
    }

    /// The position set last.
    pub fn position(&self) -> Option<SavedReplication> {
        self.position
    }

    /// Whether there is something to write.
    #[inline]
    fn has_group(&self) -> bool {
        !self.buf.is_empty() || self.position_pending
    }

    /// Ends the group with its position, if that has changed.
    #[inline]
    fn annotate(&mut self) {
        if self.position_pending {
            self.position_pending = false;
            match self.position {
                Some(position) => position.write_annotation(&mut self.buf),
                None => SavedReplication::write_withdrawal(&mut self.buf),
            }
        }
    }

    /// Number of bytes ever appended, including those not written yet.
    #[inline]
    pub fn appended(&self) -> u64 {
        self.handed_over + self.buf.len() as u64
    }

    /// How many of the appended bytes are durable. Only meaningful if everything was written with the policy
    /// `always`.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.progress.durable.load(Ordering::Acquire)
    }

    /// How many of the appended bytes were written to a file or given to the fsync thread.
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Sets the callback that another thread calls when more bytes have become durable.
    pub fn set_wake(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.wake = wake;
    }

    /// Counts everything appended so far as durable. Called when the policy becomes `always`.
    pub fn count_as_durable(&mut self) {
        self.progress.durable.store(self.handed_over, Ordering::Release);
    }

    /// The error of the last sync or, under `always`, of the last write.
    pub fn last_error(&self) -> Option<io::Error> {
        match self.progress.error.load(Ordering::Acquire) {
            0 => None,
            code => Some(io::Error::from_raw_os_error(code)),
        }
    }

    /// Number of syncs that are requested and not finished.
    pub fn pending_syncs(&self, background: &Background) -> usize {
        background.pending(Worker::AofFsync)
    }

    /// Writes the gathered bytes and makes them durable as `policy` says. `may_sync` is false while a child process
    /// writes a file and syncs must make way for it. `force` writes even while a sync is running.
    pub fn flush(&mut self, background: &Background, policy: Policy, may_sync: bool, force: bool) -> Flushed {
        if self.file.is_none() {
            self.buf.clear();
            return Flushed::Done;
        }
        if policy == Policy::Always {
            self.postponed_since = None;
            return self.commit(background, may_sync);
        }
        if self.has_group() {
            if policy == Policy::EverySecond && !force && background.pending(Worker::AofFsync) > 0 {
                // A write to a file that is being synced waits for the disk. Leaving the bytes here for a while is
                // better than stopping the event loop.
                let since = *self.postponed_since.get_or_insert_with(Instant::now);
                if since.elapsed() < MAX_POSTPONEMENT {
                    return Flushed::Postponed;
                }
                self.delayed += 1;
                tracing::info!(
                    "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for \
                     fsync to complete, this may slow down the server."
                );
            }
            self.postponed_since = None;
            if let Err(error) = self.write() {
                return Flushed::Failed(error);
            }
        }
        if policy == Policy::EverySecond && may_sync {
            self.sync_each_second(background);
        }
        Flushed::Done
    }

    /// Time until a postponed write is carried out in any case; `None` if no write is postponed.
    pub fn until_forced_write(&self) -> Option<Duration> {
        let since = self.postponed_since.filter(|_| self.has_group())?;
        Some(MAX_POSTPONEMENT.saturating_sub(since.elapsed()))
    }

    fn write(&mut self) -> io::Result<()> {
        self.annotate();
        let file = self.file.as_ref().expect("asked before");
        if self.write_delay_us > 0 {
            std::thread::sleep(Duration::from_micros(self.write_delay_us));
        }
        let (written, result) = write_whole(file, &self.buf, self.file_size);
        self.file_size += written as u64;
        self.handed_over += written as u64;
        self.buf.drain(..written);
        self.buf.shrink_to(KEPT);
        result
    }

    fn sync_each_second(&mut self, background: &Background) {
        let due = self.last_sync.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        let owed = self.sync_asked < self.handed_over || self.progress.error.load(Ordering::Acquire) != 0;
        if owed && due && background.pending(Worker::AofFsync) == 0 {
            self.last_sync = Some(Instant::now());
            self.sync_later(background);
        }
    }

    /// Lets the fsync thread sync everything written so far.
    pub fn sync_later(&mut self, background: &Background) {
        let Some(file) = self.file.clone() else { return };
        let (progress, upto) = (Arc::clone(&self.progress), self.handed_over);
        self.sync_asked = upto;
        background.submit(Worker::AofFsync, move || {
            let result = progress.sync(&file);
            progress.error.store(code(&result), Ordering::Release);
            if result.is_ok() {
                progress.durable.fetch_max(upto, Ordering::AcqRel);
            }
        });
    }

    /// Gives the gathered bytes to the fsync thread, unless that thread is still busy with the last group.
    fn commit(&mut self, background: &Background, may_sync: bool) -> Flushed {
        if let Some(error) = self.last_error() {
            return Flushed::Failed(error);
        }
        let under_way = self.handed_over > self.durable();
        if under_way || !self.has_group() {
            return Flushed::Done;
        }
        let Some(file) = self.file.clone() else { return Flushed::Done };
        self.annotate();
        let group = std::mem::take(&mut self.buf);
        let size = self.file_size;
        self.file_size += group.len() as u64;
        self.handed_over += group.len() as u64;
        self.sync_asked = self.handed_over;
        let (progress, upto) = (Arc::clone(&self.progress), self.handed_over);
        let (wake, delay) = (Arc::clone(&self.wake), self.write_delay_us);
        background.submit(Worker::AofFsync, move || {
            if delay > 0 {
                std::thread::sleep(Duration::from_micros(delay));
            }
            let (_, mut result) = write_whole(&file, &group, size);
            if result.is_ok() && may_sync {
                result = progress.sync(&file);
            }
            progress.error.store(code(&result), Ordering::Release);
            match result {
                Ok(()) => progress.durable.store(upto, Ordering::Release),
                Err(_) => progress.lost.store(true, Ordering::Release),
            }
            wake();
        });
        Flushed::Done
    }

    /// Writes everything and waits until it is durable. Called when the server stops, or continues with another file.
    ///
    /// # Errors
    /// The write or the sync failed. Bytes that were not written are kept.
    pub fn finish(&mut self, background: &Background) -> io::Result<()> {
        background.drain(Worker::AofFsync);
        let Some(file) = self.file.clone() else {
            self.buf.clear();
            return Ok(());
        };
        if self.progress.lost.load(Ordering::Acquire) {
            // Later bytes must not follow a gap.
            return Err(self.last_error().unwrap_or_else(|| io::Error::from(io::ErrorKind::WriteZero)));
        }
        if self.has_group() {
            self.write()?;
        }
        let result = self.progress.sync(&file);
        self.progress.error.store(code(&result), Ordering::Release);
        result?;
        self.sync_asked = self.handed_over;
        self.progress.durable.store(self.handed_over, Ordering::Release);
        Ok(())
    }
}

fn code(result: &io::Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// Appends `bytes` to a file of `size` bytes. Returns how many of them are in the file afterwards: all of them, or
/// none on an error, unless the bytes written before the error cannot be removed.
fn write_whole(mut file: &File, bytes: &[u8], size: u64) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        let error = match file.write(&bytes[written..]) {
            Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
            Ok(n) => {
                written += n;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        if written > 0 {
            match file.set_len(size) {
                Ok(()) => written = 0,
                Err(error) => limited!(
                    error,
                    "Could not remove short write from the append-only file: {error}. The rest follows once there is room."
                ),
            }
        }
        return (written, Err(error));
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    fn log(name: &str) -> (AofLog, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("spinel-aof-{}-{name}", std::process::id()));
        let file = OpenOptions::new().append(true).create(true).open(&path).expect("a temporary file");
        let mut log = AofLog::new(Arc::new(|| {}));
        log.switch(Some(file), 0);
        (log, path)
    }

    #[test]
    fn groups_become_durable_in_order() {
        let background = Background::start(None).expect("threads can be started");
        let (mut log, path) = log("groups");
        for i in 0..100u8 {
            log.buf.extend_from_slice(&[i; 10]);
            assert!(matches!(log.flush(&background, Policy::Always, true, false), Flushed::Done));
            assert!(log.durable() <= log.appended());
        }
        assert_eq!(log.appended(), 1000);
        while log.durable() < 1000 {
            background.drain(Worker::AofFsync);
            log.flush(&background, Policy::Always, true, false);
        }
        let bytes = std::fs::read(&path).expect("it is there");
        assert_eq!(bytes, (0..100u8).flat_map(|i| [i; 10]).collect::<Vec<_>>());
        std::fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn a_write_waits_for_a_sync_but_not_for_long() {
        let background = Background::start(None).expect("threads can be started");
        let (mut log, path) = log("postponed");
        let (release, slow_disk) = crate::stdx::sync::mpsc::channel::<()>();
        background.submit(Worker::AofFsync, move || {
            let _ = slow_disk.recv();
        });
        log.buf.extend_from_slice(b"abc");
        assert_eq!(log.until_forced_write(), None);
        assert!(matches!(log.flush(&background, Policy::EverySecond, true, false), Flushed::Postponed));
        assert!(log.until_forced_write().is_some_and(|left| left <= MAX_POSTPONEMENT));
        log.postponed_since = log.postponed_since.and_then(|since| since.checked_sub(MAX_POSTPONEMENT));
        assert_eq!(log.until_forced_write(), Some(Duration::ZERO));
        assert!(matches!(log.flush(&background, Policy::EverySecond, true, false), Flushed::Done));
        assert_eq!((log.delayed, log.until_forced_write()), (1, None));
        assert_eq!(std::fs::read(&path).expect("it is there"), b"abc");
        release.send(()).expect("the thread waits for it");
        background.drain(Worker::AofFsync);
        std::fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn each_group_ends_with_its_position() {
        let background = Background::start(None).expect("threads can be started");
        for policy in [Policy::No, Policy::EverySecond, Policy::Always] {
            let (mut log, path) = log(&format!("position-{policy:?}"));
            let flush = |log: &mut AofLog| {
                assert!(matches!(log.flush(&background, policy, true, true), Flushed::Done));
                background.drain(Worker::AofFsync);
            };
            let at = |offset| Some(SavedReplication { id: [b'a'; 40], offset, db: 2 });
            log.buf.extend_from_slice(b"one ");
            flush(&mut log);
            log.buf.extend_from_slice(b"two ");
            log.set_position(at(5));
            log.buf.extend_from_slice(b"three ");
            log.set_position(at(7));
            flush(&mut log);
            log.set_position(at(7));
            flush(&mut log);
            log.set_position(at(21));
            flush(&mut log);
            log.buf.extend_from_slice(b"four ");
            // A position whose id would break the line is written as no position.
            log.set_position(Some(SavedReplication { id: [b'\n'; 40], offset: 1, db: 0 }));
            log.finish(&background).expect("room for it");
            let id = "a".repeat(40);
            let expected = format!("one two three #REPL:{id}:7:2\r\n#REPL:{id}:21:2\r\nfour #REPL:-\r\n");
            assert_eq!(
                String::from_utf8(std::fs::read(&path).expect("it is there")).expect("text"),
                expected
            );
            assert_eq!((log.file_size, log.appended()), (expected.len() as u64, expected.len() as u64));
            std::fs::remove_file(path).expect("it is ours");
        }
    }

    #[test]
    fn finishing_writes_everything() {
        let background = Background::start(None).expect("threads can be started");
        let (mut log, path) = log("finish");
        log.buf.extend_from_slice(b"abc");
        assert!(matches!(log.flush(&background, Policy::No, true, false), Flushed::Done));
        assert_eq!(std::fs::read(&path).expect("it is there"), b"abc");
        log.buf.extend_from_slice(b"def");
        log.finish(&background).expect("room for it");
        assert_eq!((log.durable(), log.file_size), (6, 6));
        assert_eq!(std::fs::read(&path).expect("it is there"), b"abcdef");
        std::fs::remove_file(path).expect("it is ours");
    }

    #[test]
    fn a_full_disk_gets_no_partial_group() {
        let background = Background::start(None).expect("threads can be started");
        let file = OpenOptions::new().append(true).open("/dev/full").expect("Linux has one");
        let mut log = AofLog::new(Arc::new(|| {}));
        log.switch(Some(file), 0);
        log.buf.extend_from_slice(b"abc");
        assert!(matches!(log.flush(&background, Policy::No, true, false), Flushed::Failed(_)));
        assert_eq!((log.buf.as_slice(), log.file_size), (&b"abc"[..], 0));
    }
}
