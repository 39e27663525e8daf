//! A hash table of fields, some of which expire, and the queue of these.
//!
//! Invariants: the queue has exactly the fields with an expiry, each with the expiry stored in its block and the
//! address of the block. It owns nothing; entries are updated wherever a block changes.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ptr::NonNull;

use super::dict::{Borrowed, Dict, Element, Place};
use super::field::Field;
use super::sds::Value;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::hash;

/// A field that expires: its expiry, and the address of its block.
type Queued = (UnixMillis, NonNull<u8>);

/// Bytes per field in the queue: nodes have eleven places, about two thirds of them used.
const QUEUED_BYTES: usize = size_of::<Queued>() * 3 / 2;

/// How setting a value changes the expiry of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewExpiry {
    /// The field has no expiry afterwards.
    Never,
    /// The field keeps its expiry, unless it has expired.
    Same,
    /// The field expires at this time.
    At(UnixMillis),
}

/// State of a field before its value was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// There was no such field.
    Absent,
    /// The field had another value.
    Present,
    /// The field had expired, and so is new for readers.
    Due,
}

impl Before {
    /// Whether the field is new for readers.
    #[inline]
    pub fn is_new(self) -> bool {
        self != Before::Present
    }
}

/// A hash table of fields, some of which expire.
pub struct Volatile {
    table: Dict<Field>,
    queue: BTreeSet<Queued>,
}

// SAFETY: the table owns its fields, and the addresses in the queue are those of its fields, wherever the table goes.
unsafe impl Send for Volatile {}
// SAFETY: as above: `&Volatile` only reads.
unsafe impl Sync for Volatile {}

/// The queue's entry for a field, if the field expires.
#[inline]
fn queued(field: &Field) -> Option<Queued> {
    field.expires().map(|at| (at, field.address()))
}

/// Moves the entry of a field in the queue.
#[inline]
fn requeue(queue: &mut BTreeSet<Queued>, old: Option<Queued>, new: Option<Queued>) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        queue.remove(&old);
    }
    if let Some(new) = new {
        queue.insert(new);
    }
}

impl Volatile {
    /// The table with its queue. O(1) if no field expires, otherwise O(n log n).
    pub fn new(table: Dict<Field>) -> Volatile {
        let queue = table.iter().filter_map(|field| queued(&field)).collect();
        Volatile { table, queue }
    }

    /// The table, to be read.
    #[inline(always)]
    pub fn table(&self) -> &Dict<Field> {
        &self.table
    }

    /// One step of a running rehash. Blocks do not move, so the queue does not change.
    #[inline]
    pub fn step(&mut self) {
        self.table.step();
    }

    /// Moves blocks whose places are sparse: see [`Dict::relocate`].
    pub fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        let Volatile { table, queue } = self;
        table.relocate(by, cursor, most, |field, by| {
            field.relocated(by, |old, new| requeue(queue, queued(old), queued(new)))
        })
    }

    /// Takes the table.
    ///
    /// # Panics
    /// If a field expires.
    pub fn take_table(&mut self) -> Dict<Field> {
        assert!(self.queue.is_empty(), "a field that expires needs its queue");
        std::mem::take(&mut self.table)
    }

    /// Number of fields that expire. O(1).
    pub fn expiring(&self) -> usize {
        self.queue.len()
    }

    /// Earliest expiry of a field.
    #[inline]
    pub fn earliest(&self) -> Option<UnixMillis> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Whether a field has expired by `now`. O(log n).
    #[inline]
    pub fn any_due(&self, now: UnixMillis) -> bool {
        self.earliest().is_some_and(|at| at <= now)
    }

    /// Number of fields that have expired by `now`. O(d) for d such fields.
    pub fn count_due(&self, now: UnixMillis) -> usize {
        self.queue.iter().take_while(|&&(at, _)| at <= now).count()
    }

    /// The field with this name, unless it has expired.
    #[inline]
    pub fn find(&self, hash: u64, field: &[u8], now: UnixMillis) -> Option<Borrowed<'_, Field>> {
        self.table.find(hash, field).filter(|field| !field.is_due(now))
    }

    /// Sets the value of a field and, as `expiry` says, its expiry. Returns what was there before. O(log n) if it
    /// expires or did, otherwise O(1).
    pub fn put(&mut self, field: &[u8], value: Value<'_>, expiry: NewExpiry, now: UnixMillis) -> Before {
        let expires = |old: Option<UnixMillis>| match expiry {
            NewExpiry::Never => None,
            NewExpiry::Same => old.filter(|&at| at > now),
            NewExpiry::At(at) => Some(at),
        };
        match self.table.entry(hash(field), field) {
            Place::Occupied(mut slot) => {
                let old = queued(&slot);
                let before = if slot.is_due(now) { Before::Due } else { Before::Present };
                slot.map(|field| {
                    let expires = expires(field.expires());
                    field.with_value(value, expires)
                });
                requeue(&mut self.queue, old, queued(&slot));
                before
            }
            Place::Vacant(place) => {
                let slot = place.insert(Field::new(field, value, expires(None)));
                requeue(&mut self.queue, None, queued(&slot));
                Before::Absent
            }
        }
    }

    /// Removes a field that has not expired and returns whether there was one.
    pub fn remove(&mut self, field: &[u8], now: UnixMillis) -> bool {
        match self.table.find_mut(hash(field), field) {
            Some(slot) if !slot.is_due(now) => {
                requeue(&mut self.queue, queued(&slot), None);
                slot.remove();
                true
            }
            _ => false,
        }
    }

    /// Changes the expiry of a field and returns whether there is such a field.
    pub fn set_expiry(&mut self, field: &[u8], expires: Option<UnixMillis>) -> bool {
        let Some(mut slot) = self.table.find_mut(hash(field), field) else { return false };
        let old = queued(&slot);
        slot.map(|field| field.with_expiry(expires));
        requeue(&mut self.queue, old, queued(&slot));
        true
    }

    /// Removes up to `most` expired fields, earliest first, and returns their number.
    pub fn pop_due(&mut self, now: UnixMillis, most: usize, mut each: impl FnMut(&[u8])) -> usize {
        for popped in 0..most {
            let Some(&(_, raw)) = self.queue.first().filter(|&&(at, _)| at <= now) else { return popped };
            self.queue.pop_first();
            // SAFETY: what is in the queue is in the table, and alive until it is removed below.
            let hash = unsafe { Field::hash(raw) };
            let field = self.table.remove_address(hash, raw).expect("what is in the queue is in the table");
            each(field.name());
        }
        most
    }

    /// Bytes occupied in addition to the table's buckets and fields.
    pub fn bytes(&self) -> usize {
        size_of::<Volatile>() + self.queue.len() * QUEUED_BYTES
    }

    /// Panics if an invariant is violated. O(n log n).
    pub fn check(&self) {
        let expected: BTreeSet<Queued> = self.table.iter().filter_map(|field| queued(&field)).collect();
        assert_eq!(self.queue, expected, "the queue has exactly the fields that expire");
    }
}
