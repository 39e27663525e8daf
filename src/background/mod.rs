//! Three threads for work that would make the event loop wait: closing files, fsync, freeing large values.
//!
//! A worker is a thread with a queue of closures. It does not know what a job means: the submitter moves into the job
//! whatever it needs, and the job reports through what it captured. What always holds:
//!
//! - jobs of one worker run one after another, in order of submission;
//! - workers do not wait for each other, so that a slow fsync never delays freeing memory;
//! - a job that panics is logged, and the worker continues with the next one.
//!
//! The split into one queue per kind of delay is that of Redis's `bio`. Threads do not survive `fork`, so a child
//! process neither submits nor drains.
#![warn(missing_docs)]
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;

use crate::stdx::alloc;
use crate::stdx::cpu::CpuList;
use crate::stdx::sync::{Condvar, Mutex, MutexGuard};

/// One of the three threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// Closes files whose last link is gone, which truncates them.
    CloseFile,
    /// Writes and syncs the append-only file.
    AofFsync,
    /// Frees large values and whole tables.
    LazyFree,
}

impl Worker {
    /// All workers; `ALL[w as usize] == w`.
    pub const ALL: [Worker; 3] = [Worker::CloseFile, Worker::AofFsync, Worker::LazyFree];

    /// Name of the thread, as `ps -T` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Worker::CloseFile => "bio_close_file",
            Worker::AofFsync => "bio_aof_fsync",
            Worker::LazyFree => "bio_lazy_free",
        }
    }
}

// The kernel cuts a thread's name after 15 bytes.
const _: () = {
    let mut i = 0;
    while i < Worker::ALL.len() {
        assert!(Worker::ALL[i].name().len() <= 15 && Worker::ALL[i] as usize == i);
        i += 1;
    }
};

type Job = Box<dyn FnOnce() + Send>;

/// State shared by a worker and its submitters.
struct Queue {
    state: Mutex<State>,
    /// Signalled when a job arrives while the worker sleeps.
    work: Condvar,
    /// Signalled when the worker falls asleep.
    idle: Condvar,
    /// Number of jobs submitted and not finished. It is outside `state`, so that reading it never waits for the lock.
    pending: AtomicUsize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Whether the worker waits for jobs. Only then does a submitter pay for the system call that wakes it.
    asleep: bool,
}

impl Queue {
    fn new() -> Queue {
        Queue {
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            pending: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock, and the code that does leaves the state valid at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, job: Job) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        state.jobs.push_back(job);
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.work.notify_one();
        }
    }

    /// Runs jobs for ever.
    fn run(&self, name: &str) -> Infallible {
        let mut batch = VecDeque::new();
        loop {
            let mut state = self.lock();
            while state.jobs.is_empty() {
                state.asleep = true;
                self.idle.notify_all();
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // The wake-up may be spurious, or a job may have arrived before the first wait.
            state.asleep = false;
            mem::swap(&mut state.jobs, &mut batch);
            drop(state);
            for job in batch.drain(..) {
                run_job(name, job);
                // A reader that sees zero also sees the effects of the jobs.
                self.pending.fetch_sub(1, Ordering::Release);
            }
            // What the thread freed and would keep for itself keeps whole slabs from being free.
            alloc::release_kept_blocks();
        }
    }

    fn drain(&self) {
        let mut state = self.lock();
        // A worker is asleep if it found no job after finishing the last one. A submission ends that.
        while !state.asleep {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run_job(name: &str, job: Job) {
    // A panic destroys everything the job captured, so no broken state remains visible.
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(job)) {
        let reason = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("unknown reason");
        tracing::error!("A job of the thread {name} panicked: {reason}");
        // Dropping a payload that is not text runs unknown code, which may panic in turn.
        if !payload.is::<&str>() && !payload.is::<String>() {
            mem::forget(payload);
        }
    }
}

/// Queues of running threads that no [`Background`] uses.
///
/// `stdx::alloc` reads a counted thread's counters for ever, so the thread never ends. A server keeps its workers
/// until the process exits; a test that starts many servers one after another reuses these.
static IDLE: Mutex<Vec<[Arc<Queue>; 3]>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<[Arc<Queue>; 3]>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The three workers. Dropping it waits until all jobs have finished.
pub struct Background {
    queues: [Arc<Queue>; 3],
}

impl Background {
    /// Starts the threads, on the CPUs of `cpus` if given.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(cpus: Option<&CpuList>) -> io::Result<Background> {
        let reused = idle().pop();
        let queues = match reused {
            Some(queues) => queues,
            None => {
                let queues = [(); 3].map(|()| Arc::new(Queue::new()));
                for worker in Worker::ALL {
                    let queue = Arc::clone(&queues[worker as usize]);
                    thread::Builder::new().name(worker.name().to_owned()).spawn(move || {
                        alloc::count_for_ever(|| {
                            block_signals();
                            queue.run(worker.name())
                        })
                    })?;
                }
                queues
            }
        };
        let background = Background { queues };
        if let Some(cpus) = cpus {
            for worker in Worker::ALL {
                let cpus = cpus.clone();
                background.submit(worker, move || {
                    if let Err(error) = cpus.pin_this_thread() {
                        tracing::warn!("Can't pin the thread {}: {error}", worker.name());
                    }
                });
            }
        }
        Ok(background)
    }

    /// Appends a job to the worker's queue. One allocation; a system call only if the worker sleeps.
    pub fn submit(&self, worker: Worker, job: impl FnOnce() + Send + 'static) {
        self.queues[worker as usize].submit(Box::new(job));
    }

    /// Drops `value` on the worker's thread.
    pub fn drop_later<T: Send + 'static>(&self, worker: Worker, value: T) {
        self.submit(worker, move || drop(value));
    }

    /// Number of jobs queued or running. One load. Zero means that the effects of all jobs are visible.
    pub fn pending(&self, worker: Worker) -> usize {
        self.queues[worker as usize].pending.load(Ordering::Acquire)
    }

    /// Waits until the worker has finished all its jobs. Must not be called from a job of the same worker.
    pub fn drain(&self, worker: Worker) {
        self.queues[worker as usize].drain();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for worker in Worker::ALL {
            self.drain(worker);
        }
        idle().push(self.queues.clone());
    }
}

