//! A queue between two threads, and the means by which one wakes the other.
//!
//! The queue is a ring of slots, each either empty or with a pointer. The sender fills slots in order, the receiver
//! empties them in order, and neither reads anything of the other but the slots: an item moves with the one cache line
//! of its slot. (A ring without shared indices is the idea of Giacomoni, Moseley and Vachharajani, "FastForward", 2008.)
//!
//! What always holds:
//! - items arrive once and in order, and what the sender wrote before is visible to the receiver;
//! - neither side ever waits: a full queue gives the item back.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering, fence};
use std::time::Duration;

use crate::net::poll::Waker;
use crate::stdx::sync::{OnceLock, park_timeout};

/// One place of the ring, in a cache line of its own.
#[repr(align(64))]
struct Slot<T>(AtomicPtr<T>);

struct Ring<T> {
    slots: Box<[Slot<T>]>,
    /// The ring owns what is in it.
    owns: PhantomData<Box<T>>,
}

// SAFETY: the pointers in the slots are boxes, which move from the sender to the receiver.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; slots are only accessed by atomic operations, and who takes a pointer out of a slot owns it alone:
// there is one sender, which stores only into empty slots, and one receiver, which empties only filled ones.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            let item = *slot.0.get_mut();
            if !item.is_null() {
                // SAFETY: `push` stored a box's pointer, and nobody took it out.
                drop(unsafe { Box::from_raw(item) });
            }
        }
    }
}

/// The end that items enter by.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
    next: usize,
}

/// The end that items leave by.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    next: usize,
}

/// A queue of at most `slots` items, which is a power of two.
pub fn queue<T: Send>(slots: usize) -> (Sender<T>, Receiver<T>) {
    assert!(slots.is_power_of_two());
    let slots = (0..slots).map(|_| Slot(AtomicPtr::new(ptr::null_mut()))).collect();
    let ring = Arc::new(Ring { slots, owns: PhantomData });
    (Sender { ring: Arc::clone(&ring), next: 0 }, Receiver { ring, next: 0 })
}

impl<T: Send> Sender<T> {
    /// Appends an item, or gives it back if the queue is full. The receiver may sleep: see [`Doorbell::ring`].
    ///
    /// # Errors
    /// The item, if the queue is full.
    #[inline]
    pub fn push(&mut self, item: Box<T>) -> Result<(), Box<T>> {
        let slot = &self.ring.slots[self.next & (self.ring.slots.len() - 1)].0;
        // Acquire: what the receiver did before it emptied the slot is over.
        if !slot.load(Ordering::Acquire).is_null() {
            return Err(item);
        }
        slot.store(Box::into_raw(item), Ordering::Release);
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Whether everything that was sent has been received.
    #[inline]
    pub fn is_drained(&self) -> bool {
        let last = self.next.wrapping_sub(1) & (self.ring.slots.len() - 1);
        self.ring.slots[last].0.load(Ordering::Acquire).is_null()
    }
}

impl<T: Send> Receiver<T> {
    /// Takes the oldest item.
    #[inline]
    pub fn pop(&mut self) -> Option<Box<T>> {
        let slot = &self.ring.slots[self.next & (self.ring.slots.len() - 1)].0;
        let item = slot.load(Ordering::Acquire);
        if item.is_null() {
            return None;
        }
        slot.store(ptr::null_mut(), Ordering::Release);
        self.next = self.next.wrapping_add(1);
        // SAFETY: `push` stored a box's pointer. Only the one receiver takes pointers out, and the slot is empty now.
        Some(unsafe { Box::from_raw(item) })
    }

    /// Whether nothing has arrived.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ring.slots[self.next & (self.ring.slots.len() - 1)].0.load(Ordering::Acquire).is_null()
    }
}

/// By which a thread that sleeps is woken, with one system call, and a thread that does not sleep with none.
///
/// The sleeper says that it sleeps and then looks once more whether anything has arrived; the sender sends and then
/// looks whether the receiver sleeps. Between the two steps each has a sequentially consistent fence. The fences have
/// one order. If the sleeper's is first, the sender's load behind its own fence sees that the receiver sleeps, and wakes
/// it. If the sender's is first, the sleeper's load behind its own fence sees the item, and it does not sleep. So it is
/// impossible that an item waits and the receiver sleeps without a wake-up under way. (The tests below try every order
/// of the steps on a machine that delays stores.)
pub struct Doorbell {
    /// One of [`AWAKE`], [`WAITS`] and [`NAPS`].
    rest: AtomicU8,
    waker: Waker,
    /// Who naps.
    sleeper: OnceLock<std::thread::Thread>,
}

/// The owner does not sleep.
const AWAKE: u8 = 0;
/// It sleeps in its poll.
const WAITS: u8 = 1;
/// It sleeps without watching its poll.
const NAPS: u8 = 2;

