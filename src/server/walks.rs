//! Walks through all keys of a database for clients that wait for the result: in slices of at most a millisecond, one for
//! each iteration of the event loop, so that others are served meanwhile.
//!
//! What is to be done with each key is a [`Walk`]; the server only leads it. As with SCAN, keys that are there during the
//! whole walk are seen, and those that come or go meanwhile may be. A walk ends when its client disconnects.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::keyspace::{Database, Entry, Event};
use crate::resp::{Error, Replied, Reply};
use crate::server::Server;
use crate::server::event_loop::Unfinished;
use crate::server::execution::admission::Conditions;
use crate::server::execution::blocking::Unblock;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::Key;

/// The longest slice, but for the keys of one bucket.
const LONGEST_SLICE: Duration = Duration::from_millis(1);

/// What a walk does with the key it has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Nothing: the key stays.
    Keep,
    /// It is removed, as by UNLINK.
    Remove,
    /// Nothing, and the walk is over.
    End,
}

/// Where a walk is.
pub struct Place<'a> {
    /// The database.
    pub db: &'a Database,
    /// The time.
    pub now: UnixMillis,
}

/// What is done on a walk.
pub trait Walk: Send {
    /// Looks at a key that has not expired.
    fn see(&mut self, entry: &Entry, place: &Place<'_>) -> Seen;

    /// How a line about its progress begins.
    fn what(&self) -> &'static str;

    /// Whether keys may be removed.
    fn removes(&self) -> bool;

    /// Writes the result.
    fn answer(&mut self, reply: &mut Reply<'_>) -> Replied;
}

/// A walk, and who waits for it.
struct Walking {
    id: u64,
    client: ClientKey,
    db: usize,
    cursor: u64,
    /// Number of keys at the beginning, and of those seen.
    keys: u64,
    seen: u64,
    progress: Progress,
    walk: Box<dyn Walk>,
}

/// The walks under way, in the order of their next slices.
#[derive(Default)]
pub struct Walks {
    queue: VecDeque<Walking>,
    last_id: u64,
}

impl Walks {
    /// Number of walks.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Numbers of keys that the walks have seen, and will have seen when they end.
    pub fn keys(&self) -> (u64, u64) {
        let sum = |keys: fn(&Walking) -> u64| self.queue.iter().map(keys).sum();
        (sum(|walking| walking.seen), sum(|walking| walking.keys.max(walking.seen)))
    }
}

impl Server {
    /// Begins a walk through the selected database of a client, which waits for the result.
    ///
    /// # Errors
    /// If the client cannot wait: inside a transaction or a script.
    pub fn begin_walk(&mut self, client: ClientKey, walk: Box<dyn Walk>) -> Result<Replied, Error> {
        if !self.can_wait(client) {
            return Err(Error::text(
                "ERR a walk through all keys is not possible inside a transaction or script",
            ));
        }
        let Walks { queue, last_id } = &mut self.walks;
        *last_id += 1;
        let (id, db) = (*last_id, self.clients[client].db as usize);
        let keys = self.keyspace.db(db).database().len() as u64;
        let progress = Progress::new(walk.what(), keys, Unit::Keys, Lines::Log);
        queue.push_back(Walking { id, client, db, cursor: 0, keys, seen: 0, progress, walk });
        self.event_loop.unfinished.set(Unfinished::WALKS, true);
        self.execution.wait = Some(Wait::Walk { id });
        Ok(Replied::later())
    }

    /// Takes the next slice of the next walk.
    #[cold]
    pub(in crate::server) fn walk_on(&mut self) {
        let pending = Unfinished::WALKS;
        let Some(mut walking) = self.walks.queue.pop_front() else {
            return self.event_loop.unfinished.set(pending, false);
        };
        let waits = self.clients.get(walking.client).and_then(|client| client.blocked.as_ref());
        if !waits.is_some_and(|blocked| matches!(blocked.wait, Wait::Walk { id } if id == walking.id)) {
            return;
        }
        let mut held = Conditions::LOADING.with(Conditions::BUSY).with(Conditions::PAUSED_ALL);
        held.set(Conditions::PAUSED_WRITES, walking.walk.removes());
        if self.conditions.has(held) {
            // The timer tries again.
            self.event_loop.unfinished.set(pending, false);
            return self.walks.queue.push_front(walking);
        }
        let started = Instant::now();
        let ended = loop {
            if self.step(&mut walking) {
                break true;
            }
            if started.elapsed() >= LONGEST_SLICE {
                break false;
            }
        };
        if !ended {
            walking.progress.at(walking.seen);
            return self.walks.queue.push_back(walking);
        }
        let mut bytes = Vec::new();
        walking.walk.answer(&mut Reply::new(&mut bytes, self.clients[walking.client].protocol));
        self.unblock(walking.client, Unblock::Answered(bytes));
    }

    /// Has walks that were held up tried again.
    pub(in crate::server) fn resume_walks(&mut self) {
        let any = !self.walks.queue.is_empty();
        self.event_loop.unfinished.set(Unfinished::WALKS, any);
    }

    /// Sees the keys of one bucket, and removes those that are to go; whether the walk is over.
    fn step(&mut self, walking: &mut Walking) -> bool {
        let Walking { db: index, cursor, seen, walk, .. } = walking;
        let (mut names, mut ended) = (Vec::new(), false);
        let now = self.keyspace.now();
        let db = self.keyspace.db(*index);
        let place = Place { db: db.database(), now };
        *cursor = db.scan(*cursor, false, |entry| {
            *seen += 1;
            if ended || db.is_due(entry) {
                return;
            }
            match walk.see(entry, &place) {
                Seen::Keep => {}
                Seen::Remove => names.push(entry.key().to_vec()),
                Seen::End => ended = true,
            }
        });
        for name in &names {
            self.keyspace.db(*index).remove(Key::new(name), true);
            let ledger = &mut self.keyspace.ledger;
            ledger.count(1);
            ledger.gone(*index, name, Event::generic("del"));
        }
        self.propagate_by_itself();
        ended || *cursor == 0
    }
}
