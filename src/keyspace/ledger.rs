//! The ledger: a record of what a command changes while it runs.
//!
//! A write reports one call, `changed(key, event, n)`. The ledger counts it, and only if there are listeners (one
//! test of a mask) records the key and the event. The server drains the ledger after the command, in one place and
//! one order.

use std::ops::Range;

use super::awaited::Awaited;
use crate::stdx::bits::bit_set;
use crate::stdx::hash::Key;

/// Class of a key event, by its letter in `notify-keyspace-events`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// Events of any type of value: `del`, `expire`, `rename_to`, …
    Generic = b'g',
    /// Events of commands on strings.
    String = b'$',
    /// Events of commands on lists.
    List = b'l',
    /// Events of commands on sets.
    Set = b's',
    /// Events of commands on hashes.
    Hash = b'h',
    /// Events of commands on sorted sets.
    Zset = b'z',
    /// Events of commands on streams.
    Stream = b't',
    /// A key expired.
    Expired = b'x',
    /// A key was evicted.
    Evicted = b'e',
    /// A key was created.
    New = b'n',
    /// A missing key was read.
    Miss = b'm',
    /// The value of a key was replaced by another.
    Overwritten = b'o',
    /// The value of a key was replaced by one of another type.
    TypeChanged = b'c',
    /// A change without an event.
    Silent = 0,
}

/// A named event, as subscribers of keyspace notifications see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Class of the event.
    pub class: Class,
    /// Name that subscribers see.
    pub name: &'static str,
    /// The waiting clients that the change may unblock.
    pub wakes: Wakes,
}

/// Which of the clients that wait for a key a change of its value may unblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wakes {
    /// All clients.
    All,
    /// Clients that wait to claim entries pending for other consumers.
    Claimants,
    /// None: the change removes something, or does not concern what the clients wait for.
    Nobody,
}

impl Event {
    /// A change without an event that unblocks no client.
    pub const SILENT: Event = Event { class: Class::Silent, name: "", wakes: Wakes::Nobody };
    /// A value was restored, with the access data that its entry has.
    pub const RESTORED: Event = Event::generic("restore");
    /// A change without an event: entries of a stream were delivered to a consumer, or released.
    pub const DELIVERED: Event = Event { class: Class::Silent, name: "", wakes: Wakes::Claimants };

    /// An event of a class.
    pub const fn of(class: Class, name: &'static str) -> Self {
        Event { class, name, wakes: Wakes::All }
    }

    /// The same event for a change that unblocks no client.
    pub const fn of_no_use(self) -> Self {
        Event { wakes: Wakes::Nobody, ..self }
    }

    /// An event of class [`Class::Generic`].
    pub const fn generic(name: &'static str) -> Self {
        Event::of(Class::Generic, name)
    }
    /// An event of class [`Class::String`].
    pub const fn string(name: &'static str) -> Self {
        Event::of(Class::String, name)
    }
    /// An event of class [`Class::List`].
    pub const fn list(name: &'static str) -> Self {
        Event::of(Class::List, name)
    }
    /// An event of class [`Class::Set`].
    pub const fn set(name: &'static str) -> Self {
        Event::of(Class::Set, name)
    }
    /// An event of class [`Class::Hash`].
    pub const fn hash(name: &'static str) -> Self {
        Event::of(Class::Hash, name)
    }
    /// An event of class [`Class::Zset`].
    pub const fn zset(name: &'static str) -> Self {
        Event::of(Class::Zset, name)
    }
    /// An event of class [`Class::Stream`].
    pub const fn stream(name: &'static str) -> Self {
        Event::of(Class::Stream, name)
    }
}

bit_set! {
    /// Reasons to record changes, one bit each. They are set by the rare code that begins to listen.
    pub struct Listeners: u8 {
        /// A transaction watches keys.
        WATCH = 0;
        /// Keyspace notifications are on.
        NOTIFY = 1;
        /// A client keeps copies of what it read.
        TRACKING = 2;
        /// A client waits for a key.
        BLOCKED = 3;
        /// Keys are evicted by the time of their last change.
        LAST_CHANGE = 6;
        /// Notifications that name the changed parts of a value are on.
        PARTS = 7;
    }
}

impl Listeners {
    /// The server is a writable replica: expiries that its clients set are recorded.
    pub const OWN: Listeners = Listeners(1 << 5);
    /// Commands are propagated. Derived from [`Ledger::feed`] and [`Ledger::mute`].
    const FEED: Listeners = Listeners(1 << 4);

    /// Whether commands are propagated.
    #[inline]
    pub fn feeds(self) -> bool {
        self.has(Listeners::FEED)
    }
    /// Whether there are no listeners.
    pub fn none(self) -> bool {
        self.is_empty()
    }
}