impl Doorbell {
    /// A doorbell of the thread that waits by the poll of `waker`.
    pub fn new(waker: Waker) -> Doorbell {
        Doorbell { rest: AtomicU8::new(AWAKE), waker, sleeper: OnceLock::new() }
    }

    /// The owner is about to sleep in its poll, unless `is_idle` finds that something has arrived. Returns whether it may
    /// sleep; then [`Doorbell::awake`] must follow the sleep.
    #[inline]
    pub fn may_sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.may_rest(WAITS, is_idle)
    }

    #[inline]
    fn may_rest(&self, how: u8, is_idle: impl FnOnce() -> bool) -> bool {
        // Release: who sees that it naps sees who naps.
        self.rest.store(how, Ordering::Release);
        fence(Ordering::SeqCst);
        let idle = is_idle();
        if !idle {
            self.awake();
        }
        idle
    }

    /// The owner sleeps until the bell is rung or `time` has passed, whatever happens in its poll, unless `is_idle` finds
    /// that something has arrived. Always the same thread calls this.
    pub fn nap(&self, time: Duration, is_idle: impl FnOnce() -> bool) {
        self.sleeper.get_or_init(std::thread::current);
        if self.may_rest(NAPS, is_idle) {
            // It may end early; whoever naps looks for what it waits for anyway.
            park_timeout(time);
            self.awake();
        }
    }

    /// The owner no longer sleeps.
    #[inline]
    pub fn awake(&self) {
        self.rest.store(AWAKE, Ordering::Relaxed);
    }

    /// Whether the owner sleeps, as far as is known here.
    #[inline]
    pub fn sleeps(&self) -> bool {
        self.rest.load(Ordering::Relaxed) != AWAKE
    }

    /// Wakes the owner if it sleeps. Call this after sending, once for any number of items.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // Of several senders one wakes.
        if self.sleeps() {
            match (self.rest.swap(AWAKE, Ordering::Acquire), self.sleeper.get()) {
                (NAPS, Some(sleeper)) => sleeper.unpark(),
                (AWAKE, _) => {}
                _ => self.waker.wake(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::time::Instant;

    use super::*;
    use crate::net::poll::Poll;

    #[test]
    fn items_come_out_once_and_in_order() {
        let (mut to, mut from) = queue::<usize>(4);
        assert!(from.is_empty() && from.pop().is_none());
        let mut sent = 0;
        for round in 1..50 {
            for _ in 0..round % 5 {
                to.push(Box::new(sent)).expect("there is room");
                sent += 1;
            }
            if round % 5 == 4 {
                assert_eq!(*to.push(Box::new(sent)).expect_err("it is full"), sent);
            }
            assert_eq!(to.is_drained(), from.is_empty());
            for i in 0..round % 5 {
                assert_eq!(from.pop().map(|item| *item), Some(sent - round % 5 + i));
            }
            assert!(from.is_empty() && to.is_drained());
        }
    }

    #[test]
    fn what_nobody_received_is_dropped() {
        let item = Arc::new(());
        let (mut to, from) = queue(8);
        for _ in 0..5 {
            to.push(Box::new(Arc::clone(&item))).expect("there is room");
        }
        drop((to, from));
        assert_eq!(Arc::strong_count(&item), 1);
    }

    /// An item of the next test.
    #[derive(PartialEq, Eq, Debug)]
    struct Ball {
        sent: usize,
        echoed: Option<usize>,
    }

    /// Two threads that pass items to each other and sleep whenever they can: a lost wake-up would hang it.
    #[test]
    fn two_threads_never_miss_each_other() {
        const ITEMS: usize = if cfg!(spinel_sanitize = "thread") { 20_000 } else { 100_000 };
        let side = || {
            let poll = Poll::new().expect("descriptors are left");
            let doorbell = Arc::new(Doorbell::new(poll.waker()));
            (poll, doorbell)
        };
        let ((mut here, mine), (mut there, theirs)) = (side(), side());
        let (mut to, mut other_from) = queue::<Ball>(8);
        let (mut other_to, mut from) = queue::<Ball>(8);
        fn next(from: &mut Receiver<Ball>, poll: &mut Poll, doorbell: &Doorbell, naps: bool) -> Box<Ball> {
            const LONG: Duration = Duration::from_secs(20);
            loop {
                if let Some(item) = from.pop() {
                    return item;
                }
                let began = Instant::now();
                if naps {
                    doorbell.nap(LONG, || from.is_empty());
                } else if doorbell.may_sleep(|| from.is_empty()) {
                    poll.wait(Some(LONG)).expect("a wait");
                    doorbell.awake();
                }
                // A wake-up for an item that was found without it may end the next sleep.
                assert!(began.elapsed() < LONG - Duration::from_secs(1), "overslept");
            }
        }
        let (bell, own) = (Arc::clone(&mine), Arc::clone(&theirs));
        let echo = std::thread::spawn(move || {
            for i in 0..ITEMS {
                let mut item = next(&mut other_from, &mut there, &own, i % 3 == 0);
                assert_eq!(item.sent, i);
                item.echoed = Some(i);
                other_to.push(item).expect("no more are under way");
                bell.ring();
            }
        });
        let (mut sent, mut got) = (0, 0);
        while got < ITEMS {
            // A burst of one to eight items.
            let burst = (1 + sent % 8).min(ITEMS - sent);
            for _ in 0..burst {
                to.push(Box::new(Ball { sent, echoed: None })).expect("no more are under way");
                sent += 1;
            }
            theirs.ring();
            for _ in 0..burst {
                assert_eq!(*next(&mut from, &mut here, &mine, false), Ball { sent: got, echoed: Some(got) });
                got += 1;
            }
        }
        echo.join().expect("it does not panic");
    }

    /// A machine on which each thread's stores reach memory late, in order: the memory model of x86. It stands for
    /// weaker ones too, because only the order of a store and a later load matters here.
    #[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
    struct Machine {
        items: u8,
        asleep: bool,
        woken: bool,
        /// Stores of each thread that have not reached memory.
        late: [Vec<Store>; 2],
        /// Next step of the sender and the receiver.
        at: [u8; 2],
        got: u8,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    enum Store {
        Item,
        Asleep(bool),
    }

    const SENT: u8 = 2;

    impl Machine {
        fn drain(&mut self, thread: usize) {
            let store = self.late[thread].remove(0);
            match store {
                Store::Item => self.items += 1,
                Store::Asleep(asleep) => self.asleep = asleep,
            }
        }

        /// The states that follow by one step of a thread. Without `fences` the doorbell's fences do nothing.
        fn next(&self, fences: bool) -> Vec<Machine> {
            let mut all = Vec::new();
            for thread in 0..2 {
                if !self.late[thread].is_empty() {
                    let mut next = self.clone();
                    next.drain(thread);
                    all.push(next);
                }
            }
            let fenced = |thread: usize| !fences || self.late[thread].is_empty();
            // The sender: for each item, store it, fence, and wake the receiver if it sleeps.
            let mut next = self.clone();
            match self.at[0] {
                step if step == 3 * SENT => {}
                step if step % 3 == 0 => {
                    next.late[0].push(Store::Item);
                    next.at[0] += 1;
                    all.push(next);
                }
                step if step % 3 == 1 && fenced(0) => {
                    next.at[0] += 1;
                    all.push(next);
                }
                step if step % 3 == 2 => {
                    // The swap is an atomic operation on memory, which waits for earlier stores.
                    if self.asleep && self.late[0].is_empty() {
                        next.asleep = false;
                        next.woken = true;
                        next.at[0] += 1;
                        all.push(next);
                    } else if !self.asleep {
                        next.at[0] += 1;
                        all.push(next);
                    }
                }
                _ => {}
            }
            // The receiver: take an item if there is one; otherwise say that it sleeps, fence, look again, sleep.
            let mut next = self.clone();
            // A thread sees its own late stores; the receiver has none of items.
            match self.at[1] {
                0 if self.items > 0 => {
                    next.items -= 1;
                    next.got += 1;
                    all.push(next);
                }
                0 => {
                    next.late[1].push(Store::Asleep(true));
                    next.at[1] = 1;
                    all.push(next);
                }
                1 if fenced(1) => {
                    next.at[1] = 2;
                    all.push(next);
                }
                2 if self.items > 0 => {
                    next.late[1].push(Store::Asleep(false));
                    next.at[1] = 0;
                    all.push(next);
                }
                2 => {
                    next.at[1] = 3;
                    all.push(next);
                }
                3 if self.woken => {
                    next.woken = false;
                    next.late[1].push(Store::Asleep(false));
                    next.at[1] = 0;
                    all.push(next);
                }
                _ => {}
            }
            all
        }

        /// Whether an item waits for a receiver that sleeps, and nobody will do anything about it.
        fn is_stuck(&self, fences: bool) -> bool {
            self.next(fences).is_empty() && self.got < SENT
        }
    }

    fn reachable(fences: bool) -> HashSet<Machine> {
        let mut seen = HashSet::new();
        let mut todo = vec![Machine::default()];
        while let Some(machine) = todo.pop() {
            if seen.insert(machine.clone()) {
                todo.extend(machine.next(fences));
            }
        }
        seen
    }

    #[test]
    fn no_order_of_the_steps_loses_a_wake_up() {
        let all = reachable(true);
        assert!(all.len() > 100, "{}", all.len());
        let stuck: Vec<_> = all.iter().filter(|machine| machine.is_stuck(true)).collect();
        assert!(stuck.is_empty(), "{stuck:?}");
        let ends: BTreeSet<u8> =
            all.iter().filter(|machine| machine.next(true).is_empty()).map(|machine| machine.got).collect();
        assert_eq!(ends, BTreeSet::from([SENT]), "every course ends with all items received");
        assert!(reachable(false).iter().any(|machine| machine.is_stuck(false)), "the fences are needed");
    }
}
