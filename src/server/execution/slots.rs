//! What follows when slots change their owner: keys and subscriptions go, and clients that wait for keys are redirected.

use std::collections::HashSet;

use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::clients::pubsub::Scope;
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::keyspace::Event;
use crate::resp::{Protocol, Reply};
use crate::server::Server;
use crate::server::command::CommandId;
use crate::server::execution::blocking::Unblock;
use crate::server::watching::publish::Message;
use crate::stdx::hash::Key;

impl Server {
    /// Number of keys in a slot, in all databases. O(databases).
    pub fn slot_keys(&self, slot: Slot) -> usize {
        self.keyspace.databases().iter().map(|db| db.keys().count_in_slot(slot)).sum()
    }

    /// Removes the keys of slots; their number. Replicas and the log are told. O(keys).
    pub fn drop_slot_keys(&mut self, slots: &SlotSet) -> usize {
        self.drop_some_slot_keys(slots, usize::MAX)
    }

    /// As [`Server::drop_slot_keys`], but removes at most `most` keys.
    pub(in crate::server) fn drop_some_slot_keys(&mut self, slots: &SlotSet, most: usize) -> usize {
        let mut dropped = 0;
        for index in 0..self.keyspace.databases().len() {
            for slot in slots.iter() {
                let names: Vec<Vec<u8>> = {
                    let keys = self.keyspace.databases()[index].keys();
                    keys.in_slot(slot).take(most - dropped).map(|entry| entry.key().to_vec()).collect()
                };
                if names.is_empty() {
                    continue;
                }
                dropped += names.len();
                for name in names {
                    let mut db = self.keyspace.db(index);
                    // Nobody waits until a large value is freed.
                    db.remove(Key::new(&name), true);
                    // The keys are not gone, but elsewhere: subscribers hear nothing.
                    self.keyspace.ledger.gone(index, &name, Event::SILENT);
                }
                self.propagate_by_itself();
            }
        }
        dropped
    }

    /// Ends the subscriptions to channels of slots, and tells the subscribers. O(channels).
    pub fn drop_slot_channels(&mut self, slots: &SlotSet) {
        if slots.is_empty() || self.clients.pubsub.len(Scope::Shard) == 0 {
            return;
        }
        let names = self.clients.pubsub.names(Scope::Shard);
        let names: Vec<_> = names.filter(|name| slots.contains(Slot::of(name))).cloned().collect();
        for name in names {
            let subscribers = self.clients.pubsub.take_subscribers(Scope::Shard, &name);
            self.clients.pubsub.return_subscribers(Scope::Shard, &name, subscribers.clone());
            for key in subscribers {
                self.end_subscription(key, &name);
            }
        }
    }

    /// Ends a subscription to a channel whose slot is another node's.
    fn end_subscription(&mut self, key: ClientKey, name: &[u8]) {
        self.clients.unsubscribe(key, Scope::Shard, name);
        let left = self.clients[key].subscriptions.as_ref().map_or(0, |own| own.len(Scope::Shard));
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, Protocol::Resp3);
        reply.push(3);
        reply.bulk(b"sunsubscribe");
        reply.bulk(name);
        reply.int(left as i64);
        self.push(key, &mut Message::from_push(bytes));
    }

    /// Redirects clients that wait for keys which are not this node's any more. O(1) if nobody waits.
    pub fn slots_changed(&mut self) {
        if self.clients.blocking.is_empty() {
            return;
        }
        let waiting: HashSet<ClientKey> = self.clients.blocking.waiting().collect();
        for key in waiting {
            let Some(blocked) = self.clients.get(key).and_then(|client| client.blocked.as_ref()) else {
                continue;
            };
            let Wait::Keys { keys, .. } = &blocked.wait else { continue };
            let spec = self.commands.spec(CommandId(blocked.request.command));
            let args = blocked.request.args();
            let keys = args.range(keys.clone());
            if let Some(why) = self.redirect_of_waiting(key, spec, &keys) {
                let error = self.redirection(key, why);
                self.unblock(key, Unblock::Redirected(error));
            }
        }
    }
}