/// A stream to which commands are propagated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Sink {
    /// The append-only file.
    Log = 1,
    /// The stream of replicas.
    Backlog = 1 << 1,
    /// Nodes that get slots of this one.
    Migrations = 1 << 2,
}

impl Sink {
    /// All sinks, in the order in which they are written to.
    pub const ALL: [Sink; 3] = [Sink::Log, Sink::Backlog, Sink::Migrations];
    /// The bits of all sinks.
    pub const EVERY: u8 = Sink::Log as u8 | Sink::Backlog as u8 | Sink::Migrations as u8;
}

/// A recorded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A command changed the value of a key, or removed the key.
    Key {
        /// Index of the database.
        db: u32,
        /// Range of the key in the ledger's bytes.
        key: Range<usize>,
        /// Event of the change.
        event: Event,
    },
    /// A command changed data stored beside the value of a key, such as the groups of a stream. Readers of the value
    /// see no difference.
    Beside {
        /// Index of the database.
        db: u32,
        /// Range of the key in the ledger's bytes.
        key: Range<usize>,
        /// Event of the change.
        event: Event,
    },
    /// A key expired or was evicted.
    Gone {
        /// Index of the database.
        db: u32,
        /// Range of the key in the ledger's bytes.
        key: Range<usize>,
        /// Event of the removal.
        event: Event,
    },
    /// A field of a hash expired. Further fields of the same hash may follow directly.
    FieldGone {
        /// Index of the database.
        db: u32,
        /// Range of the hash's key in the ledger's bytes.
        key: Range<usize>,
        /// Range of the field's name in the ledger's bytes.
        field: Range<usize>,
    },
    /// A part of a value, such as a field of a hash, that the next event is about. Those of one event follow one another
    /// and come directly before it.
    Part {
        /// Range of the name of the part in the ledger's bytes.
        part: Range<usize>,
    },
    /// An event that did not change the data, for subscribers only.
    EventOnly {
        /// Index of the database.
        db: u32,
        /// Range of the key in the ledger's bytes.
        key: Range<usize>,
        /// The event.
        event: Event,
    },
    /// All keys of a database were removed (`None`: of all databases).
    Flushed {
        /// Index of the database.
        db: Option<u32>,
    },
    /// Two databases were swapped.
    Swapped {
        /// One database.
        a: u32,
        /// The other.
        b: u32,
    },
}

impl Change {
    /// Whether both are expired fields of the same hash.
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
    /// Number of changes since the last save. Decreases only when the data have been saved.
    pub dirty: u64,
    /// Number of all changes so far. It shows whether a change was made, whatever happens to `dirty` meanwhile.
    pub made: u64,
    /// Reasons to record changes.
    pub listeners: Listeners,
    /// Filter of the keys that clients wait for.
    pub awaited: Awaited,
    /// Bit mask of the active sinks.
    sinks: u8,
    /// Whether propagation is suspended.
    muted: bool,
    changes: Vec<Change>,
    keys: Vec<u8>,
    /// The last drained record, for tests.
    #[cfg(test)]
    pub drained: (Vec<Change>, Vec<u8>),
}

impl Ledger {
    /// Counts `n` changes without recording any.
    #[inline]
    pub fn count(&mut self, n: usize) {
        self.dirty += n as u64;
        self.made += n as u64;
    }

    /// Starts or ends propagation to `sink`.
    pub fn feed(&mut self, sink: Sink, on: bool) {
        if on {
            self.sinks |= sink as u8;
        } else {
            self.sinks &= !(sink as u8);
        }
        self.derive_feed();
    }

    /// Whether commands are propagated to `sink`.
    pub fn is_fed(&self, sink: Sink) -> bool {
        self.sinks & sink as u8 != 0
    }

    /// Suspends or resumes all propagation, for commands that were read from a file and are stored there already.
    pub fn mute(&mut self, on: bool) {
        self.muted = on;
        self.derive_feed();
    }

    fn derive_feed(&mut self) {
        self.listeners.set(Listeners::FEED, self.sinks != 0 && !self.muted);
    }

    /// Whether a change of a key is to be recorded.
    #[inline]
    fn concerns_listeners(&self, key: Key<'_>) -> bool {
        let only_waits = self.listeners == Listeners::BLOCKED;
        !self.listeners.none() && (!only_waits || self.awaited.may_have(key))
    }

    /// Counts `n` changes to `key` and records the event; nothing if `n` is 0.
    #[inline]
    pub fn changed(&mut self, db: usize, key: Key<'_>, event: Event, n: usize) {
        if n == 0 {
            return;
        }
        self.count(n);
        self.also_changed(db, key, event);
    }

