//! What follows from a command's changes, in one place and one order.
//!
//! A command records what it changed in the keyspace's ledger. Afterwards the ledger is drained
//! here: watchers of keys are marked first, since a transaction that is checked next must see it;
//! then clients are told that copies of keys are stale, and events are published;
//! then the keys are noted that clients may be waiting for; then the removals that no command
//! asked for, and the command itself, are added to the unit that is passed on.
//! The unit ends when the outermost command does: it was written once, and is appended to each sink that is fed.

use crate::clients::blocking::Blocking;
use crate::clients::{ClientFlags, Clients};
use crate::keyspace::ledger::{Change, Class, Listeners};
use crate::keyspace::{FieldRules, Keyspace, Sink, Wakes};
use crate::resp::Args;
use crate::resp::request::write_request;
use crate::server::Server;
use crate::server::execution::Origin;
use crate::server::execution::admission::Conditions;
use crate::server::execution::feed::Feed;
use crate::stdx::hash::Key;

impl Server {
    /// Drains the ledger after a command that was run in database `db`. Two tests when nobody listens.
    #[inline]
    pub(in crate::server) fn propagate(&mut self, db: u32, args: &Args<'_>, changed: bool) {
        if !self.keyspace.ledger.is_empty() {
            self.drain_ledger();
        }
        if changed && !matches!(self.execution.feed, Feed::Unheard | Feed::Nothing) {
            self.pass_on(db, args);
        }
    }

    /// Drains the ledger after something that no command did; each change is a unit of its own.
    pub(in crate::server) fn propagate_by_itself(&mut self) {
        if !self.keyspace.ledger.is_empty() {
            self.drain_ledger();
            self.pass_on_unit(true);
        }
    }

    fn drain_ledger(&mut self) {
        let (changes, keys) = self.keyspace.ledger.take();
        let listeners = self.keyspace.ledger.listeners;
        if listeners.has(Listeners::WATCH) {
            for change in &changes {
                mark_watchers(&mut self.clients, &mut self.keyspace, change, &keys);
            }
        }
        if listeners.has(Listeners::TRACKING) {
            self.invalidate(&changes, &keys);
        }
        if listeners.has(Listeners::NOTIFY) {
            self.notify(&changes, &keys);
        }
        if listeners.has(Listeners::OWN) && self.execution.origin != Origin::Primary {
            self.keyspace.note_own_expiries(&changes, &keys);
        }
        if listeners.has(Listeners::LAST_CHANGE) {
            self.keyspace.note_changes(&changes, &keys);
        }
        if listeners.has(Listeners::BLOCKED) {
            for change in &changes {
                note_ready(&mut self.clients.blocking, change, &keys);
            }
        }
        if listeners.feeds() {
            if self.withholds_replies() {
                let end = self.commit_end();
                self.aof.note_recent(&changes, &keys, end);
            }
            if self.keyspace.ledger.is_fed(Sink::Migrations)
                && changes
                    .iter()
                    .any(|change| matches!(change, Change::Flushed { .. } | Change::Swapped { .. }))
            {
                self.fail_migrations();
            }
            for group in changes.chunk_by(Change::is_of_same_hash) {
                self.pass_on_removal(group, &keys);
            }
        }
        self.keyspace.ledger.put_back((changes, keys));
    }

    /// A key that went away by itself is removed by name wherever the data are repeated: only here its time
    /// is looked at.
    /// So are fields; `group` is one change, or the fields of one hash that went together.
    fn pass_on_removal(&mut self, group: &[Change], keys: &[u8]) {
        if let [Change::FieldGone { db, key, .. }, ..] = group {
            let fields = group.iter().filter_map(|change| match change {
                Change::FieldGone { field, .. } => Some(&keys[field.clone()]),
                _ => None,
            });
            let fields: Vec<&[u8]> = fields.collect();
            let together = match self.keyspace.field_rules {
                FieldRules::Redis => 1,
                FieldRules::Valkey => fields.len(),
            };
            for fields in fields.chunks(together) {
                let parts = [&b"HDEL"[..], &keys[key.clone()]].into_iter().chain(fields.iter().copied());
                let parts: Vec<&[u8]> = parts.collect();
                self.execution.unit.push(*db, |out| write_request(out, parts.into_iter()));
            }
            self.execution.unit_pending = true;
        }
        let [Change::Gone { db, key, event }] = group else { return };
        let lazily = match event.class {
            Class::Evicted => self.keyspace.lazy.eviction,
            _ => self.keyspace.lazy.expire,
        };
        let name: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        self.execution.unit.push(*db, |out| write_request(out, [name, &keys[key.clone()]].into_iter()));
        self.execution.unit_pending = true;
    }