/// Blocks the signals that are sent to the process, so that the main thread handles them.
///
/// Faults of the thread itself are not blocked: with those blocked, the kernel would end the process before a crash
/// report is written.
pub(crate) fn block_signals() {
    // SAFETY: `sigfillset` initialises the set before it is read; the old mask is not asked for.
    unsafe {
        let mut set = mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(set.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT] {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::sync::mpsc;

    fn background() -> Background {
        Background::start(None).expect("three more threads fit")
    }

    #[test]
    fn many_jobs_run_in_order() {
        let background = background();
        let seen: [Arc<Mutex<Vec<u32>>>; 3] = Default::default();
        for i in 0..20_000u32 {
            let worker = Worker::ALL[i as usize % 3];
            let seen = Arc::clone(&seen[worker as usize]);
            background.submit(worker, move || seen.lock().expect("no panic under the lock").push(i));
        }
        for worker in Worker::ALL {
            background.drain(worker);
            assert_eq!(background.pending(worker), 0);
            let seen = seen[worker as usize].lock().expect("no panic under the lock");
            let all: Vec<u32> = (0..20_000).filter(|i| *i as usize % 3 == worker as usize).collect();
            assert_eq!(*seen, all);
        }
    }

    #[test]
    fn several_threads_submit() {
        let background = Arc::new(background());
        let count = Arc::new(AtomicUsize::new(0));
        let submitters = [(); 4].map(|()| {
            let (background, count) = (Arc::clone(&background), Arc::clone(&count));
            thread::spawn(move || {
                for _ in 0..2_000 {
                    let count = Arc::clone(&count);
                    background.submit(Worker::LazyFree, move || {
                        count.fetch_add(1, Ordering::Relaxed);
                    });
                }
                background.drain(Worker::LazyFree);
            })
        });
        submitters.into_iter().for_each(|submitter| submitter.join().expect("it does not panic"));
        assert_eq!(background.pending(Worker::LazyFree), 0);
        assert_eq!(count.load(Ordering::Relaxed), 8_000);
    }

    #[test]
    fn pending_counts_until_the_end_of_a_job() {
        let background = background();
        let (go, wait) = mpsc::channel::<()>();
        background.submit(Worker::AofFsync, move || wait.recv().expect("the sender lives"));
        background.submit(Worker::AofFsync, || ());
        assert_eq!(background.pending(Worker::AofFsync), 2);
        // Another worker is not delayed.
        background.submit(Worker::CloseFile, || ());
        background.drain(Worker::CloseFile);
        assert_eq!(background.pending(Worker::AofFsync), 2);
        go.send(()).expect("the job listens");
        background.drain(Worker::AofFsync);
        assert_eq!(background.pending(Worker::AofFsync), 0);
    }

    #[test]
    fn a_panic_ends_the_job_only() {
        let background = background();
        let (tell, told) = mpsc::channel();
        background.submit(Worker::LazyFree, || panic!("meant to be seen in the test's output"));
        background.submit(Worker::LazyFree, move || tell.send(7).expect("the receiver lives"));
        assert_eq!(told.recv(), Ok(7));
    }

    #[test]
    fn dropping_finishes_the_queue_and_keeps_the_threads() {
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let background = background();
            for _ in 0..10 {
                let count = Arc::clone(&count);
                background.submit(Worker::CloseFile, move || {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        }
        assert_eq!(count.load(Ordering::Relaxed), 1_000);
    }

    #[test]
    fn values_are_dropped_by_the_worker() {
        struct Tell(mpsc::Sender<Option<String>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().name().map(str::to_owned));
            }
        }
        let background = background();
        for worker in Worker::ALL {
            let (tell, told) = mpsc::channel();
            background.drop_later(worker, Tell(tell));
            assert_eq!(told.recv().expect("dropped"), Some(worker.name().to_owned()));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_are_named_pinned_and_deaf() {
        // SAFETY: no argument; it only reads.
        let here = unsafe { libc::sched_getcpu() };
        let cpus: CpuList = here.to_string().parse().expect("a CPU number is a list");
        let background = Background::start(Some(&cpus)).expect("three more threads fit");
        for worker in Worker::ALL {
            let (tell, told) = mpsc::channel();
            background.submit(worker, move || {
                let status = std::fs::read_to_string("/proc/thread-self/status").expect("procfs");
                tell.send(status).expect("the receiver lives");
            });
            let status = told.recv().expect("the job ran");
            let field = |name| {
                let line = status.lines().find_map(|line: &str| line.strip_prefix(name));
                line.expect("a field of the status").trim().to_owned()
            };
            assert_eq!(field("Name:"), worker.name());
            assert_eq!(field("Cpus_allowed_list:"), here.to_string());
            let blocked = u64::from_str_radix(&field("SigBlk:"), 16).expect("a mask");
            for (signal, deaf) in [(libc::SIGTERM, 1), (libc::SIGINT, 1), (libc::SIGSEGV, 0)] {
                assert_eq!(blocked >> (signal - 1) & 1, deaf, "signal {signal}");
            }
        }
    }
}
