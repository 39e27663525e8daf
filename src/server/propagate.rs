//! What follows from a command's changes, in one place and one order.
//!
//! A command records what it changed in the keyspace's ledger. Afterwards the ledger is drained
//! here: watchers of keys are marked first, since a transaction that is checked next must see it; then clients are
//! told that copies of keys are stale, then events are published.

use super::Server;
use crate::clients::ClientFlags;
use crate::keyspace::ledger::{Change, Listeners};
use crate::stdx::hash::Key;

impl Server {
    /// Drains the ledger. One test when nobody listens.
    #[inline]
    pub(super) fn propagate(&mut self) {
        if !self.keyspace.ledger.is_empty() {
            self.drain_ledger();
        }
    }

    fn drain_ledger(&mut self) {
        let (changes, keys) = self.keyspace.ledger.take();
        if self.keyspace.ledger.listeners.has(Listeners::WATCH) {
            for change in &changes {
                self.mark_watchers(change, &keys);
            }
        }
        if self.keyspace.ledger.listeners.has(Listeners::TRACKING) {
            self.invalidate(&changes, &keys);
        }
        if self.keyspace.ledger.listeners.has(Listeners::NOTIFY) {
            self.notify(&changes, &keys);
        }
        self.keyspace.ledger.put_back((changes, keys));
    }

    fn mark_watchers(&mut self, change: &Change, keys: &[u8]) {
        let clients = &mut self.clients;
        let mut marked = Vec::new();
        match change {
            Change::Key { db, key, .. } => {
                clients.watches.touched(*db, &keys[key.clone()], false, |client| marked.push(client));
            }
            Change::Gone { db, key, .. } => {
                clients.watches.touched(*db, &keys[key.clone()], true, |client| marked.push(client));
            }
            Change::Flushed { db } => {
                clients.watches.all_touched(*db, |_, _| false, |client| marked.push(client));
            }
            Change::Swapped { a, b } => {
                for db in [*a, *b] {
                    let keyspace = &mut self.keyspace;
                    let exists = |db: u32, key: &[u8]| keyspace.db(db as usize).contains(Key::new(key));
                    clients.watches.all_touched(Some(db), exists, |client| marked.push(client));
                }
            }
            Change::Told { .. } => {}
        }
        for client in marked {
            clients[client].flags.set(ClientFlags::WATCH_BROKEN, true);
        }
    }
}
