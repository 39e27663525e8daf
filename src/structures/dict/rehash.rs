//! When a dict changes its size, and how its elements move to the new table.
//!
//! Normally a dict grows when it holds as many elements as slots, to a size of which they fill at most
//! 32/35, and shrinks when they fill less than a tenth. While a child process writes a snapshot,
//! every page that the parent writes is copied by the kernel (copy-on-write), and moving elements
//! writes both tables: [`ResizePolicy::Avoid`] then puts resizing off until it is really needed.
//!
//! The thresholds are those of Redis and Valkey, known to work for this use.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::table::{Bucket, SLOTS, Table};
use super::{Dict, Element, index_under};
use crate::stdx::alloc;
use crate::stdx::prefetch::prefetch;

/// How eagerly the dicts of this process change their size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ResizePolicy {
    /// Grow at load 1, shrink below 0.1, move a bucket with every mutating access.
    Allow,
    /// A child process shares our pages: grow above load 5, shrink below 0.02, and move elements
    /// only for such a change of size or into a table that has itself become too full.
    Avoid,
    /// Change no size and move nothing.
    Forbid,
}

impl ResizePolicy {
    fn from_u8(n: u8) -> ResizePolicy {
        match n {
            0 => ResizePolicy::Allow,
            1 => ResizePolicy::Avoid,
            _ => ResizePolicy::Forbid,
        }
    }
}

#[cfg(not(test))]
static POLICY: AtomicU8 = AtomicU8::new(ResizePolicy::Allow as u8);

/// Sets the policy of all dicts of this process.
pub fn set_resize_policy(policy: ResizePolicy) {
    with_policy(|p| p.store(policy as u8, Ordering::Relaxed));
}

fn policy() -> ResizePolicy {
    ResizePolicy::from_u8(with_policy(|p| p.load(Ordering::Relaxed)))
}

#[cfg(not(test))]
#[inline(always)]
fn with_policy<R>(f: impl FnOnce(&AtomicU8) -> R) -> R {
    f(&POLICY)
}

/// In unit tests every thread has its own policy, so that tests running side by side do not disturb each other.
#[cfg(test)]
fn with_policy<R>(f: impl FnOnce(&AtomicU8) -> R) -> R {
    thread_local!(static POLICY: AtomicU8 = const { AtomicU8::new(ResizePolicy::Allow as u8) });
    POLICY.with(f)
}

/// Sets how many bytes may be in use in the process with the larger table that a dict is about to grow to.
///
/// A dict that would go beyond it stays as it is, with longer chains, until it is overfull: of little use is a
/// table of twice the size for which a good part of the elements must be given up at once. The idea is Redis'.
pub fn set_growth_ceiling(bytes: usize) {
    with_ceiling(|ceiling| ceiling.store(bytes, Ordering::Relaxed));
}

#[cfg(not(test))]
#[inline(always)]
fn with_ceiling<R>(f: impl FnOnce(&AtomicUsize) -> R) -> R {
    static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);
    f(&CEILING)
}

/// Of each thread its own in unit tests, like the policy.
#[cfg(test)]
fn with_ceiling<R>(f: impl FnOnce(&AtomicUsize) -> R) -> R {
    thread_local!(static CEILING: AtomicUsize = const { AtomicUsize::new(usize::MAX) });
    CEILING.with(f)
}

/// Whether a table of so many buckets keeps below the ceiling.
fn is_affordable(buckets: usize) -> bool {
    let ceiling = with_ceiling(|ceiling| ceiling.load(Ordering::Relaxed));
    ceiling == usize::MAX || alloc::used().saturating_add(buckets * size_of::<Bucket>()) <= ceiling
}

