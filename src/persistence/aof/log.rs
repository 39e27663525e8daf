//! The file that grows: requests are gathered, written once per turn of the event loop, and made durable.
//!
//! How depends on the policy. With `everysec` and `no` the loop writes, which only moves bytes into the kernel's cache,
//! and once a second the fsync thread is told to sync. With `always` writing and syncing both happen on that thread,
//! for all that was gathered since the last time (a *group commit*), while the loop goes on; whoever waits for an
//! answer gets it when [`AofLog::durable`] has reached what was [`AofLog::appended`] before.
//!
//! What always holds: bytes reach a file in the order they were appended, each once. A write that failed half-way is
//! taken back, so that the file ends with a whole group; where the disk does not even allow that, the next write goes on
//! in the middle. A file whose sync failed is synced again, once a second, until that succeeds, even if another file is
//! written meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::background::{Background, Worker};
use crate::stats::log::limited;

/// A write waits this long at most for a sync that is under way. With what a turn of the loop may take, whoever was
/// answered more than a second ago can be sure that the kernel has been given what he wrote.
const PATIENCE: Duration = Duration::from_millis(800);
/// Room that is kept between turns.
const KEPT: usize = 1 << 20;

/// When what is written is made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// When the system sees fit.
    No,
    EverySecond,
    /// Before anybody is told of it.
    Always,
}

/// What the fsync thread reports.
#[derive(Default)]
struct Progress {
    /// Bytes appended so far that are durable.
    durable: AtomicU64,
    /// The error of the last attempt, 0 if it succeeded.
    error: AtomicI32,
    /// Files whose last sync failed.
    unsynced: Mutex<Vec<Arc<File>>>,
    /// A group was not written.
    lost: AtomicBool,
}