    /// Counts a change to `key` and records its event, after another one, `before`, if there is one, which did not change
    /// the data.
    #[inline]
    pub fn changed_over(&mut self, db: usize, key: Key<'_>, event: Event, before: Option<Event>) {
        self.count(1);
        if self.concerns_listeners(key) {
            if let Some(before) = before {
                self.event_only(db, key.bytes, before);
            }
            let key = self.keep(key.bytes);
            self.changes.push(Change::Key { db: db as u32, key, event });
        }
    }

    /// As [`Ledger::changed`], for changes of parts of the value. Only if somebody is told, `parts` is asked which.
    #[inline]
    pub fn changed_parts<'p, I: Iterator<Item = &'p [u8]>>(
        &mut self,
        db: usize,
        key: Key<'_>,
        event: Event,
        n: usize,
        parts: impl FnOnce() -> I,
    ) {
        if n == 0 {
            return;
        }
        self.count(n);
        if self.concerns_listeners(key) {
            if self.listeners.has(Listeners::PARTS) {
                self.name_parts(parts());
            }
            let key = self.keep(key.bytes);
            self.changes.push(Change::Key { db: db as u32, key, event });
        }
    }

    /// As [`Ledger::event_only`], for an event that is about these parts of the value.
    pub fn event_of_parts<'p>(
        &mut self,
        db: usize,
        key: &[u8],
        event: Event,
        parts: impl Iterator<Item = &'p [u8]>,
    ) {
        if self.listeners.has(Listeners::PARTS) {
            self.name_parts(parts);
        }
        self.event_only(db, key, event);
    }

    /// Records what the next event is about.
    #[cold]
    fn name_parts<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]>) {
        for part in parts {
            let part = self.keep(part);
            self.changes.push(Change::Part { part });
        }
    }

    /// Counts `n` changes to data stored beside the value of `key` and records the event; nothing if `n` is 0.
    #[inline]
    pub fn changed_beside(&mut self, db: usize, key: Key<'_>, event: Event, n: usize) {
        if n == 0 {
            return;
        }
        self.count(n);
        if self.concerns_listeners(key) {
            let key = self.keep(key.bytes);
            self.changes.push(Change::Beside { db: db as u32, key, event });
        }
    }

    /// Records an event for `key`, which also concerns transactions that watch it, without counting a change: another
    /// key of the change counted last, or a key that a command left unchanged although the command counts as a change.
    #[inline]
    pub fn also_changed(&mut self, db: usize, key: Key<'_>, event: Event) {
        if self.concerns_listeners(key) {
            let key = self.keep(key.bytes);
            self.changes.push(Change::Key { db: db as u32, key, event });
        }
    }

    /// Records that a key expired or was evicted.
    #[inline]
    pub fn gone(&mut self, db: usize, key: &[u8], event: Event) {
        if !self.listeners.none() {
            let key = self.keep(key);
            self.changes.push(Change::Gone { db: db as u32, key, event });
        }
    }

    /// Records that a field of a hash expired.
    pub fn field_gone(&mut self, db: usize, key: &[u8], field: &[u8]) {
        if self.listeners.none() {
            return;
        }
        let (db, field) = (db as u32, self.keep(field));
        // Fields of one hash expire together, so its key is stored once.
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

    /// Records an event that did not change the data.
    #[inline]
    pub fn event_only(&mut self, db: usize, key: &[u8], event: Event) {
        if self.listeners.has(Listeners::NOTIFY) {
            let key = self.keep(key);
            self.changes.push(Change::EventOnly { db: db as u32, key, event });
        }
    }

    /// Counts `n` removed keys and records that their database was flushed.
    pub fn flushed(&mut self, db: Option<usize>, n: usize) {
        self.count(n);
        // Replicas may still have keys that have already expired here, so a flush is a change even if it removed
        // nothing.
        self.made += 1;
        if !self.listeners.none() {
            self.changes.push(Change::Flushed { db: db.map(|db| db as u32) });
        }
    }

    /// Records that two databases were swapped.
    pub fn swapped(&mut self, a: usize, b: usize) {
        self.count(1);
        if !self.listeners.none() {
            self.changes.push(Change::Swapped { a: a as u32, b: b as u32 });
        }
    }

    /// Counts `n` removed keys and records that all databases were flushed and that each of the `databases` databases
    /// has other keys now.
    pub fn replaced(&mut self, databases: usize, n: usize) {
        self.flushed(None, n);
        if !self.listeners.none() {
            self.changes.extend((0..databases as u32).map(|db| Change::Swapped { a: db, b: db }));
        }
    }

    fn keep(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        start..self.keys.len()
    }

    /// Whether nothing has been recorded since the last drain.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Takes the record: the changes in order, and the bytes that their key ranges refer to.
    pub fn take(&mut self) -> (Vec<Change>, Vec<u8>) {
        (std::mem::take(&mut self.changes), std::mem::take(&mut self.keys))
    }

    /// Returns the buffers of [`Ledger::take`] for reuse.
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
