//! Which keys the source has sent.
//!
//! Slots are sent one after the other, and the keys of a slot in parts, between which clients write. So that each key is
//! sent once, in a state that the changes sent behind it go on from, a change is treated by where its key is:
//!
//! - in a slot that is still to come: it is not sent, because the key will be sent with it;
//! - in a slot that has been sent, or sent already itself: it is sent;
//! - in the slot that is being sent, but not sent itself: the key is sent as it is after the change.

use std::collections::HashSet;

use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;

/// Where a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a slot that does not move.
    Elsewhere,
    /// In a slot that is still to come.
    Later,
    /// In the slot that is being sent; the key is not.
    Open,
    /// It has been sent.
    Sent,
}

/// The slot that is being sent.
#[derive(Debug)]
pub struct Current {
    /// The slot.
    pub slot: Slot,
    /// Number of the database whose keys are being sent.
    pub db: usize,
    /// Cursor of the scan of that database; `None` at its end.
    pub cursor: Option<u64>,
    /// Names of the keys that were sent.
    sent: HashSet<Box<[u8]>>,
}

/// How far the source is.
#[derive(Debug)]
pub struct Progress {
    all: SlotSet,
    done: SlotSet,
    /// The slots still to come, the next one last.
    left: Vec<Slot>,
    /// The slot that is being sent.
    pub current: Option<Current>,
}

impl Progress {
    /// Nothing of these slots has been sent.
    pub fn new(all: SlotSet) -> Progress {
        let mut left: Vec<Slot> = all.iter().collect();
        left.reverse();
        Progress { all, done: SlotSet::default(), left, current: None }
    }

    /// Begins with the next slot, if there is one: the one before has been sent.
    pub fn advance(&mut self) -> Option<&mut Current> {
        if let Some(current) = self.current.take() {
            self.done.insert(current.slot);
        }
        let slot = self.left.pop()?;
        let cursor = Some(u64::from(slot.number()));
        Some(self.current.insert(Current { slot, db: 0, cursor, sent: HashSet::new() }))
    }

    /// Where a key is.
    pub fn place(&self, key: &[u8]) -> Place {
        let slot = Slot::of(key);
        match &self.current {
            _ if self.done.contains(slot) => Place::Sent,
            Some(current) if current.slot == slot && current.sent.contains(key) => Place::Sent,
            Some(current) if current.slot == slot => Place::Open,
            _ if self.all.contains(slot) => Place::Later,
            _ => Place::Elsewhere,
        }
    }

    /// Whether a key is in the slot that is being sent.
    pub fn is_current(&self, key: &[u8]) -> bool {
        self.current.as_ref().is_some_and(|current| current.slot == Slot::of(key))
    }

    /// Notes that a key is being sent; false if it has been sent before.
    pub fn note_sent(&mut self, key: &[u8]) -> bool {
        let slot = Slot::of(key);
        match &mut self.current {
            Some(current) if current.slot == slot => current.sent.insert(key.into()),
            _ => !self.done.contains(slot),
        }
    }

    /// Bytes of the names that are remembered.
    pub fn memory(&self) -> usize {
        let names = self.current.iter().flat_map(|current| &current.sent);
        names.map(|name| name.len() + size_of_val(name)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_once_and_its_changes_behind_it() {
        let keys = [&b"{a}1"[..], b"{a}2", b"{b}1"];
        let (a, b) = (Slot::of(keys[0]), Slot::of(keys[2]));
        let mut slots = SlotSet::range(a, a);
        slots.insert(b);
        let mut progress = Progress::new(slots);
        assert_eq!(progress.place(b"{other}"), Place::Elsewhere);
        assert!(keys.iter().all(|key| progress.place(key) == Place::Later));
        let first = progress.advance().expect("there are two").slot;
        let (now, later) = if first == a { (keys[0], keys[2]) } else { (keys[2], keys[0]) };
        assert_eq!((progress.place(now), progress.place(later)), (Place::Open, Place::Later));
        assert!(progress.note_sent(now));
        assert!(!progress.note_sent(now));
        assert_eq!(progress.place(now), Place::Sent);
        assert!(progress.advance().is_some());
        assert_eq!((progress.place(now), progress.place(later)), (Place::Sent, Place::Open));
        assert!(progress.advance().is_none());
        assert!(keys.iter().all(|key| progress.place(key) == Place::Sent));
    }
}
