//! What a command changed, recorded while it runs and told to nobody.
//!
//! A write says one thing, `changed(key, event, n)`. The ledger counts it, and only if somebody
//! listens (one test of a mask) notes which key and which event. Whoever joins the rooms drains
//! it after the command, in one place and one order.

use std::ops::Range;

/// What kind of key event it is: the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// Of any type of value: `del`, `expire`, `rename_to`, …
    Generic = b'g',
    /// Of a command on strings.
    String = b'$',
    /// Of a command on lists.
    List = b'l',
    /// Of a command on sets.
    Set = b's',
    /// Of a command on hashes.
    Hash = b'h',
    /// Of a command on sorted sets.
    Zset = b'z',
    /// Of a command on streams.
    Stream = b't',
    /// A key was removed because its time had come.
    Expired = b'x',
    /// A key was removed to make room.
    Evicted = b'e',
    /// A key was added that was not there before.
    New = b'n',
    /// A key was read that was not there.
    Miss = b'm',
    /// A change that no event tells of.
    Silent = 0,
}

/// A named event, as subscribers of keyspace notifications see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The letter that subscribes to it.
    pub class: Class,
    /// The name that subscribers see.
    pub name: &'static str,
}

impl Event {
    /// What changes a value without meaning anything to a subscriber.
    pub const SILENT: Event = Event { class: Class::Silent, name: "" };

    /// An event of class [`Class::Generic`].
    pub const fn generic(name: &'static str) -> Self {
        Event { class: Class::Generic, name }
    }
    /// An event of class [`Class::String`].
    pub const fn string(name: &'static str) -> Self {
        Event { class: Class::String, name }
    }
    /// An event of class [`Class::List`].
    pub const fn list(name: &'static str) -> Self {
        Event { class: Class::List, name }
    }
    /// An event of class [`Class::Set`].
    pub const fn set(name: &'static str) -> Self {
        Event { class: Class::Set, name }
    }
    /// An event of class [`Class::Hash`].
    pub const fn hash(name: &'static str) -> Self {
        Event { class: Class::Hash, name }
    }
    /// An event of class [`Class::Zset`].
    pub const fn zset(name: &'static str) -> Self {
        Event { class: Class::Zset, name }
    }
    /// An event of class [`Class::Stream`].
    pub const fn stream(name: &'static str) -> Self {
        Event { class: Class::Stream, name }
    }
}

/// Who wants to know about changes: a bit each, set by the rare code that starts listening.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Listeners(u8);

impl Listeners {
    /// A transaction watches keys.
    pub const WATCH: Listeners = Listeners(1);
    /// Keyspace notifications are on.
    pub const NOTIFY: Listeners = Listeners(2);
    /// A client keeps copies of what it read.
    pub const TRACKING: Listeners = Listeners(4);
    /// A client waits for a key.
    pub const BLOCKED: Listeners = Listeners(8);
    /// Somebody is fed: follows from [`Ledger::feed`] and [`Ledger::mute`].
    const FEED: Listeners = Listeners(16);

    /// Says that one of them listens, or no longer.
    pub fn set(&mut self, which: Listeners, on: bool) {
        if on { self.0 |= which.0 } else { self.0 &= !which.0 }
    }
    /// Whether one of these listens.
    pub fn has(self, which: Listeners) -> bool {
        self.0 & which.0 != 0
    }
    /// Whether commands are to be passed on.
    #[inline]
    pub fn feeds(self) -> bool {
        self.has(Listeners::FEED)
    }
    /// Whether nobody listens.
    pub fn none(self) -> bool {
        self.0 == 0
    }
}

/// A stream that commands are passed on to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Sink {
    /// The append-only file.
    Log = 1,
}

/// What happened to which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key's value was changed or the key was removed by a command.
    Key {
        /// The database.
        db: u32,
        /// Where the key's bytes are in the ledger's.
        key: Range<usize>,
        /// What happened to it.
        event: Event,
    },
    /// A key was removed because its time had come, or memory was short.
    Gone {
        /// The database.
        db: u32,
        /// Where the key's bytes are in the ledger's.
        key: Range<usize>,
        /// Why it was removed.
        event: Event,
    },
    /// A field of a hash was removed because its time had come. What follows of the same hash may follow at once.
    FieldGone {
        /// The database.
        db: u32,
        /// Where the bytes of the hash's key are in the ledger's.
        key: Range<usize>,
        /// Where the bytes of the field's name are in the ledger's.
        field: Range<usize>,
    },
    /// Something happened that only subscribers care about: the data are as they were.
    Told {
        /// The database.
        db: u32,
        /// Where the key's bytes are in the ledger's.
        key: Range<usize>,
        /// What happened.
        event: Event,
    },
    /// All keys of a database are gone (`None`: of all databases).
    Flushed {
        /// The database.
        db: Option<u32>,
    },
    /// Two databases changed places.
    Swapped {
        /// One database.
        a: u32,
        /// The other.
        b: u32,
    },
}

impl Change {
    /// Whether both are fields that are gone from one hash at the same time.
    pub fn is_of_same_hash(&self, other: &Change) -> bool {
        match (self, other) {
            (Change::FieldGone { db, key, .. }, Change::FieldGone { db: other_db, key: other_key, .. }) => {
                (db, key) == (other_db, other_key)
            }
            _ => false,
        }
    }
}

