//! Watchdog: logs what the event loop is doing when one iteration lasts longer than `watchdog-period`.
//!
//! A separate thread checks the loop at intervals. If the loop has been in the same iteration for too long, the
//! thread interrupts it with a signal. The handler only records the return addresses on the stack and the running
//! command, because it may have interrupted anything, even the allocator. The thread resolves the addresses to
//! names while the loop continues. The signal is SIGURG, which without a handler has no effect.
//!
//! An operator can request the same report at any time with SIGALRM, also without a watchdog: then the loop answers
//! itself.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt::Write as _;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::net::poll::Waker;
use crate::server::Server;
use crate::server::process::crash;
use crate::stats::log::{self, Level};
use crate::stdx::quote;
use crate::stdx::sync::OnceLock;
use crate::stdx::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

/// Odd during an iteration of the loop, even between iterations; never the same number twice.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Whether a report requested by SIGALRM has not been written yet.
static REPORT_REQUESTED: AtomicBool = AtomicBool::new(false);
/// Wakes the event loop.
static WAKER: OnceLock<Waker> = OnceLock::new();

/// Record written by the signal handler.
static NOTES: Notes = Notes {
    addresses: [const { AtomicUsize::new(0) }; MOST_ADDRESSES],
    depth: AtomicUsize::new(0),
    command: [const { AtomicU8::new(0) }; MOST_BYTES],
    command_len: AtomicUsize::new(0),
    complete: AtomicBool::new(false),
};

const MOST_ADDRESSES: usize = 64;
const MOST_BYTES: usize = 256;

/// Checks per period.
const LOOKS: u32 = 4;

/// First line of a report; `END` is the last.
const HEAD: &str = "\n--- WATCHDOG TIMER EXPIRED ---\n";
const END: &str = "--------\n";

/// How long the thread waits for the signal handler.
const PATIENCE: Duration = Duration::from_secs(1);

struct Notes {
    addresses: [AtomicUsize; MOST_ADDRESSES],
    depth: AtomicUsize,
    command: [AtomicU8; MOST_BYTES],
    command_len: AtomicUsize,
    complete: AtomicBool,
}

/// The watchdog thread, which stops when this is dropped.
#[derive(Debug)]
pub struct Watchdog {
    _stop: Sender<()>,
}