/// Elements per thousand slots above which a table grows whatever the ceiling.
const OVERFULL: usize = 1618;
/// Under [`ResizePolicy::Avoid`], elements per slot above which a table must grow.
const AVOID_LOAD: usize = 5;
/// Slots per element above which a table shrinks.
const SPARSE: usize = 10;
/// The same under [`ResizePolicy::Avoid`].
const AVOID_SPARSE: usize = 50;
/// A change of size by this factor was forced, under whatever policy it began.
const FORCED_RATIO: usize = 4;
/// Emptied buckets whose memory is given back at a time, 2 MB: enough for a system call to pay, few enough to take
/// no noticeable time. Without it, the last step would free them all.
const DISCARD: usize = if cfg!(test) { 256 } else { 32_768 };
/// Empty buckets that one step passes over for each bucket it is asked to move. With two of them, a table that
/// began to shrink at a tenth of its slots is through before all of its elements are removed: at 0.9 elements per
/// bucket, three buckets in five hold any at first, which makes 0.8 steps per bucket at most.
const EMPTY_PER_STEP: usize = 2;

/// The buckets of a table for `n` elements: the smallest power of two they fill to at most 32/35.
fn buckets_for(n: usize) -> usize {
    let slots = n.checked_add(n / 32 * 3 + (n % 32 * 3).div_ceil(32)).expect("more elements than addresses");
    slots.div_ceil(SLOTS).max(1).checked_next_power_of_two().expect("more elements than addresses")
}

impl<E: Element> Dict<E> {
    /// One step of a running rehash, as every mutating access makes it.
    #[inline(always)]
    pub fn step(&mut self) {
        if self.is_rehashing() {
            self.rehash_step(1);
        }
    }

