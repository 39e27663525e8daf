//! Sets of slots, kept as ranges.
//!
//! A primary usually owns a few ranges, so a set takes some dozen bytes where a bitmap takes 2,048, and is shown and
//! compared as it is kept. Packets carry bitmaps: bit `n % 8` of byte `n / 8` stands for slot `n`.

use super::{SLOTS, Slot};

/// Bytes of a bitmap of all slots.
pub const BITMAP_LEN: usize = SLOTS / 8;

/// A bitmap of all slots, as packets carry it.
pub type Bitmap = [u8; BITMAP_LEN];

/// A set of slots. Its ranges are in ascending order, and between two of them is at least one slot.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SlotSet {
    /// First and last slot of each range.
    ranges: Vec<(u16, u16)>,
    len: usize,
}

impl SlotSet {
    /// The slots from `first` to `last`; none if `last` is less.
    pub fn range(first: Slot, last: Slot) -> SlotSet {
        let mut set = SlotSet::default();
        if first <= last {
            set.ranges.push((first.number(), last.number()));
            set.len = last.index() - first.index() + 1;
        }
        set
    }

    /// The slots whose bits are set. O(slots / 64 + ranges).
    pub fn from_bitmap(bitmap: &Bitmap) -> SlotSet {
        let mut set = SlotSet::default();
        for (word, bytes) in bitmap.chunks_exact(8).enumerate() {
            let mut bits = u64::from_le_bytes(bytes.try_into().expect("chunks have eight bytes"));
            let mut at = word * 64;
            while bits != 0 {
                let gap = bits.trailing_zeros() as usize;
                let run = (bits >> gap).trailing_ones() as usize;
                set.append((at + gap) as u16, (at + gap + run - 1) as u16);
                at += gap + run;
                bits = if gap + run == 64 { 0 } else { bits >> (gap + run) };
            }
        }
        set
    }

    /// Adds slots behind all that are in the set.
    fn append(&mut self, first: u16, last: u16) {
        self.len += usize::from(last - first) + 1;
        match self.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.ranges.push((first, last)),
        }
    }

    /// Sets the bits of the slots in a bitmap.
    pub fn write_bitmap(&self, bitmap: &mut Bitmap) {
        for slot in self.iter() {
            bitmap[slot.index() / 8] |= 1 << (slot.index() % 8);
        }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a slot is in the set. O(log ranges).
    pub fn contains(&self, slot: Slot) -> bool {
        let slot = slot.number();
        let after = self.ranges.partition_point(|&(first, _)| first <= slot);
        after > 0 && self.ranges[after - 1].1 >= slot
    }

    /// Adds a slot; false if it was there. O(ranges).
    pub fn insert(&mut self, slot: Slot) -> bool {
        let slot = slot.number();
        let after = self.ranges.partition_point(|&(first, _)| first <= slot);
        if after > 0 && self.ranges[after - 1].1 >= slot {
            return false;
        }
        let joins_before = after > 0 && self.ranges[after - 1].1 + 1 == slot;
        let joins_after = self.ranges.get(after).is_some_and(|&(first, _)| first == slot + 1);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = slot,
            (false, true) => self.ranges[after].0 = slot,
            (false, false) => self.ranges.insert(after, (slot, slot)),
        }
        self.len += 1;
        true
    }

    /// Removes a slot; false if it was not there. O(ranges).
    pub fn remove(&mut self, slot: Slot) -> bool {
        let slot = slot.number();
        let after = self.ranges.partition_point(|&(first, _)| first <= slot);
        let Some(at) = after.checked_sub(1).filter(|&at| self.ranges[at].1 >= slot) else { return false };
        let (first, last) = self.ranges[at];
        match (first == slot, last == slot) {
            (true, true) => {
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at].0 = slot + 1,
            (false, true) => self.ranges[at].1 = slot - 1,
            (false, false) => {
                self.ranges[at].1 = slot - 1;
                self.ranges.insert(at + 1, (slot + 1, last));
            }
        }
        self.len -= 1;
        true
    }

    /// First and last slot of each range, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = (Slot, Slot)> + '_ {
        self.ranges.iter().map(|&(first, last)| (slot(first), slot(last)))
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| first..=last).map(slot)
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

fn slot(number: u16) -> Slot {
    Slot::new(usize::from(number)).expect("sets hold slots only")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stdx::rng::Rng;

    fn check(set: &SlotSet, model: &BTreeSet<u16>) {
        assert_eq!(set.len(), model.len());
        assert_eq!(set.is_empty(), model.is_empty());
        assert!(set.iter().map(Slot::number).eq(model.iter().copied()));
        assert!(set.ranges.iter().all(|(first, last)| first <= last));
        assert!(set.ranges.is_sorted_by(|before, after| before.1 + 1 < after.0));
        let mut bitmap = [0; BITMAP_LEN];
        set.write_bitmap(&mut bitmap);
        assert_eq!(SlotSet::from_bitmap(&bitmap), *set);
    }

    #[test]
    fn a_set_of_ranges_is_a_set() {
        let seed = Rng::from_os().next_u64();
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        for span in [3, 40, 200, SLOTS] {
            let (mut set, mut model) = (SlotSet::default(), BTreeSet::new());
            for step in 0..2000 {
                // At both ends of the table, too.
                let low = rng.index(span) as u16;
                let picked = if rng.one_in(2) { low } else { (SLOTS - 1) as u16 - low };
                if rng.one_in(2) {
                    assert_eq!(set.insert(slot(picked)), model.insert(picked));
                } else {
                    assert_eq!(set.remove(slot(picked)), model.remove(&picked));
                }
                assert_eq!(set.contains(slot(picked)), model.contains(&picked));
                if step % 50 == 0 {
                    check(&set, &model);
                }
            }
            check(&set, &model);
        }
    }

    #[test]
    fn ranges_reach_from_the_first_slot_to_the_last() {
        let all = SlotSet::range(slot(0), slot((SLOTS - 1) as u16));
        assert_eq!(all.len(), SLOTS);
        assert_eq!(SlotSet::from_bitmap(&[0xff; BITMAP_LEN]), all);
        assert!(SlotSet::range(slot(5), slot(4)).is_empty());
        assert_eq!(SlotSet::range(slot(5), slot(6)), [slot(6), slot(5)].into_iter().collect());
    }
}
