//! Locks and other means by which threads wait for each other: those of `std`, in a form that the thread sanitizer
//! understands.
//!
//! The sanitizer learns which accesses are ordered from atomic operations in code that is compiled with it. `std` is
//! not: it comes compiled, and what its functions do out of line, such as locking a contended mutex, stays invisible.
//! Accesses that a mutex orders would then be reported as races. Under `--cfg spinel_sanitize="thread"` the types of
//! this module are therefore thin wrappers that also tell the sanitizer what they order. In any other build they *are*
//! those of `std`.
//!
//! `Arc` needs no wrapper: its functions are generic and therefore compiled into this crate, with one correction that
//! the linker makes (`__wrap___tsan_atomic64_fetch_sub`). Starting and joining a thread is seen because the sanitizer
//! observes the C library. `tests/tidy.rs` checks that nothing else by which threads wait for each other is named
//! outside this file.
#![cfg_attr(spinel_sanitize = "thread", allow(unsafe_code))]

#[cfg(not(spinel_sanitize = "thread"))]
pub use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, mpsc};

#[cfg(spinel_sanitize = "thread")]
pub use watched::{Condvar, Mutex, MutexGuard, OnceLock, mpsc};

/// Sleeps until somebody calls [`std::thread::Thread::unpark`] for this thread, or `time` has passed; it may end early.
/// The sanitizer sees no order in it, so whoever uses it needs another one.
pub fn park_timeout(time: std::time::Duration) {
    std::thread::park_timeout(time);
}

