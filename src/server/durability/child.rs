//! Child processes: one at a time, each with a copy of all data as they are now.
//!
//! The kernel copies a page only once parent or child writes to it, so a child can write a snapshot while the
//! parent serves on. What both must know:
//!
//! - The child has only the thread that forked: it submits nothing to the workers and waits for nobody. It does
//!   its work, reports through a pipe and ends by `_exit`, running nothing of ours on the way.
//! - The parent avoids moving memory about as long as there is a child ([`ResizePolicy::Avoid`]).
//!
//! A child that is told to end by SIGUSR1 has not failed: nobody wants its work any more.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use mio::unix::pipe;

use crate::server::Server;
use crate::stdx::process;
use crate::structures::dict::{ResizePolicy, set_resize_policy};

/// What a child is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// A snapshot.
    Rdb,
    /// A new base of the append-only file.
    Aof,
    /// A snapshot that goes to replicas while it is written.
    Transfer,
}

impl Task {
    /// Whether it takes a snapshot, wherever that goes.
    pub fn is_snapshot(self) -> bool {
        matches!(self, Task::Rdb | Task::Transfer)
    }

    /// Its name in lists of processes.
    fn title(self) -> &'static str {
        match self {
            Task::Rdb => "spinel-rdb-bgsave",
            Task::Transfer => "spinel-rdb-to-slaves",
            Task::Aof => "spinel-aof-rewrite",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Task::Rdb | Task::Transfer => "RDB",
            Task::Aof => "AOF rewrite",
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The child has done its task.
    Success,
    /// The child failed or was killed.
    Failure,
    /// By this signal.
    Signal(i32),
}

/// What a child tells about its work, in its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Keys written so far.
    pub keys: u64,
    /// Bytes that had to be copied because parent or child wrote to them.
    pub copied: u64,
}

impl Report {
    const SIZE: usize = 16;

    fn to_bytes(self) -> [u8; Report::SIZE] {
        let mut bytes = [0; Report::SIZE];
        bytes[..8].copy_from_slice(&self.keys.to_le_bytes());
        bytes[8..].copy_from_slice(&self.copied.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Report::SIZE]) -> Report {
        let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("sixteen bytes"));
        Report { keys: word(0), copied: word(8) }
    }
}

/// A child as its parent knows it.
#[derive(Debug)]
pub struct Child {
    /// Task of the child.
    pub task: Task,
    /// Process ID of the child.
    pub pid: i32,
    /// Time of the fork.
    pub started: Instant,
    /// Progress, in memory shared with the child.
    pub report: Report,
    /// The greatest number of bytes it reported.
    pub copied_peak: u64,
    /// Time at which progress was last reported.
    pub reported: Option<Instant>,
    /// Keys there were when it began.
    pub keys_total: u64,
    pipe: pipe::Receiver,
}

/// How the child tells how far it is.
#[derive(Debug)]
pub struct Reporter {
    pipe: pipe::Sender,
    sent: Instant,
    copied_peak: u64,
    copied_sum: u64,
    reports: u64,
}

