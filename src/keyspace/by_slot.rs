//! One table of keys per slot of a cluster, so that the keys of a slot can be counted, listed and removed without a
//! search and without anything kept per key.
//!
//! This costs 64 bytes for each of the 16384 tables: 1 MB per database from its first key on, however many keys there
//! are. Per key it costs nothing, except that small tables are filled differently from a large one.
//!
//! A cursor of a scan has the slot in its lowest 14 bits and the cursor of that slot's table above them, so that a scan
//! goes through the slots in order. Redis and Valkey do the same.

use std::time::{Duration, Instant};

use super::entry::Entry;
use super::slot::{SLOTS, Slot};
use crate::stdx::alloc::relocation::Relocator;
use crate::structures::dict::{Borrowed, Dict};

/// Number of slots in a group whose keys are counted together. A random key is drawn by a search for its group and then
/// for its slot in that group, which takes the fewest steps if there are as many groups as slots per group.
const GROUP: usize = 128;
const GROUPS: usize = SLOTS / GROUP;

/// Tables visited by one call of [`BySlot::rehash_for`].
const VISITED: usize = 1024;

/// The table of one slot, in a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct Table(Dict<Entry>);

impl Table {
    /// Prefetches the entry of a key whose bucket is in the cache.
    #[inline(always)]
    pub(super) fn prefetch_element(&self, hash: u64) {
        self.0.prefetch_element(hash);
    }
}

const _: () = assert!(size_of::<Table>() == 64, "what a lookup reads of a table is one cache line");

/// A table of keys for each slot.
pub(super) struct BySlot {
    /// The tables, indexed by slot; empty before the first key.
    tables: Box<[Table]>,
    /// Number of keys in each group of slots.
    groups: [usize; GROUPS],
    /// The slot that [`BySlot::rehash_for`] continues with.
    next: usize,
    /// Slots whose keys are not shown, because they are being imported: a bit each. `None` if there are none.
    hidden: Option<Box<[u64; SLOTS / 64]>>,
}

impl BySlot {
    pub(super) fn new() -> BySlot {
        BySlot { tables: Box::default(), groups: [0; GROUPS], next: 0, hidden: None }
    }

    /// Number of keys. O(1).
    pub(super) fn len(&self) -> usize {
        self.groups.iter().sum()
    }

    /// The table of a slot; `None` if no key was ever added.
    #[inline]
    pub(super) fn table(&self, slot: Slot) -> Option<&Dict<Entry>> {
        self.tables.get(slot.index()).map(|table| &table.0)
    }

    /// As [`BySlot::table`], mutable. A caller that adds or removes a key must call [`BySlot::added`] or
    /// [`BySlot::removed`].
    #[inline]
    pub(super) fn table_mut(&mut self, slot: Slot) -> Option<&mut Dict<Entry>> {
        self.tables.get_mut(slot.index()).map(|table| &mut table.0)
    }

    /// The table of a slot, for adding a key. Allocates the tables if there are none.
    #[inline]
    pub(super) fn table_to_fill(&mut self, slot: Slot) -> &mut Dict<Entry> {
        if self.tables.is_empty() {
            self.allocate();
        }
        &mut self.tables[slot.index()].0
    }

    #[cold]
    fn allocate(&mut self) {
        self.tables = (0..SLOTS).map(|_| Table::default()).collect();
    }

    /// Counts a key that was added.
    #[inline]
    pub(super) fn added(&mut self, slot: Slot) {
        self.groups[slot.index() / GROUP] += 1;
    }

    /// Counts a key that was removed.
    #[inline]
    pub(super) fn removed(&mut self, slot: Slot) {
        self.groups[slot.index() / GROUP] -= 1;
    }

    /// All tables, indexed by slot; empty before the first key.
    #[inline]
    pub(super) fn all(&self) -> &[Table] {
        &self.tables
    }