/// The wrappers. They have the parts of the interface that this crate uses.
#[cfg(spinel_sanitize = "thread")]
#[allow(missing_docs)]
mod watched {
    use std::ffi::{c_int, c_void};
    use std::mem::{ManuallyDrop, forget};
    use std::ops::{Deref, DerefMut};
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};
    use std::sync::{LockResult, PoisonError};
    use std::time::Duration;

    // SAFETY: as the sanitizer's headers declare them; the last is its function that the linker renames.
    unsafe extern "C" {
        /// What is ordered before earlier releases of `address` is now ordered before this thread's next steps.
        fn __tsan_acquire(address: *mut c_void);
        /// This thread's steps so far are ordered before later acquisitions of `address`.
        fn __tsan_release(address: *mut c_void);
        fn __real___tsan_atomic64_fetch_sub(place: *mut i64, by: i64, order: c_int) -> i64;
    }

    fn acquire<T: ?Sized>(owner: &T) {
        // SAFETY: an address is a name here; nothing is read or written there.
        unsafe { __tsan_acquire(ptr::from_ref(owner).cast_mut().cast()) }
    }

    fn release<T: ?Sized>(owner: &T) {
        // SAFETY: as in `acquire`.
        unsafe { __tsan_release(ptr::from_ref(owner).cast_mut().cast()) }
    }

    /// Takes the place of the sanitizer's function for atomic subtraction (the linker's option `--wrap`).
    ///
    /// `Arc` subtracts with release order and, if the count is zero, frees after a fence that acquires. The sanitizer
    /// ignores fences, so that it would report each object that was last used by another thread than the one that
    /// frees it. Acquiring with the subtraction itself has the same effect.
    ///
    /// # Safety
    /// That of the function that this replaces: `place` may be read and written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn __wrap___tsan_atomic64_fetch_sub(place: *mut i64, by: i64, order: c_int) -> i64 {
        // Orders as C numbers them.
        const RELEASE: c_int = 3;
        const ACQUIRE_RELEASE: c_int = 4;
        let order = if order == RELEASE { ACQUIRE_RELEASE } else { order };
        // SAFETY: the caller's promise.
        unsafe { __real___tsan_atomic64_fetch_sub(place, by, order) }
    }

    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    pub struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        guard: ManuallyDrop<std::sync::MutexGuard<'a, T>>,
    }

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Mutex<T> {
            Mutex(std::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.guarded(self.0.lock())
        }

        /// The lock, which this thread has just got.
        fn guarded<'a>(
            &'a self,
            locked: LockResult<std::sync::MutexGuard<'a, T>>,
        ) -> LockResult<MutexGuard<'a, T>> {
            acquire(self);
            let guard = |guard| MutexGuard { mutex: self, guard: ManuallyDrop::new(guard) };
            locked.map(guard).map_err(|poisoned| PoisonError::new(guard(poisoned.into_inner())))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            release(self.mutex);
            // SAFETY: the guard is not used again.
            unsafe { ManuallyDrop::drop(&mut self.guard) }
        }
    }

    #[derive(Debug, Default)]
    pub struct Condvar(std::sync::Condvar);

    impl Condvar {
        pub const fn new() -> Condvar {
            Condvar(std::sync::Condvar::new())
        }

        /// The order comes from the mutex; a notification adds none.
        pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            let mutex = guard.mutex;
            release(mutex);
            // SAFETY: the wrapper is forgotten, so that the guard is taken once.
            let inner = unsafe { ManuallyDrop::take(&mut guard.guard) };
            forget(guard);
            mutex.guarded(self.0.wait(inner))
        }

        /// Waits at most this long.
        fn wait_briefly<'a, T>(&self, mut guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
            let mutex = guard.mutex;
            release(mutex);
            // SAFETY: as in `wait`.
            let inner = unsafe { ManuallyDrop::take(&mut guard.guard) };
            forget(guard);
            let (inner, _) = self.0.wait_timeout(inner, limit).unwrap_or_else(PoisonError::into_inner);
            mutex.guarded(Ok(inner)).expect("made of a lock that is not poisoned")
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// A value that is set once. Reading it takes no lock, as signal handlers require. Meant for statics: the value
    /// is never freed.
    pub struct OnceLock<T> {
        value: AtomicPtr<T>,
        setting: Mutex<()>,
    }

    // SAFETY: a shared reference gives shared references to the value, or moves one in from another thread.
    unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

    impl<T> OnceLock<T> {
        pub const fn new() -> OnceLock<T> {
            OnceLock { value: AtomicPtr::new(ptr::null_mut()), setting: Mutex::new(()) }
        }

        pub fn get(&self) -> Option<&T> {
            // SAFETY: null, or a value that is neither changed nor freed.
            unsafe { self.value.load(Ordering::Acquire).as_ref() }
        }

        pub fn set(&self, value: T) -> Result<(), T> {
            let mut value = Some(value);
            self.get_or_init(|| value.take().expect("called at most once"));
            value.map_or(Ok(()), Err)
        }

        pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.get() {
                return value;
            }
            let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
            self.get().unwrap_or_else(|| {
                let value = Box::leak(Box::new(make()));
                self.value.store(value, Ordering::Release);
                value
            })
        }
    }

    /// Channels made of the lock above. Those of `std` keep their waiting threads under locks of `std`.
    pub mod mpsc {
        use std::collections::VecDeque;
        use std::sync::{Arc, PoisonError};
        use std::time::{Duration, Instant};

        pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};

        use super::{Condvar, Mutex, MutexGuard};

        #[derive(Debug)]
        struct Queue<T> {
            items: VecDeque<T>,
            senders: usize,
            has_receiver: bool,
        }

        #[derive(Debug)]
        struct Shared<T> {
            queue: Mutex<Queue<T>>,
            changed: Condvar,
        }

        impl<T> Shared<T> {
            fn lock(&self) -> MutexGuard<'_, Queue<T>> {
                self.queue.lock().unwrap_or_else(PoisonError::into_inner)
            }
        }

        #[derive(Debug)]
        pub struct Sender<T>(Arc<Shared<T>>);

        #[derive(Debug)]
        pub struct Receiver<T>(Arc<Shared<T>>);

        pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let queue = Queue { items: VecDeque::new(), senders: 1, has_receiver: true };
            let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
            (Sender(Arc::clone(&shared)), Receiver(shared))
        }

        impl<T> Sender<T> {
            pub fn send(&self, item: T) -> Result<(), SendError<T>> {
                let mut queue = self.0.lock();
                if !queue.has_receiver {
                    return Err(SendError(item));
                }
                queue.items.push_back(item);
                self.0.changed.notify_one();
                Ok(())
            }
        }

        impl<T> Clone for Sender<T> {
            fn clone(&self) -> Sender<T> {
                self.0.lock().senders += 1;
                Sender(Arc::clone(&self.0))
            }
        }

        impl<T> Drop for Sender<T> {
            fn drop(&mut self) {
                self.0.lock().senders -= 1;
                self.0.changed.notify_one();
            }
        }

        impl<T> Receiver<T> {
            pub fn recv(&self) -> Result<T, RecvError> {
                loop {
                    match self.recv_timeout(Duration::from_secs(60)) {
                        Ok(item) => return Ok(item),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                    }
                }
            }

            pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
                let end = Instant::now() + limit;
                let mut queue = self.0.lock();
                loop {
                    if let Some(item) = queue.items.pop_front() {
                        return Ok(item);
                    }
                    let left = end.saturating_duration_since(Instant::now());
                    match queue.senders {
                        0 => return Err(RecvTimeoutError::Disconnected),
                        _ if left.is_zero() => return Err(RecvTimeoutError::Timeout),
                        _ => queue = self.0.changed.wait_briefly(queue, left),
                    }
                }
            }
        }

        impl<T> Drop for Receiver<T> {
            fn drop(&mut self) {
                self.0.lock().has_receiver = false;
            }
        }
    }
}

/// Tests of the sanitizer's setup: it reports races, and nothing that is ordered. Each scene runs in a process of its
/// own, because the sanitizer's report becomes the exit status of the process.
#[cfg(all(test, spinel_sanitize = "thread"))]
mod tests {
    use std::cell::UnsafeCell;
    use std::process::{Command, Output};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{self, JoinHandle};