/// Keys between two looks at the clock.
const KEYS_PER_LOOK: u64 = 1024;
/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Reporter {
    /// Reports now and then that `keys` keys are written. To be called after each of them.
    #[inline]
    ///
    /// # Errors
    /// The parent is gone: nobody has a use for the rest.
    pub fn written(&mut self, keys: u64) -> io::Result<()> {
        if keys.is_multiple_of(KEYS_PER_LOOK) && self.sent.elapsed() >= REPORT_EVERY {
            self.send(keys)?;
        }
        Ok(())
    }

    /// Reports; the number of bytes copied.
    ///
    /// # Errors
    /// The parent is gone.
    #[cold]
    pub fn send(&mut self, keys: u64) -> io::Result<u64> {
        let copied = process::private_dirty_memory();
        self.copied_peak = self.copied_peak.max(copied);
        self.copied_sum += copied;
        self.reports += 1;
        // If the parent reads too slowly it will get a later report.
        match self.pipe.write(&Report { keys, copied }.to_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        self.sent = Instant::now();
        Ok(copied)
    }
}

/// What the server remembers of its children.
#[derive(Debug, Default)]
pub struct Children {
    /// The running child, of which there is at most one.
    pub current: Option<Child>,
    /// How long the last fork took.
    pub fork_us: u64,
    /// Number of forks since the start.
    pub forks: u64,
    /// Process IDs of children in which scripts are being debugged.
    pub debuggers: Vec<i32>,
}

impl Children {
    /// Whether a child process is running.
    pub fn any(&self) -> bool {
        self.current.is_some()
    }

    /// Whether a child process takes a snapshot, to a file or for replicas that are sent it at once.
    pub fn any_for_snapshot(&self) -> bool {
        self.current.as_ref().is_some_and(|child| child.task.is_snapshot())
    }

    /// Whether a child process is running for this task.
    pub fn any_for(&self, task: Task) -> bool {
        self.current.as_ref().is_some_and(|child| child.task == task)
    }
}

impl Server {
    /// Lets a child do `work` on a copy of everything. How it ended comes to
    /// [`Server::child_ended`].
    ///
    /// # Errors
    /// There is a child already, or the system has no room for another process.
    pub fn fork(
        &mut self,
        task: Task,
        work: impl FnOnce(&mut Server, &mut Reporter) -> io::Result<()>,
    ) -> io::Result<i32> {
        if self.children.any() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let (sender, receiver) = pipe::new()?;
        let keys_total = self.keyspace.len() as u64;
        let started = Instant::now();
        // SAFETY: the child has this thread alone. Other threads hold no lock that it takes: it touches no queue of
        // the workers, the log takes no locks, and the allocator sees to its own across forks.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // Whoever reads is gone when the parent is.
                drop(receiver);
                let reporter = Reporter {
                    pipe: sender,
                    sent: Instant::now(),
                    copied_peak: 0,
                    copied_sum: 0,
                    reports: 0,
                };
                self.be_child(task, reporter, work)
            }
            _ => {
                let taken = started.elapsed();
                self.children.fork_us = taken.as_micros() as u64;
                self.advise_on_fork(taken);
                self.children.forks += 1;
                self.children.current = Some(Child {
                    task,
                    pid,
                    started,
                    report: Report::default(),
                    copied_peak: 0,
                    reported: None,
                    keys_total,
                    pipe: receiver,
                });
                set_resize_policy(ResizePolicy::Avoid);
                Ok(pid)
            }
        }
    }

    /// The child's life.
    fn be_child(
        &mut self,
        task: Task,
        mut reporter: Reporter,
        work: impl FnOnce(&mut Server, &mut Reporter) -> io::Result<()>,
    ) -> ! {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the usual effect of a signal; the parent's handlers would wake the parent's loop.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: ignoring a signal runs no code. A child has no loop that could answer it.
        unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
        // A parent that ends must be able to come back on the same port while its child is busy.
        self.event_loop.listeners.clear();
        if let Some(metrics) = &self.metrics {
            metrics.leave_to_parent();
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.leave_to_parent();
        }
        self.process.name = task.title().into();
        self.process.show_title(&self.config, &self.identity);
        let options = &self.config.advanced;
        let cpus = match task {
            Task::Rdb | Task::Transfer => &options.bgsave_cpulist,
            Task::Aof => &options.aof_rewrite_cpulist,
        };
        self.process.settle_child(options, cpus);
        let done = catch_unwind(AssertUnwindSafe(|| work(self, &mut reporter)));
        let success = matches!(done, Ok(Ok(())));
        if success {
            // The work is done, whether or not anybody hears of it.
            let copied = reporter.send(self.keyspace.len() as u64).unwrap_or(0);
            let mb = |bytes: u64| bytes >> 20;
            tracing::info!(
                "Fork CoW for {}: current {} MB, peak {} MB, average {} MB",
                task.name(),
                mb(copied),
                mb(reporter.copied_peak),
                mb(reporter.copied_sum / reporter.reports.max(1))
            );
        }
        // SAFETY: ends the process at once: the parent's destructors are the parent's.
        unsafe { libc::_exit(i32::from(!success)) }
    }

    /// Lets a child of another kind do `work` on a copy of everything: it talks with a client, as long as the client
    /// likes, and nothing comes back.
    ///
    /// # Errors
    /// The system has no room for another process.
    pub(in crate::server) fn fork_debugger(&mut self, work: impl FnOnce(&mut Server)) -> io::Result<()> {
        // SAFETY: as in `fork`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                for signal in [libc::SIGINT, libc::SIGTERM] {
                    // SAFETY: the usual effect of a signal.
                    unsafe { libc::signal(signal, libc::SIG_DFL) };
                }
                // SAFETY: ignoring a signal runs no code.
                unsafe { libc::signal(libc::SIGALRM, libc::SIG_IGN) };
                self.event_loop.listeners.clear();
                if let Some(metrics) = &self.metrics {
                    metrics.leave_to_parent();
                }
                // What changes here is written down nowhere.
                self.keyspace.ledger.mute(true);
                let done = catch_unwind(AssertUnwindSafe(|| work(self)));
                // SAFETY: ends the process at once: the parent's destructors are the parent's.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            pid => {
                self.children.debuggers.push(pid);
                Ok(())
            }
        }
    }

    /// Forgets the children in which scripts were debugged and that have ended.
    fn bury_debuggers(&mut self) {
        // SAFETY: no status is asked for.
        self.children
            .debuggers
            .retain(|&pid| unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } == 0);
    }

    /// Ends the children in which scripts are being debugged.
    pub(in crate::server) fn kill_debuggers(&mut self) {
        self.bury_debuggers();
        for pid in std::mem::take(&mut self.children.debuggers) {
            // SAFETY: the process is our child, not waited for yet, so its number is nobody else's.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }

    /// Looks whether the child has something to tell, or has ended. Called by the timer.
    pub(in crate::server) fn supervise_child(&mut self) {
        if !self.children.debuggers.is_empty() {
            self.bury_debuggers();
        }
        let Some(child) = &mut self.children.current else { return };
        child.listen();
        let mut status = 0;
        // SAFETY: `status` may be written to.
        let ended = unsafe { libc::waitpid(child.pid, &raw mut status, libc::WNOHANG) };
        if ended == 0 {
            return;
        }
        if ended == -1 {
            let error = io::Error::last_os_error();
            tracing::warn!(
                "waitpid() of the {} child failed: {}",
                child.task.name(),
                crate::net::error_text(&error)
            );
        }
        self.bury(if ended == -1 { Outcome::Failure } else { outcome(status) });
    }

    /// Ends the child and waits until it is gone.
    pub fn kill_child(&mut self) {
        let Some(child) = &self.children.current else { return };
        let mut status = 0;
        // SAFETY: the process is our child, not waited for yet, so its number is nobody else's.
        unsafe {
            libc::kill(child.pid, libc::SIGUSR1);
            while libc::waitpid(child.pid, &raw mut status, 0) == -1
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
        self.bury(outcome(status));
    }

    /// Ends the child of this task, if there is one, without waiting until it is gone.
    pub fn terminate_child(&mut self, task: Task) {
        if let Some(child) = self.children.current.as_ref().filter(|child| child.task == task) {
            // SAFETY: the process is our child, not waited for yet, so its number is nobody else's.
            unsafe { libc::kill(child.pid, libc::SIGUSR1) };
        }
    }

    fn bury(&mut self, outcome: Outcome) {
        let Some(mut child) = self.children.current.take() else { return };
        child.listen();
        set_resize_policy(ResizePolicy::Allow);
        self.child_ended(child, outcome);
    }

    /// Sees to what follows from a child's work.
    fn child_ended(&mut self, child: Child, outcome: Outcome) {
        match child.task {
            Task::Rdb => self.snapshot_ended(&child, outcome),
            Task::Aof => self.rewrite_ended(&child, outcome),
            Task::Transfer => self.transfer_child_ended(outcome),
        }
    }
}

fn outcome(status: i32) -> Outcome {
    if libc::WIFSIGNALED(status) {
        Outcome::Signal(libc::WTERMSIG(status))
    } else if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Outcome::Success
    } else {
        Outcome::Failure
    }
}

impl Child {
    /// Takes in all reports there are.
    fn listen(&mut self) {
        let mut bytes = [0; Report::SIZE];
        // A report is written at once, so it is read at once, or there is none.
        while self.pipe.read(&mut bytes).is_ok_and(|n| n == bytes.len()) {
            self.report = Report::from_bytes(&bytes);
            self.copied_peak = self.copied_peak.max(self.report.copied);
            self.reported = Some(Instant::now());
        }
    }

    /// How much of its work is done, in percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.report.keys as f64 / self.keys_total.max(1) as f64
    }
}