/// The record of one command's changes.
#[derive(Default)]
pub struct Ledger {
    /// Changes since the last save; falls only when the data were saved.
    pub dirty: u64,
    /// All changes there ever were: whether one was made shows in this, whatever is done to `dirty` meanwhile.
    pub made: u64,
    /// Who wants to know about changes.
    pub listeners: Listeners,
    /// The streams there are.
    sinks: u8,
    /// They get nothing for now.
    muted: bool,
    changes: Vec<Change>,
    keys: Vec<u8>,
    /// The last record that was drained, for tests to look at.
    #[cfg(test)]
    pub drained: (Vec<Change>, Vec<u8>),
}

impl Ledger {
    /// Counts `n` changes that nobody is told of.
    #[inline]
    pub fn count(&mut self, n: usize) {
        self.dirty += n as u64;
        self.made += n as u64;
    }

    /// From now on `sink` gets what is passed on, or does not.
    pub fn feed(&mut self, sink: Sink, on: bool) {
        if on {
            self.sinks |= sink as u8;
        } else {
            self.sinks &= !(sink as u8);
        }
        self.derive_feed();
    }

    /// Whether nothing is passed on for now, whoever would get it: what comes from a file is there already.
    pub fn mute(&mut self, on: bool) {
        self.muted = on;
        self.derive_feed();
    }

    fn derive_feed(&mut self) {
        self.listeners.set(Listeners::FEED, self.sinks != 0 && !self.muted);
    }

    /// Counts `n` changes to `key`; none when `n` is 0.
    #[inline]
    pub fn changed(&mut self, db: usize, key: &[u8], event: Event, n: usize) {
        if n == 0 {
            return;
        }
        self.count(n);
        self.also_changed(db, key, event);
    }

    /// Another key took part in the change that was counted last.
    #[inline]
    pub fn also_changed(&mut self, db: usize, key: &[u8], event: Event) {
        if !self.listeners.none() {
            let key = self.keep(key);
            self.changes.push(Change::Key { db: db as u32, key, event });
        }
    }

    /// A key went away by itself.
    #[inline]
    pub fn gone(&mut self, db: usize, key: &[u8], event: Event) {
        if !self.listeners.none() {
            let key = self.keep(key);
            self.changes.push(Change::Gone { db: db as u32, key, event });
        }
    }

    /// A field of a hash went away by itself.
    pub fn field_gone(&mut self, db: usize, key: &[u8], field: &[u8]) {
        if self.listeners.none() {
            return;
        }
        let (db, field) = (db as u32, self.keep(field));
        // The fields of one hash go together: its key is kept once.
        let key = match self.changes.last() {
            Some(Change::FieldGone { db: same, key: last, .. })
                if *same == db && self.keys[last.clone()] == *key =>
            {
                last.clone()
            }
            _ => self.keep(key),
        };
        self.changes.push(Change::FieldGone { db, key, field });
    }

    /// An event without a change.
    #[inline]
    pub fn told(&mut self, db: usize, key: &[u8], event: Event) {
        if self.listeners.has(Listeners::NOTIFY) {
            let key = self.keep(key);
            self.changes.push(Change::Told { db: db as u32, key, event });
        }
    }

    /// `n` keys went with their database.
    pub fn flushed(&mut self, db: Option<usize>, n: usize) {
        self.count(n);
        // Whoever repeats the data may have keys that are gone here by themselves.
        self.made += 1;
        if !self.listeners.none() {
            self.changes.push(Change::Flushed { db: db.map(|db| db as u32) });
        }
    }

    /// Two databases changed places.
    pub fn swapped(&mut self, a: usize, b: usize) {
        self.count(1);
        if !self.listeners.none() {
            self.changes.push(Change::Swapped { a: a as u32, b: b as u32 });
        }
    }

    fn keep(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        start..self.keys.len()
    }

    /// Whether nothing was recorded since the last drain.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Takes the record: the changes in order, and the bytes their key ranges refer to.
    pub fn take(&mut self) -> (Vec<Change>, Vec<u8>) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.keys))
    }

    /// Gives the buffers of [`Ledger::take`] back for reuse.
    pub fn put_back(&mut self, (mut changes, mut keys): (Vec<Change>, Vec<u8>)) {
        #[cfg(test)]
        {
            self.drained = (changes.clone(), keys.clone());
        }
        if self.changes.is_empty() {
            changes.clear();
            keys.clear();
            (self.changes, self.keys) = (changes, keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_comes_or_goes_while_all_are_muted_is_not_forgotten() {
        for before in [false, true] {
            for meanwhile in [None, Some(false), Some(true)] {
                let mut ledger = Ledger::default();
                ledger.feed(Sink::Log, before);
                assert_eq!(ledger.listeners.feeds(), before);
                ledger.mute(true);
                if let Some(on) = meanwhile {
                    ledger.feed(Sink::Log, on);
                }
                assert!(!ledger.listeners.feeds());
                ledger.mute(false);
                assert_eq!(ledger.listeners.feeds(), meanwhile.unwrap_or(before));
            }
        }
    }
}
