//! Growing and shrinking of a dict, and the incremental move of its elements to the new table.
//!
//! Normally a dict grows when it has as many elements as slots, to a size at which they fill at most 32/35 of the
//! slots, and shrinks when they fill less than a tenth. While a child process writes a snapshot, the kernel copies
//! every page that the parent writes (copy-on-write), and moving elements writes both tables. [`ResizePolicy::Avoid`]
//! then postpones resizing until it is really needed.
//!
//! The thresholds are those of Redis and Valkey.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::table::{Bucket, SLOTS, Table};
use super::{Dict, Element, index_under};
use crate::stdx::alloc;
use crate::stdx::prefetch::prefetch;

/// When the dicts of this process change their size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ResizePolicy {
    /// Grow at load 1, shrink below 0.1, move a bucket with every mutating access.
    Allow,
    /// For a parent that shares its pages with a child process: grow above load 5, shrink below 0.02, and move
    /// elements only for such a change of size or into a table that has itself become too full.
    Avoid,
    /// Neither change a size nor move elements.
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

/// In unit tests each thread has its own policy, so that concurrent tests do not disturb each other.
#[cfg(test)]
fn with_policy<R>(f: impl FnOnce(&AtomicU8) -> R) -> R {
    thread_local!(static POLICY: AtomicU8 = const { AtomicU8::new(ResizePolicy::Allow as u8) });
    POLICY.with(f)
}

/// Sets the most bytes that the process may have in use, including the larger table to which a dict is about to grow.
///
/// A dict that would exceed this keeps its size, with longer chains, until it is overfull: a table of twice the size
/// is of little use if many elements must be evicted for it at once. The idea is that of Redis.
pub fn set_growth_ceiling(bytes: usize) {
    with_ceiling(|ceiling| ceiling.store(bytes, Ordering::Relaxed));
}

#[cfg(not(test))]
#[inline(always)]
fn with_ceiling<R>(f: impl FnOnce(&AtomicUsize) -> R) -> R {
    static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);
    f(&CEILING)
}

/// In unit tests each thread has its own, like the policy.
#[cfg(test)]
fn with_ceiling<R>(f: impl FnOnce(&AtomicUsize) -> R) -> R {
    thread_local!(static CEILING: AtomicUsize = const { AtomicUsize::new(usize::MAX) });
    CEILING.with(f)
}

/// Whether a table of this many buckets stays below the ceiling.
fn is_affordable(buckets: usize) -> bool {
    let ceiling = with_ceiling(|ceiling| ceiling.load(Ordering::Relaxed));
    ceiling == usize::MAX || alloc::used().saturating_add(buckets * size_of::<Bucket>()) <= ceiling
}

/// Elements per thousand slots above which a table grows regardless of the ceiling.
const OVERFULL: usize = 1618;
/// Elements per slot above which a table grows under [`ResizePolicy::Avoid`].
const AVOID_LOAD: usize = 5;
/// Slots per element above which a table shrinks.
const SPARSE: usize = 10;
/// Slots per element above which a table shrinks under [`ResizePolicy::Avoid`].
const AVOID_SPARSE: usize = 50;
/// Moving continues under every policy if the size changes by at least this factor.
const FORCED_RATIO: usize = 4;
/// Emptied buckets whose memory is returned to the system at a time. 2 MB are enough to justify a system call and few
/// enough to take no noticeable time. Otherwise the last step would free all of them.
const DISCARD: usize = if cfg!(test) { 256 } else { 32_768 };
/// Empty buckets that a step may skip for each bucket that it moves. With two, a table that began to shrink at a tenth
/// of its slots is moved before all of its elements are removed: at 0.9 elements per bucket, three buckets in five have
/// elements at first, which makes at most 0.8 steps per bucket.
const EMPTY_PER_STEP: usize = 2;

/// Number of buckets for `n` elements: the smallest power of two of which they fill at most 32/35.
fn buckets_for(n: usize) -> usize {
    let slots = n.checked_add(n / 32 * 3 + (n % 32 * 3).div_ceil(32)).expect("more elements than addresses");
    slots.div_ceil(SLOTS).max(1).checked_next_power_of_two().expect("more elements than addresses")
}

/// The number of binary digits of `n`.
fn magnitude(n: usize) -> u8 {
    (usize::BITS - n.leading_zeros()) as u8
}

impl<E: Element> Dict<E> {
    /// Makes one step of a running rehash, as every mutating access does.
    #[inline(always)]
    pub fn step(&mut self) {
        if self.is_rehashing() {
            self.rehash_step(1);
        }
    }

    /// Makes space for one more element. Afterwards the table that takes insertions has memory.
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

    /// Called after a removal: shrinks the table if few elements are left.
    #[inline(always)]
    pub(super) fn shrink_if_needed(&mut self) {
        if self.tables[0].used * SPARSE < self.tables[0].slots() && !self.is_rehashing() {
            self.shrink_if_sparse();
        }
    }