impl Progress {
    /// Syncs a file, and all those whose last sync failed.
    fn sync(&self, file: &Arc<File>) -> io::Result<()> {
        // Whoever panicked with it in hand left whole files there.
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

/// What became of a flush.
#[derive(Debug)]
pub enum Flushed {
    /// Nothing is left to write, or it is on its way.
    Done,
    /// A sync is under way, and writing would wait for it.
    Postponed,
    /// The disk does not take it; what was not written is kept.
    Failed(io::Error),
}

/// The increment being written.
pub struct AofLog {
    file: Option<Arc<File>>,
    /// Not written yet.
    pub buf: Vec<u8>,
    /// The database selected at the end of `buf`.
    pub selected: Option<u32>,
    /// Bytes of the current file.
    pub file_size: u64,
    /// Bytes ever appended to a file or on their way there.
    handed_over: u64,
    progress: Arc<Progress>,
    /// Bytes appended when the last sync was asked for.
    sync_asked: u64,
    last_sync: Option<Instant>,
    postponed_since: Option<Instant>,
    /// Writes that were put off because a sync was under way.
    pub delayed: u64,
    /// Makes each write last longer, in microseconds, for tests.
    pub write_delay_us: u64,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl AofLog {
    /// A log without a file. `wake` is called, from another thread, when more has become durable.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        AofLog {
            file: None,
            buf: Vec::new(),
            selected: None,
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

    /// Goes on with `file`, which has `size` bytes, from the next flush on. The old one is handed back.
    pub fn switch(&mut self, file: Option<File>, size: u64) -> Option<Arc<File>> {
        self.selected = None;
        self.file_size = size;
        if file.is_none() {
            // Whatever went wrong concerns nobody any more.
            self.progress = Arc::default();
            self.progress.durable.store(self.handed_over, Ordering::Release);
        }
        std::mem::replace(&mut self.file, file.map(Arc::new))
    }

    /// Bytes appended so far, those not written yet included.
    #[inline]
    pub fn appended(&self) -> u64 {
        self.handed_over + self.buf.len() as u64
    }

    /// How many of these are durable, if all was written with the policy `always`.
    #[inline]
    pub fn durable(&self) -> u64 {
        self.progress.durable.load(Ordering::Acquire)
    }

    /// How many of these have been handed over to a file, or to the thread that writes it.
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Has `wake` called, from another thread, when more has become durable.
    pub fn set_wake(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.wake = wake;
    }

    /// Everything that has been appended counts as durable: when the policy begins to matter.
    pub fn count_as_durable(&mut self) {
        self.progress.durable.store(self.handed_over, Ordering::Release);
    }

    /// The error of the last sync or, under `always`, write.
    pub fn last_error(&self) -> Option<io::Error> {
        match self.progress.error.load(Ordering::Acquire) {
            0 => None,
            code => Some(io::Error::from_raw_os_error(code)),
        }
    }

    /// Syncs that are asked for and not done.
    pub fn pending_syncs(&self, background: &Background) -> usize {
        background.pending(Worker::AofFsync)
    }

    /// Writes what was gathered, and sees to it that it becomes durable as `policy` says. `may_sync` is false while a
    /// child process writes and syncs are to make way for it; `force` does not wait for a sync under way.
    pub fn flush(&mut self, background: &Background, policy: Policy, may_sync: bool, force: bool) -> Flushed {
        if self.file.is_none() {
            self.buf.clear();
            return Flushed::Done;
        }
        if policy == Policy::Always {
            self.postponed_since = None;
            return self.commit(background, may_sync);
        }
        if !self.buf.is_empty() {
            if policy == Policy::EverySecond && !force && background.pending(Worker::AofFsync) > 0 {
                // A write to a file that is being synced waits for the disk. Rather the bytes wait here, for a while.
                let since = *self.postponed_since.get_or_insert_with(Instant::now);
                if since.elapsed() < PATIENCE {
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

    /// How long until what waits for a sync under way is written in any case; `None`: nothing waits.
    pub fn until_impatient(&self) -> Option<Duration> {
        let since = self.postponed_since.filter(|_| !self.buf.is_empty())?;
        Some(PATIENCE.saturating_sub(since.elapsed()))
    }

    fn write(&mut self) -> io::Result<()> {
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

    /// Has all that is written synced by the other thread.
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

    /// Hands what was gathered to the other thread, unless that still works on the last group.
    fn commit(&mut self, background: &Background, may_sync: bool) -> Flushed {
        if let Some(error) = self.last_error() {
            return Flushed::Failed(error);
        }
        let under_way = self.handed_over > self.durable();
        if under_way || self.buf.is_empty() {
            return Flushed::Done;
        }
        let Some(file) = self.file.clone() else { return Flushed::Done };
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

    /// Writes everything and waits until it is durable: when the server stops, or goes on with another file.
    ///
    /// # Errors
    /// The disk does not take it; what was not written is kept.
    pub fn finish(&mut self, background: &Background) -> io::Result<()> {
        background.drain(Worker::AofFsync);
        let Some(file) = self.file.clone() else {
            self.buf.clear();
            return Ok(());
        };
        if self.progress.lost.load(Ordering::Acquire) {
            // What comes after what is missing must not be there.
            return Err(self.last_error().unwrap_or_else(|| io::Error::from(io::ErrorKind::WriteZero)));
        }
        if !self.buf.is_empty() {
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

/// Appends `bytes` to a file of `size` bytes; how many of them are there. That is all, or none when there was an error,
/// unless those that came before the error cannot be taken back.
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
        let (release, slow_disk) = std::sync::mpsc::channel::<()>();
        background.submit(Worker::AofFsync, move || {
            let _ = slow_disk.recv();
        });
        log.buf.extend_from_slice(b"abc");
        assert_eq!(log.until_impatient(), None);
        assert!(matches!(log.flush(&background, Policy::EverySecond, true, false), Flushed::Postponed));
        assert!(log.until_impatient().is_some_and(|left| left <= PATIENCE));
        log.postponed_since = log.postponed_since.and_then(|since| since.checked_sub(PATIENCE));
        assert_eq!(log.until_impatient(), Some(Duration::ZERO));
        assert!(matches!(log.flush(&background, Policy::EverySecond, true, false), Flushed::Done));
        assert_eq!((log.delayed, log.until_impatient()), (1, None));
        assert_eq!(std::fs::read(&path).expect("it is there"), b"abc");
        release.send(()).expect("the thread waits for it");
        background.drain(Worker::AofFsync);
        std::fs::remove_file(path).expect("it is ours");
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
    fn a_disk_that_is_full_gets_nothing_half() {
        let background = Background::start(None).expect("threads can be started");
        let file = OpenOptions::new().append(true).open("/dev/full").expect("Linux has one");
        let mut log = AofLog::new(Arc::new(|| {}));
        log.switch(Some(file), 0);
        log.buf.extend_from_slice(b"abc");
        assert!(matches!(log.flush(&background, Policy::No, true, false), Flushed::Failed(_)));
        assert_eq!((log.buf.as_slice(), log.file_size), (&b"abc"[..], 0));
    }
}