/// Marks the beginning of an iteration of the event loop.
#[inline(always)]
pub fn iteration_begins() {
    TURN.store(TURN.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
}

/// Marks the end of an iteration.
#[inline(always)]
pub fn iteration_ends() {
    TURN.store((TURN.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
}

impl Watchdog {
    /// Starts a watchdog for the calling thread. `None` if the system cannot start a thread, which is logged.
    fn start(period: Duration) -> Option<Watchdog> {
        // SAFETY: the action is plain data, zero being an empty mask; the handler has the signature for use without
        // SA_SIGINFO. `gettid` only reads.
        let watched = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(_) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut());
            libc::gettid()
        };
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("watchdog".into());
        match thread.spawn(move || watch(period, watched, &stopped)) {
            Ok(_) => Some(Watchdog { _stop: stop }),
            Err(error) => {
                tracing::warn!("Cannot start the watchdog: {}", crate::net::error_text(&error));
                None
            }
        }
    }
}

impl Server {
    /// Restarts or stops the watchdog as configured. Call this from the thread of the event loop.
    pub(in crate::server) fn apply_watchdog(&mut self) {
        // A shorter period could report a loop that merely waits for its timer.
        let least = 2 * self.tick().as_millis() as u32;
        let period = &mut self.config.debug.watchdog_period_ms;
        self.process.watchdog = None;
        if *period > 0 {
            *period = (*period).max(least);
            self.process.watchdog = Watchdog::start(Duration::from_millis(u64::from(*period)));
        }
    }
}

/// The watchdog thread's loop, until it is told to stop.
fn watch(period: Duration, watched: libc::pid_t, stopped: &Receiver<()>) {
    let (mut turn, mut since) = (TURN.load(Ordering::Relaxed), Instant::now());
    let mut reported = None;
    while stopped.recv_timeout(period / LOOKS) == Err(RecvTimeoutError::Timeout) {
        // The event loop, which should answer requests, may be stuck itself.
        report_if_requested();
        let now = TURN.load(Ordering::Relaxed);
        if now != turn {
            (turn, since) = (now, Instant::now());
        } else if turn % 2 == 1
            && reported != Some(turn)
            && since.elapsed() >= period
            && !crash::is_reporting()
        {
            reported = Some(turn);
            report(watched);
        }
    }
}

/// Interrupts the watched thread and logs what it was doing. If the thread has ended, the signal has no effect.
fn report(watched: libc::pid_t) {
    NOTES.complete.store(false, Ordering::Relaxed);
    // SAFETY: passes two numbers to the kernel, which checks that this process has such a thread.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), watched, libc::SIGURG) };
    let asked = Instant::now();
    while !NOTES.complete.load(Ordering::Acquire) {
        if asked.elapsed() > PATIENCE {
            // The thread does not even take signals: it waits for a disk, or gets no processor.
            log::raw(Level::Warning, &format!("{HEAD}The server cannot be interrupted.\n{END}"));
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    log::raw(Level::Warning, &text(HEAD));
}

fn text(head: &str) -> String {
    let mut text = String::from(head);
    let len = NOTES.command_len.load(Ordering::Relaxed).min(MOST_BYTES);
    if len > 0 {
        let command: Vec<u8> = NOTES.command[..len].iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        let _ = writeln!(text, "Running the command: {}", quote::repr(&command));
    }
    text.push_str("\n------ STACK TRACE ------\nBacktrace:\n");
    let depth = NOTES.depth.load(Ordering::Relaxed).min(MOST_ADDRESSES);
    for address in &NOTES.addresses[..depth] {
        let address = address.load(Ordering::Relaxed);
        let mut known = false;
        // A return address may already belong to the next source line.
        backtrace::resolve(ptr::without_provenance_mut(address.wrapping_sub(1)), |symbol| {
            known = true;
            let _ = write!(text, "{address:#x} ");
            let _ = match symbol.name() {
                Some(name) => write!(text, "{name:#}"),
                None => write!(text, "?"),
            };
            if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
                let _ = write!(text, " at {}:{line}", file.display());
            }
            text.push('\n');
        });
        if !known {
            let _ = writeln!(text, "{address:#x} ?");
        }
    }
    text.push_str(END);
    text
}

/// Prepares the answer to SIGALRM, by which an operator asks what the server is doing; the full report is logged
/// once the loop continues. Call this once, from the thread of the event loop.
pub(in crate::server) fn answer_alarms(waker: &Waker) {
    if WAKER.set(waker.clone()).is_err() {
        return;
    }
    // SAFETY: as in `Watchdog::start`.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_alarm as extern "C" fn(_) as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
    }
}

/// Logs the report that an operator has requested, if any.
#[inline]
pub(in crate::server) fn report_if_requested() {
    if REPORT_REQUESTED.load(Ordering::Relaxed) {
        log_report();
    }
}

#[cold]
fn log_report() {
    if REPORT_REQUESTED.swap(false, Ordering::Acquire) {
        log::raw(Level::Warning, &text("\n--- SIGALRM RECEIVED ---\n"));
    }
}

/// SIGALRM handler. Runs in any thread; the kernel prefers that of the event loop.
extern "C" fn on_alarm(signal: c_int) {
    // SAFETY: the address of a variable of this thread.
    let errno = unsafe { *libc::__errno_location() };
    log::from_signal_handler("Received SIGALRM, the stack trace follows");
    on_signal(signal);
    REPORT_REQUESTED.store(true, Ordering::Release);
    if let Some(waker) = WAKER.get() {
        waker.wake();
    }
    // SAFETY: as above. The interrupted code may be about to read it.
    unsafe { *libc::__errno_location() = errno };
}

/// SIGURG handler. Runs in the thread of the event loop, between any two instructions.
extern "C" fn on_signal(_: c_int) {
    let mut depth = 0;
    // SAFETY: the address of a variable of this thread.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the documentation forbids resolving names at the same time, for systems on which both share state. On
    // Linux, walking the stack shares no state, takes no locks and allocates nothing. The thread does not resolve
    // names before the record is complete either, unless a signal arrives after the thread has given up on it.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            NOTES.addresses[depth].store(frame.ip().addr(), Ordering::Relaxed);
            depth += 1;
            depth < MOST_ADDRESSES
        });
    }
    NOTES.depth.store(depth, Ordering::Relaxed);
    let mut len = 0;
    crash::for_running(|args, secret| {
        // Arguments past the last of these bits are not shown.
        let shown = args.iter().take(64).enumerate().map(|(i, arg)| match secret >> i & 1 {
            0 => arg,
            _ => b"(redacted)",
        });
        let bytes = shown.enumerate().flat_map(|(i, arg)| b" "[usize::from(i == 0)..].iter().chain(arg));
        for (&byte, place) in bytes.zip(&NOTES.command) {
            place.store(byte, Ordering::Relaxed);
            len += 1;
        }
    });
    NOTES.command_len.store(len, Ordering::Relaxed);
    NOTES.complete.store(true, Ordering::Release);
    // SAFETY: as above. The interrupted code may be about to read it.
    unsafe { *libc::__errno_location() = errno };
}