    use super::{Condvar, Mutex, OnceLock, mpsc};

    /// A number that any thread may change, which is a race unless something orders the changes.
    #[derive(Default)]
    struct Bare(UnsafeCell<u64>);

    // SAFETY: none; that is what the tests are about. A torn number does no harm.
    unsafe impl Sync for Bare {}

    impl Bare {
        fn change(&self) {
            // SAFETY: the cell lives; as to other threads, see `Sync`.
            unsafe { self.0.get().write_volatile(self.0.get().read_volatile() + 1) }
        }
    }

    /// Threads that do the same, all at once.
    fn threads(work: impl Fn(usize) + Send + Sync + 'static) {
        let work = Arc::new(work);
        let start = |i| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(i))
        };
        let threads: Vec<JoinHandle<()>> = (0..4).map(start).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }

    const ROUNDS: usize = 5_000;

    fn play(scene: &str) {
        let number = Arc::new(Bare::default());
        let copy = Arc::clone(&number);
        match scene {
            "race: nothing orders" => threads(move |_| copy.change()),
            "race: two locks" => {
                let locks = [const { Mutex::new(()) }; 2];
                threads(move |i| {
                    let _locked = locks[i % 2].lock();
                    copy.change();
                });
            }
            "race: a count without order" => {
                let turn = AtomicUsize::new(0);
                threads(move |i| {
                    while turn.load(Ordering::Relaxed) != i {
                        thread::yield_now();
                    }
                    copy.change();
                    turn.store(i + 1, Ordering::Relaxed);
                });
            }
            "race: after unlocking" => {
                let lock = Mutex::new(());
                threads(move |_| {
                    drop(lock.lock());
                    copy.change();
                });
            }
            "a contended lock" => {
                let lock = Mutex::new(());
                threads(move |_| {
                    for _ in 0..ROUNDS {
                        let _locked = lock.lock();
                        copy.change();
                    }
                });
            }
            "a condition" => {
                let (turn, changed) = (Mutex::new(0), Condvar::new());
                threads(move |i| {
                    for round in 0..ROUNDS / 10 {
                        let mut locked = turn.lock().expect("no panic");
                        while *locked != round * 4 + i {
                            locked = changed.wait(locked).expect("no panic");
                        }
                        *locked += 1;
                        copy.change();
                        changed.notify_all();
                    }
                });
            }
            "a value set once" => {
                for _ in 0..ROUNDS / 50 {
                    let value: OnceLock<Vec<usize>> = OnceLock::new();
                    threads(move |i| {
                        assert_eq!(value.get_or_init(|| vec![i; 3]).len(), 3);
                        assert_eq!(value.get().map(Vec::len), Some(3));
                        assert_eq!(value.set(Vec::new()), Err(Vec::new()));
                    });
                }
            }
            "shared ownership" => {
                struct LastChange(Arc<Bare>);
                impl Drop for LastChange {
                    fn drop(&mut self) {
                        self.0.change();
                    }
                }
                for _ in 0..ROUNDS / 50 {
                    let shared = Arc::new((Mutex::new(()), LastChange(Arc::clone(&copy))));
                    threads(move |_| {
                        let _locked = shared.0.lock();
                        shared.1.0.change();
                    });
                }
            }
            "a channel" => {
                let (send, receive) = mpsc::channel::<Box<Bare>>();
                let receiver = thread::spawn(move || {
                    while let Ok(number) = receive.recv() {
                        number.change();
                    }
                });
                threads(move |_| {
                    for _ in 0..ROUNDS {
                        let number = Box::new(Bare::default());
                        number.change();
                        send.send(number).expect("the receiver lives");
                    }
                });
                receiver.join().expect("no panic");
            }
            _ => unreachable!("no such scene"),
        }
        number.change();
    }

    const SCENE: &str = "SPINEL_TEST_RACE";

    fn in_a_process(scene: &str) -> Output {
        Command::new(std::env::current_exe().expect("we run"))
            .args(["--exact", "stdx::sync::tests::the_sanitizer_sees", "--nocapture", "--test-threads=1"])
            .env(SCENE, scene)
            .output()
            .expect("the test binary starts")
    }

    #[test]
    fn the_sanitizer_sees() {
        if let Ok(scene) = std::env::var(SCENE) {
            return play(&scene);
        }
        let outcome = |scene: &str| {
            let out = in_a_process(scene);
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            (out.status.code(), text.contains("WARNING: ThreadSanitizer: data race"), text)
        };
        for scene in ["nothing orders", "two locks", "a count without order", "after unlocking"] {
            let (code, reported, text) = outcome(&format!("race: {scene}"));
            assert!(code == Some(66) && reported, "{scene}: {code:?} {text}");
        }
        for scene in ["a contended lock", "a condition", "a value set once", "shared ownership", "a channel"]
        {
            let (code, reported, text) = outcome(scene);
            assert!(code == Some(0) && !reported, "{scene}: {code:?} {text}");
        }
    }
}