    /// Makes room for one more element: the table that takes insertions has memory afterwards.
    #[inline(always)]
    pub(super) fn grow_if_full(&mut self) {
        if self.tables[0].used >= self.tables[0].slots() && !self.is_rehashing() {
            self.grow();
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let (used, slots) = (self.tables[0].used, self.tables[0].slots());
        let wanted = slots == 0
            || match policy() {
                ResizePolicy::Allow => true,
                ResizePolicy::Avoid => used > AVOID_LOAD * slots,
                ResizePolicy::Forbid => false,
            };
        let buckets = buckets_for(used);
        if wanted && buckets > self.tables[0].len() {
            let needed = slots == 0 || used * 1000 > slots * OVERFULL;
            if needed || is_affordable(buckets) {
                self.resize(buckets);
            }
        }
    }

    /// After a removal: shrinks if few elements are left.
    #[inline(always)]
    pub(super) fn shrink_if_needed(&mut self) {
        if self.tables[0].used * SPARSE < self.tables[0].slots() && !self.is_rehashing() {
            self.shrink_if_sparse();
        }
    }

    /// Starts to shrink the table if the policy finds too few elements in it, and returns whether it
    /// did. Removals do this by themselves; the timer does it for dicts that became sparse while
    /// the policy held them. O(1) besides the allocation.
    #[cold]
    #[inline(never)]
    pub fn shrink_if_sparse(&mut self) -> bool {
        let (used, slots) = (self.tables[0].used, self.tables[0].slots());
        let sparse = match policy() {
            ResizePolicy::Allow => SPARSE,
            ResizePolicy::Avoid => AVOID_SPARSE,
            ResizePolicy::Forbid => return false,
        };
        let buckets = buckets_for(used);
        if self.is_rehashing() || used * sparse >= slots || buckets >= self.tables[0].len() {
            return false;
        }
        self.resize(buckets);
        true
    }

    /// Prepares for `n` more elements. Nothing happens during a rehash, nor for a table that is large enough; under
    /// [`ResizePolicy::Forbid`] only a dict without elements gets its table.
    ///
    /// # Panics
    /// If the table would exceed the address space.
    pub fn reserve(&mut self, n: usize) {
        let buckets = buckets_for(self.len().checked_add(n).expect("more elements than addresses"));
        let allowed = self.is_empty() || policy() != ResizePolicy::Forbid;
        if n > 0 && allowed && !self.is_rehashing() && buckets > self.tables[0].len() {
            self.resize(buckets);
        }
    }

    /// Starts to rehash into a table of `buckets` buckets, and makes a first step, which is all that the
    /// smallest tables need.
    fn resize(&mut self, buckets: usize) {
        debug_assert!(!self.is_rehashing() && buckets != self.tables[0].len());
        if self.is_empty() {
            // SAFETY: there is no element to lose. Only gaps could have left a child behind.
            unsafe { self.tables[0].free_memory(0, self.children > 0) };
            self.children = 0;
            self.tables[0] = Table::with_buckets(buckets);
        } else {
            self.tables[1] = Table::with_buckets(buckets);
            self.keys[1] = self.keys[0];
            self.moved = 0;
            self.rehash_step(2);
        }
    }

    /// A chain of a table has become longer by a bucket: if it is too long, sees to it that the next access which
    /// may move elements does something about it. Moves nothing.
    #[cold]
    pub(super) fn watch(&mut self, table: usize, index: usize) {
        if !Self::is_suspicious(&self.tables[table], index) {
            return;
        }
        self.overlong = true;
        if !self.is_rehashing() && policy() != ResizePolicy::Forbid {
            self.start_keying();
        }
    }

    /// Whether a chain is too long, and its elements are such that another index may separate them.
    fn is_suspicious(table: &Table, index: usize) -> bool {
        // SAFETY: the elements of a table are alive.
        table.is_overlong(index) && table.differs(index, |raw| unsafe { E::hash(raw) })
    }

    /// Starts to rehash into a table of the same size with another key. Moves nothing.
    fn start_keying(&mut self) {
        self.tables[1] = Table::with_buckets(self.tables[0].len());
        // Another, and not 0.
        let others = u8::MAX - u8::from(self.keys[0] != 0);
        let key = 1 + rand::random::<u8>() % others;
        self.keys[1] = key + u8::from(self.keys[0] != 0 && key >= self.keys[0]);
        self.moved = 0;
    }

    /// Whether the running rehash is one into a table with another key.
    fn is_keying(&self) -> bool {
        self.keys[0] != self.keys[1]
    }

    /// Moves the elements of all chains that are too long. O(buckets).
    #[cold]
    fn move_overlong(&mut self) {
        self.overlong = false;
        for index in self.moved..self.tables[0].len() {
            if self.tables[0].is_overlong(index) {
                self.move_bucket(index);
                // SAFETY: table 0 is allocated, and the chain was just taken apart.
                unsafe { self.tables[0].wipe(index) };
            }
        }
    }

    /// Whether elements may be moved at this time.
    #[inline]
    fn may_move(&self) -> bool {
        match policy() {
            ResizePolicy::Allow => true,
            ResizePolicy::Avoid => {
                let [old, new] = self.table_sizes();
                let forced = old.max(new) / old.min(new).max(1) >= FORCED_RATIO;
                forced || self.tables[1].used > self.tables[1].slots() || self.overlong || self.is_keying()
            }
            ResizePolicy::Forbid => false,
        }
    }

    /// Moves up to `buckets` buckets to the new table if a rehash is running and the policy allows it.
    /// Returns whether a rehash is (still) running. O(elements moved), at most two empty buckets
    /// passed over for each.
    #[inline(never)]
    pub fn rehash_step(&mut self, buckets: usize) -> bool {
        if !self.is_rehashing() {
            return false;
        }
        if !self.may_move() {
            return true;
        }
        if self.overlong && self.is_keying() && self.moved == 0 {
            self.move_overlong();
        }
        let mut to_move = buckets;
        let mut to_pass = buckets.saturating_mul(EMPTY_PER_STEP);
        let first = self.moved;
        // Where a chain is too long, the table is to have its final size first, without delay.
        while (to_move > 0 && to_pass > 0 || self.overlong) && self.moved < self.tables[0].len() {
            let index = self.moved;
            // From here on the bucket counts as emptied: should the element's code panic, elements
            // are lost but none is found twice.
            self.moved += 1;
            if self.move_bucket(index) {
                to_move = to_move.saturating_sub(1);
            } else {
                to_pass = to_pass.saturating_sub(1);
            }
        }
        // (Tables are powers of two: one of more than a chunk ends with a whole one.)
        let (from, to) = (first / DISCARD * DISCARD, self.moved / DISCARD * DISCARD);
        if from < to {
            // SAFETY: all before `moved` have been emptied.
            unsafe { self.tables[0].discard(from..to) };
        }
        if self.moved < self.tables[0].len() {
            self.prefetch_move();
            return true;
        }
        self.finish_rehash();
        if self.overlong {
            self.start_keying();
            self.move_overlong();
        }
        self.is_rehashing()
    }

    /// Goes on with a running rehash for about `budget` if the policy allows it. Returns whether a
    /// rehash is (still) running. For the timer: the clock is read once in 64 buckets.
    pub fn rehash_for(&mut self, budget: Duration) -> bool {
        let start = Instant::now();
        while self.rehash_step(64) {
            if !self.may_move() || start.elapsed() >= budget {
                return true;
            }
        }
        false
    }

    /// Moves the elements of one bucket of table 0 to table 1. Returns whether there were any.
    #[inline]
    fn move_bucket(&mut self, index: usize) -> bool {
        let shrinking = self.tables[1].mask() < self.tables[0].mask() && !self.is_keying();
        let (key, mut overlong) = (self.keys[1], false);
        // A keyed table takes its indices from a hash of the hash, the same whatever its size.
        let [from, to] = &mut self.tables;
        let mut added = 0;
        // SAFETY: table 1 is allocated, each element goes from one table to the other, and `moved`
        // keeps everybody from looking at the emptied bucket.
        let (elements, freed) = unsafe {
            from.empty(index, |tag, raw| {
                // A smaller table needs only bits of the hash that the old index has, too.
                let to_index = if shrinking { index } else { index_under(key, E::hash(raw)) };
                let before = added;
                to.push(to_index, tag, raw, &mut added);
                overlong |= added != before && Self::is_suspicious(to, to_index);
            })
        };
        self.overlong |= overlong;
        from.used -= elements;
        self.children = self.children + added - freed;
        elements > 0
    }

    /// Asks for what the next step will need: by the next access it has arrived.
    #[inline]
    fn prefetch_move(&self) {
        let [from, to] = &self.tables;
        let next = self.moved;
        let bucket = from.bucket(next);
        if to.mask() > from.mask() {
            bucket.prefetch_contents();
            prefetch(to.head(next).as_ptr());
            prefetch(to.head(next + from.len()).as_ptr());
        } else {
            prefetch(to.head(next).as_ptr());
        }
        prefetch(from.head(next + 1).as_ptr());
    }

    #[cold]
    fn finish_rehash(&mut self) {
        let end = self.tables[0].len();
        // (A forgotten `Slot` leaves an element counted that is gone: that ends here.)
        // SAFETY: every bucket has been emptied and has given back its children.
        unsafe { self.tables[0].free_memory(end, false) };
        self.tables[0] = std::mem::replace(&mut self.tables[1], Table::unallocated());
        self.keys[0] = self.keys[1];
        self.moved = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_leave_room() {
        assert_eq!(buckets_for(0), 1);
        assert_eq!(buckets_for(1), 1);
        assert_eq!(buckets_for(8), 1);
        assert_eq!(buckets_for(9), 2);
        for n in 1..100_000 {
            let buckets = buckets_for(n);
            assert!(buckets.is_power_of_two());
            assert!(SLOTS * buckets * 32 >= n * 35 - 34, "{n}");
            assert!(buckets == 1 || SLOTS * buckets / 2 * 32 < n * 35, "{n}");
        }
    }
}
