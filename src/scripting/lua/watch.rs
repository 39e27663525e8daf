//! Makes Lua code that runs for long interruptible.
//!
//! A hook makes the interpreter check for it at every instruction, so code normally runs without one. Instead, a
//! watching thread checks on the scripts. If two checks in a row find the same script running, the thread sends a
//! signal to the thread that runs it, and the signal handler sets the hook for the next instruction. The hook asks
//! whether the script may continue, removes itself, and the script is watched as if it had just begun: the time between
//! two such questions does not depend on how long its instructions take. LuaJIT allows `lua_sethook` in a signal
//! handler; its own program does the same for the interrupt key. The signal is SIGWINCH, which has no effect without a
//! handler, and none here while no script runs.
//!
//! The watching thread sleeps while no scripts run, and is woken by the next script. All other scripts cost a few
//! stores and no system call.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, compiler_fence};
use std::thread;
use std::time::Duration;

use mlua_sys::lua51::lua_State;

use super::ffi;
use crate::stdx::sync::{Condvar, Mutex, MutexGuard};

/// Time between two checks. The hook is called every one to two of these.
const LOOK: Duration = Duration::from_millis(2);
/// Checks that find nothing new before the thread sleeps.
const QUIET_LOOKS: u32 = 50;

thread_local! {
    /// The Lua state that this thread's signal handler hooks; null while no script waits to be hooked.
    static TARGET: AtomicPtr<lua_State> = const { AtomicPtr::new(ptr::null_mut()) };
}

/// State shared by one Lua state and its watching thread.
struct Shared {
    /// Odd while a script runs without a hook, even otherwise; never the same number twice.
    turn: AtomicU64,
    /// Whether the next script must wake the thread.
    must_wake: AtomicBool,
    rest: Mutex<Rest>,
    /// Signalled when `rest` changes.
    changed: Condvar,
}

/// State of the watching thread.
#[derive(Default)]
struct Rest {
    asleep: bool,
    /// Whether the Lua state is gone, so that the thread ends.
    ended: bool,
}

/// Watches the scripts of one Lua state.
pub(super) struct Watch {
    shared: Arc<Shared>,
    has_thread: bool,
}

impl Watch {
    /// A watch whose thread has not been started.
    pub(super) fn new() -> Watch {
        Watch {
            shared: Arc::new(Shared {
                turn: AtomicU64::new(0),
                must_wake: AtomicBool::new(true),
                rest: Mutex::new(Rest::default()),
                changed: Condvar::new(),
            }),
            has_thread: false,
        }
    }

    /// Begins or continues to watch a script, which is hooked once it has run for a while. Returns false if no thread
    /// can be started, so that the script is not watched.
    ///
    /// # Safety
    /// Until the next call of [`Watch::end`] in this thread, `raw` is a live state without a hook, and nothing sets one
    /// but the signal handler.
    #[inline]
    pub(super) unsafe fn begin(&mut self, raw: *mut lua_State) -> bool {
        TARGET.with(|target| target.store(raw, Ordering::Relaxed));
        let turn = &self.shared.turn;
        turn.store((turn.load(Ordering::Relaxed) + 1) | 1, Ordering::Relaxed);
        // The thread first says that it must be woken, and looks for a script later: it sees this one, or is woken.
        compiler_fence(Ordering::SeqCst);
        if self.shared.must_wake.load(Ordering::Relaxed) { self.wake() } else { true }
    }

    /// Ends the watch: the script has ended, or its hook was called. From now on the signal handler sets no hook.
    #[inline]
    pub(super) fn end(&self) {
        TARGET.with(|target| target.store(ptr::null_mut(), Ordering::Relaxed));
        compiler_fence(Ordering::SeqCst);
        let turn = &self.shared.turn;
        let now = turn.load(Ordering::Relaxed);
        if now % 2 == 1 {
            turn.store(now + 1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn wake(&mut self) -> bool {
        if !self.has_thread && !self.start() {
            return false;
        }
        self.shared.must_wake.store(false, Ordering::Relaxed);
        self.shared.rest().asleep = false;
        self.shared.changed.notify_one();
        true
    }

    /// Starts the watching thread for the current thread; whether it could be started.
    fn start(&mut self) -> bool {
        // SAFETY: the action is plain data, zero being an empty mask; the handler has the signature for use without
        // SA_SIGINFO. `gettid` only reads.
        let watched = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(_) as usize;
            action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGWINCH, &raw const action, ptr::null_mut());
            libc::gettid()
        };
        let shared = Arc::clone(&self.shared);
        let looker = thread::Builder::new().name("script-watch".into());
        self.has_thread = looker.spawn(move || shared.watch(watched)).is_ok();
        self.has_thread
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.rest().ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Body of the thread that watches the scripts of thread `watched`.
    fn watch(&self, watched: libc::pid_t) {
        while self.sleep() {
            self.look(watched);
        }
    }

    /// Waits for a script. Returns false if the Lua state is gone.
    fn sleep(&self) -> bool {
        let mut rest = self.rest();
        while rest.asleep && !rest.ended {
            rest = self.changed.wait(rest).unwrap_or_else(PoisonError::into_inner);
        }
        !rest.ended
    }

    /// Checks on the scripts until there are none.
    fn look(&self, watched: libc::pid_t) {
        let mut seen = self.turn.load(Ordering::Relaxed);
        // Number of checks in a row that found the same script as the one before.
        let mut still = 0u32;
        loop {
            thread::sleep(LOOK);
            let turn = self.turn.load(Ordering::Relaxed);
            if turn != seen {
                (seen, still) = (turn, 0);
                self.must_wake.store(false, Ordering::Relaxed);
                continue;
            }
            still = still.saturating_add(1);
            if turn % 2 == 1 {
                // One signal is enough, unless the interpreter was just writing its own flags next to that of the hook.
                if still.is_power_of_two() {
                    interrupt(watched);
                }
            } else if still == QUIET_LOOKS {
                self.rest().asleep = true;
                self.must_wake.store(true, Ordering::Relaxed);
            } else if still > QUIET_LOOKS {
                // A script that began before it could see `must_wake` would be seen by now: processors publish what
                // they write in much less time than passes between two looks.
                return;
            }
        }
    }
}

/// Sends the signal. If the thread has ended, this has no effect.
fn interrupt(watched: libc::pid_t) {
    // SAFETY: passes numbers to the kernel, which checks that this process has such a thread.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), watched, libc::SIGWINCH) };
}

/// The signal handler. Runs between any two instructions of its thread, whichever thread that is.
extern "C" fn on_signal(_: c_int) {
    let raw = TARGET.with(|target| target.load(Ordering::Relaxed));
    if !raw.is_null() {
        // SAFETY: the promise of `Watch::begin`, whose pointer is taken away again by this thread.
        unsafe { ffi::hook_from_signal(raw) };
    }
}
