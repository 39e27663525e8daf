//! A hash table with fields that expire, and the queue of these fields.
//!
//! Invariants: the queue has exactly the fields with an expiry, each with the expiry stored in its block and the
//! address of the block. It owns nothing; entries are updated wherever a block changes.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ptr::NonNull;

use super::{Before, NewExpiry, Table};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::hash;
use crate::structures::dict::{Borrowed, Element, Place};
use crate::structures::field::Field;
use crate::types::Value;

/// A field that expires: its expiry, and the address of its block.
type Queued = (UnixMillis, NonNull<u8>);

/// Bytes per field in the queue: nodes have eleven places, about two thirds of them used.
const QUEUED_BYTES: usize = size_of::<Queued>() * 3 / 2;

pub(super) struct Volatile {
    table: Table,
    queue: BTreeSet<Queued>,
}

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
    /// O(1) if no field expires, otherwise O(n log n).
    pub(super) fn new(table: Table) -> Volatile {
        let queue = table.iter().filter_map(|field| queued(&field)).collect();
        Volatile { table, queue }
    }

    #[inline(always)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// One step of a running rehash. Blocks do not move, so the queue does not change.
    #[inline]
    pub(super) fn step(&mut self) {
        self.table.step();
    }

    /// Takes the table, which has no field that expires.
    pub(super) fn take_table(&mut self) -> Table {
        assert!(self.queue.is_empty(), "a field that expires needs its queue");
        std::mem::take(&mut self.table)
    }

    /// Number of fields that expire.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Earliest expiry of a field.
    #[inline]
    pub(super) fn earliest(&self) -> Option<UnixMillis> {
        self.queue.first().map(|&(at, _)| at)
    }

    #[inline]
    pub(super) fn any_due(&self, now: UnixMillis) -> bool {
        self.earliest().is_some_and(|at| at <= now)
    }

    /// O(d) for d expired fields.
    pub(super) fn count_due(&self, now: UnixMillis) -> usize {
        self.queue.iter().take_while(|&&(at, _)| at <= now).count()
    }

    /// The field with this name, unless it has expired.
    #[inline]
    pub(super) fn find(&self, hash: u64, field: &[u8], now: UnixMillis) -> Option<Borrowed<'_, Field>> {
        self.table.find(hash, field).filter(|field| !field.is_due(now))
    }

    pub(super) fn put(
        &mut self,
        field: &[u8],
        value: Value<'_>,
        expiry: NewExpiry,
        now: UnixMillis,
    ) -> Before {
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
    pub(super) fn remove(&mut self, field: &[u8], now: UnixMillis) -> bool {
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
    pub(super) fn set_expiry(&mut self, field: &[u8], expires: Option<UnixMillis>) -> bool {
        let Some(mut slot) = self.table.find_mut(hash(field), field) else { return false };
        let old = queued(&slot);
        slot.map(|field| field.with_expiry(expires));
        requeue(&mut self.queue, old, queued(&slot));
        true
    }

    /// Removes up to `most` expired fields, earliest first, and returns their number.
    pub(super) fn pop_due(&mut self, now: UnixMillis, most: usize, mut each: impl FnMut(&[u8])) -> usize {
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
    pub(super) fn bytes(&self) -> usize {
        size_of::<Volatile>() + self.queue.len() * QUEUED_BYTES
    }

    /// Panics if an invariant is violated. O(n log n).
    pub(super) fn check(&self) {
        let expected: BTreeSet<Queued> = self.table.iter().filter_map(|field| queued(&field)).collect();
        assert_eq!(self.queue, expected, "the queue has exactly the fields that expire");
    }
}