    /// Starts to shrink the table if the policy finds too few elements in it. Returns whether it did. Removals do
    /// this themselves; a timer does it for dicts that became sparse while the policy prevented shrinking. O(1)
    /// besides the allocation.
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
        let turned_back = self.turned_back != 0 && magnitude(used) >= self.turned_back;
        if self.is_rehashing() || used * sparse >= slots || buckets >= self.tables[0].len() || turned_back {
            return false;
        }
        self.resize(buckets);
        true
    }

    /// Prepares for `n` more elements. Does nothing during a rehash, or if the table is large enough. Under
    /// [`ResizePolicy::Forbid`], only an empty dict gets a table.
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

    /// Starts a rehash into a table of `buckets` buckets and makes the first step, which completes it for the
    /// smallest tables.
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
            self.turned_back = 0;
            self.rehash_step(2);
        }
    }

    /// Called when a chain of a table has become longer by a bucket. If the chain is too long, notes that the next
    /// access that may move elements must split it. Moves nothing.
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

    /// Whether a chain is too long, with elements that another index may separate.
    fn is_suspicious(table: &Table, index: usize) -> bool {
        // SAFETY: the elements of a table are alive.
        table.is_overlong(index) && table.differs(index, |raw| unsafe { E::hash(raw) })
    }

    /// Starts a rehash into a table of the same size with another key. Moves nothing.
    fn start_keying(&mut self) {
        self.tables[1] = Table::with_buckets(self.tables[0].len());
        // Another key than the current one, and not 0.
        let others = u8::MAX - u8::from(self.keys[0] != 0);
        let key = 1 + rand::random::<u8>() % others;
        self.keys[1] = key + u8::from(self.keys[0] != 0 && key >= self.keys[0]);
        self.moved = 0;
    }

    /// Whether the running rehash is into a table with another key.
    fn is_keying(&self) -> bool {
        self.keys[0] != self.keys[1]
    }

    /// Whether the running rehash is into a smaller table with the same key.
    fn is_shrinking(&self) -> bool {
        self.tables[1].mask() < self.tables[0].mask() && !self.is_keying()
    }

    /// Turns a running shrink into growth back to the former size, because it has made a chain too long: that at
    /// `chain` in the smaller table, or any if it is not known which. The dict shrinks when it has half as many
    /// elements.
    ///
    /// What few elements are left after the removal of all others may lie in few buckets: a client that scans and
    /// removes what it sees leaves elements whose indices share their lowest bits. The table is not keyed for this,
    /// because the cursor of that scan would lose its meaning.
    ///
    /// O(elements in such chains); without `chain` also O(buckets of the smaller table).
    #[cold]
    fn turn_back(&mut self, chain: Option<usize>) {
        debug_assert!(self.is_shrinking());
        // The buckets below `moved` are empty and were cleared.
        self.tables.swap(0, 1);
        self.moved = 0;
        self.turned_back = magnitude(self.len());
        self.overlong = false;
        match chain {
            Some(index) => self.move_chain(index & self.tables[0].mask()),
            None => self.move_overlong(),
        }
    }

    /// Moves the elements of all chains that are too long. O(buckets).
    #[cold]
    fn move_overlong(&mut self) {
        self.overlong = false;
        for index in self.moved..self.tables[0].len() {
            if self.tables[0].is_overlong(index) {
                self.move_chain(index);
            }
        }
    }

    /// Moves the elements of one chain of table 0, out of turn.
    fn move_chain(&mut self, index: usize) {
        self.move_bucket(index);
        // SAFETY: table 0 is allocated, and the chain was just taken apart.
        unsafe { self.tables[0].wipe(index) };
    }

    /// Whether the policy allows moving elements now.
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

    /// Moves up to `buckets` buckets to the new table if a rehash is running and the policy allows it. Returns
    /// whether a rehash is (still) running. O(elements moved), skipping at most two empty buckets for each.
    #[inline(never)]
    pub fn rehash_step(&mut self, buckets: usize) -> bool {
        if !self.is_rehashing() {
            return false;
        }
        if !self.may_move() {
            return true;
        }
        if self.overlong && self.is_shrinking() {
            self.turn_back(None);
        }
        if self.overlong && self.is_keying() && self.moved == 0 {
            self.move_overlong();
        }
        let shrinking = self.is_shrinking();
        let mut to_move = buckets;
        let mut to_pass = buckets.saturating_mul(EMPTY_PER_STEP);
        let first = self.moved;
        // If a chain is too long, the table must first reach its final size, without delay.
        while (to_move > 0 && to_pass > 0 || self.overlong) && self.moved < self.tables[0].len() {
            let index = self.moved;
            // The bucket counts as emptied from here on. If the element's code panics, elements are lost but none is
            // found twice.
            self.moved += 1;
            if self.move_bucket(index) {
                to_move = to_move.saturating_sub(1);
            } else {
                to_pass = to_pass.saturating_sub(1);
            }
            if shrinking && self.overlong {
                self.turn_back(Some(index));
                return true;
            }
        }
        // (Lengths are powers of two: a table longer than a chunk ends with a whole one.)
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

    /// Continues a running rehash for about `budget` if the policy allows it. Returns whether a rehash is (still)
    /// running. For timers: the clock is read once per 64 buckets.
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
        let shrinking = self.is_shrinking();
        // What is known is not asked again: asking looks at a whole chain.
        let (key, mut overlong) = (self.keys[1], self.overlong);
        // A keyed table takes its indices from a hash of the hash, which is the same for every size.
        let [from, to] = &mut self.tables;
        let mut added = 0;
        // SAFETY: table 1 is allocated, each element goes from one table to the other, and `moved`
        // keeps everybody from looking at the emptied bucket.
        let (elements, freed) = unsafe {
            from.empty(index, |tag, raw| {
                // A smaller table needs only bits of the hash that are also in the old index.
                let to_index = if shrinking { index } else { index_under(key, E::hash(raw)) };
                let before = added;
                to.push(to_index, tag, raw, &mut added);
                overlong = overlong || added != before && Self::is_suspicious(to, to_index);
            })
        };
        if shrinking && (elements > 0 || freed > 0) {
            // The larger table may be needed again, and must not lead to children that are no more.
            // SAFETY: table 0 is allocated, and the chain was just taken apart.
            unsafe { from.wipe(index) };
        }
        self.overlong = overlong;
        from.used -= elements;
        self.children = self.children + added - freed;
        elements > 0
    }

    /// Prefetches what the next step will need.
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
        // (A forgotten `Slot` leaves a missing element in the count; that ends here.)
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
