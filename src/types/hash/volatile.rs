//! A hash table some of whose fields expire, and the queue of these.
//!
//! What always holds: the queue has exactly the fields with an expiry, each with the time that stands in its
//! block and the block's address. It owns nothing: a field enters and leaves it where its block changes.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ptr::NonNull;

use super::{Before, NewExpiry, Table};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::hash;
use crate::structures::dict::{Borrowed, Element, Place};
use crate::structures::field::Field;
use crate::types::Value;

/// A field that expires: when, and the address of its block.
type Queued = (UnixMillis, NonNull<u8>);

/// Bytes that a field takes in the queue: nodes of eleven places are about two thirds full.
const QUEUED_BYTES: usize = size_of::<Queued>() * 3 / 2;

pub(super) struct Volatile {
    table: Table,
    queue: BTreeSet<Queued>,
}

/// The place of a field in the queue, if it has one.
#[inline]
fn queued(field: &Field) -> Option<Queued> {
    field.expires().map(|at| (at, field.address()))
}

/// Moves a field in the queue from one place to another.
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
    /// O(1) where no field expires, else O(n log n).
    pub(super) fn new(table: Table) -> Volatile {
        let queue = table.iter().filter_map(|field| queued(&field)).collect();
        Volatile { table, queue }
    }

    #[inline(always)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// One step of a running rehash. Blocks stay where they are, and so does the queue.
    #[inline]
    pub(super) fn step(&mut self) {
        self.table.step();
    }

    /// Takes the table, in which no field may expire.
    pub(super) fn take_table(&mut self) -> Table {
        assert!(self.queue.is_empty(), "a field that expires needs its queue");
        std::mem::take(&mut self.table)
    }

    /// Number of fields that expire.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// When the first field expires.
    #[inline]
    pub(super) fn earliest(&self) -> Option<UnixMillis> {
        self.queue.first().map(|&(at, _)| at)
    }

    #[inline]
    pub(super) fn any_due(&self, now: UnixMillis) -> bool {
        self.earliest().is_some_and(|at| at <= now)
    }

    /// O(d) for d fields that are due.
    pub(super) fn count_due(&self, now: UnixMillis) -> usize {
        self.queue.iter().take_while(|&&(at, _)| at <= now).count()
    }

    /// The field with this name, if it is not due.
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

    /// Removes a field that is not due; whether it was there.
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

    /// Gives a field another expiry; whether it is there.
    pub(super) fn set_expiry(&mut self, field: &[u8], expires: Option<UnixMillis>) -> bool {
        let Some(mut slot) = self.table.find_mut(hash(field), field) else { return false };
        let old = queued(&slot);
        slot.map(|field| field.with_expiry(expires));
        requeue(&mut self.queue, old, queued(&slot));
        true
    }

    /// Removes at most `most` fields that are due, earliest first; how many.
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

    /// Bytes it occupies apart from the table's own buckets and fields.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Volatile>() + self.queue.len() * QUEUED_BYTES
    }

    /// Panics unless what always holds does. O(n log n).
    pub(super) fn check(&self) {
        let expected: BTreeSet<Queued> = self.table.iter().filter_map(|field| queued(&field)).collect();
        assert_eq!(self.queue, expected, "the queue has exactly the fields that expire");
    }
}