    /// All tables in the order of their slots.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Dict<Entry>> {
        self.tables.iter().map(|table| &table.0)
    }

    /// Bytes of all tables.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.tables) + self.tables().map(Dict::bytes).sum::<usize>()
    }

    /// Prefetches the bucket of a key in the table of a slot. The processor does not wait for the table to find out where
    /// the bucket is, but executes what follows meanwhile.
    #[inline(always)]
    pub(super) fn prefetch_bucket(&self, slot: Option<Slot>, hash: u64) {
        if let Some(table) = slot.and_then(|slot| self.table(slot)) {
            table.prefetch_bucket(hash);
        }
    }

    /// Prefetches the entry of a key in the table of a slot.
    #[inline(never)]
    pub(super) fn prefetch_element(&self, slot: Option<Slot>, hash: u64) {
        if let Some(table) = slot.and_then(|slot| self.table(slot)) {
            table.prefetch_element(hash);
        }
    }

    /// The first slot from `slot` on that has keys.
    fn occupied_from(&self, slot: usize) -> Option<usize> {
        let mut slot = slot;
        while slot < self.tables.len() {
            if self.groups[slot / GROUP] == 0 {
                slot = (slot / GROUP + 1) * GROUP;
            } else if self.tables[slot].0.is_empty() {
                slot += 1;
            } else {
                return Some(slot);
            }
        }
        None
    }

    /// The first slot from `slot` on that has keys to show.
    fn shown_from(&self, slot: usize) -> Option<usize> {
        let mut found = self.occupied_from(slot)?;
        while self.is_hidden(found) {
            found = self.occupied_from(found + 1)?;
        }
        Some(found)
    }

    /// Hides the keys of these slots from whoever does not ask for them by name, and of no others.
    pub(super) fn hide(&mut self, slots: &[Slot]) {
        self.hidden = None;
        for slot in slots {
            let bits = self.hidden.get_or_insert_with(|| Box::new([0; SLOTS / 64]));
            bits[slot.index() / 64] |= 1 << (slot.index() % 64);
        }
    }

    /// Whether the keys of a slot are hidden.
    #[inline]
    pub(super) fn is_hidden(&self, slot: usize) -> bool {
        self.hidden.as_ref().is_some_and(|bits| bits[slot / 64] & 1 << (slot % 64) != 0)
    }

    /// Number of keys that are not hidden. O(1), or O(slots) while some are.
    pub(super) fn shown_len(&self) -> usize {
        match self.hidden {
            None => self.len(),
            Some(_) => self.shown_tables().map(Dict::len).sum(),
        }
    }

    /// The tables whose keys are not hidden, in the order of their slots.
    pub(super) fn shown_tables(&self) -> impl Iterator<Item = &Dict<Entry>> {
        self.tables().enumerate().filter(|&(slot, _)| !self.is_hidden(slot)).map(|(_, table)| table)
    }

    /// One step of a scan over all slots, or over the slot of the cursor alone: calls `f` for the entries at `cursor`
    /// and returns the next cursor, 0 at the end. What holds for [`Dict::scan`] holds here.
    pub(super) fn scan(&self, cursor: u64, only: bool, f: impl FnMut(&Entry)) -> u64 {
        let slot = Slot::from_low_bits(cursor);
        let start = match only {
            true => Some(slot.index()).filter(|&slot| slot < self.tables.len()),
            false => self.shown_from(slot.index()),
        };
        let Some(start) = start else { return 0 };
        let within = if start == slot.index() { cursor >> Slot::BITS } else { 0 };
        let next = self.tables[start].0.scan(within, f);
        if next != 0 {
            return next << Slot::BITS | start as u64;
        }
        if only { 0 } else { self.shown_from(start + 1).unwrap_or(0) as u64 }
    }

    /// One step of a walk over all slots that moves memory: see [`Dict::relocate`]. Cursors are those of
    /// [`BySlot::scan`].
    pub(super) fn relocate(
        &mut self,
        by: &mut Relocator,
        cursor: u64,
        f: impl FnMut(Entry, &mut Relocator) -> Entry,
    ) -> u64 {
        let slot = Slot::from_low_bits(cursor).index();
        let Some(start) = self.occupied_from(slot) else { return 0 };
        let within = if start == slot { cursor >> Slot::BITS } else { 0 };
        match self.tables[start].0.relocate(by, within, 1, f) {
            0 => self.occupied_from(start + 1).unwrap_or(0) as u64,
            next => next << Slot::BITS | start as u64,
        }
    }

    /// The slot of the key with number `n`, if all keys are numbered slot by slot.
    fn slot_of_nth(&self, mut n: usize) -> Option<usize> {
        let group = self.groups.iter().position(|&keys| {
            let here = n < keys;
            n -= if here { 0 } else { keys };
            here
        })?;
        (group * GROUP..(group + 1) * GROUP).find(|&slot| {
            let keys = self.tables[slot].0.len();
            let here = n < keys;
            n -= if here { 0 } else { keys };
            here
        })
    }

    /// A random slot, with a probability proportional to its number of keys. O(1): about two hundred additions.
    fn random_slot(&self, rng: &mut impl FnMut() -> u64) -> Option<usize> {
        if self.hidden.is_some() {
            return self.random_shown_slot(rng);
        }
        let drawn = (u128::from(rng()) * self.len() as u128) >> 64;
        self.slot_of_nth(drawn as usize)
    }

    /// As [`BySlot::random_slot`], where some slots are hidden. O(slots).
    #[cold]
    fn random_shown_slot(&self, rng: &mut impl FnMut() -> u64) -> Option<usize> {
        let mut n = ((u128::from(rng()) * self.shown_len() as u128) >> 64) as usize;
        (0..self.tables.len()).filter(|&slot| !self.is_hidden(slot)).find(|&slot| {
            let keys = self.tables[slot].0.len();
            let here = n < keys;
            n -= if here { 0 } else { keys };
            here
        })
    }

    /// As [`Dict::random`]: each key of all slots is equally likely.
    pub(super) fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<Borrowed<'_, Entry>> {
        let slot = self.random_slot(rng)?;
        self.tables[slot].0.random(rng)
    }

    /// As [`Dict::sample`]. The entries are from one slot, and from the following ones if it has too few.
    pub(super) fn sample(&self, n: usize, rng: &mut impl FnMut() -> u64, mut f: impl FnMut(&Entry)) -> usize {
        let Some(mut slot) = self.random_slot(rng) else { return 0 };
        let (first, mut seen) = (slot, 0);
        loop {
            seen += self.tables[slot].0.sample(n - seen, rng, &mut f);
            slot = self.shown_from(slot + 1).or_else(|| self.shown_from(0)).unwrap_or(first);
            if seen >= n || slot == first {
                return seen;
            }
        }
    }

    /// Continues the rehashes of some tables for about `budget`, shrinks tables that are nearly empty and frees empty
    /// ones; whether a rehash remains unfinished.
    pub(super) fn rehash_for(&mut self, budget: Duration) -> bool {
        let start = Instant::now();
        for _ in 0..VISITED.min(self.tables.len()) {
            let table = &mut self.tables[self.next].0;
            // A table of one bucket cannot be smaller, unless it is empty.
            if table.table_sizes() != [1, 0] || table.is_empty() {
                if table.is_empty() && table.bytes() > 0 {
                    table.clear();
                }
                table.shrink_if_sparse();
                if table.is_rehashing() && table.rehash_for(budget.saturating_sub(start.elapsed())) {
                    return true;
                }
            }
            self.next = (self.next + 1) % SLOTS;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use crate::keyspace::free::Reclaimer;
    use crate::keyspace::slot::Slot;
    use crate::keyspace::{Key, Keyspace, Ttl};
    use crate::stdx::rng::Rng;
    use crate::types::Value;

    fn space(keys: impl Iterator<Item = String>) -> Keyspace {
        let mut space = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
        space.divide_by_slot();
        for key in keys {
            space.db(0).set_string(Key::new(key.as_bytes()), Value::Int(1), Ttl::Clear);
        }
        space
    }

    #[test]
    fn keys_are_counted_and_listed_by_slot() {
        let keys = (0..2000).map(|n| if n % 2 == 0 { format!("{{tag}}{n}") } else { format!("key:{n}") });
        let mut expected: BTreeMap<Slot, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for key in keys.clone() {
            expected.entry(Slot::of(key.as_bytes())).or_default().insert(key.into_bytes());
        }
        let mut space = space(keys);
        assert_eq!(space.len(), 2000);
        for slot in Slot::all() {
            let keys = space.databases()[0].keys();
            let listed: BTreeSet<Vec<u8>> = keys.in_slot(slot).map(|entry| entry.key().to_vec()).collect();
            let (mut scanned, mut cursor) = (BTreeSet::new(), u64::from(slot.number()));
            loop {
                cursor = keys.scan_slot(cursor, |entry| _ = scanned.insert(entry.key().to_vec()));
                if cursor == 0 {
                    break;
                }
                assert_eq!(Slot::from_low_bits(cursor), slot);
            }
            assert_eq!(keys.count_in_slot(slot), listed.len());
            assert_eq!(listed, expected.remove(&slot).unwrap_or_default());
            assert_eq!(scanned, listed);
        }
        let tag = Slot::of(b"tag");
        for n in (0..2000).step_by(2) {
            assert!(space.db(0).remove(Key::new(format!("{{tag}}{n}").as_bytes()), false));
        }
        assert_eq!((space.len(), space.databases()[0].keys().count_in_slot(tag)), (1000, 0));
        while space.database_mut(0).rehash_for(Duration::from_millis(1)) {}
        assert!(space.databases()[0].keys().random(&mut || 0).is_some());
    }

    #[test]
    fn random_keys_are_as_likely_in_a_full_slot_as_in_others() {
        let mut space = space((0..900).map(|n| format!("{{tag}}{n}")).chain((0..100).map(|n| n.to_string())));
        let mut drawn: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for _ in 0..100_000 {
            *drawn.entry(space.db(0).random_key().expect("there are keys")).or_default() += 1;
        }
        let chi: f64 = drawn.values().map(|&n| (n as f64 - 100.0).powi(2) / 100.0).sum();
        assert_eq!(drawn.len(), 1000);
        // 999 degrees of freedom: mean 999, standard deviation 44.7.
        assert!(chi < 1250.0, "chi-square {chi}");
    }

    #[test]
    fn hidden_keys_are_found_by_name_and_in_their_slot_only() {
        let mut space = space((0..200).map(|n| n.to_string()));
        let hidden = [Slot::of(b"1"), Slot::of(b"2")];
        let concealed: Vec<String> = (0..200)
            .map(|n| n.to_string())
            .filter(|key| hidden.contains(&Slot::of(key.as_bytes())))
            .collect();
        space.hide_slots(&hidden);
        let shown = 200 - concealed.len();
        assert_eq!((space.databases()[0].shown_len(), space.databases()[0].len()), (shown, 200));
        let keys = space.databases()[0].keys();
        let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
        loop {
            cursor = keys.scan(cursor, |entry| _ = scanned.insert(entry.key().to_vec()));
            if cursor == 0 {
                break;
            }
        }
        let listed: BTreeSet<Vec<u8>> = keys.iter_shown().map(|entry| entry.key().to_vec()).collect();
        assert_eq!((scanned.len(), &listed), (shown, &scanned));
        assert_eq!(keys.iter().count(), 200, "what is saved is complete");
        let mut rng = Rng::new(5);
        for _ in 0..2000 {
            let key = keys.random(&mut || rng.next_u64()).expect("there are others").key().to_vec();
            assert!(scanned.contains(&key));
        }
        let mut seen = BTreeSet::new();
        keys.sample(300, &mut || rng.next_u64(), |entry| _ = seen.insert(entry.key().to_vec()));
        assert_eq!(seen, scanned);
        assert!(space.db(0).contains(Key::new(concealed[0].as_bytes())));
        assert!(space.databases()[0].keys().count_in_slot(hidden[0]) > 0);
        space.hide_slots(&[]);
        assert_eq!(space.databases()[0].shown_len(), 200);
    }

    #[test]
    fn samples_go_on_to_other_slots() {
        let space = space((0..50).map(|n| n.to_string()));
        let mut rng = Rng::new(3);
        for n in [0, 1, 5, 50, 100] {
            let mut seen = BTreeSet::new();
            let keys = space.databases()[0].keys();
            let found = keys.sample(n, &mut || rng.next_u64(), |entry| _ = seen.insert(entry.key().to_vec()));
            assert_eq!((found, seen.len()), (n.min(50), n.min(50)));
        }
    }
}
