//! Offsets in the log at which keys changed last.

use crate::keyspace::ledger::Change;
use crate::stdx::hash;

/// Offset in the log of each key's last change. Keys whose hashes collide share a place, so an offset may be later than
/// the key's last change, but never earlier.
#[derive(Default)]
pub(super) struct Recent {
    /// Offset by place of the hash; empty until something changes.
    places: Box<[u64]>,
    /// Offset of the last change that may concern any key.
    all: u64,
}

impl Recent {
    /// Number of places. With some hundred writes under way and a client that reads a dozen keys at a time, few replies
    /// wait because of a collision.
    const PLACES: usize = 1 << 16;

    fn place(hash: u64) -> usize {
        hash as usize % Recent::PLACES
    }

    /// Notes a change whose end is at `offset` in the log.
    pub(super) fn note(&mut self, change: &Change, keys: &[u8], offset: u64) {
        if self.places.is_empty() {
            self.places = vec![0; Recent::PLACES].into();
        }
        match change {
            Change::Key { key, .. }
            | Change::Beside { key, .. }
            | Change::Gone { key, .. }
            | Change::FieldGone { key, .. } => {
                self.places[Recent::place(hash::hash(&keys[key.clone()]))] = offset;
            }
            Change::Flushed { .. } | Change::Swapped { .. } => self.all = offset,
            Change::Part { .. } | Change::EventOnly { .. } => {}
        }
    }

    /// Offset of the last change of the key with this hash.
    pub(super) fn of(&self, hash: u64) -> u64 {
        self.places.get(Recent::place(hash)).map_or(self.all, |&changed| changed.max(self.all))
    }
}