    /// Adds a command to the unit, in the form its handler chose.
    fn pass_on(&mut self, db: u32, args: &Args<'_>) {
        match &self.execution.feed {
            _ if self.execution.withheld_from == Sink::EVERY => return,
            Feed::Unheard | Feed::Nothing => return,
            Feed::AsReceived => {
                let sinks = Sink::EVERY & !self.execution.withheld_from;
                self.execution.unit.push_requests(db, 1, sinks, |out| args.write_request(out));
            }
            Feed::Instead(bytes, requests) => {
                let sinks = Sink::EVERY & !self.execution.withheld_from;
                self.execution.unit.push_requests(db, *requests, sinks, |out| out.extend_from_slice(bytes));
            }
        }
        self.execution.unit_pending = true;
    }

    /// Passes a command on to replicas only, although it changes no data.
    pub fn pass_on_to_replicas(&mut self, db: u32, args: &Args<'_>) {
        if self.keyspace.ledger.is_fed(Sink::Backlog) && self.keyspace.ledger.listeners.feeds() {
            self.execution.unit.push_requests(db, 1, Sink::Backlog as u8, |out| args.write_request(out));
            self.execution.unit_pending = true;
        }
    }

    /// The outermost command is done, with all those inside it: what they pass on goes out together.
    #[cold]
    pub(in crate::server) fn end_unit(&mut self) {
        self.pass_on_unit(false);
    }

    /// Passes the unit on as one, or each of its parts as one if `apart`.
    pub(in crate::server) fn pass_on_unit(&mut self, apart: bool) {
        self.execution.unit_pending = false;
        // Under this condition nothing is changed but by a script that does not come to its end.
        let complete = !self.conditions.has(Conditions::BUSY);
        for sink in Sink::ALL {
            if complete && self.keyspace.ledger.is_fed(sink) {
                self.append_to(sink, apart);
            }
        }
        // WAITAOF tells changes apart by their offsets in the stream, even if nothing is kept of it.
        let ledger = &self.keyspace.ledger;
        if complete
            && ledger.is_fed(Sink::Log)
            && !ledger.is_fed(Sink::Backlog)
            && !self.replication.is_replica()
        {
            self.replication.backlog.skip();
        }
        self.execution.unit.clear();
    }

    /// Adds the unit to a sink, or each of its parts as one if `apart`. Each sink knows which database is selected in it.
    fn append_to(&mut self, sink: Sink, apart: bool) {
        match sink {
            Sink::Log => self.append_to_log(apart),
            Sink::Backlog => self.append_to_stream(apart),
            Sink::Migrations => self.append_to_migrations(),
        }
    }
}

/// Marks the clients that watch a changed key: their next EXEC fails.
fn mark_watchers(clients: &mut Clients, space: &mut Keyspace, change: &Change, keys: &[u8]) {
    let mut marked = Vec::new();
    match change {
        Change::Key { db, key, .. } | Change::FieldGone { db, key, .. } | Change::Gone { db, key, .. } => {
            let name = Key::new(&keys[key.clone()]);
            let tables = &space.databases()[*db as usize];
            let exists = || tables.keys().find(name.hash(), name.bytes).is_some();
            clients.watches.touched(*db, name.bytes, exists, |client| marked.push(client));
        }
        Change::Flushed { db } => {
            clients.watches.all_touched(*db, |_, _| false, |client| marked.push(client));
        }
        Change::Swapped { a, b } => {
            for db in [*a, *b] {
                let space = &mut *space;
                let exists = |db: u32, key: &[u8]| space.db(db as usize).contains(Key::new(key));
                clients.watches.all_touched(Some(db), exists, |client| marked.push(client));
            }
        }
        Change::Beside { .. } | Change::Part { .. } | Change::EventOnly { .. } => {}
    }
    for client in marked {
        clients[client].flags.set(ClientFlags::WATCH_BROKEN, true);
    }
}

/// Notes the keys that blocked clients may be waiting for.
fn note_ready(blocking: &mut Blocking, change: &Change, keys: &[u8]) {
    match change {
        Change::Key { db, key, event } | Change::Beside { db, key, event } => match event.wakes {
            Wakes::All => blocking.touched(*db, &keys[key.clone()]),
            Wakes::Claimants => blocking.delivered(*db, &keys[key.clone()]),
            Wakes::Nobody => {}
        },
        Change::Swapped { a, b } => {
            blocking.all_touched(*a);
            blocking.all_touched(*b);
        }
        Change::Gone { db, key, .. } => blocking.gone(*db, &keys[key.clone()]),
        Change::Flushed { db } => blocking.all_gone(*db),
        Change::FieldGone { .. } | Change::Part { .. } | Change::EventOnly { .. } => {}
    }
}
